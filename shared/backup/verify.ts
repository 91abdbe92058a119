import { createHash } from 'node:crypto'
import { BatchError, type BatchRecord, decodeBatch } from './batch.ts'
import { MANIFEST, type Manifest, type Segment, segmentsOf } from './manifest.ts'
import type { Repository } from './repository.ts'
import { batchesIn } from './segment-reader.ts'

/** What is wrong with a segment. */
export interface Fault {
  file: string
  topic: string
  partition: number
  /** Records with these offsets, both included, cannot be read or relied on. */
  from: number
  to: number
  reason: string
}

export interface Verified {
  faults: Fault[]
  /** Files that the manifest does not name. */
  unnamed: string[]
  segments: number
  records: number
  /** Of files. */
  bytes: number
}

/** Of all files. */
export const segmentBytes = (manifest: Manifest): number =>
  segmentsOf(manifest).reduce((sum, { segment }) => sum + segment.bytes, 0)

/**
 * Reads everything that the manifest names: sizes and SHA-256 of files, checksums of batches, and every record.
 * @param onProgress of the bytes of all files
 */
export async function verify(
  repository: Repository,
  manifest: Manifest,
  onProgress: (bytes: number) => void,
): Promise<Verified> {
  const all = [...segmentsOf(manifest)]
  const verified: Verified = { faults: [], unnamed: [], segments: 0, records: 0, bytes: 0 }
  let before = 0
  for (const { topic, partition, segment } of all) {
    const faults = await faultsOf(repository, segment, (bytes) => onProgress(before + bytes))
    verified.faults.push(...faults.map((fault) => ({ file: segment.file, topic, partition, ...fault })))
    before += segment.bytes
    verified.segments++
    if (faults.length > 0) continue
    verified.records += segment.records
    verified.bytes += segment.bytes
  }
  const named = new Set(all.map(({ segment }) => segment.file))
  verified.unnamed = (await repository.list('topics')).filter((file) => !named.has(file))
  return verified
}

type SegmentFault = Pick<Fault, 'from' | 'to' | 'reason'>

async function faultsOf(
  repository: Repository,
  segment: Segment,
  onProgress: (bytes: number) => void,
): Promise<SegmentFault[]> {
  const { file, firstOffset, lastOffset } = segment
  const size = await repository.size(file)
  if (size === undefined) return [{ from: firstOffset, to: lastOffset, reason: 'the file is missing' }]
  const hash = createHash('sha256')
  let read = 0
  async function* parts(): AsyncGenerator<Buffer, void, void> {
    for await (const part of repository.read(file)) {
      hash.update(part)
      read += part.length
      onProgress(Math.min(read, segment.bytes))
      yield part
    }
  }
  const faults: SegmentFault[] = []
  const reading = parts()
  let records = 0
  /** The next record has this offset or a higher one. */
  let next = firstOffset
  let position = 0
  try {
    // Not ended with the loop: what is left is read for the checksum.
    for await (const batch of batchesIn(keptOpen(reading), size)) {
      position = batch.position + batch.bytes.length
      const checked = recordsOf(batch.bytes)
      if (typeof checked === 'string') {
        const to = lastOf(batch.bytes, next, lastOffset)
        faults.push({ from: next, to, reason: `the batch at byte ${batch.position} is damaged: ${checked}` })
        next = to + 1
        continue
      }
      const first = checked[0]?.offset ?? -1
      const last = checked.at(-1)?.offset ?? -1
      if (first < next || last > lastOffset)
        faults.push({
          from: next,
          to: lastOffset,
          reason: `the batch at byte ${batch.position} is of offsets ${first} to ${last}, which do not belong there`,
        })
      records += checked.length
      next = Math.max(next, last + 1)
    }
  } catch (error) {
    if (!(error instanceof BatchError)) throw error
    faults.push({ from: next, to: lastOffset, reason: `the batch at byte ${position} is damaged: ${error.message}` })
  }
  for await (const _ of reading);
  if (size < segment.bytes) {
    // One sentence for what is one fault.
    const last = next <= lastOffset ? faults.find(({ to }) => to === lastOffset) : undefined
    const reason = `the file is truncated: it has ${size} of ${segment.bytes} bytes`
    if (last === undefined) faults.push({ from: next, to: lastOffset, reason })
    else last.reason = reason
  } else if (size > segment.bytes)
    faults.push({
      from: firstOffset,
      to: lastOffset,
      reason: `the file has ${size} bytes in place of ${segment.bytes}`,
    })
  else if (faults.length === 0 && hash.digest('hex') !== segment.sha256)
    faults.push({
      from: firstOffset,
      to: lastOffset,
      reason:
        'the SHA-256 of the file is wrong, though its batches can be read: a part that they do not check has changed',
    })
  else if (faults.length === 0 && records !== segment.records)
    faults.push({
      from: firstOffset,
      to: lastOffset,
      reason: `it has ${records} records in place of ${segment.records}`,
    })
  return faults
}

/** The same values, from a generator that goes on when its reader ends early. */
const keptOpen = (generator: AsyncGenerator<Buffer, void, void>): AsyncIterable<Buffer> => ({
  [Symbol.asyncIterator]: () => ({ next: () => generator.next() }),
})

/** @returns why the batch cannot be read */
function recordsOf(bytes: Buffer): BatchRecord[] | string {
  try {
    return decodeBatch(bytes)
  } catch (error) {
    if (!(error instanceof BatchError)) throw error
    return error.message
  }
}

/** The last offset of a damaged batch, where its head says one that can be. */
function lastOf(bytes: Buffer, next: number, lastOffset: number): number {
  const stated = Number(bytes.readBigInt64BE(0)) + bytes.readInt32BE(23)
  return stated >= next && stated <= lastOffset ? stated : lastOffset
}

/** The manifest is what a reader begins with, so it is named first. */
export const NO_MANIFEST = `there is no ${MANIFEST}: it is no backup, or none was ever completed`
