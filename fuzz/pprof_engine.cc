// SPDX-License-Identifier: Apache-2.0
#include "fuzz/pprof_engine.h"

#include <errno.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fuzz/fuzz_target.h"
#include "fuzz/record.h"

namespace hak_fuzz {
namespace {

constexpr size_t kStepsMax = 96;
// What the sink says when it fails.
constexpr int kSinkError = EDQUOT;

// ---- A plain reader of gzip: all that the writer may use of it -----------------------------------

class Inflater {
 public:
  explicit Inflater(const std::string &bytes) : bytes_(bytes) {}

  std::string Run() {
    Check(bytes_.size() >= 18 && bytes_.compare(0, 4, std::string("\x1f\x8b\x08\0", 4)) == 0, "no head of gzip");
    at_ = 10 * 8;
    for (bool last = false; !last;) {
      last = Bits(1) != 0;
      Check(Bits(2) == 1, "another kind of block");
      Block();
    }
    while (at_ % 8 != 0) Check(Bits(1) == 0, "bits at the end");
    Check(Bits(32) == Crc(), "the checksum is wrong");
    Check(Bits(32) == (out_.size() & UINT32_MAX), "the size is wrong");
    Check(at_ == bytes_.size() * 8, "something follows");
    return out_;
  }

 private:
  uint64_t Bits(uint32_t count) {
    uint64_t value = 0;
    for (uint32_t i = 0; i < count; ++i, ++at_) {
      Check(at_ < bytes_.size() * 8, "the stream is cut");
      value |= static_cast<uint64_t>(static_cast<uint8_t>(bytes_[at_ / 8]) >> (at_ % 8) & 1) << i;
    }
    return value;
  }
  uint32_t Symbol() {
    uint32_t code = 0;
    for (uint32_t length = 1;; ++length) {
      code = code << 1 | static_cast<uint32_t>(Bits(1));
      if (length == 7 && code <= 0x17) return code + 256;
      if (length == 8 && code >= 0x30 && code <= 0xBF) return code - 0x30;
      if (length == 8 && code >= 0xC0 && code <= 0xC7) return code - 0xC0 + 280;
      if (length == 9) return code - 0x190 + 144;
    }
  }
  void Block() {
    static const uint16_t lengths[] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                       31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const uint16_t distances[] = {1,    2,    3,    4,    5,    7,    9,    13,    17,    25,
                                         33,   49,   65,   97,   129,  193,  257,  385,   513,   769,
                                         1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
    for (uint32_t symbol; (symbol = Symbol()) != 256;) {
      if (symbol < 256) {
        out_ += static_cast<char>(symbol);
        continue;
      }
      Check(symbol <= 285, "no symbol");
      const uint32_t l = symbol - 257;
      const uint64_t length = lengths[l] + Bits(l < 8 || l == 28 ? 0 : l / 4 - 1);
      uint32_t code = 0;
      for (int i = 0; i < 5; ++i) code = code << 1 | static_cast<uint32_t>(Bits(1));
      Check(code < 30, "no distance");
      const uint64_t distance = distances[code] + Bits(code < 4 ? 0 : code / 2 - 1);
      Check(distance <= out_.size(), "a distance before the beginning");
      for (uint64_t i = 0; i < length; ++i) out_ += out_[out_.size() - distance];
    }
  }
  uint32_t Crc() const {
    uint32_t crc = UINT32_MAX;
    for (const char byte : out_) {
      crc ^= static_cast<uint8_t>(byte);
      for (int i = 0; i < 8; ++i) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xEDB88320U : 0);
    }
    return ~crc;
  }

  const std::string &bytes_;
  std::string out_;
  size_t at_ = 0;  // in bits
};

// ---- A plain reader of profile.proto --------------------------------------------------------------

uint64_t Number(const std::string &bytes, size_t *at) {
  uint64_t value = 0;
  for (uint32_t shift = 0;; shift += 7) {
    Check(*at < bytes.size() && shift < 64, "a number is cut, or too long");
    const auto byte = static_cast<uint8_t>(bytes[(*at)++]);
    value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
}

using Numbers = std::vector<uint64_t>;

struct Fields {
  std::vector<std::pair<uint64_t, uint64_t>> numbers;    // field, value
  std::vector<std::pair<uint64_t, std::string>> blocks;  // field, bytes

  explicit Fields(const std::string &bytes) {
    for (size_t at = 0; at < bytes.size();) {
      const uint64_t tag = Number(bytes, &at);
      const uint64_t value = Number(bytes, &at);
      if ((tag & 7) == 0) {
        numbers.emplace_back(tag >> 3, value);
        continue;
      }
      Check((tag & 7) == 2 && value <= bytes.size() - at, "a message is cut");
      blocks.emplace_back(tag >> 3, bytes.substr(at, value));
      at += value;
    }
  }
  Numbers Message() const {
    Numbers values;
    for (const auto &[field, value] : numbers) {
      Check(field == values.size() + 1, "the fields of a message");
      values.push_back(value);
    }
    return values;
  }
};

Numbers Packed(const std::string &bytes) {
  Numbers values;
  for (size_t at = 0; at < bytes.size();) values.push_back(Number(bytes, &at));
  return values;
}

// A stack as it is passed in: addresses of the calls, and values.
using Stack = std::pair<Numbers, Numbers>;
struct Range {
  uint64_t start, limit, offset;
  std::string file, build_id;
};

bool IsAscii(const std::string &text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; });
}

// ---- The input -------------------------------------------------------------------------------------

struct Sink {
  std::string bytes;
  size_t most = SIZE_MAX;
  bool has_failed = false;
};

int Receive(void *context, const void *bytes, size_t size) {
  auto *sink = static_cast<Sink *>(context);
  Check(!sink->has_failed, "the sink is called after it failed");
  sink->has_failed = sink->bytes.size() + size > sink->most;
  if (sink->has_failed) return kSinkError;
  sink->bytes.append(static_cast<const char *>(bytes), size);
  return 0;
}

class Input {
 public:
  Input(const PprofCalls &calls, const uint8_t *first) : calls_(calls), values_(1 + first[0] % HAK_PPROF_MOST_VALUES) {
    if (first[7] % 4 == 3) sink_.most = Pair(first + 1) % 4096;
    hak_pprof_type types[HAK_PPROF_MOST_VALUES];
    for (uint32_t i = 0; i < values_; ++i) types[i] = hak_pprof_heap_types[i % HAK_PPROF_HEAP_VALUES];
    hak_pprof_about about = {};
    about.types = types;
    about.values = static_cast<uint32_t>(values_);
    about.first = first[5] % about.values;
    calls_.begin(pprof_.get(), Receive, &sink_, &about);
  }

  void Step(const uint8_t *r) {
    switch (r[0] / 8 % 8) {
      case 0:
        AddMapping(r);
        return;
      case 1:
        AddComment(std::string(reinterpret_cast<const char *>(r + 1), 7));
        return;
      case 2:
        AddComment(std::string(Pair(r + 2) % 5000, static_cast<char>(r[1])));
        return;
      case 3:
      case 4:
        AddText(r);
        return;
      default:
        AddStack(r);
    }
  }

  void End() {
    const int error = calls_.end(pprof_.get());
    Check(error == (sink_.has_failed ? kSinkError : 0), "the error of the sink is lost");
    if (error == 0) Compare();
    CompareLists();
  }

 private:
  void AddMapping(const uint8_t *r) {
    // Above the last one, or reaching into it.
    const uint64_t start =
        (ranges_.empty() ? 4096 : ranges_.back().limit) + (r[3] % 8 == 0 ? -uint64_t{128} : Pair(r + 1) * 64U);
    const Range range = {start, start + r[3] * 4096U, Four(r + 4), "/file", r[4] % 2 != 0 ? "0123" : ""};
    const hak_mapping mapping = {range.start, range.limit, range.offset, range.file.c_str(), range.build_id.c_str()};
    calls_.map(pprof_.get(), &mapping);
    const bool is_above = ranges_.empty() || range.start >= ranges_.back().limit;
    if (range.start < range.limit && is_above) ranges_.push_back(range);
  }

  void AddComment(const std::string &bytes) {
    const std::string text = bytes.c_str();
    calls_.comment(pprof_.get(), text.c_str());
    comments_.push_back(text);
  }

  void AddStack(const uint8_t *r) {
    std::vector<void *> frames(r[1] + r[0] % 2 * 40U);
    const uint64_t first = Four(r + 2);
    Stack stack;
    for (size_t i = 0; i < frames.size(); ++i) {
      const uint64_t address = first + i * r[6] * (r[6] % 4 == 3 ? 0x10000000001U : 1);
      frames[i] = reinterpret_cast<void *>(address);
      if (address > 1 && stack.first.size() < HAK_PPROF_MOST_FRAMES) stack.first.push_back(address - 1);
    }
    std::vector<int64_t> values(values_);
    for (size_t i = 0; i < values_; ++i) {
      const uint64_t value = static_cast<uint64_t>(r[7]) << (r[6] + 9 * i) % 57;
      stack.second.push_back(r[7] % 8 == 1 ? ~value : value);
      values[i] = static_cast<int64_t>(stack.second.back());
    }
    calls_.add(pprof_.get(), frames.data(), static_cast<uint32_t>(frames.size()), values.data());
    stacks_.push_back(stack);
    ranges_at_.push_back(ranges_.size());
  }

  // Characters of a list of mappings: pieces of lines, or any bytes.
  void AddText(const uint8_t *r) {
    static const char *const pieces[] = {
        "1000-2000 ", "ff000-fffff ", "r-xp ",      "r--p ",  "0 ",
        "10 ",        "fe:01 ",       "12 ",        "/bin/a", "[vdso]",
        "\n",         "\n",           " (deleted)", "   ",    "1000-2000 r-xp 0 0:0 0 /whole\n",
        "x",          "-2000"};
    for (size_t i = 1; i < kRecord; ++i) {
      if (r[0] % 8 == 7) {
        list_ += static_cast<char>(r[i]);
      } else {
        list_ += pieces[r[i] % std::size(pieces)];
      }
    }
  }

  // The number of the mapping that holds the address, of those that were known; 0: none.
  uint64_t RangeOf(uint64_t address, size_t known) const {
    for (size_t i = 0; i < known; ++i) {
      if (ranges_[i].start <= address && address < ranges_[i].limit) return i + 1;
    }
    return 0;
  }

  void Compare() const {
    const Fields profile(Inflater(sink_.bytes).Run());
    std::vector<std::string> texts;
    for (const auto &[field, bytes] : profile.blocks) {
      if (field == 6) texts.push_back(bytes);
    }
    Check(!texts.empty() && texts[0].empty(), "the first text");
    const auto text = [&](uint64_t index) {
      Check(index < texts.size(), "a text that is not there");
      return texts[index];
    };
    std::map<uint64_t, Numbers> locations;
    size_t stack = 0;
    size_t range = 0;
    size_t types = 0;
    for (const auto &[field, bytes] : profile.blocks) {
      if (field == 1) {
        const Numbers type = Fields(bytes).Message();
        Check(type.size() == 2 && text(type[0]) == hak_pprof_heap_types[types % HAK_PPROF_HEAP_VALUES].type &&
                  text(type[1]) == hak_pprof_heap_types[types % HAK_PPROF_HEAP_VALUES].unit,
              "a type differs");
        ++types;
      } else if (field == 3) {
        const Numbers of = Fields(bytes).Message();
        Check(range < ranges_.size() && of.size() == 6, "a mapping more");
        const Range &expected = ranges_[range++];
        Check(of[0] == range && of[1] == expected.start && of[2] == expected.limit && of[3] == expected.offset &&
                  text(of[4]) == expected.file && text(of[5]) == expected.build_id,
              "a mapping differs");
      } else if (field == 4) {
        const Numbers of = Fields(bytes).Message();
        Check(of.size() == 3 && of[0] != 0 && locations.emplace(of[0], of).second, "an identity of two addresses");
      } else if (field == 2) {
        CompareStack(Fields(bytes), stack++, locations);
      }
    }
    Check(stack == stacks_.size() && range == ranges_.size() && types == values_, "something is missing");
    size_t comment = 0;
    for (const auto &[field, index] : profile.numbers) {
      if (field != 13) continue;
      const std::string got = text(index);
      // Behind ours may be what the writer itself has to say.
      if (comment < comments_.size()) {
        Check(got.size() == comments_[comment].size(), "a comment differs in its length");
        Check(!IsAscii(comments_[comment]) || got == comments_[comment], "a comment differs");
      }
      ++comment;
    }
    Check(comment >= comments_.size(), "a comment is missing");
  }

  void CompareStack(const Fields &sample, size_t index, const std::map<uint64_t, Numbers> &locations) const {
    Check(index < stacks_.size() && sample.blocks.size() == 2, "a stack more");
    const Stack &expected = stacks_[index];
    Check(Packed(sample.blocks[1].second) == expected.second, "a value differs");
    const Numbers places = Packed(sample.blocks[0].second);
    Check(places.size() == expected.first.size(), "another number of frames");
    for (size_t i = 0; i < places.size(); ++i) {
      const auto found = locations.find(places[i]);
      Check(found != locations.end(), "an address that is not there");
      Check(found->second[2] == expected.first[i], "an address differs");
      // The address may have been written before, when fewer mappings were known.
      const uint64_t now = RangeOf(expected.first[i], ranges_at_[index]);
      Check(found->second[1] == now || found->second[1] == 0, "the mapping of an address differs");
    }
  }

  // The list of mappings in one part, and in parts of many sizes.
  void CompareLists() const {
    const std::string whole = Listed(list_.size() + 1);
    for (const size_t part : {size_t{1}, size_t{3}, size_t{500}}) {
      Check(Listed(part) == whole, "the list depends on its parts");
    }
    std::string expected;
    const std::string line = "1000-2000 r-xp 0 0:0 0 /whole";
    // Lines that are right by themselves; others may be right too.
    size_t lines = 0;
    for (size_t begin = 0, end; (end = list_.find('\n', begin)) != std::string::npos; begin = end + 1) {
      if (list_.compare(begin, end - begin, line) == 0) ++lines;
    }
    size_t found = 0;
    for (size_t at = 0; (at = whole.find("4096 8192 0 /whole \n", at)) != std::string::npos; ++at) ++found;
    Check(found >= lines, "a line of the list is missing");
  }
  std::string Listed(size_t part) const {
    std::string found;
    const auto mappings = std::make_unique<hak_mappings>();
    hak_mappings_begin(
        mappings.get(),
        [](const hak_mapping *mapping, void *context) {
          Check(mapping->start < mapping->limit, "a mapping that is empty");
          *static_cast<std::string *>(context) +=
              std::to_string(mapping->start) + " " + std::to_string(mapping->limit) + " " +
              std::to_string(mapping->offset) + " " + mapping->file + " " + mapping->build_id + "\n";
        },
        &found, -1);
    for (size_t at = 0; at < list_.size(); at += part) {
      calls_.feed(mappings.get(), list_.data() + at, std::min(part, list_.size() - at));
    }
    return found;
  }

  const PprofCalls &calls_;
  const size_t values_;
  Sink sink_;
  std::unique_ptr<hak_pprof> pprof_ = std::make_unique<hak_pprof>();
  std::vector<Range> ranges_;
  std::vector<Stack> stacks_;
  std::vector<size_t> ranges_at_;  // by stack: how many ranges were known
  std::vector<std::string> comments_;
  std::string list_;
};

}  // namespace

void RunPprofInput(const PprofCalls &calls, const uint8_t *data, size_t size) {
  if (size < kRecord) return;
  Input input(calls, data);
  ForEachRecord(data, size, kStepsMax, [&](const uint8_t *record) { input.Step(record); });
  input.End();
}

}  // namespace hak_fuzz
