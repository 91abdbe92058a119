import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { Counter, Histogram, Registry } from 'prom-client'
import { LatencyHistogram, tallies } from './tally.ts'

/* prom-client itself is the reference. */

describe('a tally', () => {
  test('is in its counter whenever that is asked, once', async () => {
    const registry = new Registry()
    const counter = new Counter({ name: 'events_total', help: 'Events.', labelNames: ['kind'], registers: [registry] })
    const tally = tallies(counter)
    const [a, b] = [tally({ kind: 'a' }), tally({ kind: 'b' })]
    const lines = async () => (await registry.metrics()).split('\n').filter((line) => line.startsWith('events_total{'))
    expect(await lines()).toEqual(['events_total{kind="a"} 0', 'events_total{kind="b"} 0'])
    a.count++
    a.count++
    expect(await lines()).toEqual(['events_total{kind="a"} 2', 'events_total{kind="b"} 0'])
    b.count += 5
    a.count++
    counter.inc({ kind: 'b' })
    expect(await lines()).toEqual(['events_total{kind="a"} 3', 'events_total{kind="b"} 6'])
    expect(await lines()).toEqual(['events_total{kind="a"} 3', 'events_total{kind="b"} 6'])
    // Whoever asks for it again goes on with it.
    expect(tally({ kind: 'a' })).toBe(a)
  })
})

describe('a latency histogram', () => {
  const buckets = [0.001, 0.01, 0.1, 1]
  const options = { name: 'latency_seconds', help: 'Latency.', buckets }

  test('shows what prom-client’s own shows, whatever is observed', async () => {
    const observations = fc.array(
      fc.tuple(
        fc.constantFrom('a', 'b'),
        fc.oneof(fc.constantFrom(0, ...buckets, 1.5), fc.double({ min: 0, max: 3, noNaN: true })),
      ),
    )
    await fc.assert(
      fc.asyncProperty(observations, async (list) => {
        const [ours, theirs] = [new Registry(), new Registry()]
        const histogram = new LatencyHistogram({ ...options, registers: [ours] })
        const series = { a: histogram.series({ outcome: 'a' }), b: histogram.series({ outcome: 'b' }) }
        const reference = new Histogram({ ...options, labelNames: ['outcome'], registers: [theirs] })
        for (const outcome of ['a', 'b']) reference.zero({ outcome })
        for (const [outcome, seconds] of list) {
          series[outcome].observe(seconds)
          reference.observe({ outcome }, seconds)
        }
        expect(await ours.metrics()).toBe(await theirs.metrics())
      }),
    )
  })

  test('may be without labels', async () => {
    const [ours, theirs] = [new Registry(), new Registry()]
    new LatencyHistogram({ ...options, registers: [ours] }).series().observe(0.05)
    new Histogram({ ...options, registers: [theirs] }).observe(0.05)
    expect(await ours.metrics()).toBe(await theirs.metrics())
  })
})
