// SPDX-License-Identifier: Apache-2.0
#include "fuzz/trace_engine.h"

#include <algorithm>
#include <map>
#include <vector>

#include "fuzz/exact_room.h"
#include "fuzz/fuzz_target.h"

namespace hak_fuzz {
namespace {

struct Call {
  int op;
  uint64_t thread, time_us, alignment_bits, size;
  uint64_t freed, made;  // blocks; kNone: it frees, or makes, none
};
constexpr uint64_t kNone = UINT64_MAX;
constexpr uint8_t kHead[] = {'H', 'A', 'K', 'T', 'R', 'A', 'C', 'E', 1, 0};

struct Naive {
  bool good = false;
  uint64_t records = 0;  // that could be read
  std::vector<Call> calls;
  uint64_t threads = 1, blocks = 0, peak = 0;
};

// The numbers of a record; false: the file ends before, or a number is too large.
bool Numbers(const std::vector<uint8_t> &file, size_t *at, size_t count, std::vector<uint64_t> *numbers) {
  numbers->clear();
  for (size_t i = 0; i < count; ++i) {
    std::vector<uint8_t> digits;
    do {
      if (*at == file.size()) return false;
      digits.push_back(file[(*at)++]);
    } while (digits.back() >= 128);
    if (digits.size() > 9) return false;
    uint64_t value = 0;
    for (auto digit = digits.rbegin(); digit != digits.rend(); ++digit) value = value * 128 + *digit % 128;
    numbers->push_back(value);
  }
  return true;
}

class Reader {
 public:
  explicit Reader(const std::vector<uint8_t> &file) : file_(file) { Read(); }
  Naive found;

 private:
  void Read() {
    if (file_.size() < sizeof kHead || !std::equal(kHead, kHead + sizeof kHead, file_.begin())) return;
    size_t at = sizeof kHead;
    static const size_t kNumbers[] = {1, 1, 1, 1, 1, 2, 2, 1};
    std::vector<uint64_t> numbers;
    while (at < file_.size()) {
      const int op = file_[at++];
      if (op > TRACE_FREE || !Numbers(file_, &at, kNumbers[op], &numbers)) return;
      if (op == TRACE_END) {
        found.good = numbers[0] == found.records && at == file_.size() && !found.calls.empty();
        return;
      }
      if (!Record(op, numbers)) return;
      ++found.records;
    }
  }

  bool Record(int op, const std::vector<uint64_t> &numbers) {
    if (op == TRACE_THREAD) {
      thread_ = numbers[0];
      if (thread_ > found.threads || thread_ >= 1024) return false;
      found.threads = std::max(found.threads, thread_ + 1);
      return true;
    }
    if (op == TRACE_TIME) {
      time_us_ += numbers[0];
      return time_us_ <= UINT32_MAX;
    }
    Call call = {op, thread_, time_us_, op == TRACE_ALIGNED ? numbers[0] : 0, 0, kNone, kNone};
    if (call.alignment_bits > 30) return false;
    if (op == TRACE_REALLOC || op == TRACE_FREE) {
      if (numbers[0] >= found.blocks) return false;
      call.freed = found.blocks - 1 - numbers[0];
      const auto block = live_.find(call.freed);
      if (block == live_.end()) return false;
      bytes_ -= block->second;
      live_.erase(block);
    }
    if (op != TRACE_FREE) {
      call.size = numbers.back();
      if (call.size >= uint64_t{1} << 40) return false;
      call.made = found.blocks++;
      live_[call.made] = call.size;
      bytes_ += call.size;
      found.peak = std::max(found.peak, bytes_);
    }
    found.calls.push_back(call);
    return true;
  }

  const std::vector<uint8_t> &file_;
  uint64_t thread_ = 0, time_us_ = 0, bytes_ = 0;
  std::map<uint64_t, uint64_t> live_;  // sizes of blocks
};

std::vector<uint8_t> FileOf(const uint8_t *data, size_t size) {
  std::vector<uint8_t> file;
  if (size == 0) return file;
  file.reserve(sizeof kHead + size + 10);
  if ((data[0] & 1) != 0) {
    for (const uint8_t byte : kHead) file.push_back(byte);
  }
  for (size_t i = 1; i < size; ++i) file.push_back(data[i]);
  if ((data[0] & 2) != 0) {
    uint64_t records = Reader(file).found.records;
    file.push_back(TRACE_END);
    for (; records >= 128; records /= 128) file.push_back(static_cast<uint8_t>(records % 128 + 128));
    file.push_back(static_cast<uint8_t>(records));
  }
  return file;
}

void Compare(const Naive &naive, const struct trace &trace) {
  Check(trace.count == naive.calls.size(), "another number of calls");
  Check(trace.blocks == naive.blocks, "another number of blocks");
  Check(trace.threads == naive.threads, "another number of threads");
  Check(trace.peak_bytes == naive.peak, "another peak");
  for (size_t i = 0; i < naive.calls.size(); ++i) {
    const Call &wanted = naive.calls[i];
    const struct trace_call &call = trace.calls[i];
    Check(call.op == wanted.op, "another kind of call");
    Check(call.thread == wanted.thread, "another thread");
    Check(call.time_us == wanted.time_us, "another time");
    Check(call.size == wanted.size, "another size");
    Check(call.alignment_bits == wanted.alignment_bits, "another alignment");
    Check(wanted.freed == kNone || call.block == wanted.freed, "another block is freed");
    if (wanted.made == kNone) continue;
    Check(call.made == wanted.made, "another block is made");
    Check(trace.owners[wanted.made] == i, "another call made the block");
  }
}

}  // namespace

void RunTraceInput(const TraceCalls &calls, const uint8_t *data, size_t size) {
  const std::vector<uint8_t> file = FileOf(data, size);
  const Naive naive = Reader(file).found;
  // Exactly as large as needed, so that AddressSanitizer notices an access behind the end.
  static ExactRoom<unsigned char> bytes(4096);
  static ExactRoom<struct trace_call> room(4096);
  static ExactRoom<uint32_t> owners(4096);
  const size_t most = static_cast<size_t>(trace_most_calls(file.size()));
  struct trace trace = {};
  trace.calls = room.Of(most);
  trace.owners = owners.Of(most);
  unsigned char *const at = bytes.Of(file.size());
  std::copy(file.begin(), file.end(), at);
  const char *wrong = calls.read(at, file.size(), &trace);
  Check((wrong == nullptr) == naive.good, naive.good ? "a good trace is refused" : "a bad trace is accepted");
  if (naive.good) Compare(naive, trace);
}

}  // namespace hak_fuzz
