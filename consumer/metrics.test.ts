import { expect, test } from 'bun:test'
import { createMetrics } from './metrics.ts'
import type { PartitionPast } from './partition-past.ts'
import type { Partition } from './partition-state.ts'

test('the outcomes of a stream are there with 0 once its partition is read, so that the first ones are seen as an increase', async () => {
  const metrics = createMetrics()
  const nothing = { missing: [] }
  metrics.restored(
    { tenant: 'shop', stream: 'events' } as Partition,
    { skipped: 0, input: nothing, retry: nothing } as unknown as PartitionPast,
    1,
  )
  const text = await metrics.registry.metrics()
  for (const outcome of ['processed', 'dead', 'retry', 'duplicate'])
    expect(text).toContain(`kafkatrace_consumer_events_total{tenant="shop",stream="events",outcome="${outcome}"} 0`)
})
