import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { headersOf, headerText, NO_HEADERS, withHeaders } from '../shared/events/headers.ts'
import type { IncomingRecord } from '../shared/events/record.ts'
import { redactor } from '../shared/service/redact.ts'
import { deadLetter } from './dead-letter.ts'
import { withAttempt } from './failed-attempts.ts'
import { AttemptFault } from './handlers/attempt-fault.ts'
import { RetryableError, TerminalError } from './handlers/handler.ts'
import { decide, failedBy, originalHeaders, pastOf, REASONS, type RetryConfig, reasonIn, retryRecord } from './retry.ts'

const config: RetryConfig = {
  QUICK_ATTEMPTS: 3,
  QUICK_RETRY_FIRST_MS: 50,
  QUICK_RETRY_MAX_MS: 500,
  MAX_ATTEMPTS: 8,
  RETRY_FIRST_MS: 1_000,
  RETRY_MAX_MS: 60_000,
}
const failed = (thrown: unknown) => failedBy(thrown, redactor())

/** No jitter: the delay is half of the full one. */
const least = () => 0

const record = (headers: IncomingRecord['headers'] = NO_HEADERS): IncomingRecord => ({
  topic: 'kt.a.b',
  partition: 3,
  offset: 17,
  timestampMs: 5,
  key: Buffer.from('key'),
  value: Buffer.from([0, 255, 10]),
  headers,
})

describe('after a failed attempt', () => {
  test('what can never work is dead at once', () => {
    expect(decide(config, failed(new TerminalError('not a push')), 1, 1)).toEqual({
      kind: 'dead',
      failure: { reason: 'handler failed', message: 'not a push' },
    })
  })

  test('an error that is named so is terminal, too: a bundle has a class of its own', () => {
    const namesake = Object.assign(new Error('not a push'), { name: 'TerminalError' })
    expect(decide(config, failed(namesake), 1, 1).kind).toBe('dead')
    expect(decide(config, failed(undefined), 1, 1).kind).toBe('again')
  })

  test.each([
    ['a RetryableError', new RetryableError('later')],
    ['any other error', new Error('later')],
    ['what is no error at all', 'later'],
  ])('%s is tried again, quickly at first', (_, error) => {
    const failure = { reason: 'handler failed', message: 'later' } as const
    expect(decide(config, failed(error), 1, 1, least)).toEqual({ kind: 'again', delayMs: 25, failure })
    expect(decide(config, failed(error), 2, 2, least)).toEqual({ kind: 'again', delayMs: 50, failure })
    expect(decide(config, failed(error), 3, 3, least)).toEqual({ kind: 'later', delayMs: 500, failure })
  })

  test('no delay in .retry is shorter than the first, also for an event that had waited behind its key', () => {
    const decision = decide(config, failed('no'), 1, config.QUICK_ATTEMPTS, least)
    expect(decision).toMatchObject({ kind: 'later', delayMs: 500 })
  })

  test('attempts come to an end, whatever the limits', () => {
    const positive = (max: number) => fc.integer({ min: 1, max })
    fc.assert(
      fc.property(positive(5), positive(20), (QUICK_ATTEMPTS, MAX_ATTEMPTS) => {
        let attempts = 0
        for (let quick = 1; ; quick++) {
          attempts++
          const decision = decide({ ...config, QUICK_ATTEMPTS, MAX_ATTEMPTS }, failed('no'), attempts, quick)
          if (decision.kind === 'dead') break
          expect(decision.delayMs).toBeGreaterThan(0)
        }
        expect(attempts).toBe(MAX_ATTEMPTS)
      }),
    )
  })
})

test('a failure says what happened, within bounds and without credentials', () => {
  expect(failed(new AttemptFault('handler timed out', 'no result within 5 ms')).failure.reason).toBe(
    'handler timed out',
  )
  expect(failed(new Error('x'.repeat(10_000))).failure.message).toHaveLength(500)
  const listed = new AttemptFault('invalid data', 'x'.repeat(10_000))
  expect(failed(listed).failure.message).toHaveLength(2_500)
  expect(failed(undefined).failure).toEqual({ reason: 'handler failed', message: 'undefined' })
  expect(failed(new Error('refused: token=abc')).failure.message).toBe('refused: token=(redacted)')
})

describe('what a record says of its past', () => {
  test('a record of the stream’s own topic is at its beginning', () => {
    const past = pastOf(record())
    expect(past).toEqual({ attempts: 0, notBeforeMs: 0, origin: undefined, failed: [] })
    const copy = retryRecord(record(), 'kt.a.b', past, { reason: 'handler failed', message: 'no' })
    expect(headerText(copy.headers, 'kt-origin')).toBe('kt.a.b/3/17')
  })

  test('headers that are no numbers count as none', () => {
    const headers = headersOf({ 'kt-attempt': '-1', 'kt-not-before': '1e9' })
    expect(pastOf(record(headers))).toMatchObject({ attempts: 0, notBeforeMs: 0 })
  })

  test('what is written to .retry is read back', () => {
    const bytes = fc.option(fc.uint8Array().map((array) => Buffer.from(array)))
    const past = fc.record({
      attempts: fc.nat(),
      notBeforeMs: fc.nat({ max: 2 ** 45 }),
      origin: fc.constant('kt.a.b/0/1'),
      failed: fc.array(
        fc.record({
          attempt: fc.nat(),
          atMs: fc.nat({ max: 2 ** 45 }),
          reason: fc.constantFrom(...REASONS),
          message: fc.string({ unit: 'grapheme', maxLength: 20 }),
        }),
        { maxLength: 10 },
      ),
    })
    fc.assert(
      fc.property(bytes, bytes, past, (key, value, expected) => {
        const failure = { reason: 'handler failed', message: 'nö "quoted"' } as const
        const written = retryRecord({ ...record(headersOf({ ce_id: '1' })), key, value }, 'kt.a.b', expected, failure)
        expect(written).toMatchObject({ topic: 'kt.a.b.retry', partition: 3 })
        expect([written.key, written.value]).toEqual([key, value])
        const read = { ...record(written.headers), topic: written.topic }
        expect(pastOf(read)).toEqual(expected)
        expect(JSON.parse(headerText(read.headers, 'kt-error') ?? '')).toEqual(failure)
        expect(originalHeaders(read)).toEqual(headersOf({ ce_id: '1' }))
      }),
    )
  })

  test('a record that goes to .retry once more has each of our headers once', () => {
    const failure = { reason: 'handler failed', message: 'no' } as const
    const failed = withAttempt([], 1, 5, failure)
    const past = { attempts: 1, notBeforeMs: 2, origin: 'kt.a.b/0/1', failed }
    const once = retryRecord(record(), 'kt.a.b', past, failure)
    const twice = retryRecord(record(once.headers), 'kt.a.b', { ...past, attempts: 2 }, failure)
    expect(twice.headers.names.toSorted()).toEqual([
      'kt-attempt',
      'kt-attempts',
      'kt-error',
      'kt-not-before',
      'kt-origin',
    ])
  })

  test('the reason of a failure is read back, and of what is written otherwise there is none', () => {
    for (const reason of REASONS) {
      const { headers } = retryRecord(record(), 'kt.a.b', pastOf(record()), { reason, message: 'no' })
      expect(reasonIn({ headers })).toBe(reason)
    }
    for (const error of ['', '{', 'null', '{}', '{"reason":7}', '{"reason":"another"}', null])
      expect(reasonIn({ headers: headersOf({ 'kt-error': error }) })).toBeUndefined()
    expect(reasonIn({ headers: NO_HEADERS })).toBeUndefined()
  })

  test('the version of its schema stays with it, byte for byte', () => {
    const failure = { reason: 'newer schema', message: 'no' } as const
    for (const value of ['acme.b-ü/7', Buffer.from([0xff, 0x2f, 0x37]), null]) {
      const of = record(headersOf({ 'kt-schema': value }))
      for (const copy of [
        retryRecord(of, 'kt.a.b', pastOf(of), failure),
        deadLetter(of, 'kt.a.b', pastOf(of), failure),
      ])
        expect(copy.headers.values[copy.headers.names.indexOf('kt-schema')]).toBe(value)
    }
  })

  test('original headers keep their order and repeats', () => {
    const headers = withHeaders(headersOf({ a: '1', 'kt-attempt': '1', b: '2' }), {
      a: '3',
      'kt-tenant': 'a',
      'kt-context': '{}',
    })
    expect(originalHeaders(record(headers))).toEqual({
      names: ['a', 'b', 'a', 'kt-tenant'],
      values: ['1', '2', '3', 'a'],
    })
  })
})
