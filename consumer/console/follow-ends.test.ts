import { expect, test } from 'bun:test'
import type { IncomingRecord } from '../../shared/events/record.ts'
import type { RangeReader } from '../../shared/kafka/types.ts'
import { createLogger } from '../../shared/service/logger.ts'
import { until } from '../../shared/testing/until.ts'
import { followOutcomes, Hubs } from './follow.ts'
import type { Readers } from './readers.ts'

const STREAM = { tenant: 't', name: 's', input: 'kt.t.s', partitions: 1, redact: [] }

function hubs(to = 0) {
  const reader = {
    follow: (_from: unknown, _take: (records: IncomingRecord[]) => void, signal: AbortSignal) =>
      new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve())),
    close: async () => undefined,
  } as unknown as RangeReader
  const reading = Promise.withResolvers<void>()
  const readers = {
    partitions: async () => 1,
    bounds: async (places: unknown[]) => places.map(() => ({ from: 0, to })),
    use: () => reading.promise,
  } as unknown as Readers
  const made = new Hubs({
    readers,
    openReader: () => reader,
    maxFollowers: 10,
    followerMaxBytes: 65_536,
    log: createLogger('console', { LOG_LEVEL: 'silent', LOG_FORMAT: 'json' }),
    signal: new AbortController().signal,
    onSent: () => undefined,
    onCut: () => undefined,
  })
  return { hubs: made, read: () => reading.resolve() }
}

test('a client that is gone before its answer begins is no follower', async () => {
  const { hubs: some } = hubs()
  await followOutcomes(some, STREAM, undefined, () => true, AbortSignal.abort())
  expect(some.followers).toBe(0)
  await some.close()
})

test('a follower that catches up while the reading of its stream ends is told so', async () => {
  const { hubs: some, read } = hubs(5)
  const stream = await followOutcomes(
    some,
    STREAM,
    { processed: [0], dlq: [0] },
    () => true,
    new AbortController().signal,
  )
  await some.close()
  read()
  await until(() => some.followers === 0)
  expect(await new Response(stream).text()).toContain('event: end')
})
