import { CONTROL_TOPIC } from '../shared/events/topics.ts'
import { latencyOfValues } from './histogram.ts'
import { observe } from './observe.ts'
import { type Body, eventOfBytes, ID_PLACEHOLDER } from './payloads.ts'
import type { Latency, Lookups } from './result.ts'
import {
  allTopics,
  brokersOf,
  ending,
  inputTopics,
  type Measured,
  makeTopics,
  OUTCOME_PATIENCE_MS,
  removeAfterwards,
  type Stage,
  sendAll,
  settledScan,
  watchOutcomes,
  withRoles,
} from './stage.ts'
import { startKafkaTrace } from './systems/kafkatrace.ts'
import { type LookupWorkload, sizeOf } from './workloads.ts'

/** Look-ups in the console, among events that are processed. */

const EVENTS_A_REQUEST = 1000
/** As many as readers of the console: the default of MAX_SCANS. */
const SCANS_AT_A_TIME = 4

export function measureLookups(stage: Stage, workload: LookupWorkload): Promise<Measured> {
  return ending(async (ends) => {
    const inputs = inputTopics(1)
    const { records } = sizeOf(workload, stage.quick)
    await makeTopics(stage, inputs.flatMap(allTopics), ends)
    removeAfterwards(stage, [CONTROL_TOPIC], ends)
    const running = await startKafkaTrace({
      brokers: brokersOf(stage),
      directory: stage.directory,
      topics: inputs,
      partitions: stage.partitions,
      producer: true,
      consumer: true,
      console: true,
      auth: false,
    })
    ends.add(() => running.stop())
    const processes = running.processes.filter(({ name }) => name === 'console')
    const observation = observe(withRoles(stage, processes), 'all')
    ends.add(async () => observation.stop())
    const observer = watchOutcomes(stage, inputs, ends)
    const events = new LookedUp(workload)
    await sendAll(running.url, records / EVENTS_A_REQUEST, (index) => events.bodyAt(index))
    if (!(await observer.until(records, OUTCOME_PATIENCE_MS)))
      throw new Error('the consumer did not process all events')
    // Neither the observer nor the scan may use the machine meanwhile.
    await observer.end()
    const { result } = await settledScan(stage, inputs, records, true)

    const client = new Client(`${running.consoleUrl}/v1/streams/events/events`)
    const begunMs = performance.now()
    observation.begin()
    const lookups = await lookUp(client, events, workload, records)
    observation.end()
    const seconds = (performance.now() - begunMs) / 1000
    return {
      seconds,
      requests: client.requests,
      events: 0,
      requestsPerSecond: 0,
      eventsPerSecond: 0,
      errors: client.errors,
      processes: observation.stop(),
      lookups,
      scan: result,
    }
  })
}

async function lookUp(
  client: Client,
  events: LookedUp,
  { lookups, scans }: LookupWorkload,
  records: number,
): Promise<Lookups> {
  const spread = (count: number, isUuid: boolean): number[] => numbersOf(records, count, isUuid)
  const absent = Array.from({ length: scans }, (_, index) => `no-order-${index}`)
  return {
    uuid: await client.each(spread(lookups, true), 1, (number) => client.find(events.idOf(number))),
    key: await client.each(spread(lookups, false), 1, (number) =>
      client.find(events.idOf(number), events.keyOf(number)),
    ),
    id: await client.each(spread(scans, false), 1, (number) => client.find(events.idOf(number))),
    absent: await client.each(absent, 1, (id) => client.miss(id)),
    together: await client.each(absent, SCANS_AT_A_TIME, (id) => client.miss(id)),
  }
}

/** Events from all over the log: as many of one kind, at equal distances. */
export function numbersOf(records: number, count: number, isUuid: boolean): number[] {
  return Array.from({ length: count }, (_, index) => {
    const number = Math.floor((records * (index + 0.5)) / count)
    return number - (number % 2) + (isUuid ? 1 : 0)
  })
}

/** The events of a run by number: those with odd ones have UUIDv7 ids, which are made when they are sent. */
export class LookedUp {
  readonly #templates: readonly (readonly [before: string, after: string])[]
  readonly #uuids = new Map<number, string>()

  constructor({ eventBytes, keys }: Pick<LookupWorkload, 'eventBytes' | 'keys'>) {
    this.#templates = Array.from({ length: keys }, (_, key) => {
      const event = { ...eventOfBytes(eventBytes, key, ID_PLACEHOLDER), subject: subjectOf(key) }
      const [before = '', after = ''] = JSON.stringify(event).split(ID_PLACEHOLDER)
      return [before, after]
    })
  }

  /** A request of {@link EVENTS_A_REQUEST} events. */
  bodyAt(index: number): Body {
    const events = Array.from({ length: EVENTS_A_REQUEST }, (_, place) => {
      const number = index * EVENTS_A_REQUEST + place
      if (number % 2 === 1) this.#uuids.set(number, Bun.randomUUIDv7())
      const [before = '', after = ''] = this.#templates[number % this.#templates.length] ?? []
      return before + this.idOf(number) + after
    })
    return { contentType: 'application/json', text: `[${events.join(',')}]` }
  }

  /** @throws Error for an event that was not sent */
  idOf(number: number): string {
    if (number % 2 === 0) return `order-${number}`
    const id = this.#uuids.get(number)
    if (id === undefined) throw new Error(`event ${number} was not sent`)
    return id
  }

  keyOf = (number: number): string => subjectOf(number % this.#templates.length)
}

const subjectOf = (key: number): string => `order-${String(key).padStart(6, '0')}`

/** What the console answers of an event, as far as it is checked. */
interface Answer {
  events?: { id?: string; state: string }[]
  complete: boolean
}

/** Looks events up, and counts what was not answered as it has to be. */
class Client {
  requests = 0
  readonly errors: Record<string, number> = {}

  constructor(readonly url: string) {}

  /** How long each took. */
  async each<One>(all: readonly One[], atATime: number, work: (one: One) => Promise<void>): Promise<Latency> {
    const timesMs: number[] = []
    const left = [...all]
    const one = async (): Promise<void> => {
      for (let next = left.shift(); next !== undefined; next = left.shift()) {
        const begunMs = performance.now()
        await work(next)
        timesMs.push(performance.now() - begunMs)
      }
    }
    await Promise.all(Array.from({ length: atATime }, one))
    return latencyOfValues(timesMs)
  }

  async find(id: string, key?: string): Promise<void> {
    const query = key === undefined ? '' : `?key=${encodeURIComponent(key)}`
    await this.#get(`${id}${query}`, 200, ({ events = [] }) => {
      const [event, ...others] = events
      return event?.id === id && event.state === 'processed' && others.length === 0 ? undefined : 'wrong answer'
    })
  }

  async miss(id: string): Promise<void> {
    await this.#get(id, 404, ({ complete }) => (complete ? undefined : 'incomplete search'))
  }

  async #get(path: string, expected: number, faultOf: (answer: Answer) => string | undefined): Promise<void> {
    const response = await fetch(`${this.url}/${path}`)
    const answer = (await response.json()) as Answer
    const fault = response.status === expected ? faultOf(answer) : String(response.status)
    if (fault === undefined) this.requests++
    else this.errors[fault] = (this.errors[fault] ?? 0) + 1
  }
}
