/* A member is to give up one of two partitions, and has not answered yet. It unassigns the other one, and that counts as the answer. */
#include "mock.h"

static int revoked;

static void rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t *partitions, void *opaque) {
        int is_first = opaque != NULL;
        printf("%s member: %s", is_first ? "first" : "second", rd_kafka_err2name(code));
        for (int index = 0; index < partitions->cnt; index++)
                printf(" %d", partitions->elems[index].partition);
        printf("\n");
        fflush(stdout);
        if (code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
                rd_kafka_error_t *error = rd_kafka_incremental_assign(rk, partitions);
                if (error)
                        rd_kafka_error_destroy(error);
                return;
        }
        if (!is_first)
                return;
        /* Not answered: its last offsets are still to be committed. The other partition is unassigned meanwhile. */
        revoked = 1;
        rd_kafka_topic_partition_list_t *other = rd_kafka_topic_partition_list_new(1);
        rd_kafka_topic_partition_list_add(other, "topic", 1 - partitions->elems[0].partition);
        SAID("first member: incremental_unassign of the other partition", rd_kafka_incremental_unassign(rk, other));
        rd_kafka_topic_partition_list_destroy(other);
}

static rd_kafka_t *member(void *opaque) {
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        rd_kafka_conf_set_rebalance_cb(conf, rebalance);
        rd_kafka_conf_set_opaque(conf, opaque);
        rd_kafka_t *consumer = client_with(RD_KAFKA_CONSUMER, conf,
                                           (const char *[]){"group.id", "group", "partition.assignment.strategy",
                                                            "cooperative-sticky", "session.timeout.ms", "6000",
                                                            "heartbeat.interval.ms", "500", NULL});
        rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
        rd_kafka_topic_partition_list_add(topics, "topic", RD_KAFKA_PARTITION_UA);
        rd_kafka_subscribe(consumer, topics);
        return consumer;
}

static void poll_for(rd_kafka_t *one, rd_kafka_t *other, double seconds) {
        for (double until = now() + seconds; now() < until;) {
                rd_kafka_message_t *message = rd_kafka_consumer_poll(one, 50);
                if (message)
                        rd_kafka_message_destroy(message);
                if (other && (message = rd_kafka_consumer_poll(other, 50)))
                        rd_kafka_message_destroy(message);
        }
}

int main(void) {
        start_cluster(1);
        rd_kafka_mock_topic_create(cluster, "topic", 2, 1);
        rd_kafka_t *first = member((void *)1);
        poll_for(first, NULL, 6);
        poll_for(first, member(NULL), 15);
        printf("the revocation was %s, and never answered\n", revoked ? "told" : "not told");
        fflush(stdout);
        _exit(0);
}
