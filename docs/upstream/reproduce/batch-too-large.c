/* A broker refuses one batch of 1,000 messages of 1.1 KB as too large: none is sent in a smaller one. */
#include "mock.h"

enum { PRODUCE = 0 };

static int good, bad;

static void reported(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
        (void)rk, (void)opaque;
        if (message->err)
                bad++;
        else
                good++;
}

int main(void) {
        start_cluster(1);
        rd_kafka_mock_topic_create(cluster, "topic", 1, 1);
        rd_kafka_mock_push_request_errors(cluster, PRODUCE, 1, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        rd_kafka_conf_set_dr_msg_cb(conf, reported);
        rd_kafka_t *producer = client_with(RD_KAFKA_PRODUCER, conf,
                                           (const char *[]){"linger.ms", "500", "batch.size", "2000000", "message.max.bytes",
                                                            "2000000", NULL});
        for (int index = 0; index < 1000; index++) {
                rd_kafka_error_t *error = produce(producer, 1100);
                if (error)
                        SAID("produce", error);
        }
        rd_kafka_flush(producer, 10000);
        printf("%d messages stored, %d failed\n", good, bad);
        return 0;
}
