import { eventOfBytes, SUBJECTS, valueBytesOf } from '../payloads.ts'

/** A size at which every event has room. */
const SAMPLE_BYTES = 400

/**
 * Values of records of exactly so many bytes, as those of the workloads; one for each subject, whose number is the value's. No value holds a line
 * feed.
 */
export function valuesOfBytes(bytes: number): string[] {
  const around = SAMPLE_BYTES - valueBytesOf(eventOfBytes(SAMPLE_BYTES, 0))
  return Array.from({ length: SUBJECTS }, (_, number) => JSON.stringify(eventOfBytes(bytes + around, number).data))
}
