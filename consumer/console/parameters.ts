import type { Static, TObject, TSchema } from '@sinclair/typebox'
import { Value, type ValueError } from '@sinclair/typebox/value'
import { outlineJson } from '../../shared/events/json.ts'
import { MAX_NAMED_FAULTS, type Problem, ProblemError } from '../../shared/http/problem.ts'
import { expected, type Variable } from '../../shared/service/config.ts'
import { TimeoutError, within } from '../../shared/service/retry.ts'
import './formats.ts'
import { jsonOf } from './json.ts'

/** Parameters of requests, checked by the schemas that describe them. */

/** The largest body: an edited event is the largest thing that is sent here. */
export const MAX_BODY_BYTES = 4 * 2 ** 20

/** So that nothing that looks at all of a body can overflow the stack. */
const BODY_LIMITS = { maxDepth: 512, maxElements: 1_000, maxMembers: 100, maxObjectMembers: 100 }

type Fault = { pointer: string; detail: string }

/** What the query says. A parameter that is a list may be repeated. @throws ProblemError naming every fault */
export function readQuery<S extends TObject>(schema: S, url: string): Static<S> {
  const given = new URLSearchParams(url.includes('?') ? url.slice(url.indexOf('?') + 1) : '')
  const faults: Fault[] = []
  const values: Record<string, unknown> = {}
  const fault = (name: string, detail: string): void => void faults.push({ pointer: `/query/${name}`, detail })
  for (const name of new Set(given.keys())) {
    // Where the key may be: shared/http/credentials.ts.
    if (name === 'access_token') continue
    const property: TSchema | undefined = Object.hasOwn(schema.properties, name) ? schema.properties[name] : undefined
    if (property === undefined) {
      fault(name, `is no parameter here; there are: ${Object.keys(schema.properties).join(', ') || 'none'}`)
      continue
    }
    const texts = given.getAll(name)
    if (property['type'] === 'array') values[name] = texts
    else if (texts.length > 1) fault(name, 'is given more than once')
    else values[name] = property['type'] === 'integer' || property['type'] === 'number' ? numberIn(texts[0]) : texts[0]
    if (property['type'] === 'boolean' && texts.length === 1)
      values[name] = texts[0] === 'true' ? true : texts[0] === 'false' ? false : texts[0]
    if (values[name] !== undefined && !Value.Check(property, values[name])) fault(name, `is not ${wordsOf(property)}`)
  }
  for (const name of schema.required ?? [])
    if (!given.has(name) && schema.properties[name]?.['default'] === undefined) fault(name, 'is required')
  if (faults.length > 0)
    throw new ProblemError({ kind: 'invalid-parameters', detail: detailOf(faults, 'The query has'), errors: faults })
  return Value.Default(schema, values) as Static<S>
}

const numberIn = (text: string | undefined): unknown =>
  text !== undefined && /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text

function wordsOf(property: TSchema): string {
  if (Array.isArray(property['enum'])) return `one of ${property['enum'].join(', ')}`
  if (property['format'] === 'date-time') return 'a time of RFC 3339, such as 2026-01-31T12:00:00Z'
  if (property['type'] === 'boolean') return 'true or false'
  if (property['type'] === 'array')
    return `a list of at most ${property['maxItems']}, each ${expected((property['items'] ?? {}) as Variable)}`
  return expected(property as Variable)
}

const detailOf = (faults: readonly Fault[], what: string): string =>
  `${what} ${faults.length} fault${faults.length === 1 ? '' : 's'}: ${faults.map(({ pointer, detail }) => `${pointer.split('/').pop() || 'the body'} ${detail}`).join('; ')}.`

/** A JSON body. Numbers of `edit`, and of all of a schema with `exact`, keep their digits. @throws ProblemError */
export async function readBody<S extends TSchema>(schema: S, request: Request): Promise<Static<S>> {
  const refuse = (problem: Problem): never => {
    throw new ProblemError(problem)
  }
  const type = request.headers.get('content-type') ?? ''
  // Also so that no page of another origin can act with a browser's help: it cannot send this type without being asked first.
  if (!/^application\/json[ \t]*(;|$)/i.test(type))
    refuse({ kind: 'unsupported-media-type', detail: 'Send the body as application/json.', closes: true })
  if (Number(request.headers.get('content-length') ?? 0) > MAX_BODY_BYTES)
    refuse({ kind: 'body-too-large', detail: `A body may have ${MAX_BODY_BYTES} bytes.`, closes: true })
  const bytes = await bytesOf(request)
  const text = bytes.toString().trim()
  if (text !== '') {
    const read = outlineJson(bytes, BODY_LIMITS)
    if (!read.ok)
      refuse({
        kind: read.fault.reason === 'too deep' ? 'too-deep' : 'malformed',
        detail: `The body is no JSON that can be read: ${read.fault.detail}.`,
      })
  }
  const parsed = Value.Default(schema, text === '' ? {} : JSON.parse(text))
  const errors: Fault[] = []
  for (const error of Value.Errors(schema, parsed)) if (errors.push(faultOf(error)) === MAX_NAMED_FAULTS) break
  if (errors.length > 0) refuse({ kind: 'invalid-body', detail: detailOf(errors, 'The body has'), errors })
  if (schema['exact'] === true && text !== '') return jsonOf(text)?.value as Static<S>
  const body = parsed as { edit?: unknown }
  if (body.edit !== undefined) body.edit = (jsonOf(text)?.value as typeof body | undefined)?.edit
  return body as Static<S>
}

const faultOf = ({ path, message }: ValueError): Fault => ({
  pointer: path,
  detail: message.charAt(0).toLowerCase() + message.slice(1),
})

async function bytesOf(request: Request): Promise<Buffer> {
  const parts: Uint8Array[] = []
  let length = 0
  const reader = request.body?.getReader()
  const deadlineMs = performance.now() + BODY_TIMEOUT_MS
  while (reader !== undefined) {
    const { value: part } = await partInTime(reader, deadlineMs - performance.now())
    if (part === undefined) break
    length += part.length
    if (length > MAX_BODY_BYTES)
      throw new ProblemError({
        kind: 'body-too-large',
        detail: `A body may have ${MAX_BODY_BYTES} bytes.`,
        closes: true,
      })
    parts.push(part)
  }
  return Buffer.concat(parts)
}

/** How long a body may take. */
const BODY_TIMEOUT_MS = 30_000

async function partInTime(
  reader: Pick<ReadableStreamDefaultReader<Uint8Array>, 'read' | 'cancel'>,
  timeoutMs: number,
): Promise<{ value?: Uint8Array | undefined }> {
  try {
    return await within(Math.max(0, timeoutMs), reader.read())
  } catch (error) {
    if (!(error instanceof TimeoutError)) throw error
    void reader.cancel().catch(() => undefined)
    throw new ProblemError({
      kind: 'request-timeout',
      detail: `The body has not arrived within ${BODY_TIMEOUT_MS} ms.`,
      closes: true,
    })
  }
}
