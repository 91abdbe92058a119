/**
 * Which records beyond the committed offset are done, as the offset commit's metadata. Keys are handled beside each other, so records finish
 * out of turn while an older one is open; without this they would be handled again by the partition's next owner once they have left the
 * de-duplication window.
 *
 * The format is `kt1:` and the base64 of a bitmap, lowest bit first, bit 0 being the committed offset. No bitmap when nothing is ahead. Behind it may
 * stand `;completed=` and the digest of a transaction whose outcomes were written again (hanging.ts).
 */

const PREFIX = 'kt1:'

/** Kafka takes 4,096 bytes of metadata (`offset.metadata.max.bytes`): 3,000 bytes are 4,000 characters of base64. */
const MAX_BITMAP_BYTES = 3_000
export const AHEAD_BITS = 8 * MAX_BITMAP_BYTES

const COMPLETED = ';completed='

/** How far beyond the committed offset records may be finished. A sixth is left for offsets that hold no record, such as commit marks. */
export const MAX_AHEAD_OFFSETS = 20_000

/**
 * @param committed the committed offset
 * @param done offsets beyond it that are done, rising
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

/** Whether an offset was committed by a consumer of ours: a tool that resets offsets leaves the metadata empty. */
export const isOurs = (metadata: string): boolean => metadata.startsWith(PREFIX)

/** The inverse. Metadata that is not ours, such as a tool's, says nothing. */
export function decodeAhead(committed: number, metadata: string | null | undefined): Set<number> {
  const done = new Set<number>()
  if (committed < 0 || metadata === null || metadata === undefined || !metadata.startsWith(PREFIX)) return done
  Buffer.from(metadata.slice(PREFIX.length).split(COMPLETED)[0] ?? '', 'base64').forEach((byte, index) => {
    for (let bit = 0; bit < 8; bit++) if ((byte & (1 << bit)) !== 0) done.add(committed + index * 8 + bit)
  })
  return done
}

/** 64 bits of a digest, so that the note takes a fixed part of the metadata however long transactions are named. */
const digestOf = (transaction: string): string =>
  new Bun.CryptoHasher('sha256').update(transaction).digest('hex').slice(0, 16)

/** Metadata that says, beside what it says already, that the outcomes of a transaction that hung were written again. */
export const withCompleted = (metadata: string, transaction: string): string =>
  `${metadata.split(COMPLETED)[0]}${COMPLETED}${digestOf(transaction)}`

/** Whether it says so of this transaction. */
export const isCompleted = (metadata: string, transaction: string): boolean =>
  metadata.endsWith(COMPLETED + digestOf(transaction))
