import { describe, expect, test } from 'bun:test'
import { Registry } from 'prom-client'
import { addClientMetrics, type Statistics } from './statistics.ts'

const window = (avg: number, p99: number) => ({ avg, p99 })
const broker = (nodeid: number, overrides: object = {}) => ({
  name: `${nodeid}`,
  nodeid,
  state: 'UP',
  txretries: 0,
  req_timeouts: 0,
  rtt: window(2_000, 9_000),
  int_latency: window(0, 0),
  outbuf_latency: window(0, 0),
  ...overrides,
})

const statistics = (overrides: Partial<Statistics> = {}): Statistics => ({
  msg_cnt: 0,
  msg_size: 0,
  brokers: {},
  topics: {},
  ...overrides,
})

function createSink() {
  const registry = new Registry()
  const metrics = addClientMetrics(registry)
  return { registry, metrics, sink: metrics.sink('producer') }
}

/** Values by name and labels, without the prefix. */
async function scrape(registry: Registry): Promise<Record<string, number>> {
  const lines = (await registry.metrics()).split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return Object.fromEntries(
    lines.map((line) => {
      const at = line.lastIndexOf(' ')
      return [line.slice('kafkatrace_kafka_client_'.length, at), Number(line.slice(at + 1))]
    }),
  )
}

describe('client metrics', () => {
  test('are there with 0 before the first statistics', async () => {
    const { registry } = createSink()
    const values = await scrape(registry)
    expect(Object.keys(values)).toHaveLength(6 + 3 + 2)
    expect(Object.values(values).every((value) => value === 0)).toBe(true)
  })

  test('latency is the average over brokers and the worst broker’s p99, in seconds', async () => {
    const { registry, sink } = createSink()
    const brokers = {
      'a:1/1': broker(1),
      'b:1/2': broker(2, { rtt: window(4_000, 50_000), int_latency: window(100, 300) }),
    }
    sink.take(statistics({ brokers }))
    expect(await scrape(registry)).toMatchObject({
      'latency_seconds{client="producer",stage="rtt",statistic="avg"}': 0.003,
      'latency_seconds{client="producer",stage="rtt",statistic="p99"}': 0.05,
      'latency_seconds{client="producer",stage="queue",statistic="avg"}': 0.00005,
      'latency_seconds{client="producer",stage="queue",statistic="p99"}': 0.0003,
    })
  })

  test('only real brokers count: bootstrap connections carry no records', async () => {
    const { registry, sink } = createSink()
    const brokers = {
      'a:1/bootstrap': broker(-1, { rtt: window(9e6, 9e6) }),
      'a:1/1': broker(1, { state: 'DOWN' }),
      'b:1/2': broker(2),
    }
    sink.take(statistics({ brokers }))
    expect(await scrape(registry)).toMatchObject({
      'brokers_up{client="producer"}': 1,
      'latency_seconds{client="producer",stage="rtt",statistic="p99"}': 0.009,
    })
  })

  test('the queue is what the client says now', async () => {
    const { registry, sink } = createSink()
    sink.take(statistics({ msg_cnt: 7, msg_size: 700 }))
    sink.take(statistics({ msg_cnt: 2, msg_size: 200 }))
    expect(await scrape(registry)).toMatchObject({
      'queue_records{client="producer"}': 2,
      'queue_bytes{client="producer"}': 200,
    })
  })

  test('troubles are counted once, and a client that was opened anew takes nothing away', async () => {
    const { registry, sink } = createSink()
    const report = (txretries: number, req_timeouts: number) =>
      sink.take(statistics({ brokers: { 'a:1/1': broker(1, { txretries, req_timeouts }) } }))
    report(3, 1)
    report(5, 1)
    report(1, 0)
    report(2, 1)
    expect(await scrape(registry)).toMatchObject({
      'request_troubles_total{client="producer",trouble="retry"}': 6,
      'request_troubles_total{client="producer",trouble="timeout"}': 2,
    })
  })

  test('no broker at all is no fault', async () => {
    const { registry, sink } = createSink()
    expect(sink.take({})).toEqual([])
    expect(Object.values(await scrape(registry)).every((value) => value === 0)).toBe(true)
  })

  test('clients are kept apart', async () => {
    const { registry, metrics, sink } = createSink()
    const other = metrics.sink('consumer')
    sink.take(statistics({ msg_cnt: 1 }))
    other.take(statistics({ msg_cnt: 5 }))
    expect(await scrape(registry)).toMatchObject({
      'queue_records{client="producer"}': 1,
      'queue_records{client="consumer"}': 5,
    })
  })
})

test('log ends are those of committed records, of partitions that are read', () => {
  const { sink } = createSink()
  const partitions = {
    0: { next_offset: 12, fetchq_cnt: 3 },
    1: { next_offset: -1001, fetchq_cnt: 0 },
    2: { next_offset: 0, fetchq_cnt: 0 },
    [-1]: { next_offset: 5, fetchq_cnt: 0 },
  }
  expect(sink.take(statistics({ topics: { 'kt.a.b': { partitions } } }))).toEqual([
    { topic: 'kt.a.b', partition: 0, next: 12, queued: 3 },
    { topic: 'kt.a.b', partition: 2, next: 0, queued: 0 },
  ])
})
