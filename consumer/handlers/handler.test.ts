import { describe, expect, test } from 'bun:test'
import { Type } from '@sinclair/typebox'
import { defineHandler, type Handler, handlerIndex } from './handler.ts'

const handler = (type: string): Handler => ({
  type,
  version: '1',
  schema: Type.Unknown(),
  handle: (data) => ({ data }),
})

describe('finding the handler of a type', () => {
  const find = handlerIndex(['com.*', 'com.shop.order.*', 'com.shop.order.paid', 'com.shop.*'].map(handler))
  const found = (type: string) => find(type)?.type

  test('an exact type wins over every prefix', () => {
    expect(found('com.shop.order.paid')).toBe('com.shop.order.paid')
  })

  test('the longest prefix wins, whatever the order of the list', () => {
    expect(found('com.shop.order.sent')).toBe('com.shop.order.*')
    expect(found('com.shop.cart.left')).toBe('com.shop.*')
    expect(found('com.bank.paid')).toBe('com.*')
  })

  test('a type that nobody claims has none', () => {
    expect(found('org.shop')).toBeUndefined()
    expect(found('com')).toBeUndefined()
  })

  test('a prefix also matches itself with nothing after it', () => {
    expect(found('com.shop.')).toBe('com.shop.*')
  })

  test('an exact type is no prefix', () => {
    expect(handlerIndex([handler('com.shop')])('com.shop.order')).toBeUndefined()
  })

  test('a lone star takes everything that nobody else does', () => {
    const all = handlerIndex([handler('*'), handler('a')])
    expect(all('a')?.type).toBe('a')
    expect(all('anything')?.type).toBe('*')
  })

  test('a star that is not at the end is an ordinary character', () => {
    const odd = handlerIndex([handler('a*b')])
    expect(odd('a*b')?.type).toBe('a*b')
    expect(odd('axb')).toBeUndefined()
  })
})

test('two handlers of one type, or of one prefix, are refused by name', () => {
  expect(() => handlerIndex([handler('a'), handler('b'), handler('a')])).toThrow('two handlers claim the event type a:')
  expect(() => handlerIndex([handler('a*'), handler('a*')])).toThrow('two handlers claim the event type a*:')
  expect(() => handlerIndex([handler('a'), handler('a*')])).not.toThrow()
})

test('the check of a registered handler is that of its schema', () => {
  const find = handlerIndex([
    defineHandler({
      type: 'counted',
      version: '1',
      schema: Type.Object({ count: Type.Integer() }),
      handle: ({ count }) => ({ data: count + 1 }),
    }),
  ])
  expect(find('counted')?.check.passes({ count: 1 })).toBe(true)
  expect(find('counted')?.check.passes({ count: 'many' })).toBe(false)
})

test('a plain object is told how to become a schema, wherever one is given', () => {
  const plain = { type: 'object' } as never
  const { handle } = handler('a')
  const given: [string, Handler][] = [
    ['(a) has a schema that', { type: 'a', version: '1', schema: plain, handle }],
    ['(a) has a schema that', { type: 'a', version: '1', schema: Type.Object({ n: plain }), handle }],
    ['(a) has a `result` that', { ...handler('a'), result: plain }],
    [
      '(a) upcasters[0] has a schema that',
      { ...handler('a'), takes: 2, upcasters: [{ from: 1, to: 2, up: String, schema: plain }] },
    ],
  ]
  for (const [where, one] of given)
    expect(() => handlerIndex([one])).toThrow(
      new Error(
        `handlers[0] ${where} is neither one of TypeBox, such as Type.Object({ … }), nor jsonSchema(document): a JSON Schema is given as jsonSchema({ … }), and schemas of TypeBox have no plain objects in them`,
      ),
    )
})

test('what is no handler is told with what it lacks', () => {
  const faulty = [{ type: 'a', version: '1', handle() {} }, { type: 'b', version: 1, handle() {} }, { type: 'c' }]
  expect(() => handlerIndex(faulty as never)).toThrow(
    'handlers[0] (a) has no schema: Type.Unknown() takes all data; handlers[1] (b) has no version that is a string; handlers[2] (c) has no version',
  )
})
