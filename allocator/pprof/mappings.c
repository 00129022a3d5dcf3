// SPDX-License-Identifier: Apache-2.0
//
// Reads the list of mappings, and build-ids.
#include "allocator/pprof/mappings.h"

#include <elf.h>

#include "allocator/os/bytes.h"
#include "allocator/os/fault.h"
#include "allocator/os/sys_call.h"

// More program headers than any file has that a linker made.
#define MAX_HEADERS 64u
// Notes of one file that are looked at.
#define MAX_NOTES 4u

// ---- Build-ids -----------------------------------------------------------------------------------

// Reads up to `size` bytes at an address; returns how many were read.
static size_t read_at(const struct hak_mappings *mappings, uintptr_t address, void *bytes, size_t size) {
  size_t done = 0;
  while (done < size) {
    const long got = hak_sys_call(SYS_pread64, mappings->memory, (long)((char *)bytes + done), (long)(size - done),
                                  (long)(address + done), 0, 0);
    if (got > 0) {
      done += (size_t)got;
    } else if (got != -EINTR) {
      break;
    }
  }
  return done;
}

static void hexadecimal(char *text, const unsigned char *bytes, size_t size) {
  static const char digits[] = "0123456789abcdef";
  for (size_t i = 0; i < size; i++) {
    text[2 * i] = digits[bytes[i] >> 4];
    text[2 * i + 1] = digits[bytes[i] & 15];
  }
  text[2 * size] = '\0';
}

// Finds the build-id among the notes in room[size].
static bool find_build_id(struct hak_mappings *mappings, size_t size, uint64_t align) {
  size_t at = 0;
  while (size - at >= sizeof(Elf64_Nhdr)) {
    Elf64_Nhdr note;
    hak_bytes_copy(&note, mappings->room + at, sizeof note);
    at += sizeof note;
    // The head and the name together are aligned.
    const size_t name = hak_round_up(sizeof note + note.n_namesz, align) - sizeof note;
    const size_t bytes = hak_round_up(note.n_descsz, align);
    if (name > size - at || note.n_descsz > size - at - name) return false;
    const unsigned char *id = mappings->room + at + name;
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == sizeof ELF_NOTE_GNU &&
        hak_text_begins((const char *)mappings->room + at, ELF_NOTE_GNU) && note.n_descsz != 0 &&
        note.n_descsz <= (HAK_BUILD_ID_TEXT - 1) / 2) {
      hexadecimal(mappings->build_id, id, note.n_descsz);
      return true;
    }
    if (bytes > size - at - name) return false;
    at += name + bytes;
  }
  return false;
}

// Reads the build-id of the file whose first page is mapped at `base` into mappings->build_id; "" if it has none.
static void read_build_id(struct hak_mappings *mappings, uintptr_t base) {
  mappings->build_id[0] = '\0';
  Elf64_Ehdr file;
  if (mappings->memory < 0 || read_at(mappings, base, mappings->room, sizeof file) != sizeof file) return;
  hak_bytes_copy(&file, mappings->room, sizeof file);
  if (!hak_text_begins((const char *)file.e_ident, ELFMAG) || file.e_ident[EI_CLASS] != ELFCLASS64) return;
  if (file.e_phentsize != sizeof(Elf64_Phdr) || file.e_phnum > MAX_HEADERS) return;
  static_assert(MAX_HEADERS * sizeof(Elf64_Phdr) <= sizeof((struct hak_mappings *)NULL)->room, "they fit");
  const size_t size = file.e_phnum * sizeof(Elf64_Phdr);
  if (read_at(mappings, base + file.e_phoff, mappings->room, size) != size) return;
  Elf64_Phdr notes[MAX_NOTES];
  uint32_t count = 0;
  uintptr_t first = 0;  // the address in the file's own terms of its first page
  for (uint32_t i = 0; i < file.e_phnum; i++) {
    Elf64_Phdr header;
    hak_bytes_copy(&header, mappings->room + i * sizeof header, sizeof header);
    if (header.p_type == PT_LOAD && header.p_offset == 0) first = header.p_vaddr;
    if (header.p_type == PT_NOTE && count < MAX_NOTES) hak_bytes_copy(&notes[count++], &header, sizeof header);
  }
  for (uint32_t i = 0; i < count; i++) {
    const size_t most = sizeof mappings->room;
    const size_t want = notes[i].p_filesz < most ? notes[i].p_filesz : most;
    const size_t got = read_at(mappings, base + (notes[i].p_vaddr - first), mappings->room, want);
    if (find_build_id(mappings, got, notes[i].p_align == 8 ? 8 : 4)) return;
  }
}

// ---- The list ------------------------------------------------------------------------------------

static bool number(const char **text, uint64_t base, uint64_t *value) {
  const char *at = *text;
  *value = 0;
  for (;; at++) {
    uint64_t digit;
    if (*at >= '0' && *at <= '9') {
      digit = (uint64_t)(*at - '0');
    } else if (base == 16 && *at >= 'a' && *at <= 'f') {
      digit = (uint64_t)(*at - 'a') + 10;
    } else {
      break;
    }
    if (__builtin_mul_overflow(*value, base, value) || __builtin_add_overflow(*value, digit, value)) return false;
  }
  const bool any = at != *text;
  *text = at;
  return any;
}

static bool one(const char **text, char expected) {
  if (**text != expected) return false;
  ++*text;
  return true;
}

// One line: `start-limit perm offset major:minor inode path`, as in proc(5).
static void line(struct hak_mappings *mappings) {
  char *const end = mappings->line + mappings->in_line;
  *end = '\0';
  const char *at = mappings->line;
  uint64_t start, limit, offset, major, minor, inode;
  if (!number(&at, 16, &start) || !one(&at, '-') || !number(&at, 16, &limit) || !one(&at, ' ')) return;
  const char *const access = at;
  for (uint32_t i = 0; i < 4; i++) {
    if (*at++ == '\0') return;
  }
  if (!one(&at, ' ') || !number(&at, 16, &offset) || !one(&at, ' ')) return;
  if (!number(&at, 16, &major) || !one(&at, ':') || !number(&at, 16, &minor) || !one(&at, ' ')) return;
  if (!number(&at, 10, &inode) || start >= limit) return;
  while (*at == ' ') at++;
  const bool is_kernels = hak_text_is(at, "[vdso]");
  if (*at != '/' && !is_kernels) return;
  // A file that was deleted or replaced; the build-id tells what it was.
  static const char deleted[] = " (deleted)";
  char *const suffix = end - (sizeof deleted - 1);
  if (suffix > at && hak_text_is(suffix, deleted)) *suffix = '\0';
  const uint64_t device = major << 32 | minor;
  if (access[0] == 'r' && offset == 0) {
    mappings->base = start;
    mappings->device = device;
    mappings->inode = inode;
  }
  if (access[2] != 'x') return;
  mappings->build_id[0] = '\0';
  if (mappings->base != 0 && mappings->device == device && mappings->inode == inode) {
    read_build_id(mappings, mappings->base);
  }
  const struct hak_mapping mapping = {
      .start = start, .limit = limit, .offset = offset, .file = at, .build_id = mappings->build_id};
  mappings->visit(&mapping, mappings->context);
}

HAK_COLD void hak_mappings_begin(struct hak_mappings *mappings, hak_mapping_visit *visit, void *context, int memory) {
  mappings->visit = visit;
  mappings->context = context;
  mappings->memory = memory;
  mappings->is_too_long = false;
  mappings->in_line = 0;
  mappings->base = 0;
}

HAK_COLD void hak_mappings_feed(struct hak_mappings *mappings, const char *text, size_t size) {
  for (size_t i = 0; i < size; i++) {
    if (text[i] == '\n') {
      if (!mappings->is_too_long) line(mappings);
      mappings->is_too_long = false;
      mappings->in_line = 0;
    } else if (mappings->in_line == sizeof mappings->line - 1) {
      mappings->is_too_long = true;
    } else {
      mappings->line[mappings->in_line++] = text[i];
    }
  }
}

static long open_file(const char *path) {
  long file;
  do {
    file = hak_fault_due(HAK_FAULT_ASK) ? -ENOMEM : hak_sys_open(path, O_RDONLY | O_CLOEXEC);
  } while (file == -EINTR);
  return file;
}

// *any: the list has a line.
static HAK_COLD bool read_list(struct hak_mappings *mappings, hak_mapping_visit *visit, void *context,
                               const char *list_path, const char *memory_path, bool *any) {
  *any = false;
  const long list = open_file(list_path);
  if (list < 0) return false;
  const long memory = open_file(memory_path);
  hak_mappings_begin(mappings, visit, context, memory < 0 ? -1 : (int)memory);
  bool is_whole = false;
  for (;;) {
    const long got = hak_sys_read((int)list, mappings->part, sizeof mappings->part);
    if (got > 0) {
      *any = true;
      hak_mappings_feed(mappings, mappings->part, (size_t)got);
    } else if (got != -EINTR) {
      is_whole = got == 0;
      break;
    }
  }
  if (memory >= 0) hak_sys_close((int)memory);
  hak_sys_close((int)list);
  return is_whole;
}

HAK_COLD bool hak_mappings_read(struct hak_mappings *mappings, hak_mapping_visit *visit, void *context) {
  bool any;
  const bool is_whole = read_list(mappings, visit, context, "/proc/self/maps", "/proc/self/mem", &any);
  if (any) return is_whole;
  // The list of a process whose main thread has ended is empty.
  return read_list(mappings, visit, context, "/proc/thread-self/maps", "/proc/thread-self/mem", &any) && any;
}
