// SPDX-License-Identifier: Apache-2.0
//
// Finds the tables of loaded files.
#include "allocator/prof/modules.h"

#include <elf.h>
#include <link.h>

#include "allocator/os/atomic.h"
#include "allocator/os/readable.h"

// What _dl_find_object tells. Older headers do not declare it, so it is declared here, under another name. The C
// library may add fields, for which it has reserved space.
struct found_object {
  unsigned long long flags;
  void *map_start;
  void *map_end;
  struct link_map *link_map;
  void *index;  // the segment PT_GNU_EH_FRAME
  unsigned long long reserved[8];
};
extern int find_object(void *pc, struct found_object *result) __asm__("_dl_find_object") __attribute__((weak));

// ---- Program headers ----------------------------------------------------------------------------

// The file whose program headers these are, moved by `bias`.
struct headers {
  const Elf64_Phdr *first;
  size_t count;
  uintptr_t bias;
};

// The segment that contains the index: it is read-only, and has the tables too.
static bool tables_of(const struct headers *headers, uintptr_t index, struct hak_cfi_tables *tables) {
  for (size_t i = 0; i < headers->count; i++) {
    const Elf64_Phdr *header = &headers->first[i];
    const uintptr_t start = headers->bias + header->p_vaddr;
    if (header->p_type != PT_LOAD || (header->p_flags & PF_R) == 0) continue;
    if (index < start || index - start >= header->p_filesz) continue;
    *tables = (struct hak_cfi_tables){.low = (const uint8_t *)start,
                                      .high = (const uint8_t *)(start + header->p_filesz),
                                      .index = (const uint8_t *)index};
    return true;
  }
  return false;
}

// ---- By the dynamic linker ----------------------------------------------------------------------

// The program headers follow the file's header, which the first segment begins with.
#define FIRST_BYTES 4096u

static bool read_headers(uintptr_t start, struct headers *headers) {
  const Elf64_Ehdr *file = (const Elf64_Ehdr *)start;
  const bool is_elf = file->e_ident[EI_MAG0] == ELFMAG0 && file->e_ident[EI_MAG1] == ELFMAG1 &&
                      file->e_ident[EI_MAG2] == ELFMAG2 && file->e_ident[EI_MAG3] == ELFMAG3;
  if (!is_elf || file->e_phentsize != sizeof(Elf64_Phdr) || file->e_phoff > FIRST_BYTES ||
      file->e_phoff % sizeof(uint64_t) != 0 || file->e_phnum > (FIRST_BYTES - file->e_phoff) / sizeof(Elf64_Phdr)) {
    return false;
  }
  headers->first = (const Elf64_Phdr *)(start + file->e_phoff);
  headers->count = file->e_phnum;
  for (size_t i = 0; i < headers->count; i++) {
    if (headers->first[i].p_type != PT_LOAD) continue;
    // Segments are in the order of their addresses, and the first has the file's first bytes.
    headers->bias = start - (headers->first[i].p_vaddr - headers->first[i].p_offset);
    return headers->first[i].p_offset < FIRST_BYTES;
  }
  return false;
}

static bool ask_linker(uintptr_t pc, struct hak_cfi_tables *tables) {
  struct found_object found;
  if (find_object((void *)pc, &found) != 0 || found.index == NULL) return false;
  struct headers headers;
  return read_headers((uintptr_t)found.map_start, &headers) && tables_of(&headers, (uintptr_t)found.index, tables);
}

HAK_COLD bool hak_module_file(uintptr_t pc, const char **path, uintptr_t *bias) {
  struct found_object found;
  if (&find_object == NULL || find_object((void *)pc, &found) != 0 || found.link_map == NULL) return false;
  *path = found.link_map->l_name != NULL ? found.link_map->l_name : "";
  *bias = found.link_map->l_addr;
  return true;
}

// ---- By the list --------------------------------------------------------------------------------

#define LISTED_MAX 256u
// Code from `start` to `end`, and its tables. Written by one thread at a time, which makes `version` odd meanwhile; a
// reader looks at `version` before and after, and finds nothing if it was odd or has changed.
enum { START, END, LOW, HIGH, INDEX, WORDS };
static struct {
  HAK_ATOMIC(uint32_t) version;
  HAK_ATOMIC(uint32_t) count;
  HAK_ATOMIC(uintptr_t) words[LISTED_MAX][WORDS];
} list;
static HAK_ATOMIC(bool) list_is_used;

void hak_modules_use_list(bool use) {
  atomic_store_explicit(&list_is_used, use, memory_order_relaxed);  // Relaxed: a test has one thread then.
}

static bool uses_list(void) {
  // Relaxed: as above.
  return &find_object == NULL || atomic_load_explicit(&list_is_used, memory_order_relaxed);
}

// Release: a reader that sees one of the words sees that the version is odd.
static void put(uint32_t at, uint32_t word, uintptr_t value) {
  atomic_store_explicit(&list.words[at][word], value, memory_order_release);
}

static int list_one(struct dl_phdr_info *info, size_t size, void *context) {
  (void)size;
  uint32_t *const count = context;
  const struct headers headers = {.first = info->dlpi_phdr, .count = info->dlpi_phnum, .bias = info->dlpi_addr};
  uintptr_t start = UINTPTR_MAX;
  uintptr_t end = 0;
  uintptr_t index = 0;
  for (size_t i = 0; i < headers.count; i++) {
    const Elf64_Phdr *header = &headers.first[i];
    const uintptr_t from = headers.bias + header->p_vaddr;
    if (header->p_type == PT_GNU_EH_FRAME) index = from;
    if (header->p_type != PT_LOAD || (header->p_flags & PF_X) == 0) continue;
    if (from < start) start = from;
    if (from + header->p_memsz > end) end = from + header->p_memsz;
  }
  struct hak_cfi_tables tables;
  if (*count == LISTED_MAX || start >= end || index == 0 || !tables_of(&headers, index, &tables)) return 0;
  put(*count, START, start);
  put(*count, END, end);
  put(*count, LOW, (uintptr_t)tables.low);
  put(*count, HIGH, (uintptr_t)tables.high);
  put(*count, INDEX, (uintptr_t)tables.index);
  ++*count;
  return 0;
}

void hak_modules_refresh(void) {
  if (!uses_list()) return;
  // Relaxed: the exchange checks it.
  uint32_t version = atomic_load_explicit(&list.version, memory_order_relaxed);
  // Another thread that makes the list makes the same one. Acquire: the stores below come after it.
  if ((version & 1) != 0 || !atomic_compare_exchange_strong_explicit(&list.version, &version, version + 1,
                                                                     memory_order_acquire, memory_order_relaxed)) {
    return;
  }
  uint32_t count = 0;
  dl_iterate_phdr(list_one, &count);
  // Release: a reader that sees the even version sees all words.
  atomic_store_explicit(&list.count, count, memory_order_release);
  atomic_store_explicit(&list.version, version + 2, memory_order_release);
}

// Acquire: the version is read after the word.
static uintptr_t get(uint32_t at, uint32_t word) {
  return atomic_load_explicit(&list.words[at][word], memory_order_acquire);
}

static bool ask_list(uintptr_t pc, struct hak_cfi_tables *tables) {
  // Acquire: pairs with hak_modules_refresh.
  const uint32_t version = atomic_load_explicit(&list.version, memory_order_acquire);
  const uint32_t count = atomic_load_explicit(&list.count, memory_order_acquire);
  for (uint32_t i = 0; i < count; i++) {
    if (pc < get(i, START) || pc >= get(i, END)) continue;
    *tables = (struct hak_cfi_tables){.low = (const uint8_t *)get(i, LOW),
                                      .high = (const uint8_t *)get(i, HIGH),
                                      .index = (const uint8_t *)get(i, INDEX)};
    // Relaxed: the words were read by acquiring loads before. The file may have been unloaded since the list was made.
    return (version & 1) == 0 && atomic_load_explicit(&list.version, memory_order_relaxed) == version &&
           hak_os_is_readable(tables->index);
  }
  return false;
}

bool hak_module_tables(uintptr_t pc, struct hak_cfi_tables *tables) {
  return uses_list() ? ask_list(pc, tables) : ask_linker(pc, tables);
}
