// Requests about many topics. The client creates one topic per request, which costs a broker three times as much, and describes topics on an
// admin client whose producer can be freed during the call. shared/kafka/topic-requests.ts is the other side.
#include <nan.h>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "shim/clients.h"
#include "src/producer.h"
#include "src/workers.h"

namespace NodeKafka {

namespace {

struct Row {
  std::string topic;
  int code;
  std::string message;
  int partitions;
  // 1 yes, 0 no, -1 the broker does not say.
  int writable;
  // Settings of the topic; empty when they were not requested.
  std::string max_message_bytes = "";
  std::string cleanup_policy = "";
  // Names and values in turn: those that were set for the topic itself.
  std::vector<std::string> settings = {};
};

using Rows = std::vector<Row>;

// How long an answer may take beyond the request's time-out, which librdkafka checks once a second.
constexpr int kAnswerGraceMs = 1500;

// How long topic creation waits for a controller. A cluster may briefly have none, and librdkafka's mock cluster names one that does not exist.
constexpr int kControllerTimeoutMs = 5000;
constexpr int kControllerLookMs = 100;

bool HasController(rd_kafka_t* client, int timeout_ms) {
  const rd_kafka_metadata_t* found;
  if (rd_kafka_metadata(client, 0, NULL, &found, timeout_ms) != RD_KAFKA_RESP_ERR_NO_ERROR) return false;
  const int32_t controller = rd_kafka_controllerid(client, 0);
  bool has = false;
  for (int at = 0; at < found->broker_cnt; at++) has = has || found->brokers[at].id == controller;
  rd_kafka_metadata_destroy(found);
  return has;
}

Baton WithoutController() { return Baton(RdKafka::ERR__UNKNOWN_BROKER, "The cluster has no controller"); }

template <class T, void (*Free)(T*)>
struct Freed {
  void operator()(T* given) const { Free(given); }
};
using Options = std::unique_ptr<rd_kafka_AdminOptions_t, Freed<rd_kafka_AdminOptions_t, rd_kafka_AdminOptions_destroy>>;
using Queue = std::unique_ptr<rd_kafka_queue_t, Freed<rd_kafka_queue_t, rd_kafka_queue_destroy>>;
using Event = std::unique_ptr<rd_kafka_event_t, Freed<rd_kafka_event_t, rd_kafka_event_destroy>>;

std::string Text(const char* given) { return given == NULL ? "" : given; }

// Sends a request and waits for its answer.
Baton Ask(rd_kafka_t* client, rd_kafka_admin_op_t operation, int timeout_ms,
          const std::function<void(rd_kafka_AdminOptions_t*, rd_kafka_queue_t*)>& send,
          const std::function<void(rd_kafka_event_t*)>& read) {
  Options options(rd_kafka_AdminOptions_new(client, operation));
  char reason[256];
  rd_kafka_resp_err_t fault =
      rd_kafka_AdminOptions_set_request_timeout(options.get(), timeout_ms, reason, sizeof(reason));
  if (fault != RD_KAFKA_RESP_ERR_NO_ERROR) return Baton(static_cast<RdKafka::ErrorCode>(fault), reason);
  Queue queue(rd_kafka_queue_new(client));
  send(options.get(), queue.get());
  Event answer(rd_kafka_queue_poll(queue.get(), timeout_ms + kAnswerGraceMs));
  if (!answer) return Baton(RdKafka::ERR__TIMED_OUT);
  fault = rd_kafka_event_error(answer.get());
  if (fault != RD_KAFKA_RESP_ERR_NO_ERROR)
    return Baton(static_cast<RdKafka::ErrorCode>(fault), Text(rd_kafka_event_error_string(answer.get())));
  read(answer.get());
  return Baton(RdKafka::ERR_NO_ERROR);
}

}  // namespace

// Has access to a client's connection and its lock.
class Topics {
 public:
  static NAN_METHOD(Create);
  static NAN_METHOD(Describe);
  static NAN_METHOD(Ends);
  static NAN_METHOD(Configs);

  // Keeps the client from being destroyed until the call returns.
  static Baton With(Producer* producer, const std::function<Baton(rd_kafka_t*)>& ask) {
    scoped_shared_read_lock lock(producer->m_connection_lock);
    if (!producer->IsConnected()) return Baton(RdKafka::ERR__STATE, "The producer is not connected");
    return ask(producer->m_client->c_ptr());
  }
};

namespace {

class TopicsWorker : public Workers::ErrorAwareWorker {
 public:
  TopicsWorker(Nan::Callback* callback, Producer* producer, std::vector<std::string> names, int timeout_ms)
      : ErrorAwareWorker(callback), producer_(producer), names_(std::move(names)), timeout_ms_(timeout_ms) {}

  void Execute() override {
    Baton baton = Topics::With(producer_, [this](rd_kafka_t* client) { return Send(client); });
    if (baton.err() != RdKafka::ERR_NO_ERROR) SetErrorBaton(baton);
  }

  void HandleOKCallback() override {
    Nan::HandleScope scope;
    v8::Local<v8::Array> rows = Nan::New<v8::Array>(static_cast<int>(rows_.size()));
    for (uint32_t at = 0; at < rows_.size(); at++) {
      const Row& row = rows_[at];
      v8::Local<v8::Object> one = Nan::New<v8::Object>();
      Nan::Set(one, Nan::New("topic").ToLocalChecked(), Nan::New(row.topic).ToLocalChecked());
      Nan::Set(one, Nan::New("code").ToLocalChecked(), Nan::New(row.code));
      Nan::Set(one, Nan::New("message").ToLocalChecked(), Nan::New(row.message).ToLocalChecked());
      Nan::Set(one, Nan::New("partitions").ToLocalChecked(), Nan::New(row.partitions));
      Nan::Set(one, Nan::New("writable").ToLocalChecked(), Nan::New(row.writable));
      Nan::Set(one, Nan::New("maxMessageBytes").ToLocalChecked(), Nan::New(row.max_message_bytes).ToLocalChecked());
      Nan::Set(one, Nan::New("cleanupPolicy").ToLocalChecked(), Nan::New(row.cleanup_policy).ToLocalChecked());
      v8::Local<v8::Array> settings = Nan::New<v8::Array>(static_cast<int>(row.settings.size()));
      for (uint32_t text = 0; text < row.settings.size(); text++)
        Nan::Set(settings, text, Nan::New(row.settings[text]).ToLocalChecked());
      Nan::Set(one, Nan::New("settings").ToLocalChecked(), settings);
      Nan::Set(rows, at, one);
    }
    v8::Local<v8::Value> arguments[2] = {Nan::Null(), rows};
    callback->Call(2, arguments);
  }

  void HandleErrorCallback() override {
    Nan::HandleScope scope;
    v8::Local<v8::Value> arguments[1] = {GetErrorObject()};
    callback->Call(1, arguments);
  }

 protected:
  virtual Baton Send(rd_kafka_t* client) = 0;

  Producer* producer_;
  std::vector<std::string> names_;
  int timeout_ms_;
  Rows rows_;
};

class CreateWorker : public TopicsWorker {
 public:
  CreateWorker(Nan::Callback* callback, Producer* producer, std::vector<std::string> names, int partitions,
               int replication, std::vector<std::string> settings, int timeout_ms)
      : TopicsWorker(callback, producer, std::move(names), timeout_ms),
        partitions_(partitions),
        replication_(replication),
        settings_(std::move(settings)) {}

 private:
  Baton Send(rd_kafka_t* client) override {
    for (int waited_ms = 0; !HasController(client, timeout_ms_); waited_ms += kControllerLookMs) {
      if (waited_ms >= kControllerTimeoutMs) return WithoutController();
      std::this_thread::sleep_for(std::chrono::milliseconds(kControllerLookMs));
    }
    std::vector<rd_kafka_NewTopic_t*> wanted;
    for (const std::string& name : names_) {
      char reason[256];
      rd_kafka_NewTopic_t* topic =
          rd_kafka_NewTopic_new(name.c_str(), partitions_, replication_, reason, sizeof(reason));
      if (topic == NULL) {
        rows_.push_back({name, RdKafka::ERR__INVALID_ARG, reason, 0, -1});
        continue;
      }
      for (size_t at = 0; at + 1 < settings_.size(); at += 2)
        rd_kafka_NewTopic_set_config(topic, settings_[at].c_str(), settings_[at + 1].c_str());
      wanted.push_back(topic);
    }
    Baton baton(RdKafka::ERR_NO_ERROR);
    if (!wanted.empty())
      baton = Ask(
          client, RD_KAFKA_ADMIN_OP_CREATETOPICS, timeout_ms_,
          [&](rd_kafka_AdminOptions_t* options, rd_kafka_queue_t* queue) {
            rd_kafka_CreateTopics(client, wanted.data(), wanted.size(), options, queue);
          },
          [&](rd_kafka_event_t* answer) {
            size_t count;
            const rd_kafka_topic_result_t** results =
                rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(answer), &count);
            for (size_t at = 0; at < count; at++)
              rows_.push_back({rd_kafka_topic_result_name(results[at]), rd_kafka_topic_result_error(results[at]),
                               Text(rd_kafka_topic_result_error_string(results[at])), 0, -1});
          });
    rd_kafka_NewTopic_destroy_array(wanted.data(), wanted.size());
    return baton;
  }

  int partitions_;
  int replication_;
  // Names and values in turn.
  std::vector<std::string> settings_;
};

class DescribeWorker : public TopicsWorker {
 public:
  using TopicsWorker::TopicsWorker;

 private:
  Baton Send(rd_kafka_t* client) override {
    if (!HasController(client, timeout_ms_)) return WithoutController();
    std::vector<const char*> names;
    for (const std::string& name : names_) names.push_back(name.c_str());
    std::unique_ptr<rd_kafka_TopicCollection_t, Freed<rd_kafka_TopicCollection_t, rd_kafka_TopicCollection_destroy>>
        topics(rd_kafka_TopicCollection_of_topic_names(names.data(), names.size()));
    return Ask(
        client, RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, timeout_ms_,
        [&](rd_kafka_AdminOptions_t* options, rd_kafka_queue_t* queue) {
          rd_kafka_error_t* error = rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
          if (error != NULL) rd_kafka_error_destroy(error);
          rd_kafka_DescribeTopics(client, topics.get(), options, queue);
        },
        [&](rd_kafka_event_t* answer) {
          size_t count;
          const rd_kafka_TopicDescription_t** results =
              rd_kafka_DescribeTopics_result_topics(rd_kafka_event_DescribeTopics_result(answer), &count);
          for (size_t at = 0; at < count; at++) rows_.push_back(RowOf(results[at]));
        });
  }

  static Row RowOf(const rd_kafka_TopicDescription_t* topic) {
    const rd_kafka_error_t* error = rd_kafka_TopicDescription_error(topic);
    size_t partitions;
    rd_kafka_TopicDescription_partitions(topic, &partitions);
    size_t allowed;
    const rd_kafka_AclOperation_t* operations = rd_kafka_TopicDescription_authorized_operations(topic, &allowed);
    int writable = -1;
    if (operations != NULL) {
      writable = 0;
      for (size_t at = 0; at < allowed; at++)
        if (operations[at] == RD_KAFKA_ACL_OPERATION_WRITE) writable = 1;
    }
    return {rd_kafka_TopicDescription_name(topic), error == NULL ? 0 : rd_kafka_error_code(error),
            error == NULL ? "" : Text(rd_kafka_error_string(error)), static_cast<int>(partitions), writable};
  }
};

// Requests the end offset of each partition from its leader. One row for each topic, with an error when all its partitions have one.
class EndsWorker : public TopicsWorker {
 public:
  EndsWorker(Nan::Callback* callback, Producer* producer, std::vector<std::string> names, std::vector<int> counts,
             int timeout_ms)
      : TopicsWorker(callback, producer, std::move(names), timeout_ms), counts_(std::move(counts)) {}

 private:
  Baton Send(rd_kafka_t* client) override {
    std::unique_ptr<rd_kafka_topic_partition_list_t,
                    Freed<rd_kafka_topic_partition_list_t, rd_kafka_topic_partition_list_destroy>>
        partitions(rd_kafka_topic_partition_list_new(static_cast<int>(names_.size())));
    std::map<std::string, Row> rows;
    for (size_t at = 0; at < names_.size(); at++) {
      rows[names_[at]] = {names_[at], RdKafka::ERR__UNKNOWN_PARTITION, "", counts_[at], -1};
      for (int partition = 0; partition < counts_[at]; partition++)
        rd_kafka_topic_partition_list_add(partitions.get(), names_[at].c_str(), partition)->offset =
            RD_KAFKA_OFFSET_SPEC_LATEST;
    }
    Baton baton = Ask(
        client, RD_KAFKA_ADMIN_OP_LISTOFFSETS, timeout_ms_,
        [&](rd_kafka_AdminOptions_t* options, rd_kafka_queue_t* queue) {
          rd_kafka_ListOffsets(client, partitions.get(), options, queue);
        },
        [&](rd_kafka_event_t* answer) {
          size_t count;
          const rd_kafka_ListOffsetsResultInfo_t** results =
              rd_kafka_ListOffsets_result_infos(rd_kafka_event_ListOffsets_result(answer), &count);
          for (size_t at = 0; at < count; at++) {
            const rd_kafka_topic_partition_t* one = rd_kafka_ListOffsetsResultInfo_topic_partition(results[at]);
            Row& row = rows[one->topic];
            if (row.code == RdKafka::ERR_NO_ERROR) continue;
            row.code = one->err;
            row.message = rd_kafka_err2str(one->err);
          }
        });
    for (const auto& one : rows) rows_.push_back(one.second);
    return baton;
  }

  std::vector<int> counts_;
};

// Requests the two settings that decide which records a topic accepts, or all that were set for it.
class ConfigsWorker : public TopicsWorker {
 public:
  ConfigsWorker(Nan::Callback* callback, Producer* producer, std::vector<std::string> names, bool all, int timeout_ms)
      : TopicsWorker(callback, producer, std::move(names), timeout_ms), all_(all) {}

 private:
  static constexpr const char* kMaxMessageBytes = "max.message.bytes";
  static constexpr const char* kCleanupPolicy = "cleanup.policy";

  Baton Send(rd_kafka_t* client) override {
    std::vector<rd_kafka_ConfigResource_t*> wanted;
    for (const std::string& name : names_) {
      rd_kafka_ConfigResource_t* topic = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, name.c_str());
      if (topic == NULL) continue;
      // Only the names are sent; they select the settings.
      if (!all_)
        for (const char* setting : {kMaxMessageBytes, kCleanupPolicy}) rd_kafka_ConfigResource_set_config(topic, setting, "");
      wanted.push_back(topic);
    }
    Baton baton(RdKafka::ERR_NO_ERROR);
    if (!wanted.empty())
      baton = Ask(
          client, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, timeout_ms_,
          [&](rd_kafka_AdminOptions_t* options, rd_kafka_queue_t* queue) {
            rd_kafka_DescribeConfigs(client, wanted.data(), wanted.size(), options, queue);
          },
          [&](rd_kafka_event_t* answer) {
            size_t count;
            const rd_kafka_ConfigResource_t** results =
                rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(answer), &count);
            for (size_t at = 0; at < count; at++) rows_.push_back(RowOf(results[at]));
          });
    rd_kafka_ConfigResource_destroy_array(wanted.data(), wanted.size());
    return baton;
  }

  static Row RowOf(const rd_kafka_ConfigResource_t* topic) {
    Row row = {rd_kafka_ConfigResource_name(topic), rd_kafka_ConfigResource_error(topic),
               Text(rd_kafka_ConfigResource_error_string(topic)), 0, -1};
    size_t count;
    const rd_kafka_ConfigEntry_t** entries = rd_kafka_ConfigResource_configs(topic, &count);
    for (size_t at = 0; at < count; at++) {
      const std::string name = rd_kafka_ConfigEntry_name(entries[at]);
      if (name == kMaxMessageBytes) row.max_message_bytes = Text(rd_kafka_ConfigEntry_value(entries[at]));
      if (name == kCleanupPolicy) row.cleanup_policy = Text(rd_kafka_ConfigEntry_value(entries[at]));
      if (rd_kafka_ConfigEntry_source(entries[at]) != RD_KAFKA_CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG) continue;
      row.settings.push_back(name);
      row.settings.push_back(Text(rd_kafka_ConfigEntry_value(entries[at])));
    }
    return row;
  }

  const bool all_;
};

bool TextsOf(v8::Local<v8::Value> value, std::vector<std::string>* texts) {
  if (!value->IsArray()) return false;
  v8::Local<v8::Array> given = value.As<v8::Array>();
  for (uint32_t at = 0; at < given->Length(); at++) {
    v8::Local<v8::Value> text;
    if (!Nan::Get(given, at).ToLocal(&text) || !text->IsString()) return false;
    texts->push_back(*Nan::Utf8String(text));
  }
  return true;
}

bool NamesOf(v8::Local<v8::Value> value, std::vector<std::string>* names) {
  return TextsOf(value, names) && !names->empty();
}

}  // namespace

// createTopics(producer, names, partitions, replication, settings, timeout in ms, callback(error or null, [{topic, code, message, …}])). The settings are
// names and values in turn.
NAN_METHOD(Topics::Create) {
  Producer* producer = ClientOf<Producer>(info[0]);
  if (producer == NULL) return Nan::ThrowTypeError("a producer is needed");
  std::vector<std::string> names;
  if (!NamesOf(info[1], &names)) return Nan::ThrowTypeError("names must be texts, one at least");
  if (!info[2]->IsInt32() || !info[3]->IsInt32())
    return Nan::ThrowTypeError("partitions and replication must be numbers");
  std::vector<std::string> settings;
  if (!TextsOf(info[4], &settings)) return Nan::ThrowTypeError("settings must be texts");
  if (!info[5]->IsInt32()) return Nan::ThrowTypeError("the time-out must be a number of milliseconds");
  if (!info[6]->IsFunction()) return Nan::ThrowTypeError("a callback is needed");
  Nan::AsyncQueueWorker(new CreateWorker(new Nan::Callback(info[6].As<v8::Function>()), producer, std::move(names),
                                         Nan::To<int>(info[2]).FromJust(), Nan::To<int>(info[3]).FromJust(),
                                         std::move(settings), Nan::To<int>(info[5]).FromJust()));
}

// describeTopics(producer, names, timeout in ms, callback(error or null, [{topic, code, message, partitions, writable}]))
NAN_METHOD(Topics::Describe) {
  Producer* producer = ClientOf<Producer>(info[0]);
  if (producer == NULL) return Nan::ThrowTypeError("a producer is needed");
  std::vector<std::string> names;
  if (!NamesOf(info[1], &names)) return Nan::ThrowTypeError("names must be texts, one at least");
  if (!info[2]->IsInt32()) return Nan::ThrowTypeError("the time-out must be a number of milliseconds");
  if (!info[3]->IsFunction()) return Nan::ThrowTypeError("a callback is needed");
  Nan::AsyncQueueWorker(new DescribeWorker(new Nan::Callback(info[3].As<v8::Function>()), producer, std::move(names),
                                           Nan::To<int>(info[2]).FromJust()));
}

// ends(producer, names, partitions of each, timeout in ms, callback(error or null, [{topic, code, message, …}]))
NAN_METHOD(Topics::Ends) {
  Producer* producer = ClientOf<Producer>(info[0]);
  if (producer == NULL) return Nan::ThrowTypeError("a producer is needed");
  std::vector<std::string> names;
  if (!NamesOf(info[1], &names)) return Nan::ThrowTypeError("names must be texts, one at least");
  std::vector<int> counts;
  if (info[2]->IsArray()) {
    v8::Local<v8::Array> given = info[2].As<v8::Array>();
    v8::Local<v8::Value> count;
    for (uint32_t at = 0; at < given->Length(); at++)
      if (Nan::Get(given, at).ToLocal(&count) && count->IsInt32()) counts.push_back(Nan::To<int>(count).FromJust());
  }
  if (counts.size() != names.size()) return Nan::ThrowTypeError("a number of partitions is needed for each name");
  if (!info[3]->IsInt32()) return Nan::ThrowTypeError("the time-out must be a number of milliseconds");
  if (!info[4]->IsFunction()) return Nan::ThrowTypeError("a callback is needed");
  Nan::AsyncQueueWorker(new EndsWorker(new Nan::Callback(info[4].As<v8::Function>()), producer, std::move(names),
                                       std::move(counts), Nan::To<int>(info[3]).FromJust()));
}

// configs(producer, names, whether all settings, timeout in ms, callback(error or null, [{topic, code, message, maxMessageBytes, cleanupPolicy, settings, …}]))
NAN_METHOD(Topics::Configs) {
  Producer* producer = ClientOf<Producer>(info[0]);
  if (producer == NULL) return Nan::ThrowTypeError("a producer is needed");
  std::vector<std::string> names;
  if (!NamesOf(info[1], &names)) return Nan::ThrowTypeError("names must be texts, one at least");
  if (!info[2]->IsBoolean()) return Nan::ThrowTypeError("whether all settings are wanted must be said");
  if (!info[3]->IsInt32()) return Nan::ThrowTypeError("the time-out must be a number of milliseconds");
  if (!info[4]->IsFunction()) return Nan::ThrowTypeError("a callback is needed");
  Nan::AsyncQueueWorker(new ConfigsWorker(new Nan::Callback(info[4].As<v8::Function>()), producer, std::move(names),
                                          Nan::To<bool>(info[2]).FromJust(), Nan::To<int>(info[3]).FromJust()));
}

void ExportTopics(v8::Local<v8::Object> exports) {
  v8::Local<v8::Object> topics = Nan::New<v8::Object>();
  Nan::SetMethod(topics, "create", Topics::Create);
  Nan::SetMethod(topics, "describe", Topics::Describe);
  Nan::SetMethod(topics, "ends", Topics::Ends);
  Nan::SetMethod(topics, "configs", Topics::Configs);
  Nan::Set(exports, Nan::New("topics").ToLocalChecked(), topics);
}

}  // namespace NodeKafka
