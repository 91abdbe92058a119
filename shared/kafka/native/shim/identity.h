// The identity of a record's event: see identity.cc.
#pragma once
#include <cstddef>
#include <cstdint>

#include "librdkafka/src/rdkafka.h"

namespace NodeKafka {

// ASSUMES that Bun.hash.wyhash gives the same hash for the same seed; checked at load (check.ts).
uint64_t HashOf(uint64_t seed, const char* text, size_t length);

// @returns false when only the full rules for events can decide
bool HashIdentity(const rd_kafka_message_t* message, const uint64_t seeds[2], uint64_t hash[2]);

}  // namespace NodeKafka
