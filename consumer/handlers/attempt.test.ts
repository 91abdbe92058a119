import { expect, test } from 'bun:test'
import { type TSchema, Type } from '@sinclair/typebox'
import { type Given, runAttempt } from './attempt.ts'
import { defineHandler, type Handling, handlerIndex } from './handler.ts'

const given = (data: string | null): Given => ({
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
    lookups: { table: { found: true } as never },
  },
  attempt: 1,
})

const Data = Type.Object(
  { lines: Type.Array(Type.Object({ count: Type.Integer() }, { additionalProperties: false })) },
  { additionalProperties: false },
)

function tried(of: Given, handle: (handling: Handling) => unknown = () => ({ data: 1 }), schema: TSchema = Data) {
  const registered = handlerIndex([
    defineHandler({ type: 't', version: '1', schema, handle: (_, handling) => handle(handling) as { data: unknown } }),
  ])('t')
  if (registered === undefined) throw new Error('no handler')
  return runAttempt(registered, of, new AbortController().signal, 1_000)
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

test('bytes that are not UTF-8 are not JSON', async () => {
  const of = given('""')
  of.event.data = Buffer.from([0x22, 0xff, 0x22])
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
    expect(() => Object.assign(context.lookups?.['table'] as object, { found: false })).toThrow(TypeError)
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
