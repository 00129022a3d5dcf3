// SPDX-License-Identifier: Apache-2.0
//
// The service: what each request does. All answers except the values themselves are plain text.
//
//   PUT    /kv/KEY   stores the body: 201 for a new key, 204 for one that was there
//   GET    /kv/KEY   200 and the value, or 404
//   DELETE /kv/KEY   204, or 404
//   GET    /healthz, /metrics, /debug/pprof/heap, /debug/pprof/allocs
#ifndef KV_SERVICE_SERVICE_H_
#define KV_SERVICE_SERVICE_H_

#include <httplib.h>

#include <atomic>
#include <cstdint>
#include <string>

#include "metrics.h"
#include "store.h"

namespace kv {

struct ServiceLimits {
  uint64_t threads = 16;  // connections served at once; more wait
  uint64_t max_bytes = uint64_t{256} << 20;
  uint64_t max_key_bytes = 256;
  uint64_t max_value_bytes = uint64_t{1} << 20;
};

class Service {
 public:
  explicit Service(const ServiceLimits &limits);

  // Returns the port on which it listens; 0 selects a free one. -1: it cannot listen; errno is set.
  int Bind(const std::string &host, int port);
  // Serves until Stop. Requests that have begun are still answered, and idle connections are closed. False: it failed.
  bool Serve();
  // Called once, by any thread, before Serve or during it.
  void Stop();

 private:
  void Put(const httplib::Request &request, httplib::Response &response, const httplib::ContentReader &reader);
  void Get(const httplib::Request &request, httplib::Response &response);
  void Delete(const httplib::Request &request, httplib::Response &response);
  void Metrics(httplib::Response &response) const;
  void Profile(const httplib::Request &request, httplib::Response &response) const;
  // Decodes the key. False: it is invalid, and the response is set.
  bool Key(const httplib::Request &request, httplib::Response &response, std::string *key) const;

  const ServiceLimits limits_;
  Store store_;
  RequestMetrics metrics_;
  httplib::Server http_;
  std::atomic<bool> ended_ = false;  // Serve is over
};

}  // namespace kv

#endif  // KV_SERVICE_SERVICE_H_
