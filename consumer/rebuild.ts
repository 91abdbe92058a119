import { headerText, ORIGIN } from '../shared/headers.ts'
import type {
  CommittedOffset,
  GroupConsumer,
  HeldBackError,
  IncomingRecord,
  RangeReader,
} from '../shared/kafka/types.ts'
import { decodeAhead, MAX_AHEAD_OFFSETS } from './ahead.ts'
import { decode } from './decode.ts'
import type { Partition } from './partition.ts'

/**
 * Learns from Kafka what of a partition has been done and what waits, whoever did it.
 *
 * The order matters. Committed offsets come first: the broker answers only when no transaction is about to move them, so all outputs of
 * earlier owners that count are in the log by then, and those of a fenced one never will be. Only then are the ends taken up to which
 * outputs are read, and reading to an end waits for transactions below it.
 * @returns what is committed of the input and of `.retry`
 */
export async function rebuild(
  partition: Partition,
  group: GroupConsumer,
  reader: RangeReader,
): Promise<{ input: CommittedOffset; retry: CommittedOffset }> {
  const rows = await group.committed(partition.read)
  const [input, retry] = partition.read.map(
    (at) => rows.find((row) => row.topic === at.topic) ?? { ...at, offset: -1, metadata: '' },
  ) as [CommittedOffset, CommittedOffset]

  // Dead letters are the fewer; held back and put in among the results by their time, they leave the window oldest first.
  const dead: { timestampMs: number; identity: string }[] = []
  await readOutcomes(partition, 'dlq', reader, (record) => {
    dead.push({ timestampMs: record.timestampMs, identity: identityOf(record) })
  })
  let next = 0
  await readOutcomes(partition, 'processed', reader, (record) => {
    for (let one = dead[next]; one !== undefined && one.timestampMs <= record.timestampMs; one = dead[++next])
      partition.dedupe.finish(one.identity)
    partition.dedupe.finish(identityOf(record))
  })
  for (const one of dead.slice(next)) partition.dedupe.finish(one.identity)

  const waiting: { identity: string; key: string | undefined }[] = []
  const { beginning, end } = await reader.watermarks(retry)
  const done = decodeAhead(retry.offset, retry.metadata)
  await reader.read(retry, Math.max(beginning, retry.offset), end, (record) => {
    if (!done.has(record.offset)) waiting.push({ identity: identityOf(record), key: record.key?.toString('latin1') })
  })

  // Only now, so that an attempt that failed half-way leaves nothing behind; what is done may be told twice.
  for (const { identity, key } of waiting) {
    partition.dedupe.claim(identity)
    partition.addWaiting(key)
  }
  return { input, retry }
}

/**
 * Whether what a transaction holds back may be aborted: each of its records is an outcome of an event that stands among those whose offsets
 * are not committed, so that it will be done again, and has had no effect yet.
 */
export async function isDoneAgain(
  { at, offset }: HeldBackError,
  partition: Partition,
  group: GroupConsumer,
  reader: RangeReader,
): Promise<boolean> {
  // Offsets that are held back are not committed; what is already known to be done will be recognised.
  if (offset === undefined) return true
  const open = new Set<string>()
  for (const committed of await group.committed(partition.read)) {
    // What is in `.retry` only since that transaction has put it there is not to be done from there.
    if (committed.topic === at.topic) continue
    const { beginning, end } = await reader.watermarks(committed)
    const from = Math.max(beginning, committed.offset)
    const done = decodeAhead(committed.offset, committed.metadata)
    await reader.read(committed, from, Math.min(end, from + MAX_AHEAD_OFFSETS), (record) => {
      if (!done.has(record.offset)) open.add(identityOf(record))
    })
  }
  let all = true
  const { end } = await reader.watermarks(at)
  await reader.readUncommitted(at, offset, end, (record) => {
    all &&= open.has(identityOf(record))
  })
  return all
}

/** The latest outcomes of a kind, as many as the window holds. */
async function readOutcomes(
  partition: Partition,
  role: 'processed' | 'dlq',
  reader: RangeReader,
  onRecord: (record: IncomingRecord) => void,
): Promise<void> {
  const at = partition.sibling(role)
  const { beginning, end } = await reader.watermarks(at)
  // Each transaction takes an offset for its own mark: in the worst case one a record.
  await reader.read(at, Math.max(beginning, end - 2 * partition.dedupe.capacity), end, onRecord)
}

/** A copy is known by what the original was known by. */
const identityOf = (record: IncomingRecord): string => decode(record, headerText(record.headers, ORIGIN)).identity
