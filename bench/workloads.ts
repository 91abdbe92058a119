import { eventOfBytes, FORMS, type Form, type Payload, requestsOf, SUBJECTS, valueBytesOf } from './payloads.ts'
import type { WorkloadFacts } from './result.ts'
import { HANDLER_WAIT_MS } from './systems/drain-handler-waits.ts'

/** The workloads as a table. Generators decide how load is made, systems how it is received. */

interface Common {
  name: string
  title: string
  /** What is sent and how, in one sentence. */
  what: string
  repetitions: number
  /** Only in a full bench, or by name: too long for a quick bench and for `bench drain`. */
  long?: boolean
  /** Its runs alternate with those of this workload, the one before it in the table. */
  alternatesWith?: string
  /** Only in this suite, or by name: neither a full nor a quick bench has time for it. */
  suite?: 'console' | 'schemas'
  /** The sizes of a run, for a full and a quick bench. */
  full: Size
  quick: Size
}

/** Seconds for a closed or open loop, records for drains and limits. */
interface Size {
  warmUpSeconds?: number
  seconds?: number
  records?: number
  /** How long memory is observed after the work. */
  restSeconds?: number
  /** Shares of saturation, or none. */
  shares?: readonly number[]
}

export interface ClosedWorkload extends Common {
  kind: 'closed'
  /** all: KafkaTrace, peers and HTTP limits. stores: without the limits, which store nothing. subject: KafkaTrace only. */
  systems: 'all' | 'stores' | 'subject'
  payload: Payload
  form: Form
  /** Events are checked by {@link PROPERTIES_SCHEMA}. */
  schemas?: true
  eventsPerRequest: number
  connections: number
  /** If more than one, each has a key and a topic. */
  tenants: number
  /** Runs the consumer too, and counts what it commits. */
  outcomes: boolean
}

export interface OpenWorkload extends Common {
  kind: 'open'
  systems: 'subject'
  eventBytes: number
  /** The offered rate, or shares of the median of another workload's `eventsPerSecond`. */
  offered: { eventsPerSecond: number } | { shareOf: string }
  outcomes: boolean
  /** A run is void when its generator sent later than this (p99). */
  latenessBoundMs: number
  /** More than the system can take is offered. Otherwise a run is void when requests lacked connections. */
  overload: boolean
  /** The console runs too, and so many clients follow outcomes there. */
  followers?: number
  /** A browser shows every outcome in the console's page. */
  page?: true
}

/** Records of a filled topic are copied to another one, exactly once. */
export interface DrainWorkload extends Common {
  kind: 'drain'
  /** all: KafkaTrace, and the drains that have such a handler. */
  systems: 'all' | 'subject'
  eventBytes: number
  partitions: number
  handler: DrainHandler
}

/** checks: parses and validates an event, and answers with a changed object. waits: {@link HANDLER_WAIT_MS} for each event. */
export type DrainHandler = 'none' | 'checks' | 'waits'

/** The consumer is stopped after a drain, and started again. */
export interface RestartWorkload extends Common {
  kind: 'restart'
  systems: 'subject'
  eventBytes: number
  partitions: number
}

/** Events are sent, processed, and looked up in the console. */
export interface LookupWorkload extends Common {
  kind: 'lookup'
  systems: 'subject'
  eventBytes: number
  /** Different keys. */
  keys: number
  /** Look-ups of each kind that are told where to look, and of each that read the log. */
  lookups: number
  scans: number
}

/** The limits fill a topic. */
export interface ProduceWorkload extends Common {
  kind: 'produce'
  eventBytes: number
}

type RecordsWorkload = DrainWorkload | RestartWorkload | LookupWorkload | ProduceWorkload

export type Workload = ClosedWorkload | OpenWorkload | RecordsWorkload

/** Requests are sent at ticks of a millisecond. If several ticks were late, single milliseconds in the result would be the generator's. */
const LATENESS_BOUND_MS = 5
/** At an overload both cores are always busy. The goal there is 100 ms, of which this is half. */
const OVERLOAD_LATENESS_BOUND_MS = 50

const SHORT = { warmUpSeconds: 0.5, seconds: 1.5 }
/** The workload by which peers are compared. */
const COMPARED = { repetitions: 5, full: { warmUpSeconds: 1.5, seconds: 5 }, quick: SHORT }
const ALONE = { repetitions: 3, full: { warmUpSeconds: 2, seconds: 5 }, quick: SHORT }
const CLOSED = {
  kind: 'closed',
  form: 'single',
  eventsPerRequest: 1,
  connections: 64,
  tenants: 1,
  outcomes: false,
} as const

const DRAIN = {
  kind: 'drain',
  repetitions: 3,
  full: { records: 500_000 },
  quick: { records: 30_000 },
  eventBytes: 300,
  partitions: 6,
} as const

/** The generator shares two cores with the followers. What is judged there has bounds far above this, or is compared with the same load. */
const FOLLOWED_LATENESS_BOUND_MS = 20

/** As above, beside a browser. */
const PAGE_LATENESS_BOUND_MS = 200

/** Followers are compared with none, under the same load and with the console running. */
const FOLLOWED = {
  kind: 'open',
  systems: 'subject',
  suite: 'console',
  repetitions: 3,
  full: { warmUpSeconds: 4, seconds: 20 },
  quick: { warmUpSeconds: 1, seconds: 2 },
  eventBytes: 1024,
  offered: { eventsPerSecond: 1000 },
  outcomes: true,
  latenessBoundMs: FOLLOWED_LATENESS_BOUND_MS,
  overload: false,
} as const

const batch = (events: number, connections: number): ClosedWorkload => ({
  ...CLOSED,
  ...(events === 100 ? { ...COMPARED, full: ALONE.full } : ALONE),
  systems: events === 100 ? 'stores' : 'subject',
  name: `batch-${events}`,
  title: `Batches of ${events}`,
  what: `JSON arrays of ${events} events of 300 B each, all stored before the answer.`,
  form: 'batch',
  payload: { bytes: 300 },
  eventsPerRequest: events,
  connections,
})

/** The same events, with data of twenty properties, checked by a schema and not. */
function withAndWithoutSchemas(
  name: string,
  {
    bytes,
    each,
    ...load
  }: Pick<ClosedWorkload, 'kind' | 'form' | 'eventsPerRequest' | 'connections' | 'tenants' | 'outcomes'> & {
    bytes: number
    each: string
  },
): ClosedWorkload[] {
  const plain: ClosedWorkload = {
    ...load,
    ...COMPARED,
    systems: 'subject',
    suite: 'schemas',
    name: `unchecked-${name}`,
    title: `Twenty properties, ${name}, no schema`,
    what: `${each}, with twenty properties, stored before the answer.`,
    payload: { bytes, twentyProperties: true },
  }
  return [
    plain,
    {
      ...plain,
      name: `checked-${name}`,
      title: `Twenty properties, ${name}, with a schema`,
      what: `The same, and each event is checked by a schema of its twenty properties. Its runs alternate with those before it.`,
      schemas: true,
      alternatesWith: plain.name,
    },
  ]
}

export const WORKLOADS: readonly Workload[] = [
  {
    ...CLOSED,
    ...COMPARED,
    systems: 'all',
    name: 'single-300b',
    title: 'Single events of 300 B',
    what: 'A plain JSON event of 300 B a request, stored before the answer.',
    payload: { bytes: 300 },
  },
  {
    ...CLOSED,
    ...COMPARED,
    systems: 'all',
    name: 'single-1kb',
    title: 'Single events of 1 KB',
    what: 'A plain JSON event of 1,024 B a request, stored before the answer.',
    payload: { bytes: 1024 },
  },
  {
    ...CLOSED,
    ...COMPARED,
    systems: 'subject',
    name: 'signed-1kb',
    title: 'Signed webhooks of 1 KB',
    what: 'The same bodies as webhooks with GitHub’s signature, verified before they are stored. Its runs alternate with those of single events.',
    form: 'signed',
    payload: { bytes: 1024 },
    alternatesWith: 'single-1kb',
  },
  {
    ...CLOSED,
    ...ALONE,
    systems: 'subject',
    name: 'single-8kb',
    title: 'Single events of 8 KB',
    what: 'A plain JSON event of 8,192 B a request, stored before the answer.',
    payload: { bytes: 8192 },
  },
  {
    ...CLOSED,
    ...ALONE,
    systems: 'subject',
    name: 'webhooks',
    title: 'GitHub’s webhooks',
    what: 'The example payloads of GitHub’s webhooks (@octokit/webhooks-examples) in turn, one a request.',
    payload: 'webhooks',
  },
  batch(10, 32),
  batch(100, 16),
  batch(1000, 8),
  ...withAndWithoutSchemas('single', { ...CLOSED, bytes: 1024, each: 'A plain JSON event of 1,024 B a request' }),
  ...withAndWithoutSchemas('batch', {
    ...CLOSED,
    form: 'batch',
    eventsPerRequest: 100,
    connections: 16,
    bytes: 300,
    each: 'JSON arrays of 100 events of 300 B each',
  }),
  {
    ...CLOSED,
    ...ALONE,
    systems: 'subject',
    name: 'ndjson',
    title: 'NDJSON streams',
    what: 'Streams of 1,000 lines of 300 B a request, each line answered.',
    form: 'ndjson',
    payload: { bytes: 300 },
    eventsPerRequest: 1000,
    connections: 8,
  },
  {
    ...CLOSED,
    ...ALONE,
    systems: 'subject',
    name: 'tenants',
    title: 'Three tenants with keys',
    what: 'Plain JSON events of 1,024 B from three tenants in turn, AUTH=on, a topic each.',
    payload: { bytes: 1024 },
    connections: 63,
    tenants: 3,
  },
  {
    ...CLOSED,
    ...ALONE,
    systems: 'subject',
    name: 'end-to-end',
    title: 'End to end at saturation',
    what: 'Plain JSON events of 1,024 B, one a request, while the consumer commits their outcomes: events a second are committed outcomes, requests a second are acknowledged events.',
    payload: { bytes: 1024 },
    outcomes: true,
  },
  {
    kind: 'open',
    systems: 'subject',
    name: 'steady-1000',
    title: '1,000 events a second',
    what: 'Single events of 1,024 B at 1,000 a second, from a client’s request to the committed outcome.',
    repetitions: 3,
    full: { warmUpSeconds: 4, seconds: 20 },
    quick: { warmUpSeconds: 2, seconds: 3 },
    eventBytes: 1024,
    offered: { eventsPerSecond: 1000 },
    outcomes: true,
    latenessBoundMs: LATENESS_BOUND_MS,
    overload: false,
  },
  {
    kind: 'open',
    systems: 'subject',
    name: 'ladder',
    title: 'Shares of saturation',
    what: 'Single events of 1,024 B at shares of the median of end-to-end’s committed outcomes a second, to the committed outcome.',
    repetitions: 3,
    full: { warmUpSeconds: 3, seconds: 8, shares: [0.1, 0.25, 0.5, 0.75, 0.9] },
    quick: { warmUpSeconds: 1, seconds: 2, shares: [0.25, 0.75] },
    eventBytes: 1024,
    offered: { shareOf: 'end-to-end' },
    outcomes: true,
    latenessBoundMs: LATENESS_BOUND_MS,
    overload: false,
  },
  {
    kind: 'open',
    systems: 'subject',
    name: 'overload',
    title: 'Twice saturation',
    what: 'Single events of 1,024 B at twice the median of single-1kb’s events a second: what is stored, and how soon the rest is refused.',
    repetitions: 3,
    full: { warmUpSeconds: 4, seconds: 8, shares: [2] },
    quick: { warmUpSeconds: 0.5, seconds: 2, shares: [2] },
    eventBytes: 1024,
    offered: { shareOf: 'single-1kb' },
    outcomes: false,
    latenessBoundMs: OVERLOAD_LATENESS_BOUND_MS,
    overload: true,
  },
  {
    ...DRAIN,
    systems: 'all',
    name: 'drain',
    title: 'Backlog, without a handler',
    what: 'Events of 300 B in six partitions are copied to another topic, exactly once. The first half of the outcomes is warm-up, which the rate leaves out; memory is observed from the start.',
    handler: 'none',
  },
  {
    ...DRAIN,
    systems: 'all',
    name: 'drain-handler',
    title: 'Backlog, with a handler',
    what: 'The same with a handler that parses each event, validates it against a schema, and answers with a changed object.',
    full: { records: 200_000 },
    handler: 'checks',
  },
  {
    ...DRAIN,
    systems: 'subject',
    name: 'drain-24',
    title: 'Backlog in 24 partitions',
    what: 'As without a handler, but with 24 partitions in place of six.',
    partitions: 24,
    handler: 'none',
  },
  {
    ...DRAIN,
    systems: 'subject',
    name: 'drain-million',
    title: 'Backlog of a million events',
    what: 'As without a handler, by one process. Its memory is observed while it drains, and for a minute after.',
    repetitions: 1,
    long: true,
    full: { records: 1_000_000, restSeconds: 60 },
    quick: { records: 50_000, restSeconds: 2 },
    handler: 'none',
  },
  {
    ...DRAIN,
    systems: 'subject',
    name: 'drain-waits',
    title: 'Backlog, with a handler that waits',
    what: `A handler waits ${HANDLER_WAIT_MS} ms for each event, as for another service. ${SUBJECTS} keys; 64 handlers run at a time. The order of outcomes by key is verified.`,
    repetitions: 1,
    full: { records: 16_000 },
    quick: { records: 2_000 },
    handler: 'waits',
  },
  {
    kind: 'restart',
    systems: 'subject',
    name: 'drain-restart',
    title: 'Restart with full windows',
    what: 'The consumer drains a backlog that fills the window of each of six partitions with 100,000 outcomes, is stopped, and started again. Memory is compared with that of the same process with empty topics.',
    repetitions: 1,
    long: true,
    // Keys are spread unevenly: the partition with the fewest gets 31 of 211.
    full: { records: 700_000, restSeconds: 5 },
    quick: { records: 20_000, restSeconds: 1 },
    eventBytes: 300,
    partitions: 6,
  },
  {
    kind: 'produce',
    name: 'produce-limit',
    title: 'What clients without a service write',
    what: 'Records with the values that events of 300 B have, as fast as a client without a service in front of it can write them.',
    repetitions: 3,
    full: { records: 1_000_000 },
    quick: { records: 100_000 },
    eventBytes: 300,
  },
  {
    kind: 'lookup',
    systems: 'subject',
    suite: 'console',
    name: 'console-lookup',
    title: 'Look-ups in the console',
    what: 'Events of 400 B, half of them with UUIDv7 ids, with 5,000 keys in six partitions, all processed. Then events from all over the log are looked up, one at a time: 100 by their UUIDv7, 100 by another id and the key, 20 by such an id alone, 20 that there are not; and 20 of the latter four at a time.',
    repetitions: 1,
    full: { records: 1_000_000 },
    quick: { records: 20_000 },
    eventBytes: 400,
    keys: 5_000,
    lookups: 100,
    scans: 20,
  },
  {
    ...FOLLOWED,
    name: 'console-unfollowed',
    title: '1,000 events a second, without followers',
    what: 'Single events of 1,024 B at 1,000 a second, to the committed outcome, with a console that nobody uses.',
    followers: 0,
  },
  {
    ...FOLLOWED,
    name: 'console-followed',
    title: '1,000 events a second, with 20 followers',
    what: 'The same while 20 clients follow the outcomes in the console. Its runs alternate with those without followers.',
    followers: 20,
    alternatesWith: 'console-unfollowed',
  },
  {
    ...FOLLOWED,
    name: 'console-page',
    title: 'The console’s page, at 1,000 events a second',
    what: 'The page is opened 20 times with nothing cached. Then a browser shows every outcome for ten minutes.',
    repetitions: 1,
    full: { warmUpSeconds: 4, seconds: 600 },
    // The browser takes most of a core.
    latenessBoundMs: PAGE_LATENESS_BOUND_MS,
    followers: 0,
    page: true,
    long: true,
  },
]

export const sizeOf = (workload: Workload, quick: boolean): Required<Omit<Size, 'shares'>> & Pick<Size, 'shares'> => {
  const {
    warmUpSeconds = 0,
    seconds = 0,
    records = 0,
    restSeconds = 0,
    shares,
  } = quick ? workload.quick : workload.full
  return { warmUpSeconds, seconds, records, restSeconds, ...(shares !== undefined && { shares }) }
}

/** Bytes of a record's value, which is the event's data. */
export const recordValueBytes = (workload: RecordsWorkload): number =>
  valueBytesOf(eventOfBytes(workload.eventBytes, 0))

export async function factsOf(workload: Workload, quick: boolean, closedLoopRuntime: string): Promise<WorkloadFacts> {
  const { name, title, what } = workload
  const { warmUpSeconds, seconds, records } = sizeOf(workload, quick)
  const lasting = `${seconds} s after ${warmUpSeconds} s of warm-up`
  switch (workload.kind) {
    case 'closed': {
      const requests = await requestsOf(workload.payload, workload.eventsPerRequest)
      const bytes = requests.map((events) => Buffer.byteLength(FORMS[workload.form](events).text))
      return {
        name,
        title,
        what,
        bodyBytes: bytes.reduce((sum, one) => sum + one, 0) / bytes.length,
        eventsPerRequest: workload.eventsPerRequest,
        load: `closed loop: autocannon on ${closedLoopRuntime}, ${workload.connections} connections, ${lasting}`,
      }
    }
    case 'open':
      return {
        name,
        title,
        what,
        bodyBytes: workload.eventBytes,
        eventsPerRequest: 1,
        load: `open loop: Poisson arrivals from a seed, timed from the intended send, void if sent late by more than ${workload.latenessBoundMs} ms (p99), ${lasting}`,
      }
    default:
      return {
        name,
        title,
        what,
        bodyBytes: recordValueBytes(workload),
        eventsPerRequest: 1,
        load: `${records.toLocaleString('en')} records`,
      }
  }
}
