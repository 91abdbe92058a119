import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { isSampled, newTraceContext, parseTraceparent } from './telemetry.ts'

const hex = (digits: number) =>
  fc
    .string({ unit: fc.constantFrom(...'0123456789abcdef'), minLength: digits, maxLength: digits })
    .filter((text) => !/^0+$/.test(text))
const flags = fc.constantFrom('00', '01', 'ff')
const [trace, span] = ['4bf92f3577b34da6a3ce929d0e0e4736', '00f067aa0ba902b7']

describe('traceparent', () => {
  test('every valid one is taken, and goes on as it came', () => {
    fc.assert(
      fc.property(hex(32), hex(16), flags, (traceId, spanId, flag) => {
        const traceparent = `00-${traceId}-${spanId}-${flag}`
        expect(parseTraceparent(traceparent)).toEqual({ traceId, traceparent })
        expect(parseTraceparent(traceparent, 'vendor=1')).toEqual({ traceId, traceparent, tracestate: 'vendor=1' })
      }),
    )
  })

  test('of two, what one changed digit makes invalid is never taken for valid', () => {
    const valid = `00-${trace}-${span}-01`
    fc.assert(
      fc.property(fc.nat(valid.length - 1), fc.constantFrom('g', 'A', ' ', '_', '\n', 'é'), (at, wrong) => {
        expect(parseTraceparent(valid.slice(0, at) + wrong + valid.slice(at + 1))).toBeUndefined()
      }),
    )
  })

  test.each([
    ['nothing', undefined],
    ['null', null],
    ['an empty text', ''],
    ['a trace id of zeros', `00-${'0'.repeat(32)}-${span}-01`],
    ['a span id of zeros', `00-${trace}-${'0'.repeat(16)}-01`],
    ['version ff', `ff-${trace}-${span}-01`],
    ['a version 00 that goes on', `00-${trace}-${span}-01-more`],
    ['a later version that goes on without a hyphen', `01-${trace}-${span}-01more`],
    ['upper case', `00-${trace.toUpperCase()}-${span}-01`],
    ['a line feed at its end', `00-${trace}-${span}-01\n`],
  ])('%s is ignored, and its tracestate with it', (_, traceparent) => {
    expect(parseTraceparent(traceparent, 'vendor=1')).toBeUndefined()
  })

  test('a later version may carry more', () => {
    const traceparent = `01-${trace}-${span}-01-more`
    expect(parseTraceparent(traceparent)).toEqual({ traceId: trace, traceparent })
  })

  test('an empty tracestate is none', () => {
    expect(parseTraceparent(`00-${trace}-${span}-01`, '')).not.toHaveProperty('tracestate')
  })

  test('what we begin is valid, sampled, and never the same', () => {
    const begun = Array.from({ length: 1_000 }, newTraceContext)
    for (const { traceId, traceparent } of begun) {
      expect(parseTraceparent(traceparent)).toEqual({ traceId, traceparent })
      expect(traceparent).toEndWith('-01')
    }
    expect(new Set(begun.map(({ traceId }) => traceId)).size).toBe(begun.length)
  })
})

test('a trace is sampled when its flags say so, whatever else they say', () => {
  const flagged = (flags: string) => {
    const context = parseTraceparent(`00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-${flags}`)
    return context !== undefined && isSampled(context)
  }
  expect(['00', '01', '02', '03', 'ff', 'fe'].map(flagged)).toEqual([false, true, false, true, true, false])
  expect(isSampled(newTraceContext())).toBe(true)
})
