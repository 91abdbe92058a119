/**
 * Which records beyond the committed offset are done, as metadata of the offset commit. Keys are processed concurrently, so records finish out of order
 * while an older one is open. Without this, the partition's next owner would process them again once they have left the de-duplication window.
 *
 * The format is `kt1:` and a bitmap in base64, lowest bit first; bit 0 is the committed offset. There is no bitmap when no record is ahead. It may be
 * followed by `;completed=` and the digest of a hanging transaction whose outcomes were written again (hanging.ts).
 */

const PREFIX = 'kt1:'

/** Kafka's limit is 4,096 bytes of metadata (`offset.metadata.max.bytes`); 3,000 bytes are 4,000 characters of base64. */
const MAX_BITMAP_BYTES = 3_000
export const AHEAD_BITS = 8 * MAX_BITMAP_BYTES

const COMPLETED = ';completed='

/** How far beyond the committed offset records may finish. The remaining sixth is for offsets without a record, such as transaction markers. */
export const MAX_AHEAD_OFFSETS = 20_000

/**
 * @param committed the committed offset
 * @param done offsets beyond it that are done, ascending
 */
export function encodeAhead(committed: number, done: readonly number[]): string {
  const last = done.at(-1)
  if (last === undefined) return PREFIX
  const bitmap = Buffer.alloc(Math.min(MAX_BITMAP_BYTES, Math.floor((last - committed) / 8) + 1))
  for (const offset of done) {
    const bit = offset - committed
    const index = bit >> 3
    if (index < bitmap.length) bitmap[index] = (bitmap[index] ?? 0) | (1 << (bit & 7))
  }
  return PREFIX + bitmap.toString('base64')
}

/** Whether a KafkaTrace consumer committed the offset: a tool that resets offsets leaves the metadata empty. */
export const isOurs = (metadata: string): boolean => metadata.startsWith(PREFIX)

/** The inverse of {@link encodeAhead}; empty for metadata that is not ours. */
export function decodeAhead(committed: number, metadata: string): Set<number> {
  const done = new Set<number>()
  if (committed < 0 || !isOurs(metadata)) return done
  Buffer.from(metadata.slice(PREFIX.length).split(COMPLETED)[0] ?? '', 'base64').forEach((byte, index) => {
    for (let bit = 0; bit < 8; bit++) if ((byte & (1 << bit)) !== 0) done.add(committed + index * 8 + bit)
  })
  return done
}

/** 64 bits of a digest, so that the note has a fixed length. */
const digestOf = (transaction: string): string =>
  new Bun.CryptoHasher('sha256').update(transaction).digest('hex').slice(0, 16)

/** Adds a note that the outcomes of a hanging transaction were written again. */
export const withCompleted = (metadata: string, transaction: string): string =>
  `${metadata.split(COMPLETED)[0]}${COMPLETED}${digestOf(transaction)}`

/** Whether the note names this transaction. */
export const isCompleted = (metadata: string, transaction: string): boolean =>
  metadata.endsWith(COMPLETED + digestOf(transaction))
