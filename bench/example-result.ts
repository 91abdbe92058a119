import type { Latency, ProcessUse, Result, Run, SystemFacts } from './result.ts'

/** A result for tests, with the shape and size of a real one, that meets every goal. Its numbers were never measured. */

const MEBIBYTE = 2 ** 20

/** Latencies around a median, with a long tail. */
export function exampleLatency(p50Ms: number): Latency {
  const at = (quantile: number): number => Number((p50Ms * (0.5 + 0.72 * -Math.log10(1 - quantile + 1e-5))).toFixed(3))
  const quantiles = [0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 1]
  return {
    count: 20_000,
    meanMs: p50Ms,
    p50Ms: at(0.5),
    p75Ms: at(0.75),
    p90Ms: at(0.9),
    p95Ms: at(0.95),
    p99Ms: at(0.99),
    p999Ms: at(0.999),
    maxMs: at(1),
    curve: quantiles.map((quantile) => [quantile, at(quantile)]),
  }
}

export function exampleProcess(name: string, cpuSeconds: number, residentMebibytes: number): ProcessUse {
  const bytes = residentMebibytes * MEBIBYTE
  return {
    name,
    role: name === 'kafka' ? 'broker' : name === 'generator' ? 'generator' : 'service',
    cpuSeconds,
    residentMeanBytes: bytes,
    residentMaxBytes: bytes + 4 * MEBIBYTE,
    residentEarlyBytes: bytes,
    residentLateBytes: bytes + MEBIBYTE,
  }
}

const SYSTEMS: readonly [name: string, title: string, kind: SystemFacts['kind'], rate: number, perCpuSecond: number][] =
  [
    ['kafkatrace', 'KafkaTrace', 'subject', 21_000, 24_000],
    ['fastapi-confluent', 'Python: FastAPI + confluent-kafka', 'peer', 2_100, 2_300],
    ['fastapi-aiokafka', 'Python: FastAPI + aiokafka', 'peer', 1_700, 1_800],
    ['fastify-kafkajs', 'Node: Fastify + KafkaJS', 'peer', 6_400, 6_100],
    ['fastify-confluent', 'Node: Fastify + confluent', 'peer', 8_200, 8_000],
    ['hono-platformatic', 'Bun: Hono + @platformatic/kafka', 'peer', 9_900, 9_500],
    ['go-franz', 'Go: net/http + franz-go', 'peer', 19_000, 21_000],
    ['go-benthos', 'Go: Benthos (http_server → franz-go)', 'peer', 7_000, 6_000],
    ['bun-hello', 'Bun.serve, a fixed text', 'limit', 70_000, 72_000],
    ['bun-echo', 'Bun.serve, echo', 'limit', 44_000, 37_000],
  ]

const UNAVAILABLE = { name: 'strimzi-bridge', title: 'Strimzi Kafka Bridge', why: 'its jars did not resolve' }

const TOOLS: readonly [name: string, title: string, workload: string, rate: number][] = [
  ['librdkafka-produce', 'librdkafka, writing (C)', 'produce-limit', 310_000],
  ['kafka-producer-perf-test', 'kafka-producer-perf-test (Java)', 'produce-limit', 260_000],
]

const DRAINS: readonly [name: string, title: string, kind: 'peer' | 'limit', rate: number, perCpuSecond: number][] = [
  ['drain-streams', 'Java: Kafka Streams, exactly_once_v2', 'peer', 50_000, 45_000],
  ['drain-franz', 'Go: franz-go, GroupTransactSession', 'peer', 110_000, 140_000],
  ['librdkafka-drain', 'librdkafka, topic to topic (C)', 'limit', 150_000, 200_000],
]

/** The spread of the repetitions. */
const JITTER = [1, 0.97, 1.02, 0.99, 1.01] as const

interface Draft {
  workload: string
  system: string
  rate: number
  perCpuSecond?: number
  step?: number
  repetitions?: number
  extra?: (factor: number) => Partial<Run>
}

const draftRuns = ({ workload, system, rate, perCpuSecond, step, repetitions = 3, extra }: Draft): Run[] =>
  Array.from({ length: repetitions }, (_, index) => {
    const factor = JITTER[(index + system.length) % JITTER.length] ?? 1
    const seconds = 6
    const events = Math.round(rate * factor * seconds)
    const services = perCpuSecond === undefined ? [] : [exampleProcess('producer', events / perCpuSecond, 92)]
    return {
      workload,
      system,
      repetition: index + 1,
      ...(step !== undefined && { step }),
      seconds,
      requests: events,
      events,
      requestsPerSecond: events / seconds,
      eventsPerSecond: events / seconds,
      ...(perCpuSecond !== undefined && { eventsPerCpuSecond: perCpuSecond }),
      errors: {},
      processes: [...services, exampleProcess('kafka', 3, 480), exampleProcess('generator', 2, 60)],
      ...extra?.(factor),
    }
  })

const kept = (events: number) => ({ acknowledged: events, inLog: events, lost: 0 })
const keptOnce = (events: number) => ({ ...kept(events), withoutOutcome: 0, doubled: 0 })

const facing = (offeredPerSecond: number, p50Ms: number) => (factor: number) => ({
  offeredPerSecond,
  toAnswer: exampleLatency(p50Ms * factor),
  toCommitted: exampleLatency(4 * p50Ms * factor),
  appendToCommitted: exampleLatency(3 * p50Ms * factor),
  processes: [exampleProcess('producer', 2, 92), exampleProcess('consumer', 3, 105), exampleProcess('kafka', 3, 480)],
  scan: keptOnce(20_000),
})

function exampleRuns(): Run[] {
  const compared = (['single-300b', 'single-1kb'] as const).flatMap((workload) =>
    SYSTEMS.flatMap(([system, , kind, rate, perCpuSecond]) =>
      draftRuns({
        workload,
        system,
        rate,
        perCpuSecond,
        repetitions: 5,
        extra: (factor) => ({
          toAnswer: exampleLatency((64_000 / rate) * factor),
          ...(kind !== 'limit' && { scan: kept(100_000) }),
        }),
      }),
    ),
  )
  const signed = draftRuns({
    workload: 'signed-1kb',
    system: 'kafkatrace',
    rate: 20_000,
    perCpuSecond: 18_000,
    repetitions: 5,
  })
  const checked = (['single', 'batch'] as const).flatMap((form) =>
    [`unchecked-${form}`, `checked-${form}`].map((workload, index) =>
      draftRuns({ workload, system: 'kafkatrace', rate: 21_000 - index * 1_000, perCpuSecond: 20_000, repetitions: 5 }),
    ),
  )
  const many = (['batch-10', 'batch-100', 'batch-1000', 'ndjson'] as const).flatMap((workload) =>
    draftRuns({ workload, system: 'kafkatrace', rate: 210_000, perCpuSecond: 190_000 }),
  )
  const ladder = [0.1, 0.25, 0.5, 0.75, 0.9].flatMap((step) =>
    draftRuns({
      workload: 'ladder',
      system: 'kafkatrace',
      rate: 12_000 * step,
      step,
      extra: facing(12_000 * step, 1 / (1.1 - step)),
    }),
  )
  const refusing = (factor: number) => ({
    offeredPerSecond: 42_000,
    toAnswer: exampleLatency(40 * factor),
    toRefusal: exampleLatency(12 * factor),
    errors: { '503': 130_000 },
    scan: kept(120_000),
  })
  return [
    ...compared,
    ...signed,
    ...checked.flat(),
    ...many,
    ...draftRuns({
      workload: 'end-to-end',
      system: 'kafkatrace',
      rate: 12_000,
      perCpuSecond: 9_000,
      extra: () => ({ scan: keptOnce(70_000) }),
    }),
    ...draftRuns({ workload: 'steady-1000', system: 'kafkatrace', rate: 1000, extra: facing(1000, 1.1) }),
    ...ladder,
    ...draftRuns({
      workload: 'overload',
      system: 'kafkatrace',
      rate: 20_000,
      perCpuSecond: 19_000,
      step: 2,
      extra: refusing,
    }),
    ...['drain', 'drain-handler', 'drain-24', 'drain-million'].flatMap((workload) =>
      draftRuns({
        workload,
        system: 'kafkatrace',
        rate: 60_000,
        perCpuSecond: 55_000,
        extra: () => ({
          processes: [exampleProcess('consumer', 6, 250)],
          ...(workload === 'drain-million' && { residentAfterBytes: 150 * MEBIBYTE }),
        }),
      }),
    ),
    ...draftRuns({
      workload: 'drain-waits',
      system: 'kafkatrace',
      rate: 1_250,
      perCpuSecond: 4_000,
      extra: () => ({ scan: { ...keptOnce(20_000), outOfOrder: 0 } }),
    }),
    ...draftRuns({
      workload: 'drain-restart',
      system: 'kafkatrace',
      rate: 0,
      extra: (factor) => ({
        restart: {
          outcomes: 600_000,
          toReadySeconds: 3 * factor,
          toReadingSeconds: 2 * factor,
          toOutcomeSeconds: 2.5 * factor,
          residentBytes: 150 * MEBIBYTE,
          idleResidentBytes: 80 * MEBIBYTE,
        },
      }),
    }),
    ...draftRuns({
      workload: 'console-lookup',
      system: 'kafkatrace',
      rate: 0,
      repetitions: 1,
      extra: (factor) => ({
        lookups: {
          uuid: exampleLatency(40 * factor),
          key: exampleLatency(60 * factor),
          id: exampleLatency(300 * factor),
          absent: exampleLatency(500 * factor),
          together: exampleLatency(900 * factor),
        },
        processes: [exampleProcess('console', 20, 170)],
        scan: keptOnce(1_000_000),
      }),
    }),
    ...(['console-unfollowed', 'console-followed'] as const).flatMap((workload) =>
      draftRuns({
        workload,
        system: 'kafkatrace',
        rate: 1000,
        extra: (factor) => ({
          ...facing(1000, 1.1)(factor),
          processes: [exampleProcess('consumer', 2 * factor, 105), exampleProcess('console', factor, 110)],
          ...(workload === 'console-followed' && {
            followed: { followers: 20, outcomes: 20_000, missing: 0, excess: 0, delay: exampleLatency(8 * factor) },
          }),
        }),
      }),
    ),
    ...draftRuns({
      workload: 'console-page',
      system: 'kafkatrace',
      rate: 1000,
      repetitions: 1,
      extra: (factor) => ({
        ...facing(1000, 1.1)(factor),
        processes: [exampleProcess('consumer', 2 * factor, 105), exampleProcess('console', factor, 110)],
        page: {
          firstPaint: exampleLatency(100 * factor),
          compressedBytes: 60_000,
          heapBytes: Array.from({ length: 40 }, () => 12_000_000),
          outcomes: 604_000,
          shown: 604_000,
        },
      }),
    }),
    ...DRAINS.flatMap(([system, , kind, rate, perCpuSecond]) =>
      (kind === 'peer' ? ['drain', 'drain-handler'] : ['drain']).flatMap((workload) =>
        draftRuns({ workload, system, rate, perCpuSecond }),
      ),
    ),
    ...TOOLS.flatMap(([system, , workload, rate]) => draftRuns({ workload, system, rate })),
  ]
}

const TITLES: Readonly<Record<string, string>> = {
  'single-300b': 'Single events of 300 B',
  'single-1kb': 'Single events of 1 KB',
  'signed-1kb': 'Signed webhooks of 1 KB',
  'unchecked-single': 'Twenty properties, single, no schema',
  'checked-single': 'Twenty properties, single, with a schema',
  'unchecked-batch': 'Twenty properties, batch, no schema',
  'checked-batch': 'Twenty properties, batch, with a schema',
  'batch-10': 'Batches of 10',
  'batch-100': 'Batches of 100',
  'batch-1000': 'Batches of 1000',
  ndjson: 'NDJSON streams',
  'end-to-end': 'End to end at saturation',
  'steady-1000': '1,000 events a second',
  ladder: 'Shares of saturation',
  overload: 'Twice saturation',
  drain: 'Backlog, without a handler',
  'drain-handler': 'Backlog, with a handler',
  'drain-24': 'Backlog in 24 partitions',
  'drain-million': 'Backlog of a million events',
  'drain-waits': 'Backlog, with a handler that waits',
  'drain-restart': 'Restart with full windows',
  'produce-limit': 'What clients without a service write',
  'console-lookup': 'Look-ups in the console',
  'console-unfollowed': '1,000 events a second, without followers',
  'console-followed': '1,000 events a second, with 20 followers',
  'console-page': 'The console’s page, at 1,000 events a second',
}

export function exampleResult(): Result {
  const facts = { sameGuarantees: true, versions: { bun: '1.4.5' }, settings: { acks: 'all' } }
  return {
    format: 'kafkatrace-bench-1',
    begunAt: '2026-01-02T03:04:05.000Z',
    seconds: 2000,
    quick: false,
    commit: '0123456789ab',
    machine: { cpu: 'An Example CPU', cores: 2, memoryBytes: 8 * 2 ** 30, kernel: 'Linux 6.1.0', system: 'Debian 13' },
    broker: {
      description: 'Apache Kafka 4.3.1, 1 node',
      partitions: 6,
      replication: 1,
      settings: { 'min.insync.replicas': '1' },
    },
    systems: [
      ...SYSTEMS.map(([name, title, kind]) => ({ ...facts, name, title, kind })),
      ...TOOLS.map(([name, title]) => ({ ...facts, name, title, kind: 'limit' as const })),
      ...DRAINS.map(([name, title, kind]) => ({ ...facts, name, title, kind })),
      {
        ...facts,
        versions: {},
        kind: 'peer',
        name: UNAVAILABLE.name,
        title: UNAVAILABLE.title,
        unavailable: UNAVAILABLE.why,
      },
    ],
    workloads: Object.entries(TITLES).map(([name, title]) => ({
      name,
      title,
      what: 'An example.',
      bodyBytes: 300,
      eventsPerRequest: 1,
      load: 'none: an example',
    })),
    runs: exampleRuns(),
  }
}

/** The same result with some runs changed, or removed where `change` returns undefined. */
export const changingRuns = (
  result: Result,
  which: Partial<Pick<Run, 'workload' | 'system' | 'step' | 'repetition'>>,
  change: (run: Run) => Run | undefined,
): Result => ({
  ...result,
  runs: result.runs.flatMap((run) => {
    const chosen = Object.entries(which).every(([name, value]) => run[name as keyof typeof which] === value)
    return chosen ? (change(run) ?? []) : [run]
  }),
})
