// SPDX-License-Identifier: Apache-2.0
#include "store.h"

#include <utility>

namespace kv {

void Store::Shard::Remove(std::list<Item>::iterator item) {
  bytes -= item->bytes();
  index.erase(item->key);
  items.erase(item);
}

bool Store::Put(std::string key, std::string value) {
  Shard &shard = ShardOf(key);
  auto shared = std::make_shared<const std::string>(std::move(value));
  const std::lock_guard<std::mutex> lock(shard.mutex);
  const auto found = shard.index.find(key);
  const bool is_new = found == shard.index.end();
  if (!is_new) shard.Remove(found->second);
  shard.items.push_front({std::move(key), std::move(shared)});
  const auto item = shard.items.begin();
  shard.index.emplace(item->key, item);
  shard.bytes += item->bytes();
  while (shard.bytes > shard_limit_) {
    shard.Remove(std::prev(shard.items.end()));
    shard.evictions++;
  }
  return is_new;
}

std::shared_ptr<const std::string> Store::Get(const std::string &key) {
  Shard &shard = ShardOf(key);
  const std::lock_guard<std::mutex> lock(shard.mutex);
  const auto found = shard.index.find(key);
  if (found == shard.index.end()) return nullptr;
  shard.items.splice(shard.items.begin(), shard.items, found->second);
  return found->second->value;
}

bool Store::Delete(const std::string &key) {
  Shard &shard = ShardOf(key);
  const std::lock_guard<std::mutex> lock(shard.mutex);
  const auto found = shard.index.find(key);
  if (found == shard.index.end()) return false;
  shard.Remove(found->second);
  return true;
}

StoreTotals Store::Totals() const {
  StoreTotals totals = {};
  for (const Shard &shard : shards_) {
    const std::lock_guard<std::mutex> lock(shard.mutex);
    totals.items += shard.items.size();
    totals.bytes += shard.bytes;
    totals.evictions += shard.evictions;
  }
  return totals;
}

}  // namespace kv
