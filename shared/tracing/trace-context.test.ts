import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { isSampled, newTraceContext, parseTraceparent } from './trace-context.ts'

const hex = (digits: number) =>
  fc
    .string({ unit: fc.constantFrom(...'0123456789abcdef'), minLength: digits, maxLength: digits })
    .filter((text) => !/^0+$/.test(text))
const flags = fc.constantFrom('00', '01', '02', '03')
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
    ['an empty text', ''],
    ['a trace id of zeros', `00-${'0'.repeat(32)}-${span}-01`],
    ['a span id of zeros', `00-${trace}-${'0'.repeat(16)}-01`],
    ['version ff', `ff-${trace}-${span}-01`],
    ['a version 00 that goes on', `00-${trace}-${span}-01-more`],
    ['a later version that goes on without a hyphen', `01-${trace}-${span}-01more`],
    ['upper case', `00-${trace.toUpperCase()}-${span}-01`],
    ['two in one, as HTTP joins fields of one name', `00-${trace}-${span}-01, 00-${trace}-${span}-01`],
    ['two of a later version that goes on', `cc-${trace}-${span}-01-a, cc-${trace}-${span}-01-b`],
    ['a line feed at its end', `00-${trace}-${span}-01\n`],
  ])('%s is ignored, and its tracestate with it', (_, traceparent) => {
    expect(parseTraceparent(traceparent, 'vendor=1')).toBeUndefined()
  })

  test('a later version may carry more; what goes on is of ours, and no more than we know', () => {
    for (const later of ['01', 'cc', 'fe'])
      for (const more of ['', '-more', '-é'])
        expect(parseTraceparent(`${later}-${trace}-${span}-ff${more}`)).toEqual({
          traceId: trace,
          traceparent: `00-${trace}-${span}-03`,
        })
  })

  describe('tracestate', () => {
    const stateOf = (tracestate: string) => parseTraceparent(`00-${trace}-${span}-01`, tracestate)?.tracestate
    const members = (count: number) => Array.from({ length: count }, (_, index) => `k${index}=1`).join(',')

    test.each([
      ['a=1', 'a=1'],
      ['a=1,b=2', 'a=1,b=2'],
      ['\ta=1 ,, b=2 ,', 'a=1,b=2'],
      ['fw529a3039@dt=FfAxfH,0@s=x', 'fw529a3039@dt=FfAxfH,0@s=x'],
      [`${'z'.repeat(256)}=1`, `${'z'.repeat(256)}=1`],
      [`${'t'.repeat(241)}@${'v'.repeat(14)}=1`, `${'t'.repeat(241)}@${'v'.repeat(14)}=1`],
      [`a=${'x'.repeat(256)}`, `a=${'x'.repeat(256)}`],
      [members(32), members(32)],
      ['foo@=1,foo@@bar=2,foo@bar@baz=3', 'foo@=1,foo@@bar=2,foo@bar@baz=3'],
      ['a=1,a=2,b=1', 'a=1,b=1'],
      // Members that do not fit are dropped from the end.
      [`a=${'x'.repeat(250)},b=${'x'.repeat(250)},c=${'x'.repeat(250)}`, `a=${'x'.repeat(250)},b=${'x'.repeat(250)}`],
    ])('%p goes on', (given, kept) => {
      expect(stateOf(given)).toBe(kept)
    })

    test.each([
      '',
      ' ',
      'a',
      'a=',
      '=1',
      'A=1',
      'foo =1',
      '@foo=1',
      'a=1=2',
      'a=é',
      'é=1',
      'a=1,b',
      `${'z'.repeat(257)}=1`,
      `a=${'x'.repeat(257)}`,
      members(33),
    ])('%p is ignored, and the traceparent is not', (given) => {
      expect(stateOf(given)).toBeUndefined()
      expect(parseTraceparent(`00-${trace}-${span}-01`, given)?.traceId).toBe(trace)
    })

    test('whatever is given, what goes on is short, and is taken as it is', () => {
      fc.assert(
        fc.property(
          fc.string({ unit: fc.constantFrom('a', '=', ',', '@', ' ', '\t', '0', 'é'), maxLength: 700 }),
          (given) => {
            const kept = stateOf(given)
            if (kept === undefined) return
            expect(kept.length).toBeLessThanOrEqual(512)
            expect(stateOf(kept)).toBe(kept)
          },
        ),
      )
    })
  })

  test('an empty tracestate is none', () => {
    expect(parseTraceparent(`00-${trace}-${span}-01`, '')).not.toHaveProperty('tracestate')
  })

  test('what we begin is valid, not sampled, and never the same', () => {
    const begun = Array.from({ length: 1_000 }, newTraceContext)
    for (const { traceId, traceparent } of begun) {
      expect(parseTraceparent(traceparent)).toEqual({ traceId, traceparent })
      expect(traceparent).toEndWith('-00')
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
  expect(isSampled(newTraceContext())).toBe(false)
})
