import { type Static, Type } from '@sinclair/typebox'
import { headerText, ORIGIN, REDRIVEN_FROM, TRACEPARENT } from '../../shared/events/headers.ts'
import { eventIdentity, generationOf } from '../../shared/events/identity.ts'
import { murmur2, partitionOfHash } from '../../shared/events/partition.ts'
import type { IncomingRecord } from '../../shared/events/record.ts'
import type { RangeReader, RecordFilter, TopicPartition } from '../../shared/kafka/types.ts'
import { oneOf } from '../../shared/service/one-of.ts'
import { decode, originIn, placeIn, traceOf } from '../decode.ts'
import { LetterAct } from './acts-log.ts'
import type { Readers } from './readers.ts'
import { recordAt } from './record-at.ts'
import { type Budget, isComplete, merged, Searched, scan, type Wanted } from './scan.ts'
import { partitionsOf, type Stream, topicOf } from './streams.ts'
import { SKEW_MS, type Trail, trailOf } from './trail.ts'
import { Attempt, attemptsOf, Failure, failureIn, Place, placeOf, RecordView, type Showing, viewOf } from './view.ts'

/** What became of an event, found from the log alone. */

export const STATES = ['processed', 'dead', 'waiting', 'pending', 'unknown'] as const
export type State = (typeof STATES)[number]

const StateSchema = oneOf(STATES, {
  description:
    'processed, dead: its outcome is committed. waiting: a record of it is in .retry, and no outcome was found. pending: no consumer has committed it yet. unknown: it is committed, and no outcome was found.',
})

export const GenerationView = Type.Object(
  {
    generation: Type.Integer({ minimum: 0 }),
    state: StateSchema,
    record: Type.Optional(RecordView),
    places: Type.Array(Place, { description: 'Everywhere it was found, in the order of time.' }),
    repeats: Type.Array(Place, {
      description: 'Later records of the same event, as far as the search came across them: they take no effect.',
    }),
    attempts: Type.Array(Attempt, { description: 'The last failed attempts, oldest first.' }),
    waiting: Type.Optional(
      Type.Object(Failure.properties, { description: 'Of an event that is waiting: why it was put into .retry.' }),
    ),
    outcome: Type.Optional(RecordView),
    act: Type.Optional(LetterAct),
  },
  { title: 'Generation', description: 'An event as it came in, or one redrive of it, with what became of it.' },
)
export type GenerationView = Static<typeof GenerationView>

export const Life = Type.Object(
  {
    tenant: Type.String(),
    stream: Type.String(),
    id: Type.Optional(Type.String()),
    source: Type.Optional(Type.String()),
    type: Type.Optional(Type.String()),
    subject: Type.Optional(Type.String()),
    traceId: Type.Optional(Type.String()),
    state: StateSchema,
    generations: Type.Array(GenerationView, { description: 'As it came in, then its redrives.' }),
  },
  { title: 'EventLife', description: 'One event, from its record to its outcome.' },
)
export type Life = Static<typeof Life>

export const Found = Type.Object(
  {
    events: Type.Array(Life, {
      description: 'Newest first. Several where events share a trace; of an id, the one that was found first.',
    }),
    complete: Type.Boolean({
      description:
        'Everything that could hold such a record was searched; false: the search ended once it had found one, or at a limit.',
    }),
    searched: Type.Array(Searched, { description: 'In the stream’s own topic; `complete` is about that, too.' }),
    seconds: Type.Number(),
  },
  { title: 'FoundEvents' },
)
export type Found = Static<typeof Found>

/** What is known of the event. */
export interface Query {
  id?: string | undefined
  traceId?: string | undefined
  receipt?: { partition: number; offset: number } | undefined
  source?: string | undefined
  /** The record's key; empty: the event has none. */
  key?: string | undefined
  fromMs?: number | undefined
  toMs?: number | undefined
}

export interface LifeDeps {
  readers: Readers
  /** The letter's act, as of the end of the acts topic. */
  actOf(stream: Stream, letter: { partition: number; offset: number }): Promise<LetterAct | undefined>
}

/** The most events of one answer, and generations of one event. */
const MAX_EVENTS = 10
const MAX_GENERATIONS = 50

/** An id that is a UUIDv7 is looked for in the minutes after its time first, then later, and then in the hour before it, since clocks differ. */
const MADE_BEFORE_MS = 100
const SOON_MS = 600_000
const EARLIEST_BEFORE_MS = 3_600_000

/** Finds events and what became of them. @throws ProblemError when Kafka cannot be read */
export async function find(
  stream: Stream,
  query: Query,
  showing: Showing,
  budget: Budget,
  deps: LifeDeps,
): Promise<Found> {
  const begunMs = performance.now()
  return deps.readers.use(budget, async (reader) => {
    const { records, searched } = await originals(stream, query, reader, budget, deps.readers)
    const events = Map.groupBy(records, identityOfAll)
    const lives: Life[] = []
    for (const copies of [...events.values()].slice(0, MAX_EVENTS))
      lives.push(await lifeOf(stream, copies, showing, reader, budget, deps))
    return {
      events: lives,
      complete: isComplete(searched) && events.size <= MAX_EVENTS,
      searched: merged(searched),
      seconds: Number(((performance.now() - begunMs) / 1000).toFixed(3)),
    }
  })
}

/** Of all generations of an event. */
function identityOfAll(record: IncomingRecord): string {
  const decoded = decode(record, originIn(record))
  return decoded.ok ? eventIdentity(decoded.event.source, decoded.event.id) : decoded.identity
}

// ---- finding the event

interface Originals {
  /** Newest first. */
  records: IncomingRecord[]
  searched: Searched[]
}

async function originals(
  stream: Stream,
  query: Query,
  reader: RangeReader,
  budget: Budget,
  readers: Readers,
): Promise<Originals> {
  const found: IncomingRecord[] = []
  const all: Searched[] = []
  const matches = matcherOf(query)
  const most = query.traceId === undefined ? 1 : MAX_EVENTS
  for (const { order, wanted } of await phases(stream, query, readers)) {
    const searched = await scan(
      reader,
      wanted,
      {
        order,
        filter: filterOf(query),
        budget,
        readers,
        isDone: () => found.length >= most,
        isEnough: () => found.length >= most,
      },
      (record) => {
        if (matches(record)) found.push(record)
      },
    )
    all.push(...searched)
  }
  found.sort((a, b) => b.timestampMs - a.timestampMs || b.offset - a.offset)
  return { records: found, searched: all }
}

const filterOf = ({ id, traceId }: Query): RecordFilter | undefined => {
  if (id !== undefined) return { headers: [{ name: 'ce_id', value: id, how: 'equals' }] }
  if (traceId !== undefined) return { headers: [{ name: TRACEPARENT, value: traceId, how: 'contains' }] }
  return undefined
}

function matcherOf({ id, traceId, source, receipt }: Query): (record: IncomingRecord) => boolean {
  if (receipt !== undefined)
    return ({ partition, offset }) => partition === receipt.partition && offset === receipt.offset
  if (traceId !== undefined) return (record) => traceOf(record)?.traceId === traceId
  return (record) => {
    const decoded = decode(record)
    return decoded.ok && decoded.event.id === id && (source === undefined || decoded.event.source === source)
  }
}

interface Phase {
  order: 'newest' | 'oldest'
  wanted: Wanted[]
}

/** Where to look, the likeliest first. Together these are everything that could hold the record. */
async function phases(stream: Stream, query: Query, readers: Readers): Promise<Phase[]> {
  const places = partitionsOf(stream, 'input')
  if (query.receipt !== undefined) {
    const { partition, offset } = query.receipt
    const at = places[partition]
    if (at === undefined) return []
    const [bounds] = await readers.bounds([at])
    const isThere = bounds !== undefined && offset >= bounds.from && offset < bounds.to
    return [{ order: 'newest', wanted: [{ ...at, from: offset, to: isThere ? offset + 1 : offset }] }]
  }
  const likely = likelyPartitions(stream, query)
  const phasesOf = async (some: readonly TopicPartition[]): Promise<Phase[]> => {
    if (some.length === 0) return []
    const bounds = await readers.bounds(some)
    const atTime = async (ms: number | undefined) =>
      ms === undefined ? undefined : readers.offsetsAt(some, ms, bounds)
    const madeMs = query.id === undefined ? undefined : timeOfUuid(query.id)
    const [first, last, before, after] = await Promise.all([
      atTime(query.fromMs ?? (madeMs === undefined ? undefined : madeMs - EARLIEST_BEFORE_MS)),
      atTime(query.toMs),
      atTime(madeMs === undefined ? undefined : madeMs - MADE_BEFORE_MS),
      atTime(madeMs === undefined ? undefined : madeMs + SOON_MS),
    ])
    const within = (from: readonly number[] | undefined, to: readonly number[] | undefined): Wanted[] =>
      some.map((at, index) => {
        const { from: lowest = 0, to: highest = 0 } = bounds[index] ?? {}
        const least = Math.max(lowest, first?.[index] ?? lowest)
        const most = Math.min(highest, last?.[index] ?? highest)
        const clamped = (offset: number): number => Math.max(least, Math.min(most, offset))
        return { ...at, from: clamped(from?.[index] ?? least), to: clamped(to?.[index] ?? most) }
      })
    if (before === undefined || after === undefined) return [{ order: 'newest', wanted: within(undefined, undefined) }]
    return [
      { order: 'oldest', wanted: within(before, after) },
      { order: 'newest', wanted: within(after, undefined) },
      { order: 'newest', wanted: within(undefined, before) },
    ]
  }
  if (likely === undefined) return phasesOf(places)
  const others = likely.certain ? [] : places.filter(({ partition }) => partition !== likely.partition)
  return [
    ...(await phasesOf(places.filter(({ partition }) => partition === likely.partition))),
    ...(await phasesOf(others)),
  ]
}

/** The partition that follows from what is given; not certain where the event may have a key. */
function likelyPartitions(
  { partitions }: Stream,
  { id, source, key }: Query,
): { partition: number; certain: boolean } | undefined {
  const of = (text: string): number => partitionOfHash(murmur2(Buffer.from(text)), partitions)
  if (key !== undefined && key !== '') return { partition: of(key), certain: true }
  if (id === undefined || source === undefined) return undefined
  return { partition: of(eventIdentity(source, id)), certain: key === '' }
}

const UUID7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i

/** RFC 9562, section 5.7: ms since the epoch; undefined for another id, and for a time in the future. */
export function timeOfUuid(id: string, nowMs = Date.now()): number | undefined {
  if (!UUID7.test(id)) return undefined
  const ms = Number.parseInt(id.replace('-', '').slice(0, 12), 16)
  return ms > nowMs + EARLIEST_BEFORE_MS ? undefined : ms
}

// ---- its life

async function lifeOf(
  stream: Stream,
  copies: readonly IncomingRecord[],
  showing: Showing,
  reader: RangeReader,
  budget: Budget,
  deps: LifeDeps,
): Promise<Life> {
  const tracker = new Tracker(stream, reader, budget, deps)
  await tracker.begin(copies)
  const generations: GenerationView[] = []
  for (let generation = tracker.first; generations.length < MAX_GENERATIONS; generation++) {
    const view = await tracker.generation(generation, showing)
    if (view === undefined) break
    generations.push(view)
  }
  const [newest] = copies
  const decoded = newest === undefined ? undefined : decode(newest, originIn(newest))
  const traceId = newest && traceOf(newest)?.traceId
  return {
    tenant: stream.tenant,
    stream: stream.name,
    ...(decoded?.ok === true
      ? {
          id: decoded.event.id,
          source: decoded.event.source,
          type: decoded.event.type,
          ...(decoded.event.subject === undefined ? {} : { subject: decoded.event.subject }),
        }
      : {}),
    ...(traceId === undefined ? {} : { traceId }),
    state: generations.at(-1)?.state ?? 'unknown',
    generations,
  }
}

/** Follows one event through the topics of its stream. */
class Tracker {
  first = 0
  /** Input records by generation, in the order of offsets. */
  readonly #inputs = new Map<number, IncomingRecord[]>()
  /** The generation's dead letter, once it was redriven. */
  #redriven: { generation: number; partition: number; sinceMs: number } | undefined
  #filter: RecordFilter | undefined

  constructor(
    readonly stream: Stream,
    readonly reader: RangeReader,
    readonly budget: Budget,
    readonly deps: LifeDeps,
  ) {}

  async begin(copies: readonly IncomingRecord[]): Promise<void> {
    for (const record of copies) this.#add(record)
    const [any] = copies
    if (any === undefined) return
    const decoded = decode(any, originIn(any))
    if (decoded.ok) this.#filter = { headers: [{ name: 'ce_id', value: decoded.event.id, how: 'equals' }] }
    this.first = Math.min(...this.#inputs.keys())
    // A redrive names its dead letter, and that names its original.
    while (this.first > 0) {
      const [redrive] = this.#inputs.get(this.first) ?? []
      const letter = redrive && (await this.#at(headerText(redrive.headers, REDRIVEN_FROM)))
      const original = letter && (await this.#at(headerText(letter.headers, ORIGIN)))
      if (original === undefined || generationOf(original.headers) !== this.first - 1) return
      this.#add(original)
      this.first--
    }
  }

  #add(record: IncomingRecord): void {
    const generation = generationOf(record.headers)
    const known = this.#inputs.get(generation) ?? []
    if (known.some(({ partition, offset }) => partition === record.partition && offset === record.offset)) return
    known.push(record)
    known.sort((a, b) => a.partition - b.partition || a.offset - b.offset)
    this.#inputs.set(generation, known)
  }

  /** The record at `TOPIC/PARTITION/OFFSET`, if that is of this stream. */
  async #at(text: string | undefined): Promise<IncomingRecord | undefined> {
    const place = placeIn(text)
    if (place === undefined || place.partition >= this.stream.partitions) return undefined
    if (place.topic !== topicOf(this.stream, 'input') && place.topic !== topicOf(this.stream, 'dlq')) return undefined
    return recordAt(place, place.offset, this.reader, this.budget, this.deps.readers)
  }

  async generation(generation: number, showing: Showing): Promise<GenerationView | undefined> {
    if (!this.#inputs.has(generation)) await this.#findRedrive(generation)
    const [record, ...repeats] = this.#inputs.get(generation) ?? []
    if (record === undefined) return undefined
    const { stream, reader, budget, deps } = this
    const trail = await trailOf(stream, record, this.#filter, reader, budget, deps.readers)
    const letter = trail.outcome?.topic === topicOf(this.stream, 'dlq') ? trail.outcome : undefined
    const act = letter && (await this.deps.actOf(this.stream, letter))
    if (letter !== undefined && act?.act === 'redrive')
      this.#redriven = { generation: generation + 1, partition: letter.partition, sinceMs: Date.parse(act.time) }
    const copies = [record, ...trail.retries, ...(trail.outcome === undefined ? [] : [trail.outcome])]
    const last = trail.outcome ?? trail.retries.at(-1)
    const state = stateOf(stream, trail)
    const waiting = state === 'waiting' && last !== undefined ? failureIn(last) : undefined
    return {
      generation,
      state,
      record: viewOf(record, showing),
      places: copies.map(placeOf).sort((a, b) => a.time.localeCompare(b.time)),
      repeats: repeats.map(placeOf),
      attempts: last === undefined ? [] : attemptsOf(last),
      ...(waiting === undefined ? {} : { waiting }),
      ...(trail.outcome === undefined ? {} : { outcome: viewOf(trail.outcome, showing) }),
      ...(act === undefined ? {} : { act }),
    }
  }

  /** The input record of a redrive. Where it is follows from the dead letter and the time of the act. */
  async #findRedrive(generation: number): Promise<void> {
    const { partition, sinceMs, generation: next } = this.#redriven ?? {}
    if (partition === undefined || sinceMs === undefined || next !== generation) return
    const at = { topic: this.stream.input, partition }
    const bounds = await this.deps.readers.bounds([at])
    const [from = bounds[0]?.from ?? 0] = (await this.deps.readers.offsetsAt([at], sinceMs - SKEW_MS, bounds)) ?? []
    const isEnough = (): boolean => this.#inputs.has(generation)
    await scan(
      this.reader,
      [{ ...at, from, to: bounds[0]?.to ?? from }],
      { order: 'oldest', filter: this.#filter, budget: this.budget, isEnough },
      (record) => {
        if (generationOf(record.headers) === generation && this.#isOfEvent(record)) this.#add(record)
      },
    )
  }

  #isOfEvent(record: IncomingRecord): boolean {
    const [any] = [...this.#inputs.values()].flat()
    return any !== undefined && identityOfAll(any) === identityOfAll(record)
  }
}

function stateOf(stream: Stream, { outcome, retries, isCommitted }: Trail): State {
  if (outcome !== undefined) return outcome.topic === topicOf(stream, 'dlq') ? 'dead' : 'processed'
  if (retries.length > 0) return 'waiting'
  return isCommitted ? 'unknown' : 'pending'
}
