import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { TopicPartition } from '../shared/kafka/types.ts'
import { LATENCY_BUCKETS_SECONDS } from '../shared/ops.ts'
import type { Outcome } from './consume.ts'
import type { Item } from './partition.ts'
import type { Failure } from './retry.ts'

/** The reasons a failure can have, for counting from zero. */
const REASONS: readonly Failure['reason'][] = [
  'undecodable',
  'invalid data',
  'handler failed',
  'handler timed out',
  'out of attempts',
  'waits behind its key',
  'result too large',
]

/** All of the consumer's own metrics, and what counts them. Those without a tenant are there, with 0, before the first event. */
export function createMetrics() {
  const registry = new Registry()
  const registers = [registry]
  const counter = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Counter({ name: `kafkatrace_consumer_${name}`, help, labelNames, registers })
  const gauge = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Gauge({ name: `kafkatrace_consumer_${name}`, help, labelNames, registers })
  const histogram = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Histogram({
      name: `kafkatrace_consumer_${name}`,
      help,
      labelNames,
      buckets: LATENCY_BUCKETS_SECONDS,
      registers,
    })

  const table = {
    fetchedRecords: counter('records_fetched_total', 'Records fetched, by topic role: input or retry.', ['source']),
    events: counter(
      'events_total',
      'Events by committed outcome: processed, dead, retry (moved to .retry) or duplicate.',
      ['tenant', 'stream', 'outcome'],
    ),
    outcomes: counter('outcomes_total', 'Committed outcomes over all tenants and streams.', ['outcome']),
    deadLetters: counter('dead_letters_total', 'Dead letters by reason.', ['reason']),
    retries: counter(
      'retries_total',
      'Failed attempts that are followed by another: at once (quick) or from .retry (slow).',
      ['kind'],
    ),
    latency: histogram('event_latency_seconds', 'From receipt by the producer to the committed outcome.', ['outcome']),
    commitSeconds: histogram('transaction_seconds', 'Duration of a transaction, from its first record to its commit.'),
    transactions: counter('transactions_total', 'Transactions by result: committed, aborted or fatal.', ['result']),
    transactionRecords: counter('transaction_records_total', 'Outcomes that were committed in transactions.'),
    rebalances: counter('rebalances_total', 'Rebalances by what they did: assigned, revoked or lost.', ['kind']),
    rebuildSeconds: histogram('rebuild_seconds', 'How long an assigned partition took to be read from.'),
    pauses: counter('pauses_total', 'Times that fetching was paused, by reason.', ['reason']),
    lookups: counter('lookups_total', 'Look-ups by name and outcome.', ['lookup', 'outcome']),
    lagRecords: gauge('lag_records', 'Records after the committed offset.', ['topic', 'partition']),
    lagSeconds: gauge('lag_seconds', 'Age of the oldest record whose outcome is not committed; 0 when there is none.', [
      'topic',
      'partition',
    ]),
    held: gauge(
      'records_held',
      'Records in memory by state: open (fetched, not decided), decided (not committed), waiting (in .retry).',
      ['state'],
    ),
    heldBytes: gauge('held_bytes', 'Bytes held in memory, by source: input or retry.', ['source']),
    handlers: gauge('handlers_running', 'Handlers that run at this moment.'),
    partitions: gauge('partitions', 'Assigned partitions by state: reading or preparing.', ['state']),
  }
  for (const source of ['input', 'retry']) table.fetchedRecords.inc({ source }, 0)
  for (const outcome of ['processed', 'dead', 'retry', 'duplicate']) table.outcomes.inc({ outcome }, 0)
  for (const outcome of ['processed', 'dead']) table.latency.zero({ outcome })
  for (const reason of REASONS) table.deadLetters.inc({ reason }, 0)
  for (const kind of ['quick', 'slow']) table.retries.inc({ kind }, 0)
  for (const result of ['committed', 'aborted', 'fatal']) table.transactions.inc({ result }, 0)
  for (const kind of ['assigned', 'revoked', 'lost']) table.rebalances.inc({ kind }, 0)
  for (const reason of ['open', 'retry-backlog', 'parked', 'memory']) table.pauses.inc({ reason }, 0)

  return {
    ...table,
    registry,
    fetched(item: Item): void {
      table.fetchedRecords.inc({ source: item.source.role })
    },
    decided(outcome: Outcome): void {
      if (outcome.kind === 'later' || (outcome.kind === 'retry' && outcome.failure.reason !== 'waits behind its key'))
        table.retries.inc({ kind: 'slow' })
    },
    committed({ job: { tenant, stream, decoded }, outcome }: Item, nowMs: number): void {
      if (outcome === undefined) return
      table.events.inc({ tenant, stream, outcome: outcome.kind })
      table.outcomes.inc({ outcome: outcome.kind })
      table.transactionRecords.inc()
      if (outcome.kind === 'dead') table.deadLetters.inc({ reason: outcome.failure.reason })
      if ((outcome.kind === 'processed' || outcome.kind === 'dead') && decoded.ok && decoded.receivedAtMs !== undefined)
        table.latency.observe({ outcome: outcome.kind }, Math.max(0, nowMs - decoded.receivedAtMs) / 1000)
    },
    /** A partition is another member's now: its lag is not ours to tell. */
    forget({ topic, partition }: TopicPartition): void {
      table.lagRecords.remove({ topic, partition: String(partition) })
      table.lagSeconds.remove({ topic, partition: String(partition) })
    },
  }
}

export type ConsumerMetrics = ReturnType<typeof createMetrics>
