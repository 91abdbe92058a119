/* Messages wait while as many as may be are in flight to a broker that answers after two seconds: prints the CPU time that this took. */
#include "mock.h"

static double cpu(void) {
        struct timespec used;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
        return used.tv_sec + used.tv_nsec / 1e9;
}

static void produce_all(rd_kafka_t *producer, int count) {
        for (int index = 0; index < count; index++) {
                rd_kafka_error_t *error = produce(producer, 100);
                if (error)
                        SAID("produce", error);
        }
}

int main(void) {
        start_cluster(1);
        rd_kafka_mock_topic_create(cluster, "topic", 1, 1);
        rd_kafka_t *producer = CLIENT(RD_KAFKA_PRODUCER, "enable.idempotence", "true", "linger.ms", "0");
        produce_all(producer, 1);
        rd_kafka_flush(producer, 10000);
        rd_kafka_mock_broker_set_rtt(cluster, 1, 2000);
        produce_all(producer, 5);
        usleep(500 * 1000);
        produce_all(producer, 20);
        double began = now(), used = cpu();
        while (rd_kafka_outq_len(producer) > 0)
                rd_kafka_poll(producer, 100);
        printf("%.2f s of CPU time in %.1f s\n", cpu() - used, now() - began);
        return 0;
}
