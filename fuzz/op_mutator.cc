// SPDX-License-Identifier: Apache-2.0
#include "fuzz/op_mutator.h"

#include <string.h>

#include <algorithm>
#include <array>
#include <vector>

#include "allocator/test/test_random.h"

namespace hak_fuzz {
namespace {

using Record = std::array<uint8_t, kRecord>;
using Records = std::vector<Record>;
using hak_test::Random;

struct Range {
  size_t begin;
  size_t end;
};

Records Parse(const uint8_t *data, size_t size) {
  Records records(size / kRecord);
  if (!records.empty()) memcpy(records.data(), data, records.size() * kRecord);
  return records;
}

size_t Store(const Records &records, uint8_t *out, size_t max_size) {
  const size_t count = std::min(records.size(), max_size / kRecord);
  if (count > 0) memcpy(out, records.data(), count * kRecord);
  return count * kRecord;
}

Record RandomRecord(Random *random) {
  Record record;
  const uint64_t bits = random->Next();
  static_assert(sizeof bits == kRecord, "one number fills a record");
  memcpy(record.data(), &bits, kRecord);
  return record;
}

// A range of at least one record, mostly a short one. `records` is not empty.
Range Pick(const Records &records, Random *random) {
  const size_t begin = random->Index(records.size());
  const size_t most = records.size() - begin;
  const size_t length = 1 + random->Index(random->OneIn(4) ? most : std::min<size_t>(most, 8));
  return {begin, begin + length};
}

Records Copy(const Records &records, Range range) {
  return Records(records.begin() + static_cast<ptrdiff_t>(range.begin),
                 records.begin() + static_cast<ptrdiff_t>(range.end));
}

void Insert(Records *records, size_t at, const Records &piece) {
  records->insert(records->begin() + static_cast<ptrdiff_t>(at), piece.begin(), piece.end());
}

void Erase(Records *records, Range range) {
  records->erase(records->begin() + static_cast<ptrdiff_t>(range.begin),
                 records->begin() + static_cast<ptrdiff_t>(range.end));
}

void MutateOnce(Records *records, size_t max_records, Random *random, ByteMutator mutate_bytes) {
  if (records->empty()) {
    records->push_back(RandomRecord(random));
    return;
  }
  const Range range = Pick(*records, random);
  switch (random->Below(10)) {
    case 0:  // copy a range
      Insert(records, random->Index(records->size() + 1), Copy(*records, range));
      break;
    case 1:  // remove a range
      if (records->size() > range.end - range.begin) Erase(records, range);
      break;
    case 2: {  // move a range
      const Records piece = Copy(*records, range);
      Erase(records, range);
      Insert(records, random->Index(records->size() + 1), piece);
      break;
    }
    case 3:  // insert new records
      for (size_t i = 1 + random->Index(4); i > 0; --i) {
        Insert(records, random->Index(records->size() + 1), {RandomRecord(random)});
      }
      break;
    case 4:  // reverse a range
      std::reverse(records->begin() + static_cast<ptrdiff_t>(range.begin),
                   records->begin() + static_cast<ptrdiff_t>(range.end));
      break;
    case 5: {  // give one field of a range the same value: one size, one slot
      const size_t field = random->Index(kRecord);
      const uint8_t value = (*records)[random->Index(records->size())][field];
      for (size_t i = range.begin; i < range.end; ++i) (*records)[i][field] = value;
      break;
    }
    case 6: {  // make one field of a range count up
      const size_t field = random->Index(kRecord);
      for (size_t i = range.begin; i < range.end; ++i) {
        (*records)[i][field] = static_cast<uint8_t>((*records)[range.begin][field] + (i - range.begin));
      }
      break;
    }
    case 7: {  // add or subtract one from a field
      uint8_t &byte = (*records)[range.begin][random->Index(kRecord)];
      byte = static_cast<uint8_t>(random->OneIn(2) ? byte + 1 : byte - 1);
      break;
    }
    case 8:  // give a field a new value
      (*records)[range.begin][random->Index(kRecord)] = static_cast<uint8_t>(random->Next());
      break;
    default: {  // the engine's mutation, which knows values that the program compares with
      Record &record = (*records)[range.begin];
      Record changed = record;
      const size_t size = mutate_bytes(changed.data(), kRecord, kRecord);
      std::copy_n(changed.begin(), std::min(size, kRecord), record.begin());
      break;
    }
  }
  if (records->size() > max_records) records->resize(max_records);
}

// Mostly one small change; several together can reach what no single one does.
void MutateSome(Records *records, size_t max_records, Random *random, ByteMutator mutate_bytes) {
  for (size_t times = random->OneIn(3) ? 1 + random->Index(8) : 1; times > 0; --times) {
    MutateOnce(records, max_records, random, mutate_bytes);
  }
}

// In a short input many of these mutations change nothing, and running the same input again is a waste.
void ChangeAField(Records *records, Random *random) {
  (*records)[random->Index(records->size())][random->Index(kRecord)] ^= static_cast<uint8_t>(1 + random->Index(255));
}

}  // namespace

size_t MutateRecords(uint8_t *data, size_t size, size_t max_size, uint64_t seed, ByteMutator mutate_bytes) {
  Random random(seed);
  Records records = Parse(data, std::min(size, max_size));
  const Records before = records;
  const size_t max_records = max_size / kRecord;
  if (max_records == 0) return 0;
  MutateSome(&records, max_records, &random, mutate_bytes);
  if (records == before) ChangeAField(&records, &random);
  return Store(records, data, max_size);
}

size_t CrossRecords(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size, uint8_t *out, size_t max_size,
                    uint64_t seed) {
  Random random(seed);
  Records first = Parse(a, a_size);
  const Records parent = first;
  const Records second = Parse(b, b_size);
  if (second.empty()) return Store(first, out, max_size);
  if (first.empty()) return Store(second, out, max_size);
  const Range range = Pick(second, &random);
  switch (random.Below(3)) {
    case 0:  // the beginning of one and the end of the other
      first.resize(1 + random.Index(first.size()));
      Insert(&first, first.size(), Copy(second, {range.begin, second.size()}));
      break;
    case 1:  // a range of one in the middle of the other
      Insert(&first, random.Index(first.size() + 1), Copy(second, range));
      break;
    default:  // both interleaved
      for (size_t i = range.begin, at = random.Index(first.size() + 1); i < range.end; ++i) {
        Insert(&first, at, {second[i]});
        at = std::min(at + 1 + random.Index(2), first.size());
      }
      break;
  }
  if (first.size() > max_size / kRecord) first.resize(max_size / kRecord);
  if (!first.empty() && (first == parent || first == second)) ChangeAField(&first, &random);
  return Store(first, out, max_size);
}

}  // namespace hak_fuzz
