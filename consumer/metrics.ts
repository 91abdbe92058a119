import { Counter, Gauge, Registry } from 'prom-client'
import { LATENCY_BUCKETS_SECONDS } from '../shared/http/ops.ts'
import type { TopicPartition } from '../shared/kafka/types.ts'
import { LatencyHistogram, type Tally, tallies } from '../shared/service/tally.ts'
import type { Outcome } from './consume.ts'
import type { PartitionPast } from './partition-past.ts'
import type { Item, Partition } from './partition-state.ts'
import { REASONS, type Reason, WITHOUT_ATTEMPT } from './retry.ts'

/** The outcomes that a transaction commits. */
const COMMITTED = ['processed', 'dead', 'retry', 'duplicate'] as const
type CommittedKind = (typeof COMMITTED)[number]

/** Why an event waits in `.retry` for a time of its own. */
export const WAITING_REASONS = [
  'handler failed',
  'handler timed out',
  'no handler',
  'newer schema',
] as const satisfies Reason[]

/** All metrics of the consumer, and functions that count. Series without a tenant exist, with 0, before the first event. */
export function createMetrics() {
  const registry = new Registry()
  const registers = [registry]
  const counter = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Counter({ name: `kafkatrace_consumer_${name}`, help, labelNames, registers })
  const gauge = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Gauge({ name: `kafkatrace_consumer_${name}`, help, labelNames, registers })
  const histogram = (name: string, help: string) =>
    new LatencyHistogram({ name: `kafkatrace_consumer_${name}`, help, buckets: LATENCY_BUCKETS_SECONDS, registers })

  const table = {
    fetchedRecords: counter('records_fetched_total', 'Records fetched, by source: input or retry.', ['source']),
    events: counter(
      'events_total',
      'Events by committed outcome: processed, dead, retry (moved to .retry) or duplicate.',
      ['tenant', 'stream', 'outcome'],
    ),
    outcomes: counter('outcomes_total', 'Committed outcomes, over all tenants and streams.', ['outcome']),
    deadLetters: counter('dead_letters_total', 'Dead letters by reason.', ['reason']),
    deadDuplicates: counter(
      'dead_letter_duplicates_total',
      'Duplicates of dead letters: events sent again under the id of a dead letter, and dropped. They count as duplicates too.',
    ),
    retries: counter('retries_total', 'Failed attempts that are retried: in place (quick) or from .retry (slow).', [
      'kind',
    ]),
    uncaught: counter('uncaught_errors_total', 'Uncaught errors, usually from handlers.'),
    latency: histogram('event_latency_seconds', 'Time from receipt by the producer to the committed outcome.'),
    commitSeconds: histogram('transaction_seconds', 'Duration of a transaction, from its first record to its commit.'),
    transactions: counter('transactions_total', 'Transactions by result: committed, aborted or fatal.', ['result']),
    transactionRecords: counter('transaction_records_total', 'Outcomes committed in transactions.'),
    rebalances: counter('rebalances_total', 'Rebalances by kind: partitions assigned, revoked or lost.', ['kind']),
    rebuildSeconds: histogram(
      'rebuild_seconds',
      'Time to restore an assigned partition, until its records can be fetched.',
    ),
    pauses: counter('pauses_total', 'Pauses of fetching, by reason.', ['reason']),
    lookups: counter('lookups_total', 'Look-ups in the reference table by outcome: found, missing or unavailable.', [
      'outcome',
    ]),
    lagRecords: gauge(
      'lag_records',
      'Consumer lag: records fetched and not yet committed, plus records not yet fetched.',
      ['topic', 'partition'],
    ),
    lagSeconds: gauge(
      'lag_seconds',
      'Age of the oldest record without a committed outcome, fetched or not; 0 if there is none.',
      ['topic', 'partition'],
    ),
    held: gauge(
      'records_held',
      'Records in memory, by state: open (fetched, not decided), decided (not committed), waiting (in .retry).',
      ['state'],
    ),
    waiting: gauge(
      'waiting_events',
      'Events in .retry that wait for a time of their own, by reason. Later events of their keys are not counted, nor are events beyond MAX_PARKED_BYTES.',
      ['reason'],
    ),
    heldBytes: gauge('held_bytes', 'Bytes held in memory, by source: input or retry.', ['source']),
    handlers: gauge('handlers_running', 'Handlers running now.'),
    partitions: gauge('partitions', 'Assigned partitions by state: restoring, reading, paused or draining.', ['state']),
    pausedPartitions: gauge(
      'paused_partitions',
      'Paused partitions, by topic and cause: unreadable (records cannot be read), unwritable (outcomes cannot be written or committed) or operator (somebody has paused the stream).',
      ['topic', 'cause'],
    ),
    repaired: counter('repaired_total', 'Records before the committed offset that had no outcome and were processed.'),
    audited: counter(
      'audit_records_total',
      'Records before the committed offset that the background audit checked; every round counts again.',
    ),
    doubled: counter('audit_doubled_total', 'Events with more than one outcome, found by the background audit.', [
      'topic',
    ]),
    skipped: counter('skipped_offsets_total', 'Offsets of records that were deleted before they were read.'),
    stalledSeconds: gauge(
      'commit_stalled_seconds',
      'How long decided records of partitions that are not paused have waited without any commit; 0 while commits succeed.',
    ),
    replacements: counter('client_replacements_total', 'Replacements of the Kafka clients after a fatal error.'),
  }
  const fetchedTally = tallies(table.fetchedRecords)
  const fetched = { input: fetchedTally({ source: 'input' }), retry: fetchedTally({ source: 'retry' }) }
  const outcomes = byOutcome(tallies(table.outcomes))
  const rebuildSeconds = table.rebuildSeconds.series()
  const recordsTally = tallies(table.transactionRecords)({})
  const deadDuplicates = tallies(table.deadDuplicates)({})
  const latency = {
    processed: table.latency.series({ outcome: 'processed' }),
    dead: table.latency.series({ outcome: 'dead' }),
  }
  const eventTally = tallies(table.events)
  const byStream = new Map<string, Record<CommittedKind, Tally>>()
  /** By input topic, since the start. */
  const duplicates = new Map<string, number>()
  /** Of the partition that was counted last: outcomes of a partition are committed together, and a look-up for each would cost more than the count. */
  let last: { partition: Partition; events: Record<CommittedKind, Tally> } | undefined
  const eventsOf = (partition: Partition): Record<CommittedKind, Tally> => {
    if (last?.partition === partition) return last.events
    const { tenant, stream } = partition
    const key = `${tenant}/${stream}`
    const events = byStream.get(key) ?? byOutcome(({ outcome }) => eventTally({ tenant, stream, outcome }))
    byStream.set(key, events)
    last = { partition, events }
    return events
  }
  for (const reason of REASONS) table.deadLetters.inc({ reason }, 0)
  for (const reason of WAITING_REASONS) table.waiting.set({ reason }, 0)
  for (const kind of ['quick', 'slow']) table.retries.inc({ kind }, 0)
  for (const result of ['committed', 'aborted', 'fatal']) table.transactions.inc({ result }, 0)
  for (const kind of ['assigned', 'revoked', 'lost']) table.rebalances.inc({ kind }, 0)
  for (const reason of ['open', 'state', 'retry-backlog', 'parked', 'memory']) table.pauses.inc({ reason }, 0)

  return {
    ...table,
    registry,
    commitSeconds: table.commitSeconds.series(),
    rebuildSeconds,
    fetched(item: Item): void {
      fetched[item.source.role].count++
    },
    restored(partition: Partition, { skipped, input, retry }: PartitionPast, seconds: number): void {
      // So that the first outcomes of a stream are seen as an increase.
      eventsOf(partition)
      rebuildSeconds.observe(seconds)
      table.skipped.inc(skipped)
      table.repaired.inc(input.missing.length + retry.missing.length)
    },
    decided(outcome: Outcome): void {
      if ((outcome.kind === 'later' || outcome.kind === 'retry') && !WITHOUT_ATTEMPT.has(outcome.failure.reason))
        table.retries.inc({ kind: 'slow' })
    },
    committed({ job, outcome, source: { owner } }: Item, nowMs: number): void {
      if (outcome === undefined) return
      const { kind } = outcome
      eventsOf(owner)[kind].count++
      outcomes[kind].count++
      recordsTally.count++
      if (kind === 'duplicate') duplicates.set(owner.topic, (duplicates.get(owner.topic) ?? 0) + 1)
      if (kind === 'duplicate' && outcome.ofDead) deadDuplicates.count++
      if (kind === 'dead') table.deadLetters.inc({ reason: outcome.failure.reason })
      if (kind !== 'processed' && kind !== 'dead') return
      const { receivedAtMs } = job
      if (receivedAtMs !== undefined)
        latency[kind].observe(Math.max(0, nowMs - receivedAtMs) / 1000, job.trace?.sampled)
    },
    duplicates: duplicates as ReadonlyMap<string, number>,
    /** A partition was revoked: its new owner reports its lag. */
    forget({ topic, partition }: TopicPartition): void {
      last = undefined
      table.lagRecords.remove({ topic, partition: String(partition) })
      table.lagSeconds.remove({ topic, partition: String(partition) })
    },
  }
}

const byOutcome = (tally: (labels: { outcome: CommittedKind }) => Tally): Record<CommittedKind, Tally> =>
  Object.fromEntries(COMMITTED.map((outcome) => [outcome, tally({ outcome })])) as Record<CommittedKind, Tally>

export type ConsumerMetrics = ReturnType<typeof createMetrics>
