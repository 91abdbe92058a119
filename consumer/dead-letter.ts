import type { IncomingRecord, OutgoingRecord } from '../shared/events/record.ts'
import { siblingTopic } from '../shared/events/topics.ts'
import { copyOf, type Failure, type Past } from './retry.ts'

/** A record for `.dlq`. */
export const deadLetter = (
  record: IncomingRecord,
  input: string,
  past: Pick<Past, 'attempts' | 'origin'>,
  failure: Failure,
): OutgoingRecord => copyOf(record, siblingTopic(input, 'dlq'), past, failure)
