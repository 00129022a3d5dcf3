// SPDX-License-Identifier: Apache-2.0
//
// Reads the symbol tables that the section headers of an ELF file name. Without section headers, which a program does
// not need to run, the dynamic segment leads to the dynamic symbols. Nothing in the file is trusted: it may be damaged.
#include "packaging/run/elf_symbols.h"

#include <elf.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

// The file in memory. It may become shorter meanwhile, but then it cannot be started either.
struct image {
  const unsigned char *bytes;
  uint64_t size;
};

struct search {
  const char *const *names;
  size_t count;
  enum elf_definition *found;
};

// A part of the file, or NULL if it is not all there.
static const void *part(const struct image *image, uint64_t offset, uint64_t size) {
  return offset <= image->size && size <= image->size - offset ? image->bytes + offset : NULL;
}

// The bytes may lie at any address.
static bool read_at(const struct image *image, uint64_t offset, void *buffer, size_t size) {
  const void *from = part(image, offset, size);
  if (from == NULL) return false;
  memcpy(buffer, from, size);
  return true;
}

static bool is_function(const Elf64_Sym *symbol) {
  const unsigned type = ELF64_ST_TYPE(symbol->st_info);
  return symbol->st_shndx != SHN_UNDEF && symbol->st_name != 0 && (type == STT_FUNC || type == STT_GNU_IFUNC);
}

static void note(const struct search *search, const char *name, enum elf_definition definition) {
  for (size_t i = 0; i < search->count; i++) {
    if (search->found[i] < definition && strcmp(name, search->names[i]) == 0) search->found[i] = definition;
  }
}

// Looks through a table of symbols. `names`: the texts that they refer to.
static void scan(const struct image *image, uint64_t table, uint64_t bytes, uint64_t names, uint64_t names_size,
                 enum elf_definition definition, const struct search *search) {
  const char *texts = part(image, names, names_size);
  // The last text must end within the table.
  if (texts == NULL || names_size == 0 || texts[names_size - 1] != '\0') return;
  Elf64_Sym symbol;
  for (uint64_t at = 0; at + sizeof symbol <= bytes && read_at(image, table + at, &symbol, sizeof symbol);
       at += sizeof symbol) {
    if (!is_function(&symbol) || symbol.st_name >= names_size) continue;
    // A hidden function is in the dynamic symbols of no good file.
    const unsigned visibility = ELF64_ST_VISIBILITY(symbol.st_other);
    if (definition == ELF_SHOWN && (visibility == STV_HIDDEN || visibility == STV_INTERNAL)) continue;
    note(search, texts + symbol.st_name, definition);
  }
}

// ---- With section headers ------------------------------------------------------------------------

// False: there are none. `*own`: whether there are symbols of the file's own.
static bool scan_sections(const struct image *image, const Elf64_Ehdr *head, const struct search *search, bool *own) {
  Elf64_Shdr section;
  if (head->e_shoff == 0 || head->e_shentsize != sizeof section ||
      !read_at(image, head->e_shoff, &section, sizeof section)) {
    return false;
  }
  // With very many sections their number is in the first one.
  const uint64_t count = head->e_shnum != 0 ? head->e_shnum : section.sh_size;
  // A good file has at most one table of each kind. Thousands that overlap would take hours.
  bool seen[2] = {false, false};
  for (uint64_t i = 0; i < count && read_at(image, head->e_shoff + i * sizeof section, &section, sizeof section); i++) {
    const bool shown = section.sh_type == SHT_DYNSYM;
    Elf64_Shdr names;
    if ((section.sh_type != SHT_SYMTAB && !shown) || seen[shown] || section.sh_link >= count ||
        !read_at(image, head->e_shoff + section.sh_link * sizeof names, &names, sizeof names)) {
      continue;
    }
    seen[shown] = true;
    if (!shown) *own = true;
    scan(image, section.sh_offset, section.sh_size, names.sh_offset, names.sh_size, shown ? ELF_SHOWN : ELF_INSIDE,
         search);
  }
  return true;
}

// ---- Without section headers ---------------------------------------------------------------------

// The place in the file of an address in memory. False: no segment has it.
static bool place_of(const struct image *image, const Elf64_Ehdr *head, uint64_t address, uint64_t *offset) {
  Elf64_Phdr segment;
  for (uint64_t i = 0; i < head->e_phnum; i++) {
    if (!read_at(image, head->e_phoff + i * sizeof segment, &segment, sizeof segment)) return false;
    if (segment.p_type != PT_LOAD || address < segment.p_vaddr || address - segment.p_vaddr >= segment.p_filesz)
      continue;
    *offset = segment.p_offset + (address - segment.p_vaddr);
    return true;
  }
  return false;
}

// What the dynamic segment says. `names` and `symbols`: places in the file, 0 if unknown.
struct dynamic {
  uint64_t table, bytes;  // the segment itself
  uint64_t symbols, names, names_size;
};

static bool find_dynamic(const struct image *image, const Elf64_Ehdr *head, struct dynamic *dynamic) {
  Elf64_Phdr segment = {.p_type = PT_NULL};
  if (head->e_phentsize != sizeof segment) return false;
  for (uint64_t i = 0; i < head->e_phnum && segment.p_type != PT_DYNAMIC; i++) {
    if (!read_at(image, head->e_phoff + i * sizeof segment, &segment, sizeof segment)) return false;
  }
  if (segment.p_type != PT_DYNAMIC) return false;
  *dynamic = (struct dynamic){.table = segment.p_offset, .bytes = segment.p_filesz};
  Elf64_Dyn entry;
  for (uint64_t at = 0; at + sizeof entry <= dynamic->bytes; at += sizeof entry) {
    if (!read_at(image, dynamic->table + at, &entry, sizeof entry) || entry.d_tag == DT_NULL) break;
    if (entry.d_tag == DT_SYMTAB && !place_of(image, head, entry.d_un.d_ptr, &dynamic->symbols)) return false;
    if (entry.d_tag == DT_STRTAB && !place_of(image, head, entry.d_un.d_ptr, &dynamic->names)) return false;
    if (entry.d_tag == DT_STRSZ) dynamic->names_size = entry.d_un.d_val;
  }
  return true;
}

static void scan_dynamic(const struct image *image, const Elf64_Ehdr *head, const struct search *search) {
  struct dynamic found;
  if (!find_dynamic(image, head, &found)) return;
  // Only the hash tables tell where the symbols end. But they lie in front of their texts in the file, and what else
  // lies between does not look like a function with a name that is looked for.
  if (found.symbols == 0 || found.names <= found.symbols) return;
  scan(image, found.symbols, found.names - found.symbols, found.names, found.names_size, ELF_SHOWN, search);
}

// ---- The file ------------------------------------------------------------------------------------

static bool map_image(int fd, struct image *image, Elf64_Ehdr *head) {
  struct stat status;
  if (fstat(fd, &status) != 0 || status.st_size < (off_t)sizeof *head) return false;
  const size_t size = (size_t)status.st_size;
  void *bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (bytes == MAP_FAILED) return false;
  *image = (struct image){.bytes = bytes, .size = size};
  memcpy(head, bytes, sizeof *head);
  return true;
}

// A const pointer cannot be unmapped.
static void unmap_image(const struct image *image) {
  munmap((void *)(uintptr_t)image->bytes, (size_t)image->size);  // NOLINT(performance-no-int-to-ptr)
}

bool elf_find_functions(int fd, const char *const *names, size_t count, enum elf_definition *found) {
  for (size_t i = 0; i < count; i++) found[i] = ELF_NONE;
  struct image image;
  Elf64_Ehdr head;
  if (!map_image(fd, &image, &head)) return false;
  const struct search search = {.names = names, .count = count, .found = found};
  bool own = false;
  if (!scan_sections(&image, &head, &search, &own)) scan_dynamic(&image, &head, &search);
  unmap_image(&image);
  return own;
}

bool elf_needs(int fd, const char *name) {
  struct image image;
  Elf64_Ehdr head;
  if (!map_image(fd, &image, &head)) return false;
  struct dynamic dynamic;
  bool needs = false;
  if (find_dynamic(&image, &head, &dynamic)) {
    const size_t length = strlen(name);
    const char *texts = part(&image, dynamic.names, dynamic.names_size);
    Elf64_Dyn entry;
    for (uint64_t at = 0; texts != NULL && !needs && at + sizeof entry <= dynamic.bytes; at += sizeof entry) {
      if (!read_at(&image, dynamic.table + at, &entry, sizeof entry) || entry.d_tag == DT_NULL) break;
      const uint64_t text = entry.d_un.d_val;
      needs = entry.d_tag == DT_NEEDED && text < dynamic.names_size && dynamic.names_size - text > length &&
              memcmp(texts + text, name, length) == 0;
    }
  }
  unmap_image(&image);
  return needs;
}
