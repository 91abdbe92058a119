// Reads buffers that JavaScript packed.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace NodeKafka {

inline int32_t Int(const char* at) {
  int32_t number;
  std::memcpy(&number, at, sizeof number);
  return number;
}

// Never reads beyond the end, whatever the numbers are.
class Reader {
 public:
  Reader(const char* at, size_t length) : at_(at), end_(at + length) {}

  bool Number(int32_t* number) {
    if (end_ - at_ < 4) return false;
    *number = Int(at_);
    at_ += 4;
    return true;
  }

  // A negative length: NULL.
  bool Skip(int32_t length, const char** bytes) {
    if (length < 0) {
      *bytes = NULL;
      return true;
    }
    if (end_ - at_ < length) return false;
    // Empty is not the same as null, which is NULL to librdkafka.
    *bytes = length == 0 ? "" : at_;
    at_ += length;
    return true;
  }

 private:
  const char* at_;
  const char* end_;
};

}  // namespace NodeKafka
