/* abort_transaction with 2 s waits for a broker's name to be resolved, for which the name server takes 15 s. */
#include <netdb.h>
#include "mock.h"

static int slow_resolve(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found,
                        void *opaque) {
        (void)opaque;
        if (node && !strcmp(node, "slow.invalid"))
                sleep(15);
        return getaddrinfo(node, service, hints, found);
}

static void free_resolved(struct addrinfo *found) { freeaddrinfo(found); }

/* One callback both resolves and, without a node and a service, frees. */
static int resolve(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found,
                   void *opaque) {
        if (!node && !service) {
                free_resolved(*found);
                return 0;
        }
        return slow_resolve(node, service, hints, found, opaque);
}

int main(void) {
        start_cluster(1);
        char brokers[256];
        snprintf(brokers, sizeof brokers, "%s,slow.invalid:9092", rd_kafka_mock_cluster_bootstraps(cluster));
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        rd_kafka_conf_set_resolve_cb(conf, resolve);
        rd_kafka_t *producer =
            client_with(RD_KAFKA_PRODUCER, conf,
                        (const char *[]){"bootstrap.servers", brokers, "transactional.id", "id", "enable.sparse.connections",
                                         "false", NULL});
        SAID("init_transactions", rd_kafka_init_transactions(producer, 10000));
        SAID("begin_transaction", rd_kafka_begin_transaction(producer));
        SAID("produce", produce(producer, 10));
        rd_kafka_flush(producer, 5000);
        give_up_after(40);
        SAID("abort_transaction (2 s)", rd_kafka_abort_transaction(producer, 2000));
        return 0;
}
