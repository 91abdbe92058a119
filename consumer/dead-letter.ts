import type { IncomingRecord, OutgoingRecord } from '../shared/events/record.ts'
import { siblingTopic } from '../shared/events/topics.ts'
import { type CopyPast, copyOf, type Failure } from './retry.ts'

/** A record for `.dlq`. */
export const deadLetter = (record: IncomingRecord, input: string, past: CopyPast, failure: Failure): OutgoingRecord =>
  copyOf(record, siblingTopic(input, 'dlq'), past, failure)
