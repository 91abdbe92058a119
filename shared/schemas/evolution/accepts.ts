import { isMultiple } from '../decimals.ts'
import { type Atom, KIND, kindOf, type Members, type Node } from './nodes.ts'
import type { Work } from './work.ts'

/** Whether data is valid under a node, as Ajv would say. undefined: that takes more than can be reasoned about here. */
export type Verdict = boolean | undefined

/** A schema may apply itself to the same value. */
const MAX_DEPTH = 150

export function accepts(node: Node, value: unknown, work: Work, depth = 0): Verdict {
  work.spend()
  if (depth > MAX_DEPTH) return undefined
  return every(node.atoms, (atom) => holds(atom, value, work, depth + 1))
}

/** Whether all nodes take it. */
export const acceptsAll = (nodes: readonly Node[], value: unknown, work: Work): Verdict =>
  every(nodes, (node) => accepts(node, value, work))

function every<T>(list: Iterable<T>, verdictOf: (one: T) => Verdict): Verdict {
  let verdict: Verdict = true
  for (const one of list) {
    const next = verdictOf(one)
    if (next === false) return false
    if (next === undefined) verdict = undefined
  }
  return verdict
}

const negated = (verdict: Verdict): Verdict => (verdict === undefined ? undefined : !verdict)

/** How many take it: at least, and at most. */
function count<T>(list: Iterable<T>, verdictOf: (one: T) => Verdict): [number, number] {
  let least = 0
  let most = 0
  for (const one of list) {
    const verdict = verdictOf(one)
    if (verdict === true) least++
    if (verdict !== false) most++
  }
  return [least, most]
}

function within([least, most]: [number, number], min: number, max: number): Verdict {
  if (least >= min && most <= max) return true
  return most < min || least > max ? false : undefined
}

type JsonObject = Readonly<Record<string, unknown>>

function holds(atom: Atom, value: unknown, work: Work, depth: number): Verdict {
  const takes = (node: Node, inner: unknown = value): Verdict => accepts(node, inner, work, depth)
  switch (atom.is) {
    case 'kinds':
      return (kindOf(value) & atom.mask) !== 0
    case 'values':
      return isAmong(atom.values, value)
    case 'all':
      return takes(atom.node)
    case 'any':
      return within(
        count(atom.nodes, (node) => takes(node)),
        1,
        Number.POSITIVE_INFINITY,
      )
    case 'one':
      return within(
        count(atom.nodes, (node) => takes(node)),
        1,
        1,
      )
    case 'not':
      return negated(takes(atom.node))
    case 'if':
      return chosen(
        takes(atom.condition),
        () => takes(atom.yes),
        () => takes(atom.no),
      )
    case 'opaque':
      return undefined
  }
  switch (kindOf(value)) {
    case KIND.integer:
    case KIND.fraction:
      return holdsForNumber(atom, value as number)
    case KIND.string:
      return holdsForString(atom, value as string)
    case KIND.array:
      return holdsForArray(atom, value as unknown[], takes)
    case KIND.object:
      return holdsForObject(atom, value as JsonObject, takes)
    default:
      return true
  }
}

function chosen(condition: Verdict, yes: () => Verdict, no: () => Verdict): Verdict {
  if (condition === true) return yes()
  if (condition === false) return no()
  const [one, other] = [yes(), no()]
  return one === other ? one : undefined
}

function holdsForNumber(atom: Atom, value: number): boolean {
  switch (atom.is) {
    case 'lower':
      return atom.open ? value > atom.at : value >= atom.at
    case 'upper':
      return atom.open ? value < atom.at : value <= atom.at
    case 'multipleOf':
      return isMultiple(value, atom.of)
    default:
      return true
  }
}

/** JSON Schema counts code points. */
export const lengthOf = (text: string): number => {
  let length = 0
  for (const _ of text) length++
  return length
}

function holdsForString(atom: Atom, value: string): boolean {
  switch (atom.is) {
    case 'minLength':
      return lengthOf(value) >= atom.count
    case 'maxLength':
      return lengthOf(value) <= atom.count
    case 'pattern':
      return atom.pattern.test(value)
    case 'format':
      return atom.format.test(value)
    default:
      return true
  }
}

type Takes = (node: Node, inner?: unknown) => Verdict

function holdsForArray(atom: Atom, value: readonly unknown[], takes: Takes): Verdict {
  switch (atom.is) {
    case 'minItems':
      return value.length >= atom.count
    case 'maxItems':
      return value.length <= atom.count
    case 'unique':
      return new Set(value.map(identityOf)).size === value.length
    case 'items':
      return every(value.entries(), ([index, item]) => {
        const node = atom.prefix[index] ?? atom.rest
        return node === undefined || takes(node, item)
      })
    case 'contains':
      return within(
        count(value, (item) => takes(atom.node, item)),
        atom.min,
        atom.max,
      )
    default:
      return true
  }
}

function holdsForObject(atom: Atom, value: JsonObject, takes: Takes): Verdict {
  switch (atom.is) {
    case 'minProperties':
      return Object.keys(value).length >= atom.count
    case 'maxProperties':
      return Object.keys(value).length <= atom.count
    case 'required':
      return Object.hasOwn(value, atom.name)
    case 'names':
      return every(Object.keys(value), (name) => takes(atom.node, name))
    case 'dependent':
      return Object.hasOwn(value, atom.name) ? takes(atom.node) : true
    case 'members':
      return every(Object.entries(value), ([name, member]) => every(nodesAt(atom, name), (node) => takes(node, member)))
    default:
      return true
  }
}

/** What a member of this name has to be. */
export function nodesAt(members: Members, name: string): Node[] {
  const found: Node[] = []
  const property = members.properties.get(name)
  if (property !== undefined) found.push(property)
  for (const { pattern, node } of members.patterns) if (pattern.test(name)) found.push(node)
  const isNamed = property !== undefined || members.patterns.some(({ pattern }) => pattern.test(name))
  return isNamed || members.rest === undefined ? found : [members.rest]
}

/** Where a value is refused: the atom that does it, in the deepest schema. undefined: nowhere for certain. */
export function refusing(node: Node, value: unknown, work: Work, depth = 0): Atom | undefined {
  if (depth > MAX_DEPTH) return undefined
  const atom = node.atoms.find((one) => holds(one, value, work, depth + 1) === false)
  if (atom === undefined) return undefined
  const deeper = refusedInside(atom, value, work).find(([inner, part]) => accepts(inner, part, work) === false)
  return deeper === undefined ? atom : (refusing(deeper[0], deeper[1], work, depth + 1) ?? atom)
}

function refusedInside(atom: Atom, value: unknown, work: Work): [Node, unknown][] {
  switch (atom.is) {
    case 'all':
      return [[atom.node, value]]
    case 'dependent':
      return [[atom.node, value]]
    case 'if':
      return [[accepts(atom.condition, value, work) === true ? atom.yes : atom.no, value]]
    case 'members':
      return Object.entries(value as JsonObject).flatMap(([name, member]) =>
        nodesAt(atom, name).map((node): [Node, unknown] => [node, member]),
      )
    case 'items':
      return (value as unknown[]).flatMap((item, index): [Node, unknown][] => {
        const node = atom.prefix[index] ?? atom.rest
        return node === undefined ? [] : [[node, item]]
      })
    case 'names':
      return Object.keys(value as JsonObject).map((name): [Node, unknown] => [atom.node, name])
    default:
      return []
  }
}

const identities = new WeakMap<readonly unknown[], ReadonlySet<unknown>>()

/** Whether a value is in a list, which may be long. */
export function isAmong(values: readonly unknown[], value: unknown): boolean {
  const known = identities.get(values) ?? new Set(values.map(identityOf))
  identities.set(values, known)
  return known.has(identityOf(value))
}

/** As JSON Schema compares: -0 is 0, and the order of members does not matter. */
export const isSame = (one: unknown, other: unknown): boolean => Object.is(identityOf(one), identityOf(other))

/** The same for values that are the same, and for no others. */
export function identityOf(value: unknown): unknown {
  if (typeof value === 'string') return `"${value}`
  if (typeof value !== 'object' || value === null) return value === 0 ? 0 : value
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner !== 'object' || inner === null || Array.isArray(inner)
      ? inner
      : Object.fromEntries(Object.entries(inner).sort(([one], [other]) => (one < other ? -1 : 1))),
  )
}
