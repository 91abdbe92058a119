/* One thread asks for the assignment while another closes the consumer. It depends on the moment: many consumers are closed, and a call that hangs ends it. */
#include "mock.h"

static void *ask(void *consumer) {
        rd_kafka_topic_partition_list_t *places;
        while (rd_kafka_assignment(consumer, &places) == RD_KAFKA_RESP_ERR_NO_ERROR)
                rd_kafka_topic_partition_list_destroy(places);
        return NULL;
}

int main(void) {
        start_cluster(1);
        rd_kafka_mock_topic_create(cluster, "topic", 1, 1);
        give_up_after(30);
        for (int round = 1; round <= 300; round++) {
                rd_kafka_t *consumer = CLIENT(RD_KAFKA_CONSUMER, "group.id", "group");
                pthread_t threads[4];
                for (int index = 0; index < 4; index++)
                        pthread_create(&threads[index], NULL, ask, consumer);
                usleep(20000);
                rd_kafka_consumer_close(consumer);
                printf("consumer %d is closed\n", round);
                fflush(stdout);
                for (int index = 0; index < 4; index++)
                        pthread_join(threads[index], NULL);
                rd_kafka_destroy(consumer);
        }
        printf("every call came back\n");
        return 0;
}
