import { RE2JS } from 're2js'

/**
 * Regular expressions of schemas, which strangers may have written: the time to match one grows with the text alone, whatever the expression.
 *
 * RE2 matches in linear time. It takes about ten times as long as the runtime's own engine, so expressions of the simplest shape, which cannot backtrack far,
 * are left to that.
 */

/** What Ajv calls. */
export interface Pattern {
  test(text: string): boolean
}

const MAX_PATTERN_CHARS = 1_000

/** A literal, an escaped character or class, or a character class. */
const ATOM = '(?:[^\\^$\\\\.*+?()\\[\\]{}|]|\\\\[dDwWsS.\\-/*+?^$()\\[\\]{}|\\\\]|\\[(?:[^\\[\\]\\\\]|\\\\.)+\\])'
const SIMPLE = new RegExp(`^\\^(?:${ATOM}(?:[*+?]|\\{\\d{1,2}(?:,\\d{0,2})?\\})?)*\\$?$`, 'u')
const REPEATED = new RegExp(`${ATOM}([*+?]|\\{\\d{1,2}(?:,\\d{0,2})?\\})?`, 'gu')

/** With one repetition of variable length and so many other characters, no more than that many are looked at again for each. */
const MAX_FIXED_CHARS = 64

/**
 * Whether an expression is anchored, has no groups, no alternatives, and at most one repetition of variable length: the runtime's engine then tries each
 * length of that one, and compares a bounded number of characters for each.
 */
export function isSimple(pattern: string): boolean {
  if (!SIMPLE.test(pattern)) return false
  let variable = 0
  let fixed = 0
  for (const [, repeat = ''] of pattern.slice(1).matchAll(REPEATED)) {
    const count = /^\{(\d+)\}$/.exec(repeat)?.[1]
    if (repeat === '' || count !== undefined) fixed += Number(count ?? 1)
    else variable++
  }
  return variable <= 1 && fixed <= MAX_FIXED_CHARS
}

/** ECMA-262, section 22.2.2.9: what \s matches; RE2's matches only the ASCII of it. */
const SPACES =
  '\\t\\n\\x0b\\f\\r \\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}\\x{feff}'
/** ECMA-262, section 12.3: what a dot does not match. */
const NO_LINE_END = '[^\\n\\r\\x{2028}\\x{2029}]'

/** ECMAScript's expression in RE2's syntax. */
function translated(pattern: string): string {
  let text = ''
  let isInClass = false
  for (let at = 0; at < pattern.length; at++) {
    const char = pattern[at] as string
    const next = pattern[at + 1]
    if (char === '\\' && next !== undefined) {
      at++
      if (next === 's') text += isInClass ? SPACES : `[${SPACES}]`
      else if (next === 'S' && !isInClass) text += `[^${SPACES}]`
      else text += char + next
      continue
    }
    if (char === '[') isInClass = true
    else if (char === ']') isInClass = false
    text += char === '.' && !isInClass ? NO_LINE_END : char
  }
  return RE2JS.translateRegExp(text)
}

/** Instructions of a compiled expression: a bound of its memory. */
const MAX_PROGRAM = 2_000

/** So many instructions are kept, of all expressions: a schema that is read again mostly has the same ones. */
const MAX_KEPT_PROGRAM = 100_000
const compiled = new Map<string, Pattern>()
let keptProgram = 0

/** @throws Error saying why it is not one that we take */
export function patternOf(pattern: string): Pattern {
  const known = compiled.get(pattern)
  if (known !== undefined) return known
  const made = compile(pattern)
  keptProgram += made instanceof RE2JS ? made.programSize() : 1
  if (keptProgram > MAX_KEPT_PROGRAM) {
    compiled.clear()
    keptProgram = 0
  }
  compiled.set(pattern, made)
  return made
}

function compile(pattern: string): Pattern {
  if (pattern.length > MAX_PATTERN_CHARS) throw new Error(`is longer than ${MAX_PATTERN_CHARS} characters`)
  if (isSimple(pattern))
    try {
      return new RegExp(pattern, 'u')
    } catch {
      // RE2 takes some that ECMAScript does not with the flag u, such as \- outside of a class.
    }
  let made: RE2JS
  try {
    made = RE2JS.compile(translated(pattern))
  } catch (error) {
    throw new Error(`is no regular expression that is matched in linear time (RE2): ${(error as Error).message}`)
  }
  if (made.programSize() > MAX_PROGRAM) throw new Error('repeats too much: it is too large when it is compiled')
  return made
}

/** The same expression, matched in linear time; undefined where that is not possible. */
export function linear({ source, flags }: RegExp): Pattern | undefined {
  try {
    return RE2JS.compile(RE2JS.translateRegExp(`${flags.includes('i') ? '(?i)' : ''}${source}`))
  } catch {
    return undefined
  }
}
