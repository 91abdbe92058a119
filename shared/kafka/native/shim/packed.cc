// Records and delivery reports in batches: one call and one buffer for many, where the client calls several JavaScript functions for each header.
// shared/kafka/packed.ts is the other side of the formats below.
//
// Every buffer contains the version of the formats, and the reader refuses other versions (`kFormat` here, `FORMAT` there; a change of a format
// changes both). All numbers are little-endian, like the machine's.
// Outgoing: i32 format · i32 name of a header that all records get, with the first text as its value (-1: none), then records, each beginning at a
// multiple of 4 bytes:
//   i32 bytes of this record · i32 sequence · i32 topic (as `topics` gave it) · i32 partition (-1: the key chooses)
//   i32 key bytes (-1: none) · i32 value bytes (-1: none) · i32 headers
//   a header: i32 name (>= 0: its place in `names`; else ~bytes of the name) · i32 value bytes (-1: none)
//   then the bytes, one after the other: key; for each header its name, if that has no number, and its value; then the record's value
// A record that is passed on as it came has, after its partition:
//   i32 -2 · i32 batch, which is one of the buffers that are given with the records · i32 the record's beginning in it ·
//   i32 text of its tenant · i32 text of the beginning of its context, up to the fingerprint · i32 text of the end of its context, without its brace ·
//   i32 text of its result's type (-1: its own) · i32 bytes of its result (-1: none), then the bytes
// Delivery reports, 32 bytes each:
//   i32 sequence · i32 error · i32 partition · i16 format · i16 1 where a broker may have stored it, else 0 · f64 offset · f64 timestamp (ms)
// Incoming: i32 format · i32 0, then records, each beginning at a multiple of 8 bytes:
//   i32 bytes of this record · i32 error · i32 topic · i32 partition · f64 offset · f64 timestamp (ms)
//   i32 key bytes · i32 value bytes · i32 headers · i32 bytes from the record's beginning to its value
//   u64 and u64, the hashes of its identity · f64 when the producer received it (ms; -1: it does not say) · i32 type, as `type` has it · i32 0
//   The type is -1 where only JavaScript can decide what the record is; then the fields before it have no meaning.
//   a header: i32 name, as above · i32 value bytes (-1: none) · i32 0 ASCII, 1 other UTF-8, 2 other bytes
//   then the bytes: key, and of every header the name, where it has no place, and the value; then the record's value
// When only identities are requested, a record with a known identity has -1 headers, no key and no value.
// With a filter, records that do not match are left out. Behind the others, each partition with such records has an entry like a record's head, with
// error -1000 and, as its offset, the one after the last of them.
// A filter: i32 format · i32 key bytes (-1: any key) · i32 conditions · the key · of each condition: i32 0 equals, 1 contains · i32 name bytes ·
//   i32 value bytes · the name · the value
#include <nan.h>

#include <bit>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "librdkafka/src/rdkafka.h"
#include "shim/clients.h"
#include "shim/filter.h"
#include "shim/identity.h"
#include "shim/passing.h"
#include "shim/reader.h"
#include "src/kafka-consumer.h"
#include "src/producer.h"

// shim/sent.c.
extern "C" int kafkatrace_may_be_stored(const rd_kafka_message_t* message);

namespace NodeKafka {

// ASSUMES little-endian numbers, as in the formats; checked when compiled.
static_assert(std::endian::native == std::endian::little, "the formats are little-endian");

constexpr int32_t kFormat = 4;
constexpr size_t kOutgoingHead = 8;
constexpr size_t kIncomingHead = 8;

// The opaque of a packed record. Its lowest bit is set, which it never is in the client's own opaques, since these are pointers.
constexpr uintptr_t kOurs = 1;
constexpr unsigned kNumberBits = 15;

struct Report {
  int32_t sequence;
  int32_t error;
  int32_t partition;
  int16_t format;
  int16_t may_be_stored;
  double offset;
  double timestamp;
};
static_assert(sizeof(Report) == 32, "the other side reads 32 bytes");

class PackedProducer : public Callbacks::Dispatcher {
 public:
  PackedProducer(Producer* producer, bool errors_only) : producer(producer), errors_only(errors_only) {}

  void Flush() override {
    Nan::HandleScope scope;
    Dispatch(0, NULL);
  }

  // From any thread.
  void Add(const Report& report) {
    scoped_mutex_lock lock(async_lock);
    // The first report wakes the event loop, which takes all that follow. Within the lock, so that the event loop's handle is not closed
    // meanwhile.
    if (reports.empty()) Execute();
    reports.push_back(report);
  }

  size_t Take(Report* to, size_t most) {
    scoped_mutex_lock lock(async_lock);
    size_t count = std::min(most, reports.size() - taken);
    std::memcpy(to, reports.data() + taken, count * sizeof(Report));
    taken += count;
    if (taken == reports.size()) {
      reports.clear();
      taken = 0;
    }
    return count;
  }

  // librdkafka's handle of a topic; NULL where there can be none. Looking a topic up by its name costs more than producing to it.
  rd_kafka_topic_t* TopicHandle(rd_kafka_t* rk, int32_t number, const std::string& name) {
    if (static_cast<size_t>(number) >= handles.size()) handles.resize(number + 1, NULL);
    if (handles[number] == NULL) handles[number] = rd_kafka_topic_new(rk, name.c_str(), NULL);
    return handles[number];
  }

  // Before the client is destroyed, which waits for its topics.
  void Close() {
    closed = true;
    for (rd_kafka_topic_t* handle : handles)
      if (handle != NULL) rd_kafka_topic_destroy(handle);
    handles.clear();
    scoped_mutex_lock lock(async_lock);
    Deactivate();
    // Releases its JavaScript values.
    for (Nan::Callback* callback : callbacks) delete callback;
    callbacks.clear();
  }

  Producer* producer;
  const bool errors_only;
  bool closed = false;

 private:
  std::vector<Report> reports;
  size_t taken = 0;
  std::vector<rd_kafka_topic_t*> handles;
};

// Has access to a client's connection and its lock.
class Packed {
 public:
  static NAN_METHOD(Names);
  static NAN_METHOD(Topic);
  static NAN_METHOD(Type);
  static NAN_METHOD(OpenProducer);
  static NAN_METHOD(Produce);
  static NAN_METHOD(Reports);
  static NAN_METHOD(Purge);
  static NAN_METHOD(CloseProducer);
  static NAN_METHOD(Consume);
  static NAN_METHOD(Hash);
};

namespace {

std::vector<std::string> names;
// By length, which distinguishes most of them without a hash.
std::vector<std::vector<int32_t>> names_of_length;
std::vector<std::string> topics;
std::unordered_map<std::string, int32_t> place_of_topic;

// Types of events that may be passed on. Senders choose them, so their number is limited.
constexpr size_t kMostTypes = 1000;
std::vector<std::string> types;
std::unordered_map<std::string, int32_t> place_of_type;

// By number; the number of a closed one is not reused, since reports of its records may still arrive. An array, since it is read from librdkafka's
// threads; an entry is written before the first record that names it.
PackedProducer* producers[1u << kNumberBits];
size_t producers_opened = 0;

// The number of a header name; -1: it has none.
int32_t PlaceOfName(const char* name, size_t length) {
  if (length >= names_of_length.size()) return -1;
  for (int32_t place : names_of_length[length])
    if (std::memcmp(names[place].data(), name, length) == 0) return place;
  return -1;
}

int32_t PlaceOfTopic(const std::string& topic) {
  auto found = place_of_topic.find(topic);
  if (found != place_of_topic.end()) return found->second;
  int32_t place = static_cast<int32_t>(topics.size());
  topics.push_back(topic);
  place_of_topic.emplace(topic, place);
  return place;
}

// -1: there are too many.
int32_t PlaceOfType(Text text) {
  static std::string type;
  type.assign(text.at, text.length);
  auto found = place_of_type.find(type);
  if (found != place_of_type.end()) return found->second;
  if (types.size() == kMostTypes) return -1;
  int32_t place = static_cast<int32_t>(types.size());
  types.push_back(type);
  place_of_type.emplace(type, place);
  return place;
}

struct Bytes {
  char* data;
  size_t length;
};

bool BytesOf(v8::Local<v8::Value> value, Bytes* bytes) {
  if (!node::Buffer::HasInstance(value)) return false;
  bytes->data = node::Buffer::Data(value);
  bytes->length = node::Buffer::Length(value);
  return true;
}

bool TextsOf(v8::Local<v8::Value> value, std::vector<std::string>* texts) {
  texts->clear();
  if (!value->IsArray()) return false;
  v8::Local<v8::Array> list = value.As<v8::Array>();
  for (uint32_t index = 0; index < list->Length(); index++) {
    v8::Local<v8::Value> entry;
    if (!Nan::Get(list, index).ToLocal(&entry) || !entry->IsString()) return false;
    Nan::Utf8String text(entry);
    texts->emplace_back(*text, text.length());
  }
  return true;
}

bool BatchesOf(v8::Local<v8::Value> value, std::vector<Bytes>* batches) {
  batches->clear();
  if (!value->IsArray()) return false;
  v8::Local<v8::Array> list = value.As<v8::Array>();
  for (uint32_t index = 0; index < list->Length(); index++) {
    v8::Local<v8::Value> entry;
    Bytes bytes;
    if (!Nan::Get(list, index).ToLocal(&entry) || !BytesOf(entry, &bytes)) return false;
    batches->push_back(bytes);
  }
  return true;
}

constexpr int kMostHeaders = 100000;
constexpr int32_t kPassed = -2;

// What records of one call share.
struct Shared {
  PackedProducer* to;
  rd_kafka_t* rk;
  uintptr_t number;
  // The name of a header that all records get; NULL: none. Its value is the first text.
  const std::string* common;
  std::vector<std::string> texts;
  // Of passed records.
  std::vector<Bytes> batches;
};

// Where a record goes, and the opaque that its report has.
struct Destination {
  rd_kafka_topic_t* topic;
  int32_t partition;
  uintptr_t opaque;
};

// @returns false for a topic that there is not
bool FindDestination(const Shared& shared, int32_t sequence, int32_t topic, int32_t partition, Destination* destination) {
  destination->topic = shared.to->TopicHandle(shared.rk, topic, topics[topic]);
  destination->partition = partition;
  destination->opaque =
      (static_cast<uintptr_t>(static_cast<uint32_t>(sequence)) << (kNumberBits + 1)) | (shared.number << 1) | kOurs;
  return destination->topic != NULL;
}

void AddHeader(rd_kafka_headers_t* headers, const std::string& name, const std::string& value) {
  rd_kafka_header_add(headers, name.data(), name.size(), value.data(), value.size());
}

// Takes the headers.
rd_kafka_resp_err_t Submit(const Shared& shared, const Destination& destination, const char* key, int32_t key_length,
                           const char* value, int32_t value_length, rd_kafka_headers_t* headers) {
  if (shared.common != NULL) AddHeader(headers, *shared.common, shared.texts[0]);
  rd_kafka_vu_t parts[7];
  parts[0].vtype = RD_KAFKA_VTYPE_RKT;
  parts[0].u.rkt = destination.topic;
  parts[1].vtype = RD_KAFKA_VTYPE_PARTITION;
  parts[1].u.i32 = destination.partition;
  parts[2].vtype = RD_KAFKA_VTYPE_MSGFLAGS;
  parts[2].u.i = RD_KAFKA_MSG_F_COPY;
  parts[3].vtype = RD_KAFKA_VTYPE_VALUE;
  parts[3].u.mem.ptr = const_cast<char*>(value);
  parts[3].u.mem.size = value_length < 0 ? 0 : value_length;
  parts[4].vtype = RD_KAFKA_VTYPE_KEY;
  parts[4].u.mem.ptr = const_cast<char*>(key);
  parts[4].u.mem.size = key_length < 0 ? 0 : key_length;
  parts[5].vtype = RD_KAFKA_VTYPE_OPAQUE;
  parts[5].u.ptr = reinterpret_cast<void*>(destination.opaque);
  parts[6].vtype = RD_KAFKA_VTYPE_HEADERS;
  parts[6].u.headers = headers;
  rd_kafka_error_t* error = rd_kafka_produceva(shared.rk, parts, 7);
  if (error == NULL) return RD_KAFKA_RESP_ERR_NO_ERROR;
  rd_kafka_headers_destroy(headers);
  rd_kafka_resp_err_t code = rd_kafka_error_code(error);
  rd_kafka_error_destroy(error);
  return code;
}

rd_kafka_resp_err_t PassOne(const Shared& shared, const Destination& destination, Reader& reader);

// Passes one record to librdkafka. @returns its error; ERR__BAD_MSG for an invalid record
rd_kafka_resp_err_t ProduceOne(const Shared& shared, const char* at, size_t length) {
  Reader reader(at, length);
  int32_t ignored, sequence, topic, partition, key_length, value_length, count;
  if (!reader.Number(&ignored) || !reader.Number(&sequence) || !reader.Number(&topic) || !reader.Number(&partition) ||
      !reader.Number(&key_length))
    return RD_KAFKA_RESP_ERR__BAD_MSG;
  if (topic < 0 || static_cast<size_t>(topic) >= topics.size()) return RD_KAFKA_RESP_ERR__BAD_MSG;
  Destination destination;
  if (key_length == kPassed) {
    if (!FindDestination(shared, sequence, topic, partition, &destination)) return RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC;
    return PassOne(shared, destination, reader);
  }
  if (!reader.Number(&value_length) || !reader.Number(&count) || count < 0 || count > kMostHeaders)
    return RD_KAFKA_RESP_ERR__BAD_MSG;
  if (length < 28 + static_cast<size_t>(count) * 8) return RD_KAFKA_RESP_ERR__BAD_MSG;
  Reader lengths(at + 28, static_cast<size_t>(count) * 8);
  Reader bytes(at + 28 + count * 8, length - 28 - count * 8);
  const char* key;
  const char* value;
  if (!bytes.Skip(key_length, &key)) return RD_KAFKA_RESP_ERR__BAD_MSG;
  if (!FindDestination(shared, sequence, topic, partition, &destination)) return RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC;
  rd_kafka_headers_t* headers = rd_kafka_headers_new(count + 1);
  for (int32_t index = 0; index < count; index++) {
    int32_t name, header_length;
    const char* name_bytes = NULL;
    const char* header;
    bool fits = lengths.Number(&name) && lengths.Number(&header_length);
    if (fits && name < 0) fits = bytes.Skip(~name, &name_bytes);
    if (fits && name >= 0) fits = static_cast<size_t>(name) < names.size();
    if (!fits || !bytes.Skip(header_length, &header)) {
      rd_kafka_headers_destroy(headers);
      return RD_KAFKA_RESP_ERR__BAD_MSG;
    }
    if (name >= 0)
      rd_kafka_header_add(headers, names[name].data(), names[name].size(), header, header_length);
    else
      rd_kafka_header_add(headers, name_bytes, ~name, header, header_length);
  }
  if (!bytes.Skip(value_length, &value)) {
    rd_kafka_headers_destroy(headers);
    return RD_KAFKA_RESP_ERR__BAD_MSG;
  }
  return Submit(shared, destination, key, key_length, value, value_length, headers);
}

PackedProducer* ProducerOf(v8::Local<v8::Value> value) {
  if (!value->IsInt32()) return NULL;
  int32_t number = Nan::To<int32_t>(value).FromJust();
  if (number < 0 || static_cast<size_t>(number) >= producers_opened) return NULL;
  return producers[number];
}

enum Encoding { kAscii = 0, kUtf8 = 1, kBytes = 2 };

// Whether bytes are ASCII, other UTF-8 (Unicode 15, table 3-7), or neither.
Encoding EncodingOf(const unsigned char* at, size_t length) {
  const unsigned char* end = at + length;
  while (at < end && *at < 0x80) at++;
  if (at == end) return kAscii;
  while (at < end) {
    unsigned char lead = *at++;
    if (lead < 0x80) continue;
    int more;
    unsigned char least = 0x80, most = 0xbf;
    if (lead >= 0xc2 && lead <= 0xdf) {
      more = 1;
    } else if (lead >= 0xe0 && lead <= 0xef) {
      more = 2;
      if (lead == 0xe0) least = 0xa0;
      if (lead == 0xed) most = 0x9f;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
      more = 3;
      if (lead == 0xf0) least = 0x90;
      if (lead == 0xf4) most = 0x8f;
    } else {
      return kBytes;
    }
    for (; more > 0; more--, least = 0x80, most = 0xbf) {
      if (at == end || *at < least || *at > most) return kBytes;
      at++;
    }
  }
  return kUtf8;
}

struct Header {
  int32_t name;
  const char* name_bytes;
  const void* value;
  int32_t length;
};

size_t Aligned(size_t length) { return (length + 7) & ~static_cast<size_t>(7); }

constexpr uint32_t kMostMessages = 100000;
// With a filter, a call takes messages in parts, until it has enough that match or has taken this long.
constexpr size_t kFilteredAtOnce = 1000;
constexpr std::chrono::milliseconds kMostFiltering(8);
// Not one of librdkafka's errors, which are above -200.
constexpr int32_t kPassedOver = -1000;
constexpr size_t kRecordHead = 80;
constexpr size_t kHeaderHead = 12;
constexpr int32_t kIdentityOnly = -1;

// A message and the sizes that packing needs, computed once.
struct Incoming {
  rd_kafka_message_t* message;
  int32_t topic;
  size_t first_header;
  // Or kIdentityOnly.
  int32_t headers;
  size_t value_at;
  size_t bytes;
  PlainEvent plain;
  // The number of its type; -1: only JavaScript can decide what it is.
  int32_t type;
};

// Sizes a message and lists its headers in `list`.
// @param seeds NULL: nothing is to be found out about its event
Incoming Measure(rd_kafka_message_t* message, std::vector<Header>* list, const uint64_t* seeds, bool identities_only) {
  Incoming one{message, -1, list->size(), 0, 0, 0, {{}, {}, -1, false}, -1};
  bool plain = seeds != NULL && message->err == RD_KAFKA_RESP_ERR_NO_ERROR && ReadPlain(message, seeds, &one.plain);
  if (plain && identities_only) {
    one.topic = PlaceOfTopic(rd_kafka_topic_name(message->rkt));
    one.headers = kIdentityOnly;
    one.value_at = kRecordHead;
    one.bytes = kRecordHead;
    return one;
  }
  if (plain && one.plain.passable) one.type = PlaceOfType(one.plain.type);
  size_t text = message->key == NULL ? 0 : message->key_len;
  if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
    Headers headers(message);
    Text name, value;
    while (headers.Next(&name, &value)) {
      int32_t place = PlaceOfName(name.at, name.length);
      list->push_back(Header{place < 0 ? ~static_cast<int32_t>(name.length) : place, name.at, value.at,
                             value.at == NULL ? -1 : static_cast<int32_t>(value.length)});
      if (place < 0) text += name.length;
      text += value.length;
      one.headers++;
    }
    // As librdkafka: none, where one is broken.
    if (headers.broken()) {
      list->resize(one.first_header);
      one.headers = 0;
      text = message->key == NULL ? 0 : message->key_len;
    }
  }
  if (message->rkt != NULL) one.topic = PlaceOfTopic(rd_kafka_topic_name(message->rkt));
  one.value_at = kRecordHead + one.headers * kHeaderHead + text;
  bool has_value = message->err == RD_KAFKA_RESP_ERR_NO_ERROR && message->payload != NULL;
  one.bytes = Aligned(one.value_at + (has_value ? message->len : 0));
  return one;
}

char* Put(char* at, int32_t number) {
  std::memcpy(at, &number, sizeof number);
  return at + sizeof number;
}

char* Put(char* at, double number) {
  std::memcpy(at, &number, sizeof number);
  return at + sizeof number;
}

char* Put(char* at, const void* bytes, size_t length) {
  if (length > 0) std::memcpy(at, bytes, length);
  return at + length;
}

void Pack(const Incoming& one, const Header* headers, char* to) {
  const rd_kafka_message_t* message = one.message;
  bool good = message->err == RD_KAFKA_RESP_ERR_NO_ERROR;
  bool identity_only = one.headers == kIdentityOnly;
  rd_kafka_timestamp_type_t type;
  int64_t timestamp = good ? rd_kafka_message_timestamp(message, &type) : -1;
  char* at = to;
  at = Put(at, static_cast<int32_t>(one.bytes));
  at = Put(at, static_cast<int32_t>(message->err));
  at = Put(at, one.topic);
  at = Put(at, message->partition);
  at = Put(at, static_cast<double>(message->offset));
  at = Put(at, static_cast<double>(timestamp));
  at = Put(at, identity_only || message->key == NULL ? -1 : static_cast<int32_t>(message->key_len));
  at = Put(at, identity_only || !good || message->payload == NULL ? -1 : static_cast<int32_t>(message->len));
  at = Put(at, one.headers);
  at = Put(at, static_cast<int32_t>(one.value_at));
  at = Put(at, one.plain.identity, sizeof one.plain.identity);
  at = Put(at, static_cast<double>(one.plain.received_at));
  at = Put(Put(at, one.type), 0);
  if (identity_only) return;
  for (int32_t index = 0; index < one.headers; index++) {
    const Header& header = headers[index];
    at = Put(at, header.name);
    at = Put(at, header.length);
    at = Put(at, static_cast<int32_t>(
                     header.length < 0 ? kAscii : EncodingOf(static_cast<const unsigned char*>(header.value), header.length)));
  }
  if (message->key != NULL) at = Put(at, message->key, message->key_len);
  for (int32_t index = 0; index < one.headers; index++) {
    const Header& header = headers[index];
    if (header.name < 0) at = Put(at, header.name_bytes, ~header.name);
    if (header.length > 0) at = Put(at, header.value, header.length);
  }
  if (good && message->payload != NULL) Put(at, message->payload, message->len);
}

// The records of a partition that did not match.
struct PassedOver {
  const rd_kafka_topic_t* handle;
  int32_t topic;
  int32_t partition;
  int64_t next;
};

// Records of a partition follow each other.
void PassOver(const rd_kafka_message_t* message, std::vector<PassedOver>* list) {
  for (size_t index = list->size(); index-- > 0;) {
    PassedOver& one = (*list)[index];
    if (one.handle != message->rkt || one.partition != message->partition) continue;
    one.next = message->offset + 1;
    return;
  }
  list->push_back({message->rkt, PlaceOfTopic(rd_kafka_topic_name(message->rkt)), message->partition, message->offset + 1});
}

char* PackPassedOver(const PassedOver& one, char* to) {
  char* at = Put(Put(to, static_cast<int32_t>(kRecordHead)), kPassedOver);
  at = Put(Put(at, one.topic), one.partition);
  at = Put(at, static_cast<double>(one.next));
  std::memset(at, 0, to + kRecordHead - at);
  return to + kRecordHead;
}

constexpr char kAttributePrefix[] = "ce_";
const std::string kContentType = "content-type", kJson = "application/json";
const std::string kTenant = "kt-tenant", kReceivedAt = "kt-received-at", kContext = "kt-context";

// Of headers: the type of the event, others that go on, those that describe the data, and those that JavaScript would not write either.
enum Kind { kType, kKept, kOfData, kOther };

// Notes what the context of a passed event depends on.
Kind SeeHeader(Text name, Text value, PassedEvent* event) {
  if (name.length >= sizeof kAttributePrefix - 1 && std::memcmp(name.at, kAttributePrefix, sizeof kAttributePrefix - 1) == 0) {
    Text attribute{name.at + sizeof kAttributePrefix - 1, name.length - (sizeof kAttributePrefix - 1)};
    if (Is(attribute, "type")) {
      event->type = value;
      return kType;
    }
    if (Is(attribute, "source")) event->source = value;
    if (Is(attribute, "subject")) event->subject = value;
    if (Is(attribute, "time")) event->time = value;
    return Is(attribute, "dataschema") ? kOfData : kKept;
  }
  if (Is(name, "content-type")) return kOfData;
  return Is(name, "traceparent") ? kKept : kOther;
}

// Produces a record of a batch that Pack has filled: its key, value, attributes and trace, and the context of its outcome. What consumer/processed.ts makes
// of a decoded one has the same headers.
// @returns ERR__BAD_MSG where the batch has no such record
rd_kafka_resp_err_t PassOne(const Shared& shared, const Destination& destination, Reader& reader) {
  int32_t batch, from, tenant, context, context_end, type, result_length;
  if (!reader.Number(&batch) || !reader.Number(&from) || !reader.Number(&tenant) || !reader.Number(&context) ||
      !reader.Number(&context_end) || !reader.Number(&type) || !reader.Number(&result_length))
    return RD_KAFKA_RESP_ERR__BAD_MSG;
  const char* result;
  if (!reader.Skip(result_length, &result)) return RD_KAFKA_RESP_ERR__BAD_MSG;
  auto is_of = [](int32_t index, size_t size) { return index >= 0 && static_cast<size_t>(index) < size; };
  for (int32_t text : {tenant, context, context_end, type < 0 ? tenant : type})
    if (!is_of(text, shared.texts.size())) return RD_KAFKA_RESP_ERR__BAD_MSG;
  if (!is_of(batch, shared.batches.size())) return RD_KAFKA_RESP_ERR__BAD_MSG;
  const Bytes& packed = shared.batches[batch];
  if (from < 0 || packed.length < kRecordHead || static_cast<size_t>(from) > packed.length - kRecordHead)
    return RD_KAFKA_RESP_ERR__BAD_MSG;
  const char* head = packed.data + from;
  auto number = [head](size_t at) { return Int(head + at * 4); };
  int32_t bytes = number(0), key_length = number(8), value_length = number(9), count = number(10), value_at = number(11);
  if (bytes < static_cast<int32_t>(kRecordHead) || static_cast<size_t>(bytes) > packed.length - from || count < 0 ||
      count > kMostHeaders || number(18) < 0 || static_cast<size_t>(bytes) < kRecordHead + count * kHeaderHead ||
      value_at < 0 || value_at > bytes)
    return RD_KAFKA_RESP_ERR__BAD_MSG;
  Reader entries(head + kRecordHead, count * kHeaderHead);
  Reader texts(head + kRecordHead + count * kHeaderHead, bytes - kRecordHead - count * kHeaderHead);
  Reader values(head + value_at, bytes - value_at);
  const char* key;
  const char* value;
  if (!texts.Skip(key_length, &key) || !values.Skip(value_length, &value)) return RD_KAFKA_RESP_ERR__BAD_MSG;
  double received_at, written_at;
  std::memcpy(&written_at, head + 24, sizeof written_at);
  std::memcpy(&received_at, head + 64, sizeof received_at);
  PassedEvent event;
  event.received_at = static_cast<int64_t>(received_at);
  event.written_at = static_cast<int64_t>(written_at);
  if (value != NULL) event.data = Text{value, static_cast<size_t>(value_length)};
  rd_kafka_headers_t* headers = rd_kafka_headers_new(count + 4);
  for (int32_t index = 0; index < count; index++) {
    int32_t place_of_name, length, ignored;
    const char* name_at = NULL;
    const char* header;
    bool fits = entries.Number(&place_of_name) && entries.Number(&length) && entries.Number(&ignored);
    if (fits && place_of_name < 0) fits = texts.Skip(~place_of_name, &name_at);
    if (fits && place_of_name >= 0) fits = is_of(place_of_name, names.size());
    if (!fits || !texts.Skip(length, &header)) {
      rd_kafka_headers_destroy(headers);
      return RD_KAFKA_RESP_ERR__BAD_MSG;
    }
    Text name = place_of_name < 0 ? Text{name_at, static_cast<size_t>(~place_of_name)}
                                  : Text{names[place_of_name].data(), names[place_of_name].size()};
    Kind kind = SeeHeader(name, Text{header, static_cast<size_t>(length < 0 ? 0 : length)}, &event);
    if (kind == kOther || (result != NULL && kind == kOfData)) continue;
    if (kind == kType && type >= 0)
      rd_kafka_header_add(headers, name.at, name.length, shared.texts[type].data(), shared.texts[type].size());
    else
      rd_kafka_header_add(headers, name.at, name.length, header, length);
  }
  static std::string made;
  if (result != NULL) AddHeader(headers, kContentType, kJson);
  AddHeader(headers, kTenant, shared.texts[tenant]);
  made.clear();
  AppendNumber(event.received_at >= 0 ? event.received_at : event.written_at, &made);
  AddHeader(headers, kReceivedAt, made);
  made = shared.texts[context];
  AppendContext(event, &made);
  made += shared.texts[context_end];
  made.push_back('}');
  AddHeader(headers, kContext, made);
  if (result != NULL) return Submit(shared, destination, key, key_length, result, result_length, headers);
  return Submit(shared, destination, key, key_length, value, value_length, headers);
}

}  // namespace

// names(list): the header names that go by number from now on. Called once.
NAN_METHOD(Packed::Names) {
  if (!info[0]->IsArray()) return Nan::ThrowTypeError("names must be an array");
  v8::Local<v8::Array> list = info[0].As<v8::Array>();
  names.clear();
  names_of_length.clear();
  for (uint32_t index = 0; index < list->Length(); index++) {
    v8::Local<v8::Value> entry;
    if (!Nan::Get(list, index).ToLocal(&entry)) return;
    if (!entry->IsString()) return Nan::ThrowTypeError("a name must be a string");
    Nan::Utf8String text(entry);
    names.emplace_back(*text, text.length());
    if (text.length() >= static_cast<int>(names_of_length.size())) names_of_length.resize(text.length() + 1);
    names_of_length[text.length()].push_back(static_cast<int32_t>(index));
  }
}

// topic(name or number): the number of a topic, or the topic of a number
NAN_METHOD(Packed::Topic) {
  if (info[0]->IsString()) {
    Nan::Utf8String text(info[0]);
    info.GetReturnValue().Set(Nan::New<v8::Number>(PlaceOfTopic(std::string(*text, text.length()))));
    return;
  }
  int32_t place = info[0]->IsInt32() ? Nan::To<int32_t>(info[0]).FromJust() : -1;
  if (place < 0 || static_cast<size_t>(place) >= topics.size()) return Nan::ThrowTypeError("no topic has this number");
  info.GetReturnValue().Set(Nan::New<v8::String>(topics[place]).ToLocalChecked());
}

// type(number): the type of events that has this number
NAN_METHOD(Packed::Type) {
  int32_t place = info[0]->IsInt32() ? Nan::To<int32_t>(info[0]).FromJust() : -1;
  if (place < 0 || static_cast<size_t>(place) >= types.size()) return Nan::ThrowTypeError("no type has this number");
  info.GetReturnValue().Set(Nan::New<v8::String>(types[place]).ToLocalChecked());
}

// openProducer(client, onReports, errorsOnly) → its number. `onReports` is called when there are reports to take.
NAN_METHOD(Packed::OpenProducer) {
  Producer* producer = ClientOf<Producer>(info[0]);
  if (producer == NULL) return Nan::ThrowTypeError("a producer is needed");
  if (!info[1]->IsFunction()) return Nan::ThrowTypeError("a function is needed");
  if (producers_opened == 1u << kNumberBits) return Nan::ThrowTypeError("too many producers were opened in this process");
  PackedProducer* opened = new PackedProducer(producer, info[2]->IsTrue());
  opened->AddCallback(info[1].As<v8::Function>());
  opened->Activate();
  producers[producers_opened] = opened;
  info.GetReturnValue().Set(Nan::New<v8::Number>(static_cast<double>(producers_opened++)));
}

// produce(number, buffer, bytes, texts, batches): passes all records to librdkafka; those that it refuses are in the reports, with partition -2.
NAN_METHOD(Packed::Produce) {
  PackedProducer* packed = ProducerOf(info[0]);
  Bytes buffer;
  if (packed == NULL || !BytesOf(info[1], &buffer) || !info[2]->IsNumber())
    return Nan::ThrowTypeError("a number, a buffer and a length are needed");
  int64_t length = Nan::To<int64_t>(info[2]).FromJust();
  if (length < 0 || static_cast<size_t>(length) > buffer.length) return Nan::ThrowTypeError("the length is beyond the buffer");
  if (static_cast<size_t>(length) < kOutgoingHead || Int(buffer.data) != kFormat)
    return Nan::ThrowTypeError("the buffer has another format than the addon");
  static Shared shared;
  shared.to = packed;
  shared.number = Nan::To<int32_t>(info[0]).FromJust();
  shared.rk = NULL;
  if (!TextsOf(info[3], &shared.texts) || !BatchesOf(info[4], &shared.batches))
    return Nan::ThrowTypeError("lists of texts and of buffers are needed");
  int32_t common = Int(buffer.data + 4);
  if (common >= 0 && (static_cast<size_t>(common) >= names.size() || shared.texts.empty()))
    return Nan::ThrowTypeError("the common header has no name or no text");
  shared.common = common < 0 ? NULL : &names[common];
  TryReadLock lock(packed->producer->m_connection_lock);
  if (!packed->closed && lock && packed->producer->m_client != NULL) shared.rk = packed->producer->m_client->c_ptr();
  for (int64_t at = kOutgoingHead; at < length;) {
    int32_t bytes = length - at < 8 ? 0 : Int(buffer.data + at);
    if (bytes < 8 || bytes > length - at) return Nan::ThrowTypeError("a record is beyond the length");
    rd_kafka_resp_err_t error =
        shared.rk == NULL ? RD_KAFKA_RESP_ERR__STATE : ProduceOne(shared, buffer.data + at, bytes);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
      packed->Add(Report{Int(buffer.data + at + 4), error, -2, kFormat, 0, -1, -1});
    at += (bytes + 3) & ~3;
  }
}

// reports(number, buffer) → how many were written to the buffer; 0 when there are no more
NAN_METHOD(Packed::Reports) {
  PackedProducer* packed = ProducerOf(info[0]);
  Bytes buffer;
  if (packed == NULL || !BytesOf(info[1], &buffer)) return Nan::ThrowTypeError("a number and a buffer are needed");
  size_t count = packed->Take(reinterpret_cast<Report*>(buffer.data), buffer.length / sizeof(Report));
  info.GetReturnValue().Set(Nan::New<v8::Number>(static_cast<double>(count)));
}

// purge(number): the records that it has end, each with a report
NAN_METHOD(Packed::Purge) {
  PackedProducer* packed = ProducerOf(info[0]);
  if (packed == NULL) return Nan::ThrowTypeError("a number is needed");
  TryReadLock lock(packed->producer->m_connection_lock);
  if (lock && packed->producer->IsConnected())
    rd_kafka_purge(packed->producer->m_client->c_ptr(),
                   RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING);
}

// closeProducer(number): to be called before the client is disconnected. After it nothing is produced and `onReports` is not called; reports can still
// be taken.
NAN_METHOD(Packed::CloseProducer) {
  PackedProducer* packed = ProducerOf(info[0]);
  if (packed == NULL) return Nan::ThrowTypeError("a number is needed");
  if (!packed->closed) packed->Close();
}

// consume(client, most, seeds, identitiesOnly, buffer?, filter?) → how many bytes of the buffer have records that are ready, or another buffer where they
// do not fit; undefined when none is ready. Does not wait. The seeds are two numbers of 64 bits in a buffer. With a filter, `most` counts those that match.
NAN_METHOD(Packed::Consume) {
  KafkaConsumer* consumer = ClientOf<KafkaConsumer>(info[0]);
  if (consumer == NULL || !info[1]->IsUint32()) return Nan::ThrowTypeError("a consumer and a number are needed");
  uint64_t seeds[2];
  Bytes given;
  if (!BytesOf(info[2], &given) || given.length != sizeof seeds) return Nan::ThrowTypeError("the seeds are 16 bytes");
  std::memcpy(seeds, given.data, sizeof seeds);
  bool identities_only = info[3]->IsTrue();
  Bytes kept{NULL, 0};
  if (!info[4]->IsUndefined() && !BytesOf(info[4], &kept)) return Nan::ThrowTypeError("a buffer is needed");
  static Filter filter;
  bool filtered = !info[5]->IsUndefined();
  Bytes wanted;
  if (filtered && (!BytesOf(info[5], &wanted) || wanted.length < 4 || Int(wanted.data) != kFormat ||
                   !filter.Read(wanted.data + 4, wanted.length - 4)))
    return Nan::ThrowTypeError("the filter has another format than the addon");
  uint32_t most = Nan::To<uint32_t>(info[1]).FromJust();
  if (most > kMostMessages) return Nan::ThrowTypeError("that is too many at a time");
  static std::vector<rd_kafka_message_t*> messages;
  static std::vector<Incoming> incoming;
  static std::vector<Header> headers;
  static std::vector<PassedOver> passed_over;
  messages.resize(most);
  incoming.clear();
  headers.clear();
  passed_over.clear();
  TryReadLock lock(consumer->m_connection_lock);
  if (!lock || consumer->m_client == NULL) return;
  rd_kafka_queue_t* queue = rd_kafka_queue_get_consumer(consumer->m_client->c_ptr());
  if (queue == NULL) return;
  size_t bytes = kIncomingHead;
  auto started = std::chrono::steady_clock::now();
  while (incoming.size() < most) {
    size_t part = most - incoming.size();
    if (filtered && part > kFilteredAtOnce) part = kFilteredAtOnce;
    ssize_t count = rd_kafka_consume_batch_queue(queue, 0, messages.data(), part);
    for (ssize_t index = 0; index < count; index++) {
      rd_kafka_message_t* message = messages[index];
      if (filtered && message->err == RD_KAFKA_RESP_ERR_NO_ERROR && !filter.MayMatch(message)) {
        PassOver(message, &passed_over);
        rd_kafka_message_destroy(message);
        continue;
      }
      incoming.push_back(Measure(message, &headers, seeds, identities_only));
      bytes += incoming.back().bytes;
    }
    if (!filtered || count < static_cast<ssize_t>(part) || std::chrono::steady_clock::now() - started > kMostFiltering) break;
  }
  rd_kafka_queue_destroy(queue);
  if (incoming.empty() && passed_over.empty()) return;
  bytes += passed_over.size() * kRecordHead;
  v8::Local<v8::Object> buffer;
  char* to = kept.length >= bytes ? kept.data : NULL;
  if (to == NULL && NewBuffer(v8::Isolate::GetCurrent(), bytes).ToLocal(&buffer)) to = node::Buffer::Data(buffer);
  bool made = to != NULL;
  if (made) to = Put(Put(to, kFormat), 0);
  for (const Incoming& one : incoming) {
    if (made) Pack(one, headers.data() + one.first_header, to);
    if (made) to += one.bytes;
    rd_kafka_message_destroy(one.message);
  }
  if (!made) return;
  for (const PassedOver& one : passed_over) to = PackPassedOver(one, to);
  if (buffer.IsEmpty())
    info.GetReturnValue().Set(Nan::New<v8::Number>(static_cast<double>(bytes)));
  else
    info.GetReturnValue().Set(buffer);
}

// hash(text, seeds) → a buffer of two hashes, for the check at load
NAN_METHOD(Packed::Hash) {
  Bytes given;
  uint64_t hashes[2];
  if (!info[0]->IsString() || !BytesOf(info[1], &given) || given.length != sizeof hashes)
    return Nan::ThrowTypeError("a string and 16 bytes are needed");
  std::memcpy(hashes, given.data, sizeof hashes);
  Nan::Utf8String text(info[0]);
  for (uint64_t& hash : hashes) hash = HashOf(hash, *text, text.length());
  v8::Local<v8::Object> buffer;
  if (!NewBuffer(v8::Isolate::GetCurrent(), sizeof hashes).ToLocal(&buffer)) return;
  std::memcpy(node::Buffer::Data(buffer), hashes, sizeof hashes);
  info.GetReturnValue().Set(buffer);
}

// Called by the client's own delivery-report callback (addon.patch), from librdkafka's polling thread.
// @returns false when the report is not of a packed record
bool AddPackedReport(RdKafka::Message& message) {
  uintptr_t opaque = reinterpret_cast<uintptr_t>(message.msg_opaque());
  if ((opaque & kOurs) == 0) return false;
  PackedProducer* packed = producers[(opaque >> 1) & ((1u << kNumberBits) - 1)];
  if (packed->errors_only && message.err() == RdKafka::ERR_NO_ERROR) return true;
  packed->Add(Report{static_cast<int32_t>(opaque >> (kNumberBits + 1)), message.err(), message.partition(), kFormat,
                     static_cast<int16_t>(kafkatrace_may_be_stored(message.c_ptr())),
                     static_cast<double>(message.offset()), static_cast<double>(message.timestamp().timestamp)});
  return true;
}

void ExportPacked(v8::Local<v8::Object> exports) {
  v8::Local<v8::Object> packed = Nan::New<v8::Object>();
  Nan::SetMethod(packed, "names", Packed::Names);
  Nan::SetMethod(packed, "topic", Packed::Topic);
  Nan::SetMethod(packed, "type", Packed::Type);
  Nan::SetMethod(packed, "openProducer", Packed::OpenProducer);
  Nan::SetMethod(packed, "produce", Packed::Produce);
  Nan::SetMethod(packed, "reports", Packed::Reports);
  Nan::SetMethod(packed, "purge", Packed::Purge);
  Nan::SetMethod(packed, "closeProducer", Packed::CloseProducer);
  Nan::SetMethod(packed, "consume", Packed::Consume);
  Nan::SetMethod(packed, "hash", Packed::Hash);
  Nan::Set(exports, Nan::New("packed").ToLocalChecked(), packed);
}

}  // namespace NodeKafka
