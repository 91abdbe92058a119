import type { IncomingRecord } from '../../shared/events/record.ts'
import type { RangeReader, TopicPartition } from '../../shared/kafka/types.ts'
import type { Readers } from './readers.ts'
import { type Budget, scan } from './scan.ts'

/** One record; undefined where there is none. */
export async function recordAt(
  at: TopicPartition,
  offset: number,
  reader: RangeReader,
  budget: Budget,
  readers: Readers,
): Promise<IncomingRecord | undefined> {
  const [bounds] = await readers.bounds([at])
  if (bounds === undefined || offset < bounds.from || offset >= bounds.to) return undefined
  let found: IncomingRecord | undefined
  await scan(
    reader,
    [{ topic: at.topic, partition: at.partition, from: offset, to: offset + 1 }],
    { order: 'oldest', budget },
    (record) => {
      if (record.offset === offset) found = record
    },
  )
  return found
}
