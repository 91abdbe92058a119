import { expect, test } from 'bun:test'
import { seenMarkdown } from './seen.ts'

test('what a cluster showed is a table of scenarios, and one of what pods used', () => {
  const text = seenMarkdown({
    machine: '2 cores with 24 GiB',
    scenarios: [
      {
        name: 'a rollback',
        eventsPerSecond: 200,
        requests: 15_288,
        failed: 1,
        lost: 2,
        doubled: 3,
        outOfOrder: 4,
        longestGapMs: 260,
        seconds: 76.4,
      },
    ],
    readySeconds: { producer: 9, consumer: 12 },
    uses: [{ name: 'producer', cpuMilli: 174, cpuRequestMilli: 100, memoryMiB: 98, memoryRequestMiB: 512 }],
    eventsPerSecond: 1_000,
  })
  expect(text).toContain('On 2 cores with 24 GiB')
  expect(text).toContain('| a rollback | 200 | 15288 | 1 | 2 | 3 | 4 | 0.3 s | 76 s |')
  expect(text).toContain('producer 9 s, consumer 12 s')
  expect(text).toContain('| producer | 174m | 100m | 98 MiB | 512 MiB |')
})

test('before the first whole run, no figures are shown', () => {
  expect(seenMarkdown(undefined)).not.toContain('|')
})
