import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { type Quota, type Tenant, type TenantsFile, tenantsOf } from '../shared/http/tenants.ts'
import { Meter, Meters, Quotas, scopeOf } from './quota.ts'

/** More than any quota here grants at once. */
const MANY = 100_000

describe('a quota', () => {
  const meterAt = (quota: Quota) => {
    const clock = { nowMs: 0 }
    const one = new Meter('tenant', 'acme', quota, { nowMs: () => clock.nowMs, replicas: () => 1 })
    return { clock, meter: new Quotas([one]), limit: (next: Quota) => one.limit(next) }
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

  test('that is changed goes on with what is left, up to its new burst, so that no change grants anything', () => {
    const { clock, meter, limit } = meterAt({ events: { perSecond: 10, burst: 10 } })
    const left = () => meter.headers()['ratelimit']
    expect(meter.take(8, 0)).toBe(0)
    limit({ events: { perSecond: 1_000, burst: 500 } })
    expect(left()).toBe('"events";r=2;t=1')
    clock.nowMs = 100
    expect(left()).toBe('"events";r=102;t=1')
    limit({ events: { perSecond: 1, burst: 5 } })
    expect(left()).toBe('"events";r=5;t=0')
    // Limits of bytes that are new begin in full.
    limit({ events: { perSecond: 1, burst: 5 }, bytes: { perSecond: 10, burst: 20 } })
    expect(left()).toBe('"events";r=5;t=0, "bytes";r=20;t=0')
    expect(meter.take(1, 15)).toBe(0)
    limit({ events: { perSecond: 1, burst: 5 }, bytes: { perSecond: 10, burst: 30 } })
    expect(left()).toBe('"events";r=4;t=1, "bytes";r=5;t=3')
    limit({ events: { perSecond: 1, burst: 5 } })
    expect(left()).toBe('"events";r=4;t=1')
  })

  test('that is changed again and again grants no more than the largest of its limits', () => {
    const limits = fc.record({ perSecond: fc.integer({ min: 1, max: 100 }), burst: fc.integer({ min: 1, max: 50 }) })
    fc.assert(
      fc.property(limits, fc.array(fc.tuple(fc.nat(500), fc.option(limits)), { maxLength: 30 }), (first, steps) => {
        const { clock, meter, limit } = meterAt({ events: first })
        let most = first
        let granted = 0
        for (const [afterMs, next] of steps) {
          clock.nowMs += afterMs
          if (next !== null) {
            limit({ events: next })
            most = { perSecond: Math.max(most.perSecond, next.perSecond), burst: Math.max(most.burst, next.burst) }
          }
          for (let times = 0; meter.take(1, 0) === 0; times++, granted++) expect(times).toBeLessThan(MANY)
        }
        // Refilling rounds.
        expect(granted).toBeLessThanOrEqual(most.burst + (clock.nowMs / 1_000) * most.perSecond + 0.001)
      }),
    )
  })

  test('grants after exactly the wait that it names', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1_000 }), fc.integer({ min: 1, max: 100 }), (perSecond, cost) => {
        const { clock, meter } = meterAt({ events: { perSecond, burst: 50 } })
        for (let times = 0; meter.take(cost, 0) === 0; times++) expect(times).toBeLessThan(MANY)
        clock.nowMs += meter.take(cost, 0)
        expect(meter.take(cost, 0)).toBe(0)
      }),
      // A rate and a cost that cause rounding errors.
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

  test('what is refused is paid for, with a debt of no more than a burst', () => {
    const { clock, meter } = meterAt({ events: { perSecond: 10, burst: 20 }, bytes: { perSecond: 100, burst: 100 } })
    expect(meter.wait(1, 0)).toBe(0)
    for (let i = 0; i < 25; i++) meter.spend(1, 0)
    expect(meter.wait(0, 0)).toBe(500)
    expect(meter.take(1, 0)).toBe(600)
    clock.nowMs = 600
    expect(meter.take(1, 0)).toBe(0)
    for (let i = 0; i < 100; i++) meter.spend(1_000, 1_000_000)
    expect(meter.wait(1, 0)).toBe(2_100)
    expect(meter.wait(0, 1)).toBe(2_000)
    clock.nowMs = 600 + 2_100
    expect(meter.take(1, 1)).toBe(0)
    // A small mistake does not reduce the deeper debt of a request larger than the burst.
    const other = meterAt({ events: { perSecond: 10, burst: 10 } })
    expect(other.meter.take(100, 0)).toBe(0)
    other.meter.spend(1, 0)
    expect(other.meter.take(1, 0)).toBe(9_100)
  })

  test('grants nothing for a clock that was set back', () => {
    const { clock, meter } = meterAt({ events: { perSecond: 1, burst: 1 } })
    clock.nowMs = 10_000
    expect(meter.take(1, 0)).toBe(0)
    clock.nowMs = 0
    expect(meter.take(1, 0)).toBe(1_000)
  })
})

describe('several quotas', () => {
  const scopes = ['tenant', 'stream', 'key'] as const
  const quotasAt = (...given: Quota[]) => {
    const clock = { nowMs: 0 }
    const of = { nowMs: () => clock.nowMs, replicas: () => 1 }
    const meters = given.map((quota, index) => new Meter(scopes[index] ?? 'key', `q${index}`, quota, of))
    return { clock, meters, quotas: new Quotas(meters) }
  }
  const rate = fc.record({ perSecond: fc.integer({ min: 1, max: 100 }), burst: fc.integer({ min: 1, max: 50 }) })

  test('grant what each of them would, and take it from all or from none', () => {
    const quota = fc.oneof(fc.record({ events: rate }), fc.record({ events: rate, bytes: rate }))
    fc.assert(
      fc.property(
        fc.array(quota, { minLength: 1, maxLength: 3 }),
        fc.array(fc.tuple(fc.nat(2_000), fc.nat(20), fc.nat(20), fc.boolean())),
        (given, asks) => {
          const { clock, quotas } = quotasAt(...given)
          // Each by itself, which is told what the others have said.
          const alone = given.map((one) => quotasAt(one))
          for (const [afterMs, events, bytes, isRefused] of asks) {
            clock.nowMs += afterMs
            for (const one of alone) one.clock.nowMs = clock.nowMs
            if (isRefused) {
              for (const one of [quotas, ...alone.map((one) => one.quotas)]) one.spend(events, bytes)
              continue
            }
            const waits = alone.map((one) => one.quotas.wait(events, bytes))
            expect(quotas.take(events, bytes)).toBe(Math.max(...waits))
            if (waits.every((wait) => wait === 0)) for (const one of alone) one.quotas.take(events, bytes)
            expect(quotas.headers()['ratelimit']?.replaceAll(/(?:stream|key)-/g, '')).toBe(
              alone.map((one) => one.quotas.headers()['ratelimit']).join(', '),
            )
          }
        },
      ),
    )
  })

  test('are named in the answer: the one that has to be waited for longest', () => {
    const { quotas } = quotasAt(
      { events: { perSecond: 10, burst: 10 } },
      { events: { perSecond: 1, burst: 5 }, bytes: { perSecond: 100, burst: 100 } },
      { events: { perSecond: 5, burst: 8 } },
    )
    expect(quotas.take(5, 100)).toBe(0)
    const problem = quotas.problem(1, 0, 'request')
    expect(problem).toMatchObject({
      kind: 'over-quota',
      detail: 'The quota of the stream q1 is exceeded for now: wait 1000 ms. Nothing of the request was stored.',
      extensions: { quota: 'stream' },
      retryAfterSeconds: 1,
    })
    expect(scopeOf(problem)).toBe('stream')
    expect(scopeOf(quotas.problem(0, 300, 'line'))).toBe('stream')
    expect(quotas.headers()).toEqual({
      'ratelimit-policy':
        '"events";q=10;w=1, "stream-events";q=5;w=5, "stream-bytes";q=100;w=1;qu="content-bytes", "key-events";q=8;w=2',
      ratelimit: '"events";r=5;t=1, "stream-events";r=0;t=5, "stream-bytes";r=0;t=1, "key-events";r=3;t=1',
    })
  })
})

describe('a quota that several producers divide', () => {
  const producers = (quota: Quota, replicas: number) => {
    const clock = { nowMs: 0, replicas }
    const of = { nowMs: () => clock.nowMs, replicas: () => clock.replicas }
    const begin = () => new Quotas([new Meter('tenant', 'acme', quota, of)])
    return { clock, begin, all: Array.from({ length: replicas }, begin) }
  }

  test('is never more than it would be of one, whoever asks where', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 100 }),
        fc.integer({ min: 1, max: 50 }),
        fc.integer({ min: 1, max: 7 }),
        fc.array(fc.tuple(fc.nat(2_000), fc.nat(6)), { maxLength: 200 }),
        (perSecond, burst, replicas, asks) => {
          const { clock, all } = producers({ events: { perSecond, burst } }, replicas)
          let granted = 0
          for (const [afterMs, where] of asks) {
            clock.nowMs += afterMs
            if (all[where % replicas]?.take(1, 0) === 0) granted++
          }
          // No part of the burst is less than an event.
          expect(granted).toBeLessThanOrEqual(Math.max(burst, replicas) + (clock.nowMs / 1_000) * perSecond + 0.01)
        },
      ),
    )
  })

  test('is granted in full where it is asked for in turn', () => {
    const { clock, all } = producers({ events: { perSecond: 90, burst: 30 } }, 3)
    let granted = 0
    for (let ask = 0; clock.nowMs < 10_000; ask++, clock.nowMs += 5) if (all[ask % 3]?.take(1, 0) === 0) granted++
    expect(granted).toBeWithin(90 * 10 + 30 - 3, 90 * 10 + 30 + 1)
  })

  test('is granted in part where all is asked of one', () => {
    const { clock, all } = producers({ events: { perSecond: 90, burst: 30 } }, 3)
    let granted = 0
    for (; clock.nowMs < 10_000; clock.nowMs += 5) if (all[0]?.take(1, 0) === 0) granted++
    expect(granted).toBeWithin(30 * 10 + 10 - 1, 30 * 10 + 10 + 1)
  })

  test('is divided otherwise from when their number changes, which grants nothing', () => {
    const { clock, begin } = producers({ events: { perSecond: 60, burst: 60 } }, 2)
    const one = begin()
    expect(one.headers()['ratelimit']).toBe('"events";r=30;t=0')
    clock.replicas = 3
    expect(one.headers()).toEqual({ 'ratelimit-policy': '"events";q=20;w=1', ratelimit: '"events";r=20;t=0' })
    clock.replicas = 1
    expect(one.headers()['ratelimit']).toBe('"events";r=20;t=1')
    clock.nowMs += 500
    expect(one.headers()['ratelimit']).toBe('"events";r=50;t=1')
    clock.replicas = 120
    // Less than an event at a time is no quota at all.
    expect(one.headers()['ratelimit']).toBe('"events";r=1;t=0')
    expect(one.take(1, 0)).toBe(0)
    expect(one.take(1, 0)).toBe(2_000)
  })
})

describe('the meters of a tenants file', () => {
  const key = { id: 'till', sha256: '0'.repeat(64) }
  const fileWith = (tenant: Partial<TenantsFile['tenants'][string]>, keyQuota?: { eventsPerSecond: number }) => ({
    tenants: {
      acme: {
        streams: ['events', 'orders'],
        keys: [{ ...key, ...(keyQuota === undefined ? {} : { quota: keyQuota }) }],
        ...tenant,
      },
      other: { streams: ['events'], keys: [], quota: { eventsPerSecond: 7 } },
    },
  })
  const clock = { nowMs: () => 0, replicas: () => 1 }
  const left = (quotas: Quotas | undefined): (string | undefined)[] =>
    [...(quotas?.headers()['ratelimit'] ?? '').matchAll(/"([a-z-]+)";r=(\d+)/g)].map(
      ([, name, count]) => `${name} ${count}`,
    )

  test('are those of the tenant, of the stream and of the key, each once', () => {
    const tenants = tenantsOf(
      fileWith(
        { quota: { eventsPerSecond: 100 }, streamQuotas: { orders: { eventsPerSecond: 50 } } },
        { eventsPerSecond: 20 },
      ),
    )
    const [acme, other] = tenants.list as [Tenant, Tenant]
    const [credential] = [...tenants.credentials.values()]
    const till = { keyId: 'till', quota: credential?.quota as Quota }
    const meters = new Meters(clock)
    expect(left(meters.of(acme, 'events'))).toEqual(['events 100'])
    expect(left(meters.of(acme, 'orders', till))).toEqual(['events 100', 'stream-events 50', 'key-events 20'])
    meters.of(acme, 'orders', till)?.take(10, 0)
    expect(left(meters.of(acme, 'events'))).toEqual(['events 90'])
    expect(left(meters.of(acme, 'orders'))).toEqual(['events 90', 'stream-events 40'])
    expect(left(meters.of(acme, 'events', till))).toEqual(['events 90', 'key-events 10'])
    expect(left(meters.of(other, 'events'))).toEqual(['events 7'])
    expect(meters.of(tenantsOf(fileWith({})).list[0] as Tenant, 'events')).toBeUndefined()
  })

  test('stay over changes of the file, with other limits where it says so', () => {
    const meters = new Meters(clock)
    const before = tenantsOf(fileWith({ quota: { eventsPerSecond: 100 } }, { eventsPerSecond: 20 }))
    const change = (file: TenantsFile) => {
      const next = tenantsOf(file, before)
      meters.change(next.list, next.credentials.values())
      const [credential] = [...next.credentials.values()]
      const till = credential?.quota === undefined ? undefined : { keyId: 'till', quota: credential.quota }
      return meters.of(next.list[0] as Tenant, 'events', till)
    }
    const inFlight = change(fileWith({ quota: { eventsPerSecond: 100 } }, { eventsPerSecond: 20 }))
    inFlight?.take(15, 0)
    expect(left(change(fileWith({ quota: { eventsPerSecond: 100 } }, { eventsPerSecond: 20 })))).toEqual([
      'events 85',
      'key-events 5',
    ])
    expect(left(change(fileWith({ quota: { eventsPerSecond: 50 } }, { eventsPerSecond: 2 })))).toEqual([
      'events 50',
      'key-events 2',
    ])
    // A request in flight goes on with the same.
    expect(left(inFlight)).toEqual(['events 50', 'key-events 2'])
    const more = change(fileWith({ quota: { eventsPerSecond: 500 } }))
    expect(left(more)).toEqual(['events 50'])
    more?.take(45, 0)
    // One that was gone begins anew.
    expect(change(fileWith({}))).toBeUndefined()
    expect(left(change(fileWith({ quota: { eventsPerSecond: 30 } })))).toEqual(['events 30'])
  })
})
