import { headerText, TRANSACTION } from '../shared/events/headers.ts'
import type { IncomingRecord, OutgoingRecord } from '../shared/events/record.ts'
import { RELEASE_SUFFIX } from '../shared/kafka/transactor.ts'
import {
  type CommittedOffset,
  type GroupConsumer,
  type Membership,
  partitionName,
  type Range,
  type RangeReader,
  type ReleaseResult,
  type TopicPartition,
  type TransactionResult,
  type Transactor,
} from '../shared/kafka/types.ts'
import { CONNECT_BACKOFF, delayMs, sleep } from '../shared/service/retry.ts'
import { AHEAD_BITS, decodeAhead, isCompleted, withCompleted } from './ahead.ts'
import { identityOf } from './decode.ts'
import { proveLeaders } from './leaders.ts'
import type { Partition } from './partition-state.ts'

/** The clients that a partition is restored with. */
export interface Clients {
  group: GroupConsumer
  transactor: Transactor
  /** Made for the group. */
  reader: RangeReader
  /** A connected client for another transactional id; the caller closes it. */
  openTransactor(transactionalId: string): Promise<Transactor>
}

interface HangingDeps extends Clients {
  /** Whether a hanging transaction of another id may be aborted in these partitions. The process that uses that id is fenced and opens new clients. */
  mayTakeOver(partitions: readonly Partition[]): boolean
}

/** What became of a hanging transaction, with the names of its partitions. */
export type HangingResult =
  | { kind: 'ended'; partitions: string[]; transaction: string; completed: number }
  | { kind: 'waits'; partitions: string[]; reason: string }
  | { kind: 'fatal'; reason: string }

const COMMITTED_TIMEOUT_MS = 10_000

/** The ids under which outcomes are written again. The second is for a hanging transaction of the first, whose next commit would commit what hangs. */
const RECOVERY = /-recovery(-2)?:[^:]*$/
export const recoveryIds = (transactionalId: string): readonly [string, string] => [
  `${transactionalId}-recovery`,
  `${transactionalId}-recovery-2`,
]

/**
 * Ends hanging transactions: the coordinator counts them as ended, but a topic has no marker for them, so nobody can read past them. All partitions of
 * a transaction are handled together.
 *
 * If the transaction's offsets are not committed, it is aborted, and its events are processed again. If they are, its outcomes count: for each
 * partition, a transaction of another id writes them again and notes so in the committed offset's metadata; then the hanging one is aborted. A crash
 * before the note is committed leaves nothing behind; after it, only the abort is left to do.
 */
export async function endHanging(partitions: readonly Partition[], deps: HangingDeps): Promise<HangingResult[]> {
  const { reader } = deps
  const results: HangingResult[] = []
  const byTransaction = new Map<string, Partition[]>()
  for (const partition of partitions) {
    const held = await heldOf(partition.outputs, reader)
    if (held === undefined) results.push(waits([partition], NOTHING_OPEN))
    else if (held.transaction === undefined)
      results.push(waits([partition], `another client has it open in ${partitionName(held.ranges[0])}`))
    else byTransaction.set(held.transaction, [...(byTransaction.get(held.transaction) ?? []), partition])
  }
  for (const [transaction, some] of byTransaction) results.push(...(await endTransaction(transaction, some, deps)))
  return results
}

/** Attempts for a step that fails because of a rebalance, or because another process uses the id. */
const MAX_TRIES = 4

/**
 * A client for an id that another process may be using. Opening it fences that process, which leaves the group and soon rejoins with a new client
 * that fences this one. Neither the membership nor the client lasts, so a failed step is tried again with new ones.
 */
export class BorrowedId {
  #client: Transactor | undefined

  constructor(
    readonly id: string,
    readonly deps: Clients,
  ) {}

  /** For this member's own id: its own client, which must not be opened a second time. */
  get #own(): Transactor | undefined {
    const { transactor } = this.deps
    return transactor.transactionalId === this.id ? transactor : undefined
  }

  release(places: readonly TopicPartition[], what: 'records' | 'committed offset'): Promise<ReleaseResult> {
    return this.#step(
      (client, membership) => client.release(places, what, membership),
      ({ kind }) => kind === 'released',
    )
  }

  /**
   * A transaction whose result is unknown is not tried again.
   * @param isOurs called when the membership is taken, so that nothing is committed for another member's partition
   */
  commit(
    outputs: readonly OutgoingRecord[],
    offsets: readonly CommittedOffset[],
    isOurs: () => boolean,
  ): Promise<TransactionResult> {
    return this.#step(
      async (client, membership) =>
        isOurs() ? client.commit(outputs, offsets, membership, new AbortController().signal) : REVOKED,
      ({ kind }) => kind !== 'aborted' || !isOurs(),
    )
  }

  async close(): Promise<void> {
    const client = this.#client
    this.#client = undefined
    if (client !== this.#own) await client?.close()
  }

  /** @throws Error when this process is not a member of the group, or the client cannot be opened */
  async #step<R extends { kind: string }>(
    take: (client: Transactor, membership: Membership) => Promise<R>,
    isDone: (result: R) => boolean,
  ): Promise<R> {
    for (let attempt = 1; ; attempt++) {
      this.#client ??= this.#own ?? (await this.deps.openTransactor(this.id))
      const client = this.#client
      const membership = this.deps.group.membership()
      if (membership !== undefined) {
        const result = await take(client, membership)
        if (isDone(result) || attempt === MAX_TRIES) return result
        if (result.kind === 'fatal') {
          if (client === this.#own) return result
          await this.close()
        }
      } else if (attempt === MAX_TRIES) throw new Error('not a member of the group')
      await sleep(delayMs(CONNECT_BACKOFF, attempt))
    }
  }
}

const REVOKED: TransactionResult = {
  kind: 'aborted',
  reason: 'the partition was revoked',
  failed: new Map(),
  passing: true,
}

const NOTHING_OPEN = 'nothing is left open any more'

const waits = (partitions: readonly Partition[], reason: string): HangingResult => ({
  kind: 'waits',
  partitions: partitions.map(({ name }) => name),
  reason,
})

const inputsOf = (partitions: Iterable<Partition>): TopicPartition[] =>
  [...partitions].map(({ both: [input] }) => input)

async function endTransaction(
  transaction: string,
  partitions: readonly Partition[],
  deps: HangingDeps,
): Promise<HangingResult[]> {
  const { reader, transactor, mayTakeOver } = deps
  const id = idOf(transaction)
  const isOwn = id === transactor.transactionalId
  if (!isOwn && !mayTakeOver(partitions)) return [waits(partitions, `it belongs to ${id}`)]
  const owner = new BorrowedId(id, deps)
  const notReleased = (
    of: readonly Partition[],
    result: Exclude<ReleaseResult, { kind: 'released' }>,
  ): HangingResult => (result.kind === 'fatal' && isOwn ? result : waits(of, result.reason))
  try {
    // The coordinator does this only once it counts the transaction as ended. If it is still open after that, it hangs.
    const settled = await owner.release(inputsOf(partitions), 'committed offset')
    if (settled.kind !== 'released') return [notReleased(partitions, settled)]
    const results: HangingResult[] = []
    const open = new Map<Partition, TopicPartition[]>()
    for (const partition of partitions) {
      const still = await recordsOf(transaction, partition.outputs, reader)
      if (typeof still === 'string') results.push(waits([partition], still))
      else open.set(partition, topicsOf(still.hanging))
    }
    const completed = await writeAgain(transaction, [...open.keys()], deps)
    for (const [partition, reason] of completed.waiting) {
      results.push(waits([partition], reason))
      open.delete(partition)
    }
    if (open.size === 0) return results
    const ended = [...open.keys()]
    const result = await owner.release([...open.values()].flat(), 'records')
    if (result.kind !== 'released') return [...results, notReleased(ended, result)]
    const names = ended.map(({ name }) => name)
    return [...results, { kind: 'ended', partitions: names, transaction, completed: completed.records }]
  } finally {
    await owner.close()
  }
}

const nameOf = (record: IncomingRecord): string | undefined => headerText(record.headers, TRANSACTION)

/**
 * What holds back read_committed readers of partitions.
 * @returns for each partition with an open transaction, the range from that transaction's first record to the end, and the name of the oldest transaction
 * in the first of them, if it is ours; undefined when no transaction is open
 */
export async function heldOf(
  places: readonly TopicPartition[],
  reader: RangeReader,
): Promise<{ ranges: [Range, ...Range[]]; transaction: string | undefined } | undefined> {
  const [first, ...others] = await heldBack(places, reader)
  if (first === undefined) return undefined
  let transaction: string | undefined
  await reader.readUncommitted([{ ...first, to: first.from + 1 }], (record) => {
    transaction = nameOf(record)
  })
  return { ranges: [first, ...others], transaction }
}

/** In each partition with an open transaction, the range from that transaction's first record to the end. */
export async function heldBack(places: readonly TopicPartition[], reader: Pick<RangeReader, 'ends'>): Promise<Range[]> {
  const ends = await reader.ends(places)
  return places.flatMap((at, index) => {
    const { stable = 0, end = 0 } = ends[index] ?? {}
    return stable < end ? [{ ...at, from: stable, to: end }] : []
  })
}

/**
 * The records of a transaction, if it is the oldest open one, and the names of all transactions with records among or after them; a string says why
 * not.
 */
async function recordsOf(
  transaction: string,
  places: readonly TopicPartition[],
  reader: RangeReader,
): Promise<{ hanging: IncomingRecord[]; names: Set<string | undefined> } | string> {
  const held = await heldOf(places, reader)
  if (held === undefined) return NOTHING_OPEN
  if (held.transaction !== transaction) return 'another transaction is open now'
  const hanging: IncomingRecord[] = []
  const names = new Set<string | undefined>()
  // Other records are not kept: there may be many after the transaction's own.
  await reader.readUncommitted(held.ranges, (record) => {
    const name = nameOf(record)
    names.add(name)
    if (name === transaction) hanging.push(record)
  })
  return { hanging, names }
}

/** How many of the latest offsets are read to find which ids wrote there. */
const WRITERS_LOOK_OFFSETS = 5_000

/** Transactional ids with recent transactions in a partition's topics, committed or not. */
export async function writersOf(partition: Partition, reader: RangeReader): Promise<Set<string>> {
  const ends = await reader.ends(partition.outputs)
  const ranges = partition.outputs.map((at, index) => {
    const { beginning = 0, end = 0 } = ends[index] ?? {}
    return { ...at, from: Math.max(beginning, end - WRITERS_LOOK_OFFSETS), to: end }
  })
  const ids = new Set<string>()
  await reader.readUncommitted(ranges, (record) => {
    const id = writerOf(record)
    if (id !== undefined) ids.add(id)
  })
  return ids
}

/** The transactional id that wrote a record, if it is one of KafkaTrace's. */
export function writerOf(record: IncomingRecord): string | undefined {
  const transaction = nameOf(record)
  return transaction && idOf(transaction)
}

/** A transaction's name is its id and a number. */
const idOf = (transaction: string): string => transaction.slice(0, transaction.lastIndexOf(':'))

/** Whether the transaction wrote outcomes again, for any instance. */
const isOfRecovery = (transaction: string | undefined): boolean =>
  transaction !== undefined && !transaction.endsWith(RELEASE_SUFFIX) && RECOVERY.test(transaction)

const topicsOf = (records: readonly IncomingRecord[]): TopicPartition[] => [
  ...new Map(records.map(({ topic, partition }) => [topic, { topic, partition }])).values(),
]

/**
 * Writes again the outcomes of a hanging transaction whose offsets are committed, unless a note says that this was done.
 * @returns how many outcomes were written, and the partitions for which this cannot be done now, with the reason
 */
async function writeAgain(
  transaction: string,
  partitions: readonly Partition[],
  deps: HangingDeps,
): Promise<{ records: number; waiting: Map<Partition, string> }> {
  const { group, reader, transactor } = deps
  const waiting = new Map<Partition, string>()
  // A release has no outcomes.
  if (partitions.length === 0 || transaction.endsWith(RELEASE_SUFFIX)) return { records: 0, waiting }
  const [first, second] = recoveryIds(transactor.transactionalId)
  const recovery = new BorrowedId(transaction.startsWith(`${first}:`) ? second : first, deps)
  try {
    // The commit would also commit what an earlier attempt left open. And a broker that is no longer the leader may report an ended transaction as open.
    await released(recovery.release(inputsOf(partitions), 'committed offset'))
    const outputs = partitions.flatMap((one) => one.outputs)
    await proveLeaders(outputs, reader, (all) => released(recovery.release(all, 'records')))
    let records = 0
    // One transaction for each partition: if one partition refuses it, the others are not affected.
    for (const partition of partitions) {
      const still = await recordsOf(transaction, partition.outputs, reader)
      if (typeof still === 'string') {
        waiting.set(partition, still)
        continue
      }
      const committed = await group.committed(partition.both, COMMITTED_TIMEOUT_MS)
      const [input] = committed
      if (input === undefined || isCompleted(input.metadata, transaction)) continue
      const undone = await toBeDone(partition, committed, reader)
      const counting = still.hanging.filter((record) => !undone.has(identityOf(record)))
      // An earlier attempt is there without its note. Whether it counts is known only when nothing is open any more; the restore then finds events that
      // have no outcome.
      if (counting.length === 0 || [...still.names].some(isOfRecovery)) continue
      const metadata = withCompleted(input.metadata, transaction)
      const note = { ...input, offset: Math.max(0, input.offset), metadata }
      const result = await recovery.commit(
        counting.map(writtenAgain),
        [note],
        () => partition.state.kind === 'restoring',
      )
      if (result.kind === 'committed') records += counting.length
      else waiting.set(partition, result.reason)
    }
    return { records, waiting }
  } finally {
    await recovery.close()
  }
}

/** @returns the name of the releasing transaction. @throws Error when the release failed */
export async function released(result: Promise<ReleaseResult>): Promise<string | undefined> {
  const ended = await result
  if (ended.kind !== 'released') throw new Error(ended.reason)
  return ended.transaction
}

/** Identities of events whose offsets are not committed: they will be processed by the partition's owner. */
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
    // An event that also has a record before the offset, or a done one after it, is a duplicate and will be dropped.
    const before = new Set<string>()
    const earliest = Math.max(ends.beginning, offset - AHEAD_BITS)
    await reader.read([{ ...at, from: earliest, to: Math.min(Math.max(0, offset), ends.stable) }], (record) => {
      before.add(identityOf(record))
    })
    // Records at or after `stable` in `.retry` belong to open transactions themselves; nobody has read them.
    const to = Math.min(ends.stable, from + AHEAD_BITS)
    await reader.read([{ ...at, from, to }], (record) => {
      const identity = identityOf(record)
      if (done.has(record.offset)) before.add(identity)
      else if (!before.has(identity)) found.add(identity)
    })
  }
  return found
}

export const writtenAgain = ({ topic, partition, key, value, headers }: IncomingRecord): OutgoingRecord => {
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
