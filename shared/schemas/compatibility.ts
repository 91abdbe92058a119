import { isDeepStrictEqual } from 'node:util'
import { accepts } from './evolution/accepts.ts'
import { Containment, type Gap, nodesOf } from './evolution/containment.ts'
import { explanation, type Names, whyNotShown } from './evolution/explanation.ts'
import { type Node, Nodes } from './evolution/nodes.ts'
import { Samples } from './evolution/samples.ts'
import { OutOfWork, Work } from './evolution/work.ts'
import type { Mode } from './modes.ts'
import type { Schema } from './verdict.ts'

/**
 * Whether the versions of a schema are compatible: whether every data that is valid under the one that it was written by is valid under the one that it is
 * read by.
 *
 * A verdict of compatible is proven. One of incompatible comes with data that shows it, checked with both schemas; where neither was found, it says so.
 * Numbers are the decimals that they are written as. A validator divides them rounded for `multipleOf`: it may take one that is no multiple, and refuse a very
 * large one that is.
 */

/** Why data that one schema takes may be refused by the other. */
export interface Incompatibility {
  /** `backward`: the newer version refuses data of the older one; `forward`: the older one refuses data of the newer. */
  direction: 'backward' | 'forward'
  /** The older version that it is compared with. */
  version: number
  /** RFC 6901, into the schema that refuses: the newer for `backward`, the older for `forward`. */
  pointer: string
  /** What is not compatible and what to do about it. Without an example, why there is none. */
  detail: string
  /** Valid under the schema that it was written by, invalid under the one that it is read by. Absent: not found, so that the two may be compatible. */
  example?: { data: unknown }
}

export interface Version {
  version: number
  schema: Schema
}

/**
 * Compares a new version with the older ones, the last or all of them as the mode says.
 * @param older oldest first
 * @returns none: compatible
 */
export function checkCompatibility(mode: Mode, older: readonly Version[], newer: Schema): Incompatibility[] {
  const versions = mode.endsWith('_TRANSITIVE') ? older : older.slice(-1)
  const isBackward = mode.startsWith('BACKWARD') || mode.startsWith('FULL')
  const isForward = mode.startsWith('FORWARD') || mode.startsWith('FULL')
  return versions.flatMap(({ version, schema }) => {
    const [one, other] = [`version ${version}`, 'the new version']
    const backward = isBackward ? refusals(schema, newer, { writer: one, reader: other, isReaderNew: true }) : []
    const forward = isForward ? refusals(newer, schema, { writer: other, reader: one, isReaderNew: false }) : []
    return [
      ...backward.map((refusal) => ({ direction: 'backward' as const, version, ...refusal })),
      ...forward.map((refusal) => ({ direction: 'forward' as const, version, ...refusal })),
    ]
  })
}

type Refusal = Pick<Incompatibility, 'pointer' | 'detail' | 'example'>

/** Steps that the proof may take, that the search for each example may take, and that all searches may take. */
const PROOF_STEPS = 50_000
const SEARCH_STEPS = 15_000
const ALL_SEARCH_STEPS = 60_000
/** So many are told of. */
const MAX_REFUSALS = 20
/** Of values that are grown into whole data. */
const MAX_GROWN = 8

/** Why data that the writer takes may be refused by the reader. */
function refusals(writer: Schema, reader: Schema, names: Names): Refusal[] {
  if (writer.draft === reader.draft && isDeepStrictEqual(writer.document, reader.document)) return []
  const pair = new Pair(writer, reader)
  const gaps = pair.gaps()
  if (gaps === undefined) return [pair.undecided()]
  return told(gaps, names, pair)
}

function told(gaps: readonly Gap[], names: Names, pair: Pair): Refusal[] {
  const found = new Map<string, Refusal>()
  const depths = new Map<string, number>()
  const left = new Set<string>()
  for (const gap of gaps.toSorted((one, other) => one.trail.length - other.trail.length)) {
    const { atom, trail } = gap
    // A schema that refers to itself has the same gap at every depth.
    if (depths.getOrInsert(atom.pointer, trail.length) < trail.length) continue
    const key = JSON.stringify([atom.pointer, trail.at(-1)?.step])
    if (found.get(key)?.example !== undefined) continue
    if (!found.has(key) && found.size >= MAX_REFUSALS) {
      left.add(key)
      continue
    }
    const detail = explanation(gap, names)
    const example = pair.exampleFor(gap)
    const refusal = { pointer: atom.pointer, detail }
    if (example !== undefined) found.set(key, { ...refusal, example })
    else found.set(key, { ...refusal, detail: `${detail}; this is not shown by an example: ${whyNotShown(gap)}` })
  }
  const list: Refusal[] = [...found.values()]
  if (left.size > 0) list.push({ pointer: '', detail: `places besides these where data may be refused: ${left.size}` })
  if (list.length === 0 || list.some(({ example }) => example !== undefined)) return list
  // Data that shows it may look otherwise than at any of the places.
  const example = pair.anyExample()
  return example === undefined ? list : [{ ...(list[0] as Refusal), example }, ...list.slice(1)]
}

/** Two schemas, and what is found out about them. */
class Pair {
  readonly #arena = new Nodes()
  readonly #from: Node
  readonly #to: Node
  #left = ALL_SEARCH_STEPS

  constructor(
    private readonly writer: Schema,
    private readonly reader: Schema,
  ) {
    this.#from = this.#arena.of(writer)
    this.#to = this.#arena.of(reader)
  }

  /** @returns undefined: not found within the steps that it may take */
  gaps(): Gap[] | undefined {
    return within(PROOF_STEPS, (work) => new Containment(this.#arena, work).gaps([this.#from], this.#to))
  }

  undecided(): Refusal {
    const example = this.anyExample()
    const detail = 'the schemas are too complex to be compared'
    if (example !== undefined) return { pointer: '', detail: `${detail} part by part`, example }
    return { pointer: '', detail: `${detail}, and no example was found: they are not shown to be compatible` }
  }

  /** Grown from the place of the gap outwards. */
  exampleFor(gap: Gap): { data: unknown } | undefined {
    return this.#search((samples, work) => {
      let values: readonly unknown[] = (gap.values ?? this.#refusedAt(gap, samples, work)).slice(0, MAX_GROWN)
      for (const { nodes, step } of gap.trail.toReversed())
        values = values.flatMap((value) => samples.around(nodes, step, value)).slice(0, MAX_GROWN)
      return values
    })
  }

  /** Values at the place of a gap. */
  #refusedAt({ atom, reader, branch }: Gap, samples: Samples, work: Work): unknown[] {
    const own = [...nodesOf(branch, this.#arena), this.#arena.kinds(branch.mask)]
    const node = reader.atoms.includes(atom)
      ? this.#arena.atom(reader, atom)
      : this.#arena.add(atom.pointer, () => [atom])
    const refused = samples.of([...own, this.#arena.not(node)])
    if (atom.is !== 'opaque')
      return [...refused, ...samples.of(own).filter((one) => accepts(reader, one, work) === false)]
    // What the atom takes is not known, so that only those tell something that nothing else refuses.
    return refused.filter((one) => accepts(reader, one, work) !== false)
  }

  anyExample(): { data: unknown } | undefined {
    return (
      this.#search((samples) => samples.of([this.#from, this.#arena.not(this.#to)])) ??
      this.#search((samples) => samples.of([this.#from]))
    )
  }

  #search(candidates: (samples: Samples, work: Work) => readonly unknown[]): { data: unknown } | undefined {
    const steps = Math.min(SEARCH_STEPS, this.#left)
    if (steps <= 0) return undefined
    const work = new Work(steps)
    const found = (): { data: unknown } | undefined => {
      const data = candidates(new Samples(this.#arena, work), work).find((one) => this.#shows(one, work))
      return data === undefined ? undefined : { data }
    }
    try {
      return found()
    } catch (error) {
      if (error instanceof OutOfWork) return undefined
      throw error
    } finally {
      this.#left -= steps - work.remaining
    }
  }

  #shows(data: unknown, work: Work): boolean {
    const bytes = Buffer.byteLength(JSON.stringify(data))
    if (!this.writer.check(data, bytes) || this.reader.check(data, bytes)) return false
    // What cannot be checked in time is refused, too.
    return accepts(this.#to, data, work) !== true
  }
}

function within<T>(steps: number, call: (work: Work) => T): T | undefined {
  try {
    return call(new Work(steps))
  } catch (error) {
    if (error instanceof OutOfWork) return undefined
    throw error
  }
}
