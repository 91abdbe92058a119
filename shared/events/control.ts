import { type Static, Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { NO_HEADERS } from './headers.ts'
import type { IncomingRecord, OutgoingRecord } from './record.ts'
import { CONTROL_TOPIC, NAME_PATTERN } from './topics.ts'

/** Records of {@link CONTROL_TOPIC}: whether the events of a stream are processed. The latest record of a stream counts. */

/** The latest time of a `Date`, ms since the epoch. */
const MAX_TIME_MS = 8.64e15

export const MAX_BY_CHARS = 200
export const MAX_REASON_CHARS = 1_000

/** What an operator wants of a stream, who that is, since when (ms since the epoch), and why. A stream without a record is running. */
export type StreamControl = Static<typeof StreamControl>
export const StreamControl = Type.Object({
  state: Type.Union([Type.Literal('paused'), Type.Literal('running')]),
  by: Type.String({ minLength: 1, maxLength: MAX_BY_CHARS }),
  atMs: Type.Integer({ minimum: 0, maximum: MAX_TIME_MS }),
  reason: Type.String({ maxLength: MAX_REASON_CHARS }),
})

/** The key of a stream's records. */
export const controlKey = (tenant: string, stream: string): string => `${tenant}/${stream}`

export const encodeControl = (tenant: string, stream: string, control: StreamControl): OutgoingRecord => ({
  topic: CONTROL_TOPIC,
  partition: 0,
  key: controlKey(tenant, stream),
  value: Buffer.from(JSON.stringify(control)),
  headers: NO_HEADERS,
})

const NAME = new RegExp(NAME_PATTERN)

/** @returns `control` is undefined for a tombstone; undefined for a record that is malformed */
export function decodeControl({
  key,
  value,
}: Pick<IncomingRecord, 'key' | 'value'>):
  | { tenant: string; stream: string; control: StreamControl | undefined }
  | undefined {
  const [tenant = '', stream = '', ...more] = key?.toString().split('/') ?? []
  if (more.length > 0 || !NAME.test(tenant) || !NAME.test(stream)) return undefined
  if (value === null) return { tenant, stream, control: undefined }
  try {
    const control: unknown = JSON.parse(value.toString())
    return Value.Check(StreamControl, control) ? { tenant, stream, control } : undefined
  } catch {
    return undefined
  }
}
