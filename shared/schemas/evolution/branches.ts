import type { Pattern } from '../patterns.ts'
import { isAmong, nodesAt } from './accepts.ts'
import {
  ALL_KINDS,
  type Atom,
  type Bound,
  type Contains,
  type Format,
  type Items,
  KIND,
  kindOf,
  type Members,
  type Node,
  type Nodes,
  NUMBERS,
} from './nodes.ts'
import { lengthsMatching } from './pattern-samples.ts'
import type { Work } from './work.ts'

/**
 * What is known of data that several nodes take: one branch for each combination of alternatives. Every such data is in some branch. A branch may hold data
 * that the nodes refuse, since facts that cannot be used are left out.
 */
export interface Branch {
  /** Kinds that the data may be of. */
  mask: number
  /** undefined: not limited to a list. */
  values: readonly unknown[] | undefined
  lower: Bound | undefined
  upper: Bound | undefined
  multiples: number[]
  minLength: number
  maxLength: number
  patterns: Map<string, Pattern>
  formats: Map<string, Format>
  members: Members[]
  required: Set<string>
  minProperties: number
  maxProperties: number
  names: Node[]
  items: Items[]
  minItems: number
  maxItems: number
  isUnique: boolean
  contains: Contains[]
  /** Nodes that take the data, and nodes that refuse it. */
  takenBy: Set<Node>
  refusedBy: Set<Node>
  /** Some alternatives of what refuses it were not told apart. */
  isCoarse: boolean
}

const EMPTY: Branch = {
  mask: ALL_KINDS,
  values: undefined,
  lower: undefined,
  upper: undefined,
  multiples: [],
  minLength: 0,
  maxLength: Number.POSITIVE_INFINITY,
  patterns: new Map(),
  formats: new Map(),
  members: [],
  required: new Set(),
  minProperties: 0,
  maxProperties: Number.POSITIVE_INFINITY,
  names: [],
  items: [],
  minItems: 0,
  maxItems: Number.POSITIVE_INFINITY,
  isUnique: false,
  contains: [],
  takenBy: new Set(),
  refusedBy: new Set(),
  isCoarse: false,
}

const copied = (branch: Branch): Branch => ({
  ...branch,
  multiples: [...branch.multiples],
  patterns: new Map(branch.patterns),
  formats: new Map(branch.formats),
  members: [...branch.members],
  required: new Set(branch.required),
  names: [...branch.names],
  items: [...branch.items],
  contains: [...branch.contains],
  takenBy: new Set(branch.takenBy),
  refusedBy: new Set(branch.refusedBy),
})

const sizeOf = ({ values, takenBy, refusedBy, required, members, items }: Branch): number =>
  (values?.length ?? 0) + takenBy.size + refusedBy.size + required.size + members.length + items.length

/** What is known besides: that a node takes the data, that a node refuses it, or an atom. */
export type Fact = { takes: Node } | { refuses: Node } | { atom: Atom }

/** One of these holds, with all of its facts. */
type Alternatives = Fact[][]

const MAX_BRANCHES = 48

/** `coarse` leaves alternatives of what refuses the data together, where there are several; `guess` adds some that are likely to have data. */
export type Mode = 'coarse' | 'fine' | 'guess'

export function branchesOf(nodes: readonly Node[], arena: Nodes, work: Work, mode: Mode): Branch[] {
  return extended(
    EMPTY,
    nodes.map((takes) => ({ takes })),
    arena,
    work,
    mode,
  )
}

/** The part of a branch where facts hold besides. */
export function extended(branch: Branch, facts: Fact[], arena: Nodes, work: Work, mode: Mode): Branch[] {
  return new Expansion(arena, work, mode).expand(branch, facts)
}

class Expansion {
  readonly #found: Branch[] = []
  #open = 1

  constructor(
    private readonly arena: Nodes,
    private readonly work: Work,
    private readonly mode: Mode,
  ) {}

  expand(branch: Branch, facts: Fact[]): Branch[] {
    this.#grow(branch, facts, [])
    return this.#found
  }

  /** Adds the facts to the branch, then tells the alternatives apart, one after the other. */
  #grow(from: Branch, facts: readonly Fact[], alternatives: readonly Alternatives[]): void {
    this.work.spendOn(alternatives.length + sizeOf(from))
    const branch = copied(from)
    const pending = [...facts]
    const open = [...alternatives]
    for (let fact = pending.pop(); fact !== undefined; fact = pending.pop()) {
      this.work.spend()
      if (!this.#add(branch, fact, pending, open)) branch.mask = 0
      if (branch.mask === 0) break
    }
    settle(branch)
    if (branch.mask === 0) {
      this.#open--
      return
    }
    const next = open.pop()
    if (next === undefined) {
      this.#found.push(branch)
      return
    }
    if (this.#open + next.length > MAX_BRANCHES) {
      this.#grow({ ...branch, isCoarse: true }, [], open)
      return
    }
    this.#open += next.length - 1
    for (const one of next) this.#grow(branch, one, open)
  }

  /** @returns whether there may be data that has this fact besides the others */
  #add(branch: Branch, fact: Fact, pending: Fact[], open: Alternatives[]): boolean {
    if ('takes' in fact) {
      if (branch.takenBy.has(fact.takes)) return true
      branch.takenBy.add(fact.takes)
      for (const atom of fact.takes.atoms) pending.push({ atom })
      return true
    }
    if ('atom' in fact) {
      this.#addAtom(branch, fact.atom, pending, open)
      return true
    }
    if (branch.refusedBy.has(fact.refuses)) return true
    branch.refusedBy.add(fact.refuses)
    const alternatives = fact.refuses.atoms.flatMap((atom) => this.#refused(fact.refuses, atom))
    if (alternatives.length === 0) return false
    if (alternatives.length === 1) pending.push(...(alternatives[0] ?? []))
    else if (this.mode === 'coarse') branch.isCoarse = true
    else open.unshift(alternatives)
    return true
  }

  #addAtom(branch: Branch, atom: Atom, pending: Fact[], open: Alternatives[]): void {
    switch (atom.is) {
      case 'all':
        pending.push({ takes: atom.node })
        break
      case 'not':
        pending.push({ refuses: atom.node })
        break
      case 'any':
        open.push(atom.nodes.map((takes) => [{ takes }]))
        break
      case 'one':
        open.push(
          atom.nodes.map((takes) => [
            { takes },
            ...atom.nodes.filter((node) => node !== takes).map((refuses) => ({ refuses })),
          ]),
        )
        break
      case 'if':
        open.push([
          [{ takes: atom.condition }, { takes: atom.yes }],
          [{ refuses: atom.condition }, { takes: atom.no }],
        ])
        break
      case 'dependent':
        open.push([
          // An object without it, or no object.
          [{ atom: this.#members(atom.name, this.arena.never) }],
          [{ takes: this.arena.kinds(KIND.object) }, { takes: this.arena.required(atom.name) }, { takes: atom.node }],
        ])
        break
      default:
        narrow(branch, atom)
    }
  }

  /** How data can be refused by an atom of a node: all ways, each as facts. */
  #refused(node: Node, atom: Atom): Alternatives {
    const only = (mask: number): Fact => ({ takes: this.arena.kinds(mask) })
    const that = (assertion: Atom, mask: number): Alternatives => [[only(mask), { atom: assertion }]]
    const { pointer } = atom
    switch (atom.is) {
      case 'kinds':
        return [[only(ALL_KINDS & ~atom.mask)]]
      case 'lower':
        return that({ is: 'upper', at: atom.at, open: !atom.open, pointer }, NUMBERS)
      case 'upper':
        return that({ is: 'lower', at: atom.at, open: !atom.open, pointer }, NUMBERS)
      case 'minLength':
        return that({ is: 'maxLength', count: atom.count - 1, pointer }, KIND.string)
      case 'maxLength':
        return that({ is: 'minLength', count: atom.count + 1, pointer }, KIND.string)
      case 'minItems':
        return that({ is: 'maxItems', count: atom.count - 1, pointer }, KIND.array)
      case 'maxItems':
        return that({ is: 'minItems', count: atom.count + 1, pointer }, KIND.array)
      case 'minProperties':
        return that({ is: 'maxProperties', count: atom.count - 1, pointer }, KIND.object)
      case 'maxProperties':
        return that({ is: 'minProperties', count: atom.count + 1, pointer }, KIND.object)
      case 'multipleOf':
        return [[only(NUMBERS)]]
      case 'pattern':
      case 'format':
        return [[only(KIND.string)]]
      case 'unique':
        return that({ is: 'minItems', count: 2, pointer }, KIND.array)
      case 'names':
        return that({ is: 'minProperties', count: 1, pointer }, KIND.object)
      case 'required':
        return that(this.#members(atom.name, this.arena.never), KIND.object)
      case 'all':
        return [[{ refuses: atom.node }]]
      case 'any':
        return [atom.nodes.map((refuses) => ({ refuses }))]
      case 'not':
        return [[{ takes: atom.node }]]
      case 'if':
        return [
          [{ takes: atom.condition }, { refuses: atom.yes }],
          [{ refuses: atom.condition }, { refuses: atom.no }],
        ]
      case 'dependent':
        return [[{ takes: this.arena.required(atom.name) }, only(KIND.object), { refuses: atom.node }]]
      case 'contains':
        return this.#containsRefused(atom, pointer)
      case 'one':
        return oneRefused(atom.nodes)
      case 'members':
        return this.#membersRefused(atom, only(KIND.object))
      case 'items':
        return this.#itemsRefused(atom, only(KIND.array))
      case 'opaque':
        return [...this.#opaqueGuesses(atom), [{ refuses: node }]]
      default:
        // Nothing is known of it but that the node refuses it.
        return [[{ refuses: node }]]
    }
  }

  #members(name: string, node: Node): Atom {
    return { is: 'members', properties: new Map([[name, node]]), patterns: [], rest: undefined, pointer: node.pointer }
  }

  /** Members and elements that no other keyword is likely to have evaluated. */
  #opaqueGuesses({ keyword, node }: Atom & { is: 'opaque' }): Alternatives {
    if (this.mode !== 'guess' || node === undefined) return []
    if (keyword === 'unevaluatedProperties')
      return this.#membersRefused(
        { properties: new Map([['extra', node]]), patterns: [], rest: undefined },
        { takes: this.arena.kinds(KIND.object) },
      )
    if (keyword !== 'unevaluatedItems') return []
    const prefix = [0, 1, 2, 3].map(() => node)
    return this.#itemsRefused({ prefix, rest: undefined }, { takes: this.arena.kinds(KIND.array) })
  }

  #containsRefused({ node, min, max }: Contains, pointer: string): Alternatives {
    const found: Alternatives = []
    const isArray: Fact = { takes: this.arena.kinds(KIND.array) }
    if (min > 0) found.push([isArray, { atom: { is: 'contains', node, min: 0, max: min - 1, pointer } }])
    if (max < Number.POSITIVE_INFINITY)
      found.push([isArray, { atom: { is: 'contains', node, min: max + 1, max: Number.POSITIVE_INFINITY, pointer } }])
    return found
  }

  #membersRefused(members: Members, isObject: Fact): Alternatives {
    const at = (name: string, node: Node): Fact[] => [
      isObject,
      { takes: this.arena.required(name) },
      { atom: this.#members(name, this.arena.not(node)) },
    ]
    const found = [...members.properties].map(([name, node]) => at(name, node))
    const { patterns, rest } = members
    if (patterns.length === 0 && rest === undefined) return found
    // Some member of another name is refused.
    found.push([isObject, { atom: { is: 'minProperties', count: 1, pointer: '' } }])
    if (this.mode === 'guess')
      for (const name of GUESSED_NAMES)
        for (const node of nodesAt(members, name)) if (!members.properties.has(name)) found.unshift(at(name, node))
    return found
  }

  #itemsRefused(items: Items, isArray: Fact): Alternatives {
    const at = (index: number, node: Node): Fact[] => [
      isArray,
      { atom: { is: 'minItems', count: index + 1, pointer: '' } },
      {
        atom: {
          is: 'items',
          prefix: [...Array<Node>(index).fill(this.arena.always), this.arena.not(node)],
          rest: undefined,
          pointer: '',
        },
      },
    ]
    const { prefix, rest } = items
    const found = prefix.map((node, index) => at(index, node))
    if (rest === undefined) return found
    found.push([isArray, { atom: { is: 'minItems', count: prefix.length + 1, pointer: '' } }])
    if (this.mode === 'guess') found.unshift(at(prefix.length, rest))
    return found
  }
}

export const GUESSED_NAMES = ['extra', 'x', 'other', 'A', '1']

/** No node takes it, or two do. */
function oneRefused(nodes: readonly Node[]): Alternatives {
  const found: Alternatives = [nodes.map((refuses) => ({ refuses }))]
  for (const [index, one] of nodes.entries())
    for (const other of nodes.slice(index + 1)) found.push([{ takes: one }, { takes: other }])
  return found
}

/** Adds what an atom says. */
function narrow(branch: Branch, atom: Atom): void {
  switch (atom.is) {
    case 'kinds':
      branch.mask &= atom.mask
      break
    case 'values':
      branch.values = branch.values?.filter((value) => isAmong(atom.values, value)) ?? atom.values
      break
    case 'lower':
      if (isTighter(atom, branch.lower, 1)) branch.lower = atom
      break
    case 'upper':
      if (isTighter(atom, branch.upper, -1)) branch.upper = atom
      break
    case 'multipleOf':
      branch.multiples.push(atom.of)
      if (Number.isSafeInteger(atom.of)) branch.mask &= ~KIND.fraction
      break
    case 'minLength':
      branch.minLength = Math.max(branch.minLength, atom.count)
      break
    case 'maxLength':
      branch.maxLength = Math.min(branch.maxLength, atom.count)
      break
    case 'pattern':
      branch.patterns.set(atom.text, atom.pattern)
      limitLength(branch, lengthsMatching(atom.text))
      break
    case 'format':
      branch.formats.set(atom.format.name, atom.format)
      limitLength(branch, FORMAT_LENGTHS[atom.format.name])
      break
    case 'members':
      branch.members.push(atom)
      break
    case 'required':
      branch.required.add(atom.name)
      break
    case 'minProperties':
      branch.minProperties = Math.max(branch.minProperties, atom.count)
      break
    case 'maxProperties':
      branch.maxProperties = Math.min(branch.maxProperties, atom.count)
      break
    case 'names':
      branch.names.push(atom.node)
      break
    case 'items':
      branch.items.push(atom)
      break
    case 'minItems':
      branch.minItems = Math.max(branch.minItems, atom.count)
      break
    case 'maxItems':
      branch.maxItems = Math.min(branch.maxItems, atom.count)
      break
    case 'unique':
      branch.isUnique = true
      break
    case 'contains':
      branch.contains.push(atom)
      branch.minItems = Math.max(branch.minItems, atom.min)
      break
  }
}

/** Of formats that have an end, in characters. */
const FORMAT_LENGTHS: Readonly<Record<string, Lengths>> = {
  date: { least: 10, most: 10 },
  ipv4: { least: 7, most: 15 },
  // With urn:uuid: before it.
  uuid: { least: 36, most: 45 },
}

interface Lengths {
  least: number
  most: number
}

function limitLength(branch: Branch, lengths: Lengths | undefined): void {
  if (lengths === undefined) return
  branch.minLength = Math.max(branch.minLength, lengths.least)
  branch.maxLength = Math.min(branch.maxLength, lengths.most)
}

function isTighter(bound: Bound, than: Bound | undefined, sign: 1 | -1): boolean {
  if (than === undefined) return true
  return bound.at === than.at ? bound.open : (bound.at - than.at) * sign > 0
}

/** Leaves out the kinds that no data can be of any more. */
function settle(branch: Branch): void {
  if (branch.minLength > branch.maxLength) branch.mask &= ~KIND.string
  if (branch.minItems > branch.maxItems) branch.mask &= ~KIND.array
  if (hasNoObject(branch)) branch.mask &= ~KIND.object
  const { lower, upper } = branch
  if (lower !== undefined && upper !== undefined) {
    if (lower.at > upper.at || (lower.at === upper.at && (lower.open || upper.open))) branch.mask &= ~NUMBERS
    else if (lower.at === upper.at) branch.mask &= Number.isInteger(lower.at) ? ~KIND.fraction : ~KIND.integer
    else if (leastInteger(lower) > greatestInteger(upper)) branch.mask &= ~KIND.integer
  }
  if (branch.values === undefined) return
  branch.values = branch.values.filter((value) => (kindOf(value) & branch.mask) !== 0)
  branch.mask &= branch.values.reduce((kinds: number, value) => kinds | kindOf(value), 0)
}

const hasNoObject = (branch: Branch): boolean =>
  branch.minProperties > branch.maxProperties ||
  branch.required.size > branch.maxProperties ||
  [...branch.required].some((name) => memberNodes(branch, name).some(isNever))

const isNever = (node: Node): boolean => node.atoms.some((atom) => atom.is === 'kinds' && atom.mask === 0)

export const leastInteger = ({ at, open }: Bound): number => (open && Number.isInteger(at) ? at + 1 : Math.ceil(at))
export const greatestInteger = ({ at, open }: Bound): number => (open && Number.isInteger(at) ? at - 1 : Math.floor(at))

/** What a member of this name has to be. */
export const memberNodes = (branch: Branch, name: string): Node[] =>
  branch.members.flatMap((members) => nodesAt(members, name))

/** What the element at an index has to be. */
export const itemNodes = (branch: Branch, index: number): Node[] =>
  branch.items.flatMap(({ prefix, rest }) => prefix[index] ?? rest ?? [])

/** All values, where a branch has only few. Some of them may be refused. */
export function finiteValues(branch: Branch): readonly unknown[] | undefined {
  if (branch.values !== undefined) return branch.values
  const found: unknown[] = []
  if (branch.mask & KIND.null) found.push(null)
  if (branch.mask & KIND.boolean) found.push(false, true)
  if (branch.mask & KIND.integer) {
    const { lower, upper } = branch
    if (lower === undefined || upper === undefined) return undefined
    const [least, greatest] = [leastInteger(lower), greatestInteger(upper)]
    if (greatest - least >= MAX_FINITE || !Number.isSafeInteger(least) || !Number.isSafeInteger(greatest))
      return undefined
    for (let value = least; value <= greatest; value++) found.push(value)
  }
  return branch.mask & (KIND.fraction | KIND.string | KIND.array | KIND.object) ? undefined : found
}

const MAX_FINITE = 100
