import type { Event } from './event.ts'
import { eventIdentity } from './identity.ts'

/**
 * Java's `org.apache.kafka.common.utils.Utils.murmur2`, which is MurmurHash2 with a fixed seed: the hash behind the default partitioner of
 * Java's clients and librdkafka's `murmur2_random`. A signed 32-bit integer.
 */
export function murmur2(bytes: Uint8Array): number {
  const M = 0x5bd1e995
  const whole = bytes.length & ~3
  let hash = 0x9747b28c ^ bytes.length
  for (let at = 0; at < whole; at += 4) {
    // Little endian.
    let k = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24)
    k = Math.imul(k, M)
    k ^= k >>> 24
    hash = Math.imul(hash, M) ^ Math.imul(k, M)
  }
  const rest = bytes.length - whole
  if (rest >= 3) hash ^= (bytes[whole + 2] ?? 0) << 16
  if (rest >= 2) hash ^= (bytes[whole + 1] ?? 0) << 8
  if (rest >= 1) hash = Math.imul(hash ^ (bytes[whole] ?? 0), M)
  hash ^= hash >>> 13
  hash = Math.imul(hash, M)
  return (hash ^ (hash >>> 15)) | 0
}

/** As in Java: the sign bit is dropped, the number is not negated. */
export const partitionOfHash = (hash: number, partitions: number): number => (hash & 0x7fffffff) % partitions

/** The key of an event's record: the `partitionkey` extension, else the subject, else none. */
export const recordKey = (event: Event): string | null => event.extensions['partitionkey'] ?? event.subject ?? null

/** The partition of an event without a key. It is chosen by identity, since duplicates are looked for within a partition. */
export const keylessPartition = (event: Event, partitions: number): number =>
  partitionOfHash(murmur2(Buffer.from(eventIdentity(event.source, event.id), 'utf8')), partitions)
