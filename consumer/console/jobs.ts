import { generationOf, MAX_GENERATION } from '../../shared/events/identity.ts'
import type { IncomingRecord, OutgoingRecord } from '../../shared/events/record.ts'
import { ProblemError } from '../../shared/http/problem.ts'
import type { RangeReader } from '../../shared/kafka/types.ts'
import type { Logger } from '../../shared/service/logger.ts'
import { type Backoff, delayMs, sleep } from '../../shared/service/retry.ts'
import { messageOf } from '../../shared/service/thrown.ts'
import { originOf } from '../decode.ts'
import type { Acts, Decision } from './acts.ts'
import {
  type Action,
  type ActRecord,
  type ActsState,
  type Edit,
  type JobState,
  type LetterAct,
  type LettersRecord,
  letterActOf,
} from './acts-log.ts'
import { matcherOf, nativeFilter } from './letters.ts'
import { originalOf } from './original.ts'
import { type Asking, orProblem, type Readers } from './readers.ts'
import { redriveRecord } from './redrive.ts'
import { Budget } from './scan.ts'
import { type Stream, topicOf } from './streams.ts'

/** Redriving and discarding dead letters: one, or as jobs that go on after a restart where they were. */

/** The most letters of one transaction. */
const MAX_LETTERS = 500

/** A transaction gets no further letters over this size. */
const MAX_LETTERS_BYTES = 16 * 2 ** 20

/** Offsets of one look at `.dlq`, over all partitions; doubled while a look finds nothing. */
const FIRST_LOOK_OFFSETS = 3_000
const MAX_LOOK_OFFSETS = 600_000

/** How long a job waits after a fault, or while another console goes on with it. */
const FAULT_BACKOFF: Backoff = { firstMs: 1_000, maxMs: 30_000 }

/** How far a job may lag behind its rate and still catch up. */
const PACE_MS = 1_000

/** How long reading for one look may take. */
const LOOK_TIMEOUT_MS = 60_000

export interface JobsDeps {
  acts: Acts
  readers: Readers
  log: Logger
  nowMs(): number
  signal: AbortSignal
  /** Whether the tenants file has the stream now. */
  isDeclared(stream: Pick<Stream, 'tenant' | 'name'>): boolean
  /** Letters were acted on. */
  onActed(act: Action, letters: number): void
  /** A job waits after a fault. */
  onFault(): void
}

const unlimited = (asking: Asking): Budget => new Budget(Number.POSITIVE_INFINITY, LOOK_TIMEOUT_MS, asking)

/** The next letters of a job, and where it goes on after them. */
interface Look {
  letters: IncomingRecord[]
  positions: number[]
}

/** Who does what, and why. */
export interface Actor {
  by: string
  reason: string | undefined
}

/** Records and the act for letters that nothing was done to yet. */
async function actOn(
  action: Action,
  stream: Stream,
  letters: readonly IncomingRecord[],
  state: ActsState,
  actor: Actor,
  more: { job?: string; positions?: number[]; edit?: Edit | undefined },
  reader: RangeReader,
  deps: Pick<JobsDeps, 'readers' | 'nowMs' | 'signal'>,
): Promise<{ records: OutgoingRecord[]; act: LettersRecord; skipped: number }> {
  const records: OutgoingRecord[] = []
  const acted: [number, number, number][] = []
  let skipped = 0
  const budget = unlimited({ signal: deps.signal, caller: stream.tenant })
  try {
    for (const letter of letters) {
      if (state.actOf(letter) !== undefined) continue
      if (action === 'discard') {
        acted.push([letter.partition, letter.offset, 0])
        continue
      }
      const isLast = generationOf(letter.headers) >= MAX_GENERATION
      const original = isLast ? undefined : await originalOf(stream, letter, reader, budget, deps.readers)
      // A job goes on without it: the letter stays open, with its reason.
      if (original === undefined && more.job !== undefined) {
        skipped++
        continue
      }
      if (original === undefined)
        throw new ProblemError({
          kind: 'conflict',
          detail: isLast
            ? `The letter is of generation ${MAX_GENERATION}, and there is no higher one.`
            : 'The letter was stored without its value, since it was too large, and the original is gone.',
        })
      const { record, generation } = redriveRecord(stream, letter, original, more.edit, deps.nowMs())
      records.push(record)
      acted.push([letter.partition, letter.offset, generation])
    }
  } finally {
    budget.end()
  }
  const { job, positions, edit } = more
  const act: LettersRecord = {
    act: action,
    id: Bun.randomUUIDv7(),
    time: new Date(deps.nowMs()).toISOString(),
    by: actor.by,
    ...(actor.reason === undefined ? {} : { reason: actor.reason }),
    ...(job === undefined ? {} : { job }),
    letters: acted,
    ...(edit === undefined ? {} : { edit }),
    ...(positions === undefined ? {} : { positions }),
  }
  return { records, act, skipped }
}

/**
 * Redrives or discards one letter, once: a letter that was acted on before stays as it is.
 * @returns the act on it, and whether it was done now
 */
export async function actOnOne(
  action: Action,
  stream: Stream,
  letter: IncomingRecord,
  actor: Actor & Pick<Asking, 'caller'>,
  edit: Edit | undefined,
  deps: JobsDeps,
): Promise<{ done: boolean; act: LetterAct }> {
  const acted = await deps.acts.of(stream).perform<{ done: boolean; act: LetterAct }>(async (state) => {
    const before = state.actOf(letter)
    if (before !== undefined) return { records: [], acts: [], result: { done: false, act: before } }
    const asking = { signal: deps.signal, caller: actor.caller }
    const { records, act } = await deps.readers.use(asking, (reader) =>
      actOn(action, stream, [letter], state, actor, { edit }, reader, deps),
    )
    return { records, acts: [act], result: { done: true, act: letterActOf(act) } }
  })
  if (acted.done) deps.onActed(action, 1)
  return acted
}

/** Each takes turns with the others, and a reader of the log from other requests. */
const MAX_RUNNING = 10

/** @throws ProblemError when so many jobs of the stream run that no other may start */
export function demandFewJobs({ jobs }: Pick<ActsState, 'jobs'>): void {
  let running = 0
  for (const { end } of jobs.values()) if (end === undefined) running++
  if (running >= MAX_RUNNING)
    throw new ProblemError({
      kind: 'conflict',
      detail: `${running} jobs of the stream run already, and at most ${MAX_RUNNING} may: wait for one, or cancel one.`,
    })
}

/** Runs the jobs of all streams. */
export class Jobs {
  readonly #running = new Map<string, Promise<void>>()

  constructor(readonly deps: JobsDeps) {}

  get running(): number {
    return this.#running.size
  }

  /** Starts, or goes on with, the stream's jobs that have not ended. */
  async resume(stream: Stream): Promise<void> {
    const state = await this.deps.acts.of(stream).current()
    for (const [id, { end }] of state.jobs) if (end === undefined) this.run(stream, id)
  }

  run(stream: Stream, id: string): void {
    if (this.#running.has(id)) return
    this.#running.set(
      id,
      this.#run(stream, id).finally(() => this.#running.delete(id)),
    )
  }

  async #run(stream: Stream, id: string): Promise<void> {
    const { acts, log, signal } = this.deps
    let faults = 0
    let offsets = FIRST_LOOK_OFFSETS
    /** Where this console left the job. */
    let left: readonly number[] | undefined
    /** When the next letters may be acted on. */
    let dueMs = performance.now()
    /** Letters that the broker refuses for their size, and whether they are being looked for, one at a time. */
    const tooLarge = new Set<string>()
    let isSingle = false
    // One whose stream is gone goes on once that is there again, as after a restart.
    while (!signal.aborted && this.deps.isDeclared(stream)) {
      let look: Look | undefined
      try {
        const job = (await acts.of(stream).current()).jobs.get(id)
        if (job === undefined || job.end !== undefined) return
        // Those of the state change when acts of another console are read.
        const { positions } = job
        const isElsewhere = left?.some((offset, partition) => offset < (positions[partition] ?? 0)) === true
        left = [...positions]
        if (isElsewhere) {
          await sleep(delayMs(FAULT_BACKOFF, 4), signal)
          continue
        }
        look = await this.#look(stream, job, offsets, isSingle)
        const letters = look.letters.filter((letter) => !tooLarge.has(originOf(letter)))
        const next = { ...look, letters }
        const count = await acts.of(stream).perform((state) => this.#decide(stream, id, positions, next, state))
        faults = 0
        isSingle = false
        if (count === 'ended') return
        // What the other console did is seen at the next look.
        if (count === 'elsewhere') continue
        left = next.positions
        offsets = count === 0 ? Math.min(MAX_LOOK_OFFSETS, offsets * 2) : FIRST_LOOK_OFFSETS
        if (count > 0) this.deps.onActed(job.record.action, count)
        // An outage is not made up for.
        dueMs = Math.max(dueMs, performance.now() - PACE_MS) + (count / job.record.ratePerSecond) * 1000
        await sleep(dueMs - performance.now(), signal)
      } catch (error) {
        if (signal.aborted) return
        const reason = messageOf(error)
        if (look !== undefined && error instanceof ProblemError && error.problem.kind === 'event-too-large') {
          const [letter] = look.letters
          if (isSingle && letter !== undefined) {
            tooLarge.add(originOf(letter))
            log.warn({ topic: stream.input, job: id, letter: originOf(letter), reason }, 'a job leaves out a letter')
          }
          isSingle = true
          continue
        }
        this.deps.onFault()
        log.warn({ topic: stream.input, job: id, reason }, 'a job cannot go on; trying again')
        await sleep(delayMs(FAULT_BACKOFF, ++faults), signal)
      }
    }
  }

  /** The next letters that the job's filter matches, in the order of each partition, and where to go on after them. */
  async #look(stream: Stream, { record, positions }: JobState, offsets: number, isSingle: boolean): Promise<Look> {
    const { readers, signal } = this.deps
    const left = positions.flatMap((from, partition) => (from < (record.to[partition] ?? 0) ? [partition] : []))
    const open = isSingle ? left.slice(0, 1) : left
    if (open.length === 0) return { letters: [], positions: [...positions] }
    const each = Math.max(1, Math.floor(offsets / open.length))
    const ranges = open.map((partition) => {
      const from = positions[partition] ?? 0
      return { topic: topicOf(stream, 'dlq'), partition, from, to: Math.min(record.to[partition] ?? from, from + each) }
    })
    const matches = matcherOf(record.filter)
    // As many of each partition, so that all advance.
    const most = isSingle ? 1 : Math.max(1, Math.min(MAX_LETTERS, Math.ceil(record.ratePerSecond)))
    const share = Math.max(1, Math.floor(most / ranges.length))
    const found = new Map<number, { letters: IncomingRecord[]; isCut: boolean }>()
    let bytes = 0
    const take = (letter: IncomingRecord): void => {
      const own = found.get(letter.partition) ?? { letters: [], isCut: false }
      found.set(letter.partition, own)
      own.isCut ||= own.letters.length >= share || (bytes >= MAX_LETTERS_BYTES && own.letters.length > 0)
      if (own.isCut) return
      own.letters.push(letter)
      bytes += letter.value?.length ?? 0
    }
    await readers.use({ signal, caller: stream.tenant }, (reader) =>
      orProblem(
        reader.read(
          ranges,
          (letter) => {
            if (matches(letter)) take(letter)
          },
          {
            filter: nativeFilter(record.filter),
            signal: AbortSignal.any([signal, AbortSignal.timeout(LOOK_TIMEOUT_MS)]),
          },
        ),
      ),
    )
    const next = [...positions]
    const letters: IncomingRecord[] = []
    for (const { partition, to } of ranges) {
      const own = found.get(partition)
      letters.push(...(own?.letters ?? []))
      next[partition] = own?.isCut === true ? (own.letters.at(-1)?.offset ?? 0) + 1 : to
    }
    return { letters, positions: next }
  }

  async #decide(
    stream: Stream,
    id: string,
    started: readonly number[],
    { letters, positions }: Look,
    state: ActsState,
  ): Promise<Decision<number | 'ended' | 'elsewhere'>> {
    const { nowMs, readers, signal } = this.deps
    const now = state.jobs.get(id)
    if (now === undefined || now.end !== undefined) return { records: [], acts: [], result: 'ended' }
    if (now.positions.some((offset, partition) => offset !== started[partition]))
      return { records: [], acts: [], result: 'elsewhere' }
    const { record } = now
    const { records, act, skipped } = await readers.use({ signal, caller: stream.tenant }, (reader) =>
      actOn(
        record.action,
        stream,
        letters,
        state,
        { by: record.by, reason: record.reason },
        { job: id, positions },
        reader,
        { readers, nowMs, signal },
      ),
    )
    const isOver = positions.every((offset, partition) => offset >= (record.to[partition] ?? 0))
    const count = act.letters.length
    const acts: ActRecord[] = count > 0 || skipped > 0 ? [act] : []
    if (isOver)
      acts.push({
        act: 'job-end',
        id: Bun.randomUUIDv7(),
        job: id,
        time: new Date(nowMs()).toISOString(),
        by: record.by,
        state: 'done',
      })
    if (acts.length === 0) now.positions = positions
    return { records, acts, result: isOver ? 'ended' : count }
  }
}
