import { Counter, Gauge, type Registry } from 'prom-client'

/**
 * librdkafka's statistics (its STATISTICS.md) as metrics: those that tell where time goes between us and the brokers.
 */

interface Window {
  avg: number
  p99: number
}

/** What is read of librdkafka's statistics. Parts are left out where a client has nothing to say of them; durations are µs. */
export interface Statistics {
  /** Records that wait in the client, and their bytes. */
  msg_cnt?: number
  msg_size?: number
  /** How long there has been this client. */
  age?: number
  /** What has become of the producer id. */
  eos?: { idemp_state?: string }
  brokers?: Record<
    string,
    {
      name: string
      /** Negative: a bootstrap or coordinator connection, which carries no records. */
      nodeid: number
      state: string
      /** How long it has been in that state. */
      stateage?: number
      txretries: number
      req_timeouts: number
      disconnects?: number
      /** How long nothing has come from it, or gone to it; negative: never. */
      rxidle?: number
      txidle?: number
      rtt?: Window
      int_latency?: Window
      outbuf_latency?: Window
    }
  >
  topics?: Record<string, { partitions: Record<string, { next_offset: number; fetchq_cnt: number }> }>
}

/** How far a client has fetched a partition. */
export interface Position {
  topic: string
  partition: number
  /** The next offset to be fetched from the broker. */
  next: number
  /** Records that were fetched and not taken. */
  queued: number
}

/** Takes one client's statistics, about once a second. */
export interface StatisticsSink {
  /** @returns how far the client has fetched */
  take(statistics: Statistics): Position[]
}

const MICROS = 1_000_000

/** Adds the client metrics; `sink` gives each client, by a name such as "producer", its own labels. */
export function addClientMetrics(registry: Registry): { sink(client: string): StatisticsSink } {
  const registers = [registry]
  const latency = new Gauge({
    name: 'kafkatrace_kafka_client_latency_seconds',
    help: 'By stage (rtt: request to answer; queue: record in the client’s queue; socket: request in its output buffer), over all brokers: avg, and the worst broker’s p99.',
    labelNames: ['client', 'stage', 'statistic'] as const,
    registers,
  })
  const brokersUp = new Gauge({
    name: 'kafkatrace_kafka_client_brokers_up',
    help: 'Brokers that the client has a working connection to.',
    labelNames: ['client'] as const,
    registers,
  })
  const queued = new Gauge({
    name: 'kafkatrace_kafka_client_queue_records',
    help: 'Records that wait in the client for their acknowledgement.',
    labelNames: ['client'] as const,
    registers,
  })
  const queuedBytes = new Gauge({
    name: 'kafkatrace_kafka_client_queue_bytes',
    help: 'Bytes of records that wait in the client for their acknowledgement.',
    labelNames: ['client'] as const,
    registers,
  })
  const troubles = new Counter({
    name: 'kafkatrace_kafka_client_request_troubles_total',
    help: 'Requests by trouble: sent again (retry), or never answered (timeout).',
    labelNames: ['client', 'trouble'] as const,
    registers,
  })
  return {
    sink(client) {
      for (const stage of ['rtt', 'queue', 'socket'])
        for (const statistic of ['avg', 'p99']) latency.set({ client, stage, statistic }, 0)
      brokersUp.set({ client }, 0)
      queued.set({ client }, 0)
      queuedBytes.set({ client }, 0)
      const counted = { retry: 0, timeout: 0 }
      for (const trouble of ['retry', 'timeout']) troubles.inc({ client, trouble }, 0)
      return {
        take({ brokers = {}, topics = {}, msg_cnt = 0, msg_size = 0 }) {
          const real = Object.values(brokers).filter((one) => one.nodeid >= 0)
          const set = (stage: string, of: (one: (typeof real)[number]) => Window | undefined) => {
            const windows = real.flatMap((one) => of(one) ?? [])
            const average = windows.reduce((sum, one) => sum + one.avg, 0) / Math.max(1, windows.length)
            latency.set({ client, stage, statistic: 'avg' }, average / MICROS)
            latency.set({ client, stage, statistic: 'p99' }, Math.max(0, ...windows.map((one) => one.p99)) / MICROS)
          }
          set('rtt', (one) => one.rtt)
          set('queue', (one) => one.int_latency)
          set('socket', (one) => one.outbuf_latency)
          brokersUp.set({ client }, real.filter((one) => one.state === 'UP').length)
          queued.set({ client }, msg_cnt)
          queuedBytes.set({ client }, msg_size)
          const now = { retry: 0, timeout: 0 }
          for (const one of real) {
            now.retry += one.txretries
            now.timeout += one.req_timeouts
          }
          for (const trouble of ['retry', 'timeout'] as const) {
            // A client that was opened anew counts from zero.
            troubles.inc({ client, trouble }, Math.max(0, now[trouble] - counted[trouble]))
            counted[trouble] = now[trouble]
          }
          return Object.entries(topics).flatMap(([topic, { partitions }]) =>
            Object.entries(partitions)
              .filter(([partition, one]) => Number(partition) >= 0 && one.next_offset >= 0)
              .map(([partition, { next_offset: next, fetchq_cnt: queued }]) => ({
                topic,
                partition: Number(partition),
                next,
                queued,
              })),
          )
        },
      }
    },
  }
}
