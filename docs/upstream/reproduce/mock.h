/* What the reproductions share: librdkafka's mock cluster, clients of it, and a clock. Each is built with
 *   cc NAME.c -o NAME -lrdkafka -lpthread
 * and prints what it saw; its report says what was expected. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

static double now(void) {
        struct timespec at;
        clock_gettime(CLOCK_MONOTONIC, &at);
        return at.tv_sec + at.tv_nsec / 1e9;
}

static rd_kafka_mock_cluster_t *cluster;

/* settings: name, value, ..., NULL */
static rd_kafka_t *client_with(rd_kafka_type_t type, rd_kafka_conf_t *conf, const char **settings) {
        char error[512];
        if (cluster)
                rd_kafka_conf_set(conf, "bootstrap.servers", rd_kafka_mock_cluster_bootstraps(cluster), NULL, 0);
        rd_kafka_conf_set(conf, "log_level", "3", NULL, 0);
        for (; *settings; settings += 2)
                if (rd_kafka_conf_set(conf, settings[0], settings[1], error, sizeof error) != RD_KAFKA_CONF_OK) {
                        fprintf(stderr, "%s\n", error);
                        exit(2);
                }
        rd_kafka_t *client = rd_kafka_new(type, conf, error, sizeof error);
        if (!client) {
                fprintf(stderr, "%s\n", error);
                exit(2);
        }
        return client;
}

#define CLIENT(type, ...) client_with(type, rd_kafka_conf_new(), (const char *[]){__VA_ARGS__, NULL})

static void start_cluster(int brokers) {
        static const char *none[] = {NULL};
        cluster = rd_kafka_mock_cluster_new(client_with(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), none), brokers);
        rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0);
}

/* Prints what a call that gives an error object answered, and after how long. */
static void said(const char *what, double began, rd_kafka_error_t *error) {
        printf("%s: %s after %.1f s%s\n", what, error ? rd_kafka_error_string(error) : "no error", now() - began,
               error && rd_kafka_error_is_fatal(error) ? " (fatal)" : "");
        fflush(stdout);
        if (error)
                rd_kafka_error_destroy(error);
}

#define SAID(what, call)                                                                                               \
        do {                                                                                                           \
                double began = now();                                                                                  \
                said(what, began, call);                                                                               \
        } while (0)

/* Ends the process, whose call may never return. */
static void *give_up(void *seconds) {
        sleep((unsigned)(long)seconds);
        printf("not back after %ld s\n", (long)seconds);
        fflush(stdout);
        _exit(1);
}

static inline void give_up_after(long seconds) {
        pthread_t thread;
        pthread_create(&thread, NULL, give_up, (void *)seconds);
}

/* A transactional producer whose transactions are coordinated by broker 1, and offsets of a group that is coordinated by broker 2. */
static inline rd_kafka_t *transactional(void) {
        rd_kafka_mock_coordinator_set(cluster, "transaction", "id", 1);
        rd_kafka_mock_coordinator_set(cluster, "group", "group", 2);
        rd_kafka_mock_topic_create(cluster, "topic", 1, 1);
        rd_kafka_t *producer = CLIENT(RD_KAFKA_PRODUCER, "transactional.id", "id");
        SAID("init_transactions", rd_kafka_init_transactions(producer, 10000));
        return producer;
}

static inline rd_kafka_error_t *send_offsets(rd_kafka_t *producer, int timeout_ms) {
        rd_kafka_topic_partition_list_t *offsets = rd_kafka_topic_partition_list_new(1);
        rd_kafka_topic_partition_list_add(offsets, "topic", 0)->offset = 1;
        rd_kafka_consumer_group_metadata_t *group = rd_kafka_consumer_group_metadata_new("group");
        rd_kafka_error_t *error = rd_kafka_send_offsets_to_transaction(producer, offsets, group, timeout_ms);
        rd_kafka_consumer_group_metadata_destroy(group);
        rd_kafka_topic_partition_list_destroy(offsets);
        return error;
}

static inline void one_transaction(rd_kafka_t *producer) {
        SAID("begin_transaction", rd_kafka_begin_transaction(producer));
        SAID("send_offsets_to_transaction", send_offsets(producer, 10000));
        SAID("commit_transaction", rd_kafka_commit_transaction(producer, 10000));
}

static inline rd_kafka_error_t *produce(rd_kafka_t *producer, size_t bytes) {
        char *value = calloc(1, bytes);
        rd_kafka_resp_err_t error = rd_kafka_producev(producer, RD_KAFKA_V_TOPIC("topic"), RD_KAFKA_V_PARTITION(0),
                                                      RD_KAFKA_V_VALUE(value, bytes), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                                                      RD_KAFKA_V_END);
        free(value);
        return error ? rd_kafka_error_new(error, "%s", rd_kafka_err2str(error)) : NULL;
}
