import { anyJson, type JsonMember, type JsonSpan, outlineJson } from '../../shared/events/json.ts'

/**
 * Changes in a JSON text that leave all else as it is, byte for byte, and look like what is beside them. Editors of JSON with comments format each line
 * that they touch, which takes a key that has a line of its own apart.
 */

/** Names of members and numbers of elements. */
export type Path = readonly (string | number)[]

type Span = Pick<JsonSpan, 'start' | 'end'>

/** Adds an element to an array. */
export function appendElement(json: Buffer, path: Path, value: unknown): Buffer {
  const array = spanAt(json, path)
  const elements = elementsOf(json, array)
  const last = elements.at(-1)
  if (last === undefined) {
    const indent = indentAt(json, array.start)
    const isOneLine = !json.includes('\n')
    const text = oneLined(value, styleOf(json, { start: 0, end: json.length }))
    const inside = isOneLine ? text : `\n${indent}${unitOf(json)}${text}\n${indent}`
    return replaced(json, { start: array.start + 1, end: array.end - 1 }, inside)
  }
  const before = elements.at(-2)
  const space =
    before === undefined
      ? `,${textOf(json, { start: array.start + 1, end: last.start })}`
      : textOf(json, { start: before.end, end: last.start })
  return replaced(json, { start: last.end, end: last.end }, space + like(json, last, value))
}

/** Takes an element out of an array. */
export function removeElement(json: Buffer, path: Path, index: number): Buffer {
  const array = spanAt(json, path)
  const elements = elementsOf(json, array)
  const [before, one, after] = [elements[index - 1], elements[index], elements[index + 1]]
  if (one === undefined) throw new RangeError(`there is no element ${index}`)
  const gone =
    before !== undefined
      ? { start: before.end, end: one.end }
      : after !== undefined
        ? { start: one.start, end: after.start }
        : { start: array.start + 1, end: array.end - 1 }
  return replaced(json, gone, '')
}

/** Sets a member of an object that has at least one; a new one comes last. */
export function setMember(json: Buffer, path: Path, name: string, value: unknown): Buffer {
  const object = spanAt(json, path)
  const members = membersOf(json, object)
  const there = members.find((member) => member.name === name)
  const style = styleOf(json, object)
  if (there !== undefined) return replaced(json, there, oneLined(value, style))
  const last = members.at(-1)
  if (last === undefined) throw new RangeError('an object without members')
  const before = members.at(-2)
  const begin = before?.end ?? object.start + 1
  const space = textOf(json, { start: begin, end: json.indexOf('"', begin) })
  const text = `${before === undefined ? ',' : ''}${space}${JSON.stringify(name)}${style.colon}${oneLined(value, style)}`
  return replaced(json, { start: last.end, end: last.end }, text)
}

// ---- places

const ANY = anyJson(64)

function outlineAt(json: Buffer, { start, end }: Span) {
  const result = outlineJson(json.subarray(start, end), ANY)
  if (!result.ok) throw new SyntaxError(result.fault.detail)
  return result.outline
}

const moved = <S extends Span>(span: S, by: number): S => ({ ...span, start: span.start + by, end: span.end + by })

function membersOf(json: Buffer, span: Span): JsonMember[] {
  const outline = outlineAt(json, span)
  if (outline.root !== 'object') throw new TypeError('no object')
  return outline.members.map((member) => moved(member, span.start))
}

function elementsOf(json: Buffer, span: Span): Span[] {
  const outline = outlineAt(json, span)
  if (outline.root !== 'array') throw new TypeError('no array')
  return outline.elements.map((element) => moved(element, span.start))
}

function spanAt(json: Buffer, path: Path): Span {
  const text = json.toString('latin1')
  let span: Span = { start: text.search(/\S/), end: text.trimEnd().length }
  for (const step of path) {
    const found: Span | undefined =
      typeof step === 'number' ? elementsOf(json, span)[step] : membersOf(json, span).find(({ name }) => name === step)
    if (found === undefined) throw new RangeError(`there is no ${step}`)
    span = found
  }
  return span
}

const textOf = (json: Buffer, { start, end }: Span): string => json.toString('utf8', start, end)

const replaced = (json: Buffer, { start, end }: Span, text: string): Buffer =>
  Buffer.concat([json.subarray(0, start), Buffer.from(text), json.subarray(end)])

// ---- how it looks

interface Style {
  /** Between a name and its value. */
  colon: string
  comma: string
  /** Inside of braces. */
  pad: string
}

/** Of the first object of a text, as far as it can be seen there. */
function styleOf(json: Buffer, span: Span): Style {
  const text = textOf(json, span)
  const colon = /"(\s*:[ \t]*)/.exec(text)?.[1] ?? ': '
  return {
    colon,
    // Where no name is followed by another one, as after the name.
    comma: /["\]}\d],[^ \t\r\n]/.test(text) || (colon === ':' && !text.includes(', ')) ? ',' : ', ',
    pad: /^\{( +)"/.exec(text)?.[1] ?? '',
  }
}

function oneLined(value: unknown, style: Style): string {
  if (Array.isArray(value)) return `[${value.map((one) => oneLined(one, style)).join(style.comma)}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const members = Object.entries(value).map(
    ([name, one]) => `${JSON.stringify(name)}${style.colon}${oneLined(one, style)}`,
  )
  return `{${style.pad}${members.join(style.comma)}${style.pad}}`
}

/** On one line or on several, as the other value is. */
function like(json: Buffer, other: Span, value: unknown): string {
  if (!textOf(json, other).includes('\n')) return oneLined(value, styleOf(json, other))
  const indent = indentAt(json, other.start)
  return JSON.stringify(value, null, unitOf(json)).replaceAll('\n', `\n${indent}`)
}

/** What the line begins with. */
function indentAt(json: Buffer, at: number): string {
  const line = textOf(json, { start: json.lastIndexOf('\n', at) + 1, end: at })
  return /^[ \t]*/.exec(line)?.[0] ?? ''
}

/** By what the first line that is indented is. */
const unitOf = (json: Buffer): string => /\n([ \t]+)\S/.exec(json.toString('utf8'))?.[1] ?? '  '
