/* send_offsets_to_transaction with 2 s, while the group's coordinator is down, does not return. */
#include "mock.h"

int main(void) {
        start_cluster(3);
        rd_kafka_t *producer = transactional();
        SAID("begin_transaction", rd_kafka_begin_transaction(producer));
        rd_kafka_mock_broker_set_down(cluster, 2);
        give_up_after(20);
        SAID("send_offsets_to_transaction (2 s)", send_offsets(producer, 2000));
        return 0;
}
