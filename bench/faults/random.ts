/** Chance that can be repeated: equal seeds give equal sequences. */
export interface Random {
  /** From 0 up to, not including, 1. */
  next(): number
  /** A whole number from `low` to `high`, both included. */
  integer(low: number, high: number): number
  chance(probability: number): boolean
  pick<T>(choices: readonly [T, ...T[]]): T
  /** An independent sequence, so that what one part of a run draws does not depend on how often another does. */
  fork(): Random
}

/** A 32-bit generator with a Weyl sequence (the construction known as mulberry32): ample for choosing what goes wrong when. */
export function createRandom(seed: number): Random {
  let state = seed >>> 0
  const bits = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return (mixed ^ (mixed >>> 14)) >>> 0
  }
  const random: Random = {
    next: () => bits() / 2 ** 32,
    integer: (low, high) => low + Math.floor(random.next() * (high - low + 1)),
    chance: (probability) => random.next() < probability,
    pick: (choices) => choices[random.integer(0, choices.length - 1)] ?? choices[0],
    fork: () => createRandom(bits()),
  }
  return random
}
