import { Script } from 'node:vm'
import { Type } from '@sinclair/typebox'
import { type Handler, type Handling, TerminalError } from '../handlers/handler.ts'
import type { Failure } from '../retry.ts'

/** Behaviours of handlers, and the one outcome that each event must have. Also usable as a HANDLERS_MODULE. */

export const HANDLER_TIMEOUT_MS = 200
export const MAX_ATTEMPTS = 4

/** `type` and `data` of the record in `.processed`, or the reason of the dead letter and what its message contains. */
type Expected = { type?: string; data: string } | { dead: Failure['reason']; says?: string; attempts?: number }

export interface Behaviour {
  name: string
  /** Any value: handlers are users' code, and not all of it is TypeScript. */
  handle(data: unknown, handling: Handling): unknown
  becomes: Expected
}

const revoked = () => {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
}
const circle: Record<string, unknown> = {}
circle.self = circle

class MessageIsNumber extends Error {
  override message = 7 as never
}
class MessageThrows extends Error {
  override get message(): string {
    throw new Error('in the getter')
  }
}

class OddTypeError extends TypeError {
  override get message(): string {
    throw new Error('in the getter')
  }
}
const writtenBy = (toJSON: () => unknown) => ({ data: { toJSON } })

const returned: Record<string, [unknown, Expected]> = {
  'an object with data': [{ data: { a: 1 } }, { data: '{"a":1}' }],
  'a type of its own': [
    { type: 'another', data: 1 },
    { type: 'another', data: '1' },
  ],
  'null as data': [{ data: null }, { data: 'null' }],
  'an array as data': [{ data: [1, undefined] }, { data: '[1,null]' }],
  'a Date as data': [{ data: new Date(0) }, { data: '"1970-01-01T00:00:00.000Z"' }],
  'NaN as data': [{ data: Number.NaN }, { data: 'null' }],
  'half a surrogate pair in data': [{ data: '\ud800' }, { data: '"\\ud800"' }],
  'a frozen object': [Object.freeze({ data: Object.freeze({ a: 1 }) }), { data: '{"a":1}' }],
  'an object without a prototype': [Object.assign(Object.create(null), { data: 1 }), { data: '1' }],
  'type undefined': [{ type: undefined, data: 1 }, { data: '1' }],
  'a number as type': [
    { type: 7, data: {} },
    { dead: 'invalid result', says: '/type' },
  ],
  'an object as type': [
    { type: {}, data: {} },
    { dead: 'invalid result', says: '/type' },
  ],
  'a String object as type': [
    { type: new String('a'), data: {} },
    { dead: 'invalid result', says: '/type' },
  ],
  'an empty type': [
    { type: '', data: {} },
    { dead: 'invalid result', says: '/type' },
  ],
  'a NUL in the type': [
    { type: 'a\u0000b', data: {} },
    { dead: 'invalid result', says: '/type' },
  ],
  'half a surrogate pair in the type': [
    { type: '\udc00', data: {} },
    { dead: 'invalid result', says: '/type' },
  ],
  'a type that is too long': [
    { type: 'x'.repeat(20_000), data: {} },
    { dead: 'invalid result', says: '/type' },
  ],
  'null as type': [
    { type: null, data: {} },
    { dead: 'invalid result', says: '/type' },
  ],
  'a misspelt member': [
    { tpye: 'a', data: {} },
    { dead: 'invalid result', says: '/tpye' },
  ],
  'two faults': [
    { type: 7, data: 1n },
    { dead: 'invalid result', says: '/data' },
  ],
  'no data': [{ type: 'another' }, { dead: 'invalid result', says: '/data' }],
  'undefined as data': [{ data: undefined }, { dead: 'invalid result', says: '/data' }],
  'a function as data': [{ data: () => 1 }, { dead: 'invalid result', says: '/data' }],
  'a symbol as data': [{ data: Symbol('a') }, { dead: 'invalid result', says: '/data' }],
  'a BigInt in data': [{ data: { n: 1n } }, { dead: 'invalid result', says: '/data' }],
  'a circle in data': [{ data: circle }, { dead: 'invalid result', says: '/data' }],
  'a toJSON that throws': [
    {
      data: {
        toJSON() {
          throw new Error('no')
        },
      },
    },
    { dead: 'invalid result', says: '/data' },
  ],
  'a toJSON that throws what cannot be looked at': [
    writtenBy(() => {
      throw revoked()
    }),
    { dead: 'invalid result', says: '/data' },
  ],
  'a toJSON that throws an error whose message throws': [
    writtenBy(() => {
      throw new OddTypeError()
    }),
    { dead: 'invalid result', says: '/data' },
  ],
  'a toJSON that returns nothing': [writtenBy(() => undefined), { dead: 'invalid result', says: '/data' }],
  'a revoked proxy as data': [{ data: revoked() }, { dead: 'invalid result', says: '/data' }],
  'a revoked proxy as type': [
    { type: revoked(), data: {} },
    { dead: 'invalid result', says: '/type must be a text, not an object' },
  ],
  'a proxy whose members cannot be listed': [
    new Proxy(
      { data: 1 },
      {
        ownKeys() {
          throw new Error('no')
        },
      },
    ),
    { dead: 'invalid result', says: 'cannot be read' },
  ],
  'a getter of its class': [
    new (class {
      get data() {
        return 1
      }
    })(),
    { dead: 'invalid result', says: '/data' },
  ],
  'members named as the event’s own, and many': [
    { id: 1, ...Object.fromEntries(Array.from({ length: 1_000 }, (_, n) => [`n${n}`, n])) },
    { dead: 'invalid result', says: '/… is no member' },
  ],
  'an id and a source': [
    { id: '2', source: '/other', data: 1 },
    { dead: 'invalid result', says: '/source' },
  ],
  'a getter that throws': [
    {
      get data() {
        throw new Error('no')
      },
    },
    { dead: 'invalid result', says: 'cannot be read' },
  ],
  'a member too many': [
    { data: 1, times: undefined },
    { dead: 'invalid result', says: '/times' },
  ],
  undefined: [undefined, { dead: 'invalid result', says: 'undefined' }],
  null: [null, { dead: 'invalid result', says: 'null' }],
  'an array': [[{ data: 1 }], { dead: 'invalid result', says: 'an array' }],
  'a text': ['{"data":1}', { dead: 'invalid result', says: 'a string' }],
  'a number': [7, { dead: 'invalid result', says: 'a number' }],
  true: [true, { dead: 'invalid result', says: 'a boolean' }],
  'a function': [() => ({ data: 1 }), { dead: 'invalid result', says: 'a function' }],
  'an empty object': [{}, { dead: 'invalid result', says: '/data' }],
  'a Map': [new Map([['data', 1]]), { dead: 'invalid result', says: '/data' }],
  'an error': [new Error('no'), { dead: 'invalid result', says: '/data' }],
  'a generator': [
    (function* () {
      yield 1
    })(),
    { dead: 'invalid result', says: '/data' },
  ],
  // Reading `then` throws.
  'a revoked proxy': [revoked(), { dead: 'out of attempts' }],
}

const thrown: Record<string, [unknown, Expected]> = {
  'an error': [new Error('no'), { dead: 'out of attempts', says: 'no', attempts: MAX_ATTEMPTS }],
  'a terminal error': [new TerminalError('never'), { dead: 'handler failed', says: 'never', attempts: 1 }],
  'an error whose message is a number': [new MessageIsNumber(), { dead: 'out of attempts', says: '7' }],
  'an error whose message throws': [new MessageThrows(), { dead: 'out of attempts', says: 'cannot be described' }],
  'an error without a message': [new RangeError(), { dead: 'out of attempts', says: 'RangeError' }],
  'a frozen error': [Object.freeze(new Error('cold')), { dead: 'out of attempts', says: 'cold' }],
  'an object without a prototype': [Object.create(null), { dead: 'out of attempts' }],
  undefined: [undefined, { dead: 'out of attempts', says: 'undefined' }],
  null: [null, { dead: 'out of attempts', says: 'null' }],
  'a text': ['a text', { dead: 'out of attempts', says: 'a text' }],
  'a symbol': [Symbol('odd'), { dead: 'out of attempts', says: 'odd' }],
  'a BigInt': [7n, { dead: 'out of attempts', says: '7' }],
  'a circle': [circle, { dead: 'out of attempts' }],
  'a revoked proxy': [revoked(), { dead: 'out of attempts' }],
  'a very long message': [new Error('x'.repeat(100_000)), { dead: 'out of attempts', says: 'xxx' }],
  'half a surrogate pair': [new Error('a\ud800'), { dead: 'out of attempts', says: 'a\ufffd' }],
}

const thenable = (then: (resolve: (value: unknown) => void, reject: (reason: unknown) => void) => void) => ({ then })

const special: Behaviour[] = [
  {
    name: 'returns data that cannot be written when it is read a second time',
    handle: () => {
      let reads = 0
      return {
        get data() {
          return reads++ === 0 ? 1 : 1n
        },
      }
    },
    becomes: { data: '1' },
  },
  {
    name: 'a thenable that is another one when it is asked again',
    handle: () => {
      let reads = 0
      return {
        // biome-ignore lint/suspicious/noThenProperty: that is what is tried
        get then() {
          return reads++ === 0 ? (resolve: (value: unknown) => void) => resolve({ data: 1 }) : 7
        },
      }
    },
    becomes: { data: '1' },
  },
  {
    name: 'a thenable that resolves, rejects and throws',
    handle: () =>
      thenable((resolve, reject) => {
        resolve({ data: 1 })
        reject(new Error('no'))
        throw new Error('no')
      }),
    becomes: { data: '1' },
  },
  {
    name: 'an error that says nothing when it is asked for its code',
    handle: () => {
      throw Object.defineProperty(new TerminalError('never'), 'code', {
        get() {
          throw new Error('in the getter')
        },
      })
    },
    becomes: { dead: 'handler failed', says: 'never', attempts: 1 },
  },
  {
    name: 'runs a script with a time-out of its own',
    handle: () => new Script('for (;;);').runInThisContext({ timeout: 10 }),
    // A busy machine may stop the script only after the handler's time limit; attempt.test.ts has a limit that is far away.
    becomes: { dead: 'out of attempts' },
  },
  { name: 'never settles', handle: () => new Promise(() => {}), becomes: { dead: 'out of attempts', says: 'within' } },
  {
    name: 'a thenable that never settles',
    handle: () => thenable(() => {}),
    becomes: { dead: 'out of attempts', says: 'within' },
  },
  { name: 'a thenable', handle: () => thenable((resolve) => resolve({ data: 1 })), becomes: { data: '1' } },
  {
    name: 'a thenable of a thenable',
    handle: () => thenable((resolve) => resolve(thenable((inner) => inner({ data: 1 })))),
    becomes: { data: '1' },
  },
  {
    name: 'a thenable that rejects',
    handle: () => thenable((_, reject) => reject(new TerminalError('no'))),
    becomes: { dead: 'handler failed', says: 'no' },
  },
  {
    name: 'a thenable that throws',
    handle: () =>
      thenable(() => {
        throw new TerminalError('no')
      }),
    becomes: { dead: 'handler failed', says: 'no' },
  },
  {
    name: 'a getter `then` that throws',
    handle: () => ({
      // biome-ignore lint/suspicious/noThenProperty: that is what is tried
      get then() {
        throw new TerminalError('no')
      },
    }),
    becomes: { dead: 'handler failed', says: 'no' },
  },
  {
    name: 'too late',
    handle: async () => {
      await Bun.sleep(3 * HANDLER_TIMEOUT_MS)
      return { data: 1 }
    },
    becomes: { dead: 'out of attempts', says: 'within' },
  },
  {
    name: 'too late with an error',
    handle: async () => {
      await Bun.sleep(2 * HANDLER_TIMEOUT_MS)
      throw new Error('late')
    },
    becomes: { dead: 'out of attempts', says: 'within' },
  },
  {
    name: 'keeps the thread',
    handle: () => {
      for (;;);
    },
    becomes: { dead: 'out of attempts', says: 'kept the thread' },
  },
  {
    name: 'recurses without end',
    handle: function again(): unknown {
      return [again()]
    },
    // A busy machine may need longer than the handler's time limit to fill the call stack, so that the message differs.
    becomes: { dead: 'out of attempts' },
  },
  {
    name: 'changes what it is given',
    handle: (data, { event, context }) => {
      const changes = [
        () => {
          ;(event as { id: string }).id = 'other'
        },
        () => {
          ;(event as { source: string }).source = 'other'
        },
        () => {
          ;(event.extensions as Record<string, string>).more = 'x'
        },
        () => {
          event.data?.fill(0)
        },
        () => {
          ;(context as { tenant: string }).tenant = 'b'
        },
        () => {
          ;(context as { lookups?: object }).lookups = {}
        },
        () => {
          ;(data as { id: string }).id = 'other'
        },
      ]
      for (const change of changes)
        try {
          change()
        } catch {}
      throw new TerminalError('changed')
    },
    becomes: { dead: 'handler failed', says: 'changed' },
  },
  {
    name: 'succeeds at the last attempt',
    handle: (_, { attempt }) => {
      if (attempt < MAX_ATTEMPTS) throw new Error('not yet')
      return { data: attempt }
    },
    becomes: { data: String(MAX_ATTEMPTS) },
  },
  {
    name: 'is aborted by its signal',
    handle: (_, { signal }) =>
      new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('heeded')))),
    becomes: { dead: 'out of attempts' },
  },
]

/** What a handler may return, throw, reject with or do; at once, asynchronously or late. */
export const behaviours: Behaviour[] = [
  ...Object.entries(returned).flatMap(([what, [value, becomes]]): Behaviour[] => [
    { name: `returns ${what}`, handle: () => value, becomes },
    { name: `returns ${what}, asynchronously`, handle: async () => value, becomes },
  ]),
  ...Object.entries(thrown).flatMap(([what, [value, becomes]]): Behaviour[] => [
    {
      name: `throws ${what}`,
      handle: () => {
        throw value
      },
      becomes,
    },
    { name: `rejects with ${what}`, handle: () => Promise.reject(value), becomes },
    {
      name: `rejects later with ${what}`,
      handle: async () => {
        await Bun.sleep(1)
        throw value
      },
      becomes,
    },
  ]),
  ...special,
]

/** One for each behaviour. */
export const handlers = behaviours.map(
  ({ handle }, index): Handler => ({
    type: `b.${index}`,
    version: '1',
    schema: Type.Unknown(),
    handle: handle as Handler['handle'],
  }),
)

/** The id of an event, by its type. */
export const idOf = (type: string, index: number): string => `${type}-${index}`

/** An event for each behaviour, each followed by one of the same key without a handler. */
export const events = behaviours.flatMap((_, index) =>
  [`b.${index}`, 'plain'].map((type) => ({
    id: idOf(type, index),
    source: '/test',
    type,
    subject: `key-${index}`,
    ext: 'x',
    data: { id: index },
  })),
)
