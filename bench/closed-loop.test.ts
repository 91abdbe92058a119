import { expect, test } from 'bun:test'
import { shareOf, storedOf } from './closed-loop.ts'

test('connections together send every request', () => {
  const requests = Array.from({ length: 211 }, (_, index) => index)
  const shares = Array.from({ length: 64 }, (_, connection) => shareOf(requests, connection, 64))
  expect(new Set(shares.flat()).size).toBe(211)
  expect(Math.max(...shares.map((share) => share.length))).toBe(4)
})

test('where connections are more than requests, each has one', () => {
  expect(Array.from({ length: 5 }, (_, connection) => shareOf(['a', 'b'], connection, 5))).toEqual([
    ['a'],
    ['b'],
    ['a'],
    ['b'],
    ['a'],
  ])
})

const summary = (stored: number) =>
  `{"summary":{"events":1000,"stored":${stored},"notStored":0,"unknown":0,"refused":1,"complete":true}}\n`

test('of a stream, what its summary says is acknowledged', () => {
  expect(storedOf(200, `{"line":1,"receipt":{}}\n${summary(998)}`)).toBe(998)
})

test('a stream without a summary, or with another status, acknowledges nothing', () => {
  expect(storedOf(200, '{"line":1,"receipt":{}}\n')).toBe(0)
  expect(storedOf(503, summary(3))).toBe(0)
})
