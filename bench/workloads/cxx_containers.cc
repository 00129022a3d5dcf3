// SPDX-License-Identifier: Apache-2.0
//
// The standard containers as programs use them: a map of strings, a hash table of vectors, a list, a deque, shared
// pointers. What they hold is summed up twice: while they are filled, and when they are read.
#include "bench/workloads/cxx_containers.h"

#include <cstddef>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

std::uint64_t Next(std::uint64_t *state) {
  std::uint64_t x = *state += UINT64_C(0x9E3779B97F4A7C15);
  x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
  return x ^ (x >> 31);
}

std::uint64_t Sum(const std::string &text) {
  std::uint64_t sum = 0;
  for (const char c : text) sum += static_cast<unsigned char>(c);
  return sum;
}

}  // namespace

bool cxx_containers_round(std::uint64_t seed, std::uint32_t count) {
  std::map<std::uint64_t, std::string> names;
  std::unordered_map<std::uint64_t, std::vector<std::uint32_t>> numbers;
  std::list<std::uint64_t> order;
  std::deque<std::shared_ptr<std::string>> recent;
  std::uint64_t state = seed, filled = 0, found = 0;
  for (std::uint32_t i = 0; i < count; i++) {
    const std::uint64_t bits = Next(&state);
    std::string name(bits % 60, static_cast<char>('a' + bits % 26));
    filled += Sum(name);
    names.emplace(i, name);
    std::vector<std::uint32_t> &numbers_of_it = numbers[bits % (count / 4 + 1)];
    numbers_of_it.push_back(i);
    filled += i;
    order.push_back(i);
    recent.push_back(std::make_shared<std::string>(std::move(name)));
    if (recent.size() > 64) recent.pop_front();
  }
  // Half of it goes, in another order than it came.
  for (auto it = order.begin(); it != order.end();) {
    if (*it % 2 == 0) {
      const auto name = names.find(*it);
      found += Sum(name->second);
      names.erase(name);
      it = order.erase(it);
    } else {
      ++it;
    }
  }
  for (const auto &name : names) found += Sum(name.second);
  for (const auto &list : numbers) {
    for (const std::uint32_t number : list.second) found += number;
  }
  std::uint64_t left = 0;
  for (const std::uint64_t number : order) left += number % 2;
  return found == filled && left == count / 2 && names.size() == order.size() &&
         *recent.back() == recent.back()->c_str();
}
