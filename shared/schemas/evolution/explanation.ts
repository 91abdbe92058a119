import { pointerTo } from '../../events/json-pointer.ts'
import type { Gap, Level } from './containment.ts'
import { type Atom, KIND, NUMBERS } from './nodes.ts'

/** How the two schemas of a comparison are called, and which of them is new. */
export interface Names {
  writer: string
  reader: string
  isReaderNew: boolean
}

const MAX_VALUES_CHARS = 120

/** What is not compatible at a place, and what to do about it, in a sentence or two. */
export function explanation(gap: Gap, names: Names): string {
  const { writer, reader, isReaderNew } = names
  const place = placeOf(gap.trail)
  if (gap.atom.is === 'required') {
    const advice = isReaderNew ? 'leave it optional' : 'keep it required'
    return `${quoted(place.path + pointerTo(gap.atom.name))} is required by ${reader}, and ${writer} lets it be absent: ${advice}`
  }
  const subject = place.isName ? `a name in ${quoted(place.path)}` : quoted(place.path)
  const takes = demand(gap.atom)
  if (isOpen(gap)) return `${subject}: ${open(takes, names)}`
  if (takes !== undefined) return `${subject}: ${reader} takes only ${takes}, and ${writer} takes ${others(gap)}`
  const advice = isReaderNew
    ? 'keep it in the schema'
    : `a member can be added where ${reader} leaves additional properties open`
  return `${subject} may be there by ${writer}, and ${reader} does not take it: ${advice}`
}

/** For a member that the writer's schema does not name. */
function open(takes: string | undefined, { writer, reader, isReaderNew }: Names): string {
  const begin = `${writer} leaves additional properties open, so its data may have anything there, and ${reader}`
  if (takes === undefined)
    return isReaderNew
      ? `${begin} does not take it: leave them open, too, or close them from the first version on`
      : `${begin} does not take it: close them, too`
  return isReaderNew
    ? `${begin} takes only ${takes}. To add a property compatibly, close the version before it ("additionalProperties": false) or let it hold additional properties to the same schema; or add the property without constraints (true)`
    : `${begin} takes only ${takes}: keep the property, or close the new version ("additionalProperties": false)`
}

/** Why no data shows it. */
export function whyNotShown({ atom }: Gap): string {
  switch (atom.is) {
    case 'pattern':
      return 'patterns are compared by their text, and no text was found that only one of them matches'
    case 'opaque':
      return `${atom.keyword} is compared only with the same schema around it`
    default:
      return 'neither a proof nor data that shows the opposite was found'
  }
}

/** The place is a member of which the writer knows nothing. */
function isOpen({ branch, trail }: Gap): boolean {
  const step = trail.at(-1)?.step
  return step !== undefined && 'member' in step && branch.takenBy.size === 0 && branch.refusedBy.size === 0
}

function placeOf(trail: readonly Level[]): { path: string; isName: boolean } {
  let path = ''
  for (const { step } of trail)
    if ('member' in step) path += pointerTo(step.member)
    else if ('item' in step) path += `/${step.item}`
  const last = trail.at(-1)?.step
  return { path, isName: last !== undefined && 'is' in last }
}

const quoted = (path: string): string => (path === '' ? 'the data' : `\`${path}\``)

/** What an atom takes. undefined: nothing. */
function demand(atom: Atom): string | undefined {
  switch (atom.is) {
    case 'kinds':
      return atom.mask === 0 ? undefined : kindsIn(atom.mask)
    case 'values':
      return valuesIn(atom.values)
    case 'lower':
      return `numbers ${atom.open ? 'greater than' : 'of at least'} ${atom.at}`
    case 'upper':
      return `numbers ${atom.open ? 'less than' : 'of at most'} ${atom.at}`
    case 'multipleOf':
      return `multiples of ${atom.of}`
    case 'minLength':
      return `strings of at least ${atom.count} characters`
    case 'maxLength':
      return `strings of at most ${atom.count} characters`
    case 'pattern':
      return `strings that match ${atom.text}`
    case 'format':
      return `strings of the format ${atom.format.name}`
    case 'minItems':
      return `arrays of at least ${atom.count} elements`
    case 'maxItems':
      return `arrays of at most ${atom.count} elements`
    case 'unique':
      return 'arrays without equal elements'
    case 'contains':
      return `arrays with ${countsIn(atom.min, atom.max)} elements that fit contains`
    case 'minProperties':
      return `objects with at least ${atom.count} members`
    case 'maxProperties':
      return `objects with at most ${atom.count} members`
    case 'any':
      return 'data that fits one of the forms in anyOf'
    case 'one':
      return 'data that fits exactly one of the forms in oneOf'
    case 'not':
      return 'data that does not fit not'
    case 'opaque':
      return `data that fits ${atom.keyword}`
    case 'required':
      return `objects with ${atom.name}`
    default:
      return 'data that fits this schema'
  }
}

function countsIn(min: number, max: number): string {
  if (max === Number.POSITIVE_INFINITY) return `at least ${min}`
  return min === 0 ? `at most ${max}` : `${min} to ${max}`
}

const KIND_NAMES: readonly [number, string][] = [
  [KIND.object, 'objects'],
  [KIND.array, 'arrays'],
  [KIND.string, 'strings'],
  [NUMBERS, 'numbers'],
  [KIND.integer, 'whole numbers'],
  [KIND.fraction, 'fractions'],
  [KIND.boolean, 'booleans'],
  [KIND.null, 'null'],
]

function kindsIn(mask: number): string {
  let left = mask
  const names: string[] = []
  for (const [kind, name] of KIND_NAMES)
    if ((left & kind) === kind) {
      names.push(name)
      left &= ~kind
    }
  return listed(names)
}

const listed = (words: readonly string[]): string =>
  words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`

function valuesIn(values: readonly unknown[]): string {
  const text = values.map((value) => JSON.stringify(value)).join(', ')
  return text.length <= MAX_VALUES_CHARS ? text : `${text.slice(0, MAX_VALUES_CHARS).toWellFormed()}…`
}

/** What the writer takes besides. */
function others({ atom, branch, values }: Gap): string {
  if (values !== undefined) return valuesIn(values)
  if (atom.is === 'kinds') return kindsIn(branch.mask & ~atom.mask)
  return 'others'
}
