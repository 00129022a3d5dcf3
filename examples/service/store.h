// SPDX-License-Identifier: Apache-2.0
//
// The keys and values, in memory. Beyond a limit the least recently used ones are evicted.
#ifndef KV_SERVICE_STORE_H_
#define KV_SERVICE_STORE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

namespace kv {

struct StoreTotals {
  uint64_t items;
  uint64_t bytes;      // of keys and values, without the records that hold them
  uint64_t evictions;  // items evicted so far
};

// Thread-safe.
class Store {
 public:
  static constexpr size_t kShards = 16;

  // Keys and values together have at most `max_bytes`, a sixteenth of it in each shard, so no item may be larger than
  // that.
  explicit Store(uint64_t max_bytes) : shard_limit_(max_bytes / kShards) {}

  // True: the key is new. The item must not be larger than a shard.
  bool Put(std::string key, std::string value);
  // nullptr: there is no such key.
  std::shared_ptr<const std::string> Get(const std::string &key);
  // False: there was no such key.
  bool Delete(const std::string &key);

  StoreTotals Totals() const;

 private:
  struct Item {
    std::string key;
    std::shared_ptr<const std::string> value;
    size_t bytes() const { return key.size() + value->size(); }
  };

  struct Shard {
    mutable std::mutex mutex;
    std::list<Item> items;                                                  // the most recently used first
    std::unordered_map<std::string_view, std::list<Item>::iterator> index;  // the views point at the items' keys
    uint64_t bytes = 0;
    uint64_t evictions = 0;

    void Remove(std::list<Item>::iterator item);  // under the mutex
  };

  Shard &ShardOf(const std::string &key) { return shards_[std::hash<std::string>()(key) % kShards]; }

  const uint64_t shard_limit_;
  std::array<Shard, kShards> shards_;
};

}  // namespace kv

#endif  // KV_SERVICE_STORE_H_
