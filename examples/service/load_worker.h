// SPDX-License-Identifier: Apache-2.0
//
// One connection's share of the load.
#ifndef KV_SERVICE_LOAD_WORKER_H_
#define KV_SERVICE_LOAD_WORKER_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "load_report.h"

namespace kv {

// Values of `from` to `to` bytes, any as likely, make up `share` of all.
struct SizeRange {
  uint64_t from;
  uint64_t to;
  uint64_t share;
};

struct LoadPlan {
  std::string host = "127.0.0.1";
  uint64_t port = 8080;
  uint64_t connections = 4;
  uint64_t keys = 20000;
  uint64_t get_percent = 70;
  uint64_t delete_percent = 5;  // the rest are PUTs
  std::vector<SizeRange> sizes;
  uint64_t requests = 0;  // measured requests of all connections together; 0: until the end of the time
  uint64_t seed = 1;
};

// What the connections share.
struct LoadState {
  std::string content;                  // every value is a piece of it
  std::atomic<uint64_t> requests = 0;   // measured requests begun
  std::atomic<bool> measuring = false;  // the warm-up is over
  std::atomic<bool> ended = false;
};

// Sends requests until state->ended or the plan's number of them, and adds what it saw to `*report`, which is its own.
void RunConnection(const LoadPlan &plan, uint64_t number, LoadState *state, LoadReport *report);

// Puts every key, or deletes every key, one after the other; an answer that is not right counts in `*report`.
void EachKey(const LoadPlan &plan, const std::string &content, bool put, LoadReport *report);

// What the values of all keys are cut from.
std::string MakeContent(const LoadPlan &plan);

}  // namespace kv

#endif  // KV_SERVICE_LOAD_WORKER_H_
