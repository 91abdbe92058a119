import { expect, test } from 'bun:test'
import { ATTEMPTS, type HeaderValue, headersOf, NO_HEADERS } from '../shared/events/headers.ts'
import { type Attempt, attemptsIn, attemptsText, withAttempt } from './failed-attempts.ts'

const FAILURE = { reason: 'handler failed', message: 'no' }

const read = (value: HeaderValue): readonly Attempt[] => attemptsIn(headersOf({ [ATTEMPTS]: value }))

test('the last ten attempts are kept, in order', () => {
  let failed: readonly Attempt[] = []
  expect(attemptsText(failed)).toBeUndefined()
  for (let attempt = 1; attempt <= 25; attempt++) {
    failed = withAttempt(failed, attempt, 1_000 + attempt, FAILURE)
    const first = Math.max(1, attempt - 9)
    expect(failed.map((one) => one.attempt)).toEqual(Array.from({ length: attempt - first + 1 }, (_, at) => first + at))
    expect(read(attemptsText(failed) ?? null)).toEqual(failed)
  }
})

test('a message is cut at 200 characters, not within one', () => {
  const message = (of: string) => withAttempt([], 1, 1, { ...FAILURE, message: of })[0]?.message
  expect(message('x'.repeat(201))).toBe('x'.repeat(200))
  expect(message(`${'x'.repeat(199)}😀`)).toBe(`${'x'.repeat(199)}\ufffd`)
})

test('a header that is not as we write it tells of no attempt', () => {
  const good = { attempt: 1, atMs: 2, reason: 'handler failed', message: 'no' }
  expect(read(JSON.stringify([good]))).toEqual([good])
  const odd: unknown[] = [
    ...[null, {}, good, 'x', [null], [[]], [good, 7], Array(11).fill(good)],
    ...[
      { attempt: '1' },
      { attempt: 1.5 },
      { atMs: null },
      { atMs: 1e300 },
      { reason: 1 },
      { reason: 'x'.repeat(51) },
    ].map((wrong) => [{ ...good, ...wrong }]),
    ...[{ message: undefined }, { message: 'x'.repeat(201) }].map((wrong) => [{ ...good, ...wrong }]),
  ]
  expect(odd.map((one) => read(JSON.stringify(one)))).toEqual(odd.map(() => []))
  expect(['', '[', '[{}', null, Buffer.from([0xff])].map(read)).toEqual([[], [], [], [], []])
  expect(attemptsIn(NO_HEADERS)).toEqual([])
})
