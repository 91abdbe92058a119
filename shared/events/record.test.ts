import { describe, expect, test } from 'bun:test'
import { isUtf8 } from 'node:buffer'
import fc from 'fast-check'
import type { Event } from './event.ts'
import { type HeaderValue, headersOf, NO_HEADERS, type RecordHeaders, withHeaders } from './headers.ts'
import {
  fromRecord,
  type IncomingRecord,
  isLarger,
  mostRecordBytes,
  type OutgoingRecord,
  queuedBytes,
  recordBytes,
  toRecord,
} from './record.ts'

/** A record as it is fetched: its key is a Buffer. */
const asRead = (record: OutgoingRecord): IncomingRecord => ({
  topic: record.topic,
  partition: 0,
  offset: 0,
  timestampMs: 0,
  key: record.key === null ? null : Buffer.from(record.key),
  value: record.value,
  headers: record.headers,
})
/** A header's value as it is fetched: a string if it is UTF-8. */
const asText = (bytes: Buffer): HeaderValue => (isUtf8(bytes) ? bytes.toString() : bytes)
const at = { topic: 'kt.t.s', tenant: 't', receivedAtMs: 1_700_000_000_000 }
const read = (headers: RecordHeaders, value: Buffer | null = null) =>
  fromRecord({ topic: 'kt.t.s', partition: 0, offset: 0, timestampMs: 0, key: null, value, headers })
const REQUIRED = headersOf({ ce_specversion: '1.0', ce_id: '1', ce_source: '/s', ce_type: 't' })
/** A valid event's headers, followed by others. */
const required = (more: Record<string, HeaderValue>) => withHeaders(REQUIRED, more)

const text = fc
  .string({ unit: 'grapheme', minLength: 1 })
  .filter((value) => !/[\p{Cc}\p{Noncharacter_Code_Point}\p{Cs}]/u.test(value))
const events: fc.Arbitrary<Event> = fc
  .record(
    {
      id: text,
      source: fc.webUrl(),
      type: text,
      subject: text,
      time: fc.constant('2026-01-31T23:59:59.123+01:00'),
      datacontenttype: fc.constantFrom('application/json', 'text/plain; charset=utf-8', 'image/png'),
      dataschema: fc.webUrl(),
      extensions: fc.dictionary(
        fc.stringMatching(/^[a-z0-9]{1,20}$/).filter((name) => !RESERVED.has(name)),
        text,
      ),
      data: fc.option(fc.uint8Array().map((bytes) => Buffer.from(bytes))),
    },
    { requiredKeys: ['id', 'source', 'type', 'extensions', 'data'] },
  )
  .map((event) => event as Event)
const RESERVED = new Set([
  'id',
  'source',
  'type',
  'subject',
  'time',
  'datacontenttype',
  'dataschema',
  'specversion',
  'data',
])

describe('an event as a Kafka record', () => {
  test('comes back as it went in', () => {
    fc.assert(
      fc.property(events, (event) => {
        const back = fromRecord(asRead(toRecord(event, at)))
        if (!back.ok) throw new Error(back.reason)
        expect({ ...back.event, extensions: { ...back.event.extensions } }).toEqual({
          ...event,
          extensions: { ...event.extensions },
        })
      }),
      { numRuns: 100 },
    )
  })

  test('has its attributes in ce_ headers, its media type in content-type, and our own headers', () => {
    const record = toRecord(
      {
        id: '1',
        source: '/s',
        type: 't',
        subject: 'sub',
        time: '2026-01-01T00:00:00Z',
        datacontenttype: 'application/json',
        dataschema: 'https://e.x/s',
        extensions: { partitionkey: 'p' },
        data: Buffer.from('{}'),
      },
      { ...at, partition: 3, traceparent: 'tp', tracestate: 'ts' },
    )
    expect(record).toEqual({
      topic: 'kt.t.s',
      partition: 3,
      key: 'p',
      value: Buffer.from('{}'),
      headers: headersOf({
        ce_specversion: '1.0',
        ce_id: '1',
        ce_source: '/s',
        ce_type: 't',
        ce_subject: 'sub',
        ce_time: '2026-01-01T00:00:00Z',
        ce_dataschema: 'https://e.x/s',
        ce_partitionkey: 'p',
        'content-type': 'application/json',
        traceparent: 'tp',
        tracestate: 'ts',
        'kt-tenant': 't',
        'kt-received-at': '1700000000000',
      }),
    })
  })

  test('without data has no value; with zero bytes of data it has an empty one', () => {
    const bare = { id: '1', source: '/s', type: 't', extensions: {} }
    expect(toRecord({ ...bare, data: null }, at).value).toBeNull()
    expect(toRecord({ ...bare, data: Buffer.alloc(0) }, at).value?.length).toBe(0)
  })

  test('is never counted smaller than its bytes', () => {
    fc.assert(
      fc.property(events, (event) => {
        const record = toRecord(event, at)
        const { names, values } = record.headers
        const bytes = [...names, ...values].reduce((sum, one) => sum + Buffer.byteLength(one ?? ''), 0)
        const least = bytes + Buffer.byteLength(record.key ?? '') + (record.value?.length ?? 0)
        expect(recordBytes(record)).toBeGreaterThan(least)
      }),
    )
  })

  test('is larger than a limit exactly where its bytes are counted as more', () => {
    fc.assert(
      fc.property(events, fc.integer({ min: -2, max: 2 }), fc.constantFrom(0.3, 1, 3), (event, off, scale) => {
        const record = toRecord(event, at)
        const limit = Math.round(recordBytes(record) * scale) + off
        expect(isLarger(record, limit)).toBe(recordBytes(record) > limit)
        expect(mostRecordBytes(record)).toBeGreaterThanOrEqual(recordBytes(record))
      }),
    )
  })
})

describe('a Kafka record as an event', () => {
  test('may be in structured mode, whatever the case of its media type', () => {
    const value = Buffer.from(
      '{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"n":12345678901234567890}}',
    )
    for (const type of ['application/cloudevents+json', 'APPLICATION/CloudEvents+JSON; charset=UTF-8']) {
      const result = read(headersOf({ 'content-type': type }), value)
      if (!result.ok) throw new Error(result.reason)
      expect(result.event).toMatchObject({ id: '1', datacontenttype: 'application/json' })
      expect(result.event.data?.toString()).toBe('{"n":12345678901234567890}')
    }
  })

  test('need not be one, and then there is a reason', () => {
    const reason = (headers: RecordHeaders, value: Buffer | null = null) => {
      const result = read(headers, value)
      return result.ok ? '' : result.reason
    }
    expect(reason(NO_HEADERS)).toContain('specversion is required')
    expect(reason(required({ ce_id: '2' }))).toContain('id is given twice')
    expect(reason(required({ ce_time: 'now' }))).toContain('time must be')
    expect(reason(required({ ce_Time: '2026-01-01T00:00:00Z' }))).toContain('Time is not a valid attribute name')
    expect(reason(required({ ce_subject: Buffer.from([0xff]) }))).toContain('ce_subject is not valid UTF-8')
    expect(reason(required({ ce_datacontenttype: 'a/b' }))).toContain('belongs into the header content-type')
    expect(reason(required({ 'content-type': 'json' }))).toContain('datacontenttype must be')
    expect(reason(withHeaders(required({ 'content-type': 'a/b' }), { 'content-type': 'a/b' }))).toContain('given twice')
    expect(reason(headersOf({ 'content-type': 'application/cloudevents-batch+json' }), Buffer.from('[]'))).toContain(
      'event format',
    )
    expect(reason(headersOf({ 'content-type': 'application/cloudevents+avro' }), Buffer.from(''))).toContain(
      'event format',
    )
    expect(reason(headersOf({ 'content-type': 'application/cloudevents+json' }))).toContain('no value')
    expect(reason(headersOf({ 'content-type': 'application/cloudevents+json' }), Buffer.from('{'))).toContain(
      'not an event in JSON',
    )
    expect(reason(headersOf({ 'content-type': 'application/cloudevents+json' }), Buffer.from('[]'))).toContain(
      'must be a JSON object',
    )
    expect(reason(headersOf({ 'content-type': 'application/cloudevents+json' }), Buffer.from('{}'))).toContain(
      'id is required',
    )
    expect(
      reason(headersOf({ 'content-type': 'application/cloudevents+json' }), Buffer.from('{"a":'.repeat(100_000))),
    ).toContain('deep')
  })

  test('keeps a replacement character that was really sent', () => {
    const result = read(required({ ce_subject: '\ufffd' }))
    expect(result.ok && result.event.subject).toBe('\ufffd')
  })

  test('never throws, whatever bytes it is made of', () => {
    const headers = fc.array(
      fc.tuple(
        fc.constantFrom('ce_id', 'ce_source', 'ce_specversion', 'ce_type', 'ce___proto__', 'ce_', 'content-type', 'x'),
        fc.oneof(
          fc.uint8Array({ maxLength: 12 }),
          fc.constantFrom('1.0', '/s', 'application/cloudevents+json').map((one) => Buffer.from(one)),
        ),
      ),
      { maxLength: 8 },
    )
    fc.assert(
      fc.property(headers, fc.option(fc.oneof(fc.uint8Array(), fc.json().map(Buffer.from))), (list, value) => {
        const values = list.map(([, bytes]) => asText(Buffer.from(bytes)))
        const result = read({ names: list.map(([name]) => name), values }, value === null ? null : Buffer.from(value))
        expect(typeof result.ok).toBe('boolean')
      }),
      { numRuns: 150 },
    )
  })
})

test('what a record takes of the queue is its key and value, in bytes', () => {
  const record = { topic: 't', key: 'é€', value: Buffer.alloc(3), headers: NO_HEADERS }
  expect([queuedBytes(record), queuedBytes({ ...record, key: null, value: null })]).toEqual([8, 0])
})
