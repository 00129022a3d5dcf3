// SPDX-License-Identifier: Apache-2.0
#include "service.h"

#include <sys/socket.h>

#include <chrono>
#include <thread>
#include <utility>

#include "allocator.h"

namespace kv {
namespace {

using Clock = std::chrono::steady_clock;
using httplib::ContentReader;
using httplib::Request;
using httplib::Response;

// The longest time between the two moments of a profile of growth: it keeps one of the server's threads.
constexpr int kMostSeconds = 120;

constexpr const char *kText = "text/plain; charset=utf-8";

// When this thread's current request began. A thread serves one request at a time.
thread_local Clock::time_point t_begin;

void Answer(Response &response, int status, const std::string &text) {
  response.status = status;
  response.set_content(text + "\n", kText);
}

// A request without an announced body has none (RFC 9112, 6.3), but some versions of the library wait for one after PUT
// or DELETE. So this sets a length of 0. The request is a variable of the library that is not const.
void AnnounceNoBody(const Request &request) {
  if (request.method == "GET" || request.method == "HEAD") return;
  if (request.has_header("Content-Length") || request.has_header("Transfer-Encoding")) return;
  const_cast<Request &>(request).headers.emplace("Content-Length", "0");
}

// Reads the whole body, because a rest would be read as the next request, but keeps at most `most` bytes. False: it was
// longer, or incomplete.
bool ReadBody(const Request &request, const ContentReader &reader, size_t most, std::string *body) {
  bool fits = true;
  const auto take = [&](const char *data, size_t length) {
    fits = fits && length <= most - body->size();
    if (fits) body->append(data, length);
    return true;
  };
  // The type of a part has different names in different versions of the library.
  if (request.is_multipart_form_data()) {
    return reader([](const auto &) { return true; }, take) && fits;
  }
  return reader(take) && fits;
}

// For methods that may have a body and are not supported.
void Refuse(const Request &request, Response &response, const ContentReader &reader) {
  std::string nothing;
  ReadBody(request, reader, 0, &nothing);
  Answer(response, request.path.rfind("/kv/", 0) == 0 ? 405 : 404, "no such method or path");
}

}  // namespace

Service::Service(const ServiceLimits &limits) : limits_(limits), store_(limits.max_bytes) {
  const char *const kv = R"(/kv/([\s\S]*))";
  http_.Get(kv, [this](const Request &request, Response &response) { Get(request, response); });
  http_.Put(kv, [this](const Request &request, Response &response, const ContentReader &reader) {
    Put(request, response, reader);
  });
  http_.Delete(kv, [this](const Request &request, Response &response) { Delete(request, response); });
  http_.Delete(kv, [this](const Request &request, Response &response, const ContentReader &reader) {
    std::string nothing;
    ReadBody(request, reader, 0, &nothing);
    Delete(request, response);
  });
  http_.Get("/healthz", [](const Request &, Response &response) { Answer(response, 200, "ok"); });
  http_.Get("/metrics", [this](const Request &, Response &response) { Metrics(response); });
  // One profile has all sample types; the two paths are those that tools for Go programs ask for.
  for (const char *path : {"/debug/pprof/heap", "/debug/pprof/allocs"}) {
    http_.Get(path, [this](const Request &request, Response &response) { Profile(request, response); });
  }
  // Without these the library itself would keep a body of any length.
  const char *const anything = R"([\s\S]*)";
  http_.Post(anything, Refuse);
  http_.Put(anything, Refuse);
  http_.Patch(anything, Refuse);
  http_.Delete(anything, Refuse);

  http_.set_pre_routing_handler([](const Request &request, Response &) {
    t_begin = Clock::now();
    AnnounceNoBody(request);
    return httplib::Server::HandlerResponse::Unhandled;
  });
  http_.set_logger([this](const Request &request, const Response &response) {
    // A request that was too malformed to be routed has no start time, so its duration is not recorded.
    const Clock::time_point now = Clock::now();
    metrics_.Count(request.method, response.status, now - (t_begin == Clock::time_point() ? now : t_begin));
    t_begin = Clock::time_point();
  });
  http_.new_task_queue = [this] { return new httplib::ThreadPool(static_cast<size_t>(limits_.threads)); };
  http_.set_payload_max_length(static_cast<size_t>(limits_.max_value_bytes));
  http_.set_keep_alive_max_count(1000000);
  // How long a thread waits for a connection's next request, which also limits how long Stop takes.
  http_.set_keep_alive_timeout(2);
  // Of a request that has begun: for a client that pauses between two packets.
  http_.set_read_timeout(30);
  http_.set_tcp_nodelay(true);
  // With the library's default, a second server could use the same port and would get a part of the requests.
  http_.set_socket_options([](auto socket) {
    const int on = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  });
}

int Service::Bind(const std::string &host, int port) {
  if (port == 0) return http_.bind_to_any_port(host);
  return http_.bind_to_port(host, port) ? port : -1;
}

bool Service::Serve() {
  const bool good = http_.listen_after_bind();
  ended_.store(true);
  return good;
}

void Service::Stop() {
  // The library ignores a stop() that comes before it listens.
  while (!http_.is_running() && !ended_.load()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  http_.stop();
}

bool Service::Key(const Request &request, Response &response, std::string *key) const {
  *key = request.matches[1];
  if (key->empty()) {
    Answer(response, 400, "the key is empty");
    return false;
  }
  if (key->size() > limits_.max_key_bytes) {
    Answer(response, 414, "the key is longer than " + std::to_string(limits_.max_key_bytes) + " bytes");
    return false;
  }
  return true;
}

void Service::Put(const Request &request, Response &response, const ContentReader &reader) {
  std::string value;
  // The library checks announced lengths, and has set the status itself in that case.
  if (!ReadBody(request, reader, static_cast<size_t>(limits_.max_value_bytes), &value)) {
    Answer(response, 413, "the value is longer than " + std::to_string(limits_.max_value_bytes) + " bytes");
    return;
  }
  std::string key;
  if (!Key(request, response, &key)) return;
  response.status = store_.Put(std::move(key), std::move(value)) ? 201 : 204;
}

void Service::Get(const Request &request, Response &response) {
  std::string key;
  if (!Key(request, response, &key)) return;
  const auto value = store_.Get(key);
  if (value == nullptr) {
    Answer(response, 404, "no such key");
    return;
  }
  response.status = 200;
  response.set_content(*value, "application/octet-stream");
}

void Service::Delete(const Request &request, Response &response) {
  std::string key;
  if (!Key(request, response, &key)) return;
  if (!store_.Delete(key)) {
    Answer(response, 404, "no such key");
    return;
  }
  response.status = 204;
}

void Service::Metrics(Response &response) const {
  PrometheusText out;
  metrics_.Write(&out);
  const StoreTotals totals = store_.Totals();
  out.Gauge("kv_store_items", "Keys stored.", totals.items);
  out.Gauge("kv_store_bytes", "Bytes of keys and values stored.", totals.bytes);
  out.Gauge("kv_store_limit_bytes", "The most that kv_store_bytes may be.", limits_.max_bytes);
  out.Counter("kv_store_evictions_total", "Keys given up for the limit.", totals.evictions);
  WriteProcessMetrics(&out);
  WriteAllocatorMetrics(&out);
  response.status = 200;
  response.set_content(out.text(), PrometheusText::kContentType);
}

void Service::Profile(const Request &request, Response &response) const {
  if (request.has_param("seconds")) {
    const std::string text = request.get_param_value("seconds");
    const bool is_number = !text.empty() && text.size() <= 3 && text.find_first_not_of("0123456789") == text.npos;
    const int seconds = is_number ? std::stoi(text) : 0;
    if (seconds < 1 || seconds > kMostSeconds) {
      Answer(response, 400, "seconds must be a number from 1 to " + std::to_string(kMostSeconds));
      return;
    }
    // Without marks the profile below says so.
    const Clock::time_point end = Clock::now() + std::chrono::seconds(MarkHeapProfile() ? seconds : 0);
    while (Clock::now() < end && http_.is_running()) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  const HeapProfile profile = TakeHeapProfile();
  response.status = profile.status;
  response.set_content(profile.body, profile.content_type);
}

}  // namespace kv
