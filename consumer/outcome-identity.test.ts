import { expect, test } from 'bun:test'
import { GENERATION, type HeaderValue, headersOf, headerText } from '../shared/events/headers.ts'
import { type IncomingRecord, type OutgoingRecord, onlyIdentity, withoutValue } from '../shared/events/record.ts'
import { deadLetter } from './dead-letter.ts'
import { decode, identityOf } from './decode.ts'
import type { Context } from './enrich.ts'
import { processedRecord } from './processed.ts'
import { type Failure, retryRecord } from './retry.ts'

/** Whatever is made of a record must have the record's identity; otherwise its event would seem to have no outcome. */

const INPUT = 'kt.acme.events'
const FAILURE: Failure = { reason: 'result too large', message: 'a test' }
const PAST = { attempts: 1, notBeforeMs: 0, origin: undefined, failed: [] }

/** Like a record that was read, it must not be spread. */
class ReadRecord implements IncomingRecord {
  readonly topic = INPUT
  readonly partition = 0
  readonly offset = 7
  readonly timestampMs = 1
  readonly #headers: IncomingRecord['headers']
  readonly #value: Buffer | null

  constructor(headers: Record<string, HeaderValue>, value: string | null) {
    this.#headers = headersOf(headers)
    this.#value = value === null ? null : Buffer.from(value)
  }

  get key(): Buffer {
    return Buffer.from('key')
  }

  get value(): Buffer | null {
    return this.#value
  }

  get headers(): IncomingRecord['headers'] {
    return this.#headers
  }
}

const recordOf = (headers: Record<string, HeaderValue>, value: string | null): IncomingRecord =>
  new ReadRecord(headers, value)

const ATTRIBUTES = { specversion: '1.0', id: '1', source: '/shop', type: 'order.placed', subject: 'ä', tier: 'gold' }
const BINARY = Object.fromEntries(Object.entries(ATTRIBUTES).map(([name, value]) => [`ce_${name}`, value]))
const STRUCTURED = { 'content-type': 'application/cloudevents+json; charset=utf-8', other: 'header' }

const records: Record<string, IncomingRecord> = {
  binary: recordOf({ ...BINARY, 'content-type': 'application/json' }, '{}'),
  'binary without a value': recordOf(BINARY, null),
  structured: recordOf(STRUCTURED, JSON.stringify({ ...ATTRIBUTES, data: { n: 1 } })),
  'structured with attributes in headers too': recordOf(
    { ...STRUCTURED, ce_id: 'another' },
    JSON.stringify({ ...ATTRIBUTES, datacontenttype: 'text/plain', data: 'x' }),
  ),
  'structured whose data is said to be an event': recordOf(
    STRUCTURED,
    JSON.stringify({
      ...ATTRIBUTES,
      datacontenttype: 'application/cloudevents+json',
      data: { ...ATTRIBUTES, id: '2' },
    }),
  ),
  'structured without a value': recordOf(STRUCTURED, null),
  'no event': recordOf({ own: 'header' }, 'x'),
  'a dead letter that was sent again': recordOf({ own: 'header', 'kt-origin': `${INPUT}/0/3` }, 'x'),
}

const valuesOf = ({ headers: { names, values } }: IncomingRecord): Record<string, HeaderValue> =>
  Object.fromEntries(names.map((name, index) => [name, values[index] ?? null]))

const redriven = (record: IncomingRecord, generation: HeaderValue): IncomingRecord =>
  recordOf({ ...valuesOf(record), [GENERATION]: generation }, record.value?.toString() ?? null)

const asRead = (made: OutgoingRecord): IncomingRecord => ({
  ...made,
  partition: 0,
  offset: 99,
  timestampMs: 2,
  key: null,
})

/** Copies of a record, also with parts left out, and results. */
function madeOf(record: IncomingRecord): OutgoingRecord[] {
  const decoded = decode(record)
  const event = decoded.ok ? decoded.event : undefined
  // An origin header is ignored in a record of the stream's own topic.
  const retried = retryRecord(record, INPUT, PAST, FAILURE)
  const made = [
    retried,
    deadLetter(record, INPUT, PAST, FAILURE),
    deadLetter(withoutValue(record, event), INPUT, PAST, FAILURE),
    deadLetter(onlyIdentity(record, event), INPUT, PAST, FAILURE),
    deadLetter(asRead(retried), INPUT, { ...PAST, origin: headerText(retried.headers, 'kt-origin') }, FAILURE),
  ]
  const context = { tenant: 'acme', receivedAtMs: 1 } as Context
  if (event !== undefined)
    for (const handled of [undefined, { type: undefined, data: '{}' }, { type: 'another', data: '{}' }])
      made.push(processedRecord(record, event, INPUT, context, handled))
  return made
}

for (const [name, record] of Object.entries(records)) {
  test(`every outcome of a record is known by what the record is known by: ${name}`, () => {
    const made = madeOf(record)
    expect(made.map((one) => identityOf(asRead(one)))).toEqual(made.map(() => identityOf(record)))
    const decoded = decode(record)
    const kept = withoutValue(record, decoded.ok ? decoded.event : undefined)
    expect(kept).toMatchObject({ key: Buffer.from('key'), value: null })
  })

  test(`every outcome of a redriven record is of the same generation: ${name}`, () => {
    const odd = ['0', '01', '-1', '1e9', '2147483648', '', null, Buffer.from([0xff])]
    for (const generation of ['1', '2147483647', ...odd]) {
      const again = redriven(record, generation)
      const made = madeOf(again)
      expect(made.map((one) => identityOf(asRead(one)))).toEqual(made.map(() => identityOf(again)))
      // What is not an event has no generations.
      const isAnother = decode(record).ok && !odd.includes(generation)
      expect(identityOf(again) !== identityOf(record)).toBe(isAnother)
    }
  })
}

test('a structured event keeps its attributes and other headers when its value is left out', () => {
  const { structured = recordOf({}, null) } = records
  const decoded = decode(structured)
  if (!decoded.ok) throw new Error(decoded.reason)
  const left = withoutValue(structured, decoded.event)
  expect(left.value).toBeNull()
  expect(valuesOf(left)).toEqual({ ...BINARY, other: 'header' })
})
