import { FAULT_TYPE } from '../../consumer/testing/faulty-handlers.ts'
import { embeddedPartitions, startEmbedded } from '../../shared/dev/brokers/embedded.ts'
import { encodeControl } from '../../shared/events/control.ts'
import { headersOf, headerText } from '../../shared/events/headers.ts'
import type { OutgoingRecord } from '../../shared/events/record.ts'
import { actsTopic, CONTROL_TOPIC, siblingTopic, streamTopics } from '../../shared/events/topics.ts'
import { readAll } from '../../shared/kafka/range-reader.ts'
import type { RangeReader } from '../../shared/kafka/types.ts'
import { startService } from '../../shared/testing/service-process.ts'
import { until } from '../../shared/testing/until.ts'
import { sampleMemory } from '../faults/memory.ts'
import { savedInputs } from './corpus.ts'
import { type Found, type FuzzOptions, keep, MAX_FOUND, type Result, sayProgress, shrinkTime } from './found.ts'
import { memoryFaults } from './memory.ts'
import {
  type Corpus,
  type Fields,
  fromSaved,
  type OddRecord,
  oddRecords,
  PLACES,
  type Place,
  type SavedRecord,
  toSaved,
} from './records.ts'
import { goodEventFault } from './request-run.ts'
import {
  CONSUMER_ENV,
  eventsIn,
  openReader,
  openWriter,
  outcomeFaults,
  partitionsOf,
  type Rig,
  residentMbOf,
  STREAMS,
  TENANT,
  TOPICS,
} from './rig.ts'
import { smallest } from './shrink.ts'

/** Records to a real consumer and console: none stops its partition or a process, and each event has one outcome. */

const CHUNK = 1_000
const MOST_ROUNDS = 10
const OUTCOMES_TIMEOUT_MS = 180_000
/** For a few records, and a consumer that has just begun. */
const ALONE_TIMEOUT_MS = 30_000
const CORPUS_TIMEOUT_MS = 60_000
const MEMORY_EVERY_MS = 250

const topicOf = (place: Place): string => {
  if (place === 'odd') return TOPICS.odd
  if (place === 'control') return CONTROL_TOPIC
  return place === 'acts' ? actsTopic(TOPICS.beside) : siblingTopic(TOPICS.beside, place)
}

const outgoing = ({ place, key, value, headers }: OddRecord): OutgoingRecord => ({
  topic: topicOf(place),
  ...(place === 'acts' || place === 'control' ? { partition: 0 } : {}),
  key,
  value,
  headers,
})

const event = (id: string, type: string, data: unknown): Fields => ({
  key: id,
  value: Buffer.from(JSON.stringify(data)),
  headers: headersOf({
    ce_specversion: '1.0',
    ce_id: id,
    ce_source: '/real',
    ce_type: type,
    'content-type': 'application/json',
  }),
})

/** How many real records there are of each place: a seed draws from as many each time. */
const REAL: Readonly<Record<Place, number>> = { odd: 13, retry: 6, dlq: 6, processed: 7, acts: 2, control: 2 }

async function readPlace(reader: RangeReader, topic: string, partitions: number): Promise<Fields[]> {
  const fields: Fields[] = []
  await readAll(reader, partitionsOf(topic, partitions), ({ key, value, headers }) =>
    // Their memory is the reader's.
    fields.push({ key: key && Buffer.from(key), value: value && Buffer.from(value), headers }),
  )
  return fields.sort((one, other) => String(one.key).localeCompare(String(other.key)))
}

/** Has the services write real records into every topic, and reads them. */
async function realRecords(rig: Rig): Promise<Corpus> {
  const types = ['plain', `${FAULT_TYPE}always`, `${FAULT_TYPE}hopeless`, `${FAULT_TYPE}sometimes`]
  const data = { failures: 1, workMs: 0 }
  await rig.write(
    types.flatMap((type, at) =>
      [0, 1, 2].map((part) => ({ topic: TOPICS.beside, ...event(`real-${at}-${part}`, type, data) })),
    ),
  )
  await rig.write([
    {
      topic: TOPICS.beside,
      key: 'real-s',
      value: Buffer.from(JSON.stringify({ specversion: '1.0', id: 'real-s', source: '/real', type: 'plain', data })),
      headers: headersOf({ 'content-type': 'application/cloudevents+json' }),
    },
  ])
  for (const act of ['pause', 'resume'])
    await askConsole(rig, `/v1/streams/${STREAMS.beside}/${act}`, { reason: 'to have a record' })
  let corpus: Corpus = new Map()
  await until(
    async () => {
      const of = async (place: Place): Promise<[Place, Fields[]]> => {
        const isSingle = place === 'acts' || place === 'control'
        return [place, await readPlace(rig.reader, place === 'odd' ? TOPICS.beside : topicOf(place), isSingle ? 1 : 3)]
      }
      corpus = new Map(await Promise.all(PLACES.map(of)))
      return PLACES.every((place) => (corpus.get(place)?.length ?? 0) >= REAL[place])
    },
    { timeoutMs: CORPUS_TIMEOUT_MS, what: 'real records in every topic' },
  )
  return corpus
}

/** @returns the status, and the answer's text */
async function askConsole(rig: Rig, path: string, body?: unknown): Promise<{ status: number; text: string }> {
  const answer = await fetch(`http://127.0.0.1:${rig.console().started['port']}${path}`, {
    ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
    headers: { 'content-type': 'application/json', authorization: `Bearer ${rig.key}` },
  })
  return { status: answer.status, text: await answer.text() }
}

/** What is wrong with a service's log: only what it says of itself, not of records. */
const logFaults = (name: string, log: readonly Record<string, unknown>[]): string[] =>
  log
    .filter(({ level }) => level === 'error' || level === 'fatal')
    .map((line) => `the ${name} said: ${JSON.stringify(line).slice(0, 500)}`)

export async function fuzzRecords(rig: Rig, options: FuzzOptions): Promise<Result> {
  const { seed, inputs, say } = options
  const found: Found[] = []
  const rounds = Math.max(1, Math.min(MOST_ROUNDS, Math.floor(inputs / CHUNK)))
  const perRound = Math.ceil(inputs / rounds)
  const saved = savedInputs<SavedRecord[]>('records', options.corpus)
  const corpus = await realRecords(rig)
  let written = 0
  let memory = sampleMemory([rig.consumer().pid], MEMORY_EVERY_MS)
  const beganMs = performance.now()
  const stopProgress = sayProgress(() => {
    const perSecond = Math.round((1_000 * written) / (performance.now() - beganMs))
    return `records: ${written} of ${inputs} written, ${perSecond}/s, consumer ${residentMbOf(rig.consumer().pid)} MB, console ${residentMbOf(rig.console().pid)} MB, ${found.length} faults`
  }, say)
  for (let round = 0; round < rounds && found.length === 0; round++) {
    const records = [
      ...(round === 0 ? saved.flatMap(({ saved }) => saved.input.map(fromSaved)) : []),
      ...oddRecords(perRound, seed, round, corpus),
    ]
    for (let from = 0; from < records.length; from += CHUNK) {
      const chunk = records.slice(from, from + CHUNK)
      await rig.write(chunk.map(outgoing))
      written += chunk.length
    }
    // Whoever pauses streams by forged records may: they go on from here.
    await rig.write(Object.values(STREAMS).map(running))
    const faults = await roundFaults(rig)
    if (faults.length > 0) found.push(...(await explained(faults, records, options)))
    // A consumer that begins reads the forged records as its past. Its memory is measured from here on.
    if (found.length === 0 && round === Math.floor(rounds / 3)) {
      memory.stop()
      await rig.restart('consumer')
      memory = sampleMemory([rig.consumer().pid], MEMORY_EVERY_MS)
    }
  }
  stopProgress()
  memory.stop()
  for (const what of memoryFaults('consumer', memory.samples[0] ?? [])) found.push({ what })
  for (const what of await consoleFaults(rig)) found.push({ what })
  say(`records: ${written} written, ${found.length} faults`)
  return { inputs: written, found: found.slice(0, MAX_FOUND) }
}

const running = (stream: string): OutgoingRecord =>
  encodeControl(TENANT, stream, { state: 'running', by: 'fuzz', atMs: Date.now(), reason: '' })

/** After a round: each foreign event has its outcome, and good events of both streams are processed. */
async function roundFaults(rig: Rig): Promise<string[]> {
  const faults: string[] = []
  const isRunning = (): boolean => rig.consumer().running()
  for (const stream of [STREAMS.odd, STREAMS.beside]) {
    const fault = await goodEventFault(rig, stream)
    if (fault !== undefined) faults.push(fault)
  }
  const events = await eventsIn(rig.reader, TOPICS.odd)
  faults.push(...(await outcomeFaults(rig.reader, TOPICS.odd, events, { timeoutMs: OUTCOMES_TIMEOUT_MS, isRunning })))
  faults.push(...(await goodFaults(rig.reader, TOPICS.beside, OUTCOMES_TIMEOUT_MS, isRunning)))
  const ended = isRunning() ? [] : ['the consumer has ended']
  return [...ended, ...faults, ...logFaults('consumer', rig.consumer().log)]
}

/** Good events among what others wrote: each is processed. */
async function goodFaults(
  reader: RangeReader,
  input: string,
  timeoutMs: number,
  isRunning: () => boolean,
  partitions?: number,
): Promise<string[]> {
  const goodIn = async (topic: string): Promise<Set<string>> => {
    const good = new Set<string>()
    await readAll(reader, partitionsOf(topic, partitions), ({ headers }) => {
      const id = headerText(headers, 'ce_id') ?? ''
      if (/^good-[0-9a-f-]{36}$/.test(id)) good.add(id)
    })
    return good
  }
  const wanted = await goodIn(input)
  let left = [...wanted]
  const isDone = async (): Promise<boolean> => {
    const processed = await goodIn(siblingTopic(input, 'processed'))
    left = [...wanted].filter((id) => !processed.has(id))
    return left.length === 0 || !isRunning()
  }
  await until(isDone, { timeoutMs }).catch(() => undefined)
  return left.length === 0 ? [] : [`${left.length} good events of ${input} are not processed`]
}

/** The console reads what was forged: its answers may be refusals, and no fault of its own. */
async function consoleFaults(rig: Rig): Promise<string[]> {
  const faults: string[] = []
  for (const stream of [STREAMS.beside, STREAMS.odd])
    for (const path of ['status', 'acts', 'dead-letters', 'events', 'history']) {
      const { status, text } = await askConsole(rig, `/v1/streams/${stream}/${path}`)
      if (status >= 500 && !(status === 503 && text.includes('"detail":"')))
        faults.push(`the console answered ${status} for ${stream}/${path}: ${text.slice(0, 300)}`)
    }
  if (!rig.console().running()) faults.push('the console has ended')
  return [...faults, ...logFaults('console', rig.console().log)]
}

/** Looks for the records that do it, on a broker and a consumer of their own. */
async function explained(
  faults: readonly string[],
  records: readonly OddRecord[],
  options: FuzzOptions,
): Promise<Found[]> {
  options.say(`records: ${faults[0]}: looking for the smallest that do it`)
  const fails = async (some: readonly OddRecord[]): Promise<boolean> => (await faultsAlone(some)).length > 0
  const isAlone = await fails(records)
  const few = isAlone ? await smallest(records, fails, shrinkTime()) : records
  const why = faults[0] ?? ''
  const file = isAlone ? keep('records', why, few.map(toSaved), options) : undefined
  const how = isAlone
    ? `${few.length} of ${records.length} records do so`
    : `not again on a broker of their own: seed ${options.seed}`
  return faults.slice(0, MAX_FOUND).map((what) => ({ what: `${what} (${how})`, ...(file !== undefined && { file }) }))
}

/** @returns what is wrong once a consumer has read these records, and a good event behind them in each partition */
async function faultsAlone(records: readonly OddRecord[]): Promise<string[]> {
  const broker = await startEmbedded()
  const topics = [
    ...[STREAMS.odd, STREAMS.beside].flatMap((stream) => streamTopics(TENANT, stream)),
    CONTROL_TOPIC,
    actsTopic(TOPICS.beside),
  ]
  await broker.createTopics(topics, embeddedPartitions)
  const [writer, reader] = [await openWriter(broker.bootstrapServers, topics), openReader(broker.bootstrapServers)]
  const consumer = await startService('consumer', {
    ...CONSUMER_ENV,
    KAFKA_BROKERS: broker.bootstrapServers,
    GROUP_ID: 'alone',
  })
  try {
    await writer.write(records.map(outgoing))
    await writer.write([STREAMS.odd, STREAMS.beside].map(running))
    const good = [TOPICS.odd, TOPICS.beside].flatMap((topic) =>
      Array.from({ length: embeddedPartitions }, (_, partition) => {
        const id = `good-${crypto.randomUUID()}`
        return { topic, partition, ...event(id, 't', {}) }
      }),
    )
    await writer.write(good)
    const isRunning = (): boolean => consumer.running()
    const faults: string[] = []
    for (const topic of [TOPICS.odd, TOPICS.beside])
      faults.push(...(await goodFaults(reader, topic, ALONE_TIMEOUT_MS, isRunning, embeddedPartitions)))
    return isRunning() ? [...faults, ...logFaults('consumer', consumer.log)] : ['the consumer has ended']
  } finally {
    await Promise.all([writer.close(), reader.close()])
    if (consumer.running()) await consumer.stop()
    await broker.stop()
  }
}
