import type Ajv from 'ajv'
import addFormats from 'ajv-formats'
import { linear } from './patterns.ts'

/** The formats of ajv-formats, each of which takes a bounded time: those of its expressions that backtrack are matched by RE2, or tested otherwise. */

/** Nothing that has one of these formats is longer, and what is left of quadratic time is short with this. */
const MAX_FORMAT_CHARS = 2_048

const SCHEME = /^[a-z][a-z0-9+.-]*:/i
const URL_SCHEMES = new Set(['http:', 'https:', 'ftp:'])

/** Anchored, with as many characters each time: the runtime matches them at once. */
const FIXED = new Set(['uuid', 'ipv4'])

type Test = (text: string) => boolean

export function addBoundedFormats(ajv: Ajv): Ajv {
  // formatMinimum and the like are Ajv's own.
  addFormats(ajv, { mode: 'full', keywords: false })
  const isReference = testOf('uri-reference', ajv.formats['uri-reference'])
  const others: Readonly<Record<string, Test>> = {
    uri: (text) => SCHEME.test(text) && (isReference?.(text) ?? false),
    url: (text) => URL.canParse(text) && URL_SCHEMES.has(new URL(text).protocol),
  }
  for (const [name, format] of Object.entries(ajv.formats)) {
    const test = others[name] ?? testOf(name, format)
    if (test !== undefined) ajv.addFormat(name, (text: string) => text.length <= MAX_FORMAT_CHARS && test(text))
  }
  return ajv
}

/** undefined for formats that are not of texts, or take all of them. */
function testOf(name: string, format: unknown): Test | undefined {
  if (format instanceof RegExp) {
    const matched = FIXED.has(name) ? undefined : linear(format)
    return (text) => (matched ?? format).test(text)
  }
  if (typeof format === 'function') return format as Test
  const { type, validate } = (format ?? {}) as { type?: unknown; validate?: unknown }
  if (type === 'number') return undefined
  return typeof validate === 'function' ? (validate as Test) : undefined
}
