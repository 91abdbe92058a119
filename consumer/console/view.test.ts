import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { REDRIVEN_FROM } from '../../shared/events/headers.ts'
import { stepsOf } from '../../shared/events/json-pointer.ts'
import { type Given, incoming, SHOWING } from '../testing/console.ts'
import { jsonOf, valueAt } from './json.ts'
import { MASK, masked, type Showing, viewOf } from './view.ts'

const dataOf = (given: Given, showing: Partial<Showing> = {}) =>
  viewOf(incoming(given), { ...SHOWING, ...showing }).data

/** What a client gets. */
const textOf = (given: Given, showing: Partial<Showing> = {}): string =>
  JSON.stringify(viewOf(incoming(given), { ...SHOWING, ...showing }))

describe('data', () => {
  test('JSON numbers keep their digits', () => {
    for (const number of [
      '12345678901234567890',
      '1.0',
      '1e400',
      '-0',
      '0.1000000000000000055511151231257827',
      '1E2',
      '7',
    ])
      expect(textOf({ value: `{"n":[${number}]}` })).toContain(`"json":{"n":[${number}]}`)
  })

  test('what is no JSON is shown as text, and what is no text as hex', () => {
    expect(dataOf({ value: 'grüße {' })).toEqual({ format: 'text', text: 'grüße {' })
    expect(dataOf({ value: Buffer.from([0xff, 0x00]) })).toEqual({ format: 'hex', hex: 'ff00' })
    expect(dataOf({ value: '' })).toEqual({ format: 'text', text: '' })
    expect(dataOf({ value: '{"a":1}' }, { format: 'text' })).toEqual({ format: 'text', text: '{"a":1}' })
    expect(dataOf({ value: '{"a":1}' }, { format: 'hex' })).toEqual({ format: 'hex', hex: '7b2261223a317d' })
    expect(dataOf({ value: '\u{feff}{"a":1}' })).toEqual({ format: 'text', text: '\u{feff}{"a":1}' })
  })

  test('JSON that is nested too deeply to be read is shown as text', () => {
    const nested = (levels: number): string => '[{"a":"[\\"["},'.repeat(levels) + ']'.repeat(levels)
    const shown = (value: string) => dataOf({ value }, { maxDataBytes: 2 ** 21 })
    for (const value of [
      '['.repeat(100_000) + ']'.repeat(100_000),
      `${'[0,'.repeat(513)}0${']'.repeat(513)}`,
      nested(600),
    ])
      expect(shown(value)).toEqual({ format: 'text', text: value })
    expect(shown(`${'[0,'.repeat(512)}0${']'.repeat(512)}`)).toMatchObject({ format: 'json' })
    // Neither elements in a row nor text add to the depth.
    expect(shown(`[${'{"a":["[[[[","\\"[["]},'.repeat(1_000)}0]`)).toMatchObject({ format: 'json' })
  })

  test('a record without a value has no data, unlike an empty one', () => {
    const view = viewOf(incoming({ value: null }), SHOWING)
    expect(view).not.toHaveProperty('data')
    expect(view.bytes).toBe(0)
  })

  test('the beginning of long data has no cut character and says how long all of it is', () => {
    for (let maxDataBytes = 0; maxDataBytes < 16; maxDataBytes++) {
      const view = viewOf(incoming({ value: 'aé€😀'.repeat(4) }), { ...SHOWING, maxDataBytes })
      expect(view).toMatchObject({ bytes: 40, truncated: true, data: { format: 'text' } })
      const { text } = view.data as { text: string }
      expect('aé€😀'.repeat(4)).toStartWith(text)
      expect(Buffer.byteLength(text)).toBeLessThanOrEqual(maxDataBytes)
      expect(Buffer.byteLength(text)).toBeGreaterThan(maxDataBytes - 4)
    }
    expect(viewOf(incoming({ value: '{"a":12345}' }), { ...SHOWING, maxDataBytes: 11 })).not.toHaveProperty('truncated')
    expect(viewOf(incoming({ value: '{"a":12345}' }), { ...SHOWING, maxDataBytes: 10 })).toMatchObject({
      truncated: true,
      data: { format: 'text', text: '{"a":12345' },
    })
    expect(dataOf({ value: Buffer.alloc(20, 0xff) }, { maxDataBytes: 2 })).toEqual({ format: 'hex', hex: 'ffff' })
  })
})

describe('a record', () => {
  test('is shown with what its headers say', () => {
    const error = JSON.stringify({ reason: 'handler failed', message: 'no', handler: 'order.placed@1' })
    const attempts = JSON.stringify([{ attempt: 1, atMs: 5_000, reason: 'handler failed', message: 'no' }])
    const view = viewOf(
      incoming({
        topic: 'kt.acme.events.dlq',
        partition: 2,
        offset: 9,
        key: 'k',
        headers: {
          'kt-generation': '3',
          'kt-received-at': '1000',
          'kt-error': error,
          'kt-attempts': attempts,
          'kt-not-before': '7000',
          'kt-origin': 'kt.acme.events/2/4',
          [REDRIVEN_FROM]: 'kt.acme.events.dlq/2/1',
          'kt-edited': '1',
          'kt-schema': 'acme.events-a/b/12',
          traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
          odd: Buffer.from([0xfe]),
          none: null,
        },
      }),
      SHOWING,
    )
    expect(view).toMatchObject({
      role: 'dlq',
      topic: 'kt.acme.events.dlq',
      partition: 2,
      offset: 9,
      time: '1970-01-01T00:00:01.000Z',
      key: 'k',
      event: { id: 'e1', source: '/s', type: 'order.placed' },
      schema: { subject: 'acme.events-a/b', version: 12 },
      generation: 3,
      receivedAt: '1970-01-01T00:00:01.000Z',
      traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
      error: { reason: 'handler failed', message: 'no', handler: 'order.placed@1' },
      attempts: [{ attempt: 1, time: '1970-01-01T00:00:05.000Z', reason: 'handler failed', message: 'no' }],
      notBefore: '1970-01-01T00:00:07.000Z',
      origin: 'kt.acme.events/2/4',
      redrivenFrom: 'kt.acme.events.dlq/2/1',
      edited: true,
    })
    expect(view.headers).toContainEqual({ name: 'odd', hex: 'fe' })
    expect(view.headers).toContainEqual({ name: 'none' })
  })

  test('that is no event says why, and is shown nevertheless', () => {
    const view = viewOf(incoming({ id: null, value: 'x' }), SHOWING)
    expect(view.undecodable).toContain('not a valid CloudEvent')
    expect(view).not.toHaveProperty('event')
    expect(view.data).toEqual({ format: 'text', text: 'x' })
  })

  test('with headers that only look like ours is shown without what they say', () => {
    const view = viewOf(
      incoming({
        headers: {
          'kt-error': '[1]',
          'kt-attempts': '{',
          'kt-context': 'null',
          'kt-generation': '01',
          'kt-origin': 'x/0/0',
          'kt-received-at': 'soon',
        },
      }),
      SHOWING,
    )
    for (const member of ['error', 'attempts', 'handler', 'receivedAt', 'origin'])
      expect(view).not.toHaveProperty(member)
    expect(view.generation).toBe(0)
  })

  test('without a timestamp has the time 0', () => {
    expect(viewOf(incoming({ timestampMs: -1 }), SHOWING).time).toBe('1970-01-01T00:00:00.000Z')
  })
})

describe('masks', () => {
  const jsonShown = (value: string, ...redact: string[]): unknown => {
    const data = dataOf({ value }, { redact })
    if (data?.format !== 'json') throw new Error(`it is shown as ${data?.format}`)
    return JSON.parse(JSON.stringify(data.json))
  }

  test.each([
    ['{"a":{"b":1,"c":2}}', ['/a/b'], { a: { b: MASK, c: 2 } }],
    ['{"a":{"b":1}}', ['/a'], { a: MASK }],
    ['{"a":[{"s":1},{"s":2},{"t":3}]}', ['/a/*/s'], { a: [{ s: MASK }, { s: MASK }, { t: 3 }] }],
    ['{"a":[1,2]}', ['/a/1'], { a: [1, MASK] }],
    ['{"a":[1,2]}', ['/a/*'], { a: [MASK, MASK] }],
    ['{"x":{"s":1},"y":{"s":2}}', ['/*/s'], { x: { s: MASK }, y: { s: MASK } }],
    ['{"*":{"s":1},"y":{"s":2}}', ['/*/s'], { '*': { s: MASK }, y: { s: MASK } }],
    ['{"a":1}', [''], MASK],
    ['7', [''], MASK],
    ['{"a":1}', ['/*'], { a: MASK }],
    ['{"a/b":1,"c~d":2,"":3}', ['/a~1b', '/c~0d', '/'], { 'a/b': MASK, 'c~d': MASK, '': MASK }],
    ['{"~1":1,"/":2}', ['/~01'], { '~1': MASK, '/': 2 }],
    ['{"a":1,"a":2}', ['/a'], { a: MASK }],
    [
      '{"__proto__":{"s":1},"constructor":2}',
      ['/__proto__/s', '/constructor'],
      JSON.parse(`{"__proto__":{"s":"${MASK}"},"constructor":"${MASK}"}`),
    ],
    ['{"a":1.0,"b":[1e2,"x"]}', ['/*/*', '/a/rawJSON'], { a: 1, b: [MASK, MASK] }],
    ['{"a":[1]}', ['/a/length', '/a/-'], { a: [1] }],
    ['{"a":null}', ['/a/b', '/c', '/a/b/c'], { a: null }],
    ['"text"', ['/0', '/length'], 'text'],
  ] as [string, string[], unknown][])('%s with %j', (value, redact, expected) => {
    expect(jsonShown(value, ...redact)).toEqual(expected)
  })

  test('nothing is shown of data that is no JSON, that is too long, or in another format', () => {
    const redact = ['/s']
    for (const [given, showing] of [
      [{ value: 's3cret' }, {}],
      [{ value: '{"s":"s3cret"' }, {}],
      [{ value: '\u{feff}{"s":"s3cret"}' }, {}],
      [{ value: '{"s":"s3cret"}' }, { format: 'text' }],
      [{ value: '{"s":"s3cret"}' }, { format: 'hex' }],
      [{ value: '{"s":"s3cret"}' }, { maxDataBytes: 5 }],
      [{ value: '{"s":"s3cret"}', id: null }, {}],
      [{ value: Buffer.from([0xff, ...Buffer.from('s3cret')]) }, { format: 'hex' }],
      [{ value: `${'['.repeat(50_000)}"s3cret"${']'.repeat(50_000)}` }, { maxDataBytes: 2 ** 20 }],
    ] as [Given, Partial<Showing>][]) {
      const text = textOf(given, { ...showing, redact })
      expect(text).toContain('"format":"masked"')
      expect(text).not.toContain('s3cret')
      expect(text).not.toContain(Buffer.from('s3cret').toString('hex'))
    }
  })

  const structured = (event: object): Given => ({
    id: null,
    headers: { 'content-type': 'application/cloudevents+json' },
    value: JSON.stringify(event),
  })

  test('of a structured event are those of its data', () => {
    const event = { specversion: '1.0', id: 'e1', source: '/s', type: 't' }
    const redact = ['/s']
    expect(dataOf(structured({ ...event, data: { s: 's3cret', t: 1 } }), { redact })).toEqual({
      format: 'json',
      json: { s: MASK, t: 1 },
    })
    const base64 = Buffer.from('{"s":"s3cret"}').toString('base64')
    for (const one of [
      { ...event, data_base64: base64 },
      { ...event, data: 's3cret', datacontenttype: 'text/plain' },
      { source: '/s', data: { s: 's3cret' } },
    ]) {
      const text = textOf(structured(one), { redact })
      expect(text).not.toContain('s3cret')
      expect(text).not.toContain(base64)
    }
    expect(textOf(structured({ ...event, data: { s: 's3cret' } }))).toContain('s3cret')
    expect(viewOf(incoming(structured(event)), { ...SHOWING, redact })).not.toHaveProperty('data')
  })

  /** Names of members, some of which are special somewhere. */
  const name = fc.constantFrom('a', 'b', '*', '', 'a/b', '~', '0', '__proto__', 'rawJSON', 'length')
  const json = fc.letrec((tie) => ({
    value: fc.oneof(
      { maxDepth: 4 },
      fc.integer().map(String),
      fc.constantFrom('1.0', '1e2', '12345678901234567890', 'null', 'true', '"*"'),
      fc.array(tie('value') as fc.Arbitrary<string>, { maxLength: 3 }).map((all) => `[${all.join()}]`),
      fc
        .array(fc.tuple(name, tie('value') as fc.Arbitrary<string>), { maxLength: 4 })
        .map((all) => `{${all.map(([key, value]) => `${JSON.stringify(key)}:${value}`).join()}}`),
    ) as fc.Arbitrary<string>,
  })).value
  const pointer = fc
    .array(name, { maxLength: 4 })
    .map((steps) => steps.map((step) => `/${step.replaceAll('~', '~0').replaceAll('/', '~1')}`).join(''))

  /** Every scalar at or below what the pointer names becomes a secret of its own, by another way than masks are made. */
  function withSecrets(text: string, at: string): { text: string; secrets: number } {
    let secrets = 0
    const secret = (value: unknown): unknown =>
      Array.isArray(value)
        ? value.map(secret)
        : typeof value === 'object' && value !== null
          ? fromEntries(Object.entries(value).map(([key, one]) => [key, secret(one)]))
          : `s3cret${secrets++}`
    const walk = (value: unknown, [step, ...rest]: string[]): unknown => {
      if (step === undefined) return secret(value)
      const named = (key: string): boolean => step === '*' || step === key
      if (Array.isArray(value)) return value.map((one, index) => (named(String(index)) ? walk(one, rest) : one))
      if (typeof value !== 'object' || value === null) return value
      return fromEntries(Object.entries(value).map(([key, one]) => [key, named(key) ? walk(one, rest) : one]))
    }
    return { text: JSON.stringify(walk(JSON.parse(text), stepsOf(at))), secrets }
  }
  const fromEntries = (entries: [string, unknown][]): unknown => {
    const made = Object.create(null) as Record<string, unknown>
    for (const [key, value] of entries) made[key] = value
    return made
  }

  test('no string at a masked pointer is in the view, in any format, of any part of the stream', () => {
    let seen = 0
    fc.assert(
      fc.property(
        json,
        pointer,
        fc.array(pointer, { maxLength: 2 }),
        fc.constantFrom('json' as const, 'text' as const, 'hex' as const),
        fc.integer({ min: 0, max: 400 }),
        fc.boolean(),
        (text, at, others, format, maxDataBytes, isStructured) => {
          const secret = withSecrets(text, at)
          seen += secret.secrets
          const given: Given = isStructured
            ? structured({ specversion: '1.0', id: 'e1', source: '/s', type: 't', data: JSON.parse(secret.text) })
            : { value: secret.text }
          const shown = textOf(given, { format, maxDataBytes, redact: [...others, at] })
          return !shown.includes('s3cret') && !shown.includes(Buffer.from('s3cret').toString('hex'))
        },
      ),
      { numRuns: 400 },
    )
    expect(seen).toBeGreaterThan(100)
  })

  test('change nothing that they do not name', () => {
    fc.assert(
      fc.property(json, (text) => {
        const value = jsonOf(text)?.value
        expect(JSON.stringify(masked(jsonOf(text)?.value, ['/nope', '/nope/*']))).toBe(JSON.stringify(value))
      }),
    )
  })
})

test('a pointer names what RFC 6901 says, in section 5', () => {
  const document = {
    foo: ['bar', 'baz'],
    '': 0,
    'a/b': 1,
    'c%d': 2,
    'e^f': 3,
    'g|h': 4,
    'i\\j': 5,
    'k"l': 6,
    ' ': 7,
    'm~n': 8,
  }
  expect(
    ['', '/foo', '/foo/0', '/', '/a~1b', '/c%d', '/e^f', '/g|h', '/i\\j', '/k"l', '/ ', '/m~0n'].map((one) =>
      valueAt(document, one),
    ),
  ).toEqual([document, ['bar', 'baz'], 'bar', 0, 1, 2, 3, 4, 5, 6, 7, 8])
  for (const nothing of ['/nope', '/foo/2', '/foo/-', '/foo/length', '/toString', '/foo/0/0', '/ /x'])
    expect(valueAt(document, nothing)).toBeUndefined()
})
