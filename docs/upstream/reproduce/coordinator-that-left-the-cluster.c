/* The same of a coordinator that was connected and has left the cluster; another coordinates the group by then. */
#include "mock.h"

int main(void) {
        start_cluster(3);
        rd_kafka_t *producer = transactional();
        one_transaction(producer);
        SAID("begin_transaction", rd_kafka_begin_transaction(producer));
        rd_kafka_mock_broker_decommission(cluster, 2);
        rd_kafka_mock_coordinator_set(cluster, "group", "group", 3);
        const struct rd_kafka_metadata *metadata;
        if (rd_kafka_metadata(producer, 1, NULL, &metadata, 5000) == RD_KAFKA_RESP_ERR_NO_ERROR)
                rd_kafka_metadata_destroy(metadata);
        give_up_after(20);
        SAID("send_offsets_to_transaction (10 s)", send_offsets(producer, 10000));
        return 0;
}
