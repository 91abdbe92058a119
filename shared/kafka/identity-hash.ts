/**
 * What records are known by, as hashes: to tell their events apart takes no more, and many can be read for that at little cost. A hash stands for a
 * text, which consumer/decode.ts makes of an event; of most records native/shim/identity.cc makes the same hash without the text.
 */

/** Secret to the process, so that nobody can make identities that meet on purpose. */
export const SEEDS: BigUint64Array = crypto.getRandomValues(new BigUint64Array(2))

/** Words of 32 bits in a hash. */
export const HASH_WORDS = 4

// One at a time: written as two 64-bit numbers, read as four of 32.
const hash64 = new BigUint64Array(2)
const hash32 = new Uint32Array(hash64.buffer)

/** @returns the hash, valid until the next call */
export function hashOf(identity: string): Uint32Array {
  hash64[0] = BigInt(Bun.hash.wyhash(identity, SEEDS[0]))
  hash64[1] = BigInt(Bun.hash.wyhash(identity, SEEDS[1]))
  return hash32
}
