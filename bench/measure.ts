import { join } from 'node:path'
import type { KafkaCluster } from '../shared/dev/brokers/kafka.ts'
import { findFreePorts } from '../shared/dev/brokers/ports.ts'
import { inputTopic, parseTopic, siblingTopic, streamTopics } from '../shared/events/topics.ts'
import { type ClosedOutcome, type LoadRequest, startClosedLoop } from './closed-loop.ts'
import { createRecorder } from './histogram.ts'
import { type Observation, type Observed, observe } from './observe.ts'
import { type Observer, type Seen, startObserver } from './observer.ts'
import { decodeLedger, isStored, type OpenLedger, outcomeOf, startOpenLoop, voidReason } from './open-loop.ts'
import { type Body, eventOfBytes, FORMS, idOf, requestsOf } from './payloads.ts'
import type { Latency, ProcessUse, Run, ScanResult } from './result.ts'
import { type Acknowledged, isBroken, judge, type Scanned, scanTopic, together } from './scan.ts'
import { KAFKATRACE_TOPIC, type RunningKafkaTrace, startKafkaTrace } from './systems/kafkatrace.ts'
import type { Drain, LimitTool, RunningSystem, System } from './systems/system.ts'
import type { Topics } from './topics.ts'
import { epochMs, type Worker } from './worker.ts'
import {
  type ClosedWorkload,
  type DrainWorkload,
  type OpenWorkload,
  type ProduceWorkload,
  recordValueBytes,
  sizeOf,
} from './workloads.ts'

/** One run of each kind: topics, system, load, observation, scan, end. */

/** The environment of runs. */
export interface Stage {
  cluster: KafkaCluster
  topics: Topics
  partitions: number
  quick: boolean
  /** The content of the input topic of drains, which they leave unchanged. */
  filled: Filled
  /** An empty folder for this run. */
  directory: string
}

/** Shared by the runs. */
export interface Filled {
  /** undefined: nothing that a drain can use. */
  with: string | undefined
}

/** The measured values of a run. The plan has its workload and system. */
export type Measured = Omit<Run, 'workload' | 'system' | 'repetition' | 'step'>

/** After this long without a new outcome, missing ones are given up. */
const OUTCOME_PATIENCE_MS = 10_000
/** How long to repeat a scan that finds events without an outcome: they may have been stored without being acknowledged. */
const SETTLE_TIMEOUT_MS = 20_000
const SETTLE_PAUSE_MS = 500

/** What must be stopped when a run ends in any way, last started first. */
class Ends {
  readonly #ends: (() => Promise<unknown>)[] = []

  /** @returns a function that stops it earlier; it is stopped only once */
  add<Result>(end: () => Promise<Result>): () => Promise<Result> {
    let ended: Promise<Result> | undefined
    const once = () => (ended ??= end())
    this.#ends.push(once)
    return once
  }

  async all(): Promise<void> {
    for (const end of this.#ends.splice(0).reverse()) await end()
  }
}

async function ending<Result>(work: (ends: Ends) => Promise<Result>): Promise<Result> {
  const ends = new Ends()
  try {
    return await work(ends)
  } finally {
    await ends.all()
  }
}

const brokersOf = (stage: Stage): string => stage.cluster.bootstrapServers

async function makeTopics(stage: Stage, names: readonly string[], ends: Ends): Promise<void> {
  stage.filled.with = undefined
  await stage.topics.remove(names)
  await stage.topics.create(names, stage.partitions)
  ends.add(() => stage.topics.remove(names))
}

const withRoles = (stage: Stage, services: RunningSystem['processes'], ...others: Observed[]): Observed[] => [
  ...services.map(({ name, pid }) => ({ name, pid, role: 'service' as const })),
  { name: 'kafka', role: 'broker', pid: stage.cluster.pid(0) },
  ...others,
]

function perCpuSecond(events: number, processes: readonly ProcessUse[]): { eventsPerCpuSecond?: number } {
  const cpuSeconds = processes
    .filter(({ role }) => role === 'service')
    .reduce((sum, process) => sum + process.cpuSeconds, 0)
  return cpuSeconds > 0 ? { eventsPerCpuSecond: events / cpuSeconds } : {}
}

/** Waits for a phase of a generator. @returns what it printed with the phase */
async function phase<Line extends { phase: string }, Name extends Line['phase']>(
  worker: Worker<Line>,
  name: Name,
): Promise<Extract<Line, { phase: Name }>> {
  const line = await worker.next()
  if (line.phase !== name) throw new Error(`the generator said ${line.phase}, and not ${name}`)
  return line as Extract<Line, { phase: Name }>
}

/** Observes processes from the generator's `begun` to its `ended`. */
async function whileMeasured<Line extends { phase: 'begun' } | { phase: 'ended' } | { phase: 'done' }>(
  worker: Worker<Line>,
  observation: Observation,
): Promise<{ fromMs: number; toMs: number; done: Extract<Line, { phase: 'done' }> }> {
  await phase(worker, 'begun' as Line['phase'])
  observation.begin()
  const fromMs = epochMs()
  await phase(worker, 'ended' as Line['phase'])
  observation.end()
  const toMs = epochMs()
  return { fromMs, toMs, done: (await phase(worker, 'done' as Line['phase'])) as Extract<Line, { phase: 'done' }> }
}

export function measureClosed(stage: Stage, system: System, workload: ClosedWorkload): Promise<Measured> {
  return ending(async (ends) => {
    const inputs = inputTopics(workload.tenants)
    const isSubject = system.facts.kind === 'subject'
    const stores = system.facts.kind !== 'limit'
    if (stores) await makeTopics(stage, isSubject ? inputs.flatMap(allTopics) : inputs, ends)
    const running = await startSystem(stage, system, workload, inputs)
    const stop = ends.add(() => running.stop())
    const observer = workload.outcomes ? watchOutcomes(stage, inputs, ends) : undefined
    const primed = observer === undefined ? 0 : await prime(running.url, observer)

    const size = sizeOf(workload, stage.quick)
    const requests = await loadRequests(workload, running, inputs)
    const worker = await startClosedLoop(
      {
        origin: new URL(running.url).origin,
        connections: workload.connections,
        warmUpSeconds: size.warmUpSeconds,
        seconds: size.seconds,
        eventsPerRequest: workload.eventsPerRequest,
        ndjson: workload.form === 'ndjson',
        requests,
      },
      stage.directory,
    )
    ends.add(() => worker.end())
    const observation = observe(withRoles(stage, running.processes, ...load(worker), ...watcher(observer)))
    ends.add(async () => observation.stop())
    const { fromMs, toMs, done } = await whileMeasured(worker, observation)
    const processes = observation.stop()

    if (observer === undefined) {
      await stop()
      const scan = stores ? await settledScan(stage, inputs, done.acknowledgedEvents, false) : undefined
      return { ...closedRun(done, done.events, done.seconds, processes), ...(scan && { scan: scan.result }) }
    }
    const acknowledged = primed + done.acknowledgedEvents
    await observer.until(acknowledged, OUTCOME_PATIENCE_MS)
    const { result, input, processed } = await settledScan(stage, inputs, acknowledged, true)
    await stop()
    const seen = await observer.end()
    const committed = [...seen.times()].filter((atMs) => atMs >= fromMs && atMs < toMs).length
    return {
      ...closedRun(done, committed, (toMs - fromMs) / 1000, processes),
      appendToCommitted: appendToCommitted(
        input,
        processed,
        seen,
        (appendedMs) => appendedMs >= fromMs && appendedMs < toMs,
      ),
      scan: result,
    }
  })
}

/** @param events the number of acknowledged, or committed, events in this time */
function closedRun(outcome: ClosedOutcome, events: number, seconds: number, processes: ProcessUse[]): Measured {
  return {
    seconds: outcome.seconds,
    requests: outcome.requests,
    events,
    requestsPerSecond: outcome.requests / outcome.seconds,
    eventsPerSecond: events / seconds,
    ...perCpuSecond(events, processes),
    toAnswer: outcome.toAnswer,
    errors: outcome.errors,
    processes,
  }
}

/** Without keys there is only one tenant. */
const inputTopics = (tenants: number): string[] =>
  tenants === 1
    ? [KAFKATRACE_TOPIC]
    : Array.from({ length: tenants }, (_, index) => inputTopic(`tenant-${index + 1}`, 'events'))

function allTopics(input: string): string[] {
  const { tenant, stream } = parseTopic(input) ?? { tenant: '', stream: '' }
  return streamTopics(tenant, stream)
}

const load = (worker: { pid: number }): Observed[] => [{ name: 'generator', role: 'generator', pid: worker.pid }]

const watcher = (observer: Observer | undefined): Observed[] =>
  observer === undefined ? [] : [{ name: 'observer', role: 'observer', pid: observer.pid }]

function watchOutcomes(stage: Stage, [input = '']: readonly string[], ends: Ends): Observer {
  const observer = startObserver(brokersOf(stage), siblingTopic(input, 'processed'), stage.directory)
  return { ...observer, end: ends.add(() => observer.end()) }
}

/** Enough events for every partition to have at least one, almost surely. */
const PRIMING_EVENTS = 100

/**
 * Sends some events and waits for their outcomes, so that a run starts only when the consumer has its partitions, whatever its readiness says.
 * @returns how many
 */
async function prime(url: string, observer: Observer): Promise<number> {
  const events = Array.from({ length: PRIMING_EVENTS }, (_, number) => eventOfBytes(1024, number))
  await send(url, FORMS.batch(events))
  if (!(await observer.until(PRIMING_EVENTS, OUTCOME_PATIENCE_MS)))
    throw new Error(`the consumer did not process ${PRIMING_EVENTS} events`)
  return PRIMING_EVENTS
}

/** @throws Error unless all events are stored */
async function send(url: string, { contentType, text }: Body): Promise<void> {
  const response = await fetch(url, { method: 'POST', headers: { 'content-type': contentType }, body: text })
  const answer = await response.text()
  if (response.status !== 202) throw new Error(`sending events: status ${response.status}: ${answer.slice(0, 200)}`)
}

async function startSystem(
  stage: Stage,
  system: System,
  workload: ClosedWorkload,
  inputs: readonly string[],
): Promise<RunningSystem> {
  const at = { brokers: brokersOf(stage), directory: stage.directory }
  if (system.facts.kind === 'subject')
    return await startKafkaTrace({
      ...at,
      topics: inputs,
      partitions: stage.partitions,
      producer: true,
      consumer: workload.outcomes,
      auth: workload.tenants > 1,
    })
  const [port = 0] = await findFreePorts(1)
  return await system.start({ ...at, topic: inputs[0] ?? '', port })
}

/** The distinct requests; with several tenants, alternating. */
async function loadRequests(
  workload: ClosedWorkload,
  running: RunningSystem,
  inputs: readonly string[],
): Promise<LoadRequest[]> {
  const requests = await requestsOf(workload.payload, workload.eventsPerRequest)
  return requests.map((events, index) => {
    const { contentType, text } = FORMS[workload.form](events)
    const headers = { 'content-type': contentType }
    if (workload.tenants === 1) return { path: new URL(running.url).pathname, headers, body: text }
    const { producerUrl, keys } = running as RunningKafkaTrace
    const topic = inputs[index % inputs.length] ?? ''
    const key = keys.get(parseTopic(topic)?.tenant ?? '')
    return {
      path: new URL(producerUrl(topic)).pathname,
      headers: { ...headers, authorization: `Bearer ${key}` },
      body: text,
    }
  })
}

interface SettledScan {
  result: ScanResult
  input: Scanned
  processed: Scanned
}

/** The content of the topics, once it no longer improves. */
async function settledScan(
  stage: Stage,
  inputs: readonly string[],
  acknowledged: Acknowledged,
  outcomes: boolean,
): Promise<SettledScan> {
  const scan = async (topics: readonly string[]): Promise<Scanned> =>
    together(await Promise.all(topics.map((topic) => scanTopic(brokersOf(stage), topic))))
  const input = await scan(inputs)
  const none = together([])
  if (!outcomes) return { result: judge(acknowledged, { input }), input, processed: none }
  const deadline = performance.now() + SETTLE_TIMEOUT_MS
  for (;;) {
    const processed = await scan(inputs.map((topic) => siblingTopic(topic, 'processed')))
    const dead = await scan(inputs.map((topic) => siblingTopic(topic, 'dlq')))
    const result = judge(acknowledged, { input, outcomes: together([processed, dead]) })
    if (!isBroken(result) || performance.now() > deadline) return { result, input, processed }
    await Bun.sleep(SETTLE_PAUSE_MS)
  }
}

/** From a record's broker time, in whole milliseconds, to the moment when its outcome was seen. */
function appendToCommitted(
  input: Scanned,
  processed: Scanned,
  seen: Seen,
  counts: (appendedMs: number, id: string) => boolean,
): Latency {
  const appended = new Map(input.ids.map((id, index) => [id, input.timestampsMs[index] ?? 0]))
  const recorder = createRecorder()
  for (const [index, id] of processed.ids.entries()) {
    const appendedMs = appended.get(id)
    const seenMs = seen.at(processed.partitions[index] ?? -1, processed.offsets[index] ?? -1)
    if (appendedMs !== undefined && seenMs !== undefined && counts(appendedMs, id)) recorder.record(seenMs - appendedMs)
  }
  return recorder.latency()
}

/** @param offeredPerSecond in events */
export function measureOpen(
  stage: Stage,
  workload: OpenWorkload,
  offeredPerSecond: number,
  seed: number,
): Promise<Measured> {
  return ending(async (ends) => {
    const inputs = inputTopics(1)
    await makeTopics(stage, inputs.flatMap(allTopics), ends)
    const running = await startKafkaTrace({
      brokers: brokersOf(stage),
      directory: stage.directory,
      topics: inputs,
      partitions: stage.partitions,
      producer: true,
      consumer: workload.outcomes,
      auth: false,
    })
    const stop = ends.add(() => running.stop())
    const observer = workload.outcomes ? watchOutcomes(stage, inputs, ends) : undefined
    const primed = observer === undefined ? 0 : await prime(running.url, observer)
    const { hostname, port, pathname } = new URL(running.url)
    const size = sizeOf(workload, stage.quick)
    const run = seed.toString(36)
    const file = join(stage.directory, 'ledger')
    const worker = await startOpenLoop(
      {
        host: hostname,
        port: Number(port),
        path: pathname,
        eventsPerSecond: offeredPerSecond,
        warmUpSeconds: size.warmUpSeconds,
        seconds: size.seconds,
        eventBytes: workload.eventBytes,
        run,
        seed,
        ledger: file,
      },
      stage.directory,
    )
    ends.add(() => worker.end())
    const observation = observe(withRoles(stage, running.processes, ...load(worker), ...watcher(observer)))
    ends.add(async () => observation.stop())
    const { fromMs } = await whileMeasured(worker, observation)
    const processes = observation.stop()

    const ledger = decodeLedger(await Bun.file(file).arrayBuffer())
    const outcome = outcomeOf(ledger, fromMs)
    const acknowledged = acknowledgedOf(ledger, run)
    await observer?.until(primed + acknowledged.length, OUTCOME_PATIENCE_MS)
    const { result, input, processed } = await settledScan(stage, inputs, acknowledged, observer !== undefined)
    await stop()
    const late = voidReason(outcome, workload)
    const measured: Measured = {
      seconds: size.seconds,
      requests: outcome.acknowledged,
      events: outcome.acknowledged,
      requestsPerSecond: outcome.acknowledged / size.seconds,
      eventsPerSecond: outcome.acknowledged / size.seconds,
      offeredPerSecond: outcome.offered / size.seconds,
      ...perCpuSecond(outcome.acknowledged, processes),
      toAnswer: outcome.toAnswer,
      ...(outcome.toRefusal.count > 0 && { toRefusal: outcome.toRefusal }),
      errors: outcome.errors,
      processes,
      scan: result,
      ...(late !== undefined && { void: late }),
    }
    if (observer === undefined) return measured
    const seen = await observer.end()
    const due = new Map(acknowledged.filter(({ dueMs }) => dueMs >= fromMs).map(({ id, dueMs }) => [id, dueMs]))
    const toCommitted = createRecorder()
    for (const [index, id] of processed.ids.entries()) {
      const dueMs = due.get(id)
      const seenMs = seen.at(processed.partitions[index] ?? -1, processed.offsets[index] ?? -1)
      if (dueMs !== undefined && seenMs !== undefined) toCommitted.record(seenMs - dueMs)
    }
    return {
      ...measured,
      toCommitted: toCommitted.latency(),
      appendToCommitted: appendToCommitted(input, processed, seen, (_, id) => due.has(id)),
    }
  })
}

function acknowledgedOf(ledger: OpenLedger, run: string) {
  const all: { id: string; partition: number; offset: number; dueMs: number }[] = []
  for (const [index, dueMs] of ledger.dueMs.entries())
    if (isStored(ledger.status[index]))
      all.push({
        id: idOf(run, index),
        partition: ledger.partition[index] ?? -1,
        offset: ledger.offset[index] ?? -1,
        dueMs,
      })
  return all
}

const EVENTS_A_FILLING_REQUEST = 1000
const FILLING_REQUESTS_AT_A_TIME = 4

/** Fills the input topic through the producer. */
async function fill(stage: Stage, topic: string, workload: DrainWorkload, records: number): Promise<void> {
  const running = await startKafkaTrace({
    brokers: brokersOf(stage),
    directory: stage.directory,
    topics: [topic],
    partitions: workload.partitions,
    producer: true,
    consumer: false,
    auth: false,
  })
  try {
    const batches = await requestsOf({ bytes: workload.eventBytes }, EVENTS_A_FILLING_REQUEST)
    const bodies = batches.map((events) => FORMS.batch(events))
    const left = Array.from({ length: records / EVENTS_A_FILLING_REQUEST }, (_, index) => bodies[index % bodies.length])
    const work = async (): Promise<void> => {
      for (let body = left.pop(); body !== undefined; body = left.pop()) await send(running.url, body)
    }
    await Promise.all(Array.from({ length: FILLING_REQUESTS_AT_A_TIME }, work))
  } finally {
    await running.stop()
  }
}

/** Records of a filled topic that are consumed while the runtime still compiles: the warm-up of each loop. */
const DRAIN_WARM_UP_SHARE = 0.3

/** A consumer on a filled topic. */
export function measureDrain(stage: Stage, system: Drain, workload: DrainWorkload): Promise<Measured> {
  return ending(async (ends) => {
    const inputs = inputTopics(1)
    const [topic = ''] = inputs
    const { records } = sizeOf(workload, stage.quick)
    const filling = `${records} records of ${workload.eventBytes} B in ${workload.partitions} partitions`
    const outputs = allTopics(topic).filter((one) => one !== topic)
    if (stage.filled.with !== filling) {
      stage.filled.with = undefined
      await stage.topics.remove([topic])
      await stage.topics.create([topic], workload.partitions)
      await stage.topics.remove(outputs)
      await stage.topics.create(outputs, workload.partitions)
      await fill(stage, topic, workload, records)
      stage.filled.with = filling
    }
    await stage.topics.remove(outputs)
    await stage.topics.create(outputs, workload.partitions)
    ends.add(() => stage.topics.remove(outputs))
    const observer = watchOutcomes(stage, inputs, ends)
    const running = await system.drain({
      brokers: brokersOf(stage),
      directory: stage.directory,
      topic,
      output: siblingTopic(topic, 'processed'),
      handler: workload.handler,
    })
    const stop = ends.add(() => running.stop())
    const observation = observe(withRoles(stage, running.processes, ...watcher(observer)))
    ends.add(async () => observation.stop())
    await observer.until(Math.max(1, records * DRAIN_WARM_UP_SHARE), OUTCOME_PATIENCE_MS)
    const before = observer.count()
    observation.begin()
    await observer.until(records, OUTCOME_PATIENCE_MS)
    observation.end()
    const meanwhile = observer.count() - before
    const processes = observation.stop()
    const { result } = await settledScan(stage, inputs, records, true)
    await stop()
    const seen = await observer.end()
    const { seconds, events } = drained([...seen.times()], DRAIN_WARM_UP_SHARE)
    return {
      seconds,
      requests: events,
      events,
      requestsPerSecond: events / seconds,
      eventsPerSecond: events / seconds,
      // CPU time was read slightly later than the first outcome arrived.
      ...perCpuSecond(meanwhile, processes),
      errors: {},
      processes,
      scan: result,
    }
  })
}

/** From the end of the warm-up to the last outcome. Outcomes of the starting moment do not count. */
export function drained(timesMs: readonly number[], warmUpShare: number): { seconds: number; events: number } {
  const inOrder = Float64Array.from(timesMs).sort()
  const first = inOrder[Math.floor(inOrder.length * warmUpShare)] ?? 0
  const last = inOrder.at(-1) ?? 0
  const events = inOrder.length - inOrder.lastIndexOf(first) - 1
  return { events, seconds: (last - first) / 1000 }
}

/** A limit's tool, on an empty topic. */
export function measureTool(stage: Stage, tool: LimitTool, workload: ProduceWorkload): Promise<Measured> {
  return ending(async (ends) => {
    const [topic = ''] = inputTopics(1)
    const { records } = sizeOf(workload, stage.quick)
    await makeTopics(stage, allTopics(topic), ends)
    const { events, seconds, cpuSeconds } = await tool.run({
      brokers: brokersOf(stage),
      topic,
      records,
      valueBytes: recordValueBytes(workload),
      directory: stage.directory,
    })
    const inLog = (await scanTopic(brokersOf(stage), topic)).offsets.length
    const processes: ProcessUse[] = [
      {
        name: tool.facts.name,
        role: 'service',
        cpuSeconds,
        // A program that ends within a second is not observed.
        residentMeanBytes: 0,
        residentMaxBytes: 0,
        residentEarlyBytes: 0,
        residentLateBytes: 0,
      },
    ]
    return {
      seconds,
      requests: events,
      events,
      requestsPerSecond: events / seconds,
      eventsPerSecond: events / seconds,
      ...perCpuSecond(events, processes),
      errors: {},
      processes,
      scan: { acknowledged: events, inLog, lost: Math.max(0, events - inLog) },
    }
  })
}
