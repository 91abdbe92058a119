import type { CommittedOffset, Range, RangeReader, TopicPartition } from '../shared/kafka/types.ts'
import type { Logger } from '../shared/service/logger.ts'
import { sleep } from '../shared/service/retry.ts'
import { type AuditRange, type AuditReader, audit, type Snapshot, takeSnapshots } from './audit.ts'
import { heldOf } from './hanging.ts'
import type { ConsumerMetrics } from './metrics.ts'
import type { Partition } from './partition-state.ts'
import { reachOf, searchedOffsets } from './restore.ts'

export interface BackgroundAuditDeps {
  /** Of its own, so that nobody waits for it; made for the group. */
  reader: RangeReader
  partitions(): readonly Partition[]
  /** Restores a partition anew: what has no outcome is processed then. */
  again(partition: Partition, reason: string): void
  metrics: Pick<ConsumerMetrics, 'audited' | 'doubled'>
  log: Logger
  /** How much of the time the check may be at work, from 0 to 1; for the rest of it, it waits. */
  share: number
  /** Between two rounds over all partitions, at least. */
  pauseMs: number
}

/** Offsets that are read before it waits again. */
const CHUNK_OFFSETS = 5_000

/** Events that are held in memory: some 9 MB. Of a window with more, everything is read more often. */
const MAX_EVENTS = 200_000

/** Partitions of a stream that are looked at together, if they have no more events than fit. */
const MAX_PARTITIONS_TOGETHER = 50

/** How many of a partition's missing and doubled events are told apart from those of the next round. */
const MAX_NAMED = 1_000

/** What of them is named in one line of the log. */
const MAX_OFFSETS_LOGGED = 50

/** In how many rounds a transaction is met open, one after the other, before it counts as one that nobody is going to end. */
const MAX_HELD_ROUNDS = 3

/**
 * Looks again and again whether what is committed as done has its outcome, and one only, in the partitions that this member reads; as far back as a
 * restore looks, and by the same judge as `bun run audit`. What is found missing is repaired by a restore.
 */
export class BackgroundAudit {
  /** Offsets that were missing in the last round, and those of doubled events, by partition. */
  readonly #missing = new Map<string, ReadonlySet<number>>()
  readonly #doubled = new Map<string, ReadonlySet<number>>()
  /** Where transactions have been open, and for how many rounds, by partition. */
  readonly #held = new Map<string, { at: string; rounds: number }>()

  constructor(readonly deps: BackgroundAuditDeps) {}

  /** Until the signal. */
  async run(signal: AbortSignal): Promise<void> {
    const { partitions, log, pauseMs } = this.deps
    // What was just restored was looked at then.
    for (await sleep(pauseMs, signal); !signal.aborted; await sleep(pauseMs, signal)) {
      const ours = partitions()
      this.#keep(ours)
      for (const some of together(ours.filter(({ state }) => state.kind === 'reading'))) {
        if (signal.aborted) return
        try {
          await this.#look(some, signal)
        } catch (error) {
          const named = some.map(({ name }) => name)
          log.debug({ partitions: named, reason: (error as Error).message }, 'audit skipped in this round')
        }
      }
    }
  }

  /** What was found of other partitions is forgotten. */
  #keep(ours: readonly Partition[]): void {
    const names = new Set(ours.map(({ name }) => name))
    for (const found of [this.#missing, this.#doubled, this.#held])
      for (const name of found.keys()) if (!names.has(name)) found.delete(name)
  }

  async #look(partitions: readonly Partition[], signal: AbortSignal): Promise<void> {
    const { reader, share, metrics, pauseMs } = this.deps
    // What would be found of a partition that was restored meanwhile may be repaired already.
    const isOver = (): boolean => signal.aborted || partitions.some(({ isOpen }) => !isOpen)
    const slow = slowed(reader, share, signal, isOver)
    // Transactions that take longer are looked at in the next round.
    const snapshots = await takeSnapshots(partitions, slow.committed, slow, pauseMs / 2)
    if (isOver()) return
    for (const [index, { heldBack }] of snapshots.entries())
      await this.#lookAtHeld(partitions[index] as Partition, heldBack)
    const ranges = snapshots.map((snapshot, index): AuditRange => {
      const { input, ends } = snapshot
      const to = Math.min(input.offset, ends.input.stable)
      const { reach } = reachOf((partitions[index] as Partition).dedupe, ends)
      return { snapshot, from: Math.max(ends.input.beginning, to - reach), to }
    })
    const latest = Math.max(...partitions.map(({ dedupe }) => searchedOffsets(dedupe)))
    const findings = await audit(ranges, slow, { maxEvents: MAX_EVENTS, maxNamed: MAX_NAMED, latest })
    if (isOver()) return
    for (const [index, { records, doubled, missing }] of findings.entries()) {
      const partition = partitions[index] as Partition
      metrics.audited.inc(records)
      this.#tellDoubled(partition, doubled)
      this.#repair(partition, missing)
    }
  }

  /** Whoever reads committed records waits for a transaction that is open. One of a consumer that stays so is ended by a restore. */
  async #lookAtHeld(partition: Partition, heldBack: Snapshot['heldBack']): Promise<void> {
    const { reader, again, log } = this.deps
    const { name } = partition
    if (heldBack === undefined) {
      this.#held.delete(name)
      return
    }
    const { topic, offset } = heldBack
    const at = `${topic} since offset ${offset}`
    const known = this.#held.get(name)
    const rounds = known?.at === at ? known.rounds + 1 : 1
    this.#held.set(name, { at, rounds })
    if (rounds % MAX_HELD_ROUNDS !== 0) return
    const open = await heldOf([{ topic, partition: partition.partition }], reader)
    if (open === undefined || open.ranges[0].from !== offset || partition.state.kind !== 'reading') return
    if (open.transaction === undefined)
      log.warn({ partition: name }, `a transaction of another client is open in ${at}; read_committed consumers wait`)
    else again(partition, `a transaction is open in ${at}, and nobody ends it`)
  }

  #tellDoubled({ name, topic }: Partition, offsets: readonly number[]): void {
    const { metrics, log } = this.deps
    const added = offsets.filter((offset) => this.#doubled.get(name)?.has(offset) !== true)
    this.#doubled.set(name, new Set(offsets))
    metrics.doubled.inc({ topic }, added.length)
    if (added.length > 0)
      log.error(
        { partition: name, records: added.length, offsets: added.slice(0, MAX_OFFSETS_LOGGED) },
        'events have more than one outcome',
      )
  }

  #repair(partition: Partition, offsets: readonly number[]): void {
    const { again, log } = this.deps
    const { name } = partition
    const added = offsets.filter((offset) => this.#missing.get(name)?.has(offset) !== true)
    this.#missing.set(name, new Set(offsets))
    if (added.length > 0) again(partition, `${offsets.length} records before the committed offset have no outcome`)
    // They are being processed, or another restore would not help either.
    else if (offsets.length > 0)
      log.warn(
        { partition: name, records: offsets.length, offsets: offsets.slice(0, MAX_OFFSETS_LOGGED) },
        'records before the committed offset have no outcome yet',
      )
  }
}

/** A reader that works for a share of the time, a few records at a time. It throws once it is over. */
function slowed(
  reader: RangeReader,
  share: number,
  signal: AbortSignal,
  isOver: () => boolean,
): AuditReader & { committed(at: readonly TopicPartition[]): Promise<CommittedOffset[]> } {
  let turn: Promise<unknown> = Promise.resolve()
  const inTurn = <R>(work: () => Promise<R>): Promise<R> => {
    const mine = turn.then(async () => {
      if (isOver()) throw new Error('a partition is not read any more')
      const begunMs = performance.now()
      const result = await work()
      const workedMs = performance.now() - begunMs
      await sleep(workedMs / share - workedMs, signal)
      return result
    })
    turn = mine.catch(() => undefined)
    return mine
  }
  return {
    committed: (at) => inTurn(() => reader.committed(at)),
    ends: (at) => inTurn(() => reader.ends(at)),
    async readIdentities(ranges, identityOf, onRecord) {
      for (const chunk of chunksOf(ranges))
        await inTurn(() =>
          reader.readIdentities(chunk, identityOf, (record) => {
            const { place: range } = chunk[record.range] as Chunk
            onRecord({ ...record, range })
          }),
        )
    },
  }
}

/** Part of a range, with the place of that. */
interface Chunk extends Range {
  place: number
}

/** The ranges in turn, {@link CHUNK_OFFSETS} at a time. */
function* chunksOf(ranges: readonly Range[]): Generator<Chunk[]> {
  let chunk: Chunk[] = []
  let room = CHUNK_OFFSETS
  for (const [place, range] of ranges.entries())
    for (let { from } = range; from < range.to; ) {
      const to = Math.min(range.to, from + room)
      chunk.push({ ...range, from, to, place })
      room -= to - from
      from = to
      if (room > 0) continue
      yield chunk
      chunk = []
      room = CHUNK_OFFSETS
    }
  if (chunk.length > 0) yield chunk
}

/** Partitions of one stream each, since one stream's trouble is its own. */
function* together(partitions: readonly Partition[]): Generator<Partition[]> {
  for (const [, ofStream] of Map.groupBy(partitions, ({ topic }) => topic)) {
    let some: Partition[] = []
    let events = 0
    for (const partition of ofStream) {
      const { size } = partition.dedupe
      if (some.length > 0 && (some.length === MAX_PARTITIONS_TOGETHER || events + size > MAX_EVENTS)) {
        yield some
        some = []
        events = 0
      }
      some.push(partition)
      events += size
    }
    yield some
  }
}
