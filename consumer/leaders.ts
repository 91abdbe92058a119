import { headerText, TRANSACTION } from '../shared/events/headers.ts'
import { partitionName, type RangeReader, type TopicPartition } from '../shared/kafka/types.ts'
import { sleep } from '../shared/service/retry.ts'

/** How often a partition's leader is looked up, each time from a random broker, and the pause between two look-ups. */
const MAX_LOOKS = 10
const LOOK_PAUSE_MS = 200

/**
 * Makes sure that partitions are read from their leaders. A broker that is cut off from the other brokers, but not from its clients, still answers as
 * leader: newer records seem to be lost. It cannot acknowledge a record for all in-sync replicas. Therefore a record is written to each partition, and
 * read back once it is acknowledged.
 * @param write writes a record without meaning to each partition. @returns the records' transaction name. @throws Error when one was not acknowledged
 * @throws Error when a written record cannot be read
 */
export async function proveLeaders(
  places: readonly TopicPartition[],
  reader: RangeReader,
  write: (places: readonly TopicPartition[]) => Promise<string | undefined>,
): Promise<void> {
  const before = new Map<string, number>()
  for (const [index, { end }] of (await reader.ends(places)).entries())
    before.set(partitionName(places[index] as TopicPartition), end)
  const written = await write(places)
  let left = [...places]
  for (let look = 1; ; look++) {
    const ends = await reader.ends(left)
    const ranges = left.map((at, index) => {
      const { beginning = 0, end = 0 } = ends[index] ?? {}
      return { ...at, from: Math.max(beginning, before.get(partitionName(at)) ?? 0), to: end }
    })
    const found = new Set<string>()
    await reader.readUncommitted(ranges, (record) => {
      if (headerText(record.headers, TRANSACTION) === written) found.add(partitionName(record))
    })
    left = left.filter((at) => !found.has(partitionName(at)))
    const [first] = left
    if (first === undefined) return
    if (look === MAX_LOOKS)
      throw new Error(
        `${partitionName(first)}: what was written to it cannot be read: its leader is not known, or it loses records`,
      )
    await lookAgain(left, reader)
  }
}

/** Waits until a partition reaches an offset, or until a former leader would have been detected. */
export async function waitForOffset(at: TopicPartition, offset: number, reader: RangeReader): Promise<void> {
  for (let look = 1; look <= MAX_LOOKS; look++) {
    const [ends] = await reader.ends([at])
    if (ends === undefined || ends.end >= offset) return
    await lookAgain([at], reader)
  }
}

async function lookAgain(places: readonly TopicPartition[], reader: RangeReader): Promise<void> {
  await reader.lookUp(places.map(({ topic }) => topic))
  await sleep(LOOK_PAUSE_MS)
}
