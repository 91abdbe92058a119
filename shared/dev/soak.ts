#!/usr/bin/env bun
/**
 * Produces and consumes many records in this process, as the services do, and watches its resident memory: leaks of the addon or the shim
 * show after some millions of records. Every record is counted, and the record numbers are summed at three points (sent, reported,
 * consumed).
 */
import type { IncomingRecord } from '../events/record.ts'
import { type Consumer, messageOf, native, type Producer, packed, promised } from '../kafka/client.ts'
import { consumePacked, packProducer } from '../kafka/packed.ts'
import { parseCommandLine, refuse } from '../service/command-line.ts'
import { residentMemoryBytes } from '../service/process-metrics.ts'
import type { Broker } from './brokers/broker.ts'
import { startEmbedded } from './brokers/embedded.ts'
import { connectExternal } from './brokers/external.ts'

const HELP = `Produces and consumes records through the native addon and shows whether memory stays flat.

Usage: bun shared/dev/soak.ts [--messages N] [--brokers HOST:PORT]

  --messages  how many (default 10000000, about five minutes)
  --brokers   an existing broker, which gets a topic of its own; without it, a mock cluster in another process
  --help      this text

Exits 0 when every record came back and memory stayed flat, 1 when not, 64 on wrong arguments.
`

const PARTITIONS = 4
const VALUE_BYTES = 200
const KEYS = 1_000

/**
 * How far consuming may fall behind producing. The mock cluster deletes what exceeds 5 MB in a partition. This is 3 MB at most, even if
 * all of it were in one.
 */
const MAX_BEHIND_RECORDS = 10_000

/** How many records are produced before the event loop runs. */
const BURST_RECORDS = 500

/** The most records that one call of the consumer returns. */
const BATCH_RECORDS = 1_000

/** The run fails after this long without progress. */
const STALL_MS = 30_000

const CONNECT_TIMEOUT_MS = 10_000
const WAIT_MS = 1

/** Memory is sampled each time this percentage of the records was consumed. */
const SAMPLE_PERCENT = 1

/** How much memory may grow in the last half. A handle leaked for each record would add 100 MB after 200,000 records. */
const MAX_GROWTH_BYTES = 32 * 2 ** 20

interface Tally {
  records: number
  /** The sum of the record numbers: detects one lost and another duplicated. */
  sum: number
}

interface Sample {
  percent: number
  residentBytes: number
}

/**
 * Memory growth in the last half: the median of the last tenth minus the median of the tenth that begins at 50 %.
 * @param samples in order, to 100 %
 */
export function growthBytes(samples: readonly Sample[]): number {
  return middle(samples, 90) - middle(samples, 50)
}

function middle(samples: readonly Sample[], fromPercent: number): number {
  const tenth = samples
    .filter(({ percent }) => percent > fromPercent && percent <= fromPercent + 10)
    .map(({ residentBytes }) => residentBytes)
    .sort((a, b) => a - b)
  return tenth[Math.floor(tenth.length / 2)] ?? Number.NaN
}

/** Why a run failed, one line each; empty when it passed. */
export function faults(
  messages: number,
  reported: Tally,
  consumed: Tally,
  samples: readonly Sample[],
  failedDeliveries: number,
): string[] {
  const sum = (messages * (messages - 1)) / 2
  const found: string[] = []
  if (failedDeliveries > 0) found.push(`${failedDeliveries} records were not delivered`)
  for (const [name, tally] of [
    ['delivery reports', reported],
    ['consumed records', consumed],
  ] as const)
    if (tally.records !== messages || tally.sum !== sum)
      found.push(`${name}: ${tally.records} of ${messages}, numbers adding up to ${tally.sum} instead of ${sum}`)
  const growth = growthBytes(samples)
  if (!(growth <= MAX_GROWTH_BYTES))
    found.push(`the last half added ${mebibytes(growth)} of memory; ${mebibytes(MAX_GROWTH_BYTES)} are allowed`)
  return found
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`
}

async function soak(messages: number, broker: Broker): Promise<number> {
  const topic = `kafkatrace-soak-${Date.now()}`
  await broker.createTopics([topic], PARTITIONS)
  const producer = await openProducer(broker.bootstrapServers)
  const consumer = await openConsumer(broker.bootstrapServers, topic)
  const reported: Tally = { records: 0, sum: 0 }
  const consumed: Tally = { records: 0, sum: 0 }
  const samples: Sample[] = []
  let failedDeliveries = 0
  const records = packProducer(packed(), producer, ({ sequence, code }) => {
    if (code !== 0) failedDeliveries++
    reported.records++
    reported.sum += sequence
  })

  const begun = performance.now()
  const sampleEvery = Math.max(1, Math.ceil((messages * SAMPLE_PERCENT) / 100))
  const progress = startProgress(messages)
  const take = (batch: readonly IncomingRecord[]): void => {
    for (const record of batch) {
      consumed.sum += numberOf(record)
      consumed.records++
      if (consumed.records % sampleEvery === 0 || consumed.records === messages)
        samples.push({
          percent: (consumed.records / messages) * 100,
          residentBytes: residentMemoryBytes() ?? Number.NaN,
        })
    }
    progress(consumed.records)
  }

  let sent = 0
  let lastProgress = performance.now()
  const stalled = (): boolean => performance.now() - lastProgress > STALL_MS
  const consuming = (async () => {
    while (consumed.records < messages && !stalled()) {
      const batch = consumePacked(packed(), consumer, BATCH_RECORDS, ({ code }) => {
        throw new Error(`consuming failed: ${messageOf(code)}`)
      })
      if (batch.length > 0) lastProgress = performance.now()
      take(batch)
      await Bun.sleep(batch.length > 0 ? 0 : WAIT_MS)
    }
  })()
  const value = Buffer.alloc(VALUE_BYTES, '.')
  while (sent < messages && !stalled()) {
    if (sent - Math.min(consumed.records, reported.records) > MAX_BEHIND_RECORDS - BURST_RECORDS) {
      await Bun.sleep(WAIT_MS)
      continue
    }
    for (const end = Math.min(messages, sent + BURST_RECORDS); sent < end; sent++) {
      value.writeDoubleLE(sent)
      const headers = { names: ['ce_type', 'number'], values: ['soak.record', Buffer.from(String(sent))] }
      records.packer.add({ topic, key: `key-${sent % KEYS}`, value, headers }, sent)
    }
    records.flush()
    await new Promise((resolve) => setImmediate(resolve))
  }
  await consuming
  while (reported.records < sent && !stalled()) await Bun.sleep(WAIT_MS)
  const seconds = (performance.now() - begun) / 1000
  progress(consumed.records, true)
  await promised((done) => consumer.disconnect((error) => done(error)))
  records.close()
  await promised((done) => producer.disconnect((error) => done(error)))

  const found = faults(messages, reported, consumed, samples, failedDeliveries)
  const tenths = [10, 20, 30, 40, 50, 60, 70, 80, 90, 100].map((percent) => {
    const sample = samples.find((one) => one.percent >= percent)
    return `  ${String(percent).padStart(3)} %  ${sample === undefined ? 'not reached' : mebibytes(sample.residentBytes)}`
  })
  process.stdout.write(
    [
      `${consumed.records} records of ${VALUE_BYTES} B produced, reported and consumed in ${seconds.toFixed(1)} s: ${Math.round(consumed.records / seconds)} records/s`,
      `broker: ${broker.description}`,
      'resident memory after',
      ...tenths,
      `growth of the last half: ${mebibytes(growthBytes(samples))}, allowed: ${mebibytes(MAX_GROWTH_BYTES)}`,
      ...found.map((fault) => `FAULT: ${fault}`),
      found.length === 0 ? 'good' : 'failed',
      '',
    ].join('\n'),
  )
  return found.length === 0 ? 0 : 1
}

/** The record's number, which is in its value and its header. Throws when key, value or headers are not what was sent. */
function numberOf({ key, value, headers, partition, offset }: IncomingRecord): number {
  const number = value?.readDoubleLE(0) ?? Number.NaN
  const good =
    value?.length === VALUE_BYTES &&
    String(key) === `key-${number % KEYS}` &&
    String(headers.names) === 'ce_type,number' &&
    String(headers.values) === `soak.record,${number}`
  if (!good) throw new Error(`the record at offset ${offset} of partition ${partition} is not what was sent`)
  return number
}

async function openProducer(brokers: string): Promise<Producer> {
  const producer = new (native().Producer)({
    'metadata.broker.list': brokers,
    'enable.idempotence': true,
    'linger.ms': 5,
    'compression.codec': 'lz4',
    dr_cb: true,
  })
  await promised((done) => producer.connect({ timeout: CONNECT_TIMEOUT_MS }, (error) => done(error)))
  producer.setPollInBackground(true)
  return producer
}

async function openConsumer(brokers: string, topic: string): Promise<Consumer> {
  const consumer = new (native().KafkaConsumer)(
    {
      'metadata.broker.list': brokers,
      'group.id': topic,
      'enable.auto.commit': false,
      'fetch.wait.max.ms': 10,
      'fetch.queue.backoff.ms': 10,
    },
    // Records that the broker has deleted must be reported as missing, not skipped.
    { 'auto.offset.reset': 'error' },
  )
  await promised((done) => consumer.connect({ timeout: CONNECT_TIMEOUT_MS }, (error) => done(error)))
  consumer.assign(Array.from({ length: PARTITIONS }, (_, partition) => ({ topic, partition, offset: 0 })))
  return consumer
}

/** How often progress is printed on a terminal, and elsewhere. */
const TERMINAL_PROGRESS_MS = 500
const PLAIN_PROGRESS_MS = 15_000

function startProgress(messages: number): (records: number, end?: boolean) => void {
  const terminal = process.stderr.isTTY === true
  const begun = performance.now()
  let shown = begun
  return (records, end = false) => {
    const now = performance.now()
    if (!end && now - shown < (terminal ? TERMINAL_PROGRESS_MS : PLAIN_PROGRESS_MS)) return
    shown = now
    const line = `soak: ${records} of ${messages}, ${Math.round(records / ((now - begun) / 1000))} records/s, ${mebibytes(residentMemoryBytes() ?? Number.NaN)}`
    process.stderr.write(terminal ? `\r\x1b[K${line}${end ? '\n' : ''}` : `${line}\n`)
  }
}

/** Below this, the samples mean nothing. */
const MIN_MESSAGES = 1_000

/** Delivery reports carry 32-bit sequence numbers. */
const MAX_MESSAGES = 2 ** 31 - 1

async function main(): Promise<number> {
  const { values } = parseCommandLine(HELP, {
    options: { messages: { type: 'string', default: '10000000' }, brokers: { type: 'string' } },
  })
  const messages = Number(values.messages)
  if (!Number.isSafeInteger(messages) || messages < MIN_MESSAGES || messages > MAX_MESSAGES)
    refuse(`--messages is a whole number from ${MIN_MESSAGES} to ${MAX_MESSAGES}`, HELP)
  const broker = values.brokers === undefined ? await startEmbedded() : await connectExternal(values.brokers)
  try {
    return await soak(messages, broker)
  } finally {
    await broker.stop()
  }
}

if (import.meta.main) process.exit(await main())
