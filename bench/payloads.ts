import { webhookEvents } from '../shared/dev/webhooks.ts'

/** What is sent: events in the plain form that every system here takes. */

export interface BenchEvent {
  id?: string
  type: string
  source?: string
  subject: string
  data: unknown
}

/** How many different subjects there are: keys, so that every partition and many of the consumer's lanes are used. A prime. */
export const SUBJECTS = 211

const TITLES = ['Paper, white', 'Ink “Kupfer”', 'Lamp (desk)', 'Chair, oak', 'Notebook A5', 'Pencil HB', 'Café press']

/** Where an event's id goes in a template; as long as the ids are. */
export const ID_PLACEHOLDER = '____________________'

/**
 * An order of a shop, whose JSON in plain form has exactly so many bytes.
 * @param number chooses subject and contents; equal numbers give equal events
 * @throws RangeError when there is no room for an event
 */
export function eventOfBytes(bytes: number, number: number, id?: string): BenchEvent {
  const items: unknown[] = []
  const event = (note: string): BenchEvent => ({
    ...(id === undefined ? {} : { id }),
    type: 'shop.order.placed',
    subject: `order-${String(number % SUBJECTS).padStart(6, '0')}`,
    data: {
      order: 4_000_000 + number,
      total: 19.5 + (number % 977),
      currency: 'EUR',
      express: number % 3 === 0,
      items,
      note,
    },
  })
  const free = (): number => bytes - jsonBytes(event(''))
  for (;;) {
    const at = items.length
    items.push({
      sku: `A-${10_000 + ((number * 31 + at * 7) % 89_999)}`,
      quantity: 1 + (at % 5),
      title: TITLES[(number + at) % TITLES.length],
    })
    if (free() >= 0) continue
    items.pop()
    break
  }
  if (free() < 0) throw new RangeError(`an event of ${bytes} bytes has no room for what every event has`)
  return event('n'.repeat(free()))
}

const jsonBytes = (value: unknown): number => Buffer.byteLength(JSON.stringify(value))

/** Bytes of the record's value, which is the event's data. */
export const valueBytesOf = (event: BenchEvent): number => jsonBytes(event.data)

/** What an HTTP request carries: a body, and what it says of it. */
export interface Body {
  contentType: string
  text: string
}

export const FORMS = {
  single: (events: readonly BenchEvent[]): Body => ({
    contentType: 'application/json',
    text: JSON.stringify(events[0]),
  }),
  batch: (events: readonly BenchEvent[]): Body => ({ contentType: 'application/json', text: JSON.stringify(events) }),
  ndjson: (events: readonly BenchEvent[]): Body => ({
    contentType: 'application/x-ndjson',
    text: events.map((event) => `${JSON.stringify(event)}\n`).join(''),
  }),
} as const
export type Form = keyof typeof FORMS

/** Bytes of a body of which another distinct one is made, before they are used again: enough to differ, little enough to hold. */
const DISTINCT_BYTES = 4_000_000

/** The events of each of the distinct requests of a workload. */
export function requestsOf(payload: { bytes: number } | 'webhooks', eventsPerRequest: number): Promise<BenchEvent[][]> {
  if (payload === 'webhooks') return webhooks()
  const wanted = Math.floor(DISTINCT_BYTES / (payload.bytes * eventsPerRequest))
  const count = Math.max(1, Math.min(SUBJECTS, wanted))
  return Promise.resolve(
    Array.from({ length: count }, (_, request) =>
      Array.from({ length: eventsPerRequest }, (_, index) =>
        eventOfBytes(payload.bytes, request * eventsPerRequest + index),
      ),
    ),
  )
}

/** GitHub's, without their ids: the same event twice would be one. */
async function webhooks(): Promise<BenchEvent[][]> {
  const events = await webhookEvents()
  return events.map(({ type, source, subject = 'none', data }) => [{ type, source, subject, data }])
}

/** An event's JSON around its id, to be put together again for each id with little work. */
export function templateOf(bytes: number, number: number): readonly [before: string, after: string] {
  const [before = '', after = ''] = JSON.stringify(eventOfBytes(bytes, number, ID_PLACEHOLDER)).split(ID_PLACEHOLDER)
  return [before, after]
}

/** @param run tells the ids of one run from those of another; at most 10 characters */
export const idOf = (run: string, index: number): string =>
  `${run}-${String(index).padStart(ID_PLACEHOLDER.length - run.length - 1, '0')}`
