// Reads a record's event without JavaScript: the hashes of its identity (CloudEvents 1.0.2, section 3.1.1: source and id), which are all that is needed
// to recognise duplicates, and whether its record can be passed on as it is. shared/events/record.ts has the rules by which a record is an event. Only
// clear cases with plain characters are decided here, of events that were not redriven; JavaScript decides the others.
#include "shim/identity.h"

#include <cstring>
#include <string>

namespace NodeKafka {

namespace {

// Wyhash, final version 4, as in Bun.hash.wyhash: both must give the same result.
constexpr uint64_t kSecret[4] = {0xa0761d6478bd642full, 0xe7037ed1a0b428dbull, 0x8ebc6af09c88c6e3ull, 0x589965cc75374cc3ull};

uint64_t Mix(uint64_t a, uint64_t b) {
  unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint64_t Read8(const char* at) {
  uint64_t number;
  std::memcpy(&number, at, sizeof number);
  return number;
}

uint64_t Read4(const char* at) {
  uint32_t number;
  std::memcpy(&number, at, sizeof number);
  return number;
}

uint64_t Wyhash(uint64_t seed, const char* text, size_t length) {
  uint64_t state = seed ^ Mix(seed ^ kSecret[0], kSecret[1]);
  uint64_t a = 0, b = 0;
  if (length <= 16) {
    if (length >= 4) {
      size_t end = length - 4, quarter = (length >> 3) << 2;
      a = (Read4(text) << 32) | Read4(text + quarter);
      b = (Read4(text + end) << 32) | Read4(text + end - quarter);
    } else if (length > 0) {
      auto byte = [text](size_t at) { return static_cast<uint64_t>(static_cast<unsigned char>(text[at])); };
      a = (byte(0) << 16) | (byte(length >> 1) << 8) | byte(length - 1);
    }
  } else {
    size_t at = 0;
    if (length >= 48) {
      uint64_t lanes[3] = {state, state, state};
      for (; at + 48 < length; at += 48)
        for (size_t lane = 0; lane < 3; lane++)
          lanes[lane] = Mix(Read8(text + at + 16 * lane) ^ kSecret[lane + 1], Read8(text + at + 16 * lane + 8) ^ lanes[lane]);
      state = lanes[0] ^ lanes[1] ^ lanes[2];
    }
    for (; at + 16 < length; at += 16) state = Mix(Read8(text + at) ^ kSecret[1], Read8(text + at + 8) ^ state);
    a = Read8(text + length - 16);
    b = Read8(text + length - 8);
  }
  a ^= kSecret[1];
  b ^= state;
  unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  return Mix(static_cast<uint64_t>(product) ^ kSecret[0] ^ length, static_cast<uint64_t>(product >> 64) ^ kSecret[1]);
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool IsUnreserved(char c) { return IsDigit(c) || IsLetter(c) || c == '-' || c == '.' || c == '_' || c == '~'; }

bool IsPlain(Text text) {
  // An attribute may have 16,384 characters (shared/events/event.ts).
  if (text.length == 0 || text.length > 4096) return false;
  for (size_t index = 0; index < text.length; index++)
    if (text.at[index] < 0x20 || text.at[index] > 0x7e) return false;
  return true;
}

// Of URI-references: unreserved characters, slashes, and colons behind a scheme (RFC 3986, section 4.1).
bool IsPlainUri(Text text, bool absolute) {
  if (text.length == 0 || text.length > 4096) return false;
  size_t path = 0;
  size_t first = 0;
  while (first < text.length && text.at[first] != '/' && text.at[first] != ':') first++;
  if (first < text.length && text.at[first] == ':') {
    if (first == 0 || !IsLetter(text.at[0])) return false;
    for (size_t index = 0; index < first; index++)
      if (!IsDigit(text.at[index]) && !IsLetter(text.at[index])) return false;
    path = first + 1;
  } else if (absolute) {
    return false;
  }
  // What follows two slashes is an authority: a colon there would begin a port.
  if (path + 1 < text.length && text.at[path] == '/' && text.at[path + 1] == '/') {
    path += 2;
    while (path < text.length && text.at[path] != '/')
      if (!IsUnreserved(text.at[path++])) return false;
  }
  for (; path < text.length; path++)
    if (!IsUnreserved(text.at[path]) && text.at[path] != '/' && text.at[path] != ':') return false;
  return true;
}

int DaysOf(int year, int month) {
  if (month == 2) return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28;
  return month == 4 || month == 6 || month == 9 || month == 11 ? 30 : 31;
}

// `yyyy-mm-ddThh:mm:ss`, a fraction or none, `Z` or an offset (RFC 3339, section 5.6).
bool IsPlainTime(Text text) {
  static const char kForm[] = "0000-00-00T00:00:00";
  constexpr size_t kSeconds = sizeof kForm - 1;
  if (text.length <= kSeconds) return false;
  for (size_t index = 0; index < kSeconds; index++)
    if (kForm[index] == '0' ? !IsDigit(text.at[index]) : text.at[index] != kForm[index]) return false;
  auto number = [text](size_t at) { return (text.at[at] - '0') * 10 + (text.at[at + 1] - '0'); };
  if (number(5) < 1 || number(5) > 12) return false;
  if (number(8) < 1 || number(8) > DaysOf(number(0) * 100 + number(2), number(5))) return false;
  if (number(11) > 23 || number(14) > 59 || number(17) > 59) return false;
  size_t at = kSeconds;
  if (text.at[at] == '.') {
    size_t digits = ++at;
    while (at < text.length && IsDigit(text.at[at])) at++;
    if (at == digits) return false;
  }
  if (at + 1 == text.length) return text.at[at] == 'Z';
  if (at + 6 != text.length || (text.at[at] != '+' && text.at[at] != '-')) return false;
  if (!IsDigit(text.at[at + 1]) || !IsDigit(text.at[at + 2]) || text.at[at + 3] != ':') return false;
  if (!IsDigit(text.at[at + 4]) || !IsDigit(text.at[at + 5])) return false;
  return number(at + 1) <= 23 && number(at + 4) <= 59;
}

bool IsPlainMediaType(Text text) {
  return Is(text, "application/json") || Is(text, "application/json; charset=utf-8") || Is(text, "text/plain") ||
         Is(text, "application/octet-stream");
}

// Version 00, no id of zeros only, and no flag but sampled and random (W3C Trace Context, section 3.2): shared/tracing/trace-context.ts would return it
// unchanged.
bool IsPlainTraceparent(Text text) {
  static const char kForm[] = "00-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-0x";
  if (text.length != sizeof kForm - 1) return false;
  bool id[2] = {false, false};
  for (size_t index = 0; index < text.length; index++) {
    char c = text.at[index];
    if (kForm[index] != 'x') {
      if (c != kForm[index]) return false;
    } else if (!IsDigit(c) && !(c >= 'a' && c <= 'f')) {
      return false;
    } else if (index < text.length - 2) {
      if (c != '0') id[index < 35 ? 0 : 1] = true;
    } else if (c > '3') {
      return false;
    }
  }
  return id[0] && id[1];
}

constexpr size_t kMostTimeDigits = 15;
// As in consumer/decode.ts: more than a delivery takes, and more than clocks differ.
constexpr int64_t kMostDelivery = 3600000;

// A whole number close to the record's timestamp. @returns -1 for anything else
int64_t PlainReceivedAt(Text text, int64_t timestamp) {
  if (text.length == 0 || text.length > kMostTimeDigits) return -1;
  int64_t at = 0;
  for (size_t index = 0; index < text.length; index++) {
    if (!IsDigit(text.at[index])) return -1;
    at = at * 10 + (text.at[index] - '0');
  }
  // With a leading zero it would be written differently.
  if (text.at[0] == '0') return -1;
  return at - timestamp <= kMostDelivery && timestamp - at <= kMostDelivery ? at : -1;
}

// Of `ce_`.
constexpr size_t kPrefixLength = 3;
constexpr size_t kMostAttributes = 32;

// Headers beside the event's that decide whether it can be passed on.
struct Delivery {
  bool has_traceparent = false;
  bool has_received_at = false;
  bool plain = true;
  int64_t received_at = -1;

  void See(Text name, Text value, int64_t timestamp) {
    if (Is(name, "traceparent")) {
      if (has_traceparent || value.at == NULL || !IsPlainTraceparent(value)) plain = false;
      has_traceparent = true;
    } else if (Is(name, "kt-received-at")) {
      received_at = has_received_at || value.at == NULL ? -1 : PlainReceivedAt(value, timestamp);
      if (received_at < 0) plain = false;
      has_received_at = true;
    } else if (Is(name, "tracestate")) {
      plain = false;
    }
  }
};

}  // namespace

uint64_t HashOf(uint64_t seed, const char* text, size_t length) { return Wyhash(seed, text, length); }

bool ReadPlain(const rd_kafka_message_t* message, const uint64_t seeds[2], PlainEvent* event) {
  rd_kafka_timestamp_type_t timestamp_type;
  int64_t timestamp = rd_kafka_message_timestamp(message, &timestamp_type);
  Delivery delivery;
  Text names[kMostAttributes];
  size_t attributes = 0;
  Text id{}, source{}, type{};
  bool has_version = false;
  Text name, value;
  Headers headers(message);
  while (headers.Next(&name, &value)) {
    bool is_attribute = name.length >= kPrefixLength && std::memcmp(name.at, "ce_", kPrefixLength) == 0;
    bool is_type = !is_attribute && Is(name, "content-type");
    if (!is_attribute && !is_type) {
      // It is part of the identity (shared/events/identity.ts).
      if (Is(name, "kt-generation")) return false;
      delivery.See(name, value, timestamp);
      continue;
    }
    if (value.at == NULL || attributes == kMostAttributes) return false;
    for (size_t earlier = 0; earlier < attributes; earlier++)
      if (names[earlier].length == name.length && std::memcmp(names[earlier].at, name.at, name.length) == 0) return false;
    names[attributes++] = name;
    if (is_type) {
      if (!IsPlainMediaType(value)) return false;
      continue;
    }
    Text attribute{name.at + kPrefixLength, name.length - kPrefixLength};
    if (Is(attribute, "source")) {
      if (!IsPlainUri(value, false)) return false;
      source = value;
    } else if (Is(attribute, "dataschema")) {
      if (!IsPlainUri(value, true)) return false;
    } else if (Is(attribute, "time")) {
      if (!IsPlainTime(value)) return false;
    } else {
      if (!IsPlain(value) || attribute.length == 0) return false;
      if (attribute.length >= 4 && std::memcmp(attribute.at, "data", 4) == 0) return false;
      for (size_t index = 0; index < attribute.length; index++)
        if (!IsDigit(attribute.at[index]) && !(attribute.at[index] >= 'a' && attribute.at[index] <= 'z')) return false;
      if (Is(attribute, "id")) id = value;
      if (Is(attribute, "type")) type = value;
      if (Is(attribute, "specversion")) {
        if (!Is(value, "1.0")) return false;
        has_version = true;
      }
    }
  }
  if (headers.broken()) return false;
  if (!has_version || type.at == NULL || id.at == NULL || source.at == NULL) return false;
  // As consumer/decode.ts joins them.
  // The event loop is the only caller.
  static std::string identity;
  identity.assign(source.at, source.length).append(1, '\n').append(id.at, id.length);
  for (size_t which = 0; which < 2; which++) event->identity[which] = Wyhash(seeds[which], identity.data(), identity.size());
  event->type = type;
  event->received_at = delivery.received_at;
  event->passable = delivery.plain && timestamp >= 0;
  return true;
}

}  // namespace NodeKafka
