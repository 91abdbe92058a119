import { expect, test } from 'bun:test'
import {
  BROKEN,
  createLedger,
  decodeLedger,
  encodeLedger,
  MAX_IN_FLIGHT,
  outcomeOf,
  schedule,
  voidReason,
} from './open-loop.ts'

test('arrivals have the rate that is asked for, rise, and are those of many clients: their gaps vary as much as they last', () => {
  const due = schedule(1000, 20, 7)
  expect(due.length).toBeGreaterThan(19_500)
  expect(due.length).toBeLessThan(20_500)
  const gaps = [...due].map((at, index) => at - (due[index - 1] ?? 0))
  expect(Math.min(...gaps)).toBeGreaterThanOrEqual(0)
  const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length
  const deviation = Math.sqrt(gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length)
  expect(deviation / mean).toBeCloseTo(1, 1)
})

test('equal seeds give equal arrivals', () => {
  expect(schedule(100, 2, 5)).toEqual(schedule(100, 2, 5))
  expect(schedule(100, 2, 5)).not.toEqual(schedule(100, 2, 6))
})

/** Rows of due, sent, answered, status. */
function ledgerOf(...rows: [dueMs: number, sentMs: number, answeredMs: number, status: number][]) {
  const ledger = createLedger(rows.length)
  for (const [index, [dueMs, sentMs, answeredMs, status]] of rows.entries()) {
    ledger.dueMs[index] = dueMs
    ledger.sentMs[index] = sentMs
    ledger.answeredMs[index] = answeredMs
    ledger.status[index] = status
  }
  return ledger
}

test('a ledger comes out of its file as it went in', async () => {
  const ledger = ledgerOf([1, 2, 3, 202], [4, 5, 6, 503])
  ledger.partition[1] = 5
  ledger.offset[1] = 7_000_000_000
  const file = new Blob(encodeLedger(ledger) as Float64Array<ArrayBuffer>[])
  expect(decodeLedger(await file.arrayBuffer())).toEqual(ledger)
})

test('time counts from when a request was due, not from when it was sent', () => {
  const outcome = outcomeOf(ledgerOf([1000, 1004, 1005, 202]), 0)
  expect(outcome.toAnswer.maxMs).toBeCloseTo(5, 1)
  expect(outcome.latenessP99Ms).toBeCloseTo(4, 1)
})

test('what was due before the measurement does not count', () => {
  const outcome = outcomeOf(ledgerOf([10, 900, 950, 500], [100, 100, 101, 202]), 50)
  expect(outcome).toMatchObject({ offered: 1, acknowledged: 1, errors: {} })
})

test('everything but 2xx is an error by its kind, and refusals have a clock of their own', () => {
  const outcome = outcomeOf(
    ledgerOf([1, 1, 3, 202], [1, 1, 41, 503], [1, 1, 3, 422], [1, 1, 0, 0], [1, 1, 2, BROKEN], [1, 0, 0, 0]),
    0,
  )
  expect(outcome.errors).toEqual({ '503': 1, '422': 1, timeout: 1, connection: 1, 'not sent': 1 })
  expect(outcome.toAnswer.count).toBe(1)
  expect(outcome.toRefusal).toMatchObject({ count: 1 })
  expect(outcome.toRefusal.maxMs).toBeCloseTo(40, 0)
})

const bounds = { latenessBoundMs: 5, overload: false }

test('a run whose generator was late is void', () => {
  expect(voidReason({ latenessP99Ms: 4.9, errors: { '503': 1 } }, bounds)).toBeUndefined()
  expect(voidReason({ latenessP99Ms: 5.1, errors: {} }, bounds)).toContain('late: p99 5.1 ms, bound 5 ms')
})

test('a run that needed more connections than there may be is void, unless it was to be too much', () => {
  const outcome = { latenessP99Ms: 0, errors: { 'not sent': 1 } }
  expect(voidReason(outcome, bounds)).toContain(String(MAX_IN_FLIGHT))
  expect(voidReason(outcome, { ...bounds, overload: true })).toBeUndefined()
})
