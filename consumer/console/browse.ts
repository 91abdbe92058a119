import { type Static, Type } from '@sinclair/typebox'
import { headerText } from '../../shared/events/headers.ts'
import type { IncomingRecord } from '../../shared/events/record.ts'
import { ProblemError } from '../../shared/http/problem.ts'
import type { RangeReader, RecordFilter } from '../../shared/kafka/types.ts'
import { decode, originIn } from '../decode.ts'
import type { LetterFilter } from './acts-log.ts'
import { inOrder } from './in-order.ts'
import { jsonOf, valueAt } from './json.ts'
import { matcherOf, nativeFilter } from './letters.ts'
import type { RoleOfTopic } from './names.ts'
import type { Readers } from './readers.ts'
import { type Budget, isComplete, merged, Searched, scan, type Wanted } from './scan.ts'
import { partitionsOf, type Stream } from './streams.ts'
import { RecordView, type Showing, viewOf } from './view.ts'

/** A page of records of one of a stream's topics. */

export const Page = Type.Object(
  {
    records: Type.Array(RecordView, { description: 'In the order asked for, by time.' }),
    cursor: Type.Optional(
      Type.String({
        description: 'Give it as `cursor`, with the same filters, for the next page. Absent: there is none.',
      }),
    ),
    complete: Type.Boolean({
      description: 'false: the search ended at a limit before the page was full; go on with the cursor.',
    }),
    searched: Type.Array(Searched),
  },
  { title: 'Page', description: 'A page of records.' },
)
export type Page = Static<typeof Page>

export const ORDERS = ['newest', 'oldest'] as const
export type Order = (typeof ORDERS)[number]

export interface BrowseQuery {
  role: RoleOfTopic
  order: Order
  limit: number
  partition?: number | undefined
  /** The first offset, with a partition. */
  offset?: number | undefined
  cursor?: string | undefined
  filter: LetterFilter
  headers: readonly { name: string; value: string }[]
  /** RFC 6901 pointers into the data, and the values there as text. */
  where: readonly { pointer: string; value: string }[]
}

/** @throws ProblemError for a cursor that is none of this stream */
export async function browse(
  stream: Stream,
  query: BrowseQuery,
  showing: Showing,
  reader: RangeReader,
  budget: Budget,
  readers: Readers,
): Promise<Page> {
  const { order, limit } = query
  const wanted = await wantedOf(stream, query, readers)
  const matches = matcher(query)
  const found = new PageRecords(query, showing)
  const searched = await scan(
    reader,
    wanted,
    // With fewer in one partition than fit, older ones of another could belong between them.
    { order, filter: filterOf(query), budget, isDone: (now) => found.isFull(now) },
    (record) => {
      if (matches(record)) found.add(record)
    },
  )
  const shown = found.shown()
  const next = searched.map(
    ({ partition, searched: done }) => found.nextOf(partition) ?? (order === 'newest' ? done.from : done.to),
  )
  const isOver = next.every((offset, index) => {
    const { from, to } = (wanted[index] as Wanted) ?? {}
    return order === 'newest' ? offset <= from : offset >= to
  })
  return {
    records: shown,
    ...(isOver ? {} : { cursor: encodeCursor(query, wanted, next) }),
    complete: shown.length === limit || isComplete(searched),
    searched: merged(searched),
  }
}

type Place = Pick<IncomingRecord, 'topic' | 'timestampMs' | 'partition' | 'offset'>

/** So much may wait for being sorted. */
const MAX_WAITING_RECORDS = 2_000
const MAX_WAITING_BYTES = 8 * 2 ** 20

/** The records of a page. Those that were found beside them are not kept: only where they are. */
export class PageRecords {
  #kept: (Place & { show: () => RecordView })[] = []
  #waiting = 0
  #waitingBytes = 0
  /** By partition: how many were found, and the offset of the first, in the order, that is not shown. */
  readonly #counts = new Map<number, number>()
  readonly #left = new Map<number, number>()

  constructor(
    readonly query: Pick<BrowseQuery, 'limit' | 'order'>,
    readonly showing: Showing,
  ) {}

  add(record: IncomingRecord): void {
    const { topic, partition, offset, timestampMs } = record
    this.#counts.set(partition, (this.#counts.get(partition) ?? 0) + 1)
    // Behind one that is left for the next page, so are all others of its partition.
    const left = this.#left.get(partition)
    if (left !== undefined && (this.query.order === 'newest' ? offset < left : offset > left)) return
    this.#kept.push({ topic, partition, offset, timestampMs, show: () => viewOf(record, this.showing) })
    this.#waiting++
    this.#waitingBytes += record.value?.length ?? 0
    if (this.#waiting >= MAX_WAITING_RECORDS || this.#waitingBytes >= MAX_WAITING_BYTES) this.#settle()
  }

  /** Whether each partition that is not searched to its end has given as many records as a page has. */
  isFull(searched: readonly Searched[]): boolean {
    const { limit } = this.query
    const total = [...this.#counts.values()].reduce((sum, count) => sum + count, 0)
    return (
      total >= limit && searched.every((one) => isComplete([one]) || (this.#counts.get(one.partition) ?? 0) >= limit)
    )
  }

  shown(): RecordView[] {
    this.#settle()
    return this.#kept.map(({ show }) => show())
  }

  /** Where the next page begins in a partition; undefined where all that was found is shown. */
  nextOf(partition: number): number | undefined {
    const left = this.#left.get(partition)
    return left === undefined || this.query.order === 'oldest' ? left : left + 1
  }

  #settle(): void {
    const { order, limit } = this.query
    this.#kept = inOrder(this.#kept, order)
    for (const { partition, offset } of this.#kept.splice(limit)) {
      const left = this.#left.get(partition) ?? offset
      this.#left.set(partition, order === 'newest' ? Math.max(left, offset) : Math.min(left, offset))
    }
    // Records themselves take more memory than what is shown of them.
    for (const one of this.#kept) {
      const view = one.show()
      one.show = () => view
    }
    this.#waiting = 0
    this.#waitingBytes = 0
  }
}

type Pages = Pick<BrowseQuery, 'role' | 'order'>

/** A position in the log: `TOPIC-ORDER.PARTITION-OFFSET-END…`, so that records that come meanwhile move nothing. */
const encodeCursor = ({ role, order }: Pages, wanted: readonly Wanted[], next: readonly number[]): string =>
  [
    `${role}-${order}`,
    ...wanted.map(({ partition, from, to }, index) =>
      [partition, next[index] ?? 0, order === 'newest' ? from : to].map((one) => one.toString(36)).join('-'),
    ),
  ].join('.')

function decodeCursor(
  cursor: string,
  { role, order }: Pages,
  partitions: number,
): { partition: number; next: number; end: number }[] {
  const [kind, ...parts] = cursor.split('.')
  const positions = parts.map((part) => part.split('-').map((one) => Number.parseInt(one, 36)))
  const isSound =
    kind === `${role}-${order}` &&
    parts.length > 0 &&
    positions.every(
      (one) =>
        one.length === 3 &&
        one.every((number) => Number.isSafeInteger(number) && number >= 0) &&
        (one[0] ?? 0) < partitions,
    )
  if (!isSound)
    throw new ProblemError({
      kind: 'invalid-parameters',
      detail: 'The cursor is none of this stream, topic and order: begin without one.',
      errors: [{ pointer: '/query/cursor', detail: 'is not the cursor of an earlier page' }],
    })
  return positions.map(([partition = 0, next = 0, end = 0]) => ({ partition, next, end }))
}

async function wantedOf(stream: Stream, query: BrowseQuery, readers: Readers): Promise<Wanted[]> {
  const { role, order, partition, offset, cursor, filter } = query
  const all = partitionsOf(stream, role)
  const places = partition === undefined ? all : all.filter((at) => at.partition === partition)
  const bounds = await readers.bounds(places)
  const within = (index: number): [number, number] => [bounds[index]?.from ?? 0, bounds[index]?.to ?? 0]
  if (cursor !== undefined) {
    const positions = new Map(decodeCursor(cursor, query, stream.partitions).map((one) => [one.partition, one]))
    return places.flatMap((at, index) => {
      const position = positions.get(at.partition)
      if (position === undefined) return []
      const [lowest, highest] = within(index)
      const [from, to] = order === 'newest' ? [position.end, position.next] : [position.next, position.end]
      const begin = Math.min(highest, Math.max(lowest, from))
      return [{ ...at, from: begin, to: Math.max(begin, Math.min(highest, to)) }]
    })
  }
  const at = async (time: string | undefined) =>
    time === undefined ? undefined : readers.offsetsAt(places, Date.parse(time), bounds)
  const [first, last] = await Promise.all([at(filter.from), at(filter.to)])
  return places.map((place, index) => {
    const [lowest, highest] = within(index)
    let from = Math.max(lowest, first?.[index] ?? lowest)
    let to = Math.min(highest, last?.[index] ?? highest)
    if (offset !== undefined && order === 'newest') to = Math.min(to, offset + 1)
    if (offset !== undefined && order === 'oldest') from = Math.max(from, offset)
    from = Math.min(from, highest)
    return { ...place, from, to: Math.max(from, to) }
  })
}

function filterOf({ filter, headers }: BrowseQuery): RecordFilter {
  const native = nativeFilter(filter)
  return {
    headers: [...native.headers, ...headers.map(({ name, value }) => ({ name, value, how: 'equals' as const }))],
  }
}

function matcher({ filter, headers, where }: BrowseQuery): (record: IncomingRecord) => boolean {
  const matches = matcherOf(filter)
  return (record) => {
    if (!matches(record)) return false
    if (!headers.every(({ name, value }) => headerText(record.headers, name) === value)) return false
    if (where.length === 0) return true
    const decoded = decode(record, originIn(record))
    const bytes = decoded.ok ? decoded.event.data : record.value
    const json = bytes === null ? undefined : jsonOf(bytes.toString())
    return json !== undefined && where.every(({ pointer, value }) => textAt(json.value, pointer) === value)
  }
}

/** A string as it is, anything else as JSON. */
function textAt(value: unknown, pointer: string): string | undefined {
  const at = valueAt(value, pointer)
  return typeof at === 'string' ? at : at === undefined ? undefined : JSON.stringify(at)
}
