/* AddOffsetsToTxn is lost with its connection. The coordinator has no open transaction, as Kafka's then says; aborting is fatal. */
#include "mock.h"

enum { ADD_OFFSETS_TO_TXN = 25, END_TXN = 26 };

int main(void) {
        start_cluster(2);
        rd_kafka_t *producer = transactional();
        SAID("begin_transaction", rd_kafka_begin_transaction(producer));
        rd_kafka_resp_err_t lost[20];
        for (int index = 0; index < 20; index++)
                lost[index] = RD_KAFKA_RESP_ERR__TRANSPORT;
        rd_kafka_mock_push_request_errors_array(cluster, ADD_OFFSETS_TO_TXN, 20, lost);
        SAID("send_offsets_to_transaction (2 s)", send_offsets(producer, 2000));
        rd_kafka_mock_clear_request_errors(cluster, ADD_OFFSETS_TO_TXN);
        rd_kafka_mock_push_request_errors(cluster, END_TXN, 1, RD_KAFKA_RESP_ERR_INVALID_TXN_STATE);
        give_up_after(30);
        SAID("abort_transaction", rd_kafka_abort_transaction(producer, 10000));
        return 0;
}
