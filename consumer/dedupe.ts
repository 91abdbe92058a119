import { HASH_WORDS, hashOf } from '../shared/kafka/identity-hash.ts'

/**
 * The identities of a partition's events that are done or being processed: another record with one of them is a duplicate.
 *
 * Done identities are a window over the latest outcomes, rebuilt from `.processed` and `.dlq` when the partition is assigned. Its size decides how late
 * a client may send an event again.
 */
export class Deduplication {
  readonly #done: HashWindow
  /** By {@link textOf} of the hash. */
  readonly #claimed = new Set<string>()

  /** @param capacity how many outcomes are remembered; the oldest is forgotten first */
  constructor(readonly capacity: number) {
    this.#done = new HashWindow(capacity)
  }

  /** Whether the event has had its outcome. */
  isDone(identity: string): boolean {
    return this.#done.has(hashOf(identity))
  }

  /** Claims an event for processing; false for a duplicate. I2: nothing is written for a duplicate. */
  claim(identity: string): boolean {
    return this.claimHash(hashOf(identity))
  }

  /** {@link claim} by the hash of the event's identity. */
  claimHash(hash: Uint32Array): boolean {
    const text = textOf(hash)
    if (this.#claimed.has(text) || this.#done.has(hash)) return false
    this.#claimed.add(text)
    return true
  }

  /** {@link claim} and {@link finish} of an event that is processed at once; false, without an effect, for a duplicate. */
  finishNew(hash: Uint32Array): boolean {
    if (this.#claimed.size > 0 && this.#claimed.has(textOf(hash))) return false
    return this.#done.addNew(hash)
  }

  /** Whether the event's outcome is a dead letter. */
  isDead(identity: string): boolean {
    return this.#done.isMarked(hashOf(identity))
  }

  /** The event has its outcome, or a new one in place of that. */
  finish(identity: string, isDead: boolean): void {
    this.finishHash(hashOf(identity), isDead)
  }

  /** {@link finish} by the hash of the event's identity. */
  finishHash(hash: Uint32Array, isDead: boolean): void {
    this.#claimed.delete(textOf(hash))
    this.#done.add(hash, isDead)
  }

  /** {@link finish} of an event that was not claimed, by the hash of its identity. */
  addDone(hash: Uint32Array, isDead: boolean): void {
    this.#done.add(hash, isDead)
  }

  /** {@link isDone} by the hash of the event's identity. */
  hasDone(hash: Uint32Array): boolean {
    return this.#done.has(hash)
  }

  get size(): number {
    return this.#done.size
  }
}

/** A hash as a key of a set. */
const textOf = ([a = 0, b = 0, c = 0, d = 0]: Uint32Array): string =>
  String.fromCharCode(a & 0xffff, a >>> 16, b & 0xffff, b >>> 16, c & 0xffff, c >>> 16, d & 0xffff, d >>> 16)

/** The word of a hash with the mark, in its lowest bit. */
const MARKED_WORD = HASH_WORDS - 1
const MARK = 1

/** Initial capacity; doubled as needed. */
const FIRST_PLACES = 64

/**
 * The last `capacity` identities of a sequence, each with a mark, as 127-bit hashes; 24 to 32 bytes each when full. The chance of a collision among
 * 100,000 is 2^-94.
 */
export class HashWindow {
  /** Hashes in order of arrival; the oldest are overwritten. */
  #ring: Uint32Array
  /** A hash table with linear probing, of places in the ring plus one; 0 is empty. At least twice as many cells as places. */
  #cells: Uint32Array
  #mask: number
  #next = 0
  #size = 0

  constructor(readonly capacity: number) {
    const places = Math.min(capacity, FIRST_PLACES)
    this.#ring = new Uint32Array(places * HASH_WORDS)
    this.#cells = cellsFor(places)
    this.#mask = this.#cells.length - 1
  }

  get size(): number {
    return this.#size
  }

  has(hash: Uint32Array): boolean {
    return this.#cells[this.#find(hash)] !== 0
  }

  /** Its index in order of arrival, until the oldest are overwritten; undefined when it is not in. */
  placeOf(hash: Uint32Array): number | undefined {
    const place = this.#cells[this.#find(hash)] as number
    return place === 0 ? undefined : place - 1
  }

  /** Whether it was last added with a mark. */
  isMarked(hash: Uint32Array): boolean {
    const place = this.placeOf(hash)
    return place !== undefined && ((this.#ring[place * HASH_WORDS + MARKED_WORD] as number) & MARK) !== 0
  }

  /** Adding a hash again only sets its mark. */
  add(hash: Uint32Array, marked = false): void {
    this.#mark(this.placeOf(hash) ?? this.#make(hash), marked)
  }

  /** Adds a hash that is not in, without a mark; false when it is in. */
  addNew(hash: Uint32Array): boolean {
    if (this.has(hash)) return false
    this.#mark(this.#make(hash), false)
    return true
  }

  #mark(place: number, marked: boolean): void {
    const at = place * HASH_WORDS + MARKED_WORD
    this.#ring[at] = marked ? (this.#ring[at] as number) | MARK : (this.#ring[at] as number) & ~MARK
  }

  /** @returns its new place */
  #make(hash: Uint32Array): number {
    const place = this.#next
    if (this.#size === this.capacity) this.#forget(place)
    else if (++this.#size * HASH_WORDS > this.#ring.length) this.#grow()
    for (let word = 0; word < HASH_WORDS; word++) this.#ring[place * HASH_WORDS + word] = hash[word] as number
    // Searched again, since forgetting and growing move cells.
    this.#cells[this.#find(hash)] = place + 1
    this.#next = (place + 1) % this.capacity
    return place
  }

  /** Only before any place was overwritten. */
  #grow(): void {
    const places = this.#ring.length / HASH_WORDS
    const grown = new Uint32Array(Math.min(this.capacity, places * 2) * HASH_WORDS)
    grown.set(this.#ring)
    this.#ring = grown
    this.#cells = cellsFor(grown.length / HASH_WORDS)
    this.#mask = this.#cells.length - 1
    for (let place = 0; place < places; place++) {
      let cell = this.#home(place)
      while (this.#cells[cell] !== 0) cell = (cell + 1) & this.#mask
      this.#cells[cell] = place + 1
    }
  }

  /** The cell of the hash, or the empty one where it would go. */
  #find(hash: Uint32Array): number {
    let cell = (hash[0] as number) & this.#mask
    for (;;) {
      const place = this.#cells[cell] as number
      if (place === 0 || this.#holds(place - 1, hash)) return cell
      cell = (cell + 1) & this.#mask
    }
  }

  #holds(place: number, hash: Uint32Array): boolean {
    const ring = this.#ring
    const at = place * HASH_WORDS
    return (
      ring[at] === hash[0] &&
      ring[at + 1] === hash[1] &&
      ring[at + 2] === hash[2] &&
      (((ring[at + 3] as number) ^ (hash[3] as number)) & ~MARK) === 0
    )
  }

  #home(place: number): number {
    return (this.#ring[place * HASH_WORDS] as number) & this.#mask
  }

  /** Deletes the place's cell and closes the gap (Knuth, The Art of Computer Programming 3, 6.4, algorithm R). */
  #forget(place: number): void {
    const cells = this.#cells
    let empty = this.#home(place)
    while (cells[empty] !== place + 1) empty = (empty + 1) & this.#mask
    for (let cell = (empty + 1) & this.#mask; cells[cell] !== 0; cell = (cell + 1) & this.#mask) {
      const wanted = this.#home((cells[cell] as number) - 1)
      // A cell stays if its home is cyclically between the gap and itself.
      const stays = empty <= cell ? empty < wanted && wanted <= cell : empty < wanted || wanted <= cell
      if (stays) continue
      cells[empty] = cells[cell] as number
      empty = cell
    }
    cells[empty] = 0
  }
}

const cellsFor = (places: number): Uint32Array => new Uint32Array(2 ** Math.ceil(Math.log2(Math.max(1, places) * 2)))
