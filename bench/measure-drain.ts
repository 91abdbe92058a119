import { siblingTopic } from '../shared/events/topics.ts'
import { observe } from './observe.ts'
import { FORMS, requestsOf } from './payloads.ts'
import {
  allTopics,
  brokersOf,
  ending,
  inputTopics,
  type Measured,
  OUTCOME_PATIENCE_MS,
  perCpuSecond,
  type Stage,
  send,
  settledScan,
  watcher,
  watchOutcomes,
  withRoles,
} from './stage.ts'
import { startKafkaTrace } from './systems/kafkatrace.ts'
import type { Drain } from './systems/system.ts'
import { type DrainWorkload, sizeOf } from './workloads.ts'

/** Runs that consume a filled topic. */

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
