// Records and delivery reports in batches: one call and one buffer for many, where the client calls several JavaScript functions for each header.
// shared/kafka/packed.ts is the other side of the formats below.
//
// Every buffer contains the version of the formats, and the reader refuses other versions (`kFormat` here, `FORMAT` there; a change of a format
// changes both). All numbers are little-endian, like the machine's.
// Outgoing: i32 format, then records, each beginning at a multiple of 4 bytes:
//   i32 bytes of this record · i32 sequence · i32 topic (as `topics` gave it) · i32 partition (-1: the key chooses)
//   i32 key bytes (-1: none) · i32 value bytes (-1: none) · i32 headers
//   a header: i32 name (>= 0: its place in `names`; else ~bytes of the name) · i32 value bytes (-1: none)
//   then the bytes, one after the other: key; for each header its name, if that has no number, and its value; then the record's value
// Delivery reports, 32 bytes each:
//   i32 sequence · i32 error · i32 partition · i32 format · f64 offset · f64 timestamp (ms)
// Incoming: i32 format · i32 0, then records, each beginning at a multiple of 8 bytes:
//   i32 bytes of this record · i32 error · i32 topic · i32 partition · f64 offset · f64 timestamp (ms)
//   i32 key bytes · i32 value bytes · i32 headers · i32 bytes from the record's beginning to its value
//   a header: i32 name, as above · i32 value bytes (-1: none) · i32 0 ASCII, 1 other UTF-8, 2 other bytes
//   then the bytes: key, and of every header the name, where it has no place, and the value; then the record's value
// When only identities are requested, a record with a known identity has -1 headers, no key and no value, but:
//   u64 and u64, the hashes of its identity
#include <nan.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "librdkafka/src/rdkafka.h"
#include "shim/clients.h"
#include "shim/identity.h"
#include "src/kafka-consumer.h"
#include "src/producer.h"

namespace NodeKafka {

// ASSUMES little-endian numbers, as in the formats; checked when compiled.
static_assert(std::endian::native == std::endian::little, "the formats are little-endian");

constexpr int32_t kFormat = 1;
constexpr size_t kOutgoingHead = 4;
constexpr size_t kIncomingHead = 8;

// The opaque of a packed record. Its lowest bit is set, which it never is in the client's own opaques, since these are pointers.
constexpr uintptr_t kOurs = 1;
constexpr unsigned kNumberBits = 15;

struct Report {
  int32_t sequence;
  int32_t error;
  int32_t partition;
  int32_t format;
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
  static NAN_METHOD(OpenProducer);
  static NAN_METHOD(Produce);
  static NAN_METHOD(Reports);
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

int32_t Int(const char* at) {
  int32_t number;
  std::memcpy(&number, at, sizeof number);
  return number;
}

// Reads what JavaScript packed. Never reads beyond the record, whatever its numbers are.
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

constexpr int kMostHeaders = 100000;

// Passes one record to librdkafka. @returns its error; ERR__BAD_MSG for an invalid record
rd_kafka_resp_err_t ProduceOne(PackedProducer* to, rd_kafka_t* rk, const char* at, size_t length, uintptr_t number) {
  Reader reader(at, length);
  int32_t ignored, sequence, topic, partition, key_length, value_length, count;
  if (!reader.Number(&ignored) || !reader.Number(&sequence) || !reader.Number(&topic) || !reader.Number(&partition) ||
      !reader.Number(&key_length) || !reader.Number(&value_length) || !reader.Number(&count))
    return RD_KAFKA_RESP_ERR__BAD_MSG;
  if (topic < 0 || static_cast<size_t>(topic) >= topics.size() || count < 0 || count > kMostHeaders)
    return RD_KAFKA_RESP_ERR__BAD_MSG;
  if (length < 28 + static_cast<size_t>(count) * 8) return RD_KAFKA_RESP_ERR__BAD_MSG;
  Reader lengths(at + 28, static_cast<size_t>(count) * 8);
  Reader bytes(at + 28 + count * 8, length - 28 - count * 8);
  const char* key;
  const char* value;
  if (!bytes.Skip(key_length, &key)) return RD_KAFKA_RESP_ERR__BAD_MSG;
  rd_kafka_topic_t* handle = to->TopicHandle(rk, topic, topics[topic]);
  if (handle == NULL) return RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC;
  rd_kafka_headers_t* headers = rd_kafka_headers_new(count);
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
  uintptr_t opaque = (static_cast<uintptr_t>(static_cast<uint32_t>(sequence)) << (kNumberBits + 1)) | (number << 1) | kOurs;
  rd_kafka_vu_t parts[7];
  parts[0].vtype = RD_KAFKA_VTYPE_RKT;
  parts[0].u.rkt = handle;
  parts[1].vtype = RD_KAFKA_VTYPE_PARTITION;
  parts[1].u.i32 = partition;
  parts[2].vtype = RD_KAFKA_VTYPE_MSGFLAGS;
  parts[2].u.i = RD_KAFKA_MSG_F_COPY;
  parts[3].vtype = RD_KAFKA_VTYPE_VALUE;
  parts[3].u.mem.ptr = const_cast<char*>(value);
  parts[3].u.mem.size = value_length < 0 ? 0 : value_length;
  parts[4].vtype = RD_KAFKA_VTYPE_KEY;
  parts[4].u.mem.ptr = const_cast<char*>(key);
  parts[4].u.mem.size = key_length < 0 ? 0 : key_length;
  parts[5].vtype = RD_KAFKA_VTYPE_OPAQUE;
  parts[5].u.ptr = reinterpret_cast<void*>(opaque);
  parts[6].vtype = RD_KAFKA_VTYPE_HEADERS;
  parts[6].u.headers = headers;
  rd_kafka_error_t* error = rd_kafka_produceva(rk, parts, 7);
  if (error == NULL) return RD_KAFKA_RESP_ERR_NO_ERROR;
  rd_kafka_headers_destroy(headers);
  rd_kafka_resp_err_t code = rd_kafka_error_code(error);
  rd_kafka_error_destroy(error);
  return code;
}

PackedProducer* ProducerOf(v8::Local<v8::Value> value) {
  if (!value->IsInt32()) return NULL;
  int32_t number = Nan::To<int32_t>(value).FromJust();
  if (number < 0 || static_cast<size_t>(number) >= producers_opened) return NULL;
  return producers[number];
}

enum Text { kAscii = 0, kUtf8 = 1, kBytes = 2 };

// Whether bytes are ASCII, other UTF-8 (Unicode 15, table 3-7), or neither.
Text TextOf(const unsigned char* at, size_t length) {
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
constexpr size_t kRecordHead = 48;
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
  uint64_t identity[2];
};

// Sizes a message and lists its headers in `list`.
// @param seeds NULL: the whole message is requested, not only its identity
Incoming Measure(rd_kafka_message_t* message, std::vector<Header>* list, const uint64_t* seeds) {
  Incoming one{message, -1, list->size(), 0, 0, 0, {}};
  if (seeds != NULL && message->err == RD_KAFKA_RESP_ERR_NO_ERROR && HashIdentity(message, seeds, one.identity)) {
    one.topic = PlaceOfTopic(rd_kafka_topic_name(message->rkt));
    one.headers = kIdentityOnly;
    one.value_at = kRecordHead;
    one.bytes = kRecordHead + sizeof one.identity;
    return one;
  }
  size_t text = message->key == NULL ? 0 : message->key_len;
  rd_kafka_headers_t* headers = NULL;
  if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) rd_kafka_message_headers(message, &headers);
  if (headers != NULL) {
    const char* name;
    const void* value;
    size_t length;
    for (size_t index = 0; rd_kafka_header_get_all(headers, index, &name, &value, &length) == RD_KAFKA_RESP_ERR_NO_ERROR;
         index++) {
      size_t name_length = std::strlen(name);
      int32_t place = PlaceOfName(name, name_length);
      Header header{place < 0 ? ~static_cast<int32_t>(name_length) : place, name, value,
                    value == NULL ? -1 : static_cast<int32_t>(length)};
      if (header.name < 0) text += name_length;
      if (value != NULL) text += length;
      list->push_back(header);
      one.headers++;
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
  if (identity_only) {
    Put(at, one.identity, sizeof one.identity);
    return;
  }
  for (int32_t index = 0; index < one.headers; index++) {
    const Header& header = headers[index];
    at = Put(at, header.name);
    at = Put(at, header.length);
    at = Put(at, static_cast<int32_t>(
                     header.length < 0 ? kAscii : TextOf(static_cast<const unsigned char*>(header.value), header.length)));
  }
  if (message->key != NULL) at = Put(at, message->key, message->key_len);
  for (int32_t index = 0; index < one.headers; index++) {
    const Header& header = headers[index];
    if (header.name < 0) at = Put(at, header.name_bytes, ~header.name);
    if (header.length > 0) at = Put(at, header.value, header.length);
  }
  if (good && message->payload != NULL) Put(at, message->payload, message->len);
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

// produce(number, buffer, bytes): passes all records to librdkafka; those that it refuses are in the reports, with partition -2.
NAN_METHOD(Packed::Produce) {
  PackedProducer* packed = ProducerOf(info[0]);
  Bytes buffer;
  if (packed == NULL || !BytesOf(info[1], &buffer) || !info[2]->IsNumber())
    return Nan::ThrowTypeError("a number, a buffer and a length are needed");
  int64_t length = Nan::To<int64_t>(info[2]).FromJust();
  if (length < 0 || static_cast<size_t>(length) > buffer.length) return Nan::ThrowTypeError("the length is beyond the buffer");
  if (static_cast<size_t>(length) < kOutgoingHead || Int(buffer.data) != kFormat)
    return Nan::ThrowTypeError("the buffer has another format than the addon");
  uintptr_t number = Nan::To<int32_t>(info[0]).FromJust();
  rd_kafka_t* rk = NULL;
  TryReadLock lock(packed->producer->m_connection_lock);
  if (!packed->closed && lock && packed->producer->m_client != NULL) rk = packed->producer->m_client->c_ptr();
  for (int64_t at = kOutgoingHead; at < length;) {
    int32_t bytes = length - at < 8 ? 0 : Int(buffer.data + at);
    if (bytes < 8 || bytes > length - at) return Nan::ThrowTypeError("a record is beyond the length");
    rd_kafka_resp_err_t error =
        rk == NULL ? RD_KAFKA_RESP_ERR__STATE : ProduceOne(packed, rk, buffer.data + at, bytes, number);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
      packed->Add(Report{Int(buffer.data + at + 4), error, -2, kFormat, -1, -1});
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

// closeProducer(number): to be called before the client is disconnected. After it nothing is produced and `onReports` is not called; reports can still
// be taken.
NAN_METHOD(Packed::CloseProducer) {
  PackedProducer* packed = ProducerOf(info[0]);
  if (packed == NULL) return Nan::ThrowTypeError("a number is needed");
  if (!packed->closed) packed->Close();
}

// consume(client, most, seeds?) → a buffer of records that are ready; undefined when none is. Does not wait. With seeds, two numbers of 64 bits
// in a buffer, only their identities are requested.
NAN_METHOD(Packed::Consume) {
  KafkaConsumer* consumer = ClientOf<KafkaConsumer>(info[0]);
  if (consumer == NULL || !info[1]->IsUint32()) return Nan::ThrowTypeError("a consumer and a number are needed");
  uint64_t seeds[2];
  bool identities = !info[2]->IsUndefined();
  Bytes given;
  if (identities) {
    if (!BytesOf(info[2], &given) || given.length != sizeof seeds) return Nan::ThrowTypeError("the seeds are 16 bytes");
    std::memcpy(seeds, given.data, sizeof seeds);
  }
  uint32_t most = Nan::To<uint32_t>(info[1]).FromJust();
  if (most > kMostMessages) return Nan::ThrowTypeError("that is too many at a time");
  static std::vector<rd_kafka_message_t*> messages;
  static std::vector<Incoming> incoming;
  static std::vector<Header> headers;
  messages.resize(most);
  incoming.clear();
  headers.clear();
  TryReadLock lock(consumer->m_connection_lock);
  if (!lock || consumer->m_client == NULL) return;
  rd_kafka_queue_t* queue = rd_kafka_queue_get_consumer(consumer->m_client->c_ptr());
  if (queue == NULL) return;
  ssize_t count = rd_kafka_consume_batch_queue(queue, 0, messages.data(), most);
  rd_kafka_queue_destroy(queue);
  if (count <= 0) return;
  size_t bytes = kIncomingHead;
  for (ssize_t index = 0; index < count; index++) {
    incoming.push_back(Measure(messages[index], &headers, identities ? seeds : NULL));
    bytes += incoming.back().bytes;
  }
  v8::Local<v8::Object> buffer;
  bool made = NewBuffer(v8::Isolate::GetCurrent(), bytes).ToLocal(&buffer);
  char* to = made ? node::Buffer::Data(buffer) : NULL;
  if (made) to = Put(Put(to, kFormat), 0);
  for (const Incoming& one : incoming) {
    if (made) Pack(one, headers.data() + one.first_header, to);
    if (made) to += one.bytes;
    rd_kafka_message_destroy(one.message);
  }
  if (made) info.GetReturnValue().Set(buffer);
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
                     static_cast<double>(message.offset()), static_cast<double>(message.timestamp().timestamp)});
  return true;
}

void ExportPacked(v8::Local<v8::Object> exports) {
  v8::Local<v8::Object> packed = Nan::New<v8::Object>();
  Nan::SetMethod(packed, "names", Packed::Names);
  Nan::SetMethod(packed, "topic", Packed::Topic);
  Nan::SetMethod(packed, "openProducer", Packed::OpenProducer);
  Nan::SetMethod(packed, "produce", Packed::Produce);
  Nan::SetMethod(packed, "reports", Packed::Reports);
  Nan::SetMethod(packed, "closeProducer", Packed::CloseProducer);
  Nan::SetMethod(packed, "consume", Packed::Consume);
  Nan::SetMethod(packed, "hash", Packed::Hash);
  Nan::Set(exports, Nan::New("packed").ToLocalChecked(), packed);
}

}  // namespace NodeKafka
