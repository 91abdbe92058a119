import type { IncomingRecord } from '../../shared/events/record.ts'
import type { RangeReader } from '../../shared/kafka/types.ts'
import { identityOf, originIn, placeIn } from '../decode.ts'
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
  const place = placeIn(originIn(letter))
  if (place === undefined || place.topic !== stream.input || place.partition >= stream.partitions) return undefined
  const original = await recordAt(place, place.offset, reader, budget, readers)
  return original !== undefined && identityOf(original) === identityOf(letter) ? original : undefined
}
