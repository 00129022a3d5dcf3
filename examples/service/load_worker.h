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

// A `share` of all values has `from` to `to` bytes, uniformly distributed.
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
  uint64_t requests = 0;  // measured requests of all connections together; 0: limited by time
  uint64_t seed = 1;
};

// The data that the connections share.
struct LoadState {
  std::string content;                  // every value is a piece of it
  std::atomic<uint64_t> requests = 0;   // measured requests that have begun
  std::atomic<bool> measuring = false;  // the warm-up is over
  std::atomic<bool> ended = false;
};

// Sends requests until state->ended or until the plan's number is reached, and adds its results to `*report`, which
// belongs to this connection.
void RunConnection(const LoadPlan &plan, uint64_t number, LoadState *state, LoadReport *report);

// Puts every key, or deletes every key, one after the other. A wrong answer counts in `*report`.
void EachKey(const LoadPlan &plan, const std::string &content, bool put, LoadReport *report);

// The content from which the values of all keys are cut.
std::string MakeContent(const LoadPlan &plan);

}  // namespace kv

#endif  // KV_SERVICE_LOAD_WORKER_H_
