// SPDX-License-Identifier: Apache-2.0
//
// tcmalloc's MallocExtension over hakmem's interface, for programs that call it: `MallocExtension` as in gperftools,
// and, from C++17 on, `tcmalloc::MallocExtension` as in google/tcmalloc. Also tc_malloc and its kin, nallocx and
// sdallocx. Include this header instead of <gperftools/malloc_extension.h>, <gperftools/tcmalloc.h> or
// "tcmalloc/malloc_extension.h". C++11 or later; header-only.
//
// What hakmem cannot do is not declared, so a program that uses it does not compile; docs/MIGRATING.md says what to do
// instead. The functions are thread-safe. Sizes are in bytes.
#ifndef HAKMEM_COMPAT_TCMALLOC_H_
#define HAKMEM_COMPAT_TCMALLOC_H_

#ifndef __cplusplus
#error "MallocExtension is C++; C programs call hakmem's own functions, or include <hakmem/compat/jemalloc.h>"
#endif
#if defined(BASE_MALLOC_EXTENSION_H_) || defined(TCMALLOC_MALLOC_EXTENSION_H_) || defined(TCMALLOC_TCMALLOC_H_)
#error "tcmalloc's own header is included: include <hakmem/compat/tcmalloc.h> instead of it"
#endif

#include <hakmem/compat/jemalloc.h>
#include <hakmem/hakmem.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if __cplusplus >= 201703L
#include <map>
#include <optional>
#include <string>
#include <string_view>
#endif

// ---- Internal -----------------------------------------------------------------------------------

namespace hakmem {
namespace compat {

inline hak_stats Statistics() noexcept {
  hak_stats stats = {};
  stats.version = HAK_STATS_VERSION;
  (void)hak_stats_get(&stats);  // fails only for NULL or version 0
  return stats;
}

// A property with its value. `name` has static storage.
struct Property {
  const char *name;
  size_t value;
};

// One property for each number that both families and hakmem have. `heap_size` is what differs: gperftools includes
// memory that was returned to the system.
enum { kProperties = 14 };
struct Properties {
  Property list[kProperties];

  explicit Properties(bool heap_includes_returned) noexcept { Fill(Statistics(), heap_includes_returned); }

  // Stores the value of the property; false: there is none of this name.
  bool Find(const char *name, size_t length, size_t *value) const noexcept {
    for (const Property &property : list) {
      if (strlen(property.name) == length && memcmp(property.name, name, length) == 0) {
        *value = property.value;
        return true;
      }
    }
    return false;
  }

 private:
  void Fill(const hak_stats &stats, bool heap_includes_returned) noexcept {
    const uint64_t returned =
        stats.mapped_bytes > stats.committed_bytes ? stats.mapped_bytes - stats.committed_bytes : 0;
    const uint64_t heap_size = heap_includes_returned ? stats.mapped_bytes : stats.committed_bytes;
    size_t next = 0;
    const auto add = [this, &next](const char *name, uint64_t value) {
      list[next].name = name;
      list[next++].value = static_cast<size_t>(value);
    };
    add("generic.current_allocated_bytes", stats.live_bytes);
    add("generic.bytes_in_use_by_app", stats.live_bytes);
    add("generic.heap_size", heap_size);
    add("generic.total_physical_bytes", stats.committed_bytes);
    add("generic.physical_memory_used", stats.committed_bytes);
    add("generic.virtual_memory_used", stats.mapped_bytes);
    add("tcmalloc.current_total_thread_cache_bytes", stats.cached_bytes);
    add("tcmalloc.thread_cache_free_bytes", stats.cached_bytes);
    add("tcmalloc.thread_cache_free", stats.cached_bytes);
    add("tcmalloc.central_cache_free_bytes", stats.heap_free_bytes);
    add("tcmalloc.central_cache_free", stats.heap_free_bytes);
    add("tcmalloc.pageheap_unmapped_bytes", returned);
    add("tcmalloc.page_heap_unmapped", returned);
    add("tcmalloc.metadata_bytes", stats.metadata_bytes);
  }
};

// Returns at least `bytes` bytes of free memory to the system, if there is that much: more if some of it is not in free
// slabs. The result is how many bytes it returned.
inline size_t Release(size_t bytes) noexcept {
  if (bytes == 0) return 0;
  hak_thread_flush();
  const uint64_t free_bytes = Statistics().pool_free_bytes;
  return hak_trim(free_bytes > bytes ? static_cast<size_t>(free_bytes - bytes) : 0);
}

// The number that a setting has.
inline size_t Setting(const char *name) noexcept {
  size_t value = 0;
  for (const char *digit = hak_config_get(name, nullptr); *digit != '\0'; digit++) {
    value = value * 10 + static_cast<size_t>(*digit - '0');
  }
  return value;
}

// Changes the setting. False: hakmem does not accept the value, or has fixed settings (FAST).
inline bool Set(const char *name, size_t value) noexcept {
  char text[24] = {};
  char *first = text + sizeof text - 1;
  do {
    *--first = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  return hak_config_set(name, first) == 0;
}

constexpr const char *kHardLimit = "HAKMEM_MEMORY_LIMIT_MB";
constexpr const char *kSoftLimit = "HAKMEM_SOFT_LIMIT_MB";

// A limit in bytes. For hakmem 0 is no limit, so a limit below 1 MiB is 1 MiB; one over 1 PiB, which is more than it
// accepts, is none.
inline size_t Limit(const char *name) noexcept {
  const size_t mib = Setting(name);
  return mib != 0 ? mib << 20 : SIZE_MAX;
}
inline bool SetLimit(const char *name, size_t bytes) noexcept {
  const size_t mib = bytes >> 20;
  return Set(name, mib > 1073741824 ? 0 : mib != 0 ? mib : 1);
}

constexpr const char *kTotalCache = "HAKMEM_TOTAL_THREAD_CACHE_KB";

// The bound on the caches of all threads together, in bytes. For hakmem 0 is no bound, so a bound below 1 KiB is 1 KiB.
inline size_t TotalCache() noexcept { return Setting(kTotalCache) * 1024; }
inline bool SetTotalCache(size_t bytes) noexcept { return Set(kTotalCache, bytes < 1024 ? 1 : bytes / 1024); }

}  // namespace compat
}  // namespace hakmem

// ---- gperftools ---------------------------------------------------------------------------------

class MallocExtension final {
 public:
  enum Ownership { kUnknownOwnership = 0, kOwned, kNotOwned };

  // Never NULL. There is one instance, and nothing can replace it.
  static MallocExtension *instance() noexcept {
    static MallocExtension only;
    return &only;
  }
  static void Initialize() noexcept {}  // hakmem needs no initialisation

  // Checks hakmem's records (hak_heap_verify). OBSERVE and HARDENED builds check the blocks at each call anyway.
  bool VerifyAllMemory() noexcept { return hak_heap_verify(); }

  // Stores the value of the property in `*value` and returns true; for any other name it returns false. Names:
  //   generic.current_allocated_bytes, generic.heap_size, generic.total_physical_bytes,
  //   tcmalloc.current_total_thread_cache_bytes, tcmalloc.thread_cache_free_bytes, tcmalloc.central_cache_free_bytes,
  //   tcmalloc.pageheap_unmapped_bytes, tcmalloc.heap_limit_mb, tcmalloc.max_total_thread_cache_bytes; and those of
  //   tcmalloc::MallocExtension::GetProperties
  // Each is one of hak_stats_get: live_bytes, mapped_bytes, committed_bytes, cached_bytes (twice), heap_free_bytes,
  // mapped_bytes - committed_bytes; heap_limit_mb is HAKMEM_MEMORY_LIMIT_MB, and max_total_thread_cache_bytes is
  // HAKMEM_TOTAL_THREAD_CACHE_KB, 0 if there is no bound. It takes time for each 64 KiB of blocks.
  bool GetNumericProperty(const char *property, size_t *value) noexcept {
    if (strcmp(property, kLimit) == 0) {
      *value = hakmem::compat::Setting(hakmem::compat::kHardLimit);
      return true;
    }
    if (strcmp(property, kCaches) == 0) {
      *value = hakmem::compat::TotalCache();
      return true;
    }
    return hakmem::compat::Properties(true).Find(property, strlen(property), value);
  }

  // Only two can be set. tcmalloc.heap_limit_mb: beyond that many MiB requests fail with ENOMEM; 0 is no limit.
  // tcmalloc.max_total_thread_cache_bytes: the caches of all threads together hold at most that many bytes, rounded
  // down to KiB, at least 1 KiB. False for any other name, for a limit below what is in use, for a bound over 1 TiB,
  // and in FAST builds, which have neither.
  bool SetNumericProperty(const char *property, size_t value) noexcept {
    if (strcmp(property, kLimit) == 0) return hakmem::compat::Set(hakmem::compat::kHardLimit, value);
    return strcmp(property, kCaches) == 0 && hakmem::compat::SetTotalCache(value);
  }

  // Empties the calling thread's cache. The thread may go on allocating at any time, without MarkThreadBusy.
  void MarkThreadIdle() noexcept { hak_thread_flush(); }
  void MarkThreadTemporarilyIdle() noexcept { hak_thread_flush(); }
  void MarkThreadBusy() noexcept {}  // a cache fills up again by itself

  // Returns free memory to the system: at least `num_bytes` of it if there is as much; all that is free.
  void ReleaseToSystem(size_t num_bytes) noexcept { (void)hakmem::compat::Release(num_bytes); }
  void ReleaseFreeMemory() noexcept { (void)hak_trim(0); }

  // The usable size that a request of `size` bytes gets at least; 0 for one over PTRDIFF_MAX.
  size_t GetEstimatedAllocatedSize(size_t size) noexcept { return hak_good_size(size); }
  // The usable size of the live block `p`; 0 for NULL.
  size_t GetAllocatedSize(const void *p) noexcept { return hak_usable_size(p); }
  // kOwned for every live block of hakmem, kNotOwned for NULL and for blocks of other allocators.
  Ownership GetOwnership(const void *p) noexcept { return hak_owns(p) ? kOwned : kNotOwned; }

 private:
  static constexpr const char *kLimit = "tcmalloc.heap_limit_mb";
  static constexpr const char *kCaches = "tcmalloc.max_total_thread_cache_bytes";
  MallocExtension() = default;
};

inline size_t tc_nallocx(size_t size, int flags) noexcept { return nallocx(size, flags); }
inline void *tc_malloc(size_t size) noexcept { return hak_malloc(size); }
inline void *tc_calloc(size_t count, size_t size) noexcept { return hak_calloc(count, size); }
inline void *tc_realloc(void *ptr, size_t size) noexcept { return hak_realloc(ptr, size); }
inline void tc_free(void *ptr) noexcept { hak_free(ptr); }
// Frees a block of tc_malloc(size), tc_calloc or tc_realloc; OBSERVE and HARDENED builds check the size.
inline void tc_free_sized(void *ptr, size_t size) noexcept { hak_free_sized(ptr, size); }
inline void *tc_memalign(size_t alignment, size_t size) noexcept { return hak_memalign(alignment, size); }
inline int tc_posix_memalign(void **out, size_t alignment, size_t size) noexcept {
  return hak_posix_memalign(out, alignment, size);
}
inline size_t tc_malloc_size(void *ptr) noexcept { return hak_usable_size(ptr); }

// ---- google/tcmalloc ----------------------------------------------------------------------------

#if __cplusplus >= 201703L
namespace tcmalloc {

class MallocExtension final {
 public:
  MallocExtension() = delete;
  enum class Ownership { kUnknown = 0, kOwned, kNotOwned };
  struct Property {
    size_t value;
  };

  // The value of a property, or nullopt. Names are those of the other class and of GetProperties, except for the two
  // that can be set there; "generic.heap_size" is committed_bytes here.
  static std::optional<size_t> GetNumericProperty(std::string_view property) noexcept {
    size_t value = 0;
    if (!hakmem::compat::Properties(false).Find(property.data(), property.size(), &value)) return std::nullopt;
    return value;
  }

  // The properties that hakmem has, with the names of this function:
  //   generic.bytes_in_use_by_app (live_bytes), generic.physical_memory_used (committed_bytes),
  //   generic.virtual_memory_used (mapped_bytes), tcmalloc.thread_cache_free (cached_bytes),
  //   tcmalloc.central_cache_free (heap_free_bytes), tcmalloc.page_heap_unmapped (mapped_bytes - committed_bytes),
  //   tcmalloc.metadata_bytes; and those of GetNumericProperty. All are of one moment.
  static std::map<std::string, Property> GetProperties() {
    std::map<std::string, Property> properties;
    const hakmem::compat::Properties all(false);
    for (const hakmem::compat::Property &property : all.list) properties[property.name].value = property.value;
    return properties;
  }

  // The caches of all threads together hold at most `value` bytes, rounded down to KiB, at least 1 KiB. No effect for a
  // value over 1 TiB and in FAST builds. The bound is 0 while there is none, which is the default.
  static void SetMaxTotalThreadCacheBytes(int64_t value) noexcept {
    (void)hakmem::compat::SetTotalCache(value > 0 ? static_cast<size_t>(value) : 0);
  }
  static int64_t GetMaxTotalThreadCacheBytes() noexcept { return static_cast<int64_t>(hakmem::compat::TotalCache()); }

  // The soft limit is HAKMEM_SOFT_LIMIT_MB: beyond it free memory is returned before more is taken, and as soon as it
  // is free; no request fails. The hard limit is HAKMEM_MEMORY_LIMIT_MB: a request beyond it fails with ENOMEM, and the
  // process goes on. Limits are rounded down to MiB, at least 1 MiB. SIZE_MAX, which GetMemoryLimit returns while there
  // is none, removes a limit. SetMemoryLimit has no effect for a hard limit below what is in use, and in FAST builds.
  enum class LimitKind { kSoft, kHard };
  static void SetMemoryLimit(size_t limit, LimitKind limit_kind) noexcept {
    (void)hakmem::compat::SetLimit(LimitSetting(limit_kind), limit);
  }
  static size_t GetMemoryLimit(LimitKind limit_kind) noexcept {
    return hakmem::compat::Limit(LimitSetting(limit_kind));
  }

  static void MarkThreadIdle() noexcept { hak_thread_flush(); }
  static void MarkThreadBusy() noexcept {}  // a cache fills up again by itself

  // Returns at least `num_bytes` of free memory to the system, if there is as much. Returns how many it returned.
  static size_t ReleaseMemoryToSystem(size_t num_bytes) noexcept { return hakmem::compat::Release(num_bytes); }

  // As in the other class; GetAllocatedSize never returns nullopt.
  static size_t GetEstimatedAllocatedSize(size_t size) noexcept { return hak_good_size(size); }
  static std::optional<size_t> GetAllocatedSize(const void *p) noexcept { return hak_usable_size(p); }
  static Ownership GetOwnership(const void *p) noexcept {
    return hak_owns(p) ? Ownership::kOwned : Ownership::kNotOwned;
  }

 private:
  static const char *LimitSetting(LimitKind kind) noexcept {
    return kind == LimitKind::kSoft ? hakmem::compat::kSoftLimit : hakmem::compat::kHardLimit;
  }
};

}  // namespace tcmalloc
#endif

#endif  // HAKMEM_COMPAT_TCMALLOC_H_
