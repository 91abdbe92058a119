import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { atIndex, type Defaults, eventFromJson } from './event-json.ts'
import { outlineJson } from './json.ts'

function read(text: string | object, defaults?: Defaults) {
  const bytes = Buffer.from(typeof text === 'string' ? text : JSON.stringify(text))
  const result = outlineJson(bytes, { maxDepth: 64, maxElements: 10, maxMembers: 100, maxObjectMembers: 100 })
  if (!result.ok || result.outline.root !== 'object') throw new Error('the test’s text is no object')
  return eventFromJson(bytes, result.outline.members, defaults)
}

const REQUIRED = { specversion: '1.0', id: '1', source: '/s', type: 't' }
const event = (text: string | object, defaults?: Defaults) => {
  const result = read(text, defaults)
  if (!result.ok) throw new Error(JSON.stringify(result.faults))
  return result.event
}
const pointers = (text: string | object, defaults?: Defaults) => {
  const result = read(text, defaults)
  return result.ok ? [] : result.faults.map((fault) => fault.pointer)
}
const defaults: Defaults = { source: '/tenants/t', id: () => 'made', time: () => '2026-01-01T00:00:00Z' }

describe('data in the JSON event format', () => {
  test('keeps the very bytes of JSON data: big numbers, spaces, escapes, repeated members', () => {
    for (const data of [
      '12345678901234567890.10',
      '{ "a" :1e400, "a": "\\u00e9" }',
      'null',
      '"text"',
      '[\n1 ]',
      'true',
      '-0',
    ])
      expect(event(`{"specversion":"1.0","id":"1","source":"/s","type":"t","data": ${data} }`).data?.toString()).toBe(
        data,
      )
  })

  test('is application/json, and says so, when nothing else is said', () => {
    expect(event({ ...REQUIRED, data: 1 }).datacontenttype).toBe('application/json')
    expect(event({ ...REQUIRED, data_base64: 'AA==' }).datacontenttype).toBe('application/json')
    expect(event(REQUIRED).datacontenttype).toBeUndefined()
    expect(event({ ...REQUIRED, data: 1, datacontenttype: null }).datacontenttype).toBe('application/json')
  })

  test('of another media type is the text of a string', () => {
    expect(event({ ...REQUIRED, datacontenttype: 'text/xml', data: '<é/>' }).data?.toString()).toBe('<é/>')
    expect(pointers({ ...REQUIRED, datacontenttype: 'text/xml', data: { a: 1 } })).toEqual(['/data'])
    expect(pointers({ ...REQUIRED, datacontenttype: 'text/xml', data: null })).toEqual(['/data'])
    expect(pointers({ ...REQUIRED, datacontenttype: 'text/plain', data: '\ud800' })).toEqual(['/data'])
    expect(pointers({ ...REQUIRED, datacontenttype: 'text/plain; charset=iso-8859-1', data: 'x' })).toEqual(['/data'])
    expect(event({ ...REQUIRED, datacontenttype: 'text/plain; charset="UTF-8"', data: 'x' }).data?.toString()).toBe('x')
  })

  test('with a +json type is JSON', () => {
    expect(event({ ...REQUIRED, datacontenttype: 'application/vnd.x+JSON', data: 'x' }).data?.toString()).toBe('"x"')
  })

  test('absent, null and empty are three things', () => {
    expect(event(REQUIRED).data).toBeNull()
    expect(event({ ...REQUIRED, data: null }).data?.toString()).toBe('null')
    expect(event({ ...REQUIRED, data_base64: '' }).data?.length).toBe(0)
    expect(event({ ...REQUIRED, data_base64: null }).data).toBeNull()
  })

  test('as Base64 is any bytes, written strictly', () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        const back = event({ ...REQUIRED, data_base64: Buffer.from(bytes).toString('base64') }).data
        expect(back?.equals(Buffer.from(bytes))).toBe(true)
      }),
    )
    for (const bad of ['A', 'AA', 'AA=', 'AB==', 'AA==\n', 'A A=', '-_==', 'AAAA=', '%', 5, true, {}])
      expect(pointers({ ...REQUIRED, data_base64: bad })).toEqual(['/data_base64'])
  })

  test('is given once', () => {
    expect(pointers({ ...REQUIRED, data: 1, data_base64: 'AA==' })).toEqual(['/data_base64'])
  })
})

describe('attributes in the JSON event format', () => {
  test('are strings, booleans and 32-bit integers, in their canonical form', () => {
    expect({ ...event({ ...REQUIRED, a: 'x', b: true, c: false, d: -5, e: 2147483647, f: null }).extensions }).toEqual({
      a: 'x',
      b: 'true',
      c: 'false',
      d: '-5',
      e: '2147483647',
    })
    for (const bad of ['1.0', '1e2', '2147483648', '-2147483649', '{}', '[]'])
      expect(pointers(`{"specversion":"1.0","id":"1","source":"/s","type":"t","a":${bad}}`)).toEqual(['/a'])
    expect(event('{"specversion":"1.0","id":"1","source":"/s","type":"t","a":-0}').extensions['a']).toBe('0')
  })

  test('that the specification names are strings; null is the same as absent', () => {
    expect(pointers({ ...REQUIRED, id: 1 })).toEqual(['/id'])
    expect(pointers({ ...REQUIRED, subject: true })).toEqual(['/subject'])
    expect(pointers({ ...REQUIRED, id: null })).toEqual(['/id'])
    expect(event({ ...REQUIRED, subject: null, time: null }).subject).toBeUndefined()
  })

  test('with names that could reach a prototype are refused or plain', () => {
    expect(pointers('{"specversion":"1.0","id":"1","source":"/s","type":"t","__proto__":{"admin":true}}')).toEqual([
      '/__proto__',
    ])
    expect(({} as { admin?: boolean }).admin).toBeUndefined()
    expect(event({ ...REQUIRED, constructor: 'x' }).extensions['constructor']).toBe('x')
  })

  test('have pointers that escape what a pointer needs escaped', () => {
    expect(pointers({ ...REQUIRED, 'a/b~c': 'x' })).toEqual(['/a~1b~0c'])
    expect(atIndex([{ pointer: '/id', detail: 'is required' }], 3)).toEqual([
      { pointer: '/3/id', detail: 'is required' },
    ])
  })
})

describe('the plain form', () => {
  test('is filled in where it leaves out', () => {
    expect(event({ type: 't', data: { a: 1 } }, defaults)).toMatchObject({
      id: 'made',
      source: '/tenants/t',
      time: '2026-01-01T00:00:00Z',
      type: 't',
    })
    expect(
      event({ type: 't', id: 'mine', source: '/mine', time: '2020-01-01T00:00:00Z', x: 1 }, defaults),
    ).toMatchObject({
      id: 'mine',
      source: '/mine',
      time: '2020-01-01T00:00:00Z',
    })
  })

  test('still needs a type, and what it gives must be valid', () => {
    expect(pointers({ data: 1 }, defaults)).toEqual(['/type'])
    expect(pointers({ type: '', id: '', time: 'now' }, defaults)).toEqual(['/type', '/id', '/time'])
  })

  test('with a specversion claims to be a CloudEvent, and is held to it', () => {
    expect(pointers({ specversion: '1.0', type: 't' }, defaults)).toEqual(['/id', '/source'])
    expect(event(REQUIRED, defaults).time).toBeUndefined()
  })
})
