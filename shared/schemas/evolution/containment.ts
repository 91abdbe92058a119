import { isMultiple } from '../decimals.ts'
import { accepts, acceptsAll, nodesAt, refusing } from './accepts.ts'
import {
  type Branch,
  branchesOf,
  extended,
  type Fact,
  finiteValues,
  greatestInteger,
  itemNodes,
  leastInteger,
  memberNodes,
} from './branches.ts'
import {
  type Atom,
  type Bound,
  type Contains,
  type Items,
  KIND,
  keyOf,
  type Members,
  type Node,
  type Nodes,
  NUMBERS,
} from './nodes.ts'
import { textsMatching } from './pattern-samples.ts'
import { isSameNode } from './same.ts'
import type { Step } from './samples.ts'
import type { Work } from './work.ts'

/** A part of the writer's data, and the step into it. */
export interface Level {
  nodes: readonly Node[]
  step: Step
}

/** A place where it is not proven that the reader takes what the writer does. */
export interface Gap {
  /** The reader's. */
  atom: Atom
  reader: Node
  /** What the writer's data is there. */
  branch: Branch
  /** From the whole data to the place. */
  trail: readonly Level[]
  /** Values there that the writer takes and the reader refuses, where they are known. */
  values: readonly unknown[] | undefined
}

/** How deep proofs go into data, and into schemas that apply themselves to the same value. */
const MAX_DEPTH = 60
/** How deep proofs that a branch is empty go into proofs of the same kind. */
const MAX_NESTING = 3
/** With more, the names that fit some of them and not the others are not told apart. */
const MAX_PATTERNS = 5
const MAX_SPLIT_VALUES = 32

/** The nodes that a branch is of. */
export const nodesOf = (branch: Branch, arena: Nodes): Node[] => [
  ...branch.takenBy,
  ...[...branch.refusedBy].map((node) => arena.not(node)),
]

/**
 * Proves that every value that some nodes take is taken by another.
 *
 * A pair of schemas that is compared while it is compared already counts as proven, if the data has become smaller in between: data is finite, so a smallest
 * counter-example would lead to one that is smaller still.
 */
export class Containment {
  readonly #proven = new Set<string>()
  readonly #unproven = new Map<string, Gap[]>()
  readonly #open = new Map<string, { order: number; depth: number }>()
  readonly #empty = new Map<string, boolean>()
  /** How many steps into the data. */
  #depth = 0
  #nesting = 0
  /** While it is only asked whether there are gaps, not where. */
  #asking = 0
  /** The outermost open pair that was counted as proven. */
  #leansOn = Number.POSITIVE_INFINITY

  constructor(
    private readonly arena: Nodes,
    private readonly work: Work,
  ) {}

  /** @returns none: it is proven */
  gaps(writer: readonly Node[], reader: Node, trail: readonly Level[] = []): Gap[] {
    this.work.spend()
    if (reader.atoms.length === 0 || writer.some((node) => isSameNode(node, reader))) return []
    const key = `${keyOf(writer)}>${reader.id}`
    if (this.#proven.has(key)) return []
    const unproven = this.#asking > 0 ? this.#unproven.get(key) : undefined
    if (unproven !== undefined) return unproven
    const open = this.#open.get(key)
    if (open !== undefined && open.depth < this.#depth) {
      this.#leansOn = Math.min(this.#leansOn, open.order)
      return []
    }
    const order = this.#open.size
    if (open === undefined) this.#open.set(key, { order, depth: this.#depth })
    const outer = this.#leansOn
    this.#leansOn = Number.POSITIVE_INFINITY
    const gaps =
      open !== undefined || this.#depth > MAX_DEPTH
        ? branchesOf(writer, this.arena, this.work, 'coarse').flatMap((branch) => gapsAt(branch, reader, trail))
        : this.#gaps(writer, reader, trail)
    if (open === undefined) this.#open.delete(key)
    if (gaps.length > 0) this.#unproven.set(key, gaps.slice(0, 1))
    if (this.#leansOn >= order) {
      if (gaps.length === 0) this.#proven.add(key)
      this.#leansOn = outer
    } else this.#leansOn = Math.min(outer, this.#leansOn)
    return gaps
  }

  #gaps(writer: readonly Node[], reader: Node, trail: readonly Level[]): Gap[] {
    const branches = branchesOf(writer, this.arena, this.work, 'coarse')
    const gaps = branches.flatMap((branch) => this.#viableGaps(branch, reader, trail))
    if (gaps.length === 0 || !branches.some(({ isCoarse }) => isCoarse)) return gaps
    const fine = branchesOf(writer, this.arena, this.work, 'fine')
    return fine.every((branch) => this.#viableGaps(branch, reader, trail).length === 0) ? [] : gaps
  }

  #viableGaps(branch: Branch, reader: Node, trail: readonly Level[]): Gap[] {
    const viable = this.#viable(branch)
    return viable === undefined ? [] : this.#branchGaps(viable, reader, trail, 0)
  }

  #extended(branch: Branch, ...facts: Fact[]): Branch[] {
    return extended(branch, facts, this.arena, this.work, 'coarse').flatMap((one) => this.#viable(one) ?? [])
  }

  #branchGaps(branch: Branch, reader: Node, trail: readonly Level[], depth: number): Gap[] {
    this.work.spend()
    this.work.spendOn(branch.takenBy.size)
    for (const node of branch.takenBy) if (isSameNode(node, reader)) return []
    if (depth > MAX_DEPTH) return gapsAt(branch, reader, trail)
    const values = finiteValues(branch)
    if (values !== undefined) return this.#valueGaps(branch, values, reader, trail)
    return reader.atoms.flatMap((atom) => this.#atomGaps(branch, atom, reader, trail, depth))
  }

  #isIn(branch: Branch, reader: Node, depth: number): boolean {
    this.#asking++
    try {
      return this.#branchGaps(branch, reader, [], depth + 1).length === 0
    } finally {
      this.#asking--
    }
  }

  #isDisjoint(branch: Branch, node: Node): boolean {
    this.work.spendOn(branch.refusedBy.size)
    for (const refused of branch.refusedBy) if (isSameNode(refused, node)) return true
    return this.#extended(branch, { takes: node }).length === 0
  }

  #valueGaps(branch: Branch, values: readonly unknown[], reader: Node, trail: readonly Level[]): Gap[] {
    const refused = new Map<Atom, unknown[]>()
    for (const value of values) {
      if (!this.#mayTake(branch, value) || accepts(reader, value, this.work) === true) continue
      const atom = refusing(reader, value, this.work) ?? (reader.atoms[0] as Atom)
      refused.getOrInsertComputed(atom, () => []).push(value)
    }
    return [...refused].map(([atom, list]) => ({ atom, reader, branch, trail, values: list }))
  }

  #mayTake(branch: Branch, value: unknown): boolean {
    return (
      acceptsAll([...branch.takenBy], value, this.work) !== false &&
      ![...branch.refusedBy].some((node) => accepts(node, value, this.work) === true)
    )
  }

  #atomGaps(branch: Branch, atom: Atom, reader: Node, trail: readonly Level[], depth: number): Gap[] {
    const gap: Gap[] = [{ atom, reader, branch, trail, values: undefined }]
    const proven = (is: boolean): Gap[] => (is ? [] : gap)
    const { mask } = branch
    switch (atom.is) {
      case 'kinds':
        return proven((mask & ~atom.mask) === 0)
      case 'all':
        return this.#branchGaps(branch, atom.node, trail, depth + 1)
      case 'not':
        return proven(this.#isRefused(branch, atom.node))
      case 'any':
        return this.#anyGaps(branch, atom.nodes, gap, (one, node) => this.#isIn(one, node, depth))
      case 'one':
        return this.#anyGaps(branch, atom.nodes, gap, (one, node) => this.#isInOnly(one, node, atom.nodes, depth))
      case 'if':
        return [
          ...this.#extended(branch, { takes: atom.condition }).flatMap((one) =>
            this.#branchGaps(one, atom.yes, trail, depth + 1),
          ),
          ...this.#extended(branch, { refuses: atom.condition }).flatMap((one) =>
            this.#branchGaps(one, atom.no, trail, depth + 1),
          ),
        ]
      case 'values':
      case 'opaque':
        return gap
      case 'lower':
      case 'upper':
      case 'multipleOf':
        return proven((mask & NUMBERS) === 0 || isNumberIn(branch, atom))
      case 'minLength':
      case 'maxLength':
      case 'pattern':
      case 'format':
        return proven((mask & KIND.string) === 0 || isTextIn(branch, atom))
      case 'items':
      case 'contains':
      case 'unique':
      case 'minItems':
      case 'maxItems':
        if ((mask & KIND.array) === 0) return []
        return atom.is === 'items' ? this.#itemGaps(branch, atom, trail) : proven(this.#isArrayIn(branch, atom))
    }
    if ((mask & KIND.object) === 0) return []
    switch (atom.is) {
      case 'members':
        return this.#memberGaps(branch, atom, trail)
      case 'names':
        return this.#nameGaps(branch, atom.node, trail, gap)
      case 'dependent':
        return this.#extended(
          branch,
          { takes: this.arena.kinds(KIND.object) },
          { takes: this.arena.required(atom.name) },
        ).flatMap((one) => this.#branchGaps(one, atom.node, trail, depth + 1))
      case 'required':
        return proven(branch.required.has(atom.name))
      case 'minProperties':
        return proven(Math.max(branch.minProperties, branch.required.size) >= atom.count)
      case 'maxProperties':
        return proven(Math.min(branch.maxProperties, this.#mostMembers(branch)) <= atom.count)
    }
  }

  #isRefused(branch: Branch, node: Node): boolean {
    if (this.#isDisjoint(branch, node)) return true
    return [...branch.refusedBy].some((refused) => this.gaps([node], refused).length === 0)
  }

  /** Whether a node takes the branch, and no other one takes any of it. */
  #isInOnly(branch: Branch, node: Node, nodes: readonly Node[], depth: number): boolean {
    return this.#isIn(branch, node, depth) && nodes.every((other) => other === node || this.#isDisjoint(branch, other))
  }

  /** Each part of the branch has to be in some node. */
  #anyGaps(branch: Branch, nodes: readonly Node[], gap: Gap[], isIn: (branch: Branch, node: Node) => boolean): Gap[] {
    const isInSome = (part: Branch): boolean => nodes.some((node) => isIn(part, node))
    if (isInSome(branch)) return []
    const parts = this.#partsByKind(branch).filter((part) => !isInSome(part))
    const left = parts.flatMap((part) => this.#partsByValue(part, nodes)).filter((part) => !isInSome(part))
    return left.flatMap((part) => this.#onlyGaps(part, nodes, gap))
  }

  /** Where only one of the nodes may take the data, what is wrong with that one says more. */
  #onlyGaps(branch: Branch, nodes: readonly Node[], gap: Gap[]): Gap[] {
    const own = { ...(gap[0] as Gap), branch }
    const [only, ...others] = nodes.filter((node) => !this.#isDisjoint(branch, node))
    const inner = only === undefined || others.length > 0 ? [] : this.#branchGaps(branch, only, own.trail, 1)
    return inner.length > 0 ? inner : [own]
  }

  #partsByKind(branch: Branch): Branch[] {
    const kinds = [NUMBERS, ...[KIND.null, KIND.boolean, KIND.string, KIND.array, KIND.object]]
    const own = kinds.filter((kind) => (branch.mask & kind) !== 0)
    if (own.length < 2) return [branch]
    return own.flatMap((kind) => this.#extended(branch, { takes: this.arena.kinds(kind) }))
  }

  /** By the value of a member that the nodes are told apart by, or else by the kind of a number. */
  #partsByValue(branch: Branch, nodes: readonly Node[]): Branch[] {
    const values = finiteValues(branch)
    if (values !== undefined)
      return values.flatMap((value) => this.#extended(branch, { takes: this.arena.value(value) }))
    if (branch.mask === NUMBERS)
      return [KIND.integer, KIND.fraction].flatMap((kind) => this.#extended(branch, { takes: this.arena.kinds(kind) }))
    if (branch.mask !== KIND.object) return [branch]
    for (const name of branch.required) {
      if (!nodes.some((node) => tellsApart(node, name))) continue
      const own = this.#valuesOf(memberNodes(branch, name))
      if (own === undefined) continue
      return own.flatMap((value) => {
        const properties = new Map([[name, this.arena.value(value)]])
        return this.#extended(branch, {
          atom: { is: 'members', properties, patterns: [], rest: undefined, pointer: '' },
        })
      })
    }
    return [branch]
  }

  #valuesOf(nodes: readonly Node[]): unknown[] | undefined {
    const found: unknown[] = []
    for (const branch of branchesOf(nodes, this.arena, this.work, 'coarse')) {
      const values = finiteValues(branch)
      if (values === undefined) return undefined
      found.push(...values)
    }
    return found.length <= MAX_SPLIT_VALUES ? found : undefined
  }

  // Objects

  #memberGaps(branch: Branch, reader: Members, trail: readonly Level[]): Gap[] {
    const names = knownNames(branch, reader)
    const gaps = [...names].flatMap((name) => {
      const nodes = memberNodes(branch, name)
      if (!this.#canHave(branch, name, nodes)) return []
      return this.#partGaps(branch, nodes, nodesAt(reader, name), trail, { member: name })
    })
    if (reader.patterns.length === 0 && reader.rest === undefined) return gaps
    const others = this.#otherNames(branch, reader, names)
    if (others === undefined) return [...gaps, ...this.#certainGaps(branch, reader, trail)]
    return [
      ...gaps,
      ...others.flatMap(({ name, matched }) => {
        const nodes = branch.members.flatMap((members) => nodesOfMatched(members, matched))
        if (this.#isEmpty(nodes)) return []
        return this.#partGaps(branch, nodes, nodesOfMatched(reader, matched), trail, { member: name })
      }),
    ]
  }

  /** By what is certain of a name that matches a pattern of the reader, or none of them. */
  #certainGaps(branch: Branch, { patterns, rest }: Members, trail: readonly Level[]): Gap[] {
    const gaps = patterns.flatMap(({ text, node }) => {
      const own = branch.members.flatMap((members) => members.patterns.filter((pattern) => pattern.text === text))
      const member = textsMatching(text)[0] ?? UNKNOWN_NAME
      return this.#partGaps(
        branch,
        own.map((pattern) => pattern.node),
        [node],
        trail,
        { member },
      )
    })
    if (rest === undefined) return gaps
    const texts = new Set(patterns.map(({ text }) => text))
    const own = branch.members.flatMap((members) =>
      members.rest !== undefined && members.patterns.every(({ text }) => texts.has(text)) ? [members.rest] : [],
    )
    if (own.length > 0 && this.#isEmpty(own)) return gaps
    return [...gaps, ...this.#partGaps(branch, own, [rest], trail, { member: OTHER_NAMES[0] })]
  }

  #partGaps(branch: Branch, writer: Node[], readers: Node[], trail: readonly Level[], step: Step): Gap[] {
    const inner = [...trail, { nodes: nodesOf(branch, this.arena), step }]
    return this.#inside(() => readers.flatMap((reader) => this.gaps(writer, reader, inner)))
  }

  #inside<T>(call: () => T): T {
    this.#depth++
    try {
      return call()
    } finally {
      this.#depth--
    }
  }

  #canHave(branch: Branch, name: string, nodes: readonly Node[]): boolean {
    if (!branch.required.has(name) && branch.required.size >= branch.maxProperties) return false
    return acceptsAll(branch.names, name, this.work) !== false && !this.#isEmpty(nodes)
  }

  /**
   * Names that no schema names, by the patterns that they match, each with an example.
   * @returns undefined: too many to tell apart
   */
  #otherNames(
    branch: Branch,
    reader: Members,
    known: ReadonlySet<string>,
  ): { name: string; matched: ReadonlySet<string> }[] | undefined {
    const asserted = branch.names.flatMap(({ atoms }) => atoms)
    if (asserted.some(({ is }) => is === 'values') || branch.required.size >= branch.maxProperties) return []
    const must = asserted.flatMap((atom) => (atom.is === 'pattern' ? [[atom.text, atom.pattern] as const] : []))
    const patterns = new Map(
      [...branch.members, reader].flatMap((members) =>
        members.patterns.map(({ text, pattern }) => [text, pattern] as const),
      ),
    )
    for (const [text, pattern] of must) patterns.set(text, pattern)
    if (patterns.size > MAX_PATTERNS) return undefined
    const candidates = [...OTHER_NAMES, ...[...patterns.keys()].flatMap(textsMatching)].filter(
      (name) => !known.has(name) && acceptsAll(branch.names, name, this.work) !== false,
    )
    return subsets([...patterns.keys()])
      .filter((matched) => must.every(([text]) => matched.has(text)))
      .map((matched) => {
        const fits = (name: string): boolean =>
          [...patterns].every(([text, pattern]) => pattern.test(name) === matched.has(text))
        return { name: candidates.find(fits) ?? UNKNOWN_NAME, matched }
      })
  }

  #nameGaps(branch: Branch, reader: Node, trail: readonly Level[], gap: Gap[]): Gap[] {
    const nodes = nodesOf(branch, this.arena)
    const gaps = [...knownNames(branch)].flatMap((name): Gap[] => {
      if (!this.#canHave(branch, name, memberNodes(branch, name))) return []
      if (accepts(reader, name, this.work) === true) return []
      const atom = refusing(reader, name, this.work) ?? (reader.atoms[0] as Atom)
      return [{ ...(gap[0] as Gap), atom, reader, trail: [...trail, { nodes, step: { is: 'name' } }], values: [name] }]
    })
    const empty = { properties: new Map(), patterns: [], rest: undefined }
    const others = this.#otherNames(branch, empty, knownNames(branch))
    if (others === undefined) return [...gaps, ...gap]
    for (const { matched } of others) {
      if (this.#isEmpty(branch.members.flatMap((members) => nodesOfMatched(members, matched)))) continue
      const patterns = [...matched].map((text) => this.arena.pattern(text))
      const name = [this.arena.kinds(KIND.string), ...branch.names, ...patterns]
      gaps.push(...this.#partGaps(branch, name, [reader], trail, { is: 'name' }))
    }
    return gaps
  }

  /** How many members there can be, by name. */
  #mostMembers(branch: Branch): number {
    const isClosed =
      branch.members.some(
        ({ patterns, rest }) => patterns.length === 0 && rest !== undefined && this.#isEmpty([rest]),
      ) || branch.names.some(({ atoms }) => atoms.some(({ is }) => is === 'values'))
    if (!isClosed) return Number.POSITIVE_INFINITY
    return [...knownNames(branch)].filter((name) => this.#canHave(branch, name, memberNodes(branch, name))).length
  }

  // Arrays

  #itemGaps(branch: Branch, reader: Items, trail: readonly Level[]): Gap[] {
    const length = longestPrefix([...branch.items, reader])
    const gaps: Gap[] = []
    for (let index = 0; index <= length && index < branch.maxItems; index++) {
      const nodes = itemNodes(branch, index)
      if (this.#isEmpty(nodes)) break
      const node = reader.prefix[index] ?? reader.rest
      if (node !== undefined) gaps.push(...this.#partGaps(branch, nodes, [node], trail, { item: index }))
    }
    return gaps
  }

  #isArrayIn(branch: Branch, atom: Atom): boolean {
    switch (atom.is) {
      case 'minItems':
        return branch.minItems >= atom.count
      case 'maxItems':
        return this.#mostItems(branch) <= atom.count
      case 'unique':
        return branch.isUnique || this.#mostItems(branch) <= 1
      case 'contains':
        return this.#inside(() => this.#hasEnough(branch, atom) && this.#hasNotTooMany(branch, atom))
      default:
        return false
    }
  }

  #mostItems(branch: Branch): number {
    const length = longestPrefix(branch.items)
    for (let index = 0; index <= length && index < branch.maxItems; index++)
      if (this.#isEmpty(itemNodes(branch, index))) return index
    return branch.maxItems
  }

  #hasEnough(branch: Branch, { node, min }: Contains): boolean {
    if (min === 0) return true
    if (branch.contains.some((own) => own.min >= min && this.gaps([own.node], node).length === 0)) return true
    let enough = 0
    for (let index = 0; index < branch.minItems && index <= longestPrefix(branch.items); index++) {
      const isAll = index === longestPrefix(branch.items)
      if (this.gaps(itemNodes(branch, index), node).length === 0) enough += isAll ? branch.minItems - index : 1
    }
    return enough >= min
  }

  #hasNotTooMany(branch: Branch, { node, max }: Contains): boolean {
    if (this.#mostItems(branch) <= max) return true
    return branch.contains.some((own) => own.max <= max && this.gaps([node], own.node).length === 0)
  }

  // Emptiness

  /** Whether it is proven that no value is taken by all nodes. */
  #isEmpty(nodes: readonly Node[]): boolean {
    this.work.spend()
    if (nodes.length === 0) return false
    const key = keyOf(nodes)
    const known = this.#empty.get(key)
    if (known !== undefined) return known
    // While it is looked at, it counts as not empty, which proves nothing.
    this.#empty.set(key, false)
    const outer = this.#leansOn
    this.#leansOn = Number.POSITIVE_INFINITY
    const isEmpty = this.#inside(() =>
      branchesOf(nodes, this.arena, this.work, 'coarse').every((branch) => this.#viable(branch) === undefined),
    )
    if (isEmpty && this.#leansOn < Number.POSITIVE_INFINITY) this.#empty.delete(key)
    else this.#empty.set(key, isEmpty)
    this.#leansOn = Math.min(outer, this.#leansOn)
    return isEmpty
  }

  /** The branch without kinds that no value of it is of. undefined: it is empty. */
  #viable(branch: Branch): Branch | undefined {
    const values = finiteValues(branch)
    if (values !== undefined && !values.some((value) => this.#mayTake(branch, value))) return undefined
    let { mask } = branch
    if (mask & KIND.object && this.#hasNoObject(branch)) mask &= ~KIND.object
    if (mask & KIND.array && this.#hasNoArray(branch)) mask &= ~KIND.array
    if (mask === 0) return undefined
    const viable = { ...branch, mask }
    return this.#isRefusedWhole(viable) ? undefined : viable
  }

  /** Whether a node that refuses the branch takes all of it. */
  #isRefusedWhole(branch: Branch): boolean {
    if (branch.refusedBy.size === 0 || this.#nesting >= MAX_NESTING) return false
    this.#nesting++
    try {
      return [...branch.refusedBy].some((node) => this.#isIn(branch, node, 0))
    } finally {
      this.#nesting--
    }
  }

  #hasNoObject(branch: Branch): boolean {
    return [...branch.required].some(
      (name) => acceptsAll(branch.names, name, this.work) === false || this.#isEmpty(memberNodes(branch, name)),
    )
  }

  #hasNoArray(branch: Branch): boolean {
    if (this.#mostItems(branch) < branch.minItems) return true
    return branch.contains.some(({ node, min }) => {
      if (min === 0) return false
      const length = longestPrefix(branch.items)
      const indexes = Array.from({ length: length + 1 }, (_, index) => index)
      if (indexes.every((index) => this.#isEmpty([...itemNodes(branch, index), node]))) return true
      return this.#inside(() =>
        branch.contains.some((other) => other.max < min && this.gaps([node], other.node).length === 0),
      )
    })
  }
}

/** Nothing but that it is not proven. */
function gapsAt(branch: Branch, reader: Node, trail: readonly Level[]): Gap[] {
  return reader.atoms.slice(0, 1).map((atom) => ({ atom, reader, branch, trail, values: undefined }))
}

const OTHER_NAMES: readonly [string, ...string[]] = ['extra', 'other', 'x', 'X', 'extra1', '1', '_', '$', 'a-b', '']
/** Stands for a name that there may be. */
const UNKNOWN_NAME = '*'

/** What members of other names have to be, if they match exactly these patterns. */
function nodesOfMatched({ patterns, rest }: Members, matched: ReadonlySet<string>): Node[] {
  const own = patterns.filter(({ text }) => matched.has(text)).map(({ node }) => node)
  return own.length > 0 || rest === undefined ? own : [rest]
}

function knownNames(branch: Branch, reader?: Members): Set<string> {
  const asserted = branch.names.flatMap(({ atoms }) => atoms)
  return new Set([
    ...branch.required,
    ...[...branch.members, ...(reader === undefined ? [] : [reader])].flatMap(({ properties }) => [
      ...properties.keys(),
    ]),
    ...asserted.flatMap((atom) => (atom.is === 'values' ? atom.values.filter((one) => typeof one === 'string') : [])),
  ])
}

const longestPrefix = (items: readonly Items[]): number => Math.max(0, ...items.map(({ prefix }) => prefix.length))

function subsets(list: readonly string[]): Set<string>[] {
  let all = [new Set<string>()]
  for (const one of list) all = [...all, ...all.map((set) => new Set([...set, one]))]
  return all
}

/** Whether a node has only some values of a member. */
function tellsApart(node: Node, name: string, depth = 0): boolean {
  return (
    depth < MAX_DEPTH &&
    node.atoms.some(
      (atom) =>
        (atom.is === 'members' && atom.properties.get(name)?.atoms.some(({ is }) => is === 'values')) ||
        (atom.is === 'all' && tellsApart(atom.node, name, depth + 1)),
    )
  )
}

function isNumberIn(branch: Branch, atom: Atom): boolean {
  const isWhole = (branch.mask & KIND.fraction) === 0
  const { lower, upper, multiples } = branch
  const closed = (at: number): Bound => ({ at, open: false })
  switch (atom.is) {
    case 'lower': {
      const own = lower !== undefined && isWhole ? closed(leastInteger(lower)) : lower
      return own !== undefined && (own.at > atom.at || (own.at === atom.at && (own.open || !atom.open)))
    }
    case 'upper': {
      const own = upper !== undefined && isWhole ? closed(greatestInteger(upper)) : upper
      return own !== undefined && (own.at < atom.at || (own.at === atom.at && (own.open || !atom.open)))
    }
    case 'multipleOf':
      return [...(isWhole ? [1] : []), ...multiples].some((own) => isMultiple(own, atom.of))
    default:
      return false
  }
}

/** Patterns that any text matches. */
const ALWAYS_MATCHED = new Set(['', '^', '$', '.*', '^.*'])

function isTextIn(branch: Branch, atom: Atom): boolean {
  switch (atom.is) {
    case 'minLength':
      return branch.minLength >= atom.count
    case 'maxLength':
      return branch.maxLength <= atom.count
    case 'pattern':
      return ALWAYS_MATCHED.has(atom.text) || branch.patterns.has(atom.text)
    case 'format':
      return branch.formats.has(atom.format.name)
    default:
      return false
  }
}
