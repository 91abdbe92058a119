// Adds offsets to a transaction with the membership that the consumer had when the transaction began. The client's own call uses the current one,
// so the broker cannot refuse the offsets of an earlier assignment (KIP-447).
// shared/kafka/group-metadata.ts is the other side.
#include <nan.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "librdkafka/src-cpp/rdkafkacpp_int.h"
#include "shim/clients.h"
#include "src/kafka-consumer.h"
#include "src/producer.h"
#include "src/workers.h"

namespace NodeKafka {

using GroupMetadata = RdKafka::ConsumerGroupMetadataImpl;

// Has access to a client's connection and its lock.
class Transactions {
 public:
  static NAN_METHOD(GroupMetadataOf);
  static NAN_METHOD(SendOffsets);

  static Baton Send(Producer* producer, const std::vector<RdKafka::TopicPartition*>& offsets, const GroupMetadata& metadata,
                    int timeout_ms) {
    // Keeps the client from being destroyed until the call returns.
    scoped_shared_read_lock lock(producer->m_connection_lock);
    if (!producer->IsConnected()) return Baton(RdKafka::ERR__STATE, "The producer is not connected", false, false, false);
    RdKafka::Producer* client = dynamic_cast<RdKafka::Producer*>(producer->m_client);
    return Connection::rdkafkaErrorToBaton(client->send_offsets_to_transaction(offsets, &metadata, timeout_ms));
  }
};

namespace {

class SendOffsetsWorker : public Workers::ErrorAwareWorker {
 public:
  SendOffsetsWorker(Nan::Callback* callback, Producer* producer, std::vector<RdKafka::TopicPartition*> offsets,
                    std::unique_ptr<GroupMetadata> metadata, int timeout_ms)
      : ErrorAwareWorker(callback),
        producer_(producer),
        offsets_(std::move(offsets)),
        metadata_(std::move(metadata)),
        timeout_ms_(timeout_ms) {}

  ~SendOffsetsWorker() override { RdKafka::TopicPartition::destroy(offsets_); }

  void Execute() override {
    Baton baton = Transactions::Send(producer_, offsets_, *metadata_, timeout_ms_);
    if (baton.err() != RdKafka::ERR_NO_ERROR) SetErrorBaton(baton);
  }

  void HandleOKCallback() override {
    Nan::HandleScope scope;
    v8::Local<v8::Value> arguments[1] = {Nan::Null()};
    callback->Call(1, arguments);
  }

  void HandleErrorCallback() override {
    Nan::HandleScope scope;
    v8::Local<v8::Value> arguments[1] = {m_baton.ToTxnObject()};
    callback->Call(1, arguments);
  }

 private:
  Producer* producer_;
  std::vector<RdKafka::TopicPartition*> offsets_;
  std::unique_ptr<GroupMetadata> metadata_;
  int timeout_ms_;
};

}  // namespace

// groupMetadata(consumer) → a buffer; undefined while it is not a member of its group. Metadata without a generation and a member id would fence
// nothing: the broker accepts such offsets from anyone.
NAN_METHOD(Transactions::GroupMetadataOf) {
  KafkaConsumer* consumer = ClientOf<KafkaConsumer>(info[0]);
  if (consumer == NULL) return Nan::ThrowTypeError("a consumer is needed");
  TryReadLock lock(consumer->m_connection_lock);
  if (!lock || !consumer->IsConnected()) return;
  rd_kafka_consumer_group_metadata_t* found = rd_kafka_consumer_group_metadata(consumer->m_client->c_ptr());
  if (found == NULL) return;
  GroupMetadata metadata(found);
  if (rd_kafka_consumer_group_metadata_generation_id(found) < 0 ||
      *rd_kafka_consumer_group_metadata_member_id(found) == '\0')
    return;
  void* bytes;
  size_t length;
  rd_kafka_error_t* error = rd_kafka_consumer_group_metadata_write(found, &bytes, &length);
  if (error != NULL) {
    std::string reason = rd_kafka_error_string(error);
    rd_kafka_error_destroy(error);
    return Nan::ThrowError(reason.c_str());
  }
  v8::Local<v8::Object> buffer;
  if (NewBuffer(v8::Isolate::GetCurrent(), length).ToLocal(&buffer)) {
    std::memcpy(node::Buffer::Data(buffer), bytes, length);
    info.GetReturnValue().Set(buffer);
  }
  rd_kafka_mem_free(NULL, bytes);
}

// sendOffsets(producer, [{topic, partition, offset, metadata}], group metadata, timeout in ms, callback(error or null))
NAN_METHOD(Transactions::SendOffsets) {
  Producer* producer = ClientOf<Producer>(info[0]);
  if (producer == NULL) return Nan::ThrowTypeError("a producer is needed");
  if (!info[1]->IsArray()) return Nan::ThrowTypeError("offsets must be an array");
  if (!node::Buffer::HasInstance(info[2])) return Nan::ThrowTypeError("the group's metadata must be a buffer");
  if (!info[3]->IsInt32()) return Nan::ThrowTypeError("the time-out must be a number of milliseconds");
  if (!info[4]->IsFunction()) return Nan::ThrowTypeError("a callback is needed");
  rd_kafka_consumer_group_metadata_t* read;
  rd_kafka_error_t* error =
      rd_kafka_consumer_group_metadata_read(&read, node::Buffer::Data(info[2]), node::Buffer::Length(info[2]));
  if (error != NULL) {
    std::string reason = rd_kafka_error_string(error);
    rd_kafka_error_destroy(error);
    return Nan::ThrowTypeError(reason.c_str());
  }
  std::unique_ptr<GroupMetadata> metadata(new GroupMetadata(read));
  Nan::AsyncQueueWorker(new SendOffsetsWorker(new Nan::Callback(info[4].As<v8::Function>()), producer,
                                              Conversion::TopicPartition::FromV8Array(info[1].As<v8::Array>()),
                                              std::move(metadata), Nan::To<int>(info[3]).FromJust()));
}

void ExportTransactions(v8::Local<v8::Object> exports) {
  v8::Local<v8::Object> transactions = Nan::New<v8::Object>();
  Nan::SetMethod(transactions, "groupMetadata", Transactions::GroupMetadataOf);
  Nan::SetMethod(transactions, "sendOffsets", Transactions::SendOffsets);
  Nan::Set(exports, Nan::New("transactions").ToLocalChecked(), transactions);
}

}  // namespace NodeKafka
