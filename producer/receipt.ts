import { type Static, Type } from '@sinclair/typebox'
import type { Delivery } from '../shared/kafka/types.ts'
import { isoTime } from '../shared/service/time.ts'

/** What an answer says of each event. */

export const Receipt = Type.Object(
  {
    id: Type.String({ description: 'The event’s id, as sent or as made for it.' }),
    stream: Type.String(),
    partition: Type.Integer({ minimum: 0 }),
    offset: Type.Integer({ minimum: 0 }),
    time: Type.String({ format: 'date-time', description: 'The record’s timestamp.' }),
  },
  { title: 'Receipt', description: 'The event is stored: all in-sync replicas have it.' },
)
export type Receipt = Static<typeof Receipt>

export const Receipts = Type.Object(
  { receipts: Type.Array(Receipt) },
  { title: 'Receipts', description: 'One receipt an event, in the order of the request.' },
)

export const EventOutcome = Type.Object(
  {
    id: Type.String(),
    outcome: Type.Union([Type.Literal('stored'), Type.Literal('not stored'), Type.Literal('unknown')]),
    receipt: Type.Optional(Receipt),
    detail: Type.Optional(Type.String()),
  },
  { title: 'EventOutcome', description: 'What became of one event of a request that was not stored as a whole.' },
)
export type EventOutcome = Static<typeof EventOutcome>

export const receiptOf = (id: string, stream: string, { partition, offset, timestampMs }: Delivery): Receipt => ({
  id,
  stream,
  partition,
  offset,
  time: isoTime(timestampMs),
})

/** A receipt as JSON, written by hand since there is one for every event: an object and its serialisation cost more. */
export const receiptText = (id: string, stream: string, { partition, offset, timestampMs }: Delivery): string =>
  `{"id":${JSON.stringify(id)},"stream":"${stream}","partition":${partition},"offset":${offset},"time":"${isoTime(timestampMs)}"}`
