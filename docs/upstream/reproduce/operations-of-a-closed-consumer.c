/* One thread assigns while another closes the consumer. It depends on the moment: many consumers are closed, and a call that hangs ends it. */
#include "mock.h"

static void *assign(void *consumer) {
        rd_kafka_topic_partition_list_t *places = rd_kafka_topic_partition_list_new(1);
        rd_kafka_topic_partition_list_add(places, "topic", 0);
        while (rd_kafka_assign(consumer, places) != RD_KAFKA_RESP_ERR__DESTROY)
                ;
        rd_kafka_topic_partition_list_destroy(places);
        return NULL;
}

int main(void) {
        start_cluster(1);
        rd_kafka_mock_topic_create(cluster, "topic", 1, 1);
        give_up_after(60);
        for (int round = 1; round <= 300; round++) {
                rd_kafka_t *consumer = CLIENT(RD_KAFKA_CONSUMER, "group.id", "group");
                rd_kafka_poll_set_consumer(consumer);
                pthread_t thread;
                pthread_create(&thread, NULL, assign, consumer);
                usleep(20000);
                rd_kafka_consumer_close(consumer);
                pthread_join(thread, NULL);
                rd_kafka_destroy(consumer);
                if (round % 50 == 0) {
                        printf("%d consumers closed\n", round);
                        fflush(stdout);
                }
        }
        return 0;
}
