/* Broker 1 freezes while it is asked for the coordinator. Broker 2, which is the coordinator, is back at once, and is not asked for a minute. */
#include "mock.h"

int main(void) {
        start_cluster(2);
        rd_kafka_mock_topic_create(cluster, "topic", 1, 1);
        rd_kafka_mock_coordinator_set(cluster, "group", "group", 2);
        rd_kafka_t *consumer = CLIENT(RD_KAFKA_CONSUMER, "group.id", "group", "enable.sparse.connections", "false");
        rd_kafka_topic_partition_list_t *places = rd_kafka_topic_partition_list_new(1);
        rd_kafka_topic_partition_list_add(places, "topic", 0);
        printf("committed: %s\n", rd_kafka_err2name(rd_kafka_committed(consumer, places, 10000)));
        rd_kafka_mock_broker_set_rtt(cluster, 1, 60000);
        rd_kafka_mock_broker_set_down(cluster, 2);
        sleep(2);
        rd_kafka_mock_broker_set_up(cluster, 2);
        for (int index = 0; index < 4; index++) {
                double began = now();
                rd_kafka_resp_err_t error = rd_kafka_committed(consumer, places, 5000);
                printf("committed (5 s): %s after %.1f s\n", rd_kafka_err2name(error), now() - began);
                fflush(stdout);
        }
        _exit(0);
}
