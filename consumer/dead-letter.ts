import type { IncomingRecord, OutgoingRecord } from '../shared/kafka/types.ts'
import { siblingTopic } from '../shared/topics.ts'
import { copyOf, type Failure } from './retry.ts'

/** The record that is put aside in `.dlq`. */
export const deadLetter = (
  record: IncomingRecord,
  input: string,
  past: { attempts: number; origin: string },
  failure: Failure,
): OutgoingRecord => copyOf(record, siblingTopic(input, 'dlq'), past, failure)
