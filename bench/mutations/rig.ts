import pino from 'pino'
import { loadConsumerConfig } from '../../consumer/config.ts'
import { identityOf } from '../../consumer/decode.ts'
import type { IncomingRecord } from '../../shared/events/record.ts'
import { siblingTopic } from '../../shared/events/topics.ts'
import { createRangeReader, readAll } from '../../shared/kafka/range-reader.ts'
import type { RangeReader, TopicPartition } from '../../shared/kafka/types.ts'
import { residentMemoryBytes } from '../../shared/service/process-metrics.ts'
import { until } from '../../shared/testing/until.ts'

/** Shared by mutated requests and mutated records: how many there are, and the outcome of each event. */

/** MUTATION_SEED and MUTATIONS select other mutations, and more. */
export const SEED = Number(process.env['MUTATION_SEED'] ?? 1)
export const COUNT = Number(process.env['MUTATIONS'] ?? 30_000)
export const PARTITIONS = 3

export const residentMbOf = (pid: number): number => (residentMemoryBytes(pid) ?? 0) / 2 ** 20

export const openReader = (brokers: string): RangeReader =>
  createRangeReader({
    config: loadConsumerConfig({ KAFKA_BROKERS: brokers }),
    clientId: 'mutations-test',
    log: pino({ level: 'silent' }),
  })

export const partitionsOf = (topic: string): TopicPartition[] =>
  Array.from({ length: PARTITIONS }, (_, partition) => ({ topic, partition }))

/** The identity of an event. Repeats are recognised within a partition, so with another key it is another event. */
export const known = (record: IncomingRecord): string => `${record.partition} ${identityOf(record)}`

/**
 * Waits until each event of a stream has an outcome.
 * @param events by identity
 * @returns events with more than one outcome, and outcomes of unknown events, each with its count
 */
export async function wrongOutcomes(
  reader: RangeReader,
  input: string,
  events: ReadonlySet<string>,
  timeoutMs: number,
): Promise<[event: string, outcomes: number][]> {
  const outcomes = new Map<string, number>()
  await until(
    async () => {
      outcomes.clear()
      for (const role of ['processed', 'dlq'] as const)
        await readAll(reader, partitionsOf(siblingTopic(input, role)), (record) => {
          const event = known(record)
          outcomes.set(event, (outcomes.get(event) ?? 0) + 1)
        })
      return [...events].every((event) => outcomes.has(event))
    },
    { timeoutMs, what: `the outcomes of ${events.size} events` },
  )
  return [...outcomes].filter(([event, count]) => count !== 1 || !events.has(event))
}
