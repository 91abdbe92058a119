import { expect, test } from 'bun:test'
import { createRandom } from '../faults/random.ts'
import { changedBytes } from './bytes.ts'
import { changedJson } from './json.ts'

const REQUEST = Buffer.from('POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: 12\r\n\r\n{"type":"t"}')

test('the same seed makes the same changes, and most differ from what they are made of', () => {
  const of = (seed: number) => {
    const random = createRandom(seed)
    return Array.from({ length: 500 }, () => changedBytes(REQUEST, random, Buffer.from('other')).toString('latin1'))
  }
  expect(of(7)).toEqual(of(7))
  expect(of(7)).not.toEqual(of(8))
  expect(of(7).filter((text) => text !== REQUEST.toString('latin1')).length).toBeGreaterThan(450)
  // What is changed is not what others hold.
  expect(REQUEST.toString()).toStartWith('POST')
})

test('of nothing there can be changes, too', () => {
  const random = createRandom(1)
  for (let left = 200; left > 0; left--) changedBytes(Buffer.alloc(0), random, Buffer.alloc(0))
})

test('changed JSON is JSON, and another', () => {
  const random = createRandom(3)
  const text = '{"id":"1","data":{"a":[1,{"b":null}]}}'
  const changed = Array.from({ length: 120 }, () => changedJson(text, random) ?? '')
  for (const one of changed) JSON.parse(one)
  expect(new Set(changed).size).toBeGreaterThan(50)
  expect(changed.some((one) => one.includes('"__proto__":'))).toBe(true)
  expect(({} as Record<string, unknown>)['x']).toBeUndefined()
  for (const other of ['', 'no', '7', '[]', '{}']) expect(changedJson(other, random)).toBeUndefined()
})
