/*
 * The limit of writing: librdkafka alone, with records as KafkaTrace writes them. See HELP.
 */
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "program.h"

static const char HELP[] =
    "Writes records to a topic as fast as librdkafka can, and waits until the last is acknowledged.\n"
    "\n"
    "Usage: produce BROKERS TOPIC RECORDS VALUES\n"
    "\n"
    "  VALUES   a file of values, one a line; they are used in turn\n"
    "\n"
    "Idempotent, acks=all, lz4. Every record is an event with an id of its own and the headers that KafkaTrace writes; the key goes with the value.\n"
    "Prints one line of JSON: events, seconds (from the first record to the last acknowledgement), cpuSeconds.\n";

/* After so many records the reports are taken in. */
#define REPORT_EVERY 1000
#define QUEUE_FULL_WAIT_MS 5
#define LAST_REPORT_TIMEOUT_MS 60000
#define MAX_VALUES 100000

static double now_seconds(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

/* User and system time of all threads. */
static double cpu_seconds(void) {
  struct rusage use;
  getrusage(RUSAGE_SELF, &use);
  return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
         (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

static void print_measurement(long events, double seconds, double cpu) {
  printf("{\"events\":%ld,\"seconds\":%.6f,\"cpuSeconds\":%.6f}\n", events, seconds, cpu);
}

static long count_of(const char *text) {
  char *end;
  long count = strtol(text, &end, 10);
  if (*end != '\0' || count <= 0) fail("not a count of records: %s", text);
  return count;
}

static long acknowledged;

static void on_report(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque) {
  (void)client;
  (void)opaque;
  if (message->err) fail("a record was not stored: %s", rd_kafka_err2str(message->err));
  acknowledged++;
}

struct value {
  char *bytes;
  size_t size;
};

static int read_values(const char *path, struct value *values) {
  FILE *file = fopen(path, "r");
  if (file == NULL) fail("%s cannot be read", path);
  int count = 0;
  char *line = NULL;
  size_t room = 0;
  for (ssize_t size; count < MAX_VALUES && (size = getline(&line, &room, file)) > 0; line = NULL, room = 0) {
    if (line[size - 1] == '\n') size--;
    values[count++] = (struct value){line, (size_t)size};
  }
  fclose(file);
  if (count == 0) fail("%s has no values", path);
  return count;
}

/* Lower-case hexadecimal, by hand since printf would be a tenth of the work. */
static void put_hex(char *last, unsigned long number, int digits) {
  for (; digits > 0; digits--, number >>= 4) *last-- = "0123456789abcdef"[number & 15];
}

#define HEADER(key, text, bytes) \
  { .vtype = RD_KAFKA_VTYPE_HEADER, .u.header = {key, text, bytes} }
#define FIXED(key, text) HEADER(key, text, sizeof text - 1)

int main(int count, char **args) {
  if (count == 2 && strcmp(args[1], "--help") == 0) {
    fputs(HELP, stdout);
    return 0;
  }
  if (count != 5) {
    fputs(HELP, stderr);
    return 2;
  }
  long records = count_of(args[3]);
  static struct value values[MAX_VALUES];
  int value_count = read_values(args[4], values);

  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  set(conf, "bootstrap.servers", args[1]);
  set(conf, "enable.idempotence", "true");
  set(conf, "acks", "all");
  set(conf, "compression.codec", "lz4");
  set(conf, "partitioner", "murmur2_random");
  set(conf, "linger.ms", "10");
  set(conf, "queue.buffering.max.messages", "200000");
  set(conf, "socket.nagle.disable", "true");
  rd_kafka_conf_set_dr_msg_cb(conf, on_report);
  rd_kafka_t *client = open_client(RD_KAFKA_PRODUCER, conf);
  rd_kafka_topic_t *topic = rd_kafka_topic_new(client, args[2], NULL);
  if (topic == NULL) fail("%s", rd_kafka_err2str(rd_kafka_last_error()));
  partitions_of(client, topic);

  time_t wall = time(NULL);
  char instant[] = "2000-01-01T00:00:00Z", received[24];
  strftime(instant, sizeof instant, "%Y-%m-%dT%H:%M:%SZ", gmtime(&wall));
  int received_size = snprintf(received, sizeof received, "%ld000", (long)wall);
  char id[] = "00000000-0000-7000-8000-000000000000";
  char trace[] = "00-00000000000000000000000000000000-0000000000000000-01";
  /* Ids differ between programs, too. */
  unsigned long program = (unsigned long)(now_seconds() * 1e6);
  put_hex(id + 7, program >> 16, 8);
  put_hex(id + 12, program, 4);
  put_hex(trace + 18, program | 1, 16);
  char key[] = "order-000000";

  double begun = now_seconds(), cpu_begun = cpu_seconds();
  for (long index = 0; index < records; index++) {
    int at = (int)(index % value_count);
    put_hex(id + 35, (unsigned long)index, 12);
    put_hex(trace + 34, (unsigned long)index, 16);
    put_hex(trace + 51, (unsigned long)index + 1, 16);
    for (int digit = 11, rest = at; digit > 5; digit--, rest /= 10) key[digit] = (char)('0' + rest % 10);
    const rd_kafka_vu_t record[] = {
        {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = topic},
        {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {key, sizeof key - 1}},
        {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {values[at].bytes, values[at].size}},
        FIXED("ce_specversion", "1.0"),
        HEADER("ce_id", id, 36),
        FIXED("ce_source", "urn:kafkatrace:bench"),
        FIXED("ce_type", "shop.order.placed"),
        HEADER("ce_subject", key, sizeof key - 1),
        HEADER("ce_time", instant, sizeof instant - 1),
        FIXED("content-type", "application/json"),
        HEADER("traceparent", trace, 55),
        FIXED("kt-tenant", "default"),
        HEADER("kt-received-at", received, received_size),
    };
    for (;;) {
      rd_kafka_error_t *fault = rd_kafka_produceva(client, record, sizeof record / sizeof *record);
      if (fault == NULL) break;
      if (rd_kafka_error_code(fault) != RD_KAFKA_RESP_ERR__QUEUE_FULL) fail("%s", rd_kafka_error_string(fault));
      rd_kafka_error_destroy(fault);
      rd_kafka_poll(client, QUEUE_FULL_WAIT_MS);
    }
    if (index % REPORT_EVERY == 0) rd_kafka_poll(client, 0);
  }
  rd_kafka_flush(client, LAST_REPORT_TIMEOUT_MS);
  double seconds = now_seconds() - begun, cpu = cpu_seconds() - cpu_begun;
  if (acknowledged != records) fail("%ld of %ld records were acknowledged", acknowledged, records);
  print_measurement(records, seconds, cpu);
  rd_kafka_topic_destroy(topic);
  rd_kafka_destroy(client);
  return 0;
}
