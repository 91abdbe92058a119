import type { CommittedOffset, Range, RangeReader, TopicPartition } from '../shared/kafka/types.ts'
import type { Logger } from '../shared/service/logger.ts'
import { sleep } from '../shared/service/retry.ts'
import { type AuditRange, type AuditReader, audit, type Snapshot, takeSnapshots } from './audit.ts'
import { heldOf } from './hanging.ts'
import type { ConsumerMetrics } from './metrics.ts'
import type { Partition } from './partition-state.ts'
import { reachOf, searchedOffsets } from './restore.ts'

export interface BackgroundAuditDeps {
  /** A separate one, so that nothing else waits for it; made for the group. */
  reader: RangeReader
  partitions(): readonly Partition[]
  /** Restores a partition again, so that events without an outcome are processed. */
  again(partition: Partition, reason: string): void
  metrics: Pick<ConsumerMetrics, 'audited' | 'doubled'>
  log: Logger
  /** The share of time, from 0 to 1, in which the audit may work. */
  share: number
  /** The least pause between two rounds over all partitions. */
  pauseMs: number
}

/** Offsets that are read between two pauses. */
const CHUNK_OFFSETS = 5_000

/** The most events held in memory, some 9 MB; for a larger window, everything is read several times. */
const MAX_EVENTS = 200_000

/** The most partitions of a stream that are checked together, if their events fit into memory. */
const MAX_PARTITIONS_TOGETHER = 50

/** How many missing and doubled events of a partition are remembered until the next round. */
const MAX_NAMED = 1_000

/** The most offsets in one log line. */
const MAX_OFFSETS_LOGGED = 50

/** After being open in this many rounds in a row, a transaction counts as hanging. */
const MAX_HELD_ROUNDS = 3

/**
 * Checks continuously that each event that is committed as done has exactly one outcome, in the partitions that this member reads, as far back as a
 * restore does and by the code of `bun run audit`. Missing outcomes are repaired by a restore.
 */
export class BackgroundAudit {
  /** Offsets of missing and of doubled events in the last round, by partition. */
  readonly #missing = new Map<string, ReadonlySet<number>>()
  readonly #doubled = new Map<string, ReadonlySet<number>>()
  /** The open transaction of a partition, and for how many rounds it has been open. */
  readonly #held = new Map<string, { at: string; rounds: number }>()

  constructor(readonly deps: BackgroundAuditDeps) {}

  /** Until the signal. */
  async run(signal: AbortSignal): Promise<void> {
    const { partitions, log, pauseMs } = this.deps
    // Pauses first: partitions were just checked by their restore.
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

  /** Forgets what was found in partitions that are no longer assigned. */
  #keep(ours: readonly Partition[]): void {
    const names = new Set(ours.map(({ name }) => name))
    for (const found of [this.#missing, this.#doubled, this.#held])
      for (const name of found.keys()) if (!names.has(name)) found.delete(name)
  }

  async #look(partitions: readonly Partition[], signal: AbortSignal): Promise<void> {
    const { reader, share, metrics, pauseMs } = this.deps
    // A restore that started meanwhile may have repaired what would be found.
    const isOver = (): boolean => signal.aborted || partitions.some(({ isOpen }) => !isOpen)
    const slow = slowed(reader, share, signal, isOver)
    // Transactions that are open for longer are looked at in the next round.
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
      this.#reportDoubled(partition, doubled)
      this.#repair(partition, missing)
    }
  }

  /** An open transaction blocks read_committed readers. If one of a consumer hangs, a restore ends it. */
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

  #reportDoubled({ name, topic }: Partition, offsets: readonly number[]): void {
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
    // Known from the last round: they are being processed, or another restore would not help either.
    else if (offsets.length > 0)
      log.warn(
        { partition: name, records: offsets.length, offsets: offsets.slice(0, MAX_OFFSETS_LOGGED) },
        'records before the committed offset have no outcome yet',
      )
  }
}

/** A reader that pauses after each chunk, so that it works for a share of the time only. Throws once the round is over. */
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

/** Part of a range, and the index of that range. */
interface Chunk extends Range {
  place: number
}

/** Splits ranges into chunks of {@link CHUNK_OFFSETS}. */
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

/** Groups partitions of one stream each, so that faults of one stream do not affect others. */
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
