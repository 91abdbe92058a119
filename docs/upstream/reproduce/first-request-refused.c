/* The first of two requests that are on their way is refused, and may be tried again. The second one's success acknowledges both. */
#include "mock.h"

enum { PRODUCE = 0 };

static void reported(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
        (void)rk, (void)opaque;
        printf("message %ld: %s, offset %ld\n", (long)message->_private, rd_kafka_err2str(message->err), (long)message->offset);
}

int main(void) {
        start_cluster(1);
        rd_kafka_mock_topic_create(cluster, "topic", 1, 1);
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        rd_kafka_conf_set_dr_msg_cb(conf, reported);
        rd_kafka_t *producer = client_with(RD_KAFKA_PRODUCER, conf,
                                           (const char *[]){"enable.idempotence", "true", "linger.ms", "50", NULL});
        const struct rd_kafka_metadata *metadata;
        if (rd_kafka_metadata(producer, 1, NULL, &metadata, 5000) == RD_KAFKA_RESP_ERR_NO_ERROR)
                rd_kafka_metadata_destroy(metadata);
        rd_kafka_mock_broker_set_rtt(cluster, 1, 300);
        rd_kafka_mock_push_request_errors(cluster, PRODUCE, 1, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS);
        static char value[400000];
        for (long number = 1; number <= 3; number++)
                rd_kafka_producev(producer, RD_KAFKA_V_TOPIC("topic"), RD_KAFKA_V_PARTITION(0),
                                  RD_KAFKA_V_VALUE(value, sizeof value), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                                  RD_KAFKA_V_OPAQUE((void *)number), RD_KAFKA_V_END);
        rd_kafka_flush(producer, 20000);
        int64_t low, high;
        rd_kafka_query_watermark_offsets(producer, "topic", 0, &low, &high, 5000);
        printf("the partition has %ld of 3 messages\n", (long)(high - low));
        return 0;
}
