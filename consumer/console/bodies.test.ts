import { describe, expect, test } from 'bun:test'
import { Type } from '@sinclair/typebox'
import { type Problem, ProblemError } from '../../shared/http/problem.ts'
import { readBody, readQuery } from './parameters.ts'

const Body = Type.Object(
  { reason: Type.Optional(Type.String()), edit: Type.Optional(Type.Object({ data: Type.Optional(Type.Unknown()) })) },
  { additionalProperties: false },
)

const post = (body: string | Buffer, type = 'application/json') =>
  readBody(Body, new Request('http://localhost/', { method: 'POST', body, headers: { 'content-type': type } }))

async function problemOf(work: () => unknown): Promise<Problem['kind'] | undefined> {
  try {
    await work()
    return undefined
  } catch (error) {
    if (error instanceof ProblemError) return error.problem.kind
    throw error
  }
}

describe('a query', () => {
  test('with a name that every object has is refused like any unknown one', async () => {
    for (const name of ['__proto__', 'constructor', 'toString'])
      expect(await problemOf(() => readQuery(Type.Object({}), `/?${name}=1`))).toBe('invalid-parameters')
  })
})

describe('a body', () => {
  test('keeps the digits of what an edit has', async () => {
    expect(JSON.stringify(await post('{"edit":{"data":[1.0,12345678901234567890]}}'))).toBe(
      '{"edit":{"data":[1.0,12345678901234567890]}}',
    )
  })

  test('that is nested deeply is refused, and does not lose its edit', async () => {
    for (const depth of [1_000, 20_000, 1_000_000]) {
      const data = '['.repeat(depth) + ']'.repeat(depth)
      expect(await problemOf(() => post(`{"edit":{"data":${data}}}`))).toBe('too-deep')
    }
  })

  test('that is not UTF-8, has a member twice, or is no JSON is refused', async () => {
    for (const body of [Buffer.from('{"reason":"\xff"}', 'latin1'), '{"reason":"a","reason":"b"}', '{', '\ufeff{}'])
      expect(await problemOf(() => post(body))).toBe('malformed')
    expect(await problemOf(() => post('[]'))).toBe('invalid-body')
    expect(await problemOf(() => post('{"__proto__":{"reason":"a"}}'))).toBe('invalid-body')
  })

  test('that is not sent as JSON is refused, so that no page of another origin can act', async () => {
    for (const type of [
      'text/plain',
      'application/x-www-form-urlencoded',
      'application/jsonp',
      'text/plain; application/json',
    ])
      expect(await problemOf(() => post('{}', type))).toBe('unsupported-media-type')
  })

  test('may be empty', async () => {
    expect(await post('')).toEqual({})
  })
})
