/* What produce.c and drain.c share: how they begin and how they end. */
#pragma once

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "rdkafka.h"

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...) {
  va_list values;
  va_start(values, format);
  vfprintf(stderr, format, values);
  va_end(values);
  fputc('\n', stderr);
  exit(1);
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
  char reason[512];
  if (rd_kafka_conf_set(conf, name, value, reason, sizeof reason) != RD_KAFKA_CONF_OK) fail("%s", reason);
}

static rd_kafka_t *open_client(rd_kafka_type_t type, rd_kafka_conf_t *conf) {
  char reason[512];
  rd_kafka_t *client = rd_kafka_new(type, conf, reason, sizeof reason);
  if (client == NULL) fail("%s", reason);
  return client;
}

/* How many partitions the topic has; asking also connects to the broker. */
static int partitions_of(rd_kafka_t *client, rd_kafka_topic_t *topic) {
  const struct rd_kafka_metadata *metadata;
  rd_kafka_resp_err_t fault = rd_kafka_metadata(client, 0, topic, &metadata, 10000);
  if (fault) fail("the topic cannot be asked for: %s", rd_kafka_err2str(fault));
  int partitions = metadata->topic_cnt == 1 ? metadata->topics[0].partition_cnt : 0;
  rd_kafka_metadata_destroy(metadata);
  if (partitions == 0) fail("there is no topic %s", rd_kafka_topic_name(topic));
  return partitions;
}
