// SPDX-License-Identifier: Apache-2.0
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>

#include "allocator.h"
#include "command_line.h"
#include "service.h"

int main(int argc, char **argv) {
  kv::ServiceLimits limits;
  std::string host = "127.0.0.1";
  uint64_t port = 8080;
  kv::ParseCommandLine(
      argc, argv, "A key-value store over HTTP: PUT, GET and DELETE /kv/KEY. SIGTERM or SIGINT ends it.",
      {{"host", "the address to listen on", nullptr, 0, 0, &host},
       {"port", "the port, or 0 for any that is free", &port, 0, 65535, nullptr},
       {"threads", "connections served at once", &limits.threads, 1, 1024, nullptr},
       {"max-bytes", "bytes of keys and values kept", &limits.max_bytes, 1 << 10, uint64_t{1} << 50, nullptr},
       {"max-key-bytes", "longest key", &limits.max_key_bytes, 1, 4096, nullptr},
       {"max-value-bytes", "longest value", &limits.max_value_bytes, 1, uint64_t{1} << 30, nullptr}});
  if (limits.max_key_bytes + limits.max_value_bytes > limits.max_bytes / kv::Store::kShards) {
    kv::BadCommandLine("--max-bytes must be at least " + std::to_string(kv::Store::kShards) +
                       " times --max-key-bytes and --max-value-bytes together");
  }

  // All threads block these signals; one thread waits for them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  kv::Service service(limits);
  const int bound = service.Bind(host, static_cast<int>(port));
  if (bound < 0) {
    fprintf(stderr, "cannot listen on %s:%llu: %s\n", host.c_str(), static_cast<unsigned long long>(port),
            strerror(errno));
    return 1;
  }
  printf("listening on %s:%d with %s\n", host.c_str(), bound, kv::AllocatorName().c_str());
  fflush(stdout);

  std::thread waiter([&] {
    int received = 0;
    sigwait(&signals, &received);
    service.Stop();
  });
  const bool good = service.Serve();
  // Serve ends without a signal only when accepting fails.
  if (!good) kill(getpid(), SIGTERM);
  waiter.join();
  puts(good ? "ended" : "failed");
  return good ? 0 : 1;
}
