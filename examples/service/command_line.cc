// SPDX-License-Identifier: Apache-2.0
#include "command_line.h"

#include <cstdio>
#include <cstdlib>

namespace kv {
namespace {

std::string g_usage;

std::string Usage(const char *program, const char *purpose, const std::vector<Option> &options) {
  std::string text = std::string("usage: ") + program + " [--OPTION VALUE]...\n" + purpose + "\n";
  for (const Option &option : options) {
    text += std::string("  --") + option.name + " ";
    if (option.number != nullptr) {
      text += "N    " + std::string(option.meaning) + ", " + std::to_string(option.least) + " to " +
              std::to_string(option.most) + "; " + std::to_string(*option.number) + " if not given\n";
    } else {
      text += "TEXT    " + std::string(option.meaning) + "; \"" + *option.text + "\" if not given\n";
    }
  }
  return text;
}

// A decimal number and nothing else.
bool ParseNumber(const std::string &text, uint64_t *number) {
  if (text.empty() || text.size() > 19) return false;
  uint64_t sum = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    sum = sum * 10 + static_cast<uint64_t>(c - '0');
  }
  *number = sum;
  return true;
}

void Take(const Option &option, const std::string &value) {
  if (option.text != nullptr) {
    *option.text = value;
    return;
  }
  uint64_t number = 0;
  if (!ParseNumber(value, &number) || number < option.least || number > option.most) {
    BadCommandLine(std::string("--") + option.name + " takes a number from " + std::to_string(option.least) + " to " +
                   std::to_string(option.most) + ", not \"" + value + "\"");
  }
  *option.number = number;
}

}  // namespace

void BadCommandLine(const std::string &what) {
  fprintf(stderr, "%s\n%s", what.c_str(), g_usage.c_str());
  exit(2);
}

void ParseCommandLine(int argc, char **argv, const char *purpose, const std::vector<Option> &options) {
  g_usage = Usage(argv[0], purpose, options);
  for (int i = 1; i < argc; i++) {
    const std::string argument = argv[i];
    if (argument == "--help") {
      fputs(g_usage.c_str(), stdout);
      exit(0);
    }
    const size_t equals = argument.find('=');
    const std::string name = argument.substr(0, equals);
    const Option *found = nullptr;
    for (const Option &option : options) {
      if (name == std::string("--") + option.name) found = &option;
    }
    if (found == nullptr) BadCommandLine("no such option: " + argument);
    if (equals != std::string::npos) {
      Take(*found, argument.substr(equals + 1));
    } else if (++i < argc) {
      Take(*found, argv[i]);
    } else {
      BadCommandLine(name + " needs a value");
    }
  }
}

}  // namespace kv
