import { describe, expect, test } from 'bun:test'
import { Type } from '@sinclair/typebox'
import { defineHandler, jsonSchema } from 'kafkatrace'
import { testHandler } from 'kafkatrace/testing'
import { type Handler, handlerIndex } from './handler.ts'

interface Order {
  id: string
  lines: { count: number; ref?: string }[]
}

const document = {
  $schema: 'http://json-schema.org/draft-07/schema#',
  type: 'object',
  required: ['id', 'lines'],
  properties: {
    id: { type: 'string', format: 'uuid' },
    lines: { type: 'array', items: { $ref: '#/definitions/line' } },
  },
  additionalProperties: false,
  definitions: {
    line: {
      type: 'object',
      required: ['count'],
      properties: { count: { type: 'integer' }, ref: { type: 'string' } },
      additionalProperties: false,
    },
  },
}
const ID = '2f1e0c1a-6a52-4f5e-9a71-0d6f0b0d9a01'

const counted = defineHandler({
  type: 'order',
  version: '1',
  schema: jsonSchema<Order>(document),
  handle: ({ lines }) => ({ data: lines.reduce((sum, { count }) => sum + count, 0) }),
})

describe('a JSON Schema of a handler', () => {
  test('gives the handler what is valid', async () => {
    const data: Order = { id: ID, lines: [{ count: 2 }, { count: 3, ref: 'a' }] }
    expect(await testHandler(counted, { data })).toEqual({ kind: 'processed', type: 'order', data: 5 })
  })

  test.each<[string, unknown, string[]]>([
    ['a member of the wrong type', { id: ID, lines: [{ count: 'x' }] }, ['/lines/0/count must be integer']],
    ['a missing one', { lines: [] }, ['/id is required']],
    ['a format', { id: 'no', lines: [] }, ['/id must match format "uuid"']],
    ['several', { id: 7, lines: [{}] }, ['/id must be string', '/lines/0/count is required']],
    ['a name of the sender', { id: ID, lines: [{ count: 1, 'of a patient': 1 }] }, ['/lines/0/… is not allowed']],
    ['another', { id: ID, lines: [], 'card number': 1 }, ['/… is not allowed']],
    ['another value', 7, ['/ must be object']],
    ['no data', undefined, ['/ must be object']],
  ])('names %s by its pointer, and no name that only the sender has chosen', async (_, data, faults) => {
    const outcome = await testHandler(counted, { data })
    expect(outcome).toMatchObject({ kind: 'dead', reason: 'invalid data' })
    const { message } = outcome as { message: string }
    expect(message).toStartWith('not what order takes: /')
    for (const fault of faults) expect(message).toContain(fault)
    expect(message).not.toMatch(/patient|card/)
  })

  test('names no more than twenty faults', async () => {
    const lines = Array.from({ length: 30 }, () => ({ count: 'x' }))
    const { message } = (await testHandler(counted, { data: { id: ID, lines } })) as { message: string }
    expect(message).toEndWith('/lines/19/count must be integer; and 10 more')
  })

  test('that is none is refused by name, and what is no schema at all, too', () => {
    const of = (changed: object) => () => handlerIndex([{ ...counted, ...changed } as Handler])
    const refused =
      'has a schema that is neither one of TypeBox, such as Type.Object({ … }), nor jsonSchema(document): '
    expect(of({ schema: jsonSchema({ type: 'nothing' }) })).toThrow(
      'handlers[0] (order) has a schema that is no JSON Schema: ',
    )
    expect(of({ schema: jsonSchema(document.properties.lines) })).toThrow('is no JSON Schema: ')
    expect(of({ schema: document })).toThrow(refused)
    expect(of({ schema: null })).toThrow(refused)
    expect(of({ result: { type: 'string' } })).toThrow('handlers[0] (order) has a `result` that is neither')
  })
})

describe('the result of a handler with a schema of results', () => {
  const giving = (data: unknown, result: Handler['result'] = Type.Object({ at: Type.String(), sum: Type.Number() })) =>
    testHandler(
      { ...counted, result: result as never, handle: async () => ({ type: 'made', data }) },
      { data: { id: ID, lines: [] } },
    )

  test('is stored if it fits as it is stored', async () => {
    const stored = { at: '1970-01-01T00:00:00.000Z', sum: 1 }
    expect(await giving({ at: new Date(0), sum: 1, more: undefined })).toEqual({
      kind: 'processed',
      type: 'made',
      data: stored,
    })
    expect(await giving({ a: 1 }, jsonSchema({ required: ['a'] }))).toMatchObject({ kind: 'processed' })
  })

  test.each<[string, unknown, Handler['result'], string]>([
    ['TypeBox', { at: 7, sum: Number.NaN }, undefined, '/data/at Expected string; /data/sum Expected number'],
    [
      'JSON Schema',
      { a: 1 },
      jsonSchema({ required: ['b'], properties: { a: { type: 'string' } } }),
      '/data/b is required; /data/a must be string',
    ],
    ['JSON Schema of all data', [], jsonSchema({ type: 'object' }), '/data must be object'],
    ['TypeBox of all data', [], Type.String(), '/data Expected string'],
  ])('is a dead letter that names what does not fit: %s', async (_, data, result, faults) => {
    expect(await giving(data, result)).toEqual({
      kind: 'dead',
      reason: 'invalid result',
      message: `not what order gives: ${faults}`,
    })
  })

  test('has the names of the schema only', async () => {
    const closed = Type.Object({}, { additionalProperties: false })
    expect(await giving({ 'card number': 1 }, closed)).toMatchObject({
      message: 'not what order gives: /data/… Unexpected property',
    })
  })
})

test('the types of data and result are those of the schemas', () => {
  defineHandler({
    type: 'a',
    version: '1',
    schema: jsonSchema<Order>(document),
    result: Type.Object({ sum: Type.Number() }),
    // @ts-expect-error: the sum is a number
    handle: ({ id }) => ({ data: { sum: id } }),
  })
  defineHandler({
    type: 'a',
    version: '1',
    schema: Type.Object({ id: Type.String() }),
    result: jsonSchema<Order>(document),
    // @ts-expect-error: there is no such member
    handle: ({ name }) => ({ data: { id: name, lines: [] } }),
  })
  // Without a schema of results, any data will do.
  const any = defineHandler({ type: 'a', version: '1', schema: Type.String(), handle: (data) => ({ data: { data } }) })
  expect(handlerIndex([any])('a')?.resultCheck).toBeUndefined()
})
