import { type Static, Type } from '@sinclair/typebox'
import { generationOf } from '../../shared/events/identity.ts'
import type { IncomingRecord } from '../../shared/events/record.ts'
import type { WhileAllowed } from '../../shared/http/access.ts'
import { ProblemError } from '../../shared/http/problem.ts'
import type { Range, RangeReader, TopicPartitionOffset } from '../../shared/kafka/types.ts'
import type { Logger } from '../../shared/service/logger.ts'
import { oneOf } from '../../shared/service/one-of.ts'
import { sleep } from '../../shared/service/retry.ts'
import { messageOf } from '../../shared/service/thrown.ts'
import { decode, originIn, traceOf } from '../decode.ts'
import { inOrder } from './in-order.ts'
import type { CUT_REASONS } from './metrics.ts'
import { type Asking, orProblem, type Readers } from './readers.ts'
import { Share, type Sharing } from './shares.ts'
import { partitionsOf, type Stream, topicOf } from './streams.ts'
import { attemptsOf, Failure, failureIn, handlerIn, timeOf } from './view.ts'

/** Outcomes as they are committed, to any number of followers from one read of the log. */

export const OUTCOMES = ['processed', 'dead'] as const

export const Outcome = Type.Object(
  {
    outcome: oneOf(OUTCOMES),
    tenant: Type.String(),
    stream: Type.String(),
    id: Type.Optional(Type.String({ description: 'Absent for what is no event.' })),
    source: Type.Optional(Type.String()),
    type: Type.Optional(Type.String({ description: 'Of the result, where a handler gave it another.' })),
    subject: Type.Optional(Type.String()),
    key: Type.Optional(Type.String()),
    generation: Type.Integer({ minimum: 0 }),
    partition: Type.Integer({ minimum: 0 }),
    offset: Type.Integer({ minimum: 0, description: 'In .processed or .dlq.' }),
    time: Type.String({ format: 'date-time' }),
    handler: Type.Optional(Type.String()),
    error: Type.Optional(Failure),
    failedAttempts: Type.Optional(Type.Integer({ minimum: 1, description: 'At most 10 are known.' })),
    origin: Type.Optional(Type.String()),
    traceId: Type.Optional(Type.String()),
  },
  { title: 'Outcome', description: 'What became of an event.' },
)
export type Outcome = Static<typeof Outcome>

export function outcomeOf(record: IncomingRecord, stream: Pick<Stream, 'tenant' | 'name' | 'input'>): Outcome {
  const decoded = decode(record, originIn(record))
  const isDead = record.topic === topicOf(stream, 'dlq')
  const error = isDead ? failureIn(record) : undefined
  const handler = handlerIn(record)
  const attempts = attemptsOf(record)
  const origin = isDead ? originIn(record) : undefined
  const trace = traceOf(record)
  return {
    outcome: isDead ? 'dead' : 'processed',
    tenant: stream.tenant,
    stream: stream.name,
    ...(decoded.ok ? { id: decoded.event.id, source: decoded.event.source, type: decoded.event.type } : {}),
    ...(decoded.ok && decoded.event.subject !== undefined ? { subject: decoded.event.subject } : {}),
    ...(record.key === null ? {} : { key: record.key.toString() }),
    generation: generationOf(record.headers),
    partition: record.partition,
    offset: record.offset,
    time: timeOf(record.timestampMs),
    ...(handler === undefined ? {} : { handler }),
    ...(error === undefined ? {} : { error }),
    ...(attempts.length === 0 ? {} : { failedAttempts: attempts.length }),
    ...(origin === undefined ? {} : { origin }),
    ...(trace === undefined ? {} : { traceId: trace.traceId }),
  }
}

// ---- positions

/** The next offsets of a stream's `.processed` and `.dlq`, by partition. */
export interface Positions {
  processed: number[]
  dlq: number[]
}

const ROLES = ['processed', 'dlq'] as const

/** The value of `Last-Event-ID`. */
export const encodePositions = ({ processed, dlq }: Positions): string =>
  [processed, dlq].map((offsets) => offsets.map((offset) => offset.toString(36)).join('.')).join('_')

/** undefined for what {@link encodePositions} does not give. */
export function decodePositions(text: string): Positions | undefined {
  const lists = text
    .split('_')
    .map((list) => list.split('.').map((one) => (/^[0-9a-z]{1,11}$/.test(one) ? Number.parseInt(one, 36) : -1)))
  const [processed, dlq] = lists
  if (lists.length !== 2 || processed === undefined || dlq === undefined || processed.length !== dlq.length)
    return undefined
  return [...processed, ...dlq].every((offset) => Number.isSafeInteger(offset) && offset >= 0)
    ? { processed, dlq }
    : undefined
}

const copyOf = ({ processed, dlq }: Positions): Positions => ({ processed: [...processed], dlq: [...dlq] })

// ---- the log's reader for all followers of a stream

/** The most streams that are followed at a time: each takes a client. */
const MAX_HUBS = 50

/** A hub without followers is kept for this long. */
const IDLE_CLOSE_MS = 30_000

/** How often the number of a stream's partitions is looked at. */
const PARTITIONS_INTERVAL_MS = 5_000

/** How often a follower that gets nothing is told its position. */
const HEARTBEAT_MS = 10_000

/** A follower is fed from the log in parts of so many offsets until it has caught up. */
const CATCH_UP_OFFSETS = 2_000

/** How long a follower may read nothing while it catches up. */
const READ_TIMEOUT_MS = 60_000

type CutReason = (typeof CUT_REASONS)[number]

export interface FollowDeps {
  readers: Readers
  /** Makes a client that follows one stream. */
  openReader(stream: Stream): RangeReader
  maxFollowers: number
  sharing: Sharing
  followerMaxBytes: number
  log: Logger
  signal: AbortSignal
  onSent(outcomes: number): void
  onCut(reason: CutReason): void
}

/** Gets each outcome, and the position after it. */
interface Listener {
  /** Outcomes that were read together follow. */
  begin(): void
  take(record: IncomingRecord, outcome: Outcome, at: Positions): void
  cut(reason: CutReason, detail: string): void
}

export class Hubs {
  readonly #hubs = new Map<string, Promise<Hub>>()
  readonly #followers: Share
  /** Streams that are followed, by who was the first to follow each. */
  readonly #followed: Share

  constructor(readonly deps: FollowDeps) {
    this.#followers = new Share(deps.maxFollowers, deps.sharing)
    this.#followed = new Share(MAX_HUBS, deps.sharing)
  }

  get followers(): number {
    return this.#followers.inside
  }

  /** Counts one more. @returns what to call when it is gone @throws ProblemError when there are too many */
  enter(caller: string): () => void {
    const leave = this.#followers.take(caller)
    if (leave !== undefined) return leave
    throw this.#followers.refusal(caller, 'requests that follow outcomes (MAX_FOLLOWERS)', 10)
  }

  /** @param caller whom the stream counts for while it is followed, if nobody follows it yet @throws ProblemError when there are too many */
  async of(stream: Stream, caller: string): Promise<Hub> {
    const { input } = stream
    const known = this.#hubs.get(input)
    if (known !== undefined) return known
    const giveBack = this.#followed.take(caller)
    if (giveBack === undefined) throw this.#followed.refusal(caller, 'streams that are followed', 30)
    const onClosed = (): void => {
      this.#hubs.delete(input)
      giveBack()
    }
    const hub = Hub.open(stream, this.deps, onClosed)
    this.#hubs.set(input, hub)
    hub.catch(onClosed)
    return hub
  }

  async close(): Promise<void> {
    await Promise.all(
      [...this.#hubs.values()].map((hub) =>
        hub.then(
          (opened) => opened.close('draining', 'the service is stopping'),
          () => undefined,
        ),
      ),
    )
  }
}

class Hub {
  readonly #listeners = new Set<Listener>()
  readonly #ending = new AbortController()
  #idle: ReturnType<typeof setTimeout> | undefined
  #frame: { outcome: Outcome; text: string } | undefined
  /** Once it is closed. */
  #end: { reason: CutReason; detail: string } | undefined

  /** @param positions of the next outcomes */
  private constructor(
    readonly stream: Stream,
    readonly positions: Positions,
    readonly deps: FollowDeps,
    readonly reader: RangeReader,
    readonly onClosed: () => void,
  ) {}

  static async open(stream: Stream, deps: FollowDeps, onClosed: () => void): Promise<Hub> {
    const positions = await endsOf(stream, deps.readers)
    const hub = new Hub(stream, positions, deps, deps.openReader(stream), onClosed)
    void hub.#run()
    void hub.#watchPartitions()
    hub.#closeWhenIdle()
    return hub
  }

  async #run(): Promise<void> {
    const { stream, positions, reader, deps } = this
    const from = ROLES.flatMap((role) =>
      partitionsOf(stream, role).map((at) => ({ ...at, offset: positions[role][at.partition] ?? 0 })),
    )
    let why = 'the service is stopping'
    let reason: CutReason = 'draining'
    try {
      await reader.follow(from, (records) => this.#take(records), AbortSignal.any([deps.signal, this.#ending.signal]))
    } catch (error) {
      why = `outcomes cannot be read now: ${messageOf(error)}`
      reason = 'unreadable'
      deps.log.warn({ topic: stream.input, reason: messageOf(error) }, 'outcomes cannot be followed')
    }
    await this.close(reason, why)
  }

  /** Once the stream has more partitions, followers have to connect again, since their positions lack them. */
  async #watchPartitions(): Promise<void> {
    const { stream, deps } = this
    while (this.#end === undefined) {
      await sleep(PARTITIONS_INTERVAL_MS, this.#ending.signal)
      const counts = await Promise.all(ROLES.map((role) => deps.readers.partitions(topicOf(stream, role)))).catch(
        () => [],
      )
      if (counts.length > 0 && Math.min(...counts) > stream.partitions)
        await this.close('draining', 'the stream has more partitions now')
    }
  }

  #take(records: readonly IncomingRecord[]): void {
    for (const listener of this.#listeners) listener.begin()
    for (const record of records) {
      this.positions[roleOf(record, this.stream)][record.partition] = record.offset + 1
      if (this.#listeners.size === 0) continue
      const outcome = outcomeOf(record, this.stream)
      for (const listener of this.#listeners) listener.take(record, outcome, this.positions)
    }
  }

  /** The text of an outcome is the same for all followers that have caught up. */
  frame(outcome: Outcome, at: Positions): string {
    if (this.#frame?.outcome !== outcome)
      this.#frame = { outcome, text: eventOf('outcome', outcome, encodePositions(at)) }
    return this.#frame.text
  }

  /** A listener of a closed hub is cut at once. */
  add(listener: Listener): void {
    if (this.#end !== undefined) {
      listener.cut(this.#end.reason, this.#end.detail)
      return
    }
    clearTimeout(this.#idle)
    this.#listeners.add(listener)
  }

  remove(listener: Listener): void {
    if (this.#listeners.delete(listener) && this.#listeners.size === 0) this.#closeWhenIdle()
  }

  #closeWhenIdle(): void {
    this.#idle = setTimeout(() => void this.close('draining', 'nobody follows'), IDLE_CLOSE_MS)
    this.#idle.unref()
  }

  async close(reason: CutReason, detail: string): Promise<void> {
    if (this.#end !== undefined) return
    this.#end = { reason, detail }
    this.onClosed()
    clearTimeout(this.#idle)
    this.#ending.abort()
    for (const listener of this.#listeners) listener.cut(reason, detail)
    this.#listeners.clear()
    await this.reader.close()
  }
}

const roleOf = ({ topic }: Pick<IncomingRecord, 'topic'>, stream: Stream): (typeof ROLES)[number] =>
  topic === topicOf(stream, 'processed') ? 'processed' : 'dlq'

async function endsOf(stream: Stream, readers: Readers): Promise<Positions> {
  const [processed, dlq] = await Promise.all(ROLES.map((role) => readers.bounds(partitionsOf(stream, role))))
  const ends = (bounds: readonly { to: number }[] | undefined): number[] => (bounds ?? []).map(({ to }) => to)
  return { processed: ends(processed), dlq: ends(dlq) }
}

// ---- one outcome

/**
 * Waits for an outcome.
 * @returns its record; undefined when none that matches was committed in time
 */
export async function nextOutcome(
  hub: Hub,
  matches: (outcome: Outcome) => boolean,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<IncomingRecord | undefined> {
  const { promise, resolve } = Promise.withResolvers<IncomingRecord | undefined>()
  const listener: Listener = {
    begin: () => undefined,
    take: (record, outcome) => {
      if (matches(outcome)) resolve(record)
    },
    cut: () => resolve(undefined),
  }
  hub.add(listener)
  try {
    return await Promise.race([promise, sleep(timeoutMs, signal).then(() => undefined)])
  } finally {
    hub.remove(listener)
  }
}

// ---- server-sent events

const encoder = new TextEncoder()

const eventOf = (name: string, data: unknown, id: string): string =>
  `event: ${name}\nid: ${id}\ndata: ${JSON.stringify(data)}\n\n`

/**
 * The outcomes from a position on as server-sent events (HTML, section 9.2): `outcome` events, whose ids are positions. An `end` event says why the console
 * ends the answer. Each outcome after the position is sent once, in the order of its partition.
 * @param since undefined: from now on
 * @param asking who follows, and until when
 * @param whileAllowed calls back once the client may not read it any more; by default it always may
 * @throws ProblemError when too many follow, or the position is none of this stream
 */
export async function followOutcomes(
  hubs: Hubs,
  stream: Stream,
  since: Positions | undefined,
  matches: (outcome: Outcome) => boolean,
  asking: Asking,
  whileAllowed: WhileAllowed = () => () => undefined,
): Promise<ReadableStream<Uint8Array>> {
  const { deps } = hubs
  const leave = hubs.enter(asking.caller)
  try {
    if (since !== undefined) await demandKnown(stream, since, deps.readers)
    const hub = await hubs.of(stream, asking.caller)
    const endLooks = whileAllowed(({ detail }) => follower.cut('refused', detail))
    const follower: Follower = new Follower(hub, since ?? copyOf(hub.positions), matches, asking, deps, () => {
      leave()
      endLooks()
    })
    return follower.stream
  } catch (error) {
    leave()
    throw error
  }
}

/** @throws ProblemError for a position that this stream never had, or whose outcomes were deleted */
async function demandKnown(stream: Stream, since: Positions, readers: Readers): Promise<void> {
  for (const role of ROLES) {
    const bounds = await readers.bounds(partitionsOf(stream, role))
    const wrong = bounds.findIndex(({ from, to }, partition) => {
      const at = since[role][partition]
      return at !== undefined && (at < from || at > to)
    })
    if (wrong < 0 && since[role].length <= bounds.length) continue
    const { from = 0, to = 0 } = bounds[wrong] ?? {}
    const at = since[role][wrong]
    throw new ProblemError({
      kind: 'unknown-position',
      detail:
        at === undefined
          ? `Last-Event-ID is no position of this stream, which has ${bounds.length} partition${bounds.length === 1 ? '' : 's'}.`
          : at < from
            ? `Outcomes from ${at} to ${from - 1} of ${topicOf(stream, role)}/${wrong} were deleted meanwhile (retention): begin without Last-Event-ID, and look for older ones with /records.`
            : `Last-Event-ID is no position of this stream: ${topicOf(stream, role)}/${wrong} ends at ${to}.`,
      extensions: { resume: encodePositions(await endsOf(stream, readers)) },
    })
  }
}

/** One answer. */
class Follower implements Listener {
  readonly stream: ReadableStream<Uint8Array>
  /** The position after everything that was put into `#queue`. */
  readonly #at: Positions
  /** Text that waits for the client. */
  #queue: string[] = []
  #bytes = 0
  /** The client has taken something. */
  #isRead = false
  /** Until it has caught up, it does not get outcomes from the hub but from the log. */
  #live = false
  /** Outcomes that the hub reads while the follower reads the last part of the log. */
  #meanwhile: { place: TopicPartitionOffset; outcome: Outcome }[] | undefined
  /** Whether it may have outcomes that the hub has not read yet: its position is from another console. */
  #isAhead = true
  #ended = false
  #controller: ReadableStreamDefaultController<Uint8Array> | undefined
  #wanted: (() => void) | undefined
  #told = performance.now()
  readonly #ending = new AbortController()

  constructor(
    readonly hub: Hub,
    at: Positions,
    readonly matches: (outcome: Outcome) => boolean,
    readonly asking: Asking,
    readonly deps: FollowDeps,
    readonly onEnded: () => void,
  ) {
    const { signal: gone } = asking
    this.#at = at
    while (this.#at.processed.length < hub.stream.partitions) this.#at.processed.push(0)
    while (this.#at.dlq.length < hub.stream.partitions) this.#at.dlq.push(0)
    this.stream = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#controller = controller
        },
        pull: () => this.#pull(),
        cancel: () => this.#end(),
      },
      { highWaterMark: 0 },
    )
    gone.addEventListener('abort', () => this.#end(), { once: true })
    if (gone.aborted) this.#end()
    // The first lines go out at once, so that the client knows that it is connected, and its position.
    this.#put(
      `retry: 1000\n: outcomes of ${hub.stream.tenant}/${hub.stream.name}\nid: ${encodePositions(this.#at)}\n\n`,
    )
    if (!this.#ended) hub.add(this)
    void this.#run()
  }

  async #run(): Promise<void> {
    try {
      while (!this.#ended && !this.#live) {
        await this.#catchUp()
        this.#tell()
      }
    } catch (error) {
      this.cut('unreadable', error instanceof ProblemError ? error.problem.detail : messageOf(error))
    }
    while (!this.#ended) {
      await sleep(HEARTBEAT_MS, this.#ending.signal)
      this.#tell()
    }
  }

  /** Its position, where it has been told nothing for long. */
  #tell(): void {
    if (performance.now() - this.#told >= HEARTBEAT_MS) this.#put(`: nothing new\nid: ${encodePositions(this.#at)}\n\n`)
  }

  /** Reads the next part of what is missing from the log. After the last part, the follower gets outcomes from the hub. */
  async #catchUp(): Promise<void> {
    const { hub } = this
    const missing = ROLES.flatMap((role) =>
      partitionsOf(hub.stream, role).flatMap((place) => {
        const from = this.#at[role][place.partition] ?? 0
        const to = hub.positions[role][place.partition] ?? 0
        return from < to ? [{ role, ...place, from, to }] : []
      }),
    )
    const each = Math.max(1, Math.ceil(CATCH_UP_OFFSETS / missing.length))
    const part = missing.map((one) => ({ ...one, to: Math.min(one.to, one.from + each) }))
    // More outcomes may come at any time, so it could try for ever to have them all.
    this.#meanwhile = part.every(({ to }, index) => to === missing[index]?.to) ? [] : undefined
    await this.#read(part)
    for (const { role, partition, to } of part) this.#at[role][partition] = Math.max(to, this.#at[role][partition] ?? 0)
    await this.#room()
    if (this.#meanwhile === undefined) return
    for (const { place, outcome } of this.#meanwhile) if (this.#advance(place)) this.#offer(outcome, this.#frame)
    this.#meanwhile = undefined
    this.#live = true
  }

  async #read(part: readonly Range[]): Promise<void> {
    if (part.length === 0) return
    const { hub, deps, asking } = this
    const signal = AbortSignal.any([this.#ending.signal, deps.signal, AbortSignal.timeout(READ_TIMEOUT_MS)])
    const outcomes: (Place & { outcome: Outcome })[] = []
    // Not the records, whose values may be large.
    const take = (record: IncomingRecord): void => {
      const { topic, partition, offset, timestampMs } = record
      outcomes.push({ topic, partition, offset, timestampMs, outcome: outcomeOf(record, hub.stream) })
    }
    await deps.readers.use({ signal, caller: asking.caller }, (reader) =>
      orProblem(reader.read(part, take, { signal })),
    )
    for (const { outcome, ...place } of inOrder(outcomes, 'oldest')) {
      await this.#room()
      if (this.#ended) return
      if (this.#advance(place)) this.#offer(outcome, this.#frame)
    }
  }

  /** @returns false for an outcome that is before its position */
  #advance(record: TopicPartitionOffset): boolean {
    const next = this.#at[roleOf(record, this.hub.stream)]
    if (record.offset < (next[record.partition] ?? 0)) return false
    next[record.partition] = record.offset + 1
    return true
  }

  /** What comes in one turn does not count: nobody could have read it. */
  begin(): void {
    if (this.#live && this.#bytes > this.deps.followerMaxBytes)
      this.cut('behind', `more than ${this.deps.followerMaxBytes} bytes wait for this client (FOLLOWER_MAX_BYTES)`)
  }

  take(record: IncomingRecord, outcome: Outcome, at: Positions): void {
    if (!this.#live) {
      const { topic, partition, offset } = record
      this.#meanwhile?.push({ place: { topic, partition, offset }, outcome })
      // Too many to keep: they are read from the log.
      if ((this.#meanwhile?.length ?? 0) > CATCH_UP_OFFSETS) this.#meanwhile = undefined
      return
    }
    if (!this.#advance(record)) return
    this.#isAhead &&= ROLES.some((role) =>
      this.#at[role].some((offset, partition) => offset > (at[role][partition] ?? 0)),
    )
    this.#offer(outcome, this.#isAhead ? this.#frame : (one) => this.hub.frame(one, at))
  }

  readonly #frame = (outcome: Outcome): string => eventOf('outcome', outcome, encodePositions(this.#at))

  #offer(outcome: Outcome, frame: (outcome: Outcome) => string): void {
    if (this.#ended || !this.matches(outcome)) return
    this.#put(frame(outcome))
    this.deps.onSent(1)
  }

  #put(text: string): void {
    if (this.#ended) return
    this.#told = performance.now()
    this.#queue.push(text)
    this.#bytes += text.length
    this.#wanted?.()
  }

  /** Waits until the client has read most of what is there. */
  async #room(): Promise<void> {
    while (!this.#ended && this.#bytes > this.deps.followerMaxBytes / 2) await sleep(ROOM_PAUSE_MS, this.#ending.signal)
  }

  async #pull(): Promise<void> {
    if (this.#queue.length === 0 && !this.#ended)
      await new Promise<void>((resolve) => {
        this.#wanted = resolve
      })
    this.#wanted = undefined
    this.#flush()
  }

  #flush(): void {
    if (this.#queue.length > 0) {
      this.#controller?.enqueue(encoder.encode(this.#queue.join('')))
      this.#queue = []
      this.#bytes = 0
      this.#isRead = true
    }
    if (this.#ended) this.#close()
  }

  #close(): void {
    const controller = this.#controller
    this.#controller = undefined
    try {
      controller?.close()
    } catch {
      // The client is gone.
    }
  }

  /** Ends the answer and says why. What waits for a client that is behind is dropped, but for where it began: it resumes from what it has. */
  cut(reason: CutReason, detail: string): void {
    if (this.#ended) return
    if (reason === 'behind' || reason === 'refused') this.#queue = this.#isRead ? [] : this.#queue.slice(0, 1)
    this.#queue.push(
      `event: end\ndata: ${JSON.stringify({ reason, detail, advice: reason === 'refused' ? 'Connect again with a key that may.' : RESUME })}\n\n`,
    )
    this.deps.onCut(reason)
    this.#end()
  }

  #end(): void {
    if (this.#ended) return
    this.#ended = true
    this.#ending.abort()
    this.hub.remove(this)
    this.onEnded()
    this.#wanted?.()
  }
}

const RESUME = 'Connect again with the last id as Last-Event-ID: nothing is lost or repeated.'

/** How often a follower that catches up is looked at for room. */
const ROOM_PAUSE_MS = 10

type Place = Pick<IncomingRecord, 'topic' | 'partition' | 'offset' | 'timestampMs'>
