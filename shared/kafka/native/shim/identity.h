// The identity of a record's event, and whether it can be passed on undecoded: see identity.cc.
#pragma once
#include <cstddef>
#include <cstdint>

#include "librdkafka/src/rdkafka.h"
#include "shim/headers.h"

namespace NodeKafka {

// ASSUMES that Bun.hash.wyhash gives the same hash for the same seed; checked at load (check.ts).
uint64_t HashOf(uint64_t seed, const char* text, size_t length);

// What is known of a record whose event has only plain attributes.
struct PlainEvent {
  // The hashes of its identity.
  uint64_t identity[2];
  Text type;
  // When the producer received it, ms since the epoch; -1: the record does not say.
  int64_t received_at;
  // Whether `kt-received-at`, `traceparent` and `tracestate` are plain too: their headers are absent, or mean what they say. If not, JavaScript decides
  // what they mean.
  bool passable;
};

// @returns false when only the full rules for events can decide
bool ReadPlain(const rd_kafka_message_t* message, const uint64_t seeds[2], PlainEvent* event);

}  // namespace NodeKafka
