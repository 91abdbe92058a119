import { nativeOf } from './addon.ts'
import { type Consumer, type LibrdKafkaError, libraryError, type Producer, transactions } from './client.ts'
import type { CommittedOffset, Membership } from './types.ts'

/**
 * Offsets in a transaction, under the membership in which their records were read: native/shim/transactions.cc. The client's own call takes the
 * membership of the moment at each attempt, and a broker refuses what is of another one only (KIP-447).
 */

/**
 * The consumer's membership at this moment; null while it has none. A broker takes offsets without a generation from anybody, so that there is
 * no metadata for that. Asks librdkafka's thread, no broker.
 */
export const groupMetadata = (consumer: Consumer): Membership | null =>
  (transactions().groupMetadata(nativeOf(consumer)) as Membership | undefined) ?? null

/**
 * Adds offsets to the producer's open transaction, under exactly this membership. `done` is told what the client's own call would tell:
 * illegal generation or unknown member id, with `isTxnRequiresAbort`, when the membership is over.
 * @throws TypeError at once for what is no group metadata
 */
export function sendOffsetsToTransaction(
  producer: Producer,
  offsets: readonly CommittedOffset[],
  metadata: Membership,
  timeoutMs: number,
  done: (error: LibrdKafkaError | null) => void,
): void {
  transactions().sendOffsets(nativeOf(producer), offsets, metadata, timeoutMs, (fault) =>
    done(fault === null ? null : libraryError(fault)),
  )
}
