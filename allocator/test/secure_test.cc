// SPDX-License-Identifier: Apache-2.0
//
// A process with raised privileges (AT_SECURE) ignores the environment, which its caller controls, but obeys its own
// hak_conf. Creating one needs root: for other users the test is skipped.
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "allocator/test/probe.h"
#include "allocator/test/subprocess.h"
#include "allocator/test/test_random.h"

const char *hak_conf = "keep_superslabs=7";

namespace hak_test {
namespace {

constexpr uid_t kNobody = 65534;

const char *const kEnvironment[] = {"HAKMEM_PROFILE=lean",  "HAKMEM_THREAD_CACHE_KB=77",
                                    "HAKMEM_SHOW_CONFIG=1", "HAKMEM_STATS_AT_EXIT=1",
                                    "HAKMEM_STATS_PAGE=1",  "HAKMEM_MEMORY_LIMIT_MB=nonsense"};

// Prints whether the kernel considers the process secure, and the sources of its settings.
int Child() {
  void *p = hak_malloc(100);
  hak_free(p);
  const char *origin = "";
  const char *profile = hak_config_get("HAKMEM_PROFILE", &origin);
  const char *cache_origin = "";
  hak_config_get("HAKMEM_THREAD_CACHE_KB", &cache_origin);
  const char *keep_origin = "";
  const char *keep = hak_config_get("HAKMEM_KEEP_SUPERSLABS", &keep_origin);
  printf("secure=%lu profile=%s (%s) cache (%s) keep=%s (%s)\n", getauxval(AT_SECURE), profile, origin, cache_origin,
         keep, keep_origin);
#if HAK_TEST_ASAN  // its leak check cannot read a process with raised privileges
  fflush(stdout);
  _exit(0);
#endif
  return 0;
}

// Starts this program, by its copy `file`, as a child, after `change` has changed the user.
template <typename Change>
Outcome StartAs(int file, const Change &change) {
  return RunForked([&] {
    for (const char *setting : kEnvironment) putenv(const_cast<char *>(setting));
    if (change() != 0) {
      dprintf(STDOUT_FILENO, "cannot: %s", strerror(errno));
      _exit(0);
    }
    char name[] = "secure_test";
    char option[] = "--child";
    char *arguments[] = {name, option, nullptr};
    syscall(SYS_execveat, file, "", arguments, environ, AT_EMPTY_PATH);
    dprintf(STDOUT_FILENO, "cannot: %s", strerror(errno));
    _exit(0);
    return 0;
  });
}

int OpenSelf() { return open("/proc/self/exe", O_PATH); }

// A copy of this program that root owns and that has the setuid bit; -1: it cannot be created.
int OpenSetuidCopy(std::string *path) {
  const char *folder = getenv("TEST_TMPDIR");
  *path = std::string(folder != nullptr ? folder : "/tmp") + "/secure_test_setuid";
  const int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  const int to = open(path->c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
  if (from < 0 || to < 0) return -1;
  char buffer[65536];
  for (ssize_t n; (n = read(from, buffer, sizeof buffer)) > 0;) {
    if (write(to, buffer, static_cast<size_t>(n)) != n) return -1;
  }
  close(from);
  const bool done = fchown(to, 0, 0) == 0 && fchmod(to, 04755) == 0;
  close(to);
  return done ? open(path->c_str(), O_PATH) : -1;
}

bool Impossible(const Outcome &outcome) { return outcome.out.rfind("cannot: ", 0) == 0; }

void ExpectDeaf(const Outcome &outcome) {
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  EXPECT_EQ(outcome.err, "") << "no line of HAKMEM_SHOW_CONFIG, HAKMEM_STATS_AT_EXIT or of the bad value\n" << outcome;
  const std::string origin = IsFastBuild() ? "fixed in this build" : "default";
  const std::string cache = IsFastBuild() ? "fixed in this build" : "preset";
  EXPECT_EQ(outcome.out.rfind("secure=1 profile=balanced (" + origin + ") cache (", 0), 0U) << outcome;
  EXPECT_EQ(outcome.out.find("environment"), std::string::npos) << outcome;
  // The settings compiled into the program are obeyed.
  const std::string own = IsFastBuild() ? " keep=1 (fixed in this build)\n" : " keep=7 (hak_conf)\n";
  EXPECT_NE(outcome.out.find(own), std::string::npos) << outcome;
}

#define SKIP_LOUDLY(why)                                     \
  do {                                                       \
    printf("SKIPPED: AT_SECURE is not tested: %s\n", (why)); \
    GTEST_SKIP() << "AT_SECURE is not tested: " << (why);    \
  } while (false)

// The control: a process without raised privileges takes the same settings.
TEST(Secure, WithoutRaisedPrivilegesTheEnvironmentCounts) {
  const Outcome outcome = StartAs(OpenSelf(), [] { return 0; });
  if (Impossible(outcome)) SKIP_LOUDLY(outcome.out.c_str());
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  if (IsFastBuild()) {
    EXPECT_EQ(outcome.out.rfind("secure=0 profile=balanced (fixed in this build)", 0), 0U) << outcome;
  } else {
    EXPECT_EQ(outcome.out, "secure=0 profile=lean (environment) cache (environment) keep=7 (hak_conf)\n") << outcome;
    EXPECT_NE(outcome.err.find("nonsense"), std::string::npos) << outcome;
  }
  EXPECT_NE(outcome.err, "") << outcome;
}

TEST(Secure, EffectiveUserIsNotTheRealOne) {
  const Outcome outcome = StartAs(OpenSelf(), [] { return setresuid(kNobody, 0, 0); });
  if (Impossible(outcome)) SKIP_LOUDLY(outcome.out.c_str());
  ExpectDeaf(outcome);
}

TEST(Secure, EffectiveGroupIsNotTheRealOne) {
  const Outcome outcome = StartAs(OpenSelf(), [] { return setresgid(kNobody, 0, 0) | setresuid(kNobody, kNobody, 0); });
  if (Impossible(outcome)) SKIP_LOUDLY(outcome.out.c_str());
  ExpectDeaf(outcome);
}

TEST(Secure, SetuidBit) {
  std::string path;
  const int copy = OpenSetuidCopy(&path);
  if (copy < 0) SKIP_LOUDLY("a setuid copy of the program cannot be made");
  const Outcome outcome =
      StartAs(copy, [] { return setresgid(kNobody, kNobody, kNobody) | setresuid(kNobody, kNobody, kNobody); });
  close(copy);
  unlink(path.c_str());
  if (Impossible(outcome)) SKIP_LOUDLY(outcome.out.c_str());
  if (outcome.out.rfind("secure=0", 0) == 0) SKIP_LOUDLY("the file system ignores the setuid bit (nosuid)");
  ExpectDeaf(outcome);
}

}  // namespace
}  // namespace hak_test

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "--child") == 0) return hak_test::Child();
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
