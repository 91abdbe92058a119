import { join } from 'node:path'
import { findFreePorts } from '../shared/dev/brokers/ports.ts'
import { CONTROL_TOPIC, parseTopic } from '../shared/events/topics.ts'
import { type ClosedOutcome, type LoadRequest, startClosedLoop } from './closed-loop.ts'
import { followedOf, startFollowers } from './followers.ts'
import { createRecorder } from './histogram.ts'
import { type Observation, type Observed, observe } from './observe.ts'
import type { Observer, Seen } from './observer.ts'
import { decodeLedger, isStored, type OpenLedger, outcomeOf, startOpenLoop, voidReason } from './open-loop.ts'
import { startWatching } from './page.ts'
import { eventOfBytes, FORMS, idOf, requestsOf } from './payloads.ts'
import type { Latency, ProcessUse } from './result.ts'
import { type Scanned, scanTopic, together } from './scan.ts'
import {
  allTopics,
  brokersOf,
  ending,
  inputTopics,
  type Measured,
  makeTopics,
  OUTCOME_PATIENCE_MS,
  perCpuSecond,
  removeAfterwards,
  type Stage,
  send,
  settledScan,
  watcher,
  watchOutcomes,
  withRoles,
} from './stage.ts'
import { GITHUB_PATH, type RunningKafkaTrace, startKafkaTrace } from './systems/kafkatrace.ts'
import type { LimitTool, RunningSystem, System } from './systems/system.ts'
import { epochMs, type Worker } from './worker.ts'
import { type ClosedWorkload, type OpenWorkload, type ProduceWorkload, recordValueBytes, sizeOf } from './workloads.ts'

/** One run under load over HTTP: topics, system, load, observation, scan, end. And one of a limit's tool. */

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
      const repeats = workload.form === 'signed'
      const scan = stores
        ? await settledScan(
            stage,
            inputs,
            done.acknowledgedEvents,
            false,
            repeats ? await scanRecords(stage, inputs) : undefined,
          )
        : undefined
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

/** Webhooks are sent again and again under the ids that they have been signed with: each record counts as one. */
async function scanRecords(stage: Stage, topics: readonly string[]): Promise<Scanned> {
  const scanned = together(await Promise.all(topics.map((topic) => scanTopic(brokersOf(stage), topic))))
  return { ...scanned, ids: scanned.ids.map((_, index) => String(index)) }
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

const load = (worker: { pid: number }): Observed[] => [{ name: 'generator', role: 'generator', pid: worker.pid }]

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
      webhooks: workload.form === 'signed',
      schemas: workload.schemas === true,
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
    const { contentType, text, headers: more } = FORMS[workload.form](events)
    const headers = { 'content-type': contentType, ...more }
    if (workload.form === 'signed') return { path: GITHUB_PATH, headers, body: text }
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
    const withConsole = workload.followers !== undefined
    if (withConsole) removeAfterwards(stage, [CONTROL_TOPIC], ends)
    const running = await startKafkaTrace({
      brokers: brokersOf(stage),
      directory: stage.directory,
      topics: inputs,
      partitions: stage.partitions,
      producer: true,
      consumer: workload.outcomes,
      console: withConsole,
      auth: false,
    })
    const stop = ends.add(() => running.stop())
    const observer = workload.outcomes ? watchOutcomes(stage, inputs, ends) : undefined
    const followers = workload.followers
      ? await startFollowers(running.consoleUrl ?? '', workload.followers, stage.directory)
      : undefined
    if (followers !== undefined) ends.add(() => followers.end())
    const page = workload.page === true ? await startWatching(running.consoleUrl ?? '') : undefined
    if (page !== undefined) ends.add(() => page.close())
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
    const watching = [...watcher(observer), ...watcher(followers, 'followers')]
    const observation = observe(withRoles(stage, running.processes, ...load(worker), ...watching))
    ends.add(async () => observation.stop())
    const { fromMs } = await whileMeasured(worker, observation)
    const processes = observation.stop()

    const ledger = decodeLedger(await Bun.file(file).arrayBuffer())
    const outcome = outcomeOf(ledger, fromMs)
    const acknowledged = acknowledgedOf(ledger, run)
    await observer?.until(primed + acknowledged.length, OUTCOME_PATIENCE_MS)
    const { result, input, processed } = await settledScan(stage, inputs, acknowledged, observer !== undefined)
    await followers?.until(processed.ids.length * followers.count, OUTCOME_PATIENCE_MS)
    const arrivals = await followers?.end()
    const shown = await page?.end(processed.ids.length, OUTCOME_PATIENCE_MS)
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
      ...(followers && arrivals && { followed: followedOf(arrivals, followers.count, processed, fromMs) }),
      ...(shown && { page: shown }),
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
