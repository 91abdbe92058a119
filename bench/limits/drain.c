/*
 * The limit of reading: librdkafka alone. See HELP.
 */
#include <string.h>

#include "program.h"

static const char HELP[] =
    "Reads a filled topic from its beginning as fast as librdkafka can: committed records only, all partitions, nothing done with them.\n"
    "\n"
    "Usage: drain BROKERS TOPIC RECORDS\n"
    "\n"
    "Prints one line of JSON: events, seconds (from the first record to the last), cpuSeconds. Fails if there are fewer than RECORDS.\n";

#define BATCH_RECORDS 10000
/* So long a call waits for its batch to be full. */
#define BATCH_WAIT_MS 500
#define SILENCE_SECONDS 10

int main(int count, char **args) {
  if (count == 2 && strcmp(args[1], "--help") == 0) {
    fputs(HELP, stdout);
    return 0;
  }
  if (count != 4) {
    fputs(HELP, stderr);
    return 2;
  }
  long records = count_of(args[3]);
  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  set(conf, "bootstrap.servers", args[1]);
  set(conf, "group.id", "limit");
  set(conf, "isolation.level", "read_committed");
  set(conf, "enable.auto.commit", "false");
  set(conf, "enable.auto.offset.store", "false");
  set(conf, "enable.partition.eof", "true");
  set(conf, "queued.min.messages", "1000000");
  set(conf, "fetch.message.max.bytes", "4194304");
  set(conf, "fetch.queue.backoff.ms", "10");
  rd_kafka_t *client = open_client(RD_KAFKA_CONSUMER, conf);
  rd_kafka_poll_set_consumer(client);
  rd_kafka_topic_t *topic = rd_kafka_topic_new(client, args[2], NULL);
  if (topic == NULL) fail("%s", rd_kafka_err2str(rd_kafka_last_error()));
  int partitions = partitions_of(client, topic), ended = 0;
  rd_kafka_topic_partition_list_t *all = rd_kafka_topic_partition_list_new(partitions);
  for (int partition = 0; partition < partitions; partition++)
    rd_kafka_topic_partition_list_add(all, args[2], partition)->offset = RD_KAFKA_OFFSET_BEGINNING;
  rd_kafka_resp_err_t fault = rd_kafka_assign(client, all);
  if (fault) fail("%s", rd_kafka_err2str(fault));
  rd_kafka_topic_partition_list_destroy(all);

  rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(client);
  static rd_kafka_message_t *batch[BATCH_RECORDS];
  double begun = 0, cpu_begun = 0, last = now_seconds(), cpu_last = 0;
  long read = 0;
  while (read < records && ended < partitions) {
    // The first alone, for the clock to start with it; and never more than there are, which would be waited for.
    long left = records - read, size = begun == 0 ? 1 : left < BATCH_RECORDS ? left : BATCH_RECORDS;
    ssize_t got = rd_kafka_consume_batch_queue(queue, BATCH_WAIT_MS, batch, (size_t)size);
    if (got < 0) fail("%s", rd_kafka_err2str(rd_kafka_last_error()));
    if (got == 0) {
      if (now_seconds() - last > SILENCE_SECONDS) fail("nothing more came after %ld of %ld records", read, records);
      continue;
    }
    if (begun == 0) {
      begun = now_seconds();
      cpu_begun = cpu_seconds();
    }
    for (ssize_t index = 0; index < got; index++) {
      rd_kafka_message_t *message = batch[index];
      if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
        ended++;
      else if (message->err)
        fail("%s", rd_kafka_message_errstr(message));
      else
        read++;
      rd_kafka_message_destroy(message);
    }
    last = now_seconds();
    cpu_last = cpu_seconds();
  }
  if (read < records) fail("the topic has %ld records, not %ld", read, records);
  print_measurement(read, last - begun, cpu_last - cpu_begun);
  rd_kafka_queue_destroy(queue);
  rd_kafka_topic_destroy(topic);
  rd_kafka_consumer_close(client);
  rd_kafka_destroy(client);
  return 0;
}
