/* send_offsets_to_transaction with 2 s, while the group's coordinator is connected and does not answer, takes a minute. */
#include "mock.h"

int main(void) {
        start_cluster(3);
        rd_kafka_t *producer = transactional();
        one_transaction(producer);
        SAID("begin_transaction", rd_kafka_begin_transaction(producer));
        rd_kafka_mock_broker_set_rtt(cluster, 2, 60000);
        give_up_after(20);
        SAID("send_offsets_to_transaction (2 s)", send_offsets(producer, 2000));
        return 0;
}
