/** Reproducible random numbers: equal seeds give equal sequences. */
export interface Random {
  /** In [0, 1). */
  next(): number
  /** An integer from `low` to `high`, inclusive. */
  integer(low: number, high: number): number
  chance(probability: number): boolean
  pick<T>(choices: readonly [T, ...T[]]): T
  /** An independent sequence, so that the numbers of one part of a run do not depend on how many another part draws. */
  fork(): Random
}

/** A 32-bit generator with a Weyl sequence (known as mulberry32). Good enough to choose what fails when. */
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
