/** What the licences of packages allow, by their SPDX expressions. */
import type { Manifest, Package } from './dependencies-packages.ts'

/** They ask for no more than to keep their text, or a notice, with the copies. */
const ALLOWED: ReadonlySet<string> = new Set([
  '0BSD',
  'Apache-2.0',
  'BSD-2-Clause',
  'BSD-2-Clause-Views',
  'BSD-3-Clause',
  'BlueOak-1.0.0',
  'CC0-1.0',
  'ISC',
  'MIT',
  'PSF-2.0',
  'Python-2.0',
  'Unlicense',
  'Zlib',
])

/** Also allowed of what is only for development, and not handed on: whoever hands it on has to offer its source. */
const ALLOWED_FOR_DEVELOPMENT: ReadonlySet<string> = new Set([...ALLOWED, 'MPL-2.0'])

/** Packages whose package.json has no SPDX expression: what their own licence file says. */
const STATED: Readonly<Record<string, { readonly licence: string; readonly why: string }>> = {
  tv4: { licence: 'MIT', why: 'package.json has the form of before 2015: public domain, or MIT' },
}

/** @returns the SPDX expression of a package.json, or undefined */
const licenceOf = ({ name = '', license }: Manifest): string | undefined =>
  STATED[name]?.licence ?? (typeof license === 'string' ? license : undefined)

/**
 * Whether an SPDX licence expression (SPDX 3.0, annex B) can be met with these licences: of `OR` with either side, of `AND` with both. An exception (`WITH`) only
 * allows more.
 * @returns undefined for what is no expression
 */
export function isMetBy(expression: string, allowed: ReadonlySet<string>): boolean | undefined {
  const tokens = expression.match(/[()]|[^\s()]+/g) ?? []
  const take = (token: string): boolean => {
    if (tokens[0] !== token) return false
    tokens.shift()
    return true
  }
  const atom = (): boolean | undefined => {
    if (take('(')) {
      const inner = either()
      return take(')') ? inner : undefined
    }
    const id = tokens.shift()
    if (id === undefined || !/^[A-Za-z0-9.-]+\+?$/.test(id) || WORDS.has(id)) return undefined
    if (take('WITH') && tokens.shift() === undefined) return undefined
    return allowed.has(id)
  }
  const both = (): boolean | undefined => {
    const first = atom()
    if (first === undefined || !take('AND')) return first
    const second = both()
    return second === undefined ? undefined : first && second
  }
  const either = (): boolean | undefined => {
    const first = both()
    if (first === undefined || !take('OR')) return first
    const second = either()
    return second === undefined ? undefined : first || second
  }
  const met = either()
  return tokens.length === 0 ? met : undefined
}

const WORDS: ReadonlySet<string> = new Set(['AND', 'OR', 'WITH'])

/** @returns what is wrong with the licences, one a package */
export function licenceFaults(packages: readonly Package[]): string[] {
  const faults = packages.flatMap(({ id, manifest, isProduction }) => {
    const licence = licenceOf(manifest)
    if (licence === undefined)
      return [
        `${id} names no SPDX licence in its package.json (${JSON.stringify(manifest.license ?? manifest.licenses)})`,
      ]
    const met = isMetBy(licence, isProduction ? ALLOWED : ALLOWED_FOR_DEVELOPMENT)
    if (met === undefined) return [`${id}: its licence ${licence} is no SPDX expression`]
    return met
      ? []
      : [
          `${id}: its licence ${licence} is not among those that are allowed${isProduction ? ' of what is handed on' : ''}`,
        ]
  })
  for (const [name, { why }] of Object.entries(STATED))
    if (!packages.some((one) => one.name === name))
      faults.push(`${name} is not installed any more: remove it here (${why})`)
  return faults
}
