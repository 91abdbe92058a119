/**
 * What of one input partition has been done, and what is being done: an event whose identity is in here is a duplicate.
 *
 * Done identities are a window over the latest outcomes, rebuilt from `.processed` and `.dlq` when the partition is assigned. How far it
 * reaches decides how late a client may repeat an event.
 */
export class Deduplication {
  readonly #done: HashWindow
  readonly #claimed = new Set<string>()

  /** @param capacity how many outcomes are remembered; the oldest is forgotten first */
  constructor(readonly capacity: number) {
    this.#done = new HashWindow(capacity)
  }

  /** Whether the event has had its outcome. */
  isDone(identity: string): boolean {
    return this.#done.has(identity)
  }

  /** Whether the event has had its outcome, or is in hand. */
  isKnown(identity: string): boolean {
    return this.#claimed.has(identity) || this.#done.has(identity)
  }

  /** Takes an event that is neither done nor in hand; false for a duplicate. */
  claim(identity: string): boolean {
    if (this.isKnown(identity)) return false
    this.#claimed.add(identity)
    return true
  }

  /** The event has its outcome. */
  finish(identity: string): void {
    this.#claimed.delete(identity)
    this.#done.add(identity)
  }

  get size(): number {
    return this.#done.size
  }
}

// Secret to the process, so that nobody can make identities that meet on purpose.
const SEEDS = crypto.getRandomValues(new BigUint64Array(2))

// One hash at a time: written as two 64-bit numbers, read as four of 32.
const hash64 = new BigUint64Array(2)
const hash32 = new Uint32Array(hash64.buffer)

function hash(identity: string): void {
  hash64[0] = BigInt(Bun.hash.wyhash(identity, SEEDS[0]))
  hash64[1] = BigInt(Bun.hash.wyhash(identity, SEEDS[1]))
}

/** Words of 32 bits in a hash. */
const WORDS = 4

/**
 * The last so many of a sequence of texts, as 128-bit hashes: 24 to 32 bytes each. Two different texts among 100,000 meet with a chance of
 * 2^-95.
 */
export class HashWindow {
  /** Hashes in order of arrival, the oldest written over. */
  readonly #ring: Uint32Array
  /** Open addressing, linear probing: a place in the ring plus one, or 0. Twice as many cells as hashes, or more. */
  readonly #cells: Uint32Array
  readonly #mask: number
  #next = 0
  #size = 0

  constructor(readonly capacity: number) {
    this.#ring = new Uint32Array(capacity * WORDS)
    const cells = 2 ** Math.ceil(Math.log2(capacity * 2))
    this.#cells = new Uint32Array(cells)
    this.#mask = cells - 1
  }

  get size(): number {
    return this.#size
  }

  has(text: string): boolean {
    hash(text)
    return this.#cells[this.#find()] !== 0
  }

  /** Nothing changes when it is in already. */
  add(text: string): void {
    hash(text)
    if (this.#cells[this.#find()] !== 0) return
    const place = this.#next
    if (this.#size === this.capacity) this.#forget(place)
    else this.#size++
    for (let word = 0; word < WORDS; word++) this.#ring[place * WORDS + word] = hash32[word] as number
    // Looked for again: forgetting may have moved cells.
    this.#cells[this.#find()] = place + 1
    this.#next = (place + 1) % this.capacity
  }

  /** The cell of the current hash, or the empty one where it would go. */
  #find(): number {
    let cell = (hash32[0] as number) & this.#mask
    for (;;) {
      const place = this.#cells[cell] as number
      if (place === 0 || this.#holds(place - 1)) return cell
      cell = (cell + 1) & this.#mask
    }
  }

  #holds(place: number): boolean {
    const ring = this.#ring
    const at = place * WORDS
    return (
      ring[at] === hash32[0] && ring[at + 1] === hash32[1] && ring[at + 2] === hash32[2] && ring[at + 3] === hash32[3]
    )
  }

  /** Empties the place's cell, and moves up what had to go past it (Knuth, The Art of Computer Programming 3, 6.4, algorithm R). */
  #forget(place: number): void {
    const cells = this.#cells
    const home = (ofPlace: number): number => (this.#ring[ofPlace * WORDS] as number) & this.#mask
    let empty = home(place)
    while (cells[empty] !== place + 1) empty = (empty + 1) & this.#mask
    for (let cell = (empty + 1) & this.#mask; cells[cell] !== 0; cell = (cell + 1) & this.#mask) {
      const wanted = home((cells[cell] as number) - 1)
      // It may stay when its home lies between the hole and where it is, going round.
      const stays = empty <= cell ? empty < wanted && wanted <= cell : empty < wanted || wanted <= cell
      if (stays) continue
      cells[empty] = cells[cell] as number
      empty = cell
    }
    cells[empty] = 0
  }
}
