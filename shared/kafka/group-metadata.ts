import { nativeOf } from './addon.ts'
import { addon, type Consumer, type LibrdKafkaError, libraryError, type Producer } from './client.ts'
import type { CommittedOffset, Membership } from './types.ts'

/**
 * Offsets in a transaction, sent with the membership in which their records were read: native/shim/transactions.cc. The client's own call uses
 * the membership at the time of each attempt, so a broker cannot refuse offsets of an earlier generation (KIP-447).
 */

/**
 * The consumer's current membership; null while it is not a member. Without this null, metadata without a generation would be sent, which a
 * broker accepts from anyone. Contacts no broker.
 */
export const groupMetadata = (consumer: Consumer): Membership | null =>
  (addon().transactions.groupMetadata(nativeOf(consumer)) as Membership | undefined) ?? null

/**
 * Adds offsets to the producer's open transaction under this membership.
 * @param done gets the client's errors: ILLEGAL_GENERATION or UNKNOWN_MEMBER_ID, with `isTxnRequiresAbort`, when the membership is over
 * @throws TypeError when `metadata` is not group metadata
 */
export function sendOffsetsToTransaction(
  producer: Producer,
  offsets: readonly CommittedOffset[],
  metadata: Membership,
  timeoutMs: number,
  done: (error: LibrdKafkaError | null) => void,
): void {
  addon().transactions.sendOffsets(nativeOf(producer), offsets, metadata, timeoutMs, (fault) =>
    done(fault === null ? null : libraryError(fault)),
  )
}
