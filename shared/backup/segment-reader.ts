import { BatchError, batchBytes, HEAD_BYTES } from './batch.ts'

/** A batch in a segment's file. */
export interface PlacedBatch {
  /** Of its first byte in the file. */
  position: number
  bytes: Buffer
}

/**
 * The batches of a segment, one after the other, in the memory of one.
 * @param size of the file: a batch that would be longer is damaged
 * @throws BatchError where the file does not go on with a batch; `position` says where
 */
export async function* batchesIn(parts: AsyncIterable<Buffer>, size: number): AsyncGenerator<PlacedBatch, void, void> {
  const waiting: Buffer[] = []
  let length = 0
  let position = 0
  let wanted = HEAD_BYTES
  for await (const part of parts) {
    waiting.push(part)
    length += part.length
    while (length >= wanted) {
      const bytes = waiting.length === 1 ? (waiting[0] as Buffer) : Buffer.concat(waiting)
      const whole = batchBytes(bytes)
      if (position + whole > size) throw new BatchError(`its length, ${whole} bytes, is beyond the end of the file`)
      if (length < whole) {
        waiting.splice(0, waiting.length, bytes)
        wanted = whole
        break
      }
      yield { position, bytes: bytes.subarray(0, whole) }
      position += whole
      length -= whole
      waiting.splice(0, waiting.length, ...(length > 0 ? [bytes.subarray(whole)] : []))
      wanted = HEAD_BYTES
    }
  }
  if (length > 0) throw new BatchError(`the file ends in it, after ${length} bytes`)
}
