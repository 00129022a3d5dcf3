// SPDX-License-Identifier: Apache-2.0
//
// Counts the words of standard input. It does not mention any allocator.
#include <iostream>
#include <map>
#include <string>

int main() {
  std::map<std::string, long> counts;
  std::string word;
  while (std::cin >> word) counts[word]++;
  for (const auto &[each, count] : counts) std::cout << count << ' ' << each << '\n';
  return 0;
}
