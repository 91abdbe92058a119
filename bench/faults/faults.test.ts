import { describe, expect, test } from 'bun:test'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { FAULTS, faultNamed, overtaken } from './faults.ts'
import type { LogRecord } from './judge.ts'
import { seedOf } from './stage.ts'

/** Played by night, not with every change: they take long, or need root. */
const NIGHTLY = [
  'backlog',
  'forgotten-by-another',
  'freeze-producer',
  'lose-majority',
  'partition-network',
  'permissions',
  'retention-overtakes',
  'roll-brokers',
]

test('every fault has a name of its own, and a test unless it is left to the night', () => {
  expect(new Set(FAULTS.map(({ name }) => name)).size).toBe(FAULTS.length)
  const tested = FAULTS.filter(({ name }) => existsSync(join(import.meta.dir, `${name}.e2e.test.ts`)))
  const untested = FAULTS.filter((fault) => !tested.includes(fault)).map(({ name }) => name)
  expect(untested.sort()).toEqual(NIGHTLY)
  expect(() => faultNamed('no such fault')).toThrow('no such fault')
})

test('the seed is the one that is given, else chance, and never anything else', () => {
  expect(seedOf({ FAULT_SEED: '42' })).toBe(42)
  expect(seedOf({ FAULT_SEED: '' })).not.toBe(seedOf({}))
  expect(() => seedOf({ FAULT_SEED: 'x' })).toThrow('FAULT_SEED=x')
})

describe('an event that waits for its retry is passed by', () => {
  const record = (id: string, key: string | null, offset: number, timestampMs: number): LogRecord => ({
    partition: 0,
    offset,
    timestampMs,
    key,
    event: { source: '/s', id },
    origin: undefined,
    receivedAt: undefined,
    generation: 0,
    redrivenFrom: undefined,
    edited: false,
    passedThrough: true,
    value: '',
    content: '',
  })
  const log = (outcomes: LogRecord[], other: string | null) => {
    const input = [record('waits', 'k', 0, 0), record('later', other, 1, 0)]
    return { topic: 't', input, retry: [record('waits', 'k', 0, 0)], dlq: [], processed: outcomes }
  }
  const passing = [record('later', '', 0, 5), record('waits', 'k', 1, 9)]

  test('a later one of another key, or of none', () => {
    expect(overtaken(log(passing, 'other'))).toEqual({ waited: 1, passed: 1 })
    expect(overtaken(log(passing, null))).toEqual({ waited: 1, passed: 1 })
  })

  test('not by one of its own key, nor by one that came out after it', () => {
    expect(overtaken(log(passing, 'k'))).toEqual({ waited: 1, passed: 0 })
    expect(overtaken(log([record('waits', 'k', 0, 5), record('later', '', 1, 9)], 'other'))).toEqual({
      waited: 1,
      passed: 0,
    })
  })
})
