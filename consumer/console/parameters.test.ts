import { describe, expect, test } from 'bun:test'
import { Type } from '@sinclair/typebox'
import type { Problem } from '../../shared/http/problem.ts'
import { oneOf } from '../../shared/service/one-of.ts'
import { problemOf } from '../../shared/testing/problem.ts'
import { simulateTime } from '../../shared/testing/simulated-time.ts'
import { Edit } from './acts-log.ts'
import { MAX_BODY_BYTES, readBody, readQuery } from './parameters.ts'

const QUERY = Type.Object({
  text: Type.Optional(Type.String({ minLength: 1, maxLength: 5 })),
  whole: Type.Integer({ minimum: 0, maximum: 500, default: 20 }),
  from: Type.Optional(Type.String({ format: 'date-time' })),
  word: Type.Optional(oneOf(['json', 'hex'])),
  must: Type.String(),
  list: Type.Optional(Type.Array(Type.String({ pattern: '^[^:]+:' }), { maxItems: 2 })),
})

const query = (text: string) => readQuery(QUERY, `http://x/v1/streams?${text}`)

const faultsOf = async (text: string): Promise<string[]> => {
  const { kind, errors = [] } = await problemOf(() => query(text))
  expect(kind).toBe('invalid-parameters')
  return errors.map(({ pointer, detail }) => `${pointer} ${detail}`)
}

describe('a query', () => {
  test('is read by its schema, with defaults', () => {
    expect(query('must=a')).toEqual({ must: 'a', whole: 20 })
    expect(query('must=&whole=0&text=%C3%A9+b&word=hex&from=2026-01-31T12:00:00%2B01:00&list=a:1&list=b:')).toEqual({
      must: '',
      whole: 0,
      text: 'é b',
      word: 'hex',
      from: '2026-01-31T12:00:00+01:00',
      list: ['a:1', 'b:'],
    })
    expect(readQuery(Type.Object({}), '/v1/streams')).toEqual({})
  })

  test('with faults is refused with every one of them by name', async () => {
    const faults = await faultsOf('text=toolong&whole=501&from=yesterday&word=xml&list=a&nonsense=1&other')
    expect(faults.map((one) => one.split(' ')[0])).toEqual([
      '/query/text',
      '/query/whole',
      '/query/from',
      '/query/word',
      '/query/list',
      '/query/nonsense',
      '/query/other',
      '/query/must',
    ])
    expect(faults[5]).toBe('/query/nonsense is no parameter here; there are: text, whole, from, word, must, list')
    expect(faults[7]).toBe('/query/must is required')
    expect((await problemOf(() => query('x=1'))).detail).toStartWith('The query has 2 faults: x is no parameter here')
  })

  test('may not repeat what is no list', async () => {
    expect(await faultsOf('must=a&must=a')).toEqual(['/query/must is given more than once'])
    expect(await faultsOf('must=a&list=a:&list=b:&list=c:')).toHaveLength(1)
  })

  test.each(['1.5', '-1', '1e2', '0x10', '', ' 1', '1 ', 'NaN', '９', '501', '1,0'])(
    'has no whole number %j',
    async (text) => {
      expect(await faultsOf(`must=a&whole=${encodeURIComponent(text)}`)).toHaveLength(1)
    },
  )

  test.each(['2026-01-31', '2026-13-01T00:00:00Z', '2026-01-31T12:00:00', 'now', '0', '2026-01-31T25:00:00Z'])(
    'has no time %s',
    async (text) => {
      expect(await faultsOf(`must=a&from=${text}`)).toHaveLength(1)
    },
  )

  test('may have names of members of every object, which are no parameters', async () => {
    for (const name of ['constructor', '__proto__', 'toString', 'hasOwnProperty'])
      expect(await faultsOf(`must=a&${name}=1`)).toEqual([
        `/query/${name} is no parameter here; there are: text, whole, from, word, must, list`,
      ])
  })

  test('may have a key, which is checked elsewhere', () => {
    expect(query('must=a&access_token=kt.x.y')).toEqual({ must: 'a', whole: 20 })
  })
})

const BODY = Type.Object(
  { reason: Type.String({ minLength: 1 }), edit: Type.Optional(Edit), count: Type.Integer({ default: 7 }) },
  { additionalProperties: false },
)

const post = (body: RequestInit['body'], headers: Record<string, string> = { 'content-type': 'application/json' }) =>
  readBody(BODY, new Request('http://x/', { method: 'POST', body: body ?? null, headers }))

describe('a body', () => {
  test('is read by its schema, with defaults, whatever its media type is parameterised with', async () => {
    for (const type of ['application/json', 'application/json; charset=utf-8', 'Application/JSON ;x=1'])
      expect(await post('{"reason":"é"}', { 'content-type': type })).toEqual({ reason: 'é', count: 7 })
  })

  test('may be empty where nothing is required', async () => {
    const schema = Type.Object({ reason: Type.Optional(Type.String()) })
    const empty = (body: string | null) =>
      readBody(
        schema,
        new Request('http://x/', { method: 'POST', body, headers: { 'content-type': 'application/json' } }),
      )
    expect(await empty(null)).toEqual({})
    expect(await empty(' \n')).toEqual({})
  })

  test.each([
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data',
    'application/jsonx',
    'application/cloudevents+json',
    '',
  ])('of the type %j is refused, so that no page of another site can act', async (type) => {
    const problem = await problemOf(() => post('{"reason":"x"}', { 'content-type': type }))
    expect(problem).toMatchObject({ kind: 'unsupported-media-type', closes: true })
  })

  test('that is too large is refused: at once by its length, and without a length once it is', async () => {
    const large = { kind: 'body-too-large', closes: true }
    const announced = new Request('http://x/', {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'content-length': String(MAX_BODY_BYTES + 1) },
    })
    expect(await problemOf(() => readBody(BODY, announced))).toMatchObject(large)
    let given = 0
    const chunked = new ReadableStream({
      pull(controller) {
        given += 2 ** 18
        controller.enqueue(Buffer.alloc(2 ** 18, ' '))
      },
    })
    expect(await problemOf(() => post(chunked))).toMatchObject(large)
    expect(given).toBeLessThan(2 * MAX_BODY_BYTES)
    const fits = `{"reason":"${'x'.repeat(MAX_BODY_BYTES - 13)}"}`
    expect(fits).toHaveLength(MAX_BODY_BYTES)
    expect((await post(fits)).reason).toHaveLength(MAX_BODY_BYTES - 13)
    expect(await problemOf(() => post(`${fits} `))).toMatchObject(large)
  })

  test.each([
    ['never comes', undefined],
    ['trickles', 1_000],
    ['comes just before the time is over', 29_980],
  ])('that %s is refused after 30 s in all, and no more of it is read', async (_, everyMs) => {
    const time = simulateTime(1)
    try {
      let isCancelled = false
      let trickling: ReturnType<typeof setInterval> | undefined
      const body = new ReadableStream<Uint8Array>({
        start(controller) {
          if (everyMs !== undefined) trickling = setInterval(() => controller.enqueue(Buffer.from(' ')), everyMs)
        },
        cancel: () => {
          isCancelled = true
          clearInterval(trickling)
        },
      })
      let problem: Problem | undefined
      void problemOf(() => post(body)).then((found) => {
        problem = found
      })
      await time.pass(29_990)
      expect([problem, isCancelled]).toEqual([undefined, false])
      await time.pass(20)
      expect(problem).toMatchObject({ kind: 'request-timeout', closes: true })
      expect(isCancelled).toBe(true)
    } finally {
      time.end()
    }
  })

  test('that is no JSON is malformed, also where it is no UTF-8', async () => {
    for (const body of [
      '{',
      '{"reason":}',
      'reason=x',
      '{"reason":"x"} {}',
      Buffer.from([...Buffer.from('{"reason":"'), 0xff, 0x22, 0x7d]),
    ])
      expect((await problemOf(() => post(body))).kind).toBe('malformed')
  })

  test('with faults is refused with every one of them by its pointer', async () => {
    const {
      kind,
      errors = [],
      detail,
    } = await problemOf(() =>
      post('{"reason":"","count":1.5,"more":1,"edit":{"type":7,"patch":[{"op":"poke","path":"/a"}]}}'),
    )
    expect(kind).toBe('invalid-body')
    const pointers = new Set(errors.map(({ pointer }) => pointer))
    for (const pointer of ['/reason', '/count', '/more', '/edit/type', '/edit/patch/0/op'])
      expect(pointers).toContain(pointer)
    expect(detail).toStartWith('The body has ')
    for (const body of ['[]', '7', 'null', '"x"']) expect((await problemOf(() => post(body))).kind).toBe('invalid-body')
  })

  test('names at most 100 faults', async () => {
    const patch = Array.from({ length: 500 }, () => ({ op: 'poke', path: 1 }))
    const { errors } = await problemOf(() => post(JSON.stringify({ reason: 'x', edit: { patch } })))
    expect(errors).toHaveLength(100)
  })

  test('keeps the digits of numbers in an edit: of data and of patches', async () => {
    const { edit } = await post(
      '{"reason":"x","edit":{"data":{"n":12345678901234567890,"f":1.0},"patch":[{"op":"add","path":"/n","value":[1e400]}]}}',
    )
    expect(JSON.stringify(edit)).toBe(
      '{"data":{"n":12345678901234567890,"f":1.0},"patch":[{"op":"add","path":"/n","value":[1e400]}]}',
    )
    expect((await post('{"reason":"x","edit":{"data":null}}')).edit).toEqual({ data: null })
    expect((await post('{"reason":"x","edit":{}}')).edit).toEqual({})
  })

  test('with an edit that is nested too deeply to be kept is refused, not read without it', async () => {
    const data = '['.repeat(20_000) + ']'.repeat(20_000)
    expect((await problemOf(() => post(`{"reason":"x","edit":{"data":${data}}}`))).kind).toBe('too-deep')
  })
})

const FREE_BODY = Type.Object(
  { reason: Type.Optional(Type.String()), edit: Type.Optional(Type.Object({ data: Type.Optional(Type.Unknown()) })) },
  { additionalProperties: false },
)

const postFreely = (body: string | Buffer, type = 'application/json') =>
  readBody(FREE_BODY, new Request('http://localhost/', { method: 'POST', body, headers: { 'content-type': type } }))

test('a query with a name that every object has is refused like any unknown one', async () => {
  for (const name of ['__proto__', 'constructor', 'toString'])
    expect((await problemOf(() => readQuery(Type.Object({}), `/?${name}=1`))).kind).toBe('invalid-parameters')
})

describe('a body of any shape', () => {
  test('keeps the digits of what an edit has', async () => {
    expect(JSON.stringify(await postFreely('{"edit":{"data":[1.0,12345678901234567890]}}'))).toBe(
      '{"edit":{"data":[1.0,12345678901234567890]}}',
    )
  })

  test('that is nested deeply is refused, and does not lose its edit', async () => {
    for (const depth of [1_000, 20_000, 1_000_000]) {
      const data = '['.repeat(depth) + ']'.repeat(depth)
      expect((await problemOf(() => postFreely(`{"edit":{"data":${data}}}`))).kind).toBe('too-deep')
    }
  })

  test('that is not UTF-8, has a member twice, or is no JSON is refused', async () => {
    for (const body of [Buffer.from('{"reason":"\xff"}', 'latin1'), '{"reason":"a","reason":"b"}', '{', '\ufeff{}'])
      expect((await problemOf(() => postFreely(body))).kind).toBe('malformed')
    expect((await problemOf(() => postFreely('[]'))).kind).toBe('invalid-body')
    expect((await problemOf(() => postFreely('{"__proto__":{"reason":"a"}}'))).kind).toBe('invalid-body')
  })

  test('that is not sent as JSON is refused, so that no page of another origin can act', async () => {
    for (const type of [
      'text/plain',
      'application/x-www-form-urlencoded',
      'application/jsonp',
      'text/plain; application/json',
    ])
      expect((await problemOf(() => postFreely('{}', type))).kind).toBe('unsupported-media-type')
  })

  test('may be empty', async () => {
    expect(await postFreely('')).toEqual({})
  })
})
