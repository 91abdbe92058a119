import { headerText, TRANSACTION } from '../shared/headers.ts'
import { RELEASE_SUFFIX } from '../shared/kafka/transactor.ts'
import {
  type CommittedOffset,
  type GroupConsumer,
  type IncomingRecord,
  type Membership,
  type OutgoingRecord,
  partitionName,
  type Range,
  type RangeReader,
  type ReleaseResult,
  type TopicPartition,
  type Transactor,
} from '../shared/kafka/types.ts'
import { AHEAD_BITS, decodeAhead, isCompleted, withCompleted } from './ahead.ts'
import { identityOf } from './decode.ts'
import { proveLeaders } from './leaders.ts'
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

export const OUTPUTS = ['retry', 'dlq', 'processed'] as const

/**
 * The ids under which outcomes are written again: the first one that is not that of the transaction which hangs, since its commit would commit
 * what hangs.
 */
const RECOVERY = /-recovery(-2)?:[^:]*$/
export const recoveryIds = (transactionalId: string): readonly [string, string] => [
  `${transactionalId}-recovery`,
  `${transactionalId}-recovery-2`,
]

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
  const places = OUTPUTS.map((role) => partition.sibling(role))
  const held = await heldOf(places, reader)
  if (held === undefined) return NOTHING_OPEN
  const { transaction, ranges } = held
  if (transaction === undefined)
    return { kind: 'waits', reason: `another client has it open in ${partitionName(ranges[0])}` }
  const id = idOf(transaction)
  const isOwn = id === transactor.transactionalId
  if (!isOwn && !mayTakeOver) return { kind: 'waits', reason: `it belongs to ${id}` }

  const [input] = partition.both
  const owner = isOwn ? transactor : await openTransactor(id)
  try {
    // The coordinator refuses it, or waits, until it has ended the transaction as far as it knows. What is open then is forgotten, not late.
    const settled = await owner.release([input], 'committed offset', membership)
    if (settled.kind === 'fatal' && isOwn) return settled
    if (settled.kind !== 'released') return { kind: 'waits', reason: settled.reason }
    const still = await recordsOf(transaction, places, reader)
    if (typeof still === 'string') return { kind: 'waits', reason: still }
    const completed = await writeAgain(partition, transaction, membership, deps)
    if (typeof completed === 'string') return { kind: 'waits', reason: completed }
    const result = await owner.release(topicsOf(still.hanging), 'records', membership)
    if (result.kind === 'fatal' && isOwn) return result
    if (result.kind !== 'released') return { kind: 'waits', reason: result.reason }
    return { kind: 'ended', transaction, completed }
  } finally {
    if (!isOwn) await owner.close()
  }
}

const NOTHING_OPEN = { kind: 'waits', reason: 'nothing is left open any more' } as const

interface Held {
  /** The partitions with an open transaction, from where that begins to the end. */
  ranges: [Range, ...Range[]]
  /** The oldest that is open in the first of them, by name. */
  transaction: string | undefined
}

const nameOf = (record: IncomingRecord): string | undefined => headerText(record.headers, TRANSACTION)

/** What holds back readers of the partitions, if anything. */
export async function heldOf(places: readonly TopicPartition[], reader: RangeReader): Promise<Held | undefined> {
  const ends = await reader.ends(places)
  const [first, ...others] = places.flatMap((at, index) => {
    const { stable = 0, end = 0 } = ends[index] ?? {}
    return stable < end ? [{ ...at, from: stable, to: end }] : []
  })
  if (first === undefined) return undefined
  let transaction: string | undefined
  await reader.readUncommitted([{ ...first, to: first.from + 1 }], (record) => {
    transaction = nameOf(record)
  })
  return { ranges: [first, ...others], transaction }
}

/** The records of a transaction, if it is the oldest one that is open, and the names of all that stand among and behind them; or why they are not told. */
async function recordsOf(
  transaction: string,
  places: readonly TopicPartition[],
  reader: RangeReader,
): Promise<{ hanging: IncomingRecord[]; names: Set<string | undefined> } | string> {
  const held = await heldOf(places, reader)
  if (held === undefined) return NOTHING_OPEN.reason
  if (held.transaction !== transaction) return 'another transaction is open now'
  const hanging: IncomingRecord[] = []
  const names = new Set<string | undefined>()
  // Much may stand behind it: of that, no record is kept.
  await reader.readUncommitted(held.ranges, (record) => {
    const name = nameOf(record)
    names.add(name)
    if (name === transaction) hanging.push(record)
  })
  return { hanging, names }
}

/** How many of the latest offsets are looked at for those who wrote there. */
const WRITERS_LOOK_OFFSETS = 5_000

/** Ids that have written to a partition's topics lately, in transactions of whatever end. */
export async function writersOf(partition: Partition, reader: RangeReader): Promise<Set<string>> {
  const places = OUTPUTS.map((role) => partition.sibling(role))
  const ends = await reader.ends(places)
  const ranges = places.map((at, index) => {
    const { beginning = 0, end = 0 } = ends[index] ?? {}
    return { ...at, from: Math.max(beginning, end - WRITERS_LOOK_OFFSETS), to: end }
  })
  const ids = new Set<string>()
  await reader.readUncommitted(ranges, (record) => {
    const transaction = nameOf(record)
    if (transaction !== undefined) ids.add(idOf(transaction))
  })
  return ids
}

/** Of the transaction's name. */
const idOf = (transaction: string): string => transaction.slice(0, transaction.lastIndexOf(':'))

/** Whether outcomes were written again, by whichever instance. */
const isOfRecovery = (transaction: string | undefined): boolean =>
  transaction !== undefined && !transaction.endsWith(RELEASE_SUFFIX) && RECOVERY.test(transaction)

const topicsOf = (records: readonly IncomingRecord[]): TopicPartition[] => [
  ...new Map(records.map(({ topic, partition }) => [topic, { topic, partition }])).values(),
]

/** Writes the outcomes again that count and hang, unless that is noted already. @returns how many, or why that cannot be done now */
async function writeAgain(
  partition: Partition,
  transaction: string,
  membership: Membership,
  { group, reader, transactor, openTransactor }: HangingDeps,
): Promise<number | string> {
  // A transaction that was only to end another one has no outcomes.
  if (transaction.endsWith(RELEASE_SUFFIX)) return 0
  const [first, second] = recoveryIds(transactor.transactionalId)
  const recovery = await openTransactor(transaction.startsWith(`${first}:`) ? second : first)
  const places = OUTPUTS.map((role) => partition.sibling(role))
  try {
    // What an attempt before this one has left open would be committed with this one. And a broker that leads no more believes that a transaction is
    // open which has ended.
    await released(recovery.release([partition.both[0]], 'committed offset', membership))
    await proveLeaders(places, reader, (all) => released(recovery.release(all, 'records', membership)))
    const still = await recordsOf(transaction, places, reader)
    if (typeof still === 'string') return still
    const committed = await group.committed(partition.both, COMMITTED_TIMEOUT_MS)
    const [input] = committed
    if (input === undefined || isCompleted(input.metadata, transaction)) return 0
    const again = await toBeDone(partition, committed, reader)
    const owed = still.hanging.filter((record) => !again.has(identityOf(record)))
    if (owed.length === 0) return 0
    // An attempt before this one stands there without its note: whether it counts shows once nothing is open any more, and what then has no outcome
    // is found by the restore.
    if ([...still.names].some(isOfRecovery)) return 0
    const note = { ...input, offset: Math.max(0, input.offset), metadata: withCompleted(input.metadata, transaction) }
    const result = await recovery.commit(owed.map(writtenAgain), [note], membership, new AbortController().signal)
    return result.kind === 'committed' ? owed.length : result.reason
  } finally {
    await recovery.close()
  }
}

/** What it is known by that ended what was left open. @throws Error when it was not ended */
export async function released(result: Promise<ReleaseResult>): Promise<string | undefined> {
  const ended = await result
  if (ended.kind !== 'released') throw new Error(ended.reason)
  return ended.transaction
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
    // What stands before the offset, too, or is done beyond it, is a repeated event, which is passed over.
    const before = new Set<string>()
    await reader.read(
      [
        {
          ...at,
          from: Math.max(ends.beginning, offset - AHEAD_BITS),
          to: Math.min(Math.max(0, offset), ends.stable),
        },
      ],
      (record) => {
        before.add(identityOf(record))
      },
    )
    // What is behind `stable` in `.retry` is itself in question, and has not been read by anybody.
    const to = Math.min(ends.stable, from + AHEAD_BITS)
    await reader.read([{ ...at, from, to }], (record) => {
      const identity = identityOf(record)
      if (done.has(record.offset)) before.add(identity)
      else if (!before.has(identity)) found.add(identity)
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
