import { patternOf } from '../patterns.ts'

/** What a part of an expression matches: a text for each number, and how many characters it can be of. */
interface Part {
  /** Another number chooses other alternatives, characters and counts. */
  text(choice: number): string
  least: number
  most: number
}

const VARIANTS = 24
/** How often more than it must, what may be repeated without an end is. */
const REPEATS = [0, 1, 2, 4, 9, 19, 60]
const MAX_REPEATS = 1_000

/** Texts that match a regular expression; none where it says more than this can follow. */
export function textsMatching(pattern: string): string[] {
  const part = new Parser(pattern).whole()
  if (part === undefined) return []
  const found = new Set(Array.from({ length: VARIANTS }, (_, choice) => part.text(choice)))
  const compiled = patternOf(pattern)
  return [...found].filter((text) => compiled.test(text))
}

/** The shortest and the longest text that an expression matches, in code points, or less and more than that. */
export function lengthsMatching(pattern: string): { least: number; most: number } {
  const part = new Parser(pattern).whole()
  if (part === undefined) return { least: 0, most: Number.POSITIVE_INFINITY }
  const isWhole = /^\^.*[^\\]\$$/su.test(pattern) && !hasAlternatives(pattern)
  return { least: part.least, most: isWhole ? part.most : Number.POSITIVE_INFINITY }
}

/** Whether it has alternatives outside of groups: the ends that it is anchored to may then be of one of them only. */
function hasAlternatives(pattern: string): boolean {
  let depth = 0
  for (const char of pattern.replace(/\\./gsu, '').replace(/\[[^\]]*\]/g, '')) {
    if (char === '(') depth++
    else if (char === ')') depth--
    else if (char === '|' && depth === 0) return true
  }
  return false
}

const CLASSES: Readonly<Record<string, string>> = {
  d: '0123456789',
  w: 'abcxyzABC019_',
  s: ' \t',
  D: 'aZ -',
  W: ' -.',
  S: 'aZ0-',
}
const CONTROLS: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', f: '\f', v: '\v', 0: '\0' }
/** What a negated class chooses from. */
const COMMON = Array.from({ length: 95 }, (_, index) => String.fromCharCode(32 + index)).concat('é', '\n')
const ANY = 'axZ0-. '
const NOTHING: Part = { text: () => '', least: 0, most: 0 }

const isIn = (classes: string, char: string): boolean => new RegExp(`[\\${classes}]`, 'u').test(char)

/** Reads an expression; `undefined` for what it does not know. */
class Parser {
  #at = 0

  constructor(private readonly text: string) {}

  whole(): Part | undefined {
    const part = this.#alternatives()
    return this.#at === this.text.length ? part : undefined
  }

  #alternatives(): Part | undefined {
    const found: Part[] = []
    do {
      const one = this.#sequence()
      if (one === undefined) return undefined
      found.push(one)
    } while (this.#takes('|'))
    return {
      text: (choice) => (found[choice % found.length] as Part).text(Math.floor(choice / found.length)),
      least: Math.min(...found.map(({ least }) => least)),
      most: Math.max(...found.map(({ most }) => most)),
    }
  }

  #takes(text: string): boolean {
    if (!this.text.startsWith(text, this.#at)) return false
    this.#at += text.length
    return true
  }

  #sequence(): Part | undefined {
    const parts: Part[] = []
    while (this.#at < this.text.length && this.text[this.#at] !== '|' && this.text[this.#at] !== ')') {
      const part = this.#repeated()
      if (part === undefined) return undefined
      parts.push(part)
    }
    return {
      text: (choice) => parts.map((part) => part.text(choice)).join(''),
      least: parts.reduce((sum, part) => sum + part.least, 0),
      most: parts.reduce((sum, part) => sum + part.most, 0),
    }
  }

  #repeated(): Part | undefined {
    const one = this.#atom()
    if (one === undefined) return undefined
    const [least, most] = this.#counts()
    if (least > MAX_REPEATS) return undefined
    if (least === 1 && most === 1) return one
    return {
      text: (choice) => {
        const count = Math.min(most, least + (REPEATS[choice % REPEATS.length] ?? 0))
        return Array.from({ length: count }, (_, index) => one.text(choice + index)).join('')
      },
      least: least * one.least,
      most: one.most === 0 ? 0 : most * one.most,
    }
  }

  #counts(): [number, number] {
    let counts: [number, number] = [1, 1]
    const braces = /^\{(\d+)(,(\d*))?\}/.exec(this.text.slice(this.#at))
    if (this.#takes('*')) counts = [0, Number.POSITIVE_INFINITY]
    else if (this.#takes('+')) counts = [1, Number.POSITIVE_INFINITY]
    else if (this.#takes('?')) counts = [0, 1]
    else if (braces !== null) {
      const [all, least = '', more, most = ''] = braces
      this.#at += all.length
      const greatest = most === '' ? Number.POSITIVE_INFINITY : Number(most)
      counts = [Number(least), more === undefined ? Number(least) : greatest]
    } else return counts
    this.#takes('?')
    return counts
  }

  #atom(): Part | undefined {
    const char = String.fromCodePoint(this.text.codePointAt(this.#at) as number)
    if (char === '(') return this.#group()
    if (char === '[') return this.#class()
    this.#at += char.length
    if (char === '^' || char === '$') return NOTHING
    if (char === '.') return chosenFrom([...ANY])
    if (char === '\\') return this.#escaped()
    return '*+?{'.includes(char) ? undefined : chosenFrom([char])
  }

  #group(): Part | undefined {
    this.#at++
    if (this.#takes('?') && !this.#takes(':')) {
      const name = /^P?<\w+>/.exec(this.text.slice(this.#at))
      if (name === null) return undefined
      this.#at += name[0].length
    }
    const inner = this.#alternatives()
    return this.#takes(')') ? inner : undefined
  }

  #escaped(): Part | undefined {
    if (this.#takes('b') || this.#takes('B')) return NOTHING
    const chars = this.#escape()
    return chars === undefined ? undefined : chosenFrom(chars)
  }

  /** Behind a backslash. @returns the characters that it stands for */
  #escape(): string[] | undefined {
    const code = /^(?:u\{([0-9a-fA-F]+)\}|u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))/.exec(this.text.slice(this.#at))
    if (code !== null) {
      this.#at += code[0].length
      const point = Number.parseInt(code[1] ?? code[2] ?? code[3] ?? '', 16)
      // Two of these may be one character.
      return point >= 0xd800 && point <= 0xdfff ? undefined : [String.fromCodePoint(point)]
    }
    const char = this.text[this.#at++]
    if (char === undefined || /[1-9pPkc]/.test(char)) return undefined
    const chars = CLASSES[char]
    if (chars !== undefined) return [...chars]
    return [CONTROLS[char] ?? char]
  }

  #class(): Part | undefined {
    this.#at++
    const isNegated = this.#takes('^')
    const chars: string[] = []
    const classes: string[] = []
    while (!this.#takes(']')) {
      if (this.#at >= this.text.length) return undefined
      const from = this.#member(classes)
      if (from === undefined) return undefined
      if (this.text[this.#at] !== '-' || this.text[this.#at + 1] === ']' || from.length !== 1) {
        chars.push(...from)
        continue
      }
      this.#at++
      const to = this.#member(classes)
      if (to?.length !== 1) return undefined
      chars.push(...charsBetween(from[0] as string, to[0] as string))
    }
    if (!isNegated) return chosenFrom(chars)
    return chosenFrom(COMMON.filter((char) => !chars.includes(char) && !classes.some((one) => isIn(one, char))))
  }

  #member(classes: string[]): string[] | undefined {
    const char = String.fromCodePoint(this.text.codePointAt(this.#at) as number)
    this.#at += char.length
    if (char !== '\\') return [char]
    const name = this.text[this.#at]
    if (name !== undefined && Object.hasOwn(CLASSES, name)) classes.push(name)
    return this.#escape()
  }
}

function chosenFrom(chars: readonly string[]): Part | undefined {
  if (chars.length === 0) return undefined
  return { text: (choice) => chars[(choice * 7) % chars.length] as string, least: 1, most: 1 }
}

/** The whole range, or its ends where it is long. */
function charsBetween(from: string, to: string): string[] {
  const [first, last] = [from.codePointAt(0) as number, to.codePointAt(0) as number]
  const length = last - first + 1
  if (length > 200) return [from, to]
  return Array.from({ length: Math.max(0, length) }, (_, index) => String.fromCodePoint(first + index))
}
