import { stepsOf } from '../../shared/events/json-pointer.ts'

/** JSON whose numbers keep their text, and what RFC 6901 pointers name in it. Browsers can use this, too. */

/** Of ECMAScript's `JSON.parse source text access`, which the types do not know yet, nor all browsers. */
const { rawJSON, isRawJSON } = JSON as unknown as {
  rawJSON?(text: string): unknown
  isRawJSON?(value: unknown): boolean
}

/** Whether numbers keep all digits here. */
export const keepsDigits = rawJSON !== undefined

/** Numbers that JavaScript would change keep their text, so that none loses digits. @throws SyntaxError */
export function parseJson(text: string): unknown {
  const keep = (_key: string, value: unknown, { source }: { source?: string } = {}): unknown =>
    typeof value === 'number' && source !== undefined && rawJSON !== undefined && String(value) !== source
      ? rawJSON(source)
      : value
  return JSON.parse(text, keep as (key: string, value: unknown) => unknown)
}

/** undefined for what is no JSON. */
export function jsonOf(text: string): { value: unknown } | undefined {
  try {
    return { value: parseJson(text) }
  } catch {
    return undefined
  }
}

/** An object or array of JSON. */
export type Json = Record<string, unknown>

/** Numbers that keep their text are objects to ECMAScript. */
export const isContainer = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && isRawJSON?.(value) !== true

const INDEX = /^(?:0|[1-9]\d*)$/

/** RFC 6901, section 4. */
export const isIndex = (name: string): boolean => INDEX.test(name)

/** Members of an array are its indexes. */
export const hasMember = (holder: Json, name: string): boolean =>
  Object.hasOwn(holder, name) && (!Array.isArray(holder) || isIndex(name))

/** Calls back for everything that the pointers name, with what holds it and its name there. `*` stands for all members and elements. */
export function eachPlace(
  root: { value: unknown },
  pointers: readonly string[],
  onPlace: (holder: Json, name: string, pointer: string) => void,
): void {
  const walk = (holder: Json, [step = '', ...rest]: readonly string[], pointer: string): void => {
    for (const name of step === '*' ? Object.keys(holder) : [step]) {
      if (!hasMember(holder, name)) continue
      const child = holder[name]
      if (rest.length === 0) onPlace(holder, name, pointer)
      else if (isContainer(child)) walk(child, rest, pointer)
    }
  }
  for (const pointer of pointers) walk(root, ['value', ...stepsOf(pointer)], pointer)
}

/** What a pointer names; undefined where there is nothing. */
export function valueAt(value: unknown, pointer: string): unknown {
  let at = value
  for (const step of stepsOf(pointer)) {
    if (!isContainer(at) || !hasMember(at, step)) return undefined
    at = at[step]
  }
  return at
}
