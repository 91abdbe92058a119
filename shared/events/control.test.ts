import { expect, test } from 'bun:test'
import { controlKey, decodeControl, encodeControl, MAX_REASON_CHARS, type StreamControl } from './control.ts'
import { CONTROL_TOPIC, INPUT_TOPICS, parseTopic } from './topics.ts'

const PAUSED: StreamControl = { state: 'paused', by: 'alice', atMs: 1_800_000_000_000, reason: 'rates are down' }

const decoded = (key: string | null, value: unknown) =>
  decodeControl({
    key: key === null ? null : Buffer.from(key),
    value: value === null ? null : Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)),
  })

test('what is written of a stream is read back, and belongs to one partition', () => {
  const { topic, partition, key, value } = encodeControl('acme', 'orders', PAUSED)
  expect([topic, partition, key]).toEqual([CONTROL_TOPIC, 0, controlKey('acme', 'orders')])
  expect(decoded(key as string, value?.toString())).toEqual({ tenant: 'acme', stream: 'orders', control: PAUSED })
})

test('a tombstone says that nothing is known of its stream', () => {
  expect(decoded('acme/orders', null)).toEqual({ tenant: 'acme', stream: 'orders', control: undefined })
})

test('a record that is malformed is told from one that is not', () => {
  for (const key of [null, '', 'acme', 'acme/', '/orders', 'acme/orders/0', 'Acme/orders', 'acme/orders\n'])
    expect(decoded(key, PAUSED), String(key)).toBeUndefined()
  const wrong = [
    '',
    'no JSON',
    'null',
    { ...PAUSED, state: 'stopped' },
    { ...PAUSED, by: '' },
    { ...PAUSED, by: 'x'.repeat(201) },
    { ...PAUSED, atMs: -1 },
    { ...PAUSED, atMs: 8.65e15 },
    { ...PAUSED, reason: 'x'.repeat(MAX_REASON_CHARS + 1) },
    { state: 'paused' },
  ]
  for (const value of wrong) expect(decoded('acme/orders', value), JSON.stringify(value)).toBeUndefined()
  const longest = { ...PAUSED, by: 'x'.repeat(200), reason: 'x'.repeat(1_000) }
  expect(decoded('acme/orders', longest)?.control).toEqual(longest)
  // A later version may add members.
  expect(decoded('acme/orders', { ...PAUSED, until: 1 })?.control).toMatchObject(PAUSED)
})

test('the control topic is no topic of a stream', () => {
  expect([INPUT_TOPICS.test(CONTROL_TOPIC), parseTopic(CONTROL_TOPIC)]).toEqual([false, undefined])
})
