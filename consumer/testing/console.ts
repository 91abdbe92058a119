import pino from 'pino'
import { type HeaderValue, headersOf } from '../../shared/events/headers.ts'
import type { IncomingRecord, OutgoingRecord } from '../../shared/events/record.ts'
import { actsTopic, CONTROL_TOPIC, streamTopics } from '../../shared/events/topics.ts'
import type { FakeKafka } from '../../shared/testing/fake-kafka.ts'
import { Acts } from '../console/acts.ts'
import { type Asking, Readers } from '../console/readers.ts'
import { Budget } from '../console/scan.ts'
import type { Stream } from '../console/streams.ts'
import type { Showing } from '../console/view.ts'

/** What the console's parts need, on a Kafka in memory. */

/** The place and the parts of a record that matter to a test. */
export interface Given {
  topic?: string
  partition?: number
  offset?: number
  timestampMs?: number
  key?: string | null
  value?: string | Buffer | null
  /** Headers of an event without these are added to them. */
  headers?: Record<string, HeaderValue>
  /** null: no event. */
  id?: string | null
  source?: string
  type?: string
}

const attributes = ({ id = 'e1', source = '/s', type = 'order.placed' }: Given): Record<string, HeaderValue> =>
  id === null
    ? {}
    : {
        ce_specversion: '1.0',
        ce_id: id,
        ce_source: source,
        ce_type: type,
        'content-type': 'application/json',
      }

export function outgoing(given: Given = {}): OutgoingRecord {
  const { topic = 'kt.acme.events', partition = 0, key = null, value = '{"n":1}', headers = {} } = given
  return {
    topic,
    partition,
    key,
    value: typeof value === 'string' ? Buffer.from(value) : value,
    headers: headersOf({ ...attributes(given), ...headers }),
  }
}

export function incoming(given: Given = {}): IncomingRecord {
  const { topic, key, value, headers } = outgoing(given)
  const { partition = 0, offset = 0, timestampMs = 1_000 } = given
  return {
    topic,
    partition,
    offset,
    timestampMs,
    key: typeof key === 'string' ? Buffer.from(key) : key,
    value,
    headers,
  }
}

export const SHOWING: Showing = { format: 'json', maxDataBytes: 1_000, redact: [] }

/** The stream `acme/events` with its topics. */
export function consoleOn(kafka: FakeKafka, { partitions = 1, redact = [] as readonly string[] } = {}) {
  for (const topic of streamTopics('acme', 'events')) kafka.createTopic(topic, partitions)
  const stream: Stream = { tenant: 'acme', name: 'events', input: 'kt.acme.events', partitions, redact }
  const readers = new Readers(() => kafka.reader(), 4)
  const ending = new AbortController()
  const acts = new Acts({
    readers,
    openTransactor: (id) => kafka.transactor(id),
    transactionalId: ({ tenant, name }) => `console.${tenant}.${name}`,
    ensureTopic: async ({ input }) => {
      kafka.createTopic(actsTopic(input)).createTopic(CONTROL_TOPIC)
    },
    log: pino({ level: 'silent' }),
    signal: ending.signal,
  })
  return { stream, readers, acts, reader: kafka.reader(), end: () => ending.abort() }
}

/** More than any test needs, unless it says otherwise. */
export const budgetOf = (maxRecords = 10_000_000, timeoutMs = 60_000): Budget =>
  new Budget(maxRecords, timeoutMs, asking())

/** For ever, unless a signal is given. */
export const asking = (signal = new AbortController().signal, caller = 'acme'): Asking => ({ signal, caller })
