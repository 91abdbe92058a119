import { describe, expect, spyOn, test } from 'bun:test'
import fc from 'fast-check'
import { NO_HEADERS } from '../shared/events/headers.ts'
import type { RecordProducer } from '../shared/kafka/types.ts'
import { FakeKafka } from '../shared/testing/fake-kafka.ts'
import { simulateTime } from '../shared/testing/simulated-time.ts'
import { anybodysOf, Gate, holding, queueShare, type Stay } from './admit.ts'

describe('the gate', () => {
  /** Lets a request in, or returns why not. */
  const enter = (gate: Gate, tenant = 'a', bytes = 1, stream = false): Stay | string => {
    const entered = gate.enter(tenant, bytes, stream)
    return entered.ok ? entered.stay : entered.problem.detail
  }
  const must = (gate: Gate, tenant = 'a', bytes = 1, stream = false): Stay => {
    const stay = enter(gate, tenant, bytes, stream)
    if (typeof stay === 'string') throw new Error(stay)
    return stay
  }

  test('what may be anybody’s has half of the room at most, by source, even with one tenant; verified, it is the tenant’s', () => {
    const gate = new Gate({ maxRequests: 8, maxBytes: 8_000 })
    const one = anybodysOf('one')
    const stays = Array.from({ length: 4 }, () => must(gate, one, 1_000))
    expect(enter(gate, one)).toContain('MAX_IN_FLIGHT_REQUESTS=8')
    expect(typeof enter(gate, anybodysOf('two'), 1_000)).toBe('object')
    expect(typeof enter(gate, 'a', 1_000)).toBe('object')
    for (const stay of stays) gate.verified(stay, 'a')
    expect(gate.level).toEqual({ requests: 6, bytes: 6_000 })
    expect(typeof enter(gate, one)).toBe('object')
    for (const stay of stays) gate.leave(stay)
    expect(gate.level).toEqual({ requests: 3, bytes: 2_001 })
    expect(gate.setAside(4_000_000, 4_000_000, one)).toBe(16 * 1024)
  })

  test('never holds more than its limits, whoever comes, and is empty when all have left', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(1, 3),
        fc.array(
          fc.record({
            tenant: fc.constantFrom('a', 'b', 'c'),
            bytes: fc.nat(60),
            later: fc.nat(60),
            leaves: fc.nat(5),
            stream: fc.boolean(),
          }),
        ),
        (tenants, visits) => {
          const gate = new Gate({ maxRequests: 5, maxBytes: 100 }, tenants)
          const inside = new Set<Stay>()
          for (const { tenant, bytes, later, leaves, stream } of visits) {
            const stay = enter(gate, tenants === 1 ? 'a' : tenant, bytes, stream)
            if (typeof stay !== 'string') inside.add(stay)
            if (typeof stay !== 'string' && gate.hold(stay, later) !== undefined) expect(stay.bytes).toBe(bytes)
            const [first] = inside
            if (first !== undefined && leaves < 2) {
              inside.delete(first)
              // Leaving twice counts once.
              for (let time = 0; time <= leaves; time++) gate.leave(first)
              expect(gate.hold(first, 1_000)).toBeUndefined()
            }
            expect(gate.level).toEqual({
              requests: inside.size,
              bytes: [...inside].reduce((sum, one) => sum + one.bytes, 0),
            })
            expect(gate.level.requests).toBeLessThanOrEqual(5)
            expect(gate.level.bytes).toBeLessThanOrEqual(100)
          }
          for (const one of inside) gate.leave(one)
          expect(gate.level).toEqual({ requests: 0, bytes: 0 })
        },
      ),
    )
  })

  test('takes only numbers of bytes, so that no sum becomes none', () => {
    const gate = new Gate({ maxRequests: 5, maxBytes: 100 })
    const stay = must(gate, 'a', 10)
    for (const bytes of [Number.NaN, -1, 0.5, Number.POSITIVE_INFINITY]) {
      expect(() => gate.enter('a', bytes, false)).toThrow(RangeError)
      expect(() => gate.hold(stay, bytes)).toThrow(RangeError)
    }
    expect(gate.level).toEqual({ requests: 1, bytes: 10 })
    gate.leave(stay)
    expect(gate.level).toEqual({ requests: 0, bytes: 0 })
  })

  test('what is announced is believed while half of the room is free', () => {
    const gate = new Gate({ maxRequests: 10, maxBytes: 1_000_000 })
    expect(gate.setAside(100, 300_000, 'acme')).toBe(100)
    expect(gate.setAside(undefined, 100, 'acme')).toBe(100)
    expect(gate.setAside(undefined, 300_000, 'acme')).toBe(65_536)
    expect(gate.setAside(300_000, 300_000, 'acme')).toBe(300_000)
    expect(gate.setAside(2_000_000, 300_000, 'acme')).toBe(300_000)
    expect(gate.setAside(Number.NaN, 300_000, 'acme')).toBe(65_536)
    must(gate, 'a', 300_000)
    expect(gate.setAside(200_000, 300_000, 'acme')).toBe(200_000)
    expect(gate.setAside(200_001, 300_000, 'acme')).toBe(65_536)
  })

  test('a single tenant may have all of it', () => {
    const gate = new Gate({ maxRequests: 10, maxBytes: 100 })
    for (let i = 0; i < 10; i++) must(gate, 'a', 10)
    expect(enter(gate)).toContain('MAX_IN_FLIGHT_REQUESTS=10')
  })

  test('once there are several tenants, each is to leave as much free as it has, and keeps what it has until then', () => {
    const gate = new Gate({ maxRequests: 10, maxBytes: 100 })
    const inside = Array.from({ length: 8 }, () => must(gate, 'a', 1))
    gate.serve(2)
    expect(gate.shared).toBe(true)
    expect(enter(gate, 'a')).toContain('One of several tenants may have as much as stays free for the others.')
    expect(gate.level.requests).toBe(8)
    must(gate, 'b', 1)
    for (const stay of inside) gate.leave(stay)
    for (let i = 0; i < 5; i++) must(gate, 'a', 1)
    expect(enter(gate, 'a', 1)).toContain('One of several tenants')
    gate.serve(1)
    for (let i = 0; i < 4; i++) must(gate, 'a', 1)
    expect(enter(gate, 'a')).not.toContain('several')
  })

  test('whatever one tenant has and keeps, another has room: half of the requests and bytes stay free for it, and half of these are its own', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ bytes: fc.nat(8), later: fc.nat(8), leaves: fc.nat(9), stream: fc.boolean() }), {
          minLength: 50,
          maxLength: 100,
        }),
        (visits) => {
          const gate = new Gate({ maxRequests: 40, maxBytes: 160 }, 2)
          const inside: Stay[] = []
          for (const { bytes, later, leaves, stream } of visits) {
            const stay = enter(gate, 'hostile', bytes, stream)
            if (typeof stay !== 'string') {
              gate.hold(stay, later)
              inside.push(stay)
            }
            if (leaves === 0 && inside[0] !== undefined) gate.leave(inside.shift() as Stay)
          }
          expect(gate.level.requests).toBeLessThanOrEqual(21)
          expect(gate.level.bytes).toBeLessThanOrEqual(84)
          for (let i = 0; i < 9; i++) must(gate, 'other', 4)
        },
      ),
    )
  })

  test('the room is shared by as many as want it', () => {
    const gate = new Gate({ maxRequests: 1_000, maxBytes: 1_000 }, 10)
    const turns: Record<string, Stay[]> = { a: [], b: [], c: [] }
    // What one tenant frees, the next may take.
    for (let round = 0; round < 5_000; round++) {
      const [name = '', mine = []] = Object.entries(turns)[round % 3] ?? []
      const stay = enter(gate, name)
      if (typeof stay !== 'string') mine.push(stay)
      if (round % 2 === 0 && mine[0] !== undefined) gate.leave(mine.shift() as Stay)
    }
    for (const mine of Object.values(turns)) expect(mine.length).toBeWithin(240, 261)
  })

  test('while the thread is late, only whoever has an equal part is refused', () => {
    const gate = new Gate({ maxRequests: 1_000, maxBytes: 1_000_000 }, 3)
    for (let i = 0; i < 400; i++) must(gate, 'hostile')
    for (let i = 0; i < 20; i++) gate.adapt(60)
    expect(gate.admitted).toBe(64)
    expect(gate.closed).toBeUndefined()
    expect(enter(gate, 'hostile')).toContain('more to do than it can')
    const others = Array.from({ length: 32 }, () => must(gate, 'other'))
    expect(enter(gate, 'other')).toContain('more to do than it can')
    // Streams are not counted, and a third tenant has a share, too.
    must(gate, 'other', 1, true)
    for (let i = 0; i < 22; i++) must(gate, 'third')
    expect(enter(gate, 'third')).toContain('more to do than it can')
    gate.leave(others[0] as Stay)
    expect(enter(gate, 'other')).toContain('more to do than it can')
  })

  test('closes while draining, and is drained when the last has left', async () => {
    const gate = new Gate({ maxRequests: 5, maxBytes: 100 })
    const stay = must(gate)
    let drained = false
    const draining = gate.shut().then(() => {
      drained = true
    })
    expect(enter(gate)).toContain('stopping')
    await Promise.resolve()
    expect(drained).toBe(false)
    gate.leave(stay)
    await draining
    await gate.shut()
  })

  test('lets fewer in while the thread is late, never fewer than some, and by and by as many as before', () => {
    const gate = new Gate({ maxRequests: 1_000, maxBytes: 1_000_000 })
    const stays = Array.from({ length: 500 }, () => must(gate))
    gate.adapt(5)
    expect(gate.admitted).toBe(1_000)
    for (const lateMs of [60, 60]) gate.adapt(lateMs)
    expect(gate.admitted).toBe(1_000)
    gate.adapt(60)
    expect(gate.admitted).toBe(400)
    expect(gate.closed).toMatchObject({ kind: 'overloaded', outcome: 'not stored' })
    expect(enter(gate)).toContain('more to do than it can')
    for (const stay of stays.slice(0, 150)) gate.leave(stay)
    expect(gate.closed).toBeUndefined()
    for (let i = 0; i < 100; i++) gate.adapt(60)
    expect(gate.admitted).toBe(64)
    for (let i = 0; i < 100; i++) gate.adapt(0)
    expect(gate.admitted).toBe(1_000)
  })

  test('lets in as many as before after a pause of the machine, during which nobody could send', () => {
    const gate = new Gate({ maxRequests: 1_000, maxBytes: 1_000_000 })
    for (let i = 0; i < 64; i++) must(gate)
    for (let i = 0; i < 200; i++) must(gate, 'a', 1, true)
    gate.adapt(60_000)
    expect(gate.admitted).toBe(1_000)
  })

  test('refuses nobody after a pause of the machine for which many requests waited', () => {
    const gate = new Gate({ maxRequests: 1_000, maxBytes: 1_000_000 })
    for (let i = 0; i < 500; i++) must(gate)
    for (let pause = 0; pause < 20; pause++) {
      gate.adapt(300)
      expect(gate.closed).toBeUndefined()
      gate.adapt(0)
    }
  })

  test('while fewer are let in, the first late timer lets in still fewer', () => {
    const gate = new Gate({ maxRequests: 1_000, maxBytes: 1_000_000 })
    for (let i = 0; i < 500; i++) must(gate)
    for (let i = 0; i < 3; i++) gate.adapt(60)
    gate.adapt(0)
    expect(gate.admitted).toBe(410)
    gate.adapt(60)
    expect(gate.admitted).toBe(328)
  })

  test('streams are in nobody’s way while fewer are let in', () => {
    const gate = new Gate({ maxRequests: 200, maxBytes: 1_000_000 })
    const streams = Array.from({ length: 100 }, () => must(gate, 'a', 1, true))
    const stays = Array.from({ length: 65 }, () => must(gate))
    for (let i = 0; i < 3; i++) gate.adapt(60)
    expect(gate.admitted).toBe(64)
    expect(gate.closed).toBeDefined()
    for (const stay of streams) gate.leave(stay)
    expect(gate.closed).toBeDefined()
    for (const stay of stays.slice(0, 2)) gate.leave(stay)
    expect(gate.closed).toBeUndefined()
  })

  test('that watches notices a thread that is busy', async () => {
    const time = simulateTime(1)
    const now = performance.now.bind(performance)
    let busyMs = 0
    let eachTimeMs = 0
    const clock = spyOn(performance, 'now').mockImplementation(() => {
      busyMs += eachTimeMs
      return now() + busyMs
    })
    const gate = new Gate({ maxRequests: 1_000, maxBytes: 1_000_000 })
    for (let i = 0; i < 500; i++) must(gate)
    const stop = gate.watch()
    try {
      await time.pass(1_000)
      expect(gate.admitted).toBe(1_000)
      eachTimeMs = 60
      expect(await time.until(() => gate.admitted < 1_000, 1_000)).toBe(true)
      eachTimeMs = 0
      expect(await time.until(() => gate.admitted === 1_000, 60_000)).toBe(true)
    } finally {
      stop()
      clock.mockRestore()
      time.end()
    }
  })
})

describe('the body of a stream', () => {
  const bytes = async (pieces: AsyncIterable<Uint8Array>): Promise<number> => {
    let sum = 0
    for await (const piece of pieces) sum += piece.length
    return sum
  }
  async function* pieces(...texts: string[]): AsyncGenerator<Uint8Array> {
    for (const text of texts) yield Buffer.from(text)
  }
  const entered = (gate: Gate, tenant: string, held: number): Stay => {
    const made = gate.enter(tenant, held, true)
    if (!made.ok) throw new Error(made.problem.detail)
    return made.stay
  }

  test('holds what has come of it, to the size of its window', async () => {
    const gate = new Gate({ maxRequests: 5, maxBytes: 100 })
    const stay = entered(gate, 'a', 10)
    const held: number[] = []
    for await (const _ of holding(pieces('12\n', '345678901\n', '2\n', '3'.repeat(90)), gate, stay, 30))
      held.push(stay.bytes)
    expect(held).toEqual([10, 13, 15, 30])
    gate.leave(stay)
    expect(gate.level.bytes).toBe(0)
  })

  test('goes on with what it holds where there is no room for more, and waits with a line that is longer', async () => {
    const gate = new Gate({ maxRequests: 5, maxBytes: 100 })
    const other = entered(gate, 'b', 85)
    const stay = entered(gate, 'a', 10)
    expect(await bytes(holding(pieces('123456789\n', '123456789\n', '12345'), gate, stay, 50))).toBe(25)
    expect(stay.bytes).toBe(10)
    let read = 0
    const reading = bytes(holding(pieces('123456789\n', '1234567890', '123456', '78\n'), gate, stay, 50)).then(
      (all) => {
        read = all
      },
    )
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
    expect(read).toBe(0)
    gate.leave(other)
    await reading
    expect(read).toBe(29)
  })

  test('holds what its decoder takes besides', async () => {
    const gate = new Gate({ maxRequests: 5, maxBytes: 100 })
    const stay = entered(gate, 'a', 10)
    expect(gate.holdDecoder(stay, 40)).toBeUndefined()
    const held: number[] = []
    for await (const _ of holding(pieces('1\n', '345678901\n'), gate, stay, 30)) held.push(stay.bytes)
    expect(held).toEqual([50, 52])
    expect(gate.holdDecoder(stay, 20)).toBeUndefined()
    expect(stay.bytes).toBe(32)
    expect(gate.holdDecoder(stay, 89)?.kind).toBe('overloaded')
    expect([stay.bytes, stay.decoderBytes]).toEqual([32, 20])
    gate.leave(stay)
    expect(gate.level.bytes).toBe(0)
  })

  test('ends with its request, though it waits', async () => {
    const gate = new Gate({ maxRequests: 5, maxBytes: 20 })
    entered(gate, 'b', 10)
    const stay = entered(gate, 'a', 10)
    const reading = bytes(holding(pieces('x'.repeat(15)), gate, stay, 20))
    gate.leave(stay)
    expect(await reading).toBe(15)
  })
})

describe('the queue', () => {
  const records = (count: number) =>
    Array.from({ length: count }, () => ({
      topic: 't',
      partition: 0,
      key: null,
      value: Buffer.alloc(10),
      headers: NO_HEADERS,
    }))

  test('is full for a tenant that has as much in it as is free, and not for another', async () => {
    const kafka = new FakeKafka().createTopic('t')
    const { promise, resolve } = Promise.withResolvers<void>()
    kafka.hold = promise
    const producer = kafka.producer({ maxRecords: 100, maxBytes: 2_000 })
    const [a, b] = [queueShare(producer), queueShare(producer)]
    const room = ({ records, maxRecords }: ReturnType<RecordProducer['queue']>) => maxRecords - records
    expect([room(a.queue()), room(b.queue())]).toEqual([100, 100])
    const sent = a.produce(records(40))
    expect([room(a.queue()), room(b.queue())]).toEqual([20, 60])
    expect(a.queue()).toEqual({ records: 80, bytes: 800, maxRecords: 100, maxBytes: 2_000 })
    resolve()
    expect(await sent).toHaveLength(40)
    expect([room(a.queue()), room(b.queue())]).toEqual([100, 100])
  })
})
