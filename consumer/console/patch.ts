import { isPointer, stepsOf } from '../../shared/events/json-pointer.ts'
import type { Edit } from './acts-log.ts'
import { hasMember, isContainer, isIndex, type Json, jsonOf } from './json.ts'

/** Changes a JSON document by RFC 6902. Only own members count, copies have a bound, and numbers keep their text. */

export type Operation = NonNullable<Edit['patch']>[number]

/** All copies of a patch together, as JSON: each copy may be of all earlier ones. */
const MAX_COPIED_BYTES = 2 ** 20

export type Patched = { ok: true; value: unknown } | { ok: false; index: number; detail: string }

/** Why an operation does not apply. */
class Refusal extends Error {}

/** The document with the changes, of which either all are made or none; undefined is no document. The given one may be changed, too. */
export function patched(document: unknown, patch: readonly Operation[]): Patched {
  const root: Json = { value: document }
  const budget = { bytes: MAX_COPIED_BYTES }
  for (const [index, operation] of patch.entries()) {
    try {
      apply(root, operation, budget)
    } catch (error) {
      if (error instanceof Refusal) return { ok: false, index, detail: error.message }
      throw error
    }
  }
  return { ok: true, value: root['value'] }
}

function apply(root: Json, { op, path, from, value }: Operation, budget: { bytes: number }): void {
  const target = placeOf(root, path)
  switch (op) {
    case 'add':
      add(target, given(value))
      break
    case 'remove':
      take(target)
      break
    case 'replace':
      get(target)
      set(target, given(value))
      break
    case 'move': {
      const source = demanded(from, 'from')
      if (path.startsWith(`${source}/`)) throw new Refusal(`${source} cannot be moved into itself`)
      const moved = take(placeOf(root, source))
      add(placeOf(root, path), moved)
      break
    }
    case 'copy': {
      const text = JSON.stringify(get(placeOf(root, demanded(from, 'from'))))
      budget.bytes -= Buffer.byteLength(text)
      if (budget.bytes < 0) throw new Refusal(`the patch copies more than ${MAX_COPIED_BYTES} bytes`)
      add(target, jsonOf(text)?.value)
      break
    }
    case 'test':
      // What the value is, is not told: it may be masked.
      if (!isEqual(get(target), demanded(value, 'value'))) throw new Refusal(`the value at ${path || '""'} is another`)
  }
}

/** A copy: later operations change what is in the document, and the patch is kept as it was given. */
const given = (value: unknown): unknown => jsonOf(JSON.stringify(demanded(value, 'value')))?.value

function demanded<T>(member: T | undefined, name: string): T {
  if (member === undefined) throw new Refusal(`\`${name}\` is required`)
  return member
}

/** A place in an object or array. */
interface Place {
  holder: Json
  name: string
  path: string
}

/** @throws Refusal when there is nothing that could have such a member */
function placeOf(root: Json, path: string): Place {
  if (!isPointer(path)) throw new Refusal(`${path} is no JSON pointer`)
  const steps = ['value', ...stepsOf(path)]
  const name = steps.pop() as string
  let holder: unknown = root
  for (const step of steps) {
    if (!isContainer(holder) || !hasMember(holder, step)) throw new Refusal(`there is nothing at ${path}`)
    holder = holder[step]
  }
  if (!isContainer(holder)) throw new Refusal(`there is nothing at ${path}`)
  return { holder, name, path }
}

function get({ holder, name, path }: Place): unknown {
  if (!hasMember(holder, name) || holder[name] === undefined) throw new Refusal(`there is nothing at ${path || '""'}`)
  return holder[name]
}

/** A member named `__proto__`, too. */
function set({ holder, name }: Place, value: unknown): void {
  Object.defineProperty(holder, name, { value, writable: true, enumerable: true, configurable: true })
}

function add(place: Place, value: unknown): void {
  const { holder, name, path } = place
  if (!Array.isArray(holder)) {
    set(place, value)
    return
  }
  if (name !== '-' && !(isIndex(name) && Number(name) <= holder.length))
    throw new Refusal(`${path} is no place in the array`)
  holder.splice(name === '-' ? holder.length : Number(name), 0, value)
}

function take(place: Place): unknown {
  const taken = get(place)
  const { holder, name } = place
  if (Array.isArray(holder)) holder.splice(Number(name), 1)
  else delete holder[name]
  return taken
}

function isEqual(one: unknown, other: unknown): boolean {
  if (!isContainer(one) || !isContainer(other)) return !isContainer(one) && !isContainer(other) && isSame(one, other)
  const names = Object.keys(one)
  return (
    Array.isArray(one) === Array.isArray(other) &&
    names.length === Object.keys(other).length &&
    names.every((name) => Object.hasOwn(other, name) && isEqual(one[name], other[name]))
  )
}

/** Numbers by their value where that fits a double (IEEE 754: at most 15 significant digits), else by their text. */
function isSame(one: unknown, other: unknown): boolean {
  const [text, otherText] = [JSON.stringify(one), JSON.stringify(other)]
  if (text === otherText) return true
  return isShortNumber(text) && isShortNumber(otherText) && Number(text) === Number(otherText)
}

const isShortNumber = (text: string): boolean =>
  /^-?\d/.test(text) && text.replace(/[eE].*$/, '').replace(/^[-0.]+|\./g, '').length <= 15
