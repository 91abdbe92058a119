import { ATTEMPT, ERROR, ORIGIN } from '../shared/headers.ts'
import type { IncomingRecord, OutgoingRecord } from '../shared/kafka/types.ts'
import { siblingTopic } from '../shared/topics.ts'
import { type Failure, originalHeaders } from './retry.ts'

/** The record that is put aside in `.dlq`: the original, byte for byte, on the same partition, with the reason. */
export function deadLetter(
  record: IncomingRecord,
  input: string,
  past: { attempts: number; origin: string },
  failure: Failure,
): OutgoingRecord {
  return {
    topic: siblingTopic(input, 'dlq'),
    partition: record.partition,
    key: record.key,
    value: record.value,
    headers: [
      ...originalHeaders(record),
      { [ATTEMPT]: String(past.attempts) },
      { [ERROR]: JSON.stringify(failure) },
      { [ORIGIN]: past.origin },
    ],
  }
}
