import { actsTopic, CONTROL_TOPIC, parseTopic, siblingTopic, TOPIC_ROLES, type TopicRole } from '../events/topics.ts'
import {
  type CommittedOffset,
  type PartitionEnds,
  partitionName,
  type RangeReader,
  type TopicPartition,
} from '../kafka/types.ts'
import { sleep } from '../service/retry.ts'

/** The consistent point of a backup: up to where each partition is read, so that what a restore finds agrees. */
export interface Point {
  ends: { at: TopicPartition; beginning: number; end: number }[]
  committed: CommittedOffset[]
  /** Streams whose acts are left to the next backup, since a transaction in the stream has not ended. */
  withoutActs: string[]
}

/** A partition is held back, and a backup up to this point would not agree. */
export class HeldBackError extends Error {
  override readonly name = 'HeldBackError'
}

/** How long open transactions may take to end. The consumers' take seconds; those of other clients may take minutes. */
const TRANSACTIONS_TIMEOUT_MS = 30_000
const LOOK_MS = 100

/** Partitions by topic, of those topics that are backed up. */
export function topicsOf(all: ReadonlyMap<string, number>, tenant: string | undefined): Map<string, number> {
  const inputs = [...all.keys()].filter((topic) => {
    const parsed = parseTopic(topic)
    return parsed?.role === 'input' && (tenant === undefined || parsed.tenant === tenant)
  })
  const names = inputs
    .toSorted()
    .flatMap((input) => [input, ...TOPIC_ROLES.map((role) => siblingTopic(input, role)), actsTopic(input)])
  return new Map(
    [...(inputs.length > 0 ? [CONTROL_TOPIC] : []), ...names].flatMap((topic) => {
      const partitions = all.get(topic) ?? 0
      return partitions === 0 ? [] : [[topic, partitions] as const]
    }),
  )
}

/**
 * Takes the ends of all topics within a moment, in an order in which nothing is said of what is not there:
 *
 * 1. Acts. A redrive is in one transaction with its record, so every redriven event that an act names is below the ends of step 2.
 * 2. The streams' own topics.
 * 3. Committed offsets. Every output of an event that they say is done is below the ends of step 4.
 * 4. Retries, dead letters and results. An event that has its outcome by then, though nothing committed says so, is recognised by its id.
 *
 * So outcomes may be ahead of inputs, and never behind committed offsets: no event of the backup that had its effect has it again after a restore.
 * @throws HeldBackError when a transaction in an output topic does not end
 */
export async function takePoint(
  topics: ReadonlyMap<string, number>,
  reader: Pick<RangeReader, 'ends' | 'committed'>,
  timeoutMs = TRANSACTIONS_TIMEOUT_MS,
): Promise<Point> {
  const partitionsOf = (topic: string): TopicPartition[] =>
    Array.from({ length: topics.get(topic) ?? 0 }, (_, partition) => ({ topic, partition }))
  const inputs = [...topics.keys()].filter((topic) => parseTopic(topic)?.role === 'input')
  const beside = (role: TopicRole): TopicPartition[] =>
    inputs.flatMap((input) => partitionsOf(siblingTopic(input, role)))

  const acts = await settledEnds([CONTROL_TOPIC, ...inputs.map(actsTopic)].flatMap(partitionsOf), reader, timeoutMs)
  const events = await settledEnds(inputs.flatMap(partitionsOf), reader, timeoutMs)
  const committed = await reader.committed([...inputs.flatMap(partitionsOf), ...beside('retry')])
  const outputs = await settledEnds(TOPIC_ROLES.flatMap(beside), reader, timeoutMs)

  const [held] = outputs.filter(isHeldBack)
  if (held !== undefined)
    throw new HeldBackError(
      `a transaction that has not ended holds back ${partitionName(held.at)} from offset ${held.stable} on, and with it outcomes whose events count as done. Consumers end it; their /readyz and logs say why they have not. Try again then.`,
    )
  const withoutActs = inputs.filter((input) => events.some((one) => one.at.topic === input && isHeldBack(one)))
  const leftOut = new Set(withoutActs.map(actsTopic))
  return {
    ends: [...acts.filter(({ at }) => !leftOut.has(at.topic)), ...events, ...outputs].map(
      ({ at, beginning, stable, end }) => ({ at, beginning, end: Math.min(stable, end) }),
    ),
    committed: committed.filter(({ offset }) => offset >= 0),
    withoutActs: withoutActs.filter((input) => topics.has(actsTopic(input))),
  }
}

interface Ends extends PartitionEnds {
  at: TopicPartition
}

const isHeldBack = ({ stable, end }: PartitionEnds): boolean => stable < end

/** The ends of the partitions now. Waits until the transactions below them have ended; after the time-out, `stable` stays below `end`. */
async function settledEnds(
  partitions: readonly TopicPartition[],
  reader: Pick<RangeReader, 'ends'>,
  timeoutMs: number,
): Promise<Ends[]> {
  const all = (await reader.ends(partitions)).map((ends, index) => ({
    ...ends,
    at: partitions[index] as TopicPartition,
  }))
  const deadlineMs = performance.now() + timeoutMs
  for (;;) {
    const open = all.filter(isHeldBack)
    if (open.length === 0 || performance.now() >= deadlineMs) return all
    await sleep(LOOK_MS)
    const now = await reader.ends(open.map(({ at }) => at))
    for (const [index, one] of open.entries()) one.stable = (now[index] as PartitionEnds).stable
  }
}

/** Whether a record of the control topic is of the tenant. */
export const isOfTenant = (key: Buffer | null, tenant: string): boolean =>
  key?.subarray(0, tenant.length + 1).toString() === `${tenant}/`

/** The folder of a partition's segments. */
export const folderOf = ({ topic, partition }: TopicPartition): string => `topics/${topic}/${partition}`
