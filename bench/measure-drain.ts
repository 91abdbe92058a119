import { parseTopic, siblingTopic } from '../shared/events/topics.ts'
import { shortLine } from '../shared/service/log-schema.ts'
import { residentMemoryBytes } from '../shared/service/process-metrics.ts'
import type { Service } from '../shared/testing/services.ts'
import { observe } from './observe.ts'
import type { Seen } from './observer.ts'
import { type Body, FORMS, requestsOf } from './payloads.ts'
import type { Restart } from './result.ts'
import { keysOutOfOrder, type Scanned, scanByKey, scanTopic } from './scan.ts'
import {
  allTopics,
  brokersOf,
  emptyTopics,
  ending,
  inputTopics,
  type Measured,
  OUTCOME_PATIENCE_MS,
  perCpuSecond,
  type Stage,
  sendAll,
  settledScan,
  watcher,
  watchOutcomes,
  withRoles,
} from './stage.ts'
import { createConsumer, startKafkaTrace } from './systems/kafkatrace.ts'
import type { Drain, RunningDrain } from './systems/system.ts'
import { type DrainWorkload, type RestartWorkload, sizeOf } from './workloads.ts'

/** Runs that consume a filled topic. */

type Filling = Pick<DrainWorkload, 'eventBytes' | 'partitions'>

const EVENTS_A_FILLING_REQUEST = 1000

/** Sends events to the input topic through the producer. @param records a multiple of {@link EVENTS_A_FILLING_REQUEST} */
async function fill(stage: Stage, topic: string, { eventBytes, partitions }: Filling, records: number): Promise<void> {
  const running = await startKafkaTrace({
    brokers: brokersOf(stage),
    directory: stage.directory,
    topics: [topic],
    partitions,
    producer: true,
    consumer: false,
    auth: false,
  })
  try {
    const batches = await requestsOf({ bytes: eventBytes }, EVENTS_A_FILLING_REQUEST)
    const bodies = batches.map((events) => FORMS.batch(events))
    const bodyAt = (index: number): Body => bodies[index % bodies.length] ?? FORMS.batch([])
    await sendAll(running.url, records / EVENTS_A_FILLING_REQUEST, bodyAt)
  } finally {
    await running.stop()
  }
}

/** Fills the input topic, unless an earlier drain has left it so, and empties the others. @returns the input */
async function prepare(stage: Stage, topic: string, workload: Filling, records: number): Promise<Scanned> {
  const { eventBytes, partitions } = workload
  const what = `${records} events of ${eventBytes} B in ${partitions} partitions`
  const { current } = stage.filled
  let input = current?.what === what ? current.input : undefined
  if (input === undefined) {
    await emptyTopics(stage, allTopics(topic), partitions)
    await fill(stage, topic, workload, records)
    input = await scanTopic(brokersOf(stage), topic)
    stage.filled.current = { what, input }
  }
  const outputs = allTopics(topic).filter((name) => parseTopic(name)?.role !== 'input')
  await emptyTopics(stage, outputs, partitions)
  return input
}

/**
 * The share of the outcomes that a drain starts with while runtimes still compile: the warm-up of each loop. Java needs the longest: Kafka Streams came to its
 * rate after some 300,000 events.
 */
const WARM_UP_SHARE = 0.5

/** A consumer on a filled topic. */
export function measureDrain(stage: Stage, system: Drain, workload: DrainWorkload): Promise<Measured> {
  return ending(async (ends) => {
    const inputs = inputTopics(1)
    const [topic = ''] = inputs
    const { records, restSeconds } = sizeOf(workload, stage.quick)
    const input = await prepare(stage, topic, workload, records)
    const output = siblingTopic(topic, 'processed')
    const observer = watchOutcomes(stage, inputs, ends)
    const { handler } = workload
    const at = { brokers: brokersOf(stage), directory: stage.directory, topic }
    const running = await system.drain({ ...at, output, handler })
    const stop = ends.add(() => running.stop())
    const observation = observe(withRoles(stage, running.processes, ...watcher(observer)), 'all')
    ends.add(async () => observation.stop())
    await observer.until(Math.max(1, records * WARM_UP_SHARE), FIRST_OUTCOME_PATIENCE_MS)
    const before = observer.count()
    observation.begin()
    await observer.until(records, OUTCOME_PATIENCE_MS)
    observation.end()
    const meanwhile = observer.count() - before
    const processes = observation.stop()
    const [{ result }, residentAfterBytes] = await Promise.all([
      settledScan(stage, inputs, records, true, input),
      lowestResidentBytes(running.processes, restSeconds),
    ])
    await stop()
    const seen = await observer.end()
    const { seconds, events } = drained([...seen.times()], WARM_UP_SHARE)
    const outOfOrder = handler === 'waits' ? await disordered(stage, topic, output) : undefined
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
      ...(residentAfterBytes !== undefined && { residentAfterBytes }),
      scan: { ...result, ...(outOfOrder !== undefined && { outOfOrder }) },
    }
  })
}

/** A JVM on a busy machine needs most of it until its first outcome. */
const FIRST_OUTCOME_PATIENCE_MS = 60_000

/** From the end of the warm-up to the last outcome. Outcomes of the starting moment do not count. */
export function drained(timesMs: readonly number[], warmUpShare: number): { seconds: number; events: number } {
  const inOrder = Float64Array.from(timesMs).sort()
  const first = inOrder[Math.floor(inOrder.length * warmUpShare)] ?? 0
  const last = inOrder.at(-1) ?? 0
  const events = inOrder.length - inOrder.lastIndexOf(first) - 1
  return { events, seconds: (last - first) / 1000 }
}

async function disordered(stage: Stage, topic: string, output: string): Promise<number> {
  return keysOutOfOrder(await scanByKey(brokersOf(stage), topic), await scanByKey(brokersOf(stage), output))
}

const MEMORY_INTERVAL_MS = 250

/** The lowest resident memory of processes together, in some seconds from now on; undefined for none. */
async function lowestResidentBytes(processes: RunningDrain['processes'], seconds: number): Promise<number | undefined> {
  let lowest: number | undefined
  for (const deadline = performance.now() + seconds * 1000; performance.now() < deadline; ) {
    const bytes = processes.reduce((sum, { pid }) => sum + (residentMemoryBytes(pid) ?? 0), 0)
    lowest = Math.min(lowest ?? bytes, bytes)
    await Bun.sleep(MEMORY_INTERVAL_MS)
  }
  return lowest
}

/** Arrive while the consumer is stopped. Enough for every partition to have some. */
const EVENTS_MEANWHILE = 1000

/** KafkaTrace's consumer, stopped after a drain and started again; and the same process with empty topics. */
export function measureRestart(stage: Stage, workload: RestartWorkload): Promise<Measured> {
  return ending(async (ends) => {
    const inputs = inputTopics(1)
    const [topic = ''] = inputs
    const { records, restSeconds } = sizeOf(workload, stage.quick)
    const start = async (name: string) => {
      const service = await createConsumer({
        brokers: brokersOf(stage),
        directory: stage.directory,
        name,
        env: { LOG_LEVEL: 'info' },
      })
      const stop = async (): Promise<void> => {
        if (service.running()) await service.terminate()
      }
      return { service, stop }
    }
    await prepare(stage, topic, workload, records)
    const { service, stop } = await start('consumer')
    ends.add(stop)
    const observer = watchOutcomes(stage, inputs, ends)
    service.start()
    if (!(await observer.until(records, OUTCOME_PATIENCE_MS))) throw new Error('the consumer did not drain the backlog')
    await stop()
    await fill(stage, topic, workload, EVENTS_MEANWHILE)
    stage.filled.current = undefined

    const all = records + EVENTS_MEANWHILE
    const restarted = await startObserved(service, restSeconds, () => observer.until(all, OUTCOME_PATIENCE_MS))
    const { result, processed } = await settledScan(stage, inputs, all, true)
    const log = await service.log()
    await stop()
    const seen = await observer.end()

    await emptyTopics(stage, allTopics(topic), workload.partitions)
    const idle = await start('idle')
    ends.add(idle.stop)
    const { residentMaxBytes: idleResidentBytes } = (await startObserved(idle.service, restSeconds)).use
    const { assignedMs, readingMs, outcomes } = restoredBy(log)
    const restart: Restart = {
      outcomes,
      toReadySeconds: restarted.toReadySeconds,
      toReadingSeconds: (readingMs - assignedMs) / 1000,
      toOutcomeSeconds: (firstOutcomesMs(processed, seen, assignedMs) - assignedMs) / 1000,
      residentBytes: restarted.use.residentMaxBytes,
      idleResidentBytes,
    }
    return {
      seconds: restart.toReadingSeconds,
      requests: 0,
      events: 0,
      requestsPerSecond: 0,
      eventsPerSecond: 0,
      errors: {},
      processes: [restarted.use],
      restart,
      scan: result,
    }
  })
}

/** Starts a service and observes its memory until it is ready, the work is done, and some seconds have passed. */
async function startObserved(service: Service, restSeconds: number, work?: () => Promise<unknown>) {
  const begunMs = performance.now()
  service.start()
  const observation = observe([{ name: 'consumer', role: 'service', pid: service.pid() }], 'all')
  observation.begin()
  try {
    await service.ready()
    const toReadySeconds = (performance.now() - begunMs) / 1000
    await work?.()
    await Bun.sleep(restSeconds * 1000)
    observation.end()
    const [use] = observation.stop()
    if (use === undefined) throw new Error('no process was observed')
    return { toReadySeconds, use }
  } finally {
    observation.stop()
  }
}

interface LogLine {
  time: string
  msg: string
  partitions?: string[]
  known?: number
}

/**
 * What a consumer's log says of its first assignment with partitions: when it came, when the last partition was read again (ms since the epoch), and
 * how many outcomes were read back.
 * @throws Error if partitions were not restored
 */
export function restoredBy(log: string): { assignedMs: number; readingMs: number; outcomes: number } {
  const lines = log
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => shortLine(JSON.parse(line)) as unknown as LogLine)
  const assigned = lines.find(({ msg, partitions = [] }) => msg === 'assigned' && partitions.length > 0)
  const reading = lines.filter(({ msg }) => msg === 'reading')
  const count = assigned?.partitions?.length ?? 0
  if (assigned === undefined || reading.length !== count)
    throw new Error(`the consumer restored ${reading.length} of ${count} assigned partitions`)
  return {
    assignedMs: Date.parse(assigned.time),
    readingMs: Math.max(...reading.map(({ time }) => Date.parse(time))),
    outcomes: reading.reduce((sum, { known = 0 }) => sum + known, 0),
  }
}

/** When every partition had an outcome that was seen after a moment; ms since the epoch. */
function firstOutcomesMs({ partitions, offsets }: Scanned, seen: Seen, afterMs: number): number {
  const firstMs = new Map<number, number>()
  for (const [index, partition] of partitions.entries()) {
    const atMs = seen.at(partition, offsets[index] ?? -1)
    if (atMs !== undefined && atMs > afterMs) firstMs.set(partition, Math.min(firstMs.get(partition) ?? atMs, atMs))
  }
  return Math.max(...firstMs.values())
}
