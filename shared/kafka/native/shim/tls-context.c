/*
 * New certificates for a client that runs, which librdkafka has no interface for. In C, since librdkafka's own headers are no C++.
 */
#include "rdkafka_int.h"
#include "rdkafka_ssl.h"

#include <openssl/ssl.h>

static void replace(char **setting, const char *value) {
  if (*setting) {
    rd_kafka_desensitize_str(*setting);
    rd_free(*setting);
  }
  *setting = value ? rd_strdup(value) : NULL;
}

/*
 * Connections that are opened from now on use these; others stay as they are. All are PEM; NULL: none, and of authorities the system's.
 * Returns 0, or -1 with the reason; then the client goes on with what it had.
 */
int kafkatrace_renew_certificates(rd_kafka_t *rk, const char *authorities, const char *certificate, const char *key,
                                  const char *key_password, char *reason, size_t size) {
  SSL_CTX *before;
  int result;

  rd_kafka_wrlock(rk);
  before = rk->rk_conf.ssl.ctx;
  if (!before) {
    rd_kafka_wrunlock(rk);
    rd_snprintf(reason, size, "the client does not use TLS");
    return -1;
  }
  replace(&rk->rk_conf.ssl.ca_pem, authorities);
  replace(&rk->rk_conf.ssl.cert_pem, certificate);
  replace(&rk->rk_conf.ssl.key_pem, key);
  replace(&rk->rk_conf.ssl.key_password, key_password);
  result = rd_kafka_ssl_ctx_init(rk, reason, size);
  /* Connections that were made with it keep it until they end. */
  if (result == 0) SSL_CTX_free(before);
  rd_kafka_wrunlock(rk);
  return result;
}
