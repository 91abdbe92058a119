import { describe, expect, test } from 'bun:test'
import { Type } from '@sinclair/typebox'
import fc from 'fast-check'
import { type Handler, jsonSchema, RetryableError, TerminalError, type Upcaster } from 'kafkatrace'
import { testHandler } from 'kafkatrace/testing'
import { schemaUrn } from '../../shared/schemas/identity.ts'
import { handlerIndex } from './handler.ts'

const Order = Type.Object({ items: Type.Array(Type.Object({ name: Type.String(), cents: Type.Integer() })) })

/** 1: `{name, euros}`; 2: `{name, cents}`; 3: `{items}`. */
const upcasters: Upcaster[] = [
  {
    from: 1,
    to: 2,
    schema: Type.Object({ name: Type.String(), cents: Type.Integer() }),
    up: (data: { name: string; euros: number }) => ({ name: data.name, cents: data.euros * 100 }),
  },
  { from: 2, to: 3, up: (data: { name: string; cents: number }) => ({ items: [data] }) },
]

const order: Handler = { type: 'order', version: '1', schema: Order, takes: 3, upcasters, handle: (data) => ({ data }) }

const tried = (data: unknown, schemaVersion?: number, changed: Partial<Handler> = {}) =>
  testHandler({ ...order, ...changed }, { data }, schemaVersion === undefined ? {} : { schemaVersion })

const from = (version: number, up: Upcaster['up'], schema?: Upcaster['schema']): Partial<Handler> => ({
  upcasters: [{ from: version, to: 3, up, ...(schema && { schema }) }],
})

describe('a handler gets data of its own version', () => {
  const items = [{ name: 'pen', cents: 200 }]

  test.each<[string, unknown, number | undefined]>([
    ['of two versions before it', { name: 'pen', euros: 2 }, 1],
    ['of the one before it', { name: 'pen', cents: 200 }, 2],
    ['of its own', { items }, 3],
    ['of an event that says none', { items }, undefined],
  ])('from data %s', async (_, data, version) => {
    expect(await tried(data, version)).toEqual({ kind: 'processed', type: 'order', data: { items } })
  })

  test('and data of any version as they are if it does not say which it takes', async () => {
    const { takes: _, upcasters: __, ...any } = order
    for (const version of [1, 3, 9])
      expect(
        await testHandler({ ...any, schema: Type.Unknown() }, { data: 1 }, { schemaVersion: version }),
      ).toMatchObject({
        data: 1,
      })
  })

  test('which its context says, if they were raised', async () => {
    const told = {
      handle: (_: unknown, { context }: Parameters<Handler['handle']>[1]) => ({ data: context.schema ?? null }),
    }
    const schema = { subject: 'test.events-order', version: 1, takes: 3 }
    expect(await tried({ name: 'pen', euros: 2 }, 1, told)).toMatchObject({ data: schema })
    expect(await tried({ items }, 3, told)).toMatchObject({ data: null })
    expect(await tried({ items }, undefined, told)).toMatchObject({ data: null })
  })

  test('which neither a change of what an upcaster gets, nor of what it returns, brings to the event or the next attempt', async () => {
    const seen: unknown[] = []
    const up = (data: unknown) => {
      const order = data as { items: unknown[] }
      order.items.push({ name: 'gift', cents: 0 })
      return order
    }
    const handle: Handler['handle'] = (data, { event }) => {
      seen.push(event.data?.toString())
      return { data }
    }
    for (let attempt = 1; attempt <= 2; attempt++)
      expect(await tried({ items: [] }, 2, { ...from(2, up), handle })).toMatchObject({
        data: { items: [{ name: 'gift', cents: 0 }] },
      })
    expect(seen).toEqual(['{"items":[]}', '{"items":[]}'])
  })
})

test('an event that names its version in dataschema is of that one, unless it was checked by another', async () => {
  const old = { data: { name: 'pen', euros: 2 }, dataschema: schemaUrn('test.events-order', 1) }
  const nine = schemaUrn('test.events-order', 9)
  expect(await testHandler(order, old)).toMatchObject({ kind: 'processed', data: { items: [{ name: 'pen' }] } })
  expect(await testHandler(order, { ...old, dataschema: nine })).toMatchObject({ kind: 'waits' })
  expect(await testHandler(order, { ...old, dataschema: nine }, { schemaVersion: 1 })).toMatchObject({
    kind: 'processed',
  })
})

test('an event of a newer version waits for a handler that takes it', async () => {
  expect(await tried({ any: 1 }, 4)).toEqual({
    kind: 'waits',
    reason: 'newer schema',
    message: 'its data are of version 4 of their schema, and order@1 takes 3: deploy a handler that takes 4',
  })
})

test('an event of a version without an upcaster is a dead letter that says which is missing', async () => {
  expect(
    await tried(
      { any: 1 },
      1,
      from(2, (data) => data),
    ),
  ).toEqual({
    kind: 'dead',
    reason: 'no upcaster',
    message: 'its data are of version 1 of their schema, and order@1 takes 3: it has no upcaster from 1',
  })
  expect(await testHandler({ ...order, upcasters: [] }, { data: 1 }, { schemaVersion: 2 })).toMatchObject({
    reason: 'no upcaster',
  })
})

describe('data that an upcaster must not make', () => {
  test('are named by its own schema, where it has one', async () => {
    expect(await tried({ name: 'pen', euros: 0.001 }, 1)).toEqual({
      kind: 'dead',
      reason: 'invalid data',
      message: 'the upcaster from 1 to 2 made: /cents Expected integer',
    })
  })

  test('are named by the handler’s schema in any case, without names that only the sender has chosen', async () => {
    const outcome = await tried({ name: 7, cents: 1, 'card number': 2 }, 2, {
      schema: Type.Object({
        items: Type.Array(Type.Object({ name: Type.String(), cents: Type.Integer() }, { additionalProperties: false })),
      }),
    })
    expect(outcome).toEqual({
      kind: 'dead',
      reason: 'invalid data',
      message:
        'raised from version 2, not what order takes: /items/0/… Unexpected property; /items/0/name Expected string',
    })
  })

  test.each<[string, Upcaster['up'], string]>([
    ['a promise', async (data) => data, 'the upcaster from 2 to 3 made: a promise'],
    ['nothing', () => undefined, 'the upcaster from 2 to 3 made: nothing'],
  ])('are none at all: %s', async (_, up, message) => {
    expect(await tried({}, 2, { ...from(2, up), schema: Type.Unknown() })).toEqual({
      kind: 'dead',
      reason: 'invalid data',
      message: expect.stringContaining(message) as never,
    })
  })

  test('may have a member `then`', async () => {
    const made: unknown = JSON.parse('{"then":1}')
    expect(await tried({}, 2, { ...from(2, () => made), schema: Type.Unknown() })).toMatchObject({
      data: made as object,
    })
  })
})

test.each<[string, Error, object]>([
  ['a TerminalError', new TerminalError('no'), { kind: 'dead', reason: 'handler failed', message: 'no' }],
  ['a RetryableError', new RetryableError('no'), { kind: 'retry', reason: 'handler failed', message: 'no' }],
  ['any other error', new TypeError('no'), { kind: 'retry', reason: 'handler failed' }],
])('%s of an upcaster counts as one of the handler', async (_, error, outcome) => {
  const up = () => {
    throw error
  }
  expect(await tried({}, 2, from(2, up))).toMatchObject(outcome)
})

describe('upcasters that cannot be a chain to the version that is taken are refused by name', () => {
  const up = (data: unknown) => data
  const step = (from: unknown, to: unknown, more: object = {}) => ({ from, to, up, ...more })

  test.each<[string, object, string]>([
    ['no `takes`', { takes: undefined, upcasters: [step(1, 2)] }, 'has upcasters and no `takes`'],
    ...[0, 1.5, '3', 2 ** 31, null].map((takes): [string, object, string] => [
      `takes ${JSON.stringify(takes)}`,
      { takes, upcasters: [] },
      'has a `takes` that is no version',
    ]),
    ['no list', { upcasters: step(1, 3) }, 'has `upcasters` that are no list'],
    ['what is none', { upcasters: [null] }, 'upcasters[0] is no upcaster'],
    ['one without `up`', { upcasters: [{ from: 1, to: 3 }] }, 'upcasters[0] is no upcaster'],
    ['a version that is none', { upcasters: [step('1', 3)] }, 'upcasters[0] has a `from` or `to` that is no version'],
    ['one to itself', { upcasters: [step(3, 3)] }, 'upcasters[0] is from 3 to 3: `to` has to be higher'],
    ['one back', { upcasters: [step(2, 1)] }, 'upcasters[0] is from 2 to 1'],
    ['one too far', { upcasters: [step(2, 4)] }, 'upcasters[0] leads to 4, and the handler takes 3'],
    [
      'two from one',
      { upcasters: [step(2, 3), step(1, 3), step(2, 3)] },
      'upcasters[0] and upcasters[2] are both from 2',
    ],
    ['a gap', { upcasters: [step(1, 2)] }, 'upcasters[0] leads to 2, and none is from 2: the chain has to end at 3'],
    [
      'no schema',
      { upcasters: [step(2, 3, { schema: {} })] },
      'upcasters[0] has a schema that is neither one of TypeBox',
    ],
    [
      'no JSON Schema',
      { upcasters: [step(2, 3, { schema: jsonSchema({ type: 'nothing' }) })] },
      'upcasters[0] has a schema that is no JSON Schema',
    ],
  ])('%s', (_, changed, message) => {
    expect(() => handlerIndex([{ ...order, ...changed } as Handler])).toThrow(`handlers[0] (order) ${message}`)
  })

  test('each of several', () => {
    const faulty = { upcasters: [step(1, 2), step(3, 2), step(1, 9), step(1, 3)] }
    expect(() => handlerIndex([{ ...order, ...faulty } as Handler])).toThrow(
      'handlers[0] (order) upcasters[1] is from 3 to 2: `to` has to be higher; upcasters[2] leads to 9, and the handler takes 3; upcasters[0] and upcasters[3] are both from 1: remove one; upcasters[0] leads to 2, and none is from 2: the chain has to end at 3',
    )
  })
})

test('a chain in any order does what its upcasters do by hand', async () => {
  const cases = fc
    .tuple(fc.uniqueArray(fc.integer({ min: 1, max: 12 }), { minLength: 2, maxLength: 8 }), fc.nat())
    .chain(([versions, seed]) => {
      const ordered = versions.toSorted((a, b) => a - b)
      const takes = ordered.at(-1) as number
      // Each leads to any later one of the versions, so that chains meet and leave out versions.
      const steps = ordered.slice(0, -1).map((version, index): Upcaster => {
        const later = ordered.slice(index + 1)
        const to = later[(seed + 7 * index) % later.length] as number
        return { from: version, to, up: (data) => ({ path: [...(data as { path: number[] }).path, version] }) }
      })
      return fc.record({
        takes: fc.constant(takes),
        upcasters: fc.shuffledSubarray(steps, { minLength: steps.length }),
        version: fc.constantFrom(...ordered),
      })
    })
  await fc.assert(
    fc.asyncProperty(cases, async ({ takes, upcasters, version }) => {
      let byHand: unknown = { path: [] }
      for (let at = version; at !== takes; ) {
        const { up, to } = upcasters.find((one) => one.from === at) as Upcaster
        byHand = up(byHand)
        at = to
      }
      const handler = { ...order, schema: Type.Unknown(), takes, upcasters }
      expect(await testHandler(handler, { data: { path: [] } }, { schemaVersion: version })).toEqual({
        kind: 'processed',
        type: 'order',
        data: byHand,
      })
    }),
  )
})
