// The headers of a fetched message, one after the other, without copying them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "librdkafka/src/rdkafka.h"

// binary-headers.c. Valid until the message is destroyed.
extern "C" const void* kafkatrace_binary_headers(const rd_kafka_message_t* message, size_t* length);

namespace NodeKafka {

// A header's name or value, or a part of it.
struct Text {
  const char* at;
  size_t length;
};

template <size_t size>
bool Is(Text text, const char (&other)[size]) {
  return text.length == size - 1 && std::memcmp(text.at, other, size - 1) == 0;
}

// Reads the record format's headers (KIP-98): a count, then of each header the length of its name, its name, the length of its value (-1: none), its value.
// Lengths are zigzag varints.
class Headers {
 public:
  explicit Headers(const rd_kafka_message_t* message) {
    size_t length;
    at_ = static_cast<const char*>(kafkatrace_binary_headers(message, &length));
    end_ = at_ + length;
    if (length == 0) return;
    int64_t count = Number();
    if (count < 0 || count > kMost) broken_ = true;
    left_ = broken_ ? 0 : count;
  }

  // @param value `at` is NULL when the header has none
  // @returns false behind the last, and when the rest is broken
  bool Next(Text* name, Text* value) {
    if (left_ == 0) return false;
    left_--;
    if (!Read(name) || name->at == NULL || !Read(value)) broken_ = true;
    return !broken_;
  }

  bool broken() const { return broken_; }

 private:
  static constexpr int64_t kMost = 100000;

  bool Read(Text* text) {
    int64_t length = Number();
    if (broken_ || length < -1 || length > end_ - at_) return false;
    *text = length < 0 ? Text{NULL, 0} : Text{at_, static_cast<size_t>(length)};
    if (length > 0) at_ += length;
    return true;
  }

  int64_t Number() {
    uint64_t bits = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (at_ == end_) break;
      uint8_t byte = static_cast<uint8_t>(*at_++);
      bits |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return static_cast<int64_t>(bits >> 1) ^ -static_cast<int64_t>(bits & 1);
    }
    broken_ = true;
    return 0;
  }

  const char* at_;
  const char* end_;
  int64_t left_ = 0;
  bool broken_ = false;
};

}  // namespace NodeKafka
