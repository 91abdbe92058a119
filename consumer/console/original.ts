import { headerText, ORIGIN } from '../../shared/events/headers.ts'
import type { IncomingRecord } from '../../shared/events/record.ts'
import type { RangeReader } from '../../shared/kafka/types.ts'
import { identityOf } from '../decode.ts'
import type { Readers } from './readers.ts'
import { recordAt } from './record-at.ts'
import type { Budget } from './scan.ts'
import type { Stream } from './streams.ts'
import { failureIn } from './view.ts'

/**
 * What a redrive of a letter sends: the letter, or its original where the letter had to be stored without its value.
 * @returns undefined when that is gone, or what the letter names is of another event
 */
export async function originalOf(
  stream: Pick<Stream, 'input' | 'partitions'>,
  letter: IncomingRecord,
  reader: RangeReader,
  budget: Budget,
  readers: Readers,
): Promise<IncomingRecord | undefined> {
  if (letter.value !== null || failureIn(letter)?.reason !== 'result too large') return letter
  const match = /^(.+)\/(\d{1,9})\/(\d{1,15})$/.exec(headerText(letter.headers, ORIGIN) ?? '')
  if (match === null || match[1] !== stream.input || Number(match[2]) >= stream.partitions) return undefined
  const at = { topic: stream.input, partition: Number(match[2]) }
  const original = await recordAt(at, Number(match[3]), reader, budget, readers)
  return original !== undefined && identityOf(original) === identityOf(letter) ? original : undefined
}
