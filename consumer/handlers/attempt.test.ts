import { expect, test } from 'bun:test'
import { Script } from 'node:vm'
import { Kind, type TSchema, Type, TypeRegistry } from '@sinclair/typebox'
import { type Given, MAX_RESULT_BYTES, runAttempt } from './attempt.ts'
import { defineHandler, type Handling, handlerIndex } from './handler.ts'

const given = (data: string | null): Given => ({
  data: data === null ? null : Buffer.from(data),
  event: {
    id: '1',
    source: '/test',
    type: 't',
    extensions: { ext: 'x' },
    data: data === null ? null : Buffer.from(data),
  },
  context: {
    tenant: 'acme',
    stream: 'events',
    processedAtMs: 1,
    fingerprint: 'f',
    lookups: { reference: { status: 'missing' } },
  },
})

const Data = Type.Object(
  { lines: Type.Array(Type.Object({ count: Type.Integer() }, { additionalProperties: false })) },
  { additionalProperties: false },
)

async function tried(
  of: Given,
  handle: (handling: Handling) => unknown = () => ({ data: 1 }),
  schema: TSchema = Data,
  timeoutMs = 1_000,
) {
  const registered = handlerIndex([
    defineHandler({ type: 't', version: '1', schema, handle: (_, handling) => handle(handling) as { data: unknown } }),
  ])('t')
  if (registered === undefined) throw new Error('no handler')
  return runAttempt(registered, of, 1, new AbortController().signal, timeoutMs)
}

test.each([
  ['{"lines":[{"count":1.5}]}', '/lines/0/count'],
  ['{"lines":[{"count":1,"of a patient":2}]}', '/lines/0/…'],
  ['{"lines":[],"card number":1}', '/…'],
  ['7', '/ '],
  [null, '/ '],
  ['{', 'not JSON'],
  ['\ufeff{"lines":[]}', 'not JSON'],
])('data that is not what the handler takes: %p is told without what only the sender has named', async (data, told) => {
  const fault = await tried(given(data)).catch((error: Error) => error)
  expect(fault).toMatchObject({ reason: 'invalid data' })
  expect(String(fault)).toContain(told)
  expect(String(fault)).not.toMatch(/patient|card/)
})

test('each fault of the data is named once', async () => {
  const schema = Type.Object({ id: Type.String(), total: Type.Number(), lines: Type.Array(Type.Integer()) })
  const fault = await tried(given('{"total":"7","lines":["a",1]}'), undefined, schema).catch((error: Error) => error)
  expect(String(fault)).toEndWith(
    'not what t takes: /id Expected required property; /total Expected number; /lines/0 Expected integer',
  )
})

test.each([
  [25, /\/19 Expected integer; and 5 more$/],
  [2_000, /\/19 Expected integer; and at least 980 more$/],
])('of %d faults of the data 20 are named', async (count, end) => {
  const data = JSON.stringify(Array.from({ length: count }, () => 'x'))
  const fault = await tried(given(data), undefined, Type.Array(Type.Integer())).catch((error: Error) => error)
  expect(String(fault)).toMatch(end)
})

test('faults of members with long names are bounded in all', async () => {
  const names = Array.from({ length: 15 }, (_, index) => `${index}${'n'.repeat(400)}`)
  const schema = Type.Object(Object.fromEntries(names.map((name) => [name, Type.Integer()])))
  const fault = await tried(given('{}'), undefined, schema).catch((error: Error) => error)
  expect(String(fault)).toEndWith('and 10 more')
  expect(String(fault).length).toBeLessThan(2_000)
})

test('a script that a handler stops by itself is not a handler that kept the thread', async () => {
  const handle = () => new Script('for (;;);').runInThisContext({ timeout: 10 })
  const fault = await tried(given('1'), handle, Type.Unknown(), 600_000).catch((error: Error) => error)
  expect(String(fault)).toContain('after 10ms')
})

test('what a handler has not read of its event is closed when the attempt is over, and what it has read stays', async () => {
  const of = given('1')
  let kept: Handling | undefined
  const keep = (handling: Handling) => {
    kept = handling
    return { data: handling.event.id }
  }
  await tried(of, keep, Type.Unknown())
  expect([kept?.event.id, kept?.event.data?.toString()]).toEqual(['1', '1'])
  expect(() => kept?.context).toThrow('the attempt is over')
  const late = async (handling: Handling) => {
    kept = handling
    await new Promise(() => undefined)
  }
  await tried(of, late, Type.Unknown(), 20).catch(() => undefined)
  expect(() => kept?.event).toThrow('the attempt is over')
})

test('bytes that are not UTF-8 are not JSON', async () => {
  const of = given('""')
  of.data = Buffer.from([0x22, 0xff, 0x22])
  const fault = await tried(of, undefined, Type.Unknown()).catch((error: Error) => error)
  expect(String(fault)).toContain('not UTF-8')
})

test('what a handler does to what it is given changes nothing, and its bytes are in memory of their own', async () => {
  const data = '{"lines":[]}'
  const of = given(data)
  await tried(of, ({ event, context }) => {
    expect(() => Object.assign(event, { id: '2' })).toThrow(TypeError)
    expect(() => Object.assign(event.extensions, { more: '1' })).toThrow(TypeError)
    expect(() => Object.assign(context, { tenant: 'b' })).toThrow(TypeError)
    expect(() => Object.assign(context.lookups?.reference as object, { status: 'found' })).toThrow(TypeError)
    expect(event.data?.toString()).toBe(data)
    expect(event.data?.buffer.byteLength).toBe(data.length)
    event.data?.fill(0)
    return { data: 1 }
  })
  expect(of).toEqual(given(data))
})

test('bytes are no result, and are not read: each is a member', async () => {
  const fault = await tried(given('{"lines":[]}'), () => Buffer.alloc(20_000_000)).catch((error: Error) => error)
  expect(fault).toMatchObject({ reason: 'invalid result', message: expect.stringContaining('bytes') })
})

test('data that the schema refuses without a word is refused', async () => {
  let asked = 0
  TypeRegistry.Set('Moody', () => asked++ > 0)
  try {
    const fault = await tried(given('1'), undefined, Type.Unsafe({ [Kind]: 'Moody' })).catch((error: Error) => error)
    expect(fault).toMatchObject({ reason: 'invalid data', message: 'not what t takes: refused by its schema' })
  } finally {
    TypeRegistry.Delete('Moody')
  }
})

const forever = (): never => {
  for (;;);
}

test.each<[string, () => unknown]>([
  ['a getter `then`', () => Object.defineProperty({}, 'then', { get: forever })],
  // biome-ignore lint/suspicious/noThenProperty: that is what is tried
  ['a function `then`', () => ({ then: forever })],
  ['a getter `data`', () => Object.defineProperty({}, 'data', { enumerable: true, get: forever })],
  ['a `toJSON`', () => ({ data: { toJSON: forever } })],
  ['a `toJSON` that comes later', async () => ({ data: { toJSON: forever } })],
  ['a proxy', () => new Proxy({}, { ownKeys: forever })],
])('what is returned cannot keep the thread: %s', async (_, handle) => {
  const fault = await tried(given('1'), handle, Type.Unknown(), 20).catch((error: Error) => error)
  expect(fault).toMatchObject({ reason: 'handler timed out', message: 'kept the thread for 20 ms' })
})

test('an upcaster cannot keep the thread', async () => {
  const registered = handlerIndex([
    defineHandler({
      type: 't',
      version: '1',
      schema: Type.Unknown(),
      takes: 2,
      upcasters: [{ from: 1, to: 2, up: forever }],
      handle: () => ({ data: 1 }),
    }),
  ])('t')
  if (registered === undefined) throw new Error('no handler')
  const { signal } = new AbortController()
  expect(() => runAttempt(registered, { ...given('1'), raisedFrom: 1 }, 1, signal, 20)).toThrow(
    expect.objectContaining({ reason: 'handler timed out', message: 'kept the thread for 20 ms' }),
  )
})

test('the signal says so when the thread was kept, and to whoever asks after the end', async () => {
  let kept: Handling | undefined
  let signal: AbortSignal | undefined
  await tried(
    given('1'),
    (handling) => {
      signal = handling.signal
      return forever()
    },
    Type.Unknown(),
    20,
  ).catch(() => undefined)
  expect(signal?.aborted).toBe(true)
  await tried(
    given('1'),
    (handling) => {
      kept = handling
      return { data: 1 }
    },
    Type.Unknown(),
  )
  expect(kept?.signal.aborted).toBe(true)
})

test('a result may be large, and not larger', async () => {
  const result = (chars: number) => tried(given('1'), () => ({ data: 'x'.repeat(chars) }), Type.Unknown(), 10_000)
  expect((await result(MAX_RESULT_BYTES - 2)).data.length).toBe(MAX_RESULT_BYTES)
  expect(await result(MAX_RESULT_BYTES - 1).catch((error: Error) => error)).toMatchObject({
    reason: 'result too large',
  })
})

test('members that the sender has named are not, and of others no more than a few', async () => {
  const of = given('{"card number":1}')
  const returned = { 'card number': 1, ...Object.fromEntries(Array.from({ length: 1_000 }, (_, n) => [`n${n}`, n])) }
  const fault = await tried(of, () => returned, Type.Unknown()).catch((error: Error) => error)
  expect(String(fault)).toMatch(/\/… is no member.*n0 is no member.*and 991 more/)
  expect(String(fault)).not.toContain('card')
})
