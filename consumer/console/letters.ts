import { type Static, Type } from '@sinclair/typebox'
import { ERROR } from '../../shared/events/headers.ts'
import type { IncomingRecord } from '../../shared/events/record.ts'
import type { RangeReader, RecordFilter } from '../../shared/kafka/types.ts'
import { oneOf } from '../../shared/service/one-of.ts'
import { decode, originIn } from '../decode.ts'
import { type ActsState, LetterAct, type LetterFilter } from './acts-log.ts'
import { LETTER_STATES, type LetterState } from './names.ts'
import type { Readers } from './readers.ts'
import { type Budget, isComplete, merged, Searched, scan, type Wanted } from './scan.ts'
import { partitionsOf, type Stream } from './streams.ts'
import { failureIn, RecordView, timeOf } from './view.ts'

/** Dead letters: which there are, and which a filter matches. */

const StateSchema = oneOf(LETTER_STATES, {
  description: 'open: nothing was done to it yet.',
})

export const Letter = Type.Object(
  { state: StateSchema, act: Type.Optional(LetterAct), letter: RecordView },
  { title: 'DeadLetter', description: 'A dead letter, and what was done to it.' },
)

export const LetterGroup = Type.Object(
  {
    reason: Type.String(),
    type: Type.Optional(Type.String({ description: 'Absent for what is no event.' })),
    handler: Type.Optional(Type.String()),
    state: StateSchema,
    count: Type.Integer({ minimum: 1 }),
    firstTime: Type.String({ format: 'date-time' }),
    lastTime: Type.String({ format: 'date-time' }),
    newest: Type.Object(
      { partition: Type.Integer(), offset: Type.Integer(), id: Type.Optional(Type.String()) },
      { description: 'The newest letter of the group.' },
    ),
    message: Type.String({ description: 'Of the newest.' }),
    counts: Type.Array(Type.Integer({ minimum: 0 }), { description: 'By bucket of time, oldest first.' }),
  },
  { title: 'DeadLetterGroup' },
)
type LetterGroup = Static<typeof LetterGroup>

export const LetterGroups = Type.Object(
  {
    groups: Type.Array(LetterGroup, { description: 'Largest first.' }),
    letters: Type.Integer({ minimum: 0 }),
    buckets: Type.Array(Type.String({ format: 'date-time' }), { description: 'When each bucket of `counts` begins.' }),
    bucketSeconds: Type.Integer({ minimum: 1 }),
    complete: Type.Boolean({
      description: 'false: the search ended at a limit, and the oldest letters are not counted.',
    }),
    searched: Type.Array(Searched),
  },
  { title: 'DeadLetterGroups' },
)
export type LetterGroups = Static<typeof LetterGroups>

/** Buckets of time have one of these lengths, so that at most {@link MAX_BUCKETS} are needed. */
const BUCKET_SECONDS = [60, 300, 900, 3_600, 21_600, 86_400, 604_800] as const
const MAX_BUCKETS = 60

/** The most groups of one answer, and that are counted. */
const MAX_GROUPS = 200
const MAX_COUNTED_GROUPS = 5_000

export const stateOf = (act: LetterAct | undefined): LetterState =>
  act === undefined ? 'open' : act.act === 'redrive' ? 'redriven' : 'discarded'

/** What a filter's headers must be, for the filter of the addon; the rest is checked by {@link matcherOf}. */
export function nativeFilter({ reason, type, source, subject, id }: LetterFilter): RecordFilter {
  const headers: { name: string; value: string; how: 'equals' | 'contains' }[] = []
  if (reason !== undefined) headers.push({ name: ERROR, value: `"reason":${JSON.stringify(reason)}`, how: 'contains' })
  if (type?.endsWith('*') === true) headers.push({ name: 'ce_type', value: type.slice(0, -1), how: 'contains' })
  else if (type !== undefined) headers.push({ name: 'ce_type', value: type, how: 'equals' })
  if (source !== undefined) headers.push({ name: 'ce_source', value: source, how: 'equals' })
  if (subject !== undefined) headers.push({ name: 'ce_subject', value: subject, how: 'equals' })
  if (id !== undefined) headers.push({ name: 'ce_id', value: id, how: 'equals' })
  return { headers }
}

/** A final * stands for anything. */
export const typeMatches = (wanted: string, type: string): boolean =>
  wanted.endsWith('*') ? type.startsWith(wanted.slice(0, -1)) : type === wanted

/** Whether a filter matches a letter. */
export function matcherOf(filter: LetterFilter): (record: IncomingRecord) => boolean {
  const { reason, handler, type, source, subject, id, from, to } = filter
  const [fromMs, toMs] = [from, to].map((time) => (time === undefined ? undefined : Date.parse(time)))
  return (record) => {
    const failure = failureIn(record)
    if (reason !== undefined && failure?.reason !== reason) return false
    if (handler !== undefined && failure?.handler !== handler && failure?.handler?.split('@')[0] !== handler)
      return false
    if (fromMs !== undefined && record.timestampMs < fromMs) return false
    if (toMs !== undefined && record.timestampMs >= toMs) return false
    if (type === undefined && source === undefined && subject === undefined && id === undefined) return true
    const decoded = decode(record, originIn(record))
    if (!decoded.ok) return false
    const { event } = decoded
    return (
      (type === undefined || typeMatches(type, event.type)) &&
      (source === undefined || event.source === source) &&
      (subject === undefined || event.subject === subject) &&
      (id === undefined || event.id === id)
    )
  }
}

/** The offsets of `.dlq` that a filter's times leave, up to now. */
export async function letterRanges(stream: Stream, { from, to }: LetterFilter, readers: Readers): Promise<Wanted[]> {
  const places = partitionsOf(stream, 'dlq')
  const bounds = await readers.bounds(places)
  const at = async (time: string | undefined) =>
    time === undefined ? undefined : readers.offsetsAt(places, Date.parse(time), bounds)
  const [first, last] = await Promise.all([at(from), at(to)])
  return places.map((place, index) => {
    const { from: lowest = 0, to: highest = 0 } = bounds[index] ?? {}
    const begin = Math.max(lowest, first?.[index] ?? lowest)
    return { ...place, from: begin, to: Math.max(begin, Math.min(highest, last?.[index] ?? highest)) }
  })
}

/** Counts the letters that a filter matches, by reason, type, handler and state. */
export async function groupLetters(
  stream: Stream,
  filter: LetterFilter,
  states: readonly LetterState[],
  acts: ActsState,
  reader: RangeReader,
  budget: Budget,
  readers: Readers,
): Promise<LetterGroups> {
  const matches = matcherOf(filter)
  const groups = new Map<
    string,
    Omit<LetterGroup, 'counts' | 'firstTime' | 'lastTime'> & { newestMs: number; timesMs: number[] }
  >()
  let letters = 0
  let isCut = false
  const searched = await scan(
    reader,
    await letterRanges(stream, filter, readers),
    { order: 'newest', filter: nativeFilter(filter), budget },
    (record) => {
      if (!matches(record)) return
      const state = stateOf(acts.actOf(record))
      if (!states.includes(state)) return
      letters++
      const { reason = 'unknown', handler, message = '' } = failureIn(record) ?? {}
      const decoded = decode(record, originIn(record))
      const type = decoded.ok ? decoded.event.type : undefined
      const key = JSON.stringify([reason, type, handler, state])
      const group = groups.get(key)
      const newest = {
        partition: record.partition,
        offset: record.offset,
        ...(decoded.ok ? { id: decoded.event.id } : {}),
      }
      if (group === undefined && groups.size >= MAX_COUNTED_GROUPS) isCut = true
      else if (group === undefined)
        groups.set(key, {
          reason,
          ...(type === undefined ? {} : { type }),
          ...(handler === undefined ? {} : { handler }),
          state,
          count: 1,
          newest,
          message,
          newestMs: record.timestampMs,
          timesMs: [record.timestampMs],
        })
      else {
        group.count++
        if (record.timestampMs >= group.newestMs)
          Object.assign(group, { newest, message, newestMs: record.timestampMs })
        group.timesMs.push(record.timestampMs)
      }
    },
  )
  const all = [...groups.values()].sort((a, b) => b.count - a.count)
  const { buckets, bucketSeconds, place } = bucketsOf(all.flatMap(({ timesMs }) => timesMs))
  return {
    groups: all.slice(0, MAX_GROUPS).map(({ timesMs, newestMs: _, ...group }) => {
      const counts = new Array<number>(buckets.length).fill(0)
      let [first, last] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
      for (const ms of timesMs) {
        counts[place(ms)] = (counts[place(ms)] ?? 0) + 1
        first = Math.min(first, ms)
        last = Math.max(last, ms)
      }
      return { ...group, firstTime: timeOf(first), lastTime: timeOf(last), counts }
    }),
    letters,
    buckets: buckets.map(timeOf),
    bucketSeconds,
    complete: isComplete(searched) && !isCut && all.length <= MAX_GROUPS,
    searched: merged(searched),
  }
}

function bucketsOf(timesMs: readonly number[]): {
  buckets: number[]
  bucketSeconds: number
  place(ms: number): number
} {
  let [first, last] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
  for (const ms of timesMs) {
    first = Math.min(first, ms)
    last = Math.max(last, ms)
  }
  const needed = (seconds: number): number => Math.floor(last / seconds / 1000) - Math.floor(first / seconds / 1000) + 1
  const bucketSeconds =
    BUCKET_SECONDS.find((seconds) => needed(seconds) <= MAX_BUCKETS) ??
    Math.ceil((last - first) / (MAX_BUCKETS - 1) / 1000)
  if (timesMs.length === 0) return { buckets: [], bucketSeconds: BUCKET_SECONDS[0], place: () => 0 }
  const begin = Math.floor(first / bucketSeconds / 1000)
  return {
    buckets: Array.from({ length: needed(bucketSeconds) }, (_, index) => (begin + index) * bucketSeconds * 1000),
    bucketSeconds,
    place: (ms) => Math.floor(ms / bucketSeconds / 1000) - begin,
  }
}
