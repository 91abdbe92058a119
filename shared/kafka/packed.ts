import type { HeaderValue, RecordHeaders } from '../events/headers.ts'
import * as headerNames from '../events/headers.ts'
import {
  type IncomingRecord,
  mostRecordBytes,
  type OutgoingRecord,
  type PassedRecord,
  type PlainEvent,
} from '../events/record.ts'
import { type Consumer, nativeOf, type PackedAddon, type Producer } from './addon.ts'
import { HASH_WORDS, hashOf, SEEDS } from './identity-hash.ts'
import type { RecordFilter } from './types.ts'

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
export const FORMAT = 4

/** @throws Error for a buffer of an addon that was built from other sources */
function demandFormat(format: number | undefined): void {
  if (format !== FORMAT)
    throw new Error(
      `the Kafka client's native addon packs in format ${format}, and format ${FORMAT} is read here: run \`bun shared/kafka/native/build.ts\``,
    )
}

// ---- outgoing

/** The version of the format, and the name of the common header. */
const OUTGOING_HEAD_BYTES = 8
const RECORD_INTS = 7
const HEADER_INTS = 2
/** Of a passed record without the bytes of its result, and what marks it. */
const PASSED_INTS = 12
const PASSED = -2
const FIRST_BUFFER_BYTES = 64 * 1024
const NO_NAME = -1
const NO_BYTES = -1
/** A larger buffer is replaced when it is empty. */
const KEPT_BUFFER_BYTES = 4 * 1024 * 1024

/** Of UTF-8, for a unit of UTF-16. */
const MAX_BYTES_A_UNIT = 3
const LONG_TEXT_UNITS = 16 * 1024

/** No less than a text's bytes in UTF-8; long texts are measured. */
const mostBytesOf = (text: string): number =>
  text.length > LONG_TEXT_UNITS ? Buffer.byteLength(text) : MAX_BYTES_A_UNIT * text.length

/** Packs outgoing records into a buffer that is reused. */
export class Packer {
  readonly #addon: Pick<PackedAddon, 'topic'>
  readonly #topics = new Map<string, number>()
  /** Asked for last: records of a partition follow each other. */
  #last = { topic: '', number: -1 }
  #bytes = Buffer.allocUnsafeSlow(FIRST_BUFFER_BYTES)
  #ints = new Int32Array(this.#bytes.buffer)
  #length = OUTGOING_HEAD_BYTES

  /** What records refer to by number; the first text is the value of the common header. */
  readonly #texts: string[] = []
  readonly #placeOfText = new Map<string, number>()
  readonly #batches: Buffer[] = []

  constructor(addon: Pick<PackedAddon, 'topic'>) {
    this.#addon = addon
    this.#ints[0] = FORMAT
    this.#ints[1] = NO_NAME
  }

  get isEmpty(): boolean {
    return this.#length === OUTGOING_HEAD_BYTES
  }

  /** The packed records, and what they refer to. Valid until the next call of another method. */
  get packed(): { bytes: Buffer; length: number; texts: readonly string[]; batches: readonly Buffer[] } {
    return { bytes: this.#bytes, length: this.#length, texts: this.#texts, batches: this.#batches }
  }

  clear(): void {
    this.#length = OUTGOING_HEAD_BYTES
    this.#ints[1] = NO_NAME
    this.#texts.length = 0
    this.#placeOfText.clear()
    this.#batches.length = 0
    if (this.#bytes.length > KEPT_BUFFER_BYTES) this.#grow(FIRST_BUFFER_BYTES)
  }

  /** A header of all records until the packer is cleared; to be called before any is added. */
  common(name: string, value: string): void {
    this.#ints[1] = PLACES.get(name) ?? NO_NAME
    this.#texts.push(value)
  }

  /** @throws TypeError for a record that was not unpacked from a batch */
  pass({ passed, topic, tenant, contextStart, contextEnd, result }: PassedRecord, sequence: number): void {
    if (!(passed instanceof PackedRecord)) throw new TypeError('only a record of a batch can be passed on')
    const head = PASSED_INTS * 4
    this.#reserve(head + (result === undefined ? 0 : mostBytesOf(result.data)))
    const ints = this.#ints
    let at = this.#length >> 2
    const bytes = result === undefined ? NO_BYTES : this.#bytes.write(result.data, this.#length + head)
    ints[at++] = head + Math.max(0, bytes)
    ints[at++] = sequence
    ints[at++] = this.#topic(topic)
    ints[at++] = passed.partition
    ints[at++] = PASSED
    ints[at++] = this.#batch(passed.batch.bytes)
    ints[at++] = passed.at
    ints[at++] = this.#text(tenant)
    ints[at++] = this.#text(contextStart)
    ints[at++] = this.#text(contextEnd)
    ints[at++] = result?.type === undefined ? NO_NAME : this.#text(result.type)
    ints[at++] = bytes
    this.#length = ((at << 2) + Math.max(0, bytes) + 3) & ~3
  }

  /** Records of a batch follow each other. */
  #batch(bytes: Buffer): number {
    const last = this.#batches.length - 1
    if (last >= 0 && this.#batches[last] === bytes) return last
    return this.#batches.push(bytes) - 1
  }

  #text(text: string): number {
    let place = this.#placeOfText.get(text)
    if (place === undefined) {
      place = this.#texts.push(text) - 1
      this.#placeOfText.set(text, place)
    }
    return place
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
    if (this.#last.topic === name) return this.#last.number
    let number = this.#topics.get(name)
    if (number === undefined) {
      number = this.#addon.topic(name)
      this.#topics.set(name, number)
    }
    this.#last = { topic: name, number }
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

/** The lower half of the number that has a report's format; the upper is whether a broker may have stored the record. */
const FORMAT_BITS = 0xffff

/** A delivery report. */
export interface Report {
  sequence: number
  /** librdkafka's code; 0: stored. */
  code: number
  /** Of an error: a broker may have stored it, since it was in a request. */
  mayBeStored: boolean
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
  /** Ends what librdkafka has; each record gets a report. */
  purge(): void
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
  const report: Report = { sequence: 0, code: 0, mayBeStored: false, partition: 0, offset: 0, timestampMs: 0 }
  const take = (): void => {
    for (;;) {
      const count = addon.reports(number, reports)
      if (count > 0) demandFormat((ints[3] as number) & FORMAT_BITS)
      for (let index = 0; index < count; index++) {
        report.sequence = ints[index * 8] as number
        report.code = ints[index * 8 + 1] as number
        report.mayBeStored = (ints[index * 8 + 3] as number) > FORMAT_BITS
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
      const { bytes, length, texts, batches } = packer.packed
      if (!packer.isEmpty) addon.produce(number, bytes, length, texts, batches)
      packer.clear()
    },
    take,
    purge: () => addon.purge(number),
    close: () => addon.closeProducer(number),
  }
}

// ---- incoming

/** The version of the format, and padding. */
const INCOMING_HEAD_BYTES = 8
const INCOMING_BYTES = 80
const INCOMING_HEADER_INTS = 3

/** The encoding of a header's value. */
const TEXT = { ascii: 0, utf8: 1, bytes: 2 } as const

/** In place of an error's code: the records of a partition before the offset that were not returned did not match. */
export const PASSED_OVER = -1000

/** An event between records, such as the end of a partition, or an error: librdkafka's code or {@link PASSED_OVER}, and the position. */
export interface Interruption {
  code: number
  topic: string | undefined
  partition: number
  offset: number
}

const SEED_BYTES = Buffer.from(SEEDS.buffer)

/**
 * Returns the available records without waiting.
 * @param buffers absent: each batch has a buffer of its own
 * @param filter from {@link packFilter}; absent: all records
 */
export function consumePacked(
  addon: PackedAddon,
  client: Consumer,
  maxRecords: number,
  onInterruption: (interruption: Interruption) => void,
  buffers?: BatchBuffers,
  filter?: Buffer,
): IncomingRecord[] {
  const buffer = buffers?.take()
  const filled = addon.consume(nativeOf(client), maxRecords, SEED_BYTES, false, buffer, filter)
  if (typeof filled === 'number' && buffer !== undefined) {
    buffers?.filled(filled)
    return unpack(new Batch(buffer, filled, namesOf(addon), buffers), onInterruption)
  }
  // No record is ready, or they do not fit: then the addon has made a buffer for them.
  if (buffer !== undefined) buffers?.giveBack(buffer)
  if (!Buffer.isBuffer(filled)) return []
  buffers?.filled(filled.length)
  return unpack(new Batch(filled, filled.length, namesOf(addon)), onInterruption)
}

const HOW = { equals: 0, contains: 1 } as const
const ANY_KEY = -1

/** A filter as the addon reads it. */
export function packFilter({ headers, key }: RecordFilter): Buffer {
  const ints = (...list: number[]): Buffer => Buffer.from(Int32Array.from(list).buffer)
  const conditions = headers.flatMap(({ name, value, how }) => {
    const texts = [Buffer.from(name), Buffer.from(value)] as const
    return [ints(HOW[how], texts[0].length, texts[1].length), ...texts]
  })
  return Buffer.concat([
    ints(FORMAT, key?.length ?? ANY_KEY, headers.length),
    ...(key === undefined ? [] : [key]),
    ...conditions,
  ])
}

/** A batch of 500 records of half a kilobyte fits. */
const BATCH_BUFFER_BYTES = 512 * 1024
/** Smaller batches get buffers of their own size. */
const WORTH_A_BUFFER_BYTES = 64 * 1024
const MAX_SPARE_BUFFERS = 24

/** Buffers that are used again: to allocate one for each batch would cost more than to fill it. */
export class BatchBuffers {
  readonly #spare: Buffer[] = []
  /** The last batch was large, so that the next one is likely to be. */
  #isWorthIt = false

  /** undefined: the batch is likely to be small. */
  take(): Buffer | undefined {
    if (!this.#isWorthIt) return undefined
    return this.#spare.pop() ?? Buffer.allocUnsafeSlow(BATCH_BUFFER_BYTES)
  }

  giveBack(buffer: Buffer): void {
    if (this.#isWorthIt && this.#spare.length < MAX_SPARE_BUFFERS) this.#spare.push(buffer)
  }

  /** @param bytes what the last batch took */
  filled(bytes: number): void {
    this.#isWorthIt = bytes >= WORTH_A_BUFFER_BYTES
    // After a backlog, none is needed for long.
    if (!this.#isWorthIt) this.#spare.length = 0
  }
}

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
  const bytes = addon.consume(nativeOf(client), maxRecords, SEED_BYTES, true, undefined) as Buffer | undefined
  if (bytes === undefined) return 0
  const batch = new Batch(bytes, bytes.length, namesOf(addon))
  let count = 0
  batch.each((at) => {
    count++
    const isIdentity = batch.int(at, 10) === IDENTITY_ONLY
    onIdentity(
      batch.topic(at),
      batch.int(at, 3),
      batch.double(at, 2),
      batch.double(at, 3),
      isIdentity ? batch.hash(at) : hashOf(identityOf(new PackedRecord(batch, at))),
    )
  }, onInterruption)
  return count
}

/** Topics and types of events by number. */
interface Names {
  topic(number: number): string
  type(number: number): string
}

const namesByAddon = new WeakMap<PackedAddon, Names>()

function namesOf(addon: PackedAddon): Names {
  let names = namesByAddon.get(addon)
  if (names === undefined) {
    names = { topic: remembered((number) => addon.topic(number)), type: remembered((number) => addon.type(number)) }
    namesByAddon.set(addon, names)
  }
  return names
}

function remembered(name: (number: number) => string): (number: number) => string {
  const known: string[] = []
  return (number) => (known[number] ??= name(number))
}

/** The records in a batch. They are read from it, but what was read stays as it is. */
export function unpack(batch: Batch, onInterruption: (interruption: Interruption) => void): IncomingRecord[] {
  const records: IncomingRecord[] = []
  batch.each((at) => records.push(new PackedRecord(batch, at)), onInterruption)
  batch.hold(records.length)
  return records
}

/** In place of the number of headers. */
const IDENTITY_ONLY = -1
/** Where a record's head has the hashes of its identity, and the number of its type. */
const HASH_INT = 12
const TYPE_INT = 18
const RECEIVED_DOUBLE = 8

const hash = new Uint32Array(HASH_WORDS)

/** A buffer of records. All positions are in bytes. */
export class Batch {
  /** Records that may still be read. */
  #unreleased = 0
  readonly #ints: Int32Array
  readonly #doubles: Float64Array

  /** @param buffers get the buffer back when all records are released */
  constructor(
    readonly bytes: Buffer,
    readonly length: number,
    readonly names: Names,
    readonly buffers?: BatchBuffers,
  ) {
    this.#ints = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2)
    this.#doubles = new Float64Array(bytes.buffer, bytes.byteOffset, bytes.length >> 3)
    demandFormat(this.#ints[0])
  }

  /** @param onRecord is called with the position of each record */
  each(onRecord: (at: number) => void, onInterruption: (interruption: Interruption) => void): void {
    for (let at = INCOMING_HEAD_BYTES; at < this.length; at += this.int(at, 0)) {
      const code = this.int(at, 1)
      if (code === 0) onRecord(at)
      else {
        const topic = this.int(at, 2) < 0 ? undefined : this.topic(at)
        onInterruption({ code, topic, partition: this.int(at, 3), offset: this.double(at, 2) })
      }
    }
  }

  /** So many records are going to be read. */
  hold(records: number): void {
    this.#unreleased = records
    if (records === 0) this.buffers?.giveBack(this.bytes)
  }

  /** One of them is not read any more. */
  release(): void {
    if (--this.#unreleased === 0) this.buffers?.giveBack(this.bytes)
  }

  /** A copy: its reader may keep it longer than the buffer is this batch's. */
  part(from: number, length: number): Buffer {
    return Buffer.from(this.bytes.subarray(from, from + length))
  }

  int(at: number, index: number): number {
    return this.#ints[(at >> 2) + index] as number
  }

  double(at: number, index: number): number {
    return this.#doubles[(at >> 3) + index] as number
  }

  topic(at: number): string {
    return this.names.topic(this.int(at, 2))
  }

  /** Valid until the next call. */
  hash(at: number): Uint32Array {
    for (let word = 0; word < HASH_WORDS; word++) hash[word] = this.int(at, HASH_INT + word)
    return hash
  }
}

/** A record that is decoded on access. */
class PackedRecord implements IncomingRecord, PlainEvent {
  readonly topic: string
  readonly partition: number
  readonly offset: number
  readonly timestampMs: number
  private cachedHeaders: RecordHeaders | undefined
  private cachedValue: Buffer | null | undefined

  constructor(
    readonly batch: Batch,
    readonly at: number,
  ) {
    this.topic = batch.topic(at)
    this.partition = batch.int(at, 3)
    this.offset = batch.double(at, 2)
    this.timestampMs = batch.double(at, 3)
  }

  get bytes(): number {
    return this.int(0)
  }

  release(): void {
    this.batch.release()
  }

  get plain(): PlainEvent | undefined {
    return this.int(TYPE_INT) < 0 ? undefined : this
  }

  get type(): string {
    return this.batch.names.type(this.int(TYPE_INT))
  }

  get receivedAtMs(): number | undefined {
    const atMs = this.batch.double(this.at, RECEIVED_DOUBLE)
    return atMs < 0 ? undefined : atMs
  }

  get identityHash(): Uint32Array {
    return this.batch.hash(this.at)
  }

  get key(): Buffer | null {
    const length = this.int(8)
    if (length < 0) return null
    const from = this.at + INCOMING_BYTES + this.int(10) * INCOMING_HEADER_INTS * 4
    return this.batch.part(from, length)
  }

  get value(): Buffer | null {
    this.cachedValue ??= this.readValue()
    return this.cachedValue
  }

  get headers(): RecordHeaders {
    this.cachedHeaders ??= this.readHeaders()
    return this.cachedHeaders
  }

  private int(index: number): number {
    return this.batch.int(this.at, index)
  }

  private readValue(): Buffer | null {
    const length = this.int(9)
    return length < 0 ? null : this.batch.part(this.at + this.int(11), length)
  }

  private readHeaders(): RecordHeaders {
    const { batch } = this
    const { bytes } = batch
    const count = this.int(10)
    const names: string[] = []
    const values: HeaderValue[] = []
    let entry = this.at + INCOMING_BYTES
    let from = entry + count * INCOMING_HEADER_INTS * 4 + Math.max(0, this.int(8))
    for (let index = 0; index < count; index++, entry += INCOMING_HEADER_INTS * 4) {
      const name = batch.int(entry, 0)
      if (name >= 0) names.push(NAMES[name] as string)
      else {
        names.push(bytes.toString('utf8', from, from + ~name))
        from += ~name
      }
      const length = batch.int(entry, 1)
      if (length < 0) {
        values.push(null)
        continue
      }
      const text = batch.int(entry, 2)
      values.push(
        text === TEXT.ascii
          ? bytes.toString('latin1', from, from + length)
          : text === TEXT.utf8
            ? bytes.toString('utf8', from, from + length)
            : batch.part(from, length),
      )
      from += length
    }
    return { names, values }
  }
}
