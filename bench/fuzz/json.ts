import type { Random } from '../faults/random.ts'

/** Changes of a JSON document that leave it one. */

/** Where a member or an element stands. */
interface Place {
  readonly of: Record<string, unknown> | unknown[]
  readonly at: string
}

const NAMES = [
  'id',
  'type',
  'data',
  'data_base64',
  'specversion',
  '__proto__',
  'constructor',
  'toString',
  '',
  'é',
  'a.b',
  'x'.repeat(300),
] as const
const LONG = 20_000
const DEEP = 200

const deep = (): unknown => {
  let value: unknown = 0
  for (let left = DEEP; left > 0; left--) value = [value]
  return value
}

const VALUES: readonly [() => unknown, ...(() => unknown)[]] = [
  () => null,
  () => true,
  () => 0,
  () => -0.5,
  () => 1e308,
  () => 2 ** 53,
  () => '',
  () => ' ',
  () => '\u0000',
  () => '\ud800',
  () => '\u202e\u2028',
  () => 'é'.repeat(LONG),
  () => '2026-02-30T25:61:00Z',
  () => '../../etc/passwd',
  () => 'https://[::1',
  () => [],
  () => ({}),
  () => Array<number>(LONG).fill(0),
  () => Object.fromEntries(Array.from({ length: 1_000 }, (_, index) => [`k${index}`, index])),
  deep,
]

function placesIn(value: unknown): Place[] {
  if (Array.isArray(value)) return value.flatMap((one, at) => [{ of: value, at: String(at) }, ...placesIn(one)])
  if (typeof value !== 'object' || value === null) return []
  const of = value as Record<string, unknown>
  return Object.keys(of).flatMap((at) => [{ of, at }, ...placesIn(of[at])])
}

const set = ({ of, at }: Place, value: unknown): void => {
  // An assignment to `__proto__` would not add a member.
  Object.defineProperty(of, at, { value, enumerable: true, configurable: true, writable: true })
}

/** @returns the text with one member or element changed, added, moved or taken out; undefined for what is no JSON object or array */
export function changedJson(text: string, random: Random): string | undefined {
  let document: unknown
  try {
    document = JSON.parse(text)
  } catch {
    return undefined
  }
  const places = placesIn(document)
  const place = places[random.integer(0, places.length - 1)]
  const other = places[random.integer(0, places.length - 1)]
  const how = random.integer(0, 3)
  const value = random.pick(VALUES)()
  const name = random.pick(NAMES)
  if (place === undefined || other === undefined) return undefined
  const { of, at } = place
  if (how === 0) set(place, value)
  else if (how === 1) set(place, JSON.parse(JSON.stringify((other.of as Record<string, unknown>)[other.at])))
  else if (how === 2 && Array.isArray(of)) of.splice(Number(at), 1)
  else if (how === 2) delete (of as Record<string, unknown>)[at]
  else if (Array.isArray(of)) of.push(value)
  else set({ of, at: name }, value)
  return JSON.stringify(document)
}
