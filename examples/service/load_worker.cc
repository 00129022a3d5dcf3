// SPDX-License-Identifier: Apache-2.0
#include "load_worker.h"

#include <httplib.h>

#include <algorithm>
#include <cstring>
#include <thread>

namespace kv {
namespace {

constexpr uint64_t kOffsets = 4096;  // a value begins at one of this many places of the content

// splitmix64, by Sebastiano Vigna, public domain.
uint64_t Mix(uint64_t *state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15U);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

uint64_t LargestSize(const LoadPlan &plan) {
  uint64_t largest = 0;
  for (const SizeRange &range : plan.sizes) largest = std::max(largest, range.to);
  return largest;
}

uint64_t OffsetOf(uint64_t key) { return Mix(&key) % kOffsets; }

class Connection {
 public:
  Connection(const LoadPlan &plan, uint64_t number, const std::string &content)
      : plan_(plan),
        content_(content),
        random_(plan.seed * 1000003 + number),
        client_(plan.host, static_cast<int>(plan.port)) {
    client_.set_keep_alive(true);
    client_.set_tcp_nodelay(true);
    client_.set_connection_timeout(5);
    client_.set_read_timeout(30);
    client_.set_write_timeout(30);
    for (const SizeRange &range : plan.sizes) shares_ += range.share;
  }

  // Makes one request and measures its time. Returns what was wrong with the answer; empty: nothing.
  std::string Request(std::chrono::nanoseconds *duration) {
    const uint64_t key = PickKey();
    const uint64_t what = Mix(&random_) % 100;
    if (what < plan_.get_percent) return Get(key, duration);
    if (what < plan_.get_percent + plan_.delete_percent) return Delete(key, duration);
    return Put(key, duration);
  }

  std::string Get(uint64_t key, std::chrono::nanoseconds *duration) {
    const std::string path = PathOf(key);
    const auto begin = std::chrono::steady_clock::now();
    const auto result = client_.Get(path);
    *duration = std::chrono::steady_clock::now() - begin;
    if (!result) return "GET: " + to_string(result.error());
    if (result->status == 404) return "";
    if (result->status != 200) return "GET: status " + std::to_string(result->status);
    const std::string &body = result->body;
    const bool intact =
        body.size() <= content_.size() - kOffsets && memcmp(body.data(), ValueOf(key), body.size()) == 0;
    return intact ? "" : "GET: the value is not the one that was put";
  }

  std::string Delete(uint64_t key, std::chrono::nanoseconds *duration) {
    const std::string path = PathOf(key);
    const auto begin = std::chrono::steady_clock::now();
    const auto result = client_.Delete(path);
    *duration = std::chrono::steady_clock::now() - begin;
    if (!result) return "DELETE: " + to_string(result.error());
    return result->status == 204 || result->status == 404 ? "" : "DELETE: status " + std::to_string(result->status);
  }

  std::string Put(uint64_t key, std::chrono::nanoseconds *duration) {
    const std::string path = PathOf(key);
    const size_t size = PickSize();
    const auto begin = std::chrono::steady_clock::now();
    const auto result = client_.Put(path, ValueOf(key), size, "application/octet-stream");
    *duration = std::chrono::steady_clock::now() - begin;
    if (!result) return "PUT: " + to_string(result.error());
    return result->status == 201 || result->status == 204 ? "" : "PUT: status " + std::to_string(result->status);
  }

 private:
  static std::string PathOf(uint64_t key) { return "/kv/key-" + std::to_string(key); }

  // Every value of a key is a prefix of this.
  const char *ValueOf(uint64_t key) const { return content_.data() + OffsetOf(key); }

  // Four requests of five go to a fifth of the keys.
  uint64_t PickKey() {
    const uint64_t among = Mix(&random_) % 5 != 0 ? std::max<uint64_t>(plan_.keys / 5, 1) : plan_.keys;
    return Mix(&random_) % among;
  }

  size_t PickSize() {
    uint64_t pick = Mix(&random_) % shares_;
    for (const SizeRange &range : plan_.sizes) {
      if (pick < range.share) return static_cast<size_t>(range.from + Mix(&random_) % (range.to - range.from + 1));
      pick -= range.share;
    }
    return 0;
  }

  const LoadPlan &plan_;
  const std::string &content_;
  uint64_t random_;
  uint64_t shares_ = 0;
  httplib::Client client_;
};

}  // namespace

std::string MakeContent(const LoadPlan &plan) {
  std::string content(LargestSize(plan) + kOffsets, '\0');
  uint64_t random = 42;
  for (char &c : content) c = static_cast<char>(Mix(&random));
  return content;
}

void EachKey(const LoadPlan &plan, const std::string &content, bool put, LoadReport *report) {
  Connection connection(plan, plan.connections, content);
  std::chrono::nanoseconds duration = {};
  for (uint64_t key = 0; key < plan.keys; key++) {
    const std::string wrong = put ? connection.Put(key, &duration) : connection.Delete(key, &duration);
    if (wrong.empty()) continue;
    report->errors++;
    report->first_error = wrong;
    return;
  }
}

void RunConnection(const LoadPlan &plan, uint64_t number, LoadState *state, LoadReport *report) {
  Connection connection(plan, number, state->content);
  while (!state->ended.load(std::memory_order_relaxed)) {
    const bool measuring = state->measuring.load(std::memory_order_relaxed);
    if (measuring && plan.requests != 0 && state->requests.fetch_add(1, std::memory_order_relaxed) >= plan.requests) {
      return;
    }
    std::chrono::nanoseconds duration = {};
    const std::string wrong = connection.Request(&duration);
    if (!wrong.empty()) {
      report->errors++;
      report->first_error = report->first_error.empty() ? wrong : report->first_error;
      // If the server is gone, requests fail at once; do not spin.
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    } else if (measuring) {
      report->latency.Add(static_cast<uint64_t>(duration.count()));
    }
  }
}

}  // namespace kv
