import { expect, test } from 'bun:test'
import { compileSchema } from '../shared/schemas/schema.ts'
import {
  eventOfBytes,
  eventOfProperties,
  FORMS,
  ID_PLACEHOLDER,
  idOf,
  PROPERTIES_SCHEMA,
  requestsOf,
  SUBJECTS,
  templateOf,
} from './payloads.ts'

const bytes = (value: unknown) => Buffer.byteLength(JSON.stringify(value))

test('an event has exactly the bytes that its workload says, with an id and without', () => {
  for (const size of [300, 1024, 8192])
    for (const number of [0, 1, 99, 100_000]) {
      expect(bytes(eventOfBytes(size, number))).toBe(size)
      expect(bytes(eventOfBytes(size, number, 'an-id'))).toBe(size)
    }
})

test('an event that cannot be so small is refused', () => {
  expect(() => eventOfBytes(100, 1)).toThrow(RangeError)
})

test('the same number is the same event, another number another one', () => {
  expect(eventOfBytes(300, 7)).toEqual(eventOfBytes(300, 7))
  expect(eventOfBytes(300, 7)).not.toEqual(eventOfBytes(300, 8))
})

test('plain requests use every subject, and large ones as many as can be held', async () => {
  const single = await requestsOf({ bytes: 300 }, 1)
  expect(new Set(single.map(([event]) => event?.subject)).size).toBe(SUBJECTS)
  const batches = await requestsOf({ bytes: 300 }, 1000)
  expect(batches.every((events) => events.length === 1000)).toBe(true)
  expect(batches.length).toBeLessThan(20)
})

test('webhooks are all there and have no ids, since the service is to make them', async () => {
  const webhooks = await requestsOf('webhooks', 1)
  expect(webhooks.length).toBeGreaterThan(300)
  expect(webhooks.flat().some((event) => 'id' in event)).toBe(false)
})

test('a template with an id in it has the bytes of its workload', () => {
  const [before, after] = templateOf(1024, 5)
  const id = idOf('k3x', 42)
  expect(id).toHaveLength(ID_PLACEHOLDER.length)
  expect(Buffer.byteLength(before + id + after)).toBe(1024)
  expect(JSON.parse(before + id + after)).toEqual(eventOfBytes(1024, 5, id))
})

test('each form is what it says', () => {
  const events = [eventOfBytes(300, 1), eventOfBytes(300, 2)]
  expect(JSON.parse(FORMS.single(events).text)).toEqual(events[0])
  expect(JSON.parse(FORMS.batch(events).text)).toEqual(events)
  expect(
    FORMS.ndjson(events)
      .text.trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line)),
  ).toEqual(events)
})

test('an event with twenty properties has its size, and is as its schema wants it', () => {
  const compiled = compileSchema(PROPERTIES_SCHEMA)
  if (!compiled.ok) throw new Error(compiled.faults.join('; '))
  for (const size of [300, 1024])
    for (const number of [0, 1, 7, 5_000, 210_999]) {
      const event = eventOfProperties(size, number)
      expect(bytes(event)).toBe(size)
      expect(Object.keys(event.data as object)).toHaveLength(20)
      expect(compiled.schema.faults(event.data)).toEqual([])
    }
})
