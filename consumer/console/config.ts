import { type Static, Type } from '@sinclair/typebox'
import { authFaults, authVariables, loadWithTenants } from '../../shared/http/access-config.ts'
import { certificateFaults, certificateVariables, clientCertificateVariables } from '../../shared/http/certificates.ts'
import { proxyFaults, proxyVariables } from '../../shared/http/client-address.ts'
import type { Tenants } from '../../shared/http/tenants.ts'
import { registryVariables } from '../../shared/schemas/registry.ts'
import { schemaConfigFaults, schemaVariables } from '../../shared/schemas/store.ts'
import { choice, commonFaults, commonVariables, integer } from '../../shared/service/config.ts'
import { loginFaults, loginVariables } from './login-config.ts'

const MIB = 2 ** 20

/** Every variable of the console: name, type, default and meaning. */
export const consoleVariables = Type.Object({
  ...commonVariables,
  HOST: Type.String({
    default: '::',
    description: 'The address that the public port listens on; ::, all of IPv6 and IPv4.',
  }),
  PORT: integer(8081, 0, 65_535, 'The public port. 0 chooses a free one.'),
  OPS_PORT: integer(
    9082,
    0,
    65_535,
    'The operations port: /livez, /readyz, /startupz, /metrics. 0 chooses a free one.',
  ),
  ...certificateVariables,
  ...clientCertificateVariables,
  ...proxyVariables,
  ...authVariables,
  GROUP_ID: Type.String({
    default: 'kafkatrace',
    pattern: '^[A-Za-z0-9._-]{1,200}$',
    description: 'The consumers’ group. The console reads its committed offsets and members, and never joins it.',
  }),
  CONSUMER_STATUS_PORT: integer(
    9081,
    1,
    65_535,
    'The operations port of consumers. Status asks each there, at the host that Kafka names, how its partitions are.',
  ),
  PRODUCER_URL: Type.Optional(
    Type.String({
      pattern: '^https?://[^/?#]+[^?#]*$',
      form: 'a URL of http or https, without query and fragment',
      description:
        'Where the producer is, to send events from the page. The console passes them on with the key of the request. Without it, nothing can be sent there.',
    }),
  ),
  TRACE_URL: Type.Optional(
    Type.String({
      pattern: '^https?://[^/?#]+/.*\\{traceId\\}.*$',
      form: 'a URL of http or https with {traceId} in it',
      description:
        'Where a trace is shown, with {traceId} in its place, such as https://jaeger.example.com/trace/{traceId}. The page links to it.',
    }),
  ),
  ...loginVariables,
  ...schemaVariables,
  ...registryVariables,
  CREATE_TOPICS: choice(['on', 'off'], {
    default: 'on',
    description: 'on: the console creates the topics of its own, kt-control and the .acts of every stream.',
  }),
  TOPIC_REPLICATION: integer(-1, -1, 100, 'With CREATE_TOPICS=on: replicas of a new topic; -1: the brokers’ default.'),
  MAX_SCANS: integer(
    4,
    1,
    64,
    'Readers of the log. A request needs one, and takes up to three to search one partition while they are free. Where none is free, it waits shortly; then 503. With several tenants, each can use at most half of what the others leave. Each reader takes up to some 20 MB.',
  ),
  SCAN_MAX_RECORDS: integer(
    10_000_000,
    1_000,
    1_000_000_000,
    'The most records that one request may read. The answer says what was not searched.',
  ),
  SCAN_TIMEOUT_MS: integer(
    30_000,
    100,
    240_000,
    'How long one request may read the log, in ms. The answer says what was not searched.',
  ),
  MAX_FOLLOWERS: integer(
    100,
    1,
    10_000,
    'The most requests that follow outcomes at a time. Over it: 503. With several tenants, each can have at most half of what the others leave.',
  ),
  FOLLOWER_MAX_BYTES: integer(
    MIB,
    64 * 1024,
    64 * MIB,
    'How much may wait for a follower that reads too slowly. Over it: it is told so and disconnected, and can resume.',
  ),
  TRANSACTION_TIMEOUT_MS: integer(
    10_000,
    1_000,
    900_000,
    'How long the broker waits before it aborts a transaction of an act whose console is gone, in ms.',
  ),
})

export type ConsoleConfig = Readonly<Static<typeof consoleVariables>>

/**
 * The configuration, and unless AUTH=off the tenants of its file.
 * @throws ConfigError naming every fault of both
 */
export const loadConsole = (
  env: Readonly<Record<string, string | undefined>>,
): { config: ConsoleConfig; tenants: Tenants | undefined } =>
  loadWithTenants(consoleVariables, env, (config, given) => [
    ...commonFaults(config, given),
    ...certificateFaults(config),
    ...proxyFaults(config),
    ...authFaults(config),
    ...loginFaults(config),
    ...schemaConfigFaults(config),
  ])
