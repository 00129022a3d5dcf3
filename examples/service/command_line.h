// SPDX-License-Identifier: Apache-2.0
//
// Command lines of the form --name VALUE or --name=VALUE.
#ifndef KV_SERVICE_COMMAND_LINE_H_
#define KV_SERVICE_COMMAND_LINE_H_

#include <cstdint>
#include <string>
#include <vector>

namespace kv {

// One option: either a number between two bounds or a text. The default is the value before the call.
struct Option {
  const char *name;     // without the dashes
  const char *meaning;  // one line of the usage
  uint64_t *number;     // or nullptr
  uint64_t least;
  uint64_t most;
  std::string *text;  // or nullptr
};

// Sets the options. --help prints the usage to stdout and ends the process with 0. A mistake prints a message and the
// usage to stderr and ends the process with 2.
void ParseCommandLine(int argc, char **argv, const char *purpose, const std::vector<Option> &options);

// Reports a mistake on the command line to stderr, and ends the process with 2.
[[noreturn]] void BadCommandLine(const std::string &what);

}  // namespace kv

#endif  // KV_SERVICE_COMMAND_LINE_H_
