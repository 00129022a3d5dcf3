// SPDX-License-Identifier: Apache-2.0
//
// hak_stats_prometheus: the text format of Prometheus, read strictly, with the numbers of hak_stats and of
// hak_stats_json. This program's own malloc is not hakmem's.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "allocator/test/probe.h"
#include "allocator/test/strict_json.h"

namespace {

using hak_test::Json;
using hak_test::JsonReader;

std::string Text(size_t (*write)(char *buffer, size_t size)) {
  std::vector<char> buffer(HAK_STATS_TEXT_BYTES, '?');
  const size_t length = write(buffer.data(), buffer.size());
  EXPECT_LT(length, buffer.size());
  EXPECT_EQ(strlen(buffer.data()), length);
  return buffer.data();
}

struct Family {
  std::string type;
  std::map<std::string, std::string> samples;  // the label with its value, or "" -> value
};
using Families = std::map<std::string, Family>;

// What is wrong with the text; "" for nothing. Each family once, as HELP, TYPE and its samples in this order, which is
// stricter than the format.
std::string Parse(const std::string &text, Families *families) {
  static const std::regex help("# HELP (hakmem_[a-z0-9_]+) [A-Z][ -~]*\\.");
  static const std::regex type("# TYPE (hakmem_[a-z0-9_]+) (gauge|counter)");
  static const std::regex sample("(hakmem_[a-z0-9_]+)(\\{[a-z_]+=\"[^\"\\\\]+\"\\})? ([0-9]+(\\.[0-9]{6})?)");
  if (text.empty() || text.back() != '\n') return "the last line does not end";
  std::istringstream lines(text);
  std::string line, helped, family;
  std::smatch match;
  while (std::getline(lines, line)) {
    if (std::regex_match(line, match, help)) {
      if (!helped.empty()) return "HELP without TYPE: " + helped;
      helped = match[1];
      family.clear();
      if (families->count(helped) != 0) return "a second " + helped;
    } else if (std::regex_match(line, match, type)) {
      if (match[1] != helped) return "TYPE not below its HELP: " + line;
      family.swap(helped);
      const bool is_total = family.size() > 6 && family.substr(family.size() - 6) == "_total";
      if ((match[2] == "counter") != is_total) return "a counter ends in _total, and nothing else does: " + line;
      (*families)[family].type = match[2];
    } else if (std::regex_match(line, match, sample)) {
      if (match[1] != family) return "not in its family: " + line;
      if (!(*families)[family].samples.emplace(match[2], match[3]).second) return "twice: " + line;
    } else {
      return "no HELP, TYPE or sample: " + line;
    }
  }
  return helped;
}

Families Read() {
  Families families;
  EXPECT_EQ(Parse(Text(hak_stats_prometheus), &families), "");
  return families;
}

// The only sample of a family, which has no label.
std::string Only(const Families &families, const std::string &name) {
  const auto at = families.find("hakmem_" + name);
  if (at == families.end() || at->second.samples.size() != 1) return "no " + name;
  return at->second.samples.begin()->first.empty() ? at->second.samples.begin()->second : "a label";
}

TEST(StatsPrometheus, TheReaderIsStrict) {
  const std::string good = "# HELP hakmem_a It.\n# TYPE hakmem_a gauge\nhakmem_a 1\n";
  Families families;
  EXPECT_EQ(Parse(good, &families), "");
  for (const char *bad : {"", "hakmem_a 1\n", "# TYPE hakmem_a gauge\nhakmem_a 1\n", "# HELP hakmem_a It.\n",
                          "# HELP hakmem_a It.\n# TYPE hakmem_b gauge\n", "# HELP hakmem_a It.\n# TYPE hakmem_a gauge",
                          "# HELP hakmem_a It.\n# TYPE hakmem_a gauge\nhakmem_a -1\n",
                          "# HELP hakmem_a It.\n# TYPE hakmem_a gauge\nhakmem_a 1\nhakmem_a 1\n",
                          "# HELP hakmem_a It.\n# TYPE hakmem_a counter\n", "# HELP hakmem_a\n# TYPE hakmem_a gauge\n",
                          "# HELP hakmem_a_total It.\n# TYPE hakmem_a_total gauge\n", "\n"}) {
    families.clear();
    EXPECT_NE(Parse(bad, &families), "") << bad;
  }
  families.clear();
  EXPECT_NE(Parse(good + good, &families), "");
}

// The fields whose metrics have other names.
const std::map<std::string, std::string> kNames = {
    {"peak_mapped_bytes", "mapped_max_bytes"},
    {"deadline_bytes", "deadline_released_bytes_total"},
    {"lean_bytes", "lean_released_bytes_total"},
    {"longest_lock_wait_us", "longest_lock_wait_seconds"},
};

TEST(StatsPrometheus, HasEveryNumberOfTheProcess) {
  std::vector<void *> blocks;
  for (size_t size = 10; size < size_t{100} << 20; size += size / 7 + 1) blocks.push_back(hak_malloc(size));
  const Families families = Read();
  const Json json = JsonReader(Text(hak_stats_json)).Read();
  std::set<std::string> seen;
  for (const auto &[field, value] : json["process"].object) {
    std::string name = kNames.count(field) != 0 ? kNames.at(field) : field;
    if (families.count("hakmem_" + name) == 0) name += "_total";
    seen.insert("hakmem_" + name);
    if (field == "resident_bytes") continue;  // It may have changed.
    const uint64_t number = value.Number();
    if (field == "longest_lock_wait_us") {
      EXPECT_NEAR(std::stod(Only(families, name)), static_cast<double>(number) / 1e6, 1e-9);
    } else {
      EXPECT_EQ(Only(families, name), std::to_string(number)) << field;
    }
  }
  EXPECT_GT(std::stoull(Only(families, "resident_bytes")), 0u);
  EXPECT_EQ(families.at("hakmem_build_info").samples,
            (std::map<std::string, std::string>{{"{version=\"" + std::string(hak_version()) + "\"}", "1"}}));
  // Nothing else than these, the limits, and the classes and ranges of the next test.
  for (const char *other : {"build_info", "memory_limit_bytes", "group_limit_bytes", "purge_limit_bytes", "class_slabs",
                            "class_live_blocks", "class_cached_blocks", "class_remote_blocks", "class_free_blocks",
                            "class_fresh_blocks", "large_range_blocks", "large_range_bytes"}) {
    EXPECT_TRUE(seen.insert("hakmem_" + std::string(other)).second) << other;
  }
  std::set<std::string> all;
  for (const auto &[name, family] : families) all.insert(name);
  EXPECT_EQ(all, seen);
  for (void *p : blocks) hak_free(p);
}

TEST(StatsPrometheus, HasEveryClassInUseAndEveryRange) {
  std::vector<void *> blocks;
  for (size_t size = 10; size < size_t{300} << 20; size += size / 7 + 1) blocks.push_back(hak_malloc(size));
  for (size_t i = 0; i < blocks.size(); i += 3) {
    hak_free(blocks[i]);
    blocks[i] = nullptr;
  }
  const Json json = JsonReader(Text(hak_stats_json)).Read();
  const Families families = Read();
  for (const char *field : {"slabs", "live_blocks", "cached_blocks", "remote_blocks", "free_blocks", "fresh_blocks"}) {
    std::map<std::string, std::string> expected;
    for (const Json &of : json["classes"].array) {
      if (of["slabs"].Number() == 0) continue;
      expected["{block_bytes=\"" + std::to_string(of["block_bytes"].Number()) + "\"}"] =
          std::to_string(of[field].Number());
    }
    EXPECT_GT(expected.size(), 10u);
    EXPECT_EQ(families.at(std::string("hakmem_class_") + field).samples, expected) << field;
  }
  for (const char *field : {"blocks", "bytes"}) {
    std::map<std::string, std::string> expected;
    for (const Json &of : json["large"].array) {
      const Json &end = of["up_to_bytes"];
      const std::string label = end.kind == Json::kNull ? "+Inf" : std::to_string(end.Number());
      expected["{up_to=\"" + label + "\"}"] = std::to_string(of[field].Number());
    }
    EXPECT_EQ(expected.size(), 9u);
    EXPECT_EQ(families.at(std::string("hakmem_large_range_") + field).samples, expected) << field;
  }
  for (void *p : blocks) hak_free(p);
}

TEST(StatsPrometheus, Limits) {
  const Families before = Read();
  EXPECT_EQ(before.at("hakmem_memory_limit_bytes").samples.size(), 0u);
  if (hak_config_set("HAKMEM_MEMORY_LIMIT_MB", "1024") != 0) {
    EXPECT_TRUE(hak_test::IsFastBuild());
    return;
  }
  const Families now = Read();
  EXPECT_EQ(Only(now, "memory_limit_bytes"), std::to_string(1024 * 1024 * 1024));
  EXPECT_LE(std::stoull(Only(now, "purge_limit_bytes")), 896u * 1024 * 1024);
  EXPECT_EQ(hak_config_set("HAKMEM_MEMORY_LIMIT_MB", "0"), 0);
}

TEST(StatsPrometheus, TheBufferMayBeTooSmall) {
  const std::string whole = Text(hak_stats_prometheus);
  std::vector<char> buffer(101 + 8, '?');
  EXPECT_GT(hak_stats_prometheus(buffer.data(), 101), whole.size() / 2);
  EXPECT_EQ(std::string(buffer.data(), 100), whole.substr(0, 100));
  EXPECT_EQ(buffer[100], '\0');
  EXPECT_EQ(std::string(&buffer[101], 8), "????????");
  EXPECT_GT(hak_stats_prometheus(nullptr, 0), whole.size() / 2);
}

// With samples of all classes, and every number as long as it can be.
TEST(StatsPrometheus, TheLongestTextFits) {
  size_t longest = 0;
  for (const auto &[name, family] : Read()) {
    const size_t line = name.size() + strlen("{block_bytes=\"32768\"} 18446744073709551615\n");
    const size_t lines = name.find("_class_") != std::string::npos
                             ? JsonReader(Text(hak_stats_json)).Read()["classes"].array.size()
                             : std::max<size_t>(family.samples.size(), 1);
    longest += 2 * (name.size() + strlen("# HELP   ")) + 80 + line * lines;
  }
  EXPECT_LT(longest, size_t{HAK_STATS_TEXT_BYTES});
}

}  // namespace
