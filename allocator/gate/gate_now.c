// SPDX-License-Identifier: Apache-2.0
//
// The current values of the settings, as numbers and as texts, and changes by the program.
#include "allocator/gate/gate_now.h"

#include <errno.h>

#include "allocator/gate/gate_config.h"
#include "allocator/os/atomic.h"
#include "allocator/os/bytes.h"
#include "allocator/os/os.h"
#include "allocator/os/report.h"

// ---- Texts of numbers ---------------------------------------------------------------------------

// hak_gate_get hands out pointers to these texts, so they stay forever. Equal numbers share one text.
struct number {
  uint64_t value;
  char text[24];
};

#define NUMBERS_IN_PAGE ((4096u - sizeof(void *) - sizeof(uint32_t)) / sizeof(struct number))

struct number_page {
  struct number_page *older;
  uint32_t used;
  struct number numbers[NUMBERS_IN_PAGE];
};
static_assert(sizeof(struct number_page) <= 4096, "a page");
static_assert(HAK_GATE_COUNT <= NUMBERS_IN_PAGE, "what the process starts with needs no memory from the system");

static struct number_page first_page;
static struct number_page *pages HAK_GUARDED_BY(hak_gate_role) HAK_PT_GUARDED_BY(hak_gate_role) = &first_page;

static const char *find_number(uint64_t value) HAK_REQUIRES(hak_gate_role) {
  for (const struct number_page *page = pages; page != NULL; page = page->older) {
    for (uint32_t i = 0; i < page->used; i++) {
      if (page->numbers[i].value == value) return page->numbers[i].text;
    }
  }
  return NULL;
}

// NULL: out of memory.
static const char *number_text(uint64_t value) HAK_REQUIRES(hak_gate_role) {
  const char *known = find_number(value);
  if (known != NULL) return known;
  if (pages->used == NUMBERS_IN_PAGE) {
    struct number_page *page = hak_os_map(hak_round_up(sizeof *page, hak_os_page_size()), hak_os_page_size());
    if (page == NULL) return NULL;
    page->older = pages;
    pages = page;
  }
  struct number *number = &pages->numbers[pages->used++];
  struct hak_line line;
  hak_line_begin(&line);
  hak_line_number(&line, (int64_t)value);
  number->value = value;
  hak_bytes_copy(number->text, line.text, line.length);
  number->text[line.length] = '\0';
  return number->text;
}

static const char *value_text(uint32_t id, uint64_t value) HAK_REQUIRES(hak_gate_role) {
  return hak_gates[id].choices != NULL ? hak_gates[id].choices[value] : number_text(value);
}

// ---- Current values -----------------------------------------------------------------------------

static struct {
  struct hak_gate_values values HAK_GUARDED_BY(hak_gate_role);
  HAK_ATOMIC(const char *)
  text[HAK_GATE_COUNT];                        // NULL until the settings are resolved. Release: the text is complete.
  HAK_ATOMIC(uint8_t) origin[HAK_GATE_COUNT];  // relaxed: stands for itself
} now;

static void tell(uint32_t id, const char *text) HAK_REQUIRES(hak_gate_role) {
  // Relaxed: the origin stands for itself. Release: pairs with hak_gate_get.
  atomic_store_explicit(&now.origin[id], now.values.origin[id], memory_order_relaxed);
  atomic_store_explicit(&now.text[id], text, memory_order_release);
}

void hak_gate_now_init(const struct hak_gate_values *values) {
  hak_bytes_copy(&now.values, values, sizeof now.values);
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) tell(id, value_text(id, values->value[id]));
}

const char *hak_gate_get(const char *name, const char **origin) {
  const uint32_t id = hak_gate_named(name);
  if (id == HAK_GATE_COUNT) return NULL;
  // Acquire: pairs with the store of the text, whose bytes the caller reads. Relaxed: the origin stands for itself.
  const char *text = atomic_load_explicit(&now.text[id], memory_order_acquire);
  if (text != NULL && origin != NULL) {
    *origin = hak_gate_origin_name((enum hak_gate_origin)atomic_load_explicit(&now.origin[id], memory_order_relaxed));
  }
  return text;
}

// ---- Changes ------------------------------------------------------------------------------------

// Sets the fields of hak_config that may change. Writes only those that differ. Relaxed: each is read by itself, under
// no lock (HAK_SETTING).
// NOLINTNEXTLINE(readability-function-cognitive-complexity): the same line for each row of the table.
static void publish(const struct hak_gate_values *before) HAK_REQUIRES(hak_gate_role) {
  struct hak_config last;
  struct hak_config next;
  hak_gate_fill_config(before, &last);
  hak_gate_fill_config(&now.values, &next);
#define PUBLISH(id, field)                                                              \
  if (hak_gates[HAK_GATE_##id].change == HAK_GATE_ANY_TIME && next.field != last.field) \
    __atomic_store_n(&hak_config.field, next.field, __ATOMIC_RELAXED);
#define HAK_GATE_NUMBER(id, field, ...) PUBLISH(id, field)
#define HAK_GATE_CHOICE(id, field, ...) PUBLISH(id, field)
#include "allocator/policy/gate_table.inc"
#undef PUBLISH
}

// Gives the new preset's value to each setting that may change and was not given explicitly.
static bool follows(uint32_t id) HAK_REQUIRES(hak_gate_role) {
  return hak_gates[id].change == HAK_GATE_ANY_TIME && now.values.origin[id] < HAK_GATE_FROM_BUILD;
}

int hak_gate_set(const char *name, const char *text) {
  uint64_t value;
  const uint32_t changed = hak_gate_named(name);
  if (changed == HAK_GATE_COUNT || !hak_gate_parse(&hak_gates[changed], text, &value)) return EINVAL;
  if (HAK_FAST || hak_gates[changed].change != HAK_GATE_ANY_TIME) return EPERM;
  if (changed == HAK_GATE_MEMORY_LIMIT && value != 0 && value <= hak_gate_limit_floor()) return EINVAL;
  struct hak_gate_values next;
  hak_bytes_copy(&next, &now.values, sizeof next);
  next.value[changed] = value;
  next.origin[changed] = HAK_GATE_FROM_CALL;
  for (uint32_t id = 0; changed == HAK_GATE_PROFILE && id < HAK_GATE_COUNT; id++) {
    if (id != changed && follows(id)) hak_gate_preset(id, value, &next);
  }
  // All texts come first, because nothing after them can fail.
  const char *texts[HAK_GATE_COUNT];
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
    if ((texts[id] = value_text(id, next.value[id])) == NULL) return ENOMEM;
  }
  struct hak_gate_values before;
  hak_bytes_copy(&before, &now.values, sizeof before);
  hak_bytes_copy(&now.values, &next, sizeof next);
  publish(&before);
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) tell(id, texts[id]);
  return 0;
}
