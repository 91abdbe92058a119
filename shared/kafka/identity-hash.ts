/**
 * Hashes of the identities of events, which are enough to recognise duplicates and cheap to read. consumer/decode.ts makes the identity string;
 * for most records native/shim/identity.cc computes the same hash without it.
 */

/** Random for each process, so that clients cannot construct collisions. */
export const SEEDS: BigUint64Array = crypto.getRandomValues(new BigUint64Array(2))

/** Words of 32 bits in a hash. */
export const HASH_WORDS = 4

// Written as two 64-bit numbers, read as four of 32.
const hash64 = new BigUint64Array(2)
const hash32 = new Uint32Array(hash64.buffer)

/** @returns the hash, valid until the next call */
export function hashOf(identity: string): Uint32Array {
  hash64[0] = BigInt(Bun.hash.wyhash(identity, SEEDS[0]))
  hash64[1] = BigInt(Bun.hash.wyhash(identity, SEEDS[1]))
  return hash32
}
