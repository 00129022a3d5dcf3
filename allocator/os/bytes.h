// SPDX-License-Identifier: Apache-2.0
//
// Copies, fills and compares memory and text without the C library, whose functions other libraries may wrap by ones
// that allocate. Everything in the allocator uses these, except that calloc and realloc clear and copy the program's
// blocks with memset and memcpy, which are faster: they hold no lock then.
#ifndef HAKMEM_OS_BYTES_H_
#define HAKMEM_OS_BYTES_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// clang-tidy and MemorySanitizer do not read assembly, so they get calls.
#if defined(__clang_analyzer__)
#define HAK_BYTES_BY_CALLS 1
#elif defined(__has_feature)
#if __has_feature(memory_sanitizer)
#define HAK_BYTES_BY_CALLS 1
#endif
#endif
#ifndef HAK_BYTES_BY_CALLS
#define HAK_BYTES_BY_CALLS 0
#endif

// In a loop over `variable`: the compiler does not recognise what the loop does, and so does not replace it by a call
// of memcpy, memset or strlen.
#define HAK_BYTES_PLAINLY(variable) __asm__("" : "+r"(variable))

// Eight bytes at any address, of any type.
typedef uint64_t hak_bytes_row __attribute__((may_alias, aligned(1)));

// Copies from the lowest address to the highest: the areas may overlap if `to` is the lower one.
HAK_INLINE void hak_bytes_copy(void *to, const void *from, size_t size) {
#if HAK_BYTES_BY_CALLS
  __builtin_memmove(to, from, size);
#elif defined(__x86_64__)
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
#else
  char *at = (char *)to;
  const char *read = (const char *)from;
  for (; size >= sizeof(hak_bytes_row); size -= sizeof(hak_bytes_row)) {
    *(hak_bytes_row *)(void *)at = *(const hak_bytes_row *)(const void *)read;
    at += sizeof(hak_bytes_row);
    read += sizeof(hak_bytes_row);
    HAK_BYTES_PLAINLY(at);
  }
  for (; size != 0; size--) {
    *at++ = *read++;
    HAK_BYTES_PLAINLY(at);
  }
#endif
}

HAK_INLINE void hak_bytes_fill(void *start, unsigned char byte, size_t size) {
#if HAK_BYTES_BY_CALLS
  __builtin_memset(start, byte, size);
#elif defined(__x86_64__)
  __asm__ volatile("rep stosb" : "+D"(start), "+c"(size) : "a"(byte) : "memory");
#else
  char *at = (char *)start;
  for (; size >= sizeof(hak_bytes_row); size -= sizeof(hak_bytes_row)) {
    *(hak_bytes_row *)(void *)at = byte * (UINT64_MAX / 0xFF);
    at += sizeof(hak_bytes_row);
    HAK_BYTES_PLAINLY(at);
  }
  for (; size != 0; size--) {
    *at++ = (char)byte;
    HAK_BYTES_PLAINLY(at);
  }
#endif
}

// Whether all bytes have this value.
HAK_INLINE bool hak_bytes_are(const void *start, unsigned char byte, size_t size) {
  const unsigned char *at = (const unsigned char *)start;
  hak_bytes_row wrong = 0;
  for (; size >= sizeof wrong; size -= sizeof wrong, at += sizeof wrong) {
    wrong |= *(const hak_bytes_row *)(const void *)at ^ (byte * (UINT64_MAX / 0xFF));
    HAK_BYTES_PLAINLY(at);
  }
  for (; size != 0; size--) wrong |= (hak_bytes_row)(*at++ ^ byte);
  return wrong == 0;
}

HAK_INLINE size_t hak_text_length(const char *text) {
  const char *end = text;
  while (*end != '\0') {
    end++;
    HAK_BYTES_PLAINLY(end);
  }
  return (size_t)(end - text);
}

// Whether the text begins with `beginning`; whether it equals the second one.
HAK_INLINE bool hak_text_begins(const char *text, const char *beginning) {
  for (; *beginning != '\0'; text++, beginning++) {
    if (*text != *beginning) return false;
  }
  return true;
}
HAK_INLINE bool hak_text_is(const char *text, const char *expected) {
  while (*text != '\0' && *text == *expected) {
    text++;
    expected++;
  }
  return *text == *expected;
}

// The first place of `part` in the text, or NULL.
HAK_INLINE const char *hak_text_find(const char *text, const char *part) {
  for (; !hak_text_begins(text, part); text++) {
    if (*text == '\0') return NULL;
  }
  return text;
}

HAK_C_END

#endif  // HAKMEM_OS_BYTES_H_
