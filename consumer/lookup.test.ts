import { afterEach, beforeEach, describe, expect, jest, test } from 'bun:test'
import type { Event } from '../shared/events/event.ts'
import {
  CIRCUIT_FAILURE_THRESHOLD,
  CIRCUIT_OPEN_MS,
  createCircuit,
  createTtlCache,
  guardLookup,
  LOOKUP_CACHE_TTL_MS,
  LOOKUP_MAX_IN_FLIGHT,
  LOOKUP_TIMEOUT_MS,
  type Lookup,
  type LookupObserver,
} from './lookup.ts'

let clockMs = 0
const nowMs = () => clockMs

beforeEach(() => {
  clockMs = 1_000_000
})

const about = (subject?: string): Event => ({
  id: '1',
  source: '/s',
  type: 't',
  extensions: {},
  data: null,
  ...(subject === undefined ? {} : { subject }),
})

/** A guarded look-up by subject, what it was asked for, and what its observer was told. */
function guarded(get: Lookup['get'], keyOf: Lookup['keyOf'] = (event) => event.subject) {
  const asked: string[] = []
  const told: string[] = []
  const observer: LookupObserver = {
    answered: (_, outcome) => void told.push(outcome),
    circuitChanged: (_, state) => void told.push(`circuit ${state}`),
  }
  const counting: Lookup = {
    name: 'test',
    keyOf,
    get(key, signal) {
      asked.push(key)
      return get(key, signal)
    },
  }
  return { lookup: guardLookup(counting, { nowMs, observer }), asked, told }
}

describe('a look-up in memory', () => {
  test('answers without a promise, found or missing, and is asked every time', () => {
    const table = new Map<string, unknown>([['a', { rank: 1 }]])
    const { lookup, asked, told } = guarded((key) => table.get(key))
    expect(lookup.find(about('a'))).toEqual({ status: 'found', value: { rank: 1 } })
    expect(lookup.find(about('b'))).toEqual({ status: 'missing' })
    table.set('a', { rank: 2 })
    expect(lookup.find(about('a'))).toEqual({ status: 'found', value: { rank: 2 } })
    expect(asked).toEqual(['a', 'b', 'a'])
    expect(told).toEqual(['found', 'missing', 'found'])
  })

  test('is not asked about an event that is none of its business', () => {
    const { lookup, asked, told } = guarded(() => 'value')
    expect(lookup.find(about())).toBeUndefined()
    expect([...asked, ...told]).toEqual([])
  })

  test('that throws makes the result unavailable with its reason', () => {
    const { lookup, told } = guarded(() => {
      throw new Error('the table is not loaded')
    })
    expect(lookup.find(about('a'))).toEqual({ status: 'unavailable', reason: 'the table is not loaded' })
    expect(told).toEqual(['failed'])
  })

  test('whose key cannot be found holds nothing back either', () => {
    const { lookup } = guarded(
      () => 'value',
      () => {
        throw new Error('no such attribute')
      },
    )
    expect(lookup.find(about('a'))).toEqual({ status: 'unavailable', reason: 'no such attribute' })
  })
})

describe('a look-up elsewhere', () => {
  test('is asked once for each key until its answer expires, misses as well', async () => {
    const { lookup, asked, told } = guarded(async (key) => (key === 'a' ? 1 : undefined))
    expect(await lookup.find(about('a'))).toEqual({ status: 'found', value: 1 })
    expect(await lookup.find(about('b'))).toEqual({ status: 'missing' })
    clockMs += LOOKUP_CACHE_TTL_MS - 1
    // From the cache there is no promise.
    expect(lookup.find(about('a'))).toEqual({ status: 'found', value: 1 })
    expect(lookup.find(about('b'))).toEqual({ status: 'missing' })
    clockMs += 1
    await lookup.find(about('a'))
    expect(asked).toEqual(['a', 'b', 'a'])
    expect(told).toEqual(['found', 'missing', 'cached', 'cached', 'found'])
  })

  test('is asked once by events of one key that come together', async () => {
    const answer = Promise.withResolvers<string>()
    const { lookup, asked, told } = guarded(() => answer.promise)
    const results = [lookup.find(about('a')), lookup.find(about('a'))]
    answer.resolve('value')
    expect(await Promise.all(results)).toEqual(Array(2).fill({ status: 'found', value: 'value' }))
    expect(asked).toEqual(['a'])
    expect(told).toEqual(['shared', 'found'])
  })

  test('that fails is asked again: failures are not cached', async () => {
    let works = false
    const { lookup } = guarded(async () => {
      if (!works) throw 'refused'
      return 1
    })
    expect(await lookup.find(about('a'))).toEqual({ status: 'unavailable', reason: 'refused' })
    works = true
    expect(await lookup.find(about('a'))).toEqual({ status: 'found', value: 1 })
  })

  test('is asked for no more keys at once than the bound', async () => {
    const answer = Promise.withResolvers<string>()
    const { lookup, asked } = guarded(() => answer.promise)
    const pending = Array.from({ length: LOOKUP_MAX_IN_FLIGHT }, (_, index) => lookup.find(about(`key ${index}`)))
    expect(lookup.find(about('one too many'))).toMatchObject({ status: 'unavailable' })
    expect(asked.length).toBe(LOOKUP_MAX_IN_FLIGHT)
    answer.resolve('v')
    await Promise.all(pending)
    expect(await lookup.find(about('now'))).toEqual({ status: 'found', value: 'v' })
  })
})

describe('a look-up that does not answer', () => {
  beforeEach(() => void jest.useFakeTimers())
  afterEach(() => void jest.useRealTimers())

  test('is given up after the time-out and told so by its signal', async () => {
    let given: AbortSignal | undefined
    const { lookup, told } = guarded((_, signal) => {
      given = signal
      return new Promise(() => {})
    })
    const result = lookup.find(about('a'))
    jest.advanceTimersByTime(LOOKUP_TIMEOUT_MS - 1)
    expect(given?.aborted).toBe(false)
    jest.advanceTimersByTime(1)
    expect(await result).toEqual({ status: 'unavailable', reason: `no answer within ${LOOKUP_TIMEOUT_MS} ms` })
    expect(given?.aborted).toBe(true)
    expect(told).toEqual(['timed out'])
  })

  test('leaves no timer behind once it has answered', async () => {
    const { lookup } = guarded(async () => 1)
    await lookup.find(about('a'))
    // The clearing follows the answer by a turn.
    await Promise.resolve()
    expect(jest.getTimerCount()).toBe(0)
  })
})

test('after a few failures in a row a look-up is left alone, then tried by one event, then used again', async () => {
  let probe = Promise.withResolvers<string>()
  let answer: () => Promise<string> = async () => {
    throw new Error('down')
  }
  const { lookup, asked, told } = guarded(() => answer())
  for (let n = 0; n < CIRCUIT_FAILURE_THRESHOLD; n++) await lookup.find(about(`${n}`))
  expect(told.at(-2)).toBe('circuit open')
  asked.length = 0

  expect(lookup.find(about('x'))).toMatchObject({ status: 'unavailable', reason: expect.stringContaining('down') })
  clockMs += CIRCUIT_OPEN_MS - 1
  lookup.find(about('x'))
  expect(asked).toEqual([])

  clockMs += 1
  answer = () => probe.promise
  const tried = lookup.find(about('first'))
  expect(lookup.find(about('second'))).toMatchObject({ status: 'unavailable' })
  expect(asked).toEqual(['first'])
  probe.reject(new Error('still down'))
  expect(await tried).toMatchObject({ reason: 'still down' })
  expect(lookup.find(about('third'))).toMatchObject({ status: 'unavailable' })

  clockMs += CIRCUIT_OPEN_MS
  probe = Promise.withResolvers()
  const again = lookup.find(about('fourth'))
  probe.resolve('up')
  expect(await again).toEqual({ status: 'found', value: 'up' })
  expect(await lookup.find(about('fifth'))).toEqual({ status: 'found', value: 'up' })
  expect(told.filter((one) => one.startsWith('circuit ') && one !== 'circuit open')).toEqual([
    'circuit half-open',
    'circuit half-open',
    'circuit closed',
  ])
})

describe('the circuit', () => {
  test('stays closed while failures are not in a row', () => {
    const states: string[] = []
    const circuit = createCircuit(nowMs, (state) => states.push(state))
    for (let n = 0; n < 3 * CIRCUIT_FAILURE_THRESHOLD; n++) {
      circuit.failed('x')
      if (n % (CIRCUIT_FAILURE_THRESHOLD - 1) === 0) circuit.succeeded()
    }
    expect(states).toEqual([])
    expect(circuit.pass()).toEqual({ ok: true })
  })

  test('closes when a call that began before it opened succeeds after all', () => {
    const circuit = createCircuit(nowMs, () => {})
    for (let n = 0; n < CIRCUIT_FAILURE_THRESHOLD; n++) circuit.failed('x')
    expect(circuit.state()).toBe('open')
    circuit.succeeded()
    expect(circuit.pass()).toEqual({ ok: true })
  })
})

describe('the cache', () => {
  test('never holds more than its bound, and drops what was used longest ago', () => {
    const cache = createTtlCache<number>(3, 1000, nowMs)
    for (const [index, key] of ['a', 'b', 'c'].entries()) cache.set(key, index)
    expect(cache.get('a')).toBe(0)
    cache.set('d', 3)
    expect(['a', 'b', 'c', 'd'].map((key) => cache.get(key))).toEqual([0, undefined, 2, 3])
    expect(cache.size()).toBe(3)
  })

  test('counts the age of a value from its setting, however often it is used', () => {
    const cache = createTtlCache<number>(3, 1000, nowMs)
    cache.set('a', 1)
    clockMs += 999
    expect(cache.get('a')).toBe(1)
    clockMs += 1
    expect(cache.get('a')).toBeUndefined()
    expect(cache.size()).toBe(0)
  })
})
