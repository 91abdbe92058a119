import { FLAT_GROWTH_LIMIT_BYTES } from './faults/memory.ts'
import { short } from './plots.ts'
import type { Latency, Lookups, ProcessUse, Result, Run } from './result.ts'
import { isBroken } from './scan.ts'
import {
  type ByRepetition,
  LEAST_CHANGE,
  LEAST_REPETITIONS,
  pairedRatios,
  ratioOf,
  type Summary,
  summarise,
} from './statistics.ts'
import { HANDLER_WAIT_MS } from './systems/drain-handler-waits.ts'

/** KafkaTrace's goals as a table, and whether a result meets them. Void runs do not count. */

export interface Judged {
  goal: string
  /** Workloads that judge KafkaTrace. */
  workload: string
  what: string
  target: string
  measured: string
  verdict: 'met' | 'missed' | 'not measured'
  /** Why it was not measured, or what to know about it. */
  why?: string
}

interface Goal {
  goal: string
  what: string
  target: string
  /** Workloads that judge KafkaTrace. A lost event in one of them means that the goal is missed, whatever the figures. */
  workload: string
  judge(result: Result): Judgement
}

type Judgement = { kind: 'measured'; text: string; met: boolean; why?: string } | NotMeasured
interface NotMeasured {
  kind: 'not measured'
  why: string
}

const SUBJECT = 'kafkatrace'
const ECHO = 'bun-echo'
const FRANZ = 'go-franz'
/** The alternatives that users would choose; franz-go has its own goal. */
const PEERS = [
  'fastapi-confluent',
  'fastapi-aiokafka',
  'fastify-kafkajs',
  'fastify-confluent',
  'hono-platformatic',
  'go-benthos',
  'strimzi-bridge',
] as const

const MEGABYTE = 1e6

const STEADY = { workload: 'steady-1000' } as const

/** Latency depends on the machine. Bun's echo, which does not use Kafka, tells how fast it is; in requests a second of {@link ECHO_WORKLOAD}. */
const ECHO_OF_FAST_MACHINE = 40_000
const ECHO_WORKLOAD = 'single-1kb'

/** The default of MAX_CONCURRENT_HANDLERS. */
const HANDLERS_AT_A_TIME = 64

const SINGLE = [
  { name: 'single-300b', title: 'Single POST, 300 B' },
  { name: 'single-1kb', title: 'Single POST, 1 KB' },
] as const

const MANY = [
  { name: 'batch-10', title: 'Batches of 10' },
  { name: 'batch-100', title: 'Batches of 100' },
  { name: 'batch-1000', title: 'Batches of 1,000' },
  { name: 'ndjson', title: 'NDJSON' },
] as const

/** Draining a backlog, against the alternatives. Both are exactly once. */
const DRAINS = [
  { goal: 'drain-streams', workload: 'drain', of: 'eventsPerSecond', other: 'drain-streams', least: 1 },
  { goal: 'drain-streams-cpu', workload: 'drain', of: 'eventsPerCpuSecond', other: 'drain-streams', least: 1 },
  { goal: 'drain-franz', workload: 'drain', of: 'eventsPerSecond', other: 'drain-franz', least: 0.5 },
  {
    goal: 'drain-handler-streams',
    workload: 'drain-handler',
    of: 'eventsPerSecond',
    other: 'drain-streams',
    least: 0.7,
  },
] as const

const DRAIN_NAMES = { 'drain-streams': 'Kafka Streams', 'drain-franz': 'franz-go with transactions' } as const
const RATES = { eventsPerSecond: 'events a second', eventsPerCpuSecond: 'events per CPU-second' } as const

const LOOKUP = { workload: 'console-lookup' } as const
const PAGE = { workload: 'console-page' } as const
const FOLLOWED = 'console-followed'
const UNFOLLOWED = 'console-unfollowed'

/** Those that read the log are too few for a quantile. */
const LOOKUPS: readonly { goal: keyof Lookups; what: string; target: string; most: Most }[] = [
  { goal: 'uuid', what: 'by an id that is a UUIDv7', target: 'p95 ≤ 200 ms', most: { p95Ms: 200 } },
  { goal: 'key', what: 'by another id and the key', target: 'p95 ≤ 200 ms', most: { p95Ms: 200 } },
  { goal: 'id', what: 'by another id alone', target: 'each ≤ 10 s', most: { maxMs: 10_000 } },
  { goal: 'absent', what: 'by an id that there is not', target: 'each ≤ 10 s', most: { maxMs: 10_000 } },
]

/** What followers of outcomes must not change for the consumer. */
const UNCHANGED: readonly {
  goal: string
  what: string
  worse: 'more' | 'less'
  value: (run: Run) => number | undefined
  format: (value: Summary) => string
}[] = [
  {
    goal: 'rate',
    what: 'outcomes a second',
    worse: 'less',
    value: (run) => run.eventsPerSecond,
    format: (rate) => ranged(rate, short, ' a second'),
  },
  {
    goal: 'cpu',
    what: 'the consumer’s CPU time',
    worse: 'more',
    value: (run) => consumerMsPerThousand(run),
    format: (time) => ranged(time, short, ' ms for 1,000 events'),
  },
  {
    goal: 'outcome',
    what: 'to the committed outcome',
    worse: 'more',
    value: (run) => run.toCommitted?.p95Ms,
    format: (latency) => `p95 ${ms(latency)}`,
  },
]

/** Every row is judged separately. */
const GOALS: readonly Goal[] = [
  ...SINGLE.flatMap(({ name, title }): Goal[] => [
    {
      goal: `${name}-echo`,
      what: `${title}: requests per CPU-second, against Bun’s echo`,
      target: '≥ 60 %',
      workload: name,
      judge: (result) => againstEcho(result, name, 0.6),
    },
    {
      goal: `${name}-peers-cpu`,
      what: `${title}: events per CPU-second, against the best peer but franz-go`,
      target: '≥ 2×',
      workload: name,
      judge: (result) => againstPeers(result, name, PEERS, (run) => run.eventsPerCpuSecond, 2),
    },
    {
      goal: `${name}-franz-cpu`,
      what: `${title}: events per CPU-second, against franz-go and net/http`,
      target: '≥ 1×',
      workload: name,
      judge: (result) => againstPeers(result, name, [FRANZ], (run) => run.eventsPerCpuSecond, 1),
    },
    {
      goal: `${name}-peers-rate`,
      what: `${title}: requests a second, against the best peer but franz-go`,
      target: '≥ 1.5×',
      workload: name,
      judge: (result) => againstPeers(result, name, PEERS, (run) => run.requestsPerSecond, 1.5),
    },
    {
      goal: `${name}-franz-rate`,
      what: `${title}: requests a second, against franz-go and net/http`,
      target: '≥ 1×',
      workload: name,
      judge: (result) => againstPeers(result, name, [FRANZ], (run) => run.requestsPerSecond, 1),
    },
  ]),
  {
    goal: 'signed-1kb',
    what: 'Signed webhooks of 1 KB: requests a second, against single events of that size',
    target: '≥ 0.8×',
    workload: 'signed-1kb',
    judge: (result) => againstOther(result, 'signed-1kb', 'single-1kb', 0.8),
  },
  ...(
    [
      ['single', 'Single events of 1 KB', 0.85],
      ['batch', 'Batches of 100 events of 300 B', 0.7],
    ] as const
  ).map(
    ([form, title, least]): Goal => ({
      goal: `checked-${form}`,
      what: `${title}, checked by a schema of twenty properties: against the same without`,
      target: `≥ ${least}×`,
      workload: `checked-${form}`,
      judge: (result) => againstOther(result, `checked-${form}`, `unchecked-${form}`, least),
    }),
  ),
  ...MANY.map(
    ({ name, title }): Goal => ({
      goal: name,
      what: `${title}: events a second, against librdkafka in C writing the same records`,
      target: '≥ 60 %',
      workload: name,
      judge: (result) => againstProduceLimits(result, name, 0.6),
    }),
  ),
  {
    goal: 'steady-1000-answer',
    what: '1,000 events a second: to the 202',
    target: 'p95 ≤ 5 ms, p99 ≤ 10 ms, no errors',
    workload: 'steady-1000',
    judge: (result) => withinTimes(result, STEADY, (run) => run.toAnswer, { p95Ms: 5, p99Ms: 10 }),
  },
  {
    goal: 'steady-1000-outcome',
    what: '1,000 events a second: to the committed outcome',
    target: `p95 ≤ 20 ms, p99 ≤ 35 ms, no errors, where Bun’s echo makes ≥ ${short(ECHO_OF_FAST_MACHINE)} requests a second`,
    workload: 'steady-1000',
    judge: (result) =>
      onFastMachine(
        result,
        withinTimes(result, STEADY, (run) => run.toCommitted, { p95Ms: 20, p99Ms: 35 }),
      ),
  },
  {
    goal: 'ladder-75',
    what: '75 % of saturation: to the committed outcome',
    target: 'p99 ≤ 100 ms; no errors, none lost, none doubled',
    workload: 'ladder',
    judge: (result) => keptOnce(result, { workload: 'ladder', step: 0.75 }, { p99Ms: 100 }),
  },
  {
    goal: 'end-to-end',
    what: 'Consumer, exactly once: outcomes committed, against events acknowledged, at saturation',
    target: '≥ 95 %',
    workload: 'end-to-end',
    judge: keepsUp,
  },
  ...DRAINS.map(
    ({ goal, workload, of, other, least }): Goal => ({
      goal,
      what: `Backlog, ${workload === 'drain' ? 'no handler' : 'with a handler'}: ${RATES[of]}, against ${DRAIN_NAMES[other]}`,
      target: `≥ ${least}×`,
      workload,
      judge: (result) => {
        const ratio = paired(result, workload, other, (run) => run[of])
        return 'kind' in ratio ? ratio : measured(times(ratio), ratio.median >= least)
      },
    }),
  ),
  {
    goal: 'drain-partitions',
    what: 'Backlog, no handler: events a second from 24 partitions, against six',
    target: '≥ 0.9×',
    workload: 'drain-24',
    judge: morePartitions,
  },
  {
    goal: 'drain-waits',
    what: `Backlog, a handler that waits ${HANDLER_WAIT_MS} ms: events a second, against ${HANDLERS_AT_A_TIME} at a time without pause`,
    target: '≥ 90 %, every key in order',
    workload: 'drain-waits',
    judge: waitsTogether,
  },
  {
    goal: 'drain-memory',
    what: 'Backlog of a million events: resident memory of the consumer while it drains, at its highest',
    target: '≤ 300 MB',
    workload: 'drain-million',
    judge: (result) => memoryOf(result, 'drain-million', 'consumer', 300),
  },
  {
    goal: 'drain-memory-after',
    what: 'Backlog of a million events: resident memory of the consumer after it, at its lowest within a minute',
    target: '≤ 180 MB',
    workload: 'drain-million',
    judge: (result) => memoryAfter(result, 180),
  },
  {
    goal: 'restart-time',
    what: 'Restart with full windows: from the group’s assignment until all partitions are read',
    target: '≤ 3 s',
    workload: 'drain-restart',
    judge: (result) => restartsWithin(result, 3),
  },
  {
    goal: 'restart-memory',
    what: 'Restart with full windows: resident memory at its highest, over that of an idle process',
    target: '≤ 100 MB',
    workload: 'drain-restart',
    judge: (result) => restartsOverIdle(result, 100),
  },
  {
    goal: 'overload-goodput',
    what: 'Twice saturation: events stored a second, against saturation',
    target: '≥ 90 %',
    workload: 'overload',
    judge: goodput,
  },
  {
    goal: 'overload-refusals',
    what: 'Twice saturation: the rest is refused',
    target: '503, p99 ≤ 100 ms, nothing else',
    workload: 'overload',
    judge: refusals,
  },
  {
    goal: 'overload-memory',
    what: 'Twice saturation: growth of a service’s memory from the second to the last fifth, at its highest in any repetition',
    target: `≤ ${short(FLAT_GROWTH_LIMIT_BYTES / MEGABYTE)} MB`,
    workload: 'overload',
    judge: flatMemory,
  },
  ...(
    [
      { name: 'producer', mostMegabytes: 150 },
      { name: 'consumer', mostMegabytes: 120 },
    ] as const
  ).map(
    ({ name, mostMegabytes }): Goal => ({
      goal: `memory-${name}`,
      what: `1,000 events a second: resident memory of the ${name}, at its highest in any repetition`,
      target: `≤ ${mostMegabytes} MB`,
      workload: 'steady-1000',
      judge: (result) => memoryOf(result, 'steady-1000', name, mostMegabytes),
    }),
  ),
  ...LOOKUPS.map(
    ({ goal, what, target, most }): Goal => ({
      goal: `console-${goal}`,
      what: `Console, a million events: look-up ${what}`,
      target: `${target}, every answer right`,
      workload: LOOKUP.workload,
      judge: (result) => withinTimes(result, LOOKUP, (run) => run.lookups?.[goal], most),
    }),
  ),
  {
    goal: 'console-followers',
    what: 'Console, 1,000 events a second: from an outcome’s append to the last of 20 followers, at its longest in any repetition',
    target: '≤ 1 s, each outcome once',
    workload: FOLLOWED,
    judge: (result) => reachesFollowers(result, 1_000),
  },
  ...UNCHANGED.map(
    ({ goal, what, worse, value, format }): Goal => ({
      goal: `console-followers-${goal}`,
      what: `Console, 1,000 events a second: ${what}, with 20 followers against none`,
      target: 'the same, within the range of the runs without',
      workload: FOLLOWED,
      judge: (result) => unchanged(result, worse, value, format),
    }),
  ),
  {
    goal: 'console-page-paint',
    what: 'Console’s page: to the first contentful paint, with nothing cached',
    target: 'p95 ≤ 1 s',
    workload: PAGE.workload,
    judge: pagePaint,
  },
  {
    goal: 'console-page-size',
    what: 'Console’s page: document, scripts and styles, compressed',
    target: '≤ 150 KB',
    workload: PAGE.workload,
    judge: pageSize,
  },
  {
    goal: 'console-page-heap',
    what: 'Console’s page, 1,000 outcomes a second shown for ten minutes: what JavaScript holds in the last third, against the second',
    target: '≤ 1.1×, every outcome counted',
    workload: PAGE.workload,
    judge: pageHeap,
  },
  ...(
    [
      { workload: LOOKUP.workload, what: 'look-ups, up to four of the whole log at a time' },
      { workload: FOLLOWED, what: '1,000 events a second, 20 followers' },
    ] as const
  ).map(
    ({ workload, what }): Goal => ({
      goal: `${workload}-memory`,
      what: `Console, ${what}: resident memory of the console, at its highest in any repetition`,
      target: '≤ 200 MB',
      workload,
      judge: (result) => memoryOf(result, workload, 'console', 200),
    }),
  ),
]

/** Every goal, in the table's order. */
export function judgeGoals(result: Result): Judged[] {
  return GOALS.map(({ goal, what, target, workload, judge }) => {
    const row = { goal, workload, what, target }
    const judgement = judge(result)
    if (judgement.kind === 'not measured')
      return { ...row, measured: '–', verdict: 'not measured' as const, why: judgement.why }
    const { text, met } = judgement
    const broken = runsOf(result, workload, SUBJECT).filter(({ scan }) => scan !== undefined && isBroken(scan)).length
    const whys = [
      ...(judgement.why === undefined ? [] : [judgement.why]),
      ...(broken === 0
        ? []
        : [`events were lost, have not one outcome, or are out of order, in ${count(broken, 'run')}`]),
    ]
    return {
      ...row,
      measured: text,
      verdict: met && broken === 0 ? ('met' as const) : ('missed' as const),
      ...(whys.length > 0 && { why: whys.join('; ') }),
    }
  })
}

// ---- one function for each kind of goal

function againstEcho(result: Result, workload: string, least: number): Judgement {
  const ratio = paired(result, workload, ECHO, requestsPerCpuSecond)
  return 'kind' in ratio ? ratio : measured(percent(ratio), ratio.median >= least)
}

/** The best peer decides. One that is missing without a reason might have been better, so without it the goal is not met. */
function againstPeers(
  result: Result,
  workload: string,
  names: readonly string[],
  value: (run: Run) => number | undefined,
  least: number,
): Judgement {
  const rows = names.map((name) => ({ name, ratio: paired(result, workload, name, value) }))
  const there = rows
    .flatMap(({ name, ratio }) =>
      'kind' in ratio ? [] : [{ name, ratio, judged: factsOf(result, name)?.sameGuarantees }],
    )
    .sort((a, b) => a.ratio.median - b.ratio.median)
  const missing = rows.flatMap(({ name, ratio }) => ('kind' in ratio ? [{ name, why: ratio.why }] : []))
  const unexplained = missing.filter(({ name }) => factsOf(result, name)?.unavailable === undefined)
  const [nearest] = there.filter(({ judged }) => judged)
  const why = missing.map((one) => one.why).join('; ')
  const without =
    missing.length === 0 ? undefined : `without ${missing.map(({ name }) => titleOf(result, name)).join(', ')}`
  if (nearest === undefined) return { kind: 'not measured', why }
  const met = nearest.ratio.median >= least
  if (met && unexplained.length > 0) return { kind: 'not measured', why }
  // Only the deciding peer's range matters.
  const text = there
    .map(({ name, ratio, judged }) => {
      const said = name === nearest.name ? times(ratio) : times({ ...ratio, min: ratio.median, max: ratio.median })
      return `${said} ${titleOf(result, name)}${judged ? '' : ', weaker guarantees'}`
    })
    .join('; ')
  return measured(text, met, without)
}

/** The limits' tools do not alternate with our runs, so medians are compared. The Java tool writes no keys or headers, and is only shown. */
function againstProduceLimits(result: Result, workload: string, least: number): Judgement {
  const ours = summary(result, { workload }, (run) => run.eventsPerSecond)
  if ('kind' in ours) return ours
  const by = (system: string): Summary | NotMeasured => {
    const limit = summary(result, { workload: 'produce-limit', system }, (run) => run.eventsPerSecond)
    return 'kind' in limit ? limit : ratioOf(ours, limit)
  }
  const ratio = by('librdkafka-produce')
  const java = by('kafka-producer-perf-test')
  if ('kind' in ratio) return ratio
  const shown = 'kind' in java ? '' : `; of kafka-producer-perf-test ${percent(java)}`
  return measured(`${percent(ratio)}${shown}`, ratio.median >= least)
}

type Quantile = 'p95Ms' | 'p99Ms' | 'maxMs'
const QUANTILES: Readonly<Record<Quantile, string>> = { p95Ms: 'p95', p99Ms: 'p99', maxMs: 'max' }
type Most = Partial<Readonly<Record<Quantile, number>>>

/** Medians of the quantiles, and the errors of all repetitions. */
function withinTimes(result: Result, where: Where, clock: (run: Run) => Latency | undefined, most: Most): Judgement {
  const limits = Object.entries(most) as [Quantile, number][]
  const texts: string[] = []
  let met = true
  for (const [quantile, limitMs] of limits) {
    const found = summary(result, where, (run) => clock(run)?.[quantile])
    if ('kind' in found) return found
    texts.push(`${QUANTILES[quantile]} ${ms(found)}`)
    met &&= found.median <= limitMs
  }
  const errors = sum(runsAt(result, where).map(errorsOf))
  return measured([...texts, errors === 0 ? 'no errors' : count(errors, 'error')].join(', '), met && errors === 0)
}

/** A latency that is exceeded on a slower machine says nothing. */
function onFastMachine(result: Result, judgement: Judgement): Judgement {
  if (judgement.kind === 'not measured') return judgement
  const echo = summary(result, { workload: ECHO_WORKLOAD, system: ECHO }, (run) => run.requestsPerSecond)
  const why = 'kind' in echo ? echo.why : `Bun’s echo made ${short(echo.median)} requests a second`
  const isFast = !('kind' in echo) && echo.median >= ECHO_OF_FAST_MACHINE
  const hasErrors = runsAt(result, STEADY).some((run) => errorsOf(run) > 0)
  if (judgement.met || isFast || hasErrors) return { ...judgement, why }
  return { kind: 'not measured', why: `${judgement.text}; ${why}` }
}

/** Also says how many events were lost, had no outcome, or were duplicated. */
function keptOnce(result: Result, where: Where, most: Most): Judgement {
  const timely = withinTimes(result, where, (run) => run.toCommitted, most)
  if (timely.kind === 'not measured') return timely
  const scans = runsAt(result, where).map(({ scan }) => scan)
  if (scans.some((scan) => scan?.doubled === undefined || scan.withoutOutcome === undefined))
    return { kind: 'not measured', why: 'a run has no scan of its outcomes' }
  const lost = sum(scans.map((scan) => (scan?.lost ?? 0) + (scan?.withoutOutcome ?? 0)))
  const doubled = sum(scans.map((scan) => scan?.doubled ?? 0))
  // judgeGoals decides whether a goal can be met after a loss.
  return measured(`${timely.text}, ${lost} lost, ${doubled} doubled`, timely.met)
}

function keepsUp(result: Result): Judgement {
  const ratio = summary(result, { workload: 'end-to-end' }, (run) =>
    run.requestsPerSecond > 0 ? run.eventsPerSecond / run.requestsPerSecond : undefined,
  )
  if ('kind' in ratio) return ratio
  const rate = summary(result, { workload: 'end-to-end' }, (run) => run.eventsPerSecond)
  const text = 'kind' in rate ? '' : `, ${short(rate.median)} outcomes a second`
  return measured(`${percent(ratio)}${text}`, ratio.median >= 0.95)
}

const OVERLOAD = { workload: 'overload', step: 2 } as const

/** The workload says of which saturation its overload is a multiple. */
function goodput(result: Result): Judgement {
  const stored = summary(result, OVERLOAD, (run) => run.eventsPerSecond)
  const peak = summary(result, { workload: 'single-1kb' }, (run) => run.eventsPerSecond)
  if ('kind' in stored) return stored
  if ('kind' in peak) return peak
  const ratio = ratioOf(stored, peak)
  return measured(`${percent(ratio)} of ${short(peak.median)} a second`, ratio.median >= 0.9)
}

const REFUSED = '503'

function refusals(result: Result): Judgement {
  const all = runsAt(result, OVERLOAD)
  const others = sum(all.map((run) => errorsOf(run) - (run.errors[REFUSED] ?? 0)))
  const found = summary(result, OVERLOAD, (run) => run.toRefusal?.p99Ms)
  if ('kind' in found)
    return all.length === 0 ? found : { kind: 'not measured', why: 'nothing was refused: the load was not too much' }
  const kinds = new Set(all.flatMap((run) => Object.keys(run.errors)).filter((kind) => kind !== REFUSED))
  const text = others === 0 ? 'nothing else' : `${count(others, 'other failure')} (${[...kinds].join(', ')})`
  return measured(`p99 ${ms(found)}, ${text}`, found.median <= 100 && others === 0)
}

/** The highest over services and repetitions. */
function flatMemory(result: Result): Judgement {
  const growth = summary(result, OVERLOAD, (run) =>
    most(servicesOf(run).map((one) => one.residentLateBytes - one.residentEarlyBytes)),
  )
  if ('kind' in growth) return growth
  return measured(megabytes(growth), growth.max <= FLAT_GROWTH_LIMIT_BYTES)
}

/** The rate that the handlers' number and wait allow. */
function waitsTogether(result: Result): Judgement {
  const most = HANDLERS_AT_A_TIME / (HANDLER_WAIT_MS / 1000)
  const where = { workload: 'drain-waits' }
  const share = summary(result, where, (run) => run.eventsPerSecond / most)
  if ('kind' in share) return share
  const disorder = runsAt(result, where).map(({ scan }) => scan?.outOfOrder)
  if (disorder.some((keys) => keys === undefined))
    return { kind: 'not measured', why: 'a run has no scan of the order' }
  const keys = sum(disorder.map((one) => one ?? 0))
  const text = `${percent(share)} of ${short(most)}, ${keys === 0 ? 'every key in order' : `${count(keys, 'key')} out of order`}`
  return measured(text, share.median >= 0.9)
}

function memoryAfter(result: Result, mostMegabytes: number): Judgement {
  const after = summary(result, { workload: 'drain-million' }, (run) => run.residentAfterBytes)
  return 'kind' in after ? after : measured(megabytes(after), after.max <= mostMegabytes * MEGABYTE)
}

const RESTART = { workload: 'drain-restart' } as const

function restartsWithin(result: Result, mostSeconds: number): Judgement {
  const reading = summary(result, RESTART, (run) => run.restart?.toReadingSeconds)
  const outcome = summary(result, RESTART, (run) => run.restart?.toOutcomeSeconds)
  const outcomes = summary(result, RESTART, (run) => run.restart?.outcomes)
  if ('kind' in reading) return reading
  if ('kind' in outcome) return outcome
  if ('kind' in outcomes) return outcomes
  const text = `${seconds(reading)} with ${short(outcomes.median)} outcomes, ${seconds(outcome)} until each partition’s next outcome`
  return measured(text, reading.max <= mostSeconds)
}

function restartsOverIdle(result: Result, mostMegabytes: number): Judgement {
  const over = summary(result, RESTART, ({ restart }) => restart && restart.residentBytes - restart.idleResidentBytes)
  const idle = summary(result, RESTART, ({ restart }) => restart?.idleResidentBytes)
  if ('kind' in over) return over
  if ('kind' in idle) return idle
  return measured(`${megabytes(over)} over ${megabytes(idle)}`, over.max <= mostMegabytes * MEGABYTE)
}

/** Of two workloads whose runs alternate. */
function againstOther(result: Result, workload: string, other: string, least: number): Judgement {
  const of = (workload: string): ByRepetition =>
    new Map(
      runsAt(result, { workload, system: SUBJECT }).map((run) => [run.repetition, run.requestsPerSecond] as const),
    )
  const [these, others] = [of(workload), of(other)]
  if (these.size === 0) return notMeasured(result, { workload })
  if (others.size === 0) return notMeasured(result, { workload: other })
  const ratio = summarise(pairedRatios(these, others))
  if (ratio === undefined) return { kind: 'not measured', why: 'no repetition counts of both' }
  return measured(times(ratio), ratio.median >= least)
}

/** The machine changes between the two workloads, so medians are compared. */
function morePartitions(result: Result): Judgement {
  const of = (workload: string) => summary(result, { workload }, (run) => run.eventsPerSecond)
  const [many, few] = [of('drain-24'), of('drain')]
  if ('kind' in many) return many
  if ('kind' in few) return few
  const ratio = ratioOf(many, few)
  return measured(times(ratio), ratio.median >= 0.9)
}

function memoryOf(result: Result, workload: string, name: string, mostMegabytes: number): Judgement {
  const where = { workload }
  const of = (value: (process: ProcessUse) => number) =>
    summary(result, where, (run) =>
      most(
        servicesOf(run)
          .filter((one) => one.name === name)
          .map(value),
      ),
    )
  const highest = of((process) => process.residentMaxBytes)
  const mean = of((process) => process.residentMeanBytes)
  if ('kind' in highest) return highest
  const shown = 'kind' in mean ? '' : `, mean ${megabytes(mean)}`
  return measured(`${megabytes(highest)}${shown}`, highest.max <= mostMegabytes * MEGABYTE)
}

function reachesFollowers(result: Result, mostMs: number): Judgement {
  const where = { workload: FOLLOWED }
  const longest = summary(result, where, (run) => run.followed?.delay.maxMs)
  if ('kind' in longest) return longest
  const all = runsAt(result, where).flatMap(({ followed }) => followed ?? [])
  const [missing, excess] = [sum(all.map((one) => one.missing)), sum(all.map((one) => one.excess))]
  const text = `max ${ms(longest)}, ${short(missing)} missing, ${short(excess)} doubled`
  return measured(text, longest.max <= mostMs && missing + excess === 0)
}

function pagePaint(result: Result): Judgement {
  const p95 = summary(result, PAGE, (run) => run.page?.firstPaint.p95Ms)
  return 'kind' in p95 ? p95 : measured(`p95 ${ms(p95)}`, p95.max <= 1_000)
}

const MOST_PAGE_BYTES = 150_000

function pageSize(result: Result): Judgement {
  const bytes = summary(result, PAGE, (run) => run.page?.compressedBytes)
  return 'kind' in bytes ? bytes : measured(`${(bytes.max / 1000).toFixed(1)} KB`, bytes.max <= MOST_PAGE_BYTES)
}

/** Tables of the page are full in the first third. */
function pageHeap(result: Result): Judgement {
  const growth = summary(result, PAGE, ({ page }) => {
    const third = Math.floor((page?.heapBytes.length ?? 0) / 3)
    const last = summarise(page?.heapBytes.slice(-third) ?? [])
    const second = summarise(page?.heapBytes.slice(third, 2 * third) ?? [])
    return third === 0 || last === undefined || second === undefined ? undefined : last.median / second.median
  })
  if ('kind' in growth) return growth
  const uses = runsAt(result, PAGE).flatMap(({ page }) => page ?? [])
  const heap = Math.max(...uses.flatMap(({ heapBytes }) => heapBytes))
  const missing = sum(uses.map(({ outcomes, shown }) => Math.abs(outcomes - shown)))
  const text = `${growth.max.toFixed(2)}×, at most ${(heap / MEGABYTE).toFixed(1)} MB, ${short(missing)} not counted`
  return measured(text, growth.max <= 1.1 && missing === 0)
}

/** A median that is worse by more than the range of the runs without followers, and by more than LEAST_CHANGE. */
function unchanged(
  result: Result,
  worse: 'more' | 'less',
  value: (run: Run) => number | undefined,
  format: (value: Summary) => string,
): Judgement {
  const now = summary(result, { workload: FOLLOWED }, value)
  const before = summary(result, { workload: UNFOLLOWED }, value)
  if ('kind' in now) return now
  if ('kind' in before) return before
  const text = `${format(now)}; without ${format(before)}`
  if (before.count < LEAST_REPETITIONS)
    return { kind: 'not measured', why: `${text}: one run says nothing about the noise` }
  const noise = Math.max(before.max - before.min, LEAST_CHANGE * before.median)
  const change = now.median - before.median
  return measured(text, (worse === 'more' ? change : -change) <= noise)
}

function consumerMsPerThousand(run: Run): number | undefined {
  const consumer = servicesOf(run).find(({ name }) => name === 'consumer')
  // In seconds an event, times a thousand of either.
  return consumer === undefined || run.events === 0 ? undefined : (consumer.cpuSeconds / run.events) * 1e6
}

// ---- shared

interface Where {
  workload: string
  /** KafkaTrace, unless another system is named. */
  system?: string
  step?: number
}

const measured = (text: string, met: boolean, why?: string): Judgement => ({
  kind: 'measured',
  text,
  met,
  ...(why !== undefined && { why }),
})

const runsOf = (result: Result, workload: string, system: string): Run[] =>
  result.runs.filter((run) => run.workload === workload && run.system === system && run.void === undefined)

const runsAt = (result: Result, { workload, system = SUBJECT, step }: Where): Run[] =>
  runsOf(result, workload, system).filter((run) => run.step === step)

function summary(result: Result, where: Where, value: (run: Run) => number | undefined): Summary | NotMeasured {
  return summarise(runsAt(result, where).flatMap((run) => value(run) ?? [])) ?? notMeasured(result, where)
}

/** KafkaTrace's value divided by the other's, for each repetition. */
function paired(
  result: Result,
  workload: string,
  other: string,
  value: (run: Run) => number | undefined,
): Summary | NotMeasured {
  const byRepetition = (system: string): ByRepetition =>
    new Map(
      runsAt(result, { workload, system }).flatMap((run) => {
        const one = value(run)
        return one === undefined ? [] : [[run.repetition, one] as const]
      }),
    )
  const [ours, theirs] = [byRepetition(SUBJECT), byRepetition(other)]
  if (ours.size === 0) return notMeasured(result, { workload })
  if (theirs.size === 0) return notMeasured(result, { workload, system: other })
  return (
    summarise(pairedRatios(ours, theirs)) ?? {
      kind: 'not measured',
      why: `no repetition of ${workload} counts of both ${titleOf(result, SUBJECT)} and ${titleOf(result, other)}`,
    }
  )
}

function notMeasured(result: Result, { workload, system = SUBJECT, step }: Where): NotMeasured {
  const title = titleOf(result, system)
  const at = step === undefined ? workload : `${workload} at ${short(step * 100)} %`
  const made = result.runs.filter((run) => run.workload === workload && run.system === system && run.step === step)
  const why = (() => {
    const unavailable = factsOf(result, system)?.unavailable
    if (unavailable !== undefined) return `${title} could not be had: ${unavailable}`
    if (made.length === 0) return `${title} was not run in ${at}`
    const reason = made.find((run) => run.void !== undefined)?.void
    return reason === undefined
      ? `${title} has no such number in ${at}`
      : `no run of ${title} in ${at} counts: ${reason}`
  })()
  return { kind: 'not measured', why }
}

const factsOf = (result: Result, system: string) => result.systems.find(({ name }) => name === system)
const titleOf = (result: Result, system: string): string => factsOf(result, system)?.title ?? system

const servicesOf = (run: Run): ProcessUse[] => run.processes.filter(({ role }) => role === 'service')

function requestsPerCpuSecond(run: Run): number | undefined {
  const cpuSeconds = sum(servicesOf(run).map((process) => process.cpuSeconds))
  return cpuSeconds > 0 ? run.requests / cpuSeconds : undefined
}

const errorsOf = (run: Run): number => sum(Object.values(run.errors))

const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0)
const most = (numbers: readonly number[]): number | undefined =>
  numbers.length === 0 ? undefined : Math.max(...numbers)

// ---- how numbers are printed: the median, with the range where there is one

function ranged({ median, min, max }: Summary, format: (value: number) => string, unit: string): string {
  const [middle, least, highest] = [format(median), format(min), format(max)]
  // A dash before a minus sign is unreadable.
  return least === highest ? `${middle}${unit}` : `${middle}${unit} (${least}${min < 0 ? ' to ' : '–'}${highest})`
}

/** Rounded down, so that a value just below a goal does not look as if it met it. */
const floored = (value: number, digits: number): string => {
  const power = 10 ** digits
  return (Math.floor(value * power + 1e-9) / power).toFixed(digits)
}

const times = (ratio: Summary): string => ranged(ratio, (one) => floored(one, 2), '×')
const percent = (ratio: Summary): string => ranged(ratio, (one) => floored(one * 100, 0), ' %')
const ms = (latency: Summary): string => ranged(latency, short, ' ms')
const seconds = (time: Summary): string => ranged(time, (one) => one.toFixed(2), ' s')
const megabytes = (bytes: Summary): string => ranged(bytes, (one) => (one / MEGABYTE).toFixed(0), ' MB')
const count = (number: number, noun: string): string => `${short(number)} ${noun}${number === 1 ? '' : 's'}`
