// SPDX-License-Identifier: Apache-2.0
//
// The low-water mark of free memory.
#include "allocator/policy/low_water.h"

static uint64_t lesser(uint64_t a, uint64_t b) { return a < b ? a : b; }

// Ends the part of the span that is under way.
static void next_part(struct hak_low_water *water, uint64_t bytes) {
  water->least[water->part] = water->least_now;
  water->part = (water->part + 1) % HAK_LOW_WATER_PARTS;
  water->least_now = bytes;
}

void hak_low_water_note(struct hak_low_water *water, uint64_t now_bytes, uint64_t now_ms, uint64_t span_ms) {
  const uint64_t step = span_ms / HAK_LOW_WATER_PARTS + 1;
  if (now_ms < water->since_ms) water->since_ms = now_ms;  // The clock went back: the part starts again.
  uint64_t parts = (now_ms - water->since_ms) / step;
  water->since_ms += parts * step;
  // The amount has not changed since the last call, so each part that has passed since then has it as its least.
  const uint64_t before = water->now_bytes;
  if (parts > HAK_LOW_WATER_PARTS) parts = HAK_LOW_WATER_PARTS + 1;
  for (; parts > 0; parts--) next_part(water, before);
  water->now_bytes = now_bytes;
  water->least_now = lesser(water->least_now, now_bytes);
}

void hak_low_water_dip(struct hak_low_water *water, uint64_t now_bytes) {
  water->now_bytes = now_bytes;
  water->least_now = lesser(water->least_now, now_bytes);
}

uint64_t hak_low_water_due(const struct hak_low_water *water) {
  uint64_t due = water->least_now;
  for (uint32_t i = 0; i < HAK_LOW_WATER_PARTS; i++) due = lesser(due, water->least[i]);
  return due;
}

void hak_low_water_took(struct hak_low_water *water, uint64_t bytes) {
  for (uint32_t i = 0; i < HAK_LOW_WATER_PARTS; i++) water->least[i] -= lesser(bytes, water->least[i]);
  water->least_now -= lesser(bytes, water->least_now);
  water->now_bytes -= lesser(bytes, water->now_bytes);
}
