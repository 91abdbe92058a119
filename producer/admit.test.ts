import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { until } from '../shared/testing/until.ts'
import { Gate, Meter, Meters } from './admit.ts'

describe('the gate', () => {
  test('never holds more than its limits, and is empty when all have left', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ bytes: fc.nat(60), shrinkTo: fc.nat(60), leaves: fc.boolean(), stream: fc.boolean() })),
        (visits) => {
          const gate = new Gate({ maxRequests: 5, maxBytes: 100 })
          const inside: [bytes: number, stream: boolean][] = []
          for (const { bytes, shrinkTo, leaves, stream } of visits) {
            if (gate.enter(bytes, stream) === undefined) {
              const kept = Math.min(bytes, shrinkTo)
              gate.shrink(bytes, kept)
              inside.push([kept, stream])
            }
            expect(gate.level.requests).toBeLessThanOrEqual(5)
            expect(gate.level.bytes).toBeLessThanOrEqual(100)
            expect(gate.level.bytes).toBe(inside.reduce((sum, [one]) => sum + one, 0))
            const [first] = inside
            if (leaves && first !== undefined) {
              gate.leave(...first)
              inside.shift()
            }
          }
          for (const one of inside) gate.leave(...one)
          expect(gate.level).toEqual({ requests: 0, bytes: 0 })
        },
      ),
    )
  })

  test('closes while draining, and is drained when the last has left', async () => {
    const gate = new Gate({ maxRequests: 5, maxBytes: 100 })
    gate.enter(10, false)
    let drained = false
    const draining = gate.shut().then(() => {
      drained = true
    })
    expect(gate.enter(1, false)?.kind).toBe('draining')
    await Promise.resolve()
    expect(drained).toBe(false)
    gate.leave(10, false)
    await draining
    await gate.shut()
  })

  test('lets fewer in while the thread is late, never fewer than some, and by and by as many as before', () => {
    const gate = new Gate({ maxRequests: 1_000, maxBytes: 1_000_000 })
    for (let i = 0; i < 500; i++) gate.enter(1, false)
    gate.adapt(5)
    expect(gate.admitted).toBe(1_000)
    gate.adapt(60)
    expect(gate.admitted).toBe(400)
    expect(gate.closed).toMatchObject({ kind: 'overloaded', outcome: 'not stored' })
    expect(gate.enter(1, false)?.detail).toContain('more to do than it can')
    for (let i = 0; i < 150; i++) gate.leave(1, false)
    expect(gate.closed).toBeUndefined()
    for (let i = 0; i < 100; i++) gate.adapt(60)
    expect(gate.admitted).toBe(64)
    for (let i = 0; i < 100; i++) gate.adapt(0)
    expect(gate.admitted).toBe(1_000)
  })

  test('lets in as many as before after a pause of the machine, during which nobody could send', () => {
    const gate = new Gate({ maxRequests: 1_000, maxBytes: 1_000_000 })
    for (let i = 0; i < 64; i++) gate.enter(1, false)
    for (let i = 0; i < 200; i++) gate.enter(1, true)
    gate.adapt(60_000)
    expect(gate.admitted).toBe(1_000)
  })

  test('streams are in nobody’s way while fewer are let in', () => {
    const gate = new Gate({ maxRequests: 200, maxBytes: 1_000_000 })
    for (let i = 0; i < 100; i++) gate.enter(1, true)
    for (let i = 0; i < 65; i++) gate.enter(1, false)
    gate.adapt(60)
    expect(gate.admitted).toBe(64)
    expect(gate.closed).toBeDefined()
    for (let i = 0; i < 100; i++) gate.leave(1, true)
    expect(gate.closed).toBeDefined()
    for (let i = 0; i < 2; i++) gate.leave(1, false)
    expect(gate.closed).toBeUndefined()
  })

  test('that watches notices a thread that is busy', async () => {
    const gate = new Gate({ maxRequests: 1_000, maxBytes: 1_000_000 })
    for (let i = 0; i < 500; i++) gate.enter(1, false)
    const stop = gate.watch()
    try {
      const end = performance.now() + 100
      while (performance.now() < end);
      await until(() => gate.admitted < 1_000, { what: 'fewer to be let in' })
      await until(() => gate.admitted === 1_000, { what: 'as many as before' })
    } finally {
      stop()
    }
  })
})

describe('a quota', () => {
  const meterAt = (quota: ConstructorParameters<typeof Meter>[0]) => {
    const clock = { nowMs: 0 }
    return { clock, meter: new Meter(quota, () => clock.nowMs) }
  }

  test('never grants more than the burst and the rate allow, whatever is asked when', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 100 }),
        fc.integer({ min: 1, max: 50 }),
        fc.array(fc.tuple(fc.nat(2_000), fc.integer({ min: 1, max: 20 }))),
        (perSecond, burst, asks) => {
          const { clock, meter } = meterAt({ events: { perSecond, burst } })
          let granted = 0
          let largest = 0
          for (const [afterMs, cost] of asks) {
            clock.nowMs += afterMs
            if (meter.take(cost, 0) > 0) continue
            granted += cost
            largest = Math.max(largest, cost)
          }
          expect(granted).toBeLessThanOrEqual(burst + (clock.nowMs / 1_000) * perSecond + largest)
        },
      ),
    )
  })

  test('grants after exactly the wait that it names', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1_000 }), fc.integer({ min: 1, max: 100 }), (perSecond, cost) => {
        const { clock, meter } = meterAt({ events: { perSecond, burst: 50 } })
        while (meter.take(cost, 0) === 0);
        clock.nowMs += meter.take(cost, 0)
        expect(meter.take(cost, 0)).toBe(0)
      }),
      // A rate and a cost whose fractions do not add up.
      { examples: [[25, 57]] },
    )
  })

  test('grants more than its burst once, on credit', () => {
    const { clock, meter } = meterAt({ events: { perSecond: 10, burst: 10 } })
    expect(meter.take(30, 0)).toBe(0)
    expect(meter.take(1, 0)).toBe(2_100)
    clock.nowMs = 2_100
    expect(meter.take(1, 0)).toBe(0)
  })

  test('bounds bytes as well, and takes nothing when either is used up', () => {
    const { meter } = meterAt({ events: { perSecond: 10, burst: 10 }, bytes: { perSecond: 100, burst: 100 } })
    expect(meter.take(1, 100)).toBe(0)
    expect(meter.take(1, 10)).toBe(100)
    expect(meter.headers()['ratelimit']).toBe('"events";r=9;t=1, "bytes";r=0;t=1')
  })

  test('grants nothing for a clock that was set back', () => {
    const { clock, meter } = meterAt({ events: { perSecond: 1, burst: 1 } })
    clock.nowMs = 10_000
    expect(meter.take(1, 0)).toBe(0)
    clock.nowMs = 0
    expect(meter.take(1, 0)).toBe(1_000)
  })

  test('belongs to a tenant, not to a request', () => {
    const meters = new Meters(() => 0)
    const tenant = {
      name: 'a',
      enabled: true,
      streams: new Set<string>(),
      quota: { events: { perSecond: 1, burst: 1 } },
    }
    expect(meters.of(tenant)?.take(1, 0)).toBe(0)
    expect(meters.of(tenant)?.take(1, 0)).toBeGreaterThan(0)
    expect(meters.of({ ...tenant, name: 'b' })?.take(1, 0)).toBe(0)
    const { quota: _, ...free } = tenant
    expect(meters.of(free)).toBeUndefined()
  })
})
