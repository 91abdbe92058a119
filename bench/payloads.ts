import { createHmac } from 'node:crypto'
import { webhookEvents } from '../shared/dev/webhooks.ts'

/** Payloads: events in the plain form that every system accepts. */

export interface BenchEvent {
  id?: string
  type: string
  source?: string
  subject: string
  data: unknown
}

/** The number of distinct subjects, which are keys, so that every partition and many of the consumer's lanes are used. A prime. */
export const SUBJECTS = 211

const TITLES = ['Paper, white', 'Ink “Kupfer”', 'Lamp (desk)', 'Chair, oak', 'Notebook A5', 'Pencil HB', 'Café press']

/** The place of an event's ID in a template, as long as the IDs are. */
export const ID_PLACEHOLDER = '____________________'

/**
 * A shop's order whose JSON in plain form has an exact size in bytes.
 * @param number selects subject and contents; equal numbers give equal events
 * @throws RangeError when the size is too small for an event
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

/** The data of {@link eventOfProperties}: twenty properties, all of them required. */
export const PROPERTIES_SCHEMA = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  type: 'object',
  additionalProperties: false,
  properties: {
    id: { type: 'integer', minimum: 1 },
    sku: { type: 'string', pattern: '^[A-Z]-[0-9]{5}$' },
    n: { type: 'integer', minimum: 1, maximum: 99 },
    eur: { type: 'number', minimum: 0 },
    tax: { type: 'number', minimum: 0, maximum: 1 },
    cur: { enum: ['EUR', 'USD', 'CHF'] },
    gift: { type: 'boolean' },
    fast: { type: 'boolean' },
    bin: { type: 'string', maxLength: 8 },
    lot: { type: 'integer' },
    g: { enum: ['a', 'b', 'c'] },
    kg: { type: 'number', exclusiveMinimum: 0 },
    cm: { type: 'integer', multipleOf: 5 },
    day: { type: 'string', format: 'date' },
    by: { type: 'string', minLength: 1, maxLength: 20 },
    to: { type: 'string', pattern: '^[A-Z]{2}$' },
    at: { type: 'integer' },
    vip: { type: 'boolean' },
    tags: { type: 'array', items: { type: 'string' }, maxItems: 5 },
    note: { type: 'string' },
  },
  required: 'id sku n eur tax cur gift fast bin lot g kg cm day by to at vip tags note'.split(' '),
} as const

/** An order with twenty properties whose JSON in plain form has an exact size in bytes, as {@link eventOfBytes}. */
export function eventOfProperties(bytes: number, number: number): BenchEvent {
  const event = (note: string): BenchEvent => ({
    type: 'shop.order.placed',
    subject: `order-${String(number % SUBJECTS).padStart(6, '0')}`,
    data: {
      id: 4_000_000 + number,
      sku: `A-${10_000 + (number % 89_999)}`,
      n: 1 + (number % 99),
      eur: 19.5 + (number % 97),
      tax: 0.19,
      cur: 'EUR',
      gift: number % 3 === 0,
      fast: number % 2 === 0,
      bin: `b${number % 97}`,
      lot: number % 977,
      g: 'b',
      kg: 1.25,
      cm: 5 * (number % 9),
      day: '2026-01-31',
      by: 'ups',
      to: 'DE',
      at: number % 86_400,
      vip: false,
      tags: ['a', 'b'],
      note,
    },
  })
  const free = bytes - jsonBytes(event(''))
  if (free < 0) throw new RangeError(`an event of ${bytes} bytes has no room for twenty properties`)
  return event('n'.repeat(free))
}

const jsonBytes = (value: unknown): number => Buffer.byteLength(JSON.stringify(value))

/** The size in bytes of the record's value, which is the event's data. */
export const valueBytesOf = (event: BenchEvent): number => jsonBytes(event.data)

/** A request's body and its headers. */
export interface Body {
  contentType: string
  text: string
  headers?: Record<string, string>
}

/** Of the source "github", to which signed bodies go. */
export const WEBHOOK_SECRET = 'the-secret-of-the-bench'

export const FORMS = {
  single: (events: readonly BenchEvent[]): Body => ({
    contentType: 'application/json',
    text: JSON.stringify(events[0]),
  }),
  /** The same body as a webhook that is signed as GitHub signs. */
  signed: (events: readonly BenchEvent[]): Body => {
    const text = JSON.stringify(events[0])
    const signature = createHmac('sha256', WEBHOOK_SECRET).update(text).digest('hex')
    const headers = { 'x-github-event': 'star', 'x-hub-signature-256': `sha256=${signature}` }
    return { contentType: 'application/json', text, headers: { ...headers, 'x-github-delivery': Bun.randomUUIDv7() } }
  },
  batch: (events: readonly BenchEvent[]): Body => ({ contentType: 'application/json', text: JSON.stringify(events) }),
  ndjson: (events: readonly BenchEvent[]): Body => ({
    contentType: 'application/x-ndjson',
    text: events.map((event) => `${JSON.stringify(event)}\n`).join(''),
  }),
} as const
export type Form = keyof typeof FORMS

/** The total size in bytes of distinct bodies before they repeat: enough variety, in little memory. */
const DISTINCT_BYTES = 4_000_000

/** `twentyProperties`: data as {@link PROPERTIES_SCHEMA} has it. */
export type Payload = { bytes: number; twentyProperties?: true } | 'webhooks'

/** The events of each of the distinct requests of a workload. */
export function requestsOf(payload: Payload, eventsPerRequest: number): Promise<BenchEvent[][]> {
  if (payload === 'webhooks') return webhooks()
  const eventOf = payload.twentyProperties === true ? eventOfProperties : eventOfBytes
  const wanted = Math.floor(DISTINCT_BYTES / (payload.bytes * eventsPerRequest))
  const count = Math.max(1, Math.min(SUBJECTS, wanted))
  return Promise.resolve(
    Array.from({ length: count }, (_, request) =>
      Array.from({ length: eventsPerRequest }, (_, index) =>
        eventOf(payload.bytes, request * eventsPerRequest + index),
      ),
    ),
  )
}

/** GitHub's payloads without their IDs: an event that is sent twice would be a duplicate. */
async function webhooks(): Promise<BenchEvent[][]> {
  const events = await webhookEvents()
  return events.map(({ type, source, subject = 'none', data }) => [{ type, source, subject, data }])
}

/** An event's JSON around its ID, so that the JSON for each ID costs little. */
export function templateOf(bytes: number, number: number): readonly [before: string, after: string] {
  const [before = '', after = ''] = JSON.stringify(eventOfBytes(bytes, number, ID_PLACEHOLDER)).split(ID_PLACEHOLDER)
  return [before, after]
}

/** @param run distinguishes the IDs of this run; at most 10 characters */
export const idOf = (run: string, index: number): string =>
  `${run}-${String(index).padStart(ID_PLACEHOLDER.length - run.length - 1, '0')}`
