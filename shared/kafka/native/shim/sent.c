/*
 * Whether a broker may have stored a record that was not acknowledged. In C, since librdkafka's own headers are no C++.
 */
#include "rdkafka_int.h"
#include "rdkafka_msg.h"

/*
 * The status alone does not tell: a leader that has stored a record and then loses its partition answers NOT_LEADER_OR_FOLLOWER, which librdkafka
 * takes for "not stored" before it sends the record again. A record of any earlier request has a time before which it is not sent again.
 */
int kafkatrace_may_be_stored(const rd_kafka_message_t *message) {
  const rd_kafka_msg_t *own = rd_kafka_message2msg((rd_kafka_message_t *)message);
  return own->rkm_status != RD_KAFKA_MSG_STATUS_NOT_PERSISTED || own->rkm_u.producer.ts_backoff != 0;
}
