import { hostname } from 'node:os'
import { type Static, Type } from '@sinclair/typebox'
import { certificateFaults, certificateVariables } from '../shared/http/certificates.ts'
import { choice, commonFaults, commonVariables, groupVariable, integer, loadConfig } from '../shared/service/config.ts'
import { redactor } from '../shared/service/redact.ts'
import { referenceTableVariables } from './reference-table.ts'

/** Every variable of the consumer: name, type, default and meaning. */
export const consumerVariables = Type.Object({
  ...commonVariables,
  ...certificateVariables,
  OPS_PORT: integer(
    9081,
    0,
    65_535,
    'The operations port: /livez, /readyz, /startupz, /metrics. 0 chooses a free one.',
  ),
  GROUP_ID: groupVariable,
  INSTANCE_ID: Type.String({
    default: hostname(),
    pattern: '^[A-Za-z0-9._-]{1,200}$',
    description:
      'The name of this instance in its group. It must be unique: two processes with the same name fence each other. It must be the same after a restart, so that the instance ends the transaction that it left open.',
  }),
  SESSION_TIMEOUT_MS: integer(
    10_000,
    1_000,
    300_000,
    'How long a member may send no heartbeat before the group removes it, in ms.',
  ),
  TRANSACTION_TIMEOUT_MS: integer(
    10_000,
    1_000,
    900_000,
    'How long the broker waits before it aborts a transaction whose owner is gone, in ms. Until then, the new owner of its partitions waits.',
  ),
  MAX_TRANSACTION_RECORDS: integer(10_000, 1, 50_000, 'The most outcomes that are committed in one transaction.'),
  MAX_CONCURRENT_HANDLERS: integer(
    64,
    1,
    10_000,
    'The most handlers that run at a time, each on another key. With several tenants, each can use at most half of what the others leave.',
  ),
  MAX_OPEN_RECORDS: integer(
    250,
    1,
    20_000,
    'The most records of one partition that are fetched and have no outcome yet. At this limit, no more are fetched; if that lasts, the partition is paused.',
  ),
  MAX_HELD_BYTES: integer(
    64 * 2 ** 20,
    2 ** 20,
    2 ** 40,
    'The most bytes of records between fetch and commit. At this limit, no more are fetched. With several tenants, each can use at most half of what the others leave.',
  ),
  MAX_PARKED_BYTES: integer(
    16 * 2 ** 20,
    2 ** 20,
    2 ** 40,
    'The most bytes of records that wait in memory for their retry. At this limit, .retry is paused. With several tenants, each can use at most half of what the others leave.',
  ),
  MAX_RETRY_BACKLOG_RECORDS: integer(
    10_000,
    1,
    1_000_000,
    'The most records that wait in one partition of .retry. At this limit, the partition’s input is paused.',
  ),
  PREFETCH_MAX_BYTES: integer(16 * 2 ** 20, 2 ** 16, 2 ** 31, 'The most bytes that the Kafka client fetches ahead.'),
  DEDUPE_WINDOW_RECORDS: integer(
    100_000,
    1_000,
    10_000_000,
    'How many outcomes of one partition are remembered to recognise repeated events. Set it to at least a partition’s events per second times the longest time, in seconds, after which a client sends an event again.',
  ),
  QUICK_ATTEMPTS: integer(3, 1, 100, 'Attempts in a row before an event goes to .retry.'),
  QUICK_RETRY_FIRST_MS: integer(
    50,
    1,
    60_000,
    'The delay after the first failed attempt, in ms; it doubles with each attempt.',
  ),
  QUICK_RETRY_MAX_MS: integer(500, 1, 60_000, 'The longest delay between attempts in a row, in ms.'),
  MAX_ATTEMPTS: integer(8, 1, 1_000, 'Attempts in all before an event becomes a dead letter.'),
  RETRY_FIRST_MS: integer(1_000, 1, 86_400_000, 'The first delay in .retry, in ms; it doubles with each attempt.'),
  RETRY_MAX_MS: integer(60_000, 1, 86_400_000, 'The longest delay in .retry, in ms.'),
  NEWER_SCHEMA_TIMEOUT_MS: integer(
    86_400_000,
    1_000,
    2_592_000_000,
    'How long an event waits in .retry for a handler that takes its version of the schema, in ms; then it goes to .dlq with the reason “newer schema”. Later events of its key wait behind it. Keep it below the retention of .retry.',
  ),
  HANDLER_TIMEOUT_MS: integer(30_000, 10, 600_000, 'How long one attempt of a handler may take, in ms.'),
  HANDLERS_MODULE: Type.Optional(
    Type.String({
      description:
        'A file that exports `handlers`, used in addition to the built-in ones. A relative path starts at the working directory of the process.',
    }),
  ),
  UNHANDLED: choice(['pass', 'dead-letter', 'hold'], {
    default: 'pass',
    description:
      'What happens to an event whose type has no handler. pass: it passes through and counts as processed. dead-letter: it goes to .dlq with the reason “no handler”. hold: it waits in .retry until a consumer with a handler for it starts; later events of its key wait behind it, and at MAX_RETRY_BACKLOG_RECORDS the partition’s input is paused.',
  }),
  REDACT_PATTERN: Type.Optional(
    Type.String({
      description:
        'A regular expression. What it matches in messages of handlers’ errors is removed from logs, kt-error and kt-attempts, in addition to the usual forms of credentials.',
    }),
  ),
  BUILT_IN_HANDLERS: choice(['on', 'off'], {
    default: 'on',
    description: 'on: GitHub webhooks become activity records.',
  }),
  ...referenceTableVariables,
})

export type ConsumerConfig = Readonly<Static<typeof consumerVariables>>

/** @throws ConfigError naming every fault */
export function loadConsumerConfig(env: Readonly<Record<string, string | undefined>>): ConsumerConfig {
  return loadConfig(consumerVariables, env, (config, given) => {
    const faults = [...commonFaults(config, given), ...certificateFaults(config)]
    if (config.TLS_CERTIFICATE_FILE !== undefined && config.OPS_TLS === 'off')
      faults.push('TLS_CERTIFICATE_FILE is set, and OPS_TLS is off: a consumer has no port but the operations port.')
    const atMost = (low: keyof ConsumerConfig, high: keyof ConsumerConfig, why: string): void => {
      const [a, b] = [config[low], config[high]]
      if (typeof a === 'number' && typeof b === 'number' && a > b)
        faults.push(`${low}=${a} is over ${high}=${b}: ${why}`)
    }
    atMost('QUICK_ATTEMPTS', 'MAX_ATTEMPTS', 'attempts in a row count among all attempts.')
    atMost('QUICK_RETRY_FIRST_MS', 'QUICK_RETRY_MAX_MS', 'the first delay is the shortest.')
    atMost('RETRY_FIRST_MS', 'RETRY_MAX_MS', 'the first delay is the shortest.')
    try {
      redactor(config.REDACT_PATTERN)
    } catch (error) {
      faults.push(`REDACT_PATTERN is no regular expression: ${(error as Error).message}`)
    }
    return faults
  })
}
