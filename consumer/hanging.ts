import { headerText, TRANSACTION } from '../shared/headers.ts'
import {
  type CommittedOffset,
  type GroupConsumer,
  type IncomingRecord,
  type OutgoingRecord,
  partitionName,
  type RangeReader,
  type TopicPartition,
  type Transactor,
} from '../shared/kafka/types.ts'
import { decodeAhead, isCompleted, MAX_AHEAD_OFFSETS, withCompleted } from './ahead.ts'
import { identityOf } from './decode.ts'
import type { Partition } from './partition.ts'

export interface HangingDeps {
  group: Pick<GroupConsumer, 'committed' | 'membership'>
  reader: RangeReader
  transactor: Transactor
  openTransactor(transactionalId: string): Promise<Transactor>
  /** Whether a transaction of another id may be ended in its place: whoever uses that id opens new clients then. */
  mayTakeOver: boolean
}

/** What became of a transaction that nobody was going to end. */
export type HangingResult =
  | { kind: 'ended'; transaction: string; completed: number }
  | { kind: 'waits'; reason: string }
  | { kind: 'fatal'; reason: string }

const COMMITTED_TIMEOUT_MS = 10_000

/** The id under which outcomes are written again: not the one whose next commit would commit what hangs. */
const RECOVERY_SUFFIX = '-recovery'

/**
 * Ends a transaction that a broker counts as ended without having written so into a partition's topics: nobody can read past it.
 *
 * Where the offsets that belong to it are not committed, its events are done again, and it is aborted. Where they are, its outcomes count: they
 * are written again, by a transaction of another id that also notes so in the committed offset's metadata, and then it is aborted. Broken off
 * before the note is committed, it has not happened; broken off behind it, the note says that only the abort is left.
 */
export async function endHanging(partition: Partition, deps: HangingDeps): Promise<HangingResult> {
  const { group, reader, transactor, openTransactor, mayTakeOver } = deps
  const membership = group.membership()
  if (membership === undefined) return { kind: 'waits', reason: 'this process is not a member of the group' }
  const committed = await group.committed(partition.both, COMMITTED_TIMEOUT_MS)
  const places = (['retry', 'dlq', 'processed'] as const).map((role) => partition.sibling(role))
  const ends = await reader.ends(places)
  const held = places.flatMap((at, index) => {
    const { stable = 0, end = 0 } = ends[index] ?? {}
    return stable < end ? [{ ...at, from: stable, to: end }] : []
  })
  const [first] = held
  if (first === undefined) return { kind: 'waits', reason: 'nothing is left open any more' }
  const records: IncomingRecord[] = []
  await reader.readUncommitted(held, (record) => records.push(record))
  const nameOf = (record: IncomingRecord): string | undefined => headerText(record.headers, TRANSACTION)
  const oldest = records.find((record) => record.topic === first.topic && record.offset === first.from)
  const transaction = oldest && nameOf(oldest)
  if (transaction === undefined)
    return { kind: 'waits', reason: `another client has it open in ${partitionName(first)}` }
  const id = transaction.slice(0, transaction.lastIndexOf(':'))
  const isOwn = id === transactor.transactionalId
  if (!isOwn && !mayTakeOver) return { kind: 'waits', reason: `it belongs to ${id}` }

  const hanging = records.filter((record) => nameOf(record) === transaction)
  const [input] = committed
  let completed = 0
  if (input !== undefined && !isCompleted(input.metadata, transaction)) {
    const again = await toBeDone(partition, committed, reader)
    const owed = hanging.filter((record) => !again.has(identityOf(record)))
    if (owed.length > 0) {
      const recovery = await openTransactor(transactor.transactionalId + RECOVERY_SUFFIX)
      try {
        const ended = await recovery.release(input, 'committed offset', membership)
        if (ended.kind !== 'released') return { kind: 'waits', reason: ended.reason }
        const note = {
          ...input,
          offset: Math.max(0, input.offset),
          metadata: withCompleted(input.metadata, transaction),
        }
        const result = await recovery.commit(owed.map(writtenAgain), [note], membership, new AbortController().signal)
        if (result.kind !== 'committed') return { kind: 'waits', reason: result.reason }
      } finally {
        await recovery.close()
      }
      completed = owed.length
    }
  }
  const owner = isOwn ? transactor : await openTransactor(id)
  try {
    const topics = new Map<string, TopicPartition>(hanging.map(({ topic, partition }) => [topic, { topic, partition }]))
    for (const at of topics.values()) {
      const result = await owner.release(at, 'records', membership)
      if (result.kind === 'fatal' && isOwn) return result
      if (result.kind !== 'released') return { kind: 'waits', reason: result.reason }
    }
  } finally {
    if (!isOwn) await owner.close()
  }
  return { kind: 'ended', transaction, completed }
}

/** Identities of the events whose offsets are not committed: whoever reads the partition does them. */
async function toBeDone(
  partition: Partition,
  committed: readonly CommittedOffset[],
  reader: RangeReader,
): Promise<Set<string>> {
  const found = new Set<string>()
  for (const at of partition.both) {
    const { offset = -1, metadata = '' } = committed.find((one) => one.topic === at.topic) ?? {}
    const [ends] = await reader.ends([at])
    if (ends === undefined) continue
    const from = Math.max(ends.beginning, offset)
    const done = decodeAhead(offset, metadata)
    // What is behind `stable` in `.retry` is itself in question, and has not been read by anybody.
    const to = Math.min(ends.stable, from + MAX_AHEAD_OFFSETS)
    await reader.read([{ ...at, from, to }], (record) => {
      if (!done.has(record.offset)) found.add(identityOf(record))
    })
  }
  return found
}

const writtenAgain = ({ topic, partition, key, value, headers }: IncomingRecord): OutgoingRecord => {
  const kept = headers.names.map((name) => name !== TRANSACTION)
  return {
    topic,
    partition,
    key,
    value,
    headers: {
      names: headers.names.filter((_, index) => kept[index]),
      values: headers.values.filter((_, index) => kept[index]),
    },
  }
}
