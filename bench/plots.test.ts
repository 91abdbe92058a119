import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { barPlot, ladderPlot, linearTicks, logTicks, percentilePlot, short, throughputPlot } from './plots.ts'

/** Numbers of all attributes of that name, in the order in which they stand. */
const attributes = (svg: string, name: string): number[] =>
  [...svg.matchAll(new RegExp(` ${name}="(-?[0-9.]+)"`, 'g'))].map((match) => Number(match[1]))

const isWellFormed = (svg: string): boolean =>
  svg.startsWith('<svg ') && svg.endsWith('</svg>\n') && !/NaN|undefined|Infinity/.test(svg)

describe('numbers on plots', () => {
  test('have three digits that matter, and commas among thousands', () => {
    expect([0, 0.123456, 1.5, 12.34, 123.4, 1234.5, 1234567].map(short)).toEqual([
      '0',
      '0.123',
      '1.5',
      '12.3',
      '123',
      '1,235',
      '1,234,567',
    ])
  })
})

describe('ticks', () => {
  test('begin at 0, are evenly spaced and reach the most', () => {
    fc.assert(
      fc.property(fc.double({ min: 0.001, max: 1e9, noNaN: true }), (most) => {
        const ticks = linearTicks(most)
        const [zero = 1, step = 0] = ticks
        expect(zero).toBe(0)
        expect(ticks.length).toBeGreaterThanOrEqual(2)
        expect(ticks.length).toBeLessThanOrEqual(6)
        expect(ticks.at(-1) as number).toBeGreaterThanOrEqual(most * (1 - 1e-5))
        for (const [index, tick] of ticks.entries()) expect(tick / step).toBeCloseTo(index, 3)
      }),
    )
  })

  test('of logarithmic axes enclose the values', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.1, max: 100, noNaN: true }),
        fc.double({ min: 1.01, max: 1e4, noNaN: true }),
        (least, ratio) => {
          const ticks = logTicks(least, least * ratio)
          expect(ticks[0] as number).toBeLessThanOrEqual(least)
          expect(ticks.at(-1) as number).toBeGreaterThanOrEqual(least * ratio)
          expect(ticks).toEqual([...ticks].sort((a, b) => a - b))
        },
      ),
    )
  })
})

describe('bars', () => {
  const bars = [
    { label: 'ours <&>', median: 100, min: 90, max: 120, ours: true },
    { label: 'theirs', median: 50, min: 40, max: 60 },
  ]
  const svg = barPlot('a title', 'a subtitle', 'things a second', bars)

  test('are as long as their values, and say what they are', () => {
    const [, first = 0, second = 0] = attributes(svg, 'width').slice(1)
    expect(first / second).toBeCloseTo(2, 1)
    expect(svg).toContain('ours &lt;&amp;>')
    expect(svg).toContain('things a second')
    expect(isWellFormed(svg)).toBe(true)
  })
})

describe('curves', () => {
  const points = [
    [0, 1],
    [0.5, 2],
    [0.9, 4],
    [0.99, 8],
    [1, 1000],
  ] as const

  test('by percentile leave the maximum out, which is of one event', () => {
    const svg = percentilePlot('t', 's', [{ label: 'one', points }])
    const drawn = /<polyline points="([^"]*)"/.exec(svg)?.[1]?.split(' ')
    expect(drawn).toHaveLength(4)
    // Each nine is as wide as the one before.
    const xs = (drawn ?? []).map((point) => Number(point.split(',')[0]))
    expect((xs[3] ?? 0) - (xs[2] ?? 0)).toBeCloseTo((xs[2] ?? 0) - (xs[0] ?? 0), 0)
    expect(isWellFormed(svg)).toBe(true)
  })

  test('by load rise where times do', () => {
    const svg = ladderPlot('t', 's', [
      {
        label: 'p99',
        points: [
          [100, 1],
          [1000, 10],
          [2000, 100],
        ],
      },
    ])
    const ys = (/<polyline points="([^"]*)"/.exec(svg)?.[1]?.split(' ') ?? []).map((point) =>
      Number(point.split(',')[1]),
    )
    expect(ys).toEqual([...ys].sort((a, b) => b - a))
    expect(isWellFormed(svg)).toBe(true)
  })

  test('by what was offered have the line of all that was, which what was stored stays below', () => {
    const svg = throughputPlot('t', 's', [
      {
        label: 'stored',
        points: [
          [1000, 1000],
          [3000, 2000],
        ],
      },
    ])
    const [stored = [], ideal = []] = [...svg.matchAll(/<polyline points="([^"]*)"/g)].map(([, points = '']) =>
      points.split(' ').map((point) => point.split(',').map(Number)),
    )
    const [[x1 = 0, y1 = 0] = [], [x2 = 0, y2 = 0] = []] = ideal
    const onIdeal = (x: number): number => y1 + ((x - x1) / (x2 - x1)) * (y2 - y1)
    const [[atX = 0, atY = 0] = [], [overX = 0, overY = 0] = []] = stored
    expect(atY).toBeCloseTo(onIdeal(atX), 0)
    expect(overY).toBeGreaterThan(onIdeal(overX) + 10)
    expect(isWellFormed(svg)).toBe(true)
  })
})
