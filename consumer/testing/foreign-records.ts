import fc from 'fast-check'
import { type HeaderValue, headersOf, type RecordHeaders } from '../../shared/events/headers.ts'
import type { OutgoingRecord } from '../../shared/events/record.ts'

/** Records that any client may write to a stream's own topic: events and other records, with odd headers and headers that look like ours. */

const NAMES = [
  ...[
    'id',
    'source',
    'type',
    'specversion',
    'subject',
    'time',
    'dataschema',
    'datacontenttype',
    'data',
    'ext',
    'Ext',
    '',
    '__proto__',
  ].map((name) => `ce_${name}`),
  ...[
    'attempt',
    'attempts',
    'generation',
    'redriven-from',
    'not-before',
    'error',
    'origin',
    'transaction',
    'context',
    'tenant',
    'received-at',
    'new',
  ].map((name) => `kt-${name}`),
  ...['content-type', 'traceparent', 'tracestate', 'constructor', '', 'Content-Type', 'é'],
]
const VALUES: HeaderValue[] = [
  '',
  '1.0',
  '0',
  '-1',
  '999999999999999',
  '99999999999999999999',
  '/',
  'a',
  'a\nb',
  'é',
  '\u0000',
  '{}',
  '[]',
  '{"reason":7}',
  'application/json',
  'application/cloudevents+json',
  'application/cloudevents+json; charset=utf-16',
  'application/cloudevents-batch+json',
  'text/plain',
  '2026-01-01T00:00:00Z',
  '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
  'cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-é',
  'a=1,b=2',
  'kt.acme.events/0/0',
  'kt.acme.events/0/99',
  'fails',
  null,
  Buffer.from([0xff, 0xfe]),
  'x'.repeat(20_000),
]
const BODIES = [
  '',
  '{}',
  '[]',
  'null',
  '{"specversion":"1.0","id":"s","source":"/s","type":"fails"}',
  '{"specversion":"1.0","id":"s","source":"/s","type":"t","data":{"a":[1]}}',
  '{"id":"s","id":"s"}',
  `${'['.repeat(600)}`,
  '\ufeff{}',
  '"\ud800"',
]

const header = fc.tuple(
  fc.constantFrom(...NAMES),
  fc.oneof(
    fc.constantFrom(...VALUES),
    fc.string(),
    fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes) as HeaderValue),
  ),
)
const headers = fc.oneof(
  { arbitrary: fc.array(header, { maxLength: 8 }), weight: 50 },
  // An unreasonable number.
  { arbitrary: header.map((one) => Array<typeof one>(one[1] === null ? 5_000 : 40).fill(one)), weight: 1 },
)
const key = fc.oneof(
  { arbitrary: fc.nat(499).map((number) => `key ${number}`), weight: 20 },
  { arbitrary: fc.constantFrom(null, '', '\n', Buffer.from([0xff, 0]), 'x'.repeat(5_000)), weight: 5 },
)

/** A record; half of them are events of these types, whatever their other headers are. */
export const foreignRecord = (
  types: readonly string[],
): fc.Arbitrary<{ key: OutgoingRecord['key']; headers: RecordHeaders; value: Buffer | null }> =>
  fc
    .record({
      type: fc.option(fc.constantFrom(...types)),
      // Some are repeated.
      id: fc.oneof(fc.constantFrom('1', '2', '3'), fc.nat(1_000_000).map(String)),
      key,
      headers,
      value: fc.option(
        fc.oneof(
          fc.constantFrom(...BODIES).map((text) => Buffer.from(text)),
          fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
        ),
      ),
    })
    .map(({ type, id, key, headers, value }) => {
      const event = type === null ? headersOf({}) : headersOf({ ...FOREIGN_EVENT, ce_id: id, ce_type: type })
      return {
        key,
        headers: {
          names: [...event.names, ...headers.map(([name]) => name)],
          values: [...event.values, ...headers.map(([, text]) => text)],
        },
        value,
      }
    })

export const FOREIGN_EVENT = { ce_specversion: '1.0', ce_id: '1', ce_source: '/elsewhere', ce_type: 'plain' }
