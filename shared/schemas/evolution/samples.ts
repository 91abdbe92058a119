import { isMultiple } from '../decimals.ts'
import { acceptsAll, isSame, lengthOf } from './accepts.ts'
import {
  type Branch,
  branchesOf,
  finiteValues,
  greatestInteger,
  itemNodes,
  leastInteger,
  memberNodes,
} from './branches.ts'
import { KIND, keyOf, kindOf, type Node, type Nodes, NUMBERS } from './nodes.ts'
import { textsMatching } from './pattern-samples.ts'
import type { Work } from './work.ts'

/** A step from data to a part of it: a member, an element, or the name of a member. */
export type Step = { member: string } | { item: number } | { is: 'name' }

const MAX_SAMPLES = 6
const MAX_CANDIDATES = 60
/** How deep data is made for schemas that ask for ever deeper data. */
const MAX_DEPTH = 12
/** Deeper parts have only what they must have. */
const FULL_DEPTH = 2
const MAX_LENGTH = 10_000
const MAX_MADE_ITEMS = 200

/** Makes data that nodes take. */
export class Samples {
  readonly #known = new Map<string, unknown[]>()

  constructor(
    private readonly arena: Nodes,
    private readonly work: Work,
  ) {}

  /** Some data that all the nodes take, as far as can be told, the shortest first. */
  of(nodes: readonly Node[], depth = 0): unknown[] {
    this.work.spend()
    if (depth > MAX_DEPTH) return []
    const key = `${Math.max(depth, FULL_DEPTH)} ${keyOf(nodes)}`
    const known = this.#known.get(key)
    if (known !== undefined) return known
    const branches = branchesOf(nodes, this.arena, this.work, 'guess')
    const made = this.#taken(nodes, roundRobin(branches.map((branch) => this.#candidates(branch, depth))))
    this.#known.set(key, made)
    return made
  }

  /** Data that the nodes take and that holds this part. */
  around(nodes: readonly Node[], step: Step, part: unknown): unknown[] {
    if ('is' in step) return typeof part === 'string' ? this.#withMember(nodes, part) : []
    if ('member' in step) return this.#withMember(nodes, step.member, part)
    const atLeast = this.arena.add('', () => [{ is: 'minItems', count: step.item + 1, pointer: '' }])
    const branches = branchesOf([...nodes, this.arena.kinds(KIND.array), atLeast], this.arena, this.work, 'guess')
    const made = branches.map((branch) => this.#arrays(branch, 0, new Map([[step.item, part]])))
    return this.#taken(nodes, roundRobin(made))
  }

  #withMember(nodes: readonly Node[], name: string, ...part: [] | [unknown]): unknown[] {
    const isObject = this.arena.kinds(KIND.object)
    const branches = branchesOf([...nodes, isObject, this.arena.required(name)], this.arena, this.work, 'guess')
    const made = branches.map((branch) => {
      const parts = part.length === 1 ? part : this.of(memberNodes(branch, name), 1)
      return roundRobin(parts.map((one) => this.#objects(branch, 0, new Map([[name, one]]))))
    })
    return this.#taken(nodes, roundRobin(made))
  }

  #taken(nodes: readonly Node[], candidates: Iterable<unknown>): unknown[] {
    const found: unknown[] = []
    let tried = 0
    for (const one of candidates) {
      if (++tried > MAX_CANDIDATES || found.length >= MAX_SAMPLES) break
      if (acceptsAll(nodes, one, this.work) !== false && !found.some((other) => isSame(one, other))) found.push(one)
    }
    return found.sort((one, other) => sizeOf(one) - sizeOf(other))
  }

  *#candidates(branch: Branch, depth: number): Generator<unknown> {
    const values = finiteValues(branch)
    if (values !== undefined) {
      yield* values
      return
    }
    const { mask } = branch
    const kinds: Iterable<unknown>[] = []
    if (mask & KIND.string) kinds.push(texts(branch))
    if (mask & NUMBERS) kinds.push(numbers(branch))
    if (mask & KIND.object) kinds.push(this.#objects(branch, depth))
    if (mask & KIND.boolean) kinds.push([true, false])
    if (mask & KIND.array) kinds.push(this.#arrays(branch, depth))
    if (mask & KIND.null) kinds.push([null])
    yield* roundRobin(kinds)
  }

  *#objects(branch: Branch, depth: number, given: ReadonlyMap<string, unknown> = new Map()): Generator<unknown> {
    const base = new Map<string, unknown[]>()
    for (const name of branch.required) {
      if (given.has(name)) continue
      const samples = this.of(memberNodes(branch, name), depth + 1)
      if (samples.length === 0) return
      base.set(name, samples)
    }
    const optional = [...new Set(branch.members.flatMap(({ properties }) => [...properties.keys()]))].filter(
      (name) => !base.has(name) && !given.has(name),
    )
    const make = (choice: number, more: ReadonlyMap<string, unknown> = new Map()): unknown =>
      Object.fromEntries([
        ...[...base].map(([name, samples]) => [name, samples[choice % samples.length]] as const),
        ...more,
        ...given,
      ])
    const missing = branch.minProperties - base.size - given.size
    if (missing > 0) {
      const more = this.#more(
        branch,
        missing,
        [...optional, ...extraNames(missing, [...base.keys(), ...given.keys()])],
        depth,
      )
      if (more !== undefined) yield make(0, more)
      return
    }
    yield make(0)
    const most = Math.max(0, ...[...base.values()].map((samples) => samples.length))
    for (let choice = 1; choice < most; choice++) yield make(choice)
    if (depth > FULL_DEPTH) return
    for (const name of optional)
      for (const value of this.of(memberNodes(branch, name), depth + 1)) yield make(0, new Map([[name, value]]))
    const all = this.#more(branch, optional.length, optional, depth)
    if (all !== undefined) yield make(0, all)
  }

  /** Members of some of the names. */
  #more(branch: Branch, count: number, names: readonly string[], depth: number): Map<string, unknown> | undefined {
    const found = new Map<string, unknown>()
    for (const name of names) {
      if (found.size >= count) break
      if (acceptsAll(branch.names, name, this.work) === false) continue
      const [value] = this.of(memberNodes(branch, name), depth + 1)
      if (value !== undefined) found.set(name, value)
    }
    return found.size >= count ? found : undefined
  }

  *#arrays(branch: Branch, depth: number, given: ReadonlyMap<number, unknown> = new Map()): Generator<unknown> {
    const least = Math.max(branch.minItems, ...[...given.keys()].map((index) => index + 1), 0)
    const longest = Math.max(least, 1, ...branch.items.map(({ prefix }) => prefix.length)) + 1
    const full = [...new Set([least, Math.max(least, 1), longest, Math.min(branch.maxItems, least + 2)])]
    const lengths = depth > FULL_DEPTH ? [least] : full
    for (const length of lengths)
      for (const choice of [0, 1, 2]) {
        const made = length <= MAX_MADE_ITEMS ? this.#array(branch, length, choice, depth, given) : undefined
        if (made !== undefined) yield made
      }
  }

  #array(
    branch: Branch,
    length: number,
    choice: number,
    depth: number,
    given: ReadonlyMap<number, unknown>,
  ): unknown[] | undefined {
    const wanted = branch.contains.flatMap(({ node, min }) => Array<Node>(min).fill(node))
    const made: unknown[] = []
    for (let index = 0; index < length; index++) {
      if (given.has(index)) {
        made.push(given.get(index))
        continue
      }
      const contained = wanted.shift()
      const nodes = [...itemNodes(branch, index), ...(contained === undefined ? [] : [contained])]
      const samples = this.of(nodes, depth + 1)
      const fresh = branch.isUnique
        ? samples.filter((one) => ![...made, ...given.values()].some((other) => isSame(one, other)))
        : samples
      if (fresh.length === 0) return undefined
      made.push(fresh[(choice + (choice === 2 ? index : 0)) % fresh.length])
    }
    return made
  }
}

/** Names that no schema is likely to know. */
const extraNames = (count: number, taken: readonly string[]): string[] =>
  Array.from({ length: Math.min(count, MAX_MADE_ITEMS) }, (_, index) => `extra${index + 1}`).filter(
    (name) => !taken.includes(name),
  )

const sizeOf = (value: unknown): number => JSON.stringify(value)?.length ?? 0

/** The first of each, then the second of each, … */
function* roundRobin<T>(sources: readonly Iterable<T>[]): Generator<T> {
  let open = sources.map((source) => source[Symbol.iterator]())
  while (open.length > 0) {
    const next: Iterator<T>[] = []
    for (const source of open) {
      const { done, value } = source.next()
      if (done) continue
      next.push(source)
      yield value
    }
    open = next
  }
}

const EXAMPLES: Readonly<Record<string, readonly string[]>> = {
  date: ['2024-02-29', '1999-12-31'],
  time: ['12:00:00Z', '23:59:59.5+01:00'],
  'date-time': ['2024-02-29T12:00:00Z', '1999-12-31T23:59:59.5+01:00', `2024-02-29T12:00:00.${'0'.repeat(80)}Z`],
  'iso-time': ['12:00:00', '12:00:00Z'],
  'iso-date-time': ['2024-02-29T12:00:00', '2024-02-29T12:00:00Z'],
  duration: ['P1D', 'PT2H30M'],
  uri: ['https://example.com/a', 'urn:example:a', `https://example.com/${'a'.repeat(300)}`],
  'uri-reference': ['/a', 'https://example.com/a'],
  'uri-template': ['/a/{id}', '/a'],
  url: ['https://example.com/a', 'ftp://example.org'],
  email: ['a@example.com', 'b.c@example.org', `${'a'.repeat(300)}@example.com`],
  hostname: ['example.com', 'a'],
  ipv4: ['192.0.2.1', '198.51.100.7'],
  ipv6: ['2001:db8::1', '::1'],
  regex: ['^a+$', '.'],
  uuid: ['0188d2a4-6e4b-7c3a-9d51-1f0c2b3a4d5e', '00000000-0000-0000-0000-000000000000'],
  'json-pointer': ['/a/0', ''],
  'json-pointer-uri-fragment': ['#/a', '#'],
  'relative-json-pointer': ['1/a', '0#'],
  byte: ['YQ==', 'YWJj'],
}
const PLAIN = ['a', '', 'Z9', '0', 'ab c', 'é', '😀', '-', 'null', 'x@y', '2024-01-01', 'abcdefghijklmnop']

function* texts(branch: Branch): Generator<string> {
  const { minLength, maxLength, patterns, formats } = branch
  const fits = (text: string): boolean => {
    const length = lengthOf(text)
    return (
      length >= minLength &&
      length <= maxLength &&
      [...patterns.values()].every((pattern) => pattern.test(text)) &&
      [...formats.values()].every((format) => format.test(text))
    )
  }
  const likely = [
    ...[...patterns.keys()].flatMap(textsMatching),
    ...[...formats.keys()].flatMap((name) => EXAMPLES[name] ?? []),
  ]
  const lengths = [minLength, minLength + 1, maxLength, maxLength - 1].filter((n) => n >= 0 && n <= MAX_LENGTH)
  const sized = lengths.flatMap((length) => ['a', '0'].map((char) => char.repeat(length)))
  const plain = [...PLAIN, ...Object.values(EXAMPLES).flat()]
  for (const text of new Set([...likely, ...sized, ...plain])) if (fits(text)) yield text
}

function* numbers(branch: Branch): Generator<number> {
  const { mask, lower, upper, multiples } = branch
  const fits = (value: number): boolean =>
    Number.isFinite(value) &&
    (kindOf(value) & mask) !== 0 &&
    (lower === undefined || (lower.open ? value > lower.at : value >= lower.at)) &&
    (upper === undefined || (upper.open ? value < upper.at : value <= upper.at)) &&
    multiples.every((of) => isMultiple(value, of))
  for (const value of new Set(likelyNumbers(branch))) if (fits(value)) yield value
}

function likelyNumbers({ lower, upper, multiples }: Branch): number[] {
  const ends: number[] = []
  if (lower !== undefined) ends.push(lower.at, leastInteger(lower), leastInteger(lower) + 1, lower.at + 0.5)
  if (upper !== undefined) ends.push(upper.at, greatestInteger(upper), greatestInteger(upper) - 1, upper.at - 0.5)
  if (lower !== undefined && upper !== undefined) ends.push((lower.at + upper.at) / 2)
  const around = [0, ...ends]
  const multiplied = multiples.flatMap((of) =>
    around.flatMap((end) => [-2, -1, 0, 1, 2, 3, 5, 7].map((step) => (Math.floor(end / of) + step) * of)),
  )
  return [1, 0, ...ends, ...multiplied, 2, 3, 0.5, 1.5, 7, 10, 42, -1, -1.5, -7, 100, 1e6, 0.1, 0.25, 2 ** 40, 1e21]
}
