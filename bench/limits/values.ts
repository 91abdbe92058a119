import { eventOfBytes, SUBJECTS, valueBytesOf } from '../payloads.ts'

/** Large enough for every event. */
const SAMPLE_BYTES = 400

/**
 * Record values of an exact size, like those of the workloads: one for each subject, whose number is the value's index. No value contains a line
 * feed.
 */
export function valuesOfBytes(bytes: number): string[] {
  const around = SAMPLE_BYTES - valueBytesOf(eventOfBytes(SAMPLE_BYTES, 0))
  return Array.from({ length: SUBJECTS }, (_, number) => JSON.stringify(eventOfBytes(bytes + around, number).data))
}
