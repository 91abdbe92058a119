import { expect, test } from 'bun:test'
import { perfTestSummary } from './limits.ts'

test('the summary of kafka-producer-perf-test is its last line', () => {
  const printed = `81 records sent, 16.2 records/sec (0.00 MB/sec), 1.0 ms avg latency, 2.0 ms max latency.
300000 records sent, 250000.5 records/sec (71.53 MB/sec), 4.00 ms avg latency, 51.00 ms max latency, 3 ms 50th, 9 ms 95th, 20 ms 99th, 40 ms 99.9th.
`
  expect(perfTestSummary(printed)).toEqual({ records: 300_000, perSecond: 250_000.5 })
})

test('a kafka-producer-perf-test that ended otherwise is a fault that shows what it said', () => {
  expect(() => perfTestSummary('…\norg.apache.kafka.common.errors.TimeoutException: no\n')).toThrow('TimeoutException')
  expect(() => perfTestSummary('')).toThrow('without a summary')
})
