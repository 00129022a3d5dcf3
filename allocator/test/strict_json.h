// SPDX-License-Identifier: Apache-2.0
//
// A strict reader of JSON (RFC 8259) for tests: objects, arrays, strings without escapes, integers that fit into 64
// bits, null. Everything else is an error, also a name that an object has twice.
#ifndef HAKMEM_ALLOCATOR_TESTS_STRICT_JSON_H_
#define HAKMEM_ALLOCATOR_TESTS_STRICT_JSON_H_

#include <stdint.h>

#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace hak_test {

struct Json {
  enum Kind { kNull, kNumber, kString, kArray, kObject };
  Kind kind = kNull;
  uint64_t number = 0;
  std::string string;
  std::vector<Json> array;
  std::map<std::string, Json> object;

  const Json &operator[](const std::string &name) const {
    const auto at = object.find(name);
    if (at == object.end()) throw std::runtime_error("no member " + name);
    return at->second;
  }
  uint64_t Number() const {
    if (kind != kNumber) throw std::runtime_error("no number");
    return number;
  }
};

class JsonReader {
 public:
  explicit JsonReader(const std::string &text) : text_(text) {}

  // The whole text is one value. Throws std::runtime_error.
  Json Read() {
    const Json json = Value();
    Space();
    if (at_ != text_.size()) Fail("something behind the value");
    return json;
  }

 private:
  [[noreturn]] void Fail(const std::string &what) const {
    throw std::runtime_error(what + " at byte " + std::to_string(at_) + ": " + text_.substr(at_, 40));
  }
  char Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void Space() {
    while (Peek() == ' ' || Peek() == '\n' || Peek() == '\t' || Peek() == '\r') ++at_;
  }
  void Expect(char wanted) {
    Space();
    if (Peek() != wanted) Fail(std::string("expected ") + wanted);
    ++at_;
  }
  bool Skip(char wanted) {
    Space();
    if (Peek() != wanted) return false;
    ++at_;
    return true;
  }

  std::string String() {
    Expect('"');
    std::string text;
    for (; Peek() != '"'; ++at_) {
      if (Peek() < ' ' || Peek() > '~' || Peek() == '\\') Fail("a character that needs an escape");
      text += Peek();
    }
    ++at_;
    return text;
  }

  uint64_t Number() {
    if (Peek() == '0' && at_ + 1 < text_.size() && text_[at_ + 1] >= '0' && text_[at_ + 1] <= '9') Fail("a leading 0");
    uint64_t value = 0;
    for (; Peek() >= '0' && Peek() <= '9'; ++at_) {
      if (__builtin_mul_overflow(value, uint64_t{10}, &value) ||
          __builtin_add_overflow(value, static_cast<uint64_t>(Peek() - '0'), &value)) {
        Fail("a number of more than 64 bits");
      }
    }
    return value;
  }

  Json Value() {
    Json json;
    Space();
    if (Peek() == '{') {
      json.kind = Json::kObject;
      ++at_;
      if (Skip('}')) return json;
      do {
        Space();
        const std::string name = String();
        Expect(':');
        if (!json.object.emplace(name, Value()).second) Fail("a second " + name);
      } while (Skip(','));
      Expect('}');
    } else if (Peek() == '[') {
      json.kind = Json::kArray;
      ++at_;
      if (Skip(']')) return json;
      do {
        json.array.push_back(Value());
      } while (Skip(','));
      Expect(']');
    } else if (Peek() == '"') {
      json.kind = Json::kString;
      json.string = String();
    } else if (Peek() >= '0' && Peek() <= '9') {
      json.kind = Json::kNumber;
      json.number = Number();
    } else if (text_.compare(at_, 4, "null") == 0) {
      at_ += 4;
    } else {
      Fail("no value");
    }
    return json;
  }

  const std::string &text_;
  size_t at_ = 0;
};

}  // namespace hak_test

#endif  // HAKMEM_ALLOCATOR_TESTS_STRICT_JSON_H_
