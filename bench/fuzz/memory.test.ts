import { expect, test } from 'bun:test'
import { memoryFaults } from './memory.ts'

const MB = 2 ** 20
/** A hundred samples of memory, in MB. */
const samples = (mbAt: (share: number) => number) => Array.from({ length: 100 }, (_, at) => mbAt(at / 100) * MB)

test('memory that goes on growing after the start is a fault; a start, a peak and what settles are none', () => {
  expect(
    memoryFaults(
      'consumer',
      samples((share) => 100 + 300 * share),
    ),
  ).toEqual(["the consumer's memory grew from 189 to 369 MB"])
  expect(
    memoryFaults(
      'consumer',
      samples((share) => (share < 0.1 ? 50 : 250)),
    ),
  ).toEqual([])
  expect(
    memoryFaults(
      'consumer',
      samples((share) => (share > 0.45 && share < 0.55 ? 900 : 150)),
    ),
  ).toEqual([])
  expect(
    memoryFaults(
      'consumer',
      samples((share) => 130 + 60 * share),
    ),
  ).toEqual([])
  expect(memoryFaults('consumer', samples((share) => 100 + 300 * share).slice(0, 50))).toEqual([])
})
