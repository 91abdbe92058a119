import { headerText, TRANSACTION } from '../shared/events/headers.ts'
import type { IncomingRecord, OutgoingRecord } from '../shared/events/record.ts'
import { TOPIC_ROLES } from '../shared/events/topics.ts'
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

export interface HangingDeps {
  group: Pick<GroupConsumer, 'committed' | 'membership'>
  reader: RangeReader
  transactor: Transactor
  openTransactor(transactionalId: string): Promise<Transactor>
  /** Whether a transaction of another id that hangs in them may be ended in its place: whoever uses that id opens new clients then. */
  mayTakeOver(partitions: readonly Partition[]): boolean
}

/** What became of a transaction that nobody was going to end, by the names of the partitions. */
export type HangingResult =
  | { kind: 'ended'; partitions: string[]; transaction: string; completed: number }
  | { kind: 'waits'; partitions: string[]; reason: string }
  | { kind: 'fatal'; reason: string }

const COMMITTED_TIMEOUT_MS = 10_000

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
 * Ends transactions that a broker counts as ended without having written so into partitions' topics: nobody can read past them. What one transaction
 * holds is ended together, since it may be all partitions.
 *
 * Where the offsets that belong to it are not committed, its events are done again, and it is aborted. Where they are, its outcomes count: they
 * are written again, by a transaction of another id for each partition that also notes so in the committed offset's metadata, and then it is aborted.
 * Broken off before the note is committed, it has not happened; broken off behind it, the note says that only the abort is left.
 */
export async function endHanging(partitions: readonly Partition[], deps: HangingDeps): Promise<HangingResult[]> {
  const { reader } = deps
  const results: HangingResult[] = []
  const byTransaction = new Map<string, Partition[]>()
  for (const partition of partitions) {
    const held = await heldOf(outputsOf(partition), reader)
    if (held === undefined) results.push(waits([partition], NOTHING_OPEN))
    else if (held.transaction === undefined)
      results.push(waits([partition], `another client has it open in ${partitionName(held.ranges[0])}`))
    else byTransaction.set(held.transaction, [...(byTransaction.get(held.transaction) ?? []), partition])
  }
  for (const [transaction, some] of byTransaction) results.push(...(await endTransaction(transaction, some, deps)))
  return results
}

/** How often a step is tried that fails for the sake of the group or of who else uses the id. */
const MAX_TRIES = 4

/**
 * A client of an id that another process may be using. That one is fenced when it is opened, leaves the group, and is soon back in it with a client that fences
 * this one: neither a membership nor the client lasts, and what fails is tried again with new ones.
 */
export class BorrowedId {
  #client: Transactor | undefined

  constructor(
    readonly id: string,
    readonly deps: Pick<HangingDeps, 'transactor' | 'openTransactor'> & { group: Pick<GroupConsumer, 'membership'> },
  ) {}

  /** Of this member's own id its client is used, which is never opened again. */
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
   * One of which it is not known whether it was committed is not tried again.
   * @param isOurs asked in the moment in which the membership is taken; nothing is committed for a partition that is another member's
   */
  commit(
    outputs: readonly OutgoingRecord[],
    offsets: readonly CommittedOffset[],
    isOurs: () => boolean,
  ): Promise<TransactionResult> {
    return this.#step(
      async (client, membership) =>
        isOurs() ? client.commit(outputs, offsets, membership, new AbortController().signal) : GIVEN_UP,
      ({ kind }) => kind !== 'aborted' || !isOurs(),
    )
  }

  async close(): Promise<void> {
    const client = this.#client
    this.#client = undefined
    if (client !== this.#own) await client?.close()
  }

  /** @throws Error when this process is no member of the group, or the client cannot be opened */
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

const GIVEN_UP: TransactionResult = {
  kind: 'aborted',
  reason: 'the partition is being given up',
  failed: new Map(),
  passing: true,
}

const NOTHING_OPEN = 'nothing is left open any more'

const waits = (partitions: readonly Partition[], reason: string): HangingResult => ({
  kind: 'waits',
  partitions: partitions.map(({ name }) => name),
  reason,
})

const outputsOf = (partition: Partition): TopicPartition[] => TOPIC_ROLES.map((role) => partition.sibling(role))

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
    // The coordinator refuses it, or waits, until it has ended the transaction as far as it knows. What is open then is forgotten, not late.
    const settled = await owner.release(inputsOf(partitions), 'committed offset')
    if (settled.kind !== 'released') return [notReleased(partitions, settled)]
    const results: HangingResult[] = []
    const open = new Map<Partition, TopicPartition[]>()
    for (const partition of partitions) {
      const still = await recordsOf(transaction, outputsOf(partition), reader)
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

interface OpenTransaction {
  /** The partitions with an open transaction, from where that begins to the end. */
  ranges: [Range, ...Range[]]
  /** The oldest that is open in the first of them, by name. */
  transaction: string | undefined
}

const nameOf = (record: IncomingRecord): string | undefined => headerText(record.headers, TRANSACTION)

/** What holds back readers of the partitions, if anything. */
export async function heldOf(
  places: readonly TopicPartition[],
  reader: RangeReader,
): Promise<OpenTransaction | undefined> {
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

/**
 * The records of a transaction, if it is the oldest one that is open, and the names of all whose records stand among and behind them in the topics where
 * something is open; or why they are not told.
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
  const places = outputsOf(partition)
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

interface WrittenAgain {
  records: number
  /** Those for which it cannot be done now, and why. */
  waiting: Map<Partition, string>
}

/** Writes the outcomes again that count and hang, unless that is noted already. */
async function writeAgain(
  transaction: string,
  partitions: readonly Partition[],
  deps: HangingDeps,
): Promise<WrittenAgain> {
  const { group, reader, transactor } = deps
  const waiting = new Map<Partition, string>()
  // A transaction that was only to end another one has no outcomes.
  if (partitions.length === 0 || transaction.endsWith(RELEASE_SUFFIX)) return { records: 0, waiting }
  const [first, second] = recoveryIds(transactor.transactionalId)
  const recovery = new BorrowedId(transaction.startsWith(`${first}:`) ? second : first, deps)
  try {
    // What an attempt before this one has left open would be committed with this one. And a broker that leads no more believes that a transaction is
    // open which has ended.
    await released(recovery.release(inputsOf(partitions), 'committed offset'))
    await proveLeaders(partitions.flatMap(outputsOf), reader, (all) => released(recovery.release(all, 'records')))
    let records = 0
    // Each by itself: what one partition refuses would be broken off for all, and be done again there.
    for (const partition of partitions) {
      const still = await recordsOf(transaction, outputsOf(partition), reader)
      if (typeof still === 'string') {
        waiting.set(partition, still)
        continue
      }
      const committed = await group.committed(partition.both, COMMITTED_TIMEOUT_MS)
      const [input] = committed
      if (input === undefined || isCompleted(input.metadata, transaction)) continue
      const again = await toBeDone(partition, committed, reader)
      const owed = still.hanging.filter((record) => !again.has(identityOf(record)))
      // An attempt before this one stands there without its note: whether it counts shows once nothing is open any more, and what then has no outcome
      // is found by the restore.
      if (owed.length === 0 || [...still.names].some(isOfRecovery)) continue
      const metadata = withCompleted(input.metadata, transaction)
      const note = { ...input, offset: Math.max(0, input.offset), metadata }
      const result = await recovery.commit(owed.map(writtenAgain), [note], () => partition.state.kind === 'restoring')
      if (result.kind === 'committed') records += owed.length
      else waiting.set(partition, result.reason)
    }
    return { records, waiting }
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
