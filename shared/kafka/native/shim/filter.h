// Which records a reader asks for, decided without unpacking them: see filter.cc.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "librdkafka/src/rdkafka.h"
#include "shim/headers.h"

namespace NodeKafka {

class Filter {
 public:
  // @returns false for bytes that are no filter. They must outlive it.
  bool Read(const char* at, size_t length);

  // Whether a record may match. A record in structured mode, and one whose headers are broken, always may.
  bool MayMatch(const rd_kafka_message_t* message) const;

 private:
  struct Condition {
    bool contains;
    Text name, value;
  };

  std::vector<Condition> conditions_;
  // `at` is NULL when any key will do.
  Text key_{NULL, 0};
};

}  // namespace NodeKafka
