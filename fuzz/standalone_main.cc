// SPDX-License-Identifier: Apache-2.0
//
// Runs a fuzz target without a fuzzing engine, with any compiler and on any machine: first the named files, then inputs
// generated from a seed. The seed is printed; it differs in each run unless it is given.
//
//   NAME [-runs=N] [-max_len=BYTES] [-seed=N] [FILE or DIRECTORY]...
//
// Options that only libFuzzer knows are ignored. Fails if no input ran, or none of the files: a replay of an empty
// corpus proves nothing. A path that cannot be read is an error that names it, with status 2. An input that makes the
// target fail is named and printed in hexadecimal.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include "allocator/test/test_random.h"
#include "fuzz/fuzz_target.h"

#pragma weak LLVMFuzzerCustomMutator
#pragma weak LLVMFuzzerCustomCrossOver

namespace {

using Bytes = std::vector<uint8_t>;
using hak_test::Random;

Random g_random(0);

// The current input, for the handler of fatal signals.
const char *g_name;
const uint8_t *g_data;
size_t g_size;

void Write(const char *text, size_t size) {
  // A failure here cannot be handled.
  if (write(STDERR_FILENO, text, size) < 0) return;
}

// Makes only calls that are allowed in a signal handler.
void Tell() {
  if (g_name == nullptr) return;
  Write("\ninput: ", 8);
  Write(g_name, strlen(g_name));
  Write("\nbytes: ", 8);
  for (size_t i = 0; i < g_size; ++i) {
    constexpr char kDigits[] = "0123456789abcdef";
    const char text[2] = {kDigits[g_data[i] >> 4], kDigits[g_data[i] & 15]};
    Write(text, 2);
  }
  Write("\n", 1);
}

void OnSignal(int number) {
  Tell();
  // The handler has been removed (SA_RESETHAND), so this signal ends the process.
  raise(number);
}

void InstallHandlers() {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_NODEFER);
  for (const int number : {SIGABRT, SIGILL, SIGTRAP}) sigaction(number, &action, nullptr);
#if !defined(__SANITIZE_ADDRESS__)
  // A sanitizer has its own handler for these, which reports more.
  for (const int number : {SIGSEGV, SIGBUS, SIGFPE}) {
    struct sigaction old = {};
    if (sigaction(number, nullptr, &old) == 0 && old.sa_handler == SIG_DFL) sigaction(number, &action, nullptr);
  }
#endif
}

void RunOne(const std::string &name, const Bytes &input) {
  // A copy with exactly this length, so that a sanitizer notices a read behind the end.
  const std::vector<uint8_t> copy(input);
  g_name = name.c_str();
  g_data = copy.data();
  g_size = copy.size();
  LLVMFuzzerTestOneInput(copy.data(), copy.size());
  g_name = nullptr;
}

Bytes RandomBytes(size_t size) {
  Bytes bytes(size);
  for (uint8_t &byte : bytes) byte = static_cast<uint8_t>(g_random.Next());
  return bytes;
}

// Half of the inputs are random bytes, half are slightly changed files of the corpus.
Bytes MakeInput(const std::vector<Bytes> &corpus, size_t max_len) {
  // Short inputs are as likely as long ones.
  const size_t bits = g_random.Index(20);
  const size_t size = std::min(max_len, g_random.Index(size_t{1} << bits));
  if (corpus.empty() || g_random.OneIn(2)) return RandomBytes(size);
  Bytes input = corpus[g_random.Index(corpus.size())];
  size_t length = std::min(input.size(), max_len);
  input.resize(max_len);
  if (LLVMFuzzerCustomCrossOver != nullptr && g_random.OneIn(4)) {
    const Bytes &other = corpus[g_random.Index(corpus.size())];
    Bytes crossed(max_len);
    length = LLVMFuzzerCustomCrossOver(input.data(), length, other.data(), other.size(), crossed.data(), max_len,
                                       static_cast<unsigned>(g_random.Next()));
    input.swap(crossed);
  }
  for (size_t times = 1 + g_random.Index(12); times > 0; --times) {
    length = LLVMFuzzerCustomMutator != nullptr
                 ? LLVMFuzzerCustomMutator(input.data(), length, max_len, static_cast<unsigned>(g_random.Next()))
                 : LLVMFuzzerMutate(input.data(), length, max_len);
  }
  input.resize(std::min(length, max_len));
  return input;
}

[[noreturn]] void CannotRead(const std::filesystem::path &path, const std::string &why) {
  fprintf(stderr, "cannot read %s: %s\n", path.c_str(), why.c_str());
  exit(2);
}

Bytes ReadFile(const std::filesystem::path &path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) CannotRead(path, strerror(errno));
  Bytes bytes;
  char piece[4096];
  while (file.read(piece, sizeof piece), file.gcount() > 0) bytes.insert(bytes.end(), piece, piece + file.gcount());
  if (file.bad()) CannotRead(path, strerror(errno));
  return bytes;
}

// The named files, and those in the named directories, in an order that does not depend on the file system.
std::vector<std::filesystem::path> ListFiles(const std::vector<std::string> &arguments) {
  std::vector<std::filesystem::path> files;
  for (const std::string &argument : arguments) {
    std::error_code error;
    const std::filesystem::file_status status = std::filesystem::status(argument, error);
    if (!std::filesystem::exists(status)) CannotRead(argument, error ? error.message() : "no such file");
    if (!std::filesystem::is_directory(status)) {
      files.emplace_back(argument);
      continue;
    }
    std::filesystem::directory_iterator entries(argument, error);
    if (error) CannotRead(argument, error.message());
    for (const auto &entry : entries) {
      if (!entry.is_directory(error)) files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

uint64_t Number(const char *text) {
  char *end = nullptr;
  const unsigned long long value = strtoull(text, &end, 10);
  if (end == text || *end != '\0') {
    fprintf(stderr, "\"%s\" is not a number\n", text);
    exit(2);
  }
  return value;
}

}  // namespace

// Changes a few bytes. Used for targets without a mutator.
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size) {
  const size_t at = size == 0 ? 0 : g_random.Index(size);
  switch (g_random.Below(4)) {
    case 0:
      if (size == max_size) return size;
      memmove(data + at + 1, data + at, size - at);
      data[at] = static_cast<uint8_t>(g_random.Next());
      return size + 1;
    case 1:
      if (size <= 1) return size;
      memmove(data + at, data + at + 1, size - at - 1);
      return size - 1;
    case 2:
      if (size > 0) data[at] = static_cast<uint8_t>(data[at] ^ 1U << g_random.Below(8));
      return size;
    default:
      if (size > 0) data[at] = static_cast<uint8_t>(g_random.Next());
      return size;
  }
}

int main(int argc, char **argv) {
  uint64_t runs = 0;
  size_t max_len = 4096;
  uint64_t seed = 0;
  bool seeded = false;
  std::vector<std::string> paths;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind("-runs=", 0) == 0) {
      runs = Number(argv[i] + 6);
    } else if (argument.rfind("-max_len=", 0) == 0) {
      max_len = Number(argv[i] + 9);
    } else if (argument.rfind("-seed=", 0) == 0) {
      seed = Number(argv[i] + 6);
      seeded = true;
    } else if (argument.rfind("-", 0) != 0) {
      paths.push_back(argument);
    }
  }
  InstallHandlers();

  std::vector<Bytes> corpus;
  for (const std::filesystem::path &file : ListFiles(paths)) {
    corpus.push_back(ReadFile(file));
    RunOne(file.string(), corpus.back());
  }
  if (runs > 0 && !seeded) seed = hak_test::RunSeed();
  for (uint64_t run = 0; run < runs; ++run) {
    g_random = Random(hak_test::Mix64(seed) + run);
    RunOne("-seed=" + std::to_string(seed) + ", run " + std::to_string(run), MakeInput(corpus, max_len));
  }
  printf("%zu files, %llu generated inputs\n", corpus.size(), static_cast<unsigned long long>(runs));
  if ((corpus.empty() && !paths.empty()) || corpus.size() + runs == 0) {
    fprintf(stderr, "nothing was tested\n");
    return 1;
  }
  return 0;
}
