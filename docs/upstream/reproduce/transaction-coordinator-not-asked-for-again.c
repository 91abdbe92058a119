/* The transaction's coordinator freezes, and another takes over two seconds later. Nobody asks until the attempt to connect to the first has failed. */
#include "mock.h"

int main(void) {
        start_cluster(2);
        rd_kafka_t *producer = transactional();
        rd_kafka_mock_partition_set_leader(cluster, "topic", 0, 2);
        one_transaction(producer);
        SAID("begin_transaction", rd_kafka_begin_transaction(producer));
        rd_kafka_mock_broker_set_rtt(cluster, 1, 60000);
        rd_kafka_mock_broker_set_down(cluster, 1);
        rd_kafka_mock_broker_set_up(cluster, 1);
        SAID("produce", produce(producer, 10));
        SAID("commit_transaction (3 s)", rd_kafka_commit_transaction(producer, 3000));
        rd_kafka_mock_coordinator_set(cluster, "transaction", "id", 2);
        give_up_after(60);
        for (double began = now();;) {
                rd_kafka_error_t *error = rd_kafka_commit_transaction(producer, 1000);
                int again = error && rd_kafka_error_is_retriable(error);
                if (!again)
                        said("commit_transaction, asked again each second", began, error);
                if (!again)
                        _exit(0);
                rd_kafka_error_destroy(error);
        }
}
