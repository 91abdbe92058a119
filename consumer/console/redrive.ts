import { type Event, EventBuilder } from '../../shared/events/event.ts'
import {
  EDITED,
  GENERATION,
  RECEIVED_AT,
  REDRIVEN_FROM,
  type RecordHeaders,
  withHeaders,
} from '../../shared/events/headers.ts'
import { generationOf } from '../../shared/events/identity.ts'
import { type IncomingRecord, type OutgoingRecord, withAttributes } from '../../shared/events/record.ts'
import { type Problem, ProblemError } from '../../shared/http/problem.ts'
import { parseSchemaUrn } from '../../shared/schemas/identity.ts'
import { decode, originIn, originOf } from '../decode.ts'
import { originalHeaders } from '../retry.ts'
import type { Edit } from './acts-log.ts'
import { eachPlace, jsonOf } from './json.ts'
import { patched } from './patch.ts'
import type { Stream } from './streams.ts'
import { MASK } from './view.ts'

/** The record that sends a dead letter's event through its stream once more, as its next generation. */

/** Headers of its own, which replace those of an earlier redrive. */
const REPLACED = new Set<string>([EDITED, GENERATION, RECEIVED_AT, REDRIVEN_FROM])

/**
 * @param letter of `.dlq`
 * @param original what is sent: the letter itself or, where that had to be stored without its value, the original
 * @throws ProblemError when the edit does not apply
 */
export function redriveRecord(
  stream: Pick<Stream, 'input' | 'redact'>,
  letter: IncomingRecord,
  original: IncomingRecord,
  edit: Edit | undefined,
  nowMs: number,
): { record: OutgoingRecord; generation: number } {
  const generation = generationOf(letter.headers) + 1
  const sent = edit === undefined ? original : edited(stream, original, edit)
  const { names, values } = originalHeaders(sent)
  const kept = names.map((name) => !REPLACED.has(name))
  const headers: RecordHeaders = {
    names: names.filter((_, index) => kept[index]),
    values: values.filter((_, index) => kept[index]),
  }
  return {
    generation,
    record: {
      topic: stream.input,
      // Not chosen by the key: another client may have chosen it, and repeats are recognised within a partition.
      partition: letter.partition,
      key: original.key,
      value: sent.value,
      headers: withHeaders(headers, {
        [RECEIVED_AT]: String(nowMs),
        [GENERATION]: String(generation),
        [REDRIVEN_FROM]: originOf(letter),
        ...(edit === undefined ? {} : { [EDITED]: '1' }),
      }),
    },
  }
}

const invalid = (detail: string, errors?: Problem['errors']): ProblemError =>
  new ProblemError({ kind: 'invalid-edit', detail, ...(errors === undefined ? {} : { errors }) })

/** The event with its changes, in binary mode. */
function edited({ redact }: Pick<Stream, 'redact'>, record: IncomingRecord, edit: Edit): IncomingRecord {
  const decoded = decode(record, originIn(record))
  if (!decoded.ok)
    throw invalid(`The letter is no event, so nothing of it can be edited: ${decoded.reason}. Send it anew by HTTP.`)
  const { event } = decoded
  if (edit.data !== undefined && edit.patch !== undefined)
    throw invalid('Give `data` or `patch`, not both.', [{ pointer: '/edit/patch', detail: 'is given beside data' }])
  const data = editedData(event, edit, redact)
  const changed: Event = { ...event, data }
  if (edit.type !== undefined) changed.type = edit.type
  // The version by which the data were checked as they were.
  const isStale = edit.dataschema === undefined && parseSchemaUrn(changed.dataschema) !== undefined
  if (edit.dataschema === null || isStale) delete changed.dataschema
  else if (edit.dataschema !== undefined) changed.dataschema = edit.dataschema
  if (edit.data !== undefined && !isJson(changed.datacontenttype)) changed.datacontenttype = 'application/json'
  return withAttributes(record, checked(changed))
}

const isJson = (type: string | undefined): boolean => type === undefined || /[/+]json[ \t]*(;|$)/i.test(type)

/** @throws ProblemError naming each attribute that is invalid after the edit */
function checked(event: Event): Event {
  const builder = new EventBuilder()
  const { data, extensions, datacontenttype, ...attributes } = event
  builder.set('specversion', '1.0')
  for (const [name, value] of Object.entries({ ...attributes, ...extensions }))
    if (value !== undefined) builder.set(name, value)
  if (datacontenttype !== undefined) builder.set('datacontenttype', datacontenttype)
  const built = builder.build(data)
  if (built.ok) return built.event
  throw invalid(
    'The event would not be valid.',
    built.faults.map(({ pointer, detail }) => ({ pointer: `/edit${pointer}`, detail })),
  )
}

function editedData(event: Event, { data, patch }: Edit, redact: readonly string[]): Buffer | null {
  if (data !== undefined) {
    demandNoMask(data, redact)
    return bytesOf(data)
  }
  if (patch === undefined) return event.data
  const json = event.data === null ? { value: undefined } : jsonOf(event.data.toString())
  if (json === undefined) throw invalid('The data is no JSON, so that no patch applies to it: send `data` instead.')
  // A patch can neither read nor move what is masked: it works on marks, and each has to be at a place that is masked afterwards.
  const mark = `masked ${crypto.randomUUID()}`
  const secrets: unknown[] = []
  eachPlace(json, redact, (holder, name) => {
    holder[name] = `${mark} ${secrets.push(holder[name]) - 1}`
  })
  const result = patched(json.value, patch)
  if (!result.ok)
    throw invalid('The patch does not apply to the data.', [
      { pointer: `/edit/patch/${result.index}`, detail: result.detail },
    ])
  demandNoMask(result.value, redact)
  eachPlace(result, [...redact].reverse(), (holder, name) => {
    const marked = holder[name]
    if (typeof marked === 'string' && marked.startsWith(mark)) holder[name] = secrets[Number(marked.slice(mark.length))]
  })
  const bytes = result.value === undefined ? null : bytesOf(result.value)
  if (bytes?.includes(mark) === true)
    throw invalid('The patch would bring what is masked to a place where it would be shown.')
  return bytes
}

/** @throws ProblemError for a mask in place of a value that is not shown */
function demandNoMask(value: unknown, redact: readonly string[]): void {
  eachPlace({ value }, redact, (holder, name, pointer) => {
    if (holder[name] === MASK)
      throw invalid(`The data has the mask ${MASK} at ${pointer}: send a \`patch\` of what changes instead.`, [
        { pointer: '/edit', detail: `has the mask of a value that is not shown, at ${pointer}` },
      ])
  })
}

/** @throws ProblemError for what is nested too deeply to be written */
function bytesOf(json: unknown): Buffer {
  try {
    return Buffer.from(JSON.stringify(json))
  } catch (error) {
    if (error instanceof RangeError) throw invalid('The data is nested too deeply.')
    throw error
  }
}
