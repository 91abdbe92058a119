import type { Atom, Members, Node } from './nodes.ts'

/**
 * Whether two nodes assert the same in the same words: they take the same data, whatever the keywords mean. References are followed, so it does not matter
 * where a schema stands.
 */
export function isSameNode(one: Node, other: Node, known?: Set<string>): boolean {
  if (one === other) return true
  const [first, second] = [wordsOf(one), wordsOf(other)]
  if (first.length !== second.length || first.some(([words], index) => words !== second[index]?.[0])) return false
  const pair = `${one.id} ${other.id}`
  // While a pair is compared, it counts as the same: two schemas that differ do so at some finite depth.
  if (known?.has(pair)) return true
  const pairs = (known ?? new Set()).add(pair)
  return first.every(([, parts], index) => {
    const otherParts = second[index]?.[1] ?? []
    return (
      parts.length === otherParts.length && parts.every((part, at) => isSameNode(part, otherParts[at] as Node, pairs))
    )
  })
}

type Words = [string, Node[]]

const cache = new WeakMap<Node, Words[]>()

function wordsOf(node: Node): Words[] {
  const made = cache.get(node) ?? node.atoms.map(wordsOfAtom).sort(([one], [other]) => (one < other ? -1 : 1))
  cache.set(node, made)
  return made
}

function wordsOfAtom(atom: Atom): Words {
  switch (atom.is) {
    case 'members':
      return wordsOfMembers(atom)
    case 'items':
      return [`items ${atom.prefix.length} ${atom.rest !== undefined}`, [...atom.prefix, ...listOf(atom.rest)]]
    case 'any':
    case 'one':
      return [`${atom.is} ${atom.nodes.length}`, [...atom.nodes]]
    case 'if':
      return ['if', [atom.condition, atom.yes, atom.no]]
    case 'all':
    case 'not':
    case 'names':
      return [atom.is, [atom.node]]
    case 'dependent':
      return [JSON.stringify([atom.is, atom.name]), [atom.node]]
    case 'contains':
      return [`contains ${atom.min} ${atom.max}`, [atom.node]]
    case 'opaque':
      return [JSON.stringify([atom.is, atom.keyword, atom.text]), listOf(atom.node)]
    case 'pattern':
      return [JSON.stringify([atom.is, atom.text]), []]
    case 'format':
      return [JSON.stringify([atom.is, atom.format.name]), []]
    default: {
      const { pointer: _, ...assertion } = atom
      return [JSON.stringify(assertion), []]
    }
  }
}

function wordsOfMembers({ properties, patterns, rest }: Members): Words {
  const byName = ([one]: [string, Node], [other]: [string, Node]): number => (one < other ? -1 : 1)
  const named = [...properties].sort(byName)
  const matched = patterns.map(({ text, node }): [string, Node] => [text, node]).sort(byName)
  const names = (list: [string, Node][]): string[] => list.map(([name]) => name)
  return [
    JSON.stringify(['members', names(named), names(matched), rest !== undefined]),
    [...[...named, ...matched].map(([, node]) => node), ...listOf(rest)],
  ]
}

const listOf = (node: Node | undefined): Node[] => (node === undefined ? [] : [node])
