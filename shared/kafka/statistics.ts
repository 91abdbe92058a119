import { Counter, Gauge, type Registry } from 'prom-client'

/** librdkafka's statistics (its STATISTICS.md) as metrics that show where time is spent between a client and the brokers. */

interface Window {
  avg: number
  p99: number
}

/** The statistics that are read, durations in µs. A client omits those that do not apply to it. */
export interface Statistics {
  /** Records waiting in the client, and their bytes. */
  msg_cnt?: number
  msg_size?: number
  /** Time since the client was created. */
  age?: number
  /** The state of the producer id. */
  eos?: { idemp_state?: string }
  brokers?: Record<
    string,
    {
      name: string
      /** Negative: a bootstrap or coordinator connection, which carries no records. */
      nodeid: number
      state: string
      /** Time in that state. */
      stateage?: number
      txretries: number
      req_timeouts: number
      /** Attempts to connect. */
      connects?: number
      disconnects?: number
      /** Time since something was last received from it, or sent to it; negative: never. */
      rxidle?: number
      txidle?: number
      rtt?: Window
      int_latency?: Window
      outbuf_latency?: Window
    }
  >
  topics?: Record<string, { partitions: Record<string, { next_offset: number; fetchq_cnt: number }> }>
}

/** A client's progress in fetching a partition. */
export interface Position {
  topic: string
  partition: number
  /** The next offset to be fetched from the broker. */
  next: number
  /** Records that were fetched and not consumed. */
  queued: number
}

/** Turns one client's statistics into metrics. */
export interface StatisticsSink {
  /** @returns the client's progress in each partition */
  take(statistics: Statistics): Position[]
}

const MICROS = 1_000_000

/** Adds the client metrics. `sink` labels them with the name of a client, such as "producer". */
export function addClientMetrics(registry: Registry): { sink(client: string): StatisticsSink } {
  const registers = [registry]
  const latency = new Gauge({
    name: 'kafkatrace_kafka_client_latency_seconds',
    help: 'Latency over all brokers, average and the worst broker’s p99, by stage: rtt (request to response), queue (record in the client’s queue), socket (request in the output buffer).',
    labelNames: ['client', 'stage', 'statistic'] as const,
    registers,
  })
  const clientGauge = (name: string, help: string) => new Gauge({ name, help, labelNames: ['client'], registers })
  const brokersUp = clientGauge(
    'kafkatrace_kafka_client_brokers_up',
    'Brokers that the client has a working connection to.',
  )
  const queued = clientGauge(
    'kafkatrace_kafka_client_queue_records',
    'Records that wait in the client for their acknowledgement.',
  )
  const queuedBytes = clientGauge(
    'kafkatrace_kafka_client_queue_bytes',
    'Bytes of records that wait in the client for their acknowledgement.',
  )
  const troubles = new Counter({
    name: 'kafkatrace_kafka_client_request_troubles_total',
    help: 'Requests that were sent again (retry) or never answered (timeout).',
    labelNames: ['client', 'trouble'] as const,
    registers,
  })
  return {
    sink(client) {
      const counted = { retry: 0, timeout: 0 }
      const sink: StatisticsSink = {
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
          const now = {
            retry: real.reduce((sum, one) => sum + one.txretries, 0),
            timeout: real.reduce((sum, one) => sum + one.req_timeouts, 0),
          }
          for (const trouble of ['retry', 'timeout'] as const) {
            // A new client counts from zero.
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
      // So that all metrics exist, with 0, before the first statistics.
      sink.take({})
      return sink
    },
  }
}
