import { type Static, Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'

/**
 * What a benchmark leaves behind: one file of JSON that `report`, `compare` and `check` read. Times are in milliseconds, memory in bytes, CPU in
 * seconds of user and system time together.
 */

/** Of one clock. Quantiles are read from one histogram of all values; they are never averaged. */
export const Latency = Type.Object(
  {
    count: Type.Integer({ minimum: 0 }),
    meanMs: Type.Number(),
    p50Ms: Type.Number(),
    p75Ms: Type.Number(),
    p90Ms: Type.Number(),
    p95Ms: Type.Number(),
    p99Ms: Type.Number(),
    p999Ms: Type.Number(),
    maxMs: Type.Number(),
    /** The curve for a plot: `[quantile from 0 to 1, ms]`, rising. */
    curve: Type.Array(Type.Tuple([Type.Number(), Type.Number()])),
  },
  { additionalProperties: false },
)
export type Latency = Static<typeof Latency>

/** One process of a run. `service`: counts towards events per CPU-second; the others are the broker, the generator and the observer. */
export const ProcessUse = Type.Object(
  {
    name: Type.String(),
    role: Type.Union([
      Type.Literal('service'),
      Type.Literal('broker'),
      Type.Literal('generator'),
      Type.Literal('observer'),
    ]),
    /** While the run was measured, all threads and children. */
    cpuSeconds: Type.Number(),
    /** Resident, from `/proc`: mean and highest of the samples; 0 where none was taken. */
    residentMeanBytes: Type.Integer(),
    residentMaxBytes: Type.Integer(),
    /** Means of the second and of the last fifth of the samples: their difference shows growth. */
    residentEarlyBytes: Type.Integer(),
    residentLateBytes: Type.Integer(),
  },
  { additionalProperties: false },
)
export type ProcessUse = Static<typeof ProcessUse>

/** What a scan of the topics by a client that is not ours found. */
export const ScanResult = Type.Object(
  {
    /** Events that were answered as stored, warm-up included. */
    acknowledged: Type.Integer(),
    /** Different events that are in the log. */
    inLog: Type.Integer(),
    /** Acknowledged and not in the log. Where single ids were not kept: `acknowledged - inLog`, if positive. */
    lost: Type.Integer(),
    /** With outcomes only: events in the log that have none, and events that have more than one. */
    withoutOutcome: Type.Optional(Type.Integer()),
    doubled: Type.Optional(Type.Integer()),
    /** Where order was verified: keys whose outcomes are not in the order of their events. */
    outOfOrder: Type.Optional(Type.Integer()),
  },
  { additionalProperties: false },
)
export type ScanResult = Static<typeof ScanResult>

/** A consumer that was stopped with full windows, and started again. */
export const Restart = Type.Object(
  {
    /** Outcomes that it read back, by its own log. */
    outcomes: Type.Integer(),
    /** From the start of the process until it was ready. */
    toReadySeconds: Type.Number(),
    /** From the group's assignment until it read from every partition again; both by its own log. */
    toReadingSeconds: Type.Number(),
    /** From the group's assignment until a reader of committed records had seen a new outcome of every partition. */
    toOutcomeSeconds: Type.Number(),
    /** The highest resident memory from the start on, and that of the same process with empty topics. */
    residentBytes: Type.Integer(),
    idleResidentBytes: Type.Integer(),
  },
  { additionalProperties: false },
)
export type Restart = Static<typeof Restart>

/** Look-ups of events in the console, each from the request to the whole answer. */
export const Lookups = Type.Object(
  {
    /** By an id that is a UUIDv7. */
    uuid: Latency,
    /** By another id and the key. */
    key: Latency,
    /** By another id alone, and by one that is of no event: both read the log, the latter all of it. */
    id: Latency,
    absent: Latency,
    /** The latter, as many at a time as the console reads the log for. */
    together: Latency,
  },
  { additionalProperties: false },
)
export type Lookups = Static<typeof Lookups>

/** What those received that follow outcomes in the console, warm-up included. */
export const Followed = Type.Object(
  {
    followers: Type.Integer({ minimum: 1 }),
    /** Committed results, each of which every follower has to get once. */
    outcomes: Type.Integer({ minimum: 0 }),
    /** Over all followers: outcomes that one did not get, and those that it got again or that are not committed. */
    missing: Type.Integer({ minimum: 0 }),
    excess: Type.Integer({ minimum: 0 }),
    /** From a result's timestamp, the broker's append, to its arrival; of every follower. Without the warm-up. */
    delay: Latency,
  },
  { additionalProperties: false },
)
export type Followed = Static<typeof Followed>

/** The console's page in a browser, in a view that shows every outcome. */
export const PageUse = Type.Object(
  {
    /** From the navigation to the first contentful paint, each time with nothing cached. */
    firstPaint: Latency,
    /** Of the document, scripts and styles. */
    compressedBytes: Type.Integer({ minimum: 0 }),
    /** What JavaScript held after collections, at equal distances. */
    heapBytes: Type.Array(Type.Integer({ minimum: 0 })),
    /** Committed outcomes while it was open, and those that it has counted. */
    outcomes: Type.Integer({ minimum: 0 }),
    shown: Type.Integer({ minimum: 0 }),
  },
  { additionalProperties: false },
)
export type PageUse = Static<typeof PageUse>

/** One repetition of one workload on one system. */
export const Run = Type.Object(
  {
    workload: Type.String(),
    system: Type.String(),
    /** From 1; the repetitions of the systems of a workload alternate: A B A B. */
    repetition: Type.Integer({ minimum: 1 }),
    /** Where the workload has steps: the share of saturation (0.1 to 2), or events a second. */
    step: Type.Optional(Type.Number()),
    /** How long was measured, warm-up left out. */
    seconds: Type.Number(),
    /** Answered, or for a drain consumed, while it was measured. */
    requests: Type.Integer(),
    events: Type.Integer(),
    requestsPerSecond: Type.Number(),
    eventsPerSecond: Type.Number(),
    /** Open loop: what was offered. */
    offeredPerSecond: Type.Optional(Type.Number()),
    /** Events by CPU-second of the processes whose role is `service`; absent where there are none. */
    eventsPerCpuSecond: Type.Optional(Type.Number()),
    /** Closed loop: from sending to the whole answer. Open loop: from the intended send to the whole answer. */
    toAnswer: Type.Optional(Latency),
    /** From the intended send to the outcome's being visible to a reader of committed records. */
    toCommitted: Type.Optional(Latency),
    /** From the broker's append to the same. */
    appendToCommitted: Type.Optional(Latency),
    /** Answers that were refusals for overload (503), from the intended send. */
    toRefusal: Type.Optional(Latency),
    /** Requests that did not end well, by kind: a status, or a word such as "timeout". */
    errors: Type.Record(Type.String(), Type.Integer()),
    processes: Type.Array(ProcessUse),
    /** The lowest resident memory of the services after the work, while the workload still observed it. */
    residentAfterBytes: Type.Optional(Type.Integer()),
    restart: Type.Optional(Restart),
    lookups: Type.Optional(Lookups),
    followed: Type.Optional(Followed),
    page: Type.Optional(PageUse),
    scan: Type.Optional(ScanResult),
    /** Why the run counts for nothing, such as a generator that was late. */
    void: Type.Optional(Type.String()),
  },
  { additionalProperties: false },
)
export type Run = Static<typeof Run>

export const SystemFacts = Type.Object(
  {
    name: Type.String(),
    title: Type.String(),
    /** subject: KafkaTrace itself; peer: what one would pick instead; limit: what the machine can do at all. */
    kind: Type.Union([Type.Literal('subject'), Type.Literal('peer'), Type.Literal('limit')]),
    /** Whether what it acknowledges is on all in-sync replicas, written by an idempotent producer. */
    sameGuarantees: Type.Boolean(),
    /** Versions of what it is made of, by name. */
    versions: Type.Record(Type.String(), Type.String()),
    /** Settings that matter, by name. */
    settings: Type.Record(Type.String(), Type.String()),
    notes: Type.Optional(Type.String()),
    /** Why it could not be measured here; then there are no runs of it. */
    unavailable: Type.Optional(Type.String()),
  },
  { additionalProperties: false },
)
export type SystemFacts = Static<typeof SystemFacts>

export const WorkloadFacts = Type.Object(
  {
    name: Type.String(),
    title: Type.String(),
    /** What is sent and how, in a sentence. */
    what: Type.String(),
    /** Of the mean request. */
    bodyBytes: Type.Number(),
    eventsPerRequest: Type.Number(),
    /** How the load is made. */
    load: Type.String(),
  },
  { additionalProperties: false },
)
export type WorkloadFacts = Static<typeof WorkloadFacts>

export const Result = Type.Object(
  {
    format: Type.Literal('kafkatrace-bench-1'),
    /** RFC 3339. */
    begunAt: Type.String(),
    seconds: Type.Number(),
    /** Shorter runs and fewer of them: to see that all works, not to be quoted. */
    quick: Type.Boolean(),
    commit: Type.String(),
    machine: Type.Object(
      {
        cpu: Type.String(),
        cores: Type.Integer(),
        memoryBytes: Type.Integer(),
        kernel: Type.String(),
        system: Type.String(),
      },
      { additionalProperties: false },
    ),
    broker: Type.Object(
      {
        description: Type.String(),
        partitions: Type.Integer(),
        replication: Type.Integer(),
        /** By the broker's own names, such as `log.flush.interval.messages`. */
        settings: Type.Record(Type.String(), Type.String()),
      },
      { additionalProperties: false },
    ),
    systems: Type.Array(SystemFacts),
    workloads: Type.Array(WorkloadFacts),
    runs: Type.Array(Run),
  },
  { additionalProperties: false },
)
export type Result = Static<typeof Result>

/** @throws Error that names the first fault */
export function parseResult(json: unknown, file: string): Result {
  const fault = Value.Errors(Result, json).First()
  if (fault !== undefined) throw new Error(`${file} is no benchmark result: ${fault.path || '/'} ${fault.message}`)
  return json as Result
}
