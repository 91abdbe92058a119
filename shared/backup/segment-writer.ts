import { createHash, type Hash, randomUUID } from 'node:crypto'
import { BatchBuilder, type BatchRecord, type OpenBatch, sealBatch } from './batch.ts'
import type { Segment } from './manifest.ts'
import type { NewFile, Repository } from './repository.ts'

/** A segment gets no further batch at this size. */
const SEGMENT_BYTES = 64 * 1024 * 1024

/** So many batches are compressed or written at the same time. */
const MAX_UNDER_WAY = 4

/** Digits of Kafka's names of segments: any 64-bit offset. */
const OFFSET_DIGITS = 20

interface OpenSegment extends Pick<Segment, 'file' | 'firstOffset' | 'lastOffset' | 'records' | 'bytes'> {
  to: NewFile
  hash: Hash
}

/** Writes the records of a partition into segments, which hold batches of Kafka's format one after the other. */
export class SegmentWriter {
  readonly #builder = new BatchBuilder()
  /** The end of all that is under way. */
  #written: Promise<void> = Promise.resolve()
  /** Batches, in their order. */
  readonly #underWay: Promise<void>[] = []
  #open: OpenSegment | undefined
  /** Of the batches before the one that is gathered. */
  #bytes = 0

  /**
   * @param folder of the partition
   * @param onSegment is called with each segment once it is stored
   */
  constructor(
    readonly repository: Repository,
    readonly folder: string,
    readonly onSegment: (segment: Segment) => Promise<void>,
    readonly segmentBytes = SEGMENT_BYTES,
  ) {}

  /** Bytes of all records so far, before compression. */
  get bytes(): number {
    return this.#bytes + this.#builder.bytes
  }

  /** What goes wrong is thrown by {@link settled} or {@link finish}. */
  add(record: BatchRecord): void {
    const batch = this.#builder.add(record)
    if (batch !== undefined) this.#write(batch)
  }

  /** Waits until there is room for more. To be called between calls of {@link add}, so that memory is bounded. */
  async settled(): Promise<void> {
    while (this.#underWay.length >= MAX_UNDER_WAY) await this.#underWay[0]
  }

  /** Stores what is left. */
  async finish(): Promise<void> {
    const batch = this.#builder.take()
    if (batch !== undefined) this.#write(batch)
    await this.#written
    await this.#close()
  }

  /** Nothing of what is not stored remains. */
  async abandon(): Promise<void> {
    await this.#written.catch(() => undefined)
    await this.#open?.to.abandon()
    this.#open = undefined
  }

  #write(batch: OpenBatch): void {
    this.#bytes += batch.records.length
    const compressed = Bun.zstdCompress(batch.records)
    this.#written = this.#written.then(async () => {
      await this.#append(batch, sealBatch(batch, await compressed))
      this.#underWay.shift()
    })
    this.#underWay.push(this.#written)
    // It is thrown by whoever waits next.
    this.#written.catch(() => undefined)
  }

  async #append(batch: OpenBatch, bytes: Buffer): Promise<void> {
    this.#open ??= await this.#begin(batch.firstOffset)
    const segment = this.#open
    await segment.to.write(bytes)
    segment.hash.update(bytes)
    segment.bytes += bytes.length
    segment.records += batch.count
    segment.lastOffset = batch.lastOffset
    if (segment.bytes >= this.segmentBytes) await this.#close()
  }

  /** Each run has names of its own, so that no run can change what a manifest names. */
  async #begin(firstOffset: number): Promise<OpenSegment> {
    const file = `${this.folder}/${String(firstOffset).padStart(OFFSET_DIGITS, '0')}.${randomUUID().slice(0, 8)}.log`
    const to = await this.repository.create(file)
    return { file, firstOffset, lastOffset: firstOffset, records: 0, bytes: 0, to, hash: createHash('sha256') }
  }

  async #close(): Promise<void> {
    if (this.#open === undefined) return
    const { to, hash, ...segment } = this.#open
    await to.finish()
    this.#open = undefined
    await this.onSegment({ ...segment, sha256: hash.digest('hex') })
  }
}
