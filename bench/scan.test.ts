import { expect, test } from 'bun:test'
import { addByKey, addLines, isBroken, judge, keysOutOfOrder, type Scanned, together } from './scan.ts'

const read = (text: string): Scanned => {
  const scanned = together([])
  addLines(text, scanned)
  return scanned
}

/** Records of one partition with these ids, from offset 0 on. */
const log = (...ids: string[]): Scanned => ({
  partitions: ids.map(() => 0),
  offsets: ids.map((_, index) => index),
  timestampsMs: ids.map(() => 0),
  ids,
})

const receipts = (...ids: string[]) => ids.map((id, offset) => ({ id, partition: 0, offset }))

test('a record is read from the line that kcat prints of it', () => {
  expect(read('3 17 1700000000123 ce_specversion=1.0,ce_id=a-1,ce_source=/s\n4 0 5 ce_id=b\n')).toEqual({
    partitions: [3, 4],
    offsets: [17, 0],
    timestampsMs: [1700000000123, 5],
    ids: ['a-1', 'b'],
  })
})

test('an id is that of the header of this name, and of no other that ends so or holds it', () => {
  expect(read('0 0 0 x-ce_id=wrong,ce_id=right,note=ce_id=wrong\n').ids).toEqual(['right'])
})

test('a record without an id takes none from the line after it', () => {
  expect(read('0 0 0 a=b\n0 1 0 ce_id=z\n').ids).toEqual(['', 'z'])
})

test('an acknowledged event that is not where the answer said is lost', () => {
  expect(judge(receipts('a', 'b', 'c'), { input: log('a', 'b') }).lost).toBe(1)
  expect(judge(receipts('a', 'b'), { input: log('b', 'a') }).lost).toBe(2)
  expect(judge(receipts('a', 'b'), { input: log('a', 'b', 'never acknowledged') })).toEqual({
    acknowledged: 2,
    inLog: 3,
    lost: 0,
  })
})

test('where only their number is known, repeats do not stand in for events that are missing', () => {
  expect(judge(3, { input: log('a', 'b', 'b') })).toEqual({ acknowledged: 3, inLog: 2, lost: 1 })
})

test('an event has exactly one outcome, or is counted', () => {
  expect(judge(3, { input: log('a', 'b', 'c'), outcomes: log('a', 'b', 'b') })).toEqual({
    acknowledged: 3,
    inLog: 3,
    lost: 0,
    withoutOutcome: 1,
    doubled: 1,
  })
})

test('a run is broken by what is lost, doubled or without an outcome, and by nothing else', () => {
  const kept = { acknowledged: 1, inLog: 2, lost: 0 }
  expect(isBroken(kept)).toBe(false)
  expect(isBroken({ ...kept, withoutOutcome: 0, doubled: 0 })).toBe(false)
  expect(isBroken({ ...kept, lost: 1 })).toBe(true)
  expect(isBroken({ ...kept, doubled: 1 })).toBe(true)
  expect(isBroken({ ...kept, withoutOutcome: 1 })).toBe(true)
  expect(isBroken({ ...kept, outOfOrder: 1 })).toBe(true)
})

test('outcomes are in order if each key has them in the order of its events', () => {
  const byKey = (text: string): Map<string, string[]> => {
    const found = new Map<string, string[]>()
    addByKey(text, found)
    return found
  }
  const events = byKey('a ce_id=1,x=y\nb ce_id=2\na ce_id=3\n')
  expect(events).toEqual(
    new Map([
      ['a', ['1', '3']],
      ['b', ['2']],
    ]),
  )
  expect(keysOutOfOrder(events, byKey('b ce_id=2\na ce_id=1\na ce_id=3\n'))).toBe(0)
  expect(keysOutOfOrder(events, byKey('a ce_id=3\nb ce_id=2\na ce_id=1\n'))).toBe(1)
  expect(keysOutOfOrder(events, byKey('a ce_id=1\nb ce_id=3\n'))).toBe(1)
})
