// The context of an event that is passed on: see passing.cc.
#pragma once
#include <cstdint>
#include <string>

#include "shim/identity.h"

namespace NodeKafka {

// What the context of a passed event depends on. All attributes are plain (identity.cc).
struct PassedEvent {
  Text type{}, source{};
  // `at` is NULL when the event has none.
  Text subject{}, time{};
  // The data; `at` is NULL when there is none.
  Text data{};
  // ms since the epoch; -1: the record does not say.
  int64_t received_at = -1;
  // The record's timestamp.
  int64_t written_at = 0;
};

// Appends what is known of the event to the JSON of a context, of which `to` has everything before `fingerprint`.
void AppendContext(const PassedEvent& event, std::string* to);

void AppendNumber(int64_t number, std::string* to);

}  // namespace NodeKafka
