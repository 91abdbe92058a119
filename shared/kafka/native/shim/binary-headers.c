/*
 * Where a fetched message's headers are. librdkafka's interface copies each header into memory of its own, which costs more than everything else that is done
 * with a record that is passed on. In C, since librdkafka's own headers are no C++.
 */
#include "rdkafka_int.h"
#include "rdkafka_msg.h"

const void *kafkatrace_binary_headers(const rd_kafka_message_t *message, size_t *length) {
  const rd_kafka_msg_t *own = rd_kafka_message2msg((rd_kafka_message_t *)message);
  *length = RD_KAFKAP_BYTES_LEN(&own->rkm_u.consumer.binhdrs);
  return own->rkm_u.consumer.binhdrs.data;
}
