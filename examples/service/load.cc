// SPDX-License-Identifier: Apache-2.0
//
// Sends requests to a server, checks every answer, and reports how long they took. Exits 0 if all answers were right, 1
// if one was wrong, 2 for a mistake on the command line.
#include <httplib.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "command_line.h"
#include "load_report.h"
#include "load_worker.h"

namespace {

constexpr uint64_t kLargestValue = uint64_t{1} << 30;

// Parses "FROM-TO:SHARE,..." into ranges. False: it has another form.
bool ParseSizes(const std::string &text, std::vector<kv::SizeRange> *sizes) {
  size_t at = 0;
  while (at < text.size()) {
    const size_t comma = std::min(text.find(',', at), text.size());
    const std::string item = text.substr(at, comma - at);
    unsigned long long from = 0;
    unsigned long long to = 0;
    unsigned long long share = 0;
    int length = 0;
    const bool good = sscanf(item.c_str(), "%19llu-%19llu:%9llu%n", &from, &to, &share, &length) == 3 &&
                      static_cast<size_t>(length) == item.size() && item.find_first_of("+- ") == item.find('-') &&
                      item.find_last_of("+- ") == item.find('-');
    if (!good || from > to || to > kLargestValue || share == 0) return false;
    sizes->push_back({from, to, share});
    at = comma + 1;
  }
  return !sizes->empty() && text.back() != ',';
}

// A value of the server's /metrics; 0 if it cannot be read.
double ServerValue(const kv::LoadPlan &plan, const std::string &name) {
  httplib::Client client(plan.host, static_cast<int>(plan.port));
  const auto result = client.Get("/metrics");
  if (!result || result->status != 200) return 0;
  const size_t at = result->body.find("\n" + name + " ");
  return at == std::string::npos ? 0 : strtod(result->body.c_str() + at + name.size() + 2, nullptr);
}

uint64_t ServerRss(const kv::LoadPlan &plan) {
  return static_cast<uint64_t>(ServerValue(plan, "process_resident_memory_bytes"));
}

double ServerSeconds(const kv::LoadPlan &plan) { return ServerValue(plan, "process_cpu_seconds_total"); }

using Clock = std::chrono::steady_clock;

void Sleep(uint64_t milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); }

// Puts every key once if the plan says so, and runs all connections: a warm-up, then either the plan's number of
// requests or its time.
kv::LoadReport Run(const kv::LoadPlan &plan, bool fill, uint64_t warmup_ms, uint64_t milliseconds) {
  kv::LoadReport sum;
  kv::LoadState state;
  state.content = kv::MakeContent(plan);
  if (fill) kv::EachKey(plan, state.content, true, &sum);
  std::vector<std::unique_ptr<kv::LoadReport>> reports;
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < plan.connections; i++) {
    reports.push_back(std::make_unique<kv::LoadReport>());
    threads.emplace_back(kv::RunConnection, std::cref(plan), i, &state, reports.back().get());
  }
  Sleep(warmup_ms);
  sum.server_seconds = ServerSeconds(plan);
  const Clock::time_point begin = Clock::now();
  state.measuring.store(true);
  if (plan.requests == 0) {
    Sleep(milliseconds);
    state.ended.store(true);
  }
  for (std::thread &thread : threads) thread.join();
  sum.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  sum.server_seconds = ServerSeconds(plan) - sum.server_seconds;
  for (const auto &report : reports) {
    sum.latency.Merge(report->latency);
    sum.errors += report->errors;
    if (sum.first_error.empty()) sum.first_error = report->first_error;
  }
  return sum;
}

}  // namespace

int main(int argc, char **argv) {
  kv::LoadPlan plan;
  std::string sizes = "16-256:50,257-4096:40,4097-65536:10";
  std::string format = "text";
  uint64_t milliseconds = 10000;
  uint64_t warmup_ms = 1000;
  uint64_t settle_s = 3;
  uint64_t clear = 0;
  uint64_t fill = 0;
  kv::ParseCommandLine(
      argc, argv, "Loads a server of this folder with requests and tells their latency and the server's memory.",
      {{"host", "the server's address", nullptr, 0, 0, &plan.host},
       {"port", "the server's port", &plan.port, 1, 65535, nullptr},
       {"connections", "connections, each a thread; a server needs as many threads", &plan.connections, 1, 1000,
        nullptr},
       {"ms", "how long to measure, in milliseconds", &milliseconds, 1, 86400000, nullptr},
       {"requests", "measure so many requests instead, unless 0", &plan.requests, 0, uint64_t{1} << 40, nullptr},
       {"fill", "1: first of all put every key", &fill, 0, 1, nullptr},
       {"warmup-ms", "how long to run before", &warmup_ms, 0, 3600000, nullptr},
       {"settle-s", "after how many seconds of rest to ask for memory again", &settle_s, 0, 3600, nullptr},
       {"clear", "1: delete all keys before that", &clear, 0, 1, nullptr},
       {"keys", "different keys", &plan.keys, 1, uint64_t{1} << 32, nullptr},
       {"get-percent", "of all requests, GETs", &plan.get_percent, 0, 100, nullptr},
       {"delete-percent", "of all requests, DELETEs; the rest are PUTs", &plan.delete_percent, 0, 100, nullptr},
       {"sizes", "sizes of values, FROM-TO:SHARE,...", nullptr, 0, 0, &sizes},
       {"seed", "of the random numbers", &plan.seed, 0, uint64_t{1} << 32, nullptr},
       {"format", "text or json", nullptr, 0, 0, &format}});
  if (plan.get_percent + plan.delete_percent > 100) {
    kv::BadCommandLine("--get-percent and --delete-percent are over 100 together");
  }
  if (!ParseSizes(sizes, &plan.sizes)) {
    kv::BadCommandLine("--sizes takes FROM-TO:SHARE,... with sizes up to " + std::to_string(kLargestValue) +
                       ", not \"" + sizes + "\"");
  }
  if (format != "text" && format != "json") kv::BadCommandLine("--format is text or json, not \"" + format + "\"");
  signal(SIGPIPE, SIG_IGN);

  if (ServerRss(plan) == 0) {
    fprintf(stderr, "no server answers GET http://%s:%llu/metrics\n", plan.host.c_str(),
            static_cast<unsigned long long>(plan.port));
    return 1;
  }
  kv::LoadReport report = Run(plan, fill != 0, warmup_ms, milliseconds);
  report.rss_end = ServerRss(plan);
  if (clear != 0) {
    report.cleared = true;
    kv::EachKey(plan, "", false, &report);
  }
  Sleep(settle_s * 1000);
  report.settle_seconds = settle_s;
  report.rss_settled = ServerRss(plan);
  // Not below the resident memory that was read, because the kernel's own peak may lag behind.
  report.rss_peak = std::max({static_cast<uint64_t>(ServerValue(plan, "process_resident_memory_max_bytes")),
                              report.rss_end, report.rss_settled});
  fputs((format == "json" ? kv::ReportJson(report) : kv::ReportText(report)).c_str(), stdout);
  if (report.errors != 0) fprintf(stderr, "%s\n", report.first_error.c_str());
  return report.errors == 0 && report.latency.count() > 0 ? 0 : 1;
}
