// SPDX-License-Identifier: Apache-2.0
//
// The functions of allocator/api/cxx_compiler_new.c and alloc_token.c, declared as a compiler calls them, and tables of
// them.
#ifndef HAKMEM_TEST_COMPILER_NAMES_H_
#define HAKMEM_TEST_COMPILER_NAMES_H_

#include <stddef.h>
#include <stdint.h>

#include <new>

namespace hak_test {

// The hint of operator new, and the result of one with a size, as in tcmalloc.
enum class HotCold : uint8_t { kCold = 1, kHot = 254 };
struct SizedPtr {
  void *ptr;
  size_t size;
};

// Each form of operator new: its mangled name without the first underscore, its parameters, array, nothrow, aligned.
#define HAK_TEST_NEW_FORMS(X)                                   \
  X(Znwm, PLAIN, false, false, false)                           \
  X(Znam, PLAIN, true, false, false)                            \
  X(ZnwmRKSt9nothrow_t, NOTHROW, false, true, false)            \
  X(ZnamRKSt9nothrow_t, NOTHROW, true, true, false)             \
  X(ZnwmSt11align_val_t, ALIGNED, false, false, true)           \
  X(ZnamSt11align_val_t, ALIGNED, true, false, true)            \
  X(ZnwmSt11align_val_tRKSt9nothrow_t, BOTH, false, true, true) \
  X(ZnamSt11align_val_tRKSt9nothrow_t, BOTH, true, true, true)

#define HAK_TEST_PARAMETERS_PLAIN size_t size
#define HAK_TEST_PARAMETERS_NOTHROW size_t size, const std::nothrow_t &tag
#define HAK_TEST_PARAMETERS_ALIGNED size_t size, std::align_val_t align
#define HAK_TEST_PARAMETERS_BOTH size_t size, std::align_val_t align, const std::nothrow_t &tag
#define HAK_TEST_ARGUMENTS_PLAIN size
#define HAK_TEST_ARGUMENTS_NOTHROW size, std::nothrow
#define HAK_TEST_ARGUMENTS_ALIGNED size, align
#define HAK_TEST_ARGUMENTS_BOTH size, align, std::nothrow

extern "C" {
// With a hint; with a number, in both spellings; with a number in the name; with a hint and a number.
#define HAK_TEST_DECLARE(form, kind, array, nothrow, aligned)                                          \
  void *_##form##12__hot_cold_t(HAK_TEST_PARAMETERS_##kind, HotCold hint);                             \
  void *__alloc_token__##form(HAK_TEST_PARAMETERS_##kind, size_t token);                               \
  void *__alloc_token_##form(HAK_TEST_PARAMETERS_##kind, size_t token);                                \
  void *__alloc_token_0__##form(HAK_TEST_PARAMETERS_##kind);                                           \
  void *__alloc_token_1__##form(HAK_TEST_PARAMETERS_##kind);                                           \
  void *__alloc_token_0_##form(HAK_TEST_PARAMETERS_##kind);                                            \
  void *__alloc_token_1_##form(HAK_TEST_PARAMETERS_##kind);                                            \
  void *__alloc_token__##form##12__hot_cold_t(HAK_TEST_PARAMETERS_##kind, HotCold hint, size_t token); \
  void *__alloc_token_##form##12__hot_cold_t(HAK_TEST_PARAMETERS_##kind, HotCold hint, size_t token);  \
  void *__alloc_token_0__##form##12__hot_cold_t(HAK_TEST_PARAMETERS_##kind, HotCold hint);             \
  void *__alloc_token_1__##form##12__hot_cold_t(HAK_TEST_PARAMETERS_##kind, HotCold hint);             \
  void *__alloc_token_0_##form##12__hot_cold_t(HAK_TEST_PARAMETERS_##kind, HotCold hint);              \
  void *__alloc_token_1_##form##12__hot_cold_t(HAK_TEST_PARAMETERS_##kind, HotCold hint);
HAK_TEST_NEW_FORMS(HAK_TEST_DECLARE)
#undef HAK_TEST_DECLARE

SizedPtr __size_returning_new(size_t size);
SizedPtr __size_returning_new_hot_cold(size_t size, HotCold hint);
SizedPtr __size_returning_new_aligned(size_t size, std::align_val_t align);
SizedPtr __size_returning_new_aligned_hot_cold(size_t size, std::align_val_t align, HotCold hint);
SizedPtr __alloc_token___size_returning_new(size_t size, size_t token);
SizedPtr __alloc_token___size_returning_new_hot_cold(size_t size, HotCold hint, size_t token);
SizedPtr __alloc_token___size_returning_new_aligned(size_t size, std::align_val_t align, size_t token);
SizedPtr __alloc_token___size_returning_new_aligned_hot_cold(size_t size, std::align_val_t align, HotCold hint,
                                                             size_t token);
SizedPtr __alloc_token_0___size_returning_new(size_t size);
SizedPtr __alloc_token_0___size_returning_new_hot_cold(size_t size, HotCold hint);
SizedPtr __alloc_token_0___size_returning_new_aligned(size_t size, std::align_val_t align);
SizedPtr __alloc_token_0___size_returning_new_aligned_hot_cold(size_t size, std::align_val_t align, HotCold hint);
SizedPtr __alloc_token_1___size_returning_new(size_t size);
SizedPtr __alloc_token_1___size_returning_new_hot_cold(size_t size, HotCold hint);
SizedPtr __alloc_token_1___size_returning_new_aligned(size_t size, std::align_val_t align);
SizedPtr __alloc_token_1___size_returning_new_aligned_hot_cold(size_t size, std::align_val_t align, HotCold hint);
SizedPtr tcmalloc_size_returning_operator_new(size_t size);
SizedPtr tcmalloc_size_returning_operator_new_nothrow(size_t size);
SizedPtr tcmalloc_size_returning_operator_new_hot_cold(size_t size, HotCold hint);
SizedPtr tcmalloc_size_returning_operator_new_hot_cold_nothrow(size_t size, HotCold hint);
SizedPtr tcmalloc_size_returning_operator_new_aligned(size_t size, std::align_val_t align);
SizedPtr tcmalloc_size_returning_operator_new_aligned_nothrow(size_t size, std::align_val_t align);
SizedPtr tcmalloc_size_returning_operator_new_aligned_hot_cold(size_t size, std::align_val_t align, HotCold hint);
SizedPtr tcmalloc_size_returning_operator_new_aligned_hot_cold_nothrow(size_t size, std::align_val_t align,
                                                                       HotCold hint);

#define HAK_TEST_DECLARE_C(before, ...)                                          \
  void *before##malloc(size_t size __VA_ARGS__);                                 \
  void *before##calloc(size_t count, size_t size __VA_ARGS__);                   \
  void *before##realloc(void *ptr, size_t size __VA_ARGS__);                     \
  void *before##reallocarray(void *ptr, size_t count, size_t size __VA_ARGS__);  \
  void *before##aligned_alloc(size_t align, size_t size __VA_ARGS__);            \
  void *before##memalign(size_t align, size_t size __VA_ARGS__);                 \
  int before##posix_memalign(void **out, size_t align, size_t size __VA_ARGS__); \
  void *before##valloc(size_t size __VA_ARGS__);                                 \
  void *before##pvalloc(size_t size __VA_ARGS__);
#define HAK_TEST_TOKEN , size_t token
HAK_TEST_DECLARE_C(__alloc_token_, HAK_TEST_TOKEN)
HAK_TEST_DECLARE_C(__alloc_token_0_, )
HAK_TEST_DECLARE_C(__alloc_token_1_, )
#undef HAK_TEST_DECLARE_C
}

// A name of a form of operator new.
struct NewName {
  const char *name;
  bool array, nothrow, aligned;
  void *(*call)(size_t size, std::align_val_t align);
};

#define HAK_TEST_ROW(name, kind, array, nothrow, aligned, ...)                         \
  {#name, array, nothrow, aligned, [](size_t size, std::align_val_t align) -> void * { \
     (void)align;                                                                      \
     return name(HAK_TEST_ARGUMENTS_##kind __VA_ARGS__);                               \
   }},
#define HAK_TEST_COLD , HotCold::kCold
#define HAK_TEST_HOT , HotCold::kHot
#define HAK_TEST_NUMBER , size_t{2689373973731826898}
#define HAK_TEST_ROWS(form, kind, array, nothrow, aligned)                                                         \
  HAK_TEST_ROW(_##form##12__hot_cold_t, kind, array, nothrow, aligned, HAK_TEST_COLD)                              \
  HAK_TEST_ROW(__alloc_token__##form, kind, array, nothrow, aligned, HAK_TEST_NUMBER)                              \
  HAK_TEST_ROW(__alloc_token_##form, kind, array, nothrow, aligned, HAK_TEST_NUMBER)                               \
  HAK_TEST_ROW(__alloc_token_0__##form, kind, array, nothrow, aligned, )                                           \
  HAK_TEST_ROW(__alloc_token_1__##form, kind, array, nothrow, aligned, )                                           \
  HAK_TEST_ROW(__alloc_token_0_##form, kind, array, nothrow, aligned, )                                            \
  HAK_TEST_ROW(__alloc_token_1_##form, kind, array, nothrow, aligned, )                                            \
  HAK_TEST_ROW(__alloc_token__##form##12__hot_cold_t, kind, array, nothrow, aligned, HAK_TEST_HOT HAK_TEST_NUMBER) \
  HAK_TEST_ROW(__alloc_token_##form##12__hot_cold_t, kind, array, nothrow, aligned, HAK_TEST_HOT HAK_TEST_NUMBER)  \
  HAK_TEST_ROW(__alloc_token_0__##form##12__hot_cold_t, kind, array, nothrow, aligned, HAK_TEST_HOT)               \
  HAK_TEST_ROW(__alloc_token_1__##form##12__hot_cold_t, kind, array, nothrow, aligned, HAK_TEST_HOT)               \
  HAK_TEST_ROW(__alloc_token_0_##form##12__hot_cold_t, kind, array, nothrow, aligned, HAK_TEST_COLD)               \
  HAK_TEST_ROW(__alloc_token_1_##form##12__hot_cold_t, kind, array, nothrow, aligned, HAK_TEST_COLD)

inline constexpr NewName kNewNames[] = {HAK_TEST_NEW_FORMS(HAK_TEST_ROWS)};

// A name of an operator new with a size. Only such names without an alignment ignore `align`.
struct SizedNewName {
  const char *name;
  bool nothrow, aligned;
  SizedPtr (*call)(size_t size, std::align_val_t align);
};

#define HAK_TEST_SIZED(name, nothrow, ...) \
  {#name, nothrow, false, [](size_t size, std::align_val_t) -> SizedPtr { return name(size __VA_ARGS__); }},
#define HAK_TEST_SIZED_ALIGNED(name, nothrow, ...) \
  {#name, nothrow, true, [](size_t size, std::align_val_t align) -> SizedPtr { return name(size, align __VA_ARGS__); }},

inline constexpr SizedNewName kSizedNewNames[] = {
    HAK_TEST_SIZED(__size_returning_new, false, )                                                                     //
    HAK_TEST_SIZED(__size_returning_new_hot_cold, false, HAK_TEST_HOT)                                                //
    HAK_TEST_SIZED_ALIGNED(__size_returning_new_aligned, false, )                                                     //
    HAK_TEST_SIZED_ALIGNED(__size_returning_new_aligned_hot_cold, false, HAK_TEST_COLD)                               //
    HAK_TEST_SIZED(__alloc_token___size_returning_new, false, HAK_TEST_NUMBER)                                        //
    HAK_TEST_SIZED(__alloc_token___size_returning_new_hot_cold, false, HAK_TEST_HOT HAK_TEST_NUMBER)                  //
    HAK_TEST_SIZED_ALIGNED(__alloc_token___size_returning_new_aligned, false, HAK_TEST_NUMBER)                        //
    HAK_TEST_SIZED_ALIGNED(__alloc_token___size_returning_new_aligned_hot_cold, false, HAK_TEST_HOT HAK_TEST_NUMBER)  //
    HAK_TEST_SIZED(__alloc_token_0___size_returning_new, false, )                                                     //
    HAK_TEST_SIZED(__alloc_token_0___size_returning_new_hot_cold, false, HAK_TEST_HOT)                                //
    HAK_TEST_SIZED_ALIGNED(__alloc_token_0___size_returning_new_aligned, false, )                                     //
    HAK_TEST_SIZED_ALIGNED(__alloc_token_0___size_returning_new_aligned_hot_cold, false, HAK_TEST_COLD)               //
    HAK_TEST_SIZED(__alloc_token_1___size_returning_new, false, )                                                     //
    HAK_TEST_SIZED(__alloc_token_1___size_returning_new_hot_cold, false, HAK_TEST_HOT)                                //
    HAK_TEST_SIZED_ALIGNED(__alloc_token_1___size_returning_new_aligned, false, )                                     //
    HAK_TEST_SIZED_ALIGNED(__alloc_token_1___size_returning_new_aligned_hot_cold, false, HAK_TEST_COLD)               //
    HAK_TEST_SIZED(tcmalloc_size_returning_operator_new, false, )                                                     //
    HAK_TEST_SIZED(tcmalloc_size_returning_operator_new_nothrow, true, )                                              //
    HAK_TEST_SIZED(tcmalloc_size_returning_operator_new_hot_cold, false, HAK_TEST_HOT)                                //
    HAK_TEST_SIZED(tcmalloc_size_returning_operator_new_hot_cold_nothrow, true, HAK_TEST_HOT)                         //
    HAK_TEST_SIZED_ALIGNED(tcmalloc_size_returning_operator_new_aligned, false, )                                     //
    HAK_TEST_SIZED_ALIGNED(tcmalloc_size_returning_operator_new_aligned_nothrow, true, )                              //
    HAK_TEST_SIZED_ALIGNED(tcmalloc_size_returning_operator_new_aligned_hot_cold, false, HAK_TEST_COLD)               //
    HAK_TEST_SIZED_ALIGNED(tcmalloc_size_returning_operator_new_aligned_hot_cold_nothrow, true, HAK_TEST_COLD)        //
};

// The C functions with a number: behind the arguments, 0, and 1.
struct TokenApi {
  const char *name;
  void *(*malloc)(size_t size);
  void *(*calloc)(size_t count, size_t size);
  void *(*realloc)(void *ptr, size_t size);
  void *(*reallocarray)(void *ptr, size_t count, size_t size);
  void *(*aligned_alloc)(size_t align, size_t size);
  void *(*memalign)(size_t align, size_t size);
  int (*posix_memalign)(void **out, size_t align, size_t size);
  void *(*valloc)(size_t size);
  void *(*pvalloc)(size_t size);
};

#define HAK_TEST_TOKEN_API(before, ...)                                                                        \
  {#before,                                                                                                    \
   [](size_t size) { return before##malloc(size __VA_ARGS__); },                                               \
   [](size_t count, size_t size) { return before##calloc(count, size __VA_ARGS__); },                          \
   [](void *ptr, size_t size) { return before##realloc(ptr, size __VA_ARGS__); },                              \
   [](void *ptr, size_t count, size_t size) { return before##reallocarray(ptr, count, size __VA_ARGS__); },    \
   [](size_t align, size_t size) { return before##aligned_alloc(align, size __VA_ARGS__); },                   \
   [](size_t align, size_t size) { return before##memalign(align, size __VA_ARGS__); },                        \
   [](void **out, size_t align, size_t size) { return before##posix_memalign(out, align, size __VA_ARGS__); }, \
   [](size_t size) { return before##valloc(size __VA_ARGS__); },                                               \
   [](size_t size) { return before##pvalloc(size __VA_ARGS__); }},

inline constexpr TokenApi kTokenApis[] = {
    HAK_TEST_TOKEN_API(__alloc_token_, HAK_TEST_NUMBER)  //
    HAK_TEST_TOKEN_API(__alloc_token_0_, )               //
    HAK_TEST_TOKEN_API(__alloc_token_1_, )               //
};

}  // namespace hak_test

#endif  // HAKMEM_TEST_COMPILER_NAMES_H_
