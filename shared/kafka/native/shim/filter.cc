// Most records of a large topic are not the ones that a reader looks for. To unpack a record costs several times what it costs to decide that.
#include "shim/filter.h"

#include <string.h>
#include <strings.h>

#include "shim/reader.h"

namespace NodeKafka {

namespace {

constexpr int32_t kMostConditions = 32;
constexpr char kStructured[] = "application/cloudevents";
constexpr size_t kStructuredLength = sizeof kStructured - 1;

bool Same(Text a, Text b) { return a.length == b.length && (a.length == 0 || memcmp(a.at, b.at, a.length) == 0); }

bool IsStructured(Text name, Text value) {
  return Is(name, "content-type") && value.length >= kStructuredLength &&
         strncasecmp(value.at, kStructured, kStructuredLength) == 0;
}

}  // namespace

bool Filter::Read(const char* at, size_t length) {
  Reader reader(at, length);
  conditions_.clear();
  int32_t key_bytes, count;
  if (!reader.Number(&key_bytes) || !reader.Number(&count) || count < 0 || count > kMostConditions) return false;
  if (!reader.Skip(key_bytes, &key_.at)) return false;
  key_.length = key_bytes < 0 ? 0 : key_bytes;
  for (int32_t index = 0; index < count; index++) {
    int32_t contains, name_bytes, value_bytes;
    Condition one;
    if (!reader.Number(&contains) || !reader.Number(&name_bytes) || !reader.Number(&value_bytes) || name_bytes < 0 ||
        value_bytes < 0 || !reader.Skip(name_bytes, &one.name.at) || !reader.Skip(value_bytes, &one.value.at))
      return false;
    one.contains = contains != 0;
    one.name.length = name_bytes;
    one.value.length = value_bytes;
    conditions_.push_back(one);
  }
  return true;
}

bool Filter::MayMatch(const rd_kafka_message_t* message) const {
  bool key_differs = key_.at != NULL &&
                     (message->key == NULL || !Same(key_, Text{static_cast<const char*>(message->key), message->key_len}));
  uint32_t open = static_cast<uint32_t>((uint64_t{1} << conditions_.size()) - 1);
  if (open == 0 && !key_differs) return true;
  Headers headers(message);
  Text name, value;
  while (headers.Next(&name, &value)) {
    if (value.at == NULL) continue;
    if (IsStructured(name, value)) return true;
    if (key_differs) continue;
    for (size_t index = 0; index < conditions_.size(); index++) {
      const Condition& one = conditions_[index];
      if ((open & (1u << index)) == 0 || !Same(one.name, name)) continue;
      bool holds = one.contains ? memmem(value.at, value.length, one.value.at, one.value.length) != NULL
                                : Same(one.value, value);
      if (holds) open &= ~(1u << index);
    }
    if (open == 0 && !key_differs) return true;
  }
  return headers.broken();
}

}  // namespace NodeKafka
