/*
 * The limit of an exactly-once drain: librdkafka alone copies records from one topic to another in transactions. See HELP.
 */
#include <signal.h>
#include <string.h>

#include "program.h"

static const char HELP[] =
    "Copies committed records from TOPIC to OUTPUT, with unchanged keys, values and headers, exactly once: each transaction commits outputs and offsets.\n"
    "Runs until SIGTERM.\n"
    "\n"
    "Usage: drain BROKERS TOPIC OUTPUT GROUP\n"
    "\n"
    "  GROUP   of the consumer, and the transactional id\n";

/* With 5,000 it made 0.6 of the rate: a transaction waits for the broker four times. */
#define BATCH_RECORDS 20000
#define BATCH_WAIT_MS 20
#define TRANSACTION_TIMEOUT_MS 60000
#define QUEUE_FULL_WAIT_MS 5

static volatile sig_atomic_t stopping;

static void stop(int number) {
  (void)number;
  stopping = 1;
}

static void check(rd_kafka_error_t *fault, const char *step) {
  if (fault != NULL) fail("%s: %s", step, rd_kafka_error_string(fault));
}

static void on_report(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque) {
  (void)client;
  (void)opaque;
  if (message->err) fail("a record was not stored: %s", rd_kafka_err2str(message->err));
}

static void copy(rd_kafka_t *producer, rd_kafka_topic_t *output, rd_kafka_message_t *message) {
  rd_kafka_headers_t *headers = NULL;
  rd_kafka_vu_t record[] = {
      {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = output},
      {.vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = message->partition},
      {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
      {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {message->key, message->key_len}},
      {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {message->payload, message->len}},
      {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = NULL},
  };
  size_t count = sizeof record / sizeof *record - 1;
  if (rd_kafka_message_detach_headers(message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR) record[count++].u.headers = headers;
  for (;;) {
    rd_kafka_error_t *fault = rd_kafka_produceva(producer, record, count);
    if (fault == NULL) return;
    if (rd_kafka_error_code(fault) != RD_KAFKA_RESP_ERR__QUEUE_FULL) fail("%s", rd_kafka_error_string(fault));
    rd_kafka_error_destroy(fault);
    rd_kafka_poll(producer, QUEUE_FULL_WAIT_MS);
  }
}

int main(int count, char **args) {
  if (count == 2 && strcmp(args[1], "--help") == 0) {
    fputs(HELP, stdout);
    return 0;
  }
  if (count != 5) {
    fputs(HELP, stderr);
    return 2;
  }
  signal(SIGTERM, stop);
  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  set(conf, "bootstrap.servers", args[1]);
  set(conf, "group.id", args[4]);
  set(conf, "isolation.level", "read_committed");
  set(conf, "enable.auto.commit", "false");
  set(conf, "enable.auto.offset.store", "false");
  set(conf, "auto.offset.reset", "earliest");
  set(conf, "fetch.message.max.bytes", "4194304");
  set(conf, "fetch.queue.backoff.ms", "10");
  rd_kafka_t *consumer = open_client(RD_KAFKA_CONSUMER, conf);
  rd_kafka_poll_set_consumer(consumer);

  conf = rd_kafka_conf_new();
  set(conf, "bootstrap.servers", args[1]);
  set(conf, "transactional.id", args[4]);
  set(conf, "compression.codec", "lz4");
  set(conf, "linger.ms", "5");
  set(conf, "queue.buffering.max.messages", "200000");
  rd_kafka_conf_set_dr_msg_cb(conf, on_report);
  rd_kafka_t *producer = open_client(RD_KAFKA_PRODUCER, conf);
  check(rd_kafka_init_transactions(producer, TRANSACTION_TIMEOUT_MS), "init_transactions");
  rd_kafka_topic_t *output = rd_kafka_topic_new(producer, args[3], NULL);
  if (output == NULL) fail("%s", rd_kafka_err2str(rd_kafka_last_error()));

  rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_list_add(topics, args[2], RD_KAFKA_PARTITION_UA);
  rd_kafka_resp_err_t refused = rd_kafka_subscribe(consumer, topics);
  if (refused) fail("%s", rd_kafka_err2str(refused));
  rd_kafka_topic_partition_list_destroy(topics);

  rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(consumer);
  static rd_kafka_message_t *batch[BATCH_RECORDS];
  rd_kafka_topic_t *input = rd_kafka_topic_new(producer, args[2], NULL);
  if (input == NULL) fail("%s", rd_kafka_err2str(rd_kafka_last_error()));
  int partitions = partitions_of(producer, input);
  int64_t *next = malloc((size_t)partitions * sizeof *next);
  if (next == NULL) fail("no memory for %d partitions", partitions);
  while (!stopping) {
    ssize_t got = rd_kafka_consume_batch_queue(queue, BATCH_WAIT_MS, batch, BATCH_RECORDS);
    if (got < 0) fail("%s", rd_kafka_err2str(rd_kafka_last_error()));
    if (got == 0) continue;
    check(rd_kafka_begin_transaction(producer), "begin_transaction");
    for (int partition = 0; partition < partitions; partition++) next[partition] = -1;
    for (ssize_t index = 0; index < got; index++) {
      rd_kafka_message_t *message = batch[index];
      if (message->err) fail("%s", rd_kafka_message_errstr(message));
      if (message->partition >= partitions) fail("the topic has got more partitions");
      copy(producer, output, message);
      next[message->partition] = message->offset + 1;
      rd_kafka_message_destroy(message);
    }
    rd_kafka_topic_partition_list_t *offsets = rd_kafka_topic_partition_list_new(partitions);
    for (int partition = 0; partition < partitions; partition++)
      if (next[partition] >= 0) rd_kafka_topic_partition_list_add(offsets, args[2], partition)->offset = next[partition];
    rd_kafka_consumer_group_metadata_t *group = rd_kafka_consumer_group_metadata(consumer);
    check(rd_kafka_send_offsets_to_transaction(producer, offsets, group, TRANSACTION_TIMEOUT_MS), "send_offsets_to_transaction");
    rd_kafka_consumer_group_metadata_destroy(group);
    rd_kafka_topic_partition_list_destroy(offsets);
    check(rd_kafka_commit_transaction(producer, TRANSACTION_TIMEOUT_MS), "commit_transaction");
  }
  rd_kafka_queue_destroy(queue);
  free(next);
  rd_kafka_topic_destroy(input);
  rd_kafka_topic_destroy(output);
  rd_kafka_consumer_close(consumer);
  rd_kafka_destroy(consumer);
  rd_kafka_destroy(producer);
  return 0;
}
