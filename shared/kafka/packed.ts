import type { HeaderValue, RecordHeaders } from '../events/headers.ts'
import * as headerNames from '../events/headers.ts'
import { type IncomingRecord, mostRecordBytes, type OutgoingRecord } from '../events/record.ts'
import { type Consumer, nativeOf, type PackedAddon, type Producer } from './addon.ts'
import { HASH_WORDS, hashOf, SEEDS } from './identity-hash.ts'

/**
 * Records and delivery reports in batches of one buffer. The client's own interface passes them one by one and calls JavaScript several times for
 * each header. native/shim/packed.cc is the other side and describes the formats.
 */

/** Header names that are passed as numbers; others are passed as strings. */
const NAMES: readonly string[] = [
  ...['specversion', 'id', 'source', 'type', 'subject', 'time', 'dataschema', 'partitionkey'].map(
    (attribute) => headerNames.ATTRIBUTE_PREFIX + attribute,
  ),
  headerNames.CONTENT_TYPE,
  headerNames.TRACEPARENT,
  headerNames.TRACESTATE,
  headerNames.TENANT,
  headerNames.RECEIVED_AT,
  headerNames.CONTEXT,
  headerNames.ATTEMPT,
  headerNames.NOT_BEFORE,
  headerNames.ERROR,
  headerNames.ORIGIN,
  headerNames.TRANSACTION,
]
const PLACES = new Map(NAMES.map((name, place) => [name, place]))

/** Must be called once, before anything else here. */
export function declareNames(addon: PackedAddon): void {
  addon.names(NAMES)
}

/** The version of the formats, as in `native/shim/packed.cc`. */
export const FORMAT = 1

/** @throws Error for a buffer of an addon that was built from other sources */
function demandFormat(format: number | undefined): void {
  if (format !== FORMAT)
    throw new Error(
      `the Kafka client's native addon packs in format ${format}, and format ${FORMAT} is read here: run \`bun shared/kafka/native/build.ts\``,
    )
}

// ---- outgoing

/** For the version of the format. */
const OUTGOING_HEAD_BYTES = 4
const RECORD_INTS = 7
const HEADER_INTS = 2
const FIRST_BUFFER_BYTES = 64 * 1024
/** A larger buffer is replaced when it is empty. */
const KEPT_BUFFER_BYTES = 4 * 1024 * 1024

/** Packs outgoing records into a buffer that is reused. */
export class Packer {
  readonly #addon: Pick<PackedAddon, 'topic'>
  readonly #topics = new Map<string, number>()
  #bytes = Buffer.allocUnsafeSlow(FIRST_BUFFER_BYTES)
  #ints = new Int32Array(this.#bytes.buffer)
  #length = OUTGOING_HEAD_BYTES

  constructor(addon: Pick<PackedAddon, 'topic'>) {
    this.#addon = addon
    this.#ints[0] = FORMAT
  }

  get isEmpty(): boolean {
    return this.#length === OUTGOING_HEAD_BYTES
  }

  /** The packed records. Valid until the next call of {@link add} or {@link clear}. */
  get packed(): { bytes: Buffer; length: number } {
    return { bytes: this.#bytes, length: this.#length }
  }

  clear(): void {
    this.#length = OUTGOING_HEAD_BYTES
    if (this.#bytes.length > KEPT_BUFFER_BYTES) this.#grow(FIRST_BUFFER_BYTES)
  }

  add(record: OutgoingRecord, sequence: number): void {
    const { names, values } = record.headers
    const count = values.length
    const head = (RECORD_INTS + count * HEADER_INTS) * 4
    this.#reserve(head + mostRecordBytes(record))
    const ints = this.#ints
    const start = this.#length
    let at = start >> 2
    at++
    ints[at++] = sequence
    ints[at++] = this.#topic(record.topic)
    ints[at++] = record.partition ?? -1
    const lengths = at
    at += 2
    ints[at++] = count
    // Nearly all strings are ASCII and are written in one call. Otherwise they are written again, one by one.
    let end = this.#addAscii(record, start + head, at, lengths)
    if (end === undefined) end = this.#addText(record, start + head, at, lengths)
    for (let index = 0; index < count; index++) {
      const place = PLACES.get(names[index] as string)
      if (place !== undefined) ints[at + index * HEADER_INTS] = place
    }
    const { value } = record
    if (value === null) ints[lengths + 1] = -1
    else {
      this.#bytes.set(value, end)
      end += value.length
      ints[lengths + 1] = value.length
    }
    ints[start >> 2] = end - start
    this.#length = (end + 3) & ~3
  }

  /** @returns where the strings end; undefined when they are not all ASCII */
  #addAscii(record: OutgoingRecord, from: number, headers: number, lengths: number): number | undefined {
    const ints = this.#ints
    const { key } = record
    const { names, values } = record.headers
    let at = from
    let text = ''
    if (typeof key === 'string') {
      text = key
      ints[lengths] = key.length
    } else if (key === null) ints[lengths] = -1
    else {
      ints[lengths] = key.length
      this.#bytes.set(key, at)
      at += key.length
    }
    for (let index = 0; index < values.length; index++) {
      const value = values[index] as HeaderValue
      if (typeof value !== 'string') return undefined
      const name = names[index] as string
      if (!PLACES.has(name)) {
        ints[headers + index * HEADER_INTS] = ~name.length
        text += name
      }
      ints[headers + index * HEADER_INTS + 1] = value.length
      text += value
    }
    const written = this.#bytes.write(text, at)
    return written === text.length ? at + written : undefined
  }

  #addText(record: OutgoingRecord, from: number, headers: number, lengths: number): number {
    const ints = this.#ints
    const bytes = this.#bytes
    const { names, values } = record.headers
    let at = from
    const put = (value: HeaderValue): number => {
      if (value === null) return -1
      const length = typeof value === 'string' ? bytes.write(value, at) : value.length
      if (typeof value !== 'string') bytes.set(value, at)
      at += length
      return length
    }
    ints[lengths] = put(record.key)
    for (let index = 0; index < values.length; index++) {
      const name = names[index] as string
      if (!PLACES.has(name)) ints[headers + index * HEADER_INTS] = ~put(name)
      ints[headers + index * HEADER_INTS + 1] = put(values[index] as HeaderValue)
    }
    return at
  }

  #topic(name: string): number {
    let number = this.#topics.get(name)
    if (number === undefined) {
      number = this.#addon.topic(name)
      this.#topics.set(name, number)
    }
    return number
  }

  #reserve(more: number): void {
    if (this.#length + more > this.#bytes.length) this.#grow(Math.max(this.#bytes.length * 2, this.#length + more))
  }

  #grow(length: number): void {
    const grown = Buffer.allocUnsafeSlow((length + 3) & ~3)
    this.#bytes.copy(grown, 0, 0, this.#length)
    this.#bytes = grown
    this.#ints = new Int32Array(grown.buffer)
  }
}

// ---- reports

const REPORT_BYTES = 32
const REPORTS_A_CALL = 1_024

/** A delivery report. */
export interface Report {
  sequence: number
  /** librdkafka's code; 0: stored. */
  code: number
  partition: number
  offset: number
  timestampMs: number
}

/** In place of the partition: librdkafka did not accept the record. */
const NOT_QUEUED = -2

export const isNotQueued = (report: Report): boolean => report.partition === NOT_QUEUED

/** A producer of packed records. */
export interface PackedProducer {
  readonly packer: Packer
  /** Passes the packed records to librdkafka. Those that it refuses are reported, too. */
  flush(): void
  /** Takes the available reports. */
  take(): void
  /** To be called before the client is disconnected. After it only {@link take} delivers reports. */
  close(): void
}

/**
 * @param onReport is called with each report, whose object is reused for the next one
 * @param errorsOnly omits the reports of stored records
 */
export function packProducer(
  addon: PackedAddon,
  client: Producer,
  onReport: (report: Readonly<Report>) => void,
  errorsOnly = false,
): PackedProducer {
  const packer = new Packer(addon)
  const reports = Buffer.allocUnsafeSlow(REPORTS_A_CALL * REPORT_BYTES)
  const ints = new Int32Array(reports.buffer)
  const doubles = new Float64Array(reports.buffer)
  const report: Report = { sequence: 0, code: 0, partition: 0, offset: 0, timestampMs: 0 }
  const take = (): void => {
    for (;;) {
      const count = addon.reports(number, reports)
      if (count > 0) demandFormat(ints[3])
      for (let index = 0; index < count; index++) {
        report.sequence = ints[index * 8] as number
        report.code = ints[index * 8 + 1] as number
        report.partition = ints[index * 8 + 2] as number
        report.offset = doubles[index * 4 + 2] as number
        report.timestampMs = doubles[index * 4 + 3] as number
        onReport(report)
      }
      if (count < REPORTS_A_CALL) return
    }
  }
  const number = addon.openProducer(nativeOf(client), take, errorsOnly)
  return {
    packer,
    flush() {
      const { bytes, length } = packer.packed
      if (!packer.isEmpty) addon.produce(number, bytes, length)
      packer.clear()
    },
    take,
    close: () => addon.closeProducer(number),
  }
}

// ---- incoming

/** The version of the format, and padding. */
const INCOMING_HEAD_BYTES = 8
const INCOMING_BYTES = 48
const INCOMING_HEADER_INTS = 3

/** The encoding of a header's value. */
const TEXT = { ascii: 0, utf8: 1, bytes: 2 } as const

/** An event between records, such as the end of a partition, or an error: librdkafka's code and the position. */
export interface Interruption {
  code: number
  topic: string | undefined
  partition: number
  offset: number
}

/** Returns the available records without waiting. */
export function consumePacked(
  addon: PackedAddon,
  client: Consumer,
  maxRecords: number,
  onInterruption: (interruption: Interruption) => void,
): IncomingRecord[] {
  const bytes = addon.consume(nativeOf(client), maxRecords, undefined)
  return bytes === undefined ? [] : unpack(bytes, (number) => topicOf(addon, number), onInterruption)
}

const SEED_BYTES = Buffer.from(SEEDS.buffer)

/**
 * Like {@link consumePacked}, for the identities of records.
 * @param identityOf is called only for records whose identity the addon leaves to JavaScript
 * @param onIdentity is called for each record; the hash is valid until it returns
 * @returns the number of records
 */
export function consumeIdentities(
  addon: PackedAddon,
  client: Consumer,
  maxRecords: number,
  identityOf: (record: IncomingRecord) => string,
  onIdentity: (topic: string, partition: number, offset: number, timestampMs: number, hash: Uint32Array) => void,
  onInterruption: (interruption: Interruption) => void,
): number {
  const bytes = addon.consume(nativeOf(client), maxRecords, SEED_BYTES)
  if (bytes === undefined) return 0
  let count = 0
  eachRecord(
    bytes,
    (number) => topicOf(addon, number),
    (record, hash) => {
      count++
      const { topic, partition, offset, timestampMs } = record
      onIdentity(topic, partition, offset, timestampMs, hash ?? hashOf(identityOf(record)))
    },
    onInterruption,
  )
  return count
}

const topics: string[] = []

function topicOf(addon: PackedAddon, number: number): string {
  let topic = topics[number]
  if (topic === undefined) {
    topic = addon.topic(number)
    topics[number] = topic
  }
  return topic
}

/** The records in a buffer; they keep referring to it. */
export function unpack(
  bytes: Buffer,
  topicOf: (number: number) => string,
  onInterruption: (interruption: Interruption) => void,
): IncomingRecord[] {
  const records: IncomingRecord[] = []
  eachRecord(bytes, topicOf, (record) => records.push(record), onInterruption)
  return records
}

/** @param onRecord gets the hash of the identity, valid until it returns, when the buffer has nothing else of the record */
function eachRecord(
  bytes: Buffer,
  topicOf: (number: number) => string,
  onRecord: (record: IncomingRecord, hash: Uint32Array | undefined) => void,
  onInterruption: (interruption: Interruption) => void,
): void {
  const batch: Batch = { bytes, ints: new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2) }
  const doubles = new Float64Array(bytes.buffer, bytes.byteOffset, bytes.length >> 3)
  demandFormat(batch.ints[0])
  for (let at = INCOMING_HEAD_BYTES; at < bytes.length; ) {
    const int = at >> 2
    const code = batch.ints[int + 1] as number
    const number = batch.ints[int + 2] as number
    const partition = batch.ints[int + 3] as number
    const offset = doubles[(at >> 3) + 2] as number
    if (code === 0) {
      const record = new PackedRecord(topicOf(number), partition, offset, doubles[(at >> 3) + 3] as number, batch, at)
      const isIdentity = batch.ints[int + 10] === IDENTITY_ONLY
      if (isIdentity)
        for (let word = 0; word < HASH_WORDS; word++) hash[word] = batch.ints[int + HEAD_INTS + word] as number
      onRecord(record, isIdentity ? hash : undefined)
    } else onInterruption({ code, topic: number < 0 ? undefined : topicOf(number), partition, offset })
    at += batch.ints[int] as number
  }
}

/** In place of the number of headers. */
const IDENTITY_ONLY = -1
const HEAD_INTS = INCOMING_BYTES / 4
const hash = new Uint32Array(HASH_WORDS)

interface Batch {
  bytes: Buffer
  ints: Int32Array
}

/** A record that is decoded on access. */
class PackedRecord implements IncomingRecord {
  private cachedHeaders: RecordHeaders | undefined

  constructor(
    readonly topic: string,
    readonly partition: number,
    readonly offset: number,
    readonly timestampMs: number,
    private readonly batch: Batch,
    private readonly at: number,
  ) {}

  get bytes(): number {
    return this.int(0)
  }

  get key(): Buffer | null {
    const length = this.int(8)
    if (length < 0) return null
    const from = this.at + INCOMING_BYTES + this.int(10) * INCOMING_HEADER_INTS * 4
    return this.batch.bytes.subarray(from, from + length)
  }

  get value(): Buffer | null {
    const length = this.int(9)
    if (length < 0) return null
    const from = this.at + this.int(11)
    return this.batch.bytes.subarray(from, from + length)
  }

  get headers(): RecordHeaders {
    this.cachedHeaders ??= this.readHeaders()
    return this.cachedHeaders
  }

  private int(index: number): number {
    return this.batch.ints[(this.at >> 2) + index] as number
  }

  private readHeaders(): RecordHeaders {
    const { bytes, ints } = this.batch
    const count = this.int(10)
    const names: string[] = []
    const values: HeaderValue[] = []
    let entry = (this.at + INCOMING_BYTES) >> 2
    let from = this.at + INCOMING_BYTES + count * INCOMING_HEADER_INTS * 4 + Math.max(0, this.int(8))
    for (let index = 0; index < count; index++, entry += INCOMING_HEADER_INTS) {
      const name = ints[entry] as number
      if (name >= 0) names.push(NAMES[name] as string)
      else {
        names.push(bytes.toString('utf8', from, from + ~name))
        from += ~name
      }
      const length = ints[entry + 1] as number
      if (length < 0) {
        values.push(null)
        continue
      }
      const text = ints[entry + 2]
      values.push(
        text === TEXT.ascii
          ? bytes.toString('latin1', from, from + length)
          : text === TEXT.utf8
            ? bytes.toString('utf8', from, from + length)
            : bytes.subarray(from, from + length),
      )
      from += length
    }
    return { names, values }
  }
}
