import { CONTROL_TOPIC } from '../events/topics.ts'
import type { RangeReader, TopicPartition } from '../kafka/types.ts'
import { FailedError } from '../service/command-line.ts'
import { sleep } from '../service/retry.ts'
import { takeLock } from './lock.ts'
import {
  decodeManifest,
  encodeManifest,
  MANIFEST,
  type Manifest,
  ManifestError,
  newManifest,
  type Partition,
  type Segment,
  segmentsOf,
  type Topic,
  UNFINISHED,
} from './manifest.ts'
import { folderOf, isOfTenant, type Point, takePoint, topicsOf } from './point.ts'
import type { Repository } from './repository.ts'
import { SegmentWriter } from './segment-writer.ts'

/** What was stored is noted at most this often, since a manifest names all segments. A run that is broken off loses no more than this. */
const NOTE_INTERVAL_MS = 10_000

/** Of records. */
const COLLECT_EVERY_BYTES = 16_000_000

export interface TakeDeps {
  repository: Repository
  reader: Pick<RangeReader, 'topics' | 'topicIds' | 'ends' | 'committed' | 'read'>
  /** By topic; without those whose settings cannot be read. */
  settings(topics: readonly string[]): Promise<ReadonlyMap<string, Readonly<Record<string, string>>>>
  /** The group of the reader. */
  group: string
  /** undefined: all tenants. */
  tenant: string | undefined
  /** At most so many bytes of records are read in a second, uncompressed; undefined: no limit. */
  bytesPerSecond: number | undefined
  /** A segment gets no further batch at this size; undefined: 64 MiB. */
  segmentBytes?: number
  /** Something that a person should know. */
  note(text: string): void
  /** @param passed of the offsets that are read in this run */
  progress(passed: number, total: number, bytes: number): void
}

export interface Taken {
  manifest: Manifest
  /** Of this run. */
  records: number
  /** Of records, uncompressed. */
  bytes: number
  /** Of this run's files. */
  storedBytes: number
}

/**
 * Stores what was committed since the last run, and then a manifest that names it. A run that is broken off at any point leaves the backup as it was, and
 * the next one goes on where it has stopped.
 * @throws FailedError, HeldBackError, ManifestError, Error when Kafka or the storage does not answer
 */
export async function take(deps: TakeDeps): Promise<Taken> {
  const { repository, note } = deps
  const lock = await takeLock(repository, (holder) =>
    note(`another backup has not ended (${holder}): looking for up to 30 s whether it is still running`),
  )
  try {
    return await new Run(deps, lock.check).run()
  } finally {
    await lock.release()
  }
}

/** @throws ManifestError */
export async function readManifest(repository: Repository, name: string): Promise<Manifest | undefined> {
  const text = await repository.readText(name)
  try {
    return text === undefined ? undefined : decodeManifest(text)
  } catch (error) {
    if (!(error instanceof ManifestError)) throw error
    throw new ManifestError(`${repository.name}/${name}: ${error.message}. Put it back from another copy of the backup`)
  }
}

class Run {
  #manifest: Manifest = newManifest({ group: '', tenant: undefined, begunMs: 0 })
  #notedMs = Number.NEGATIVE_INFINITY
  #records = 0
  #bytes = 0
  /** Of {@link #bytes}. */
  #collectedAt = 0
  #storedBytes = 0
  /** Offsets. */
  #passed = 0
  #total = 0
  #begunMs = performance.now()

  constructor(
    readonly deps: TakeDeps,
    readonly checkLock: () => Promise<void>,
  ) {}

  async run(): Promise<Taken> {
    const { repository, reader, group, tenant, note } = this.deps
    this.#manifest = { ...newManifest({ group, tenant, begunMs: Date.now() }), topics: await this.#stored() }
    await this.#removeUnnamed()
    const topics = topicsOf(await reader.topics(), tenant)
    if (topics.size === 0) throw new FailedError(absent(tenant))
    const ids = await reader.topicIds([...topics.keys()]).catch(() => new Map<string, string>())
    const settings = await this.deps.settings([...topics.keys()])
    const rows = [...topics].map(([topic, partitions]) => {
      const own = settings.get(topic)
      return rowOf(this.#manifest, topic, partitions, ids.get(topic), own)
    })
    const unread = [...topics.keys()].filter((topic) => !settings.has(topic))
    if (unread.length > 0)
      note(`the settings of ${listed(unread)} cannot be read, and are not in the backup: it takes DESCRIBE_CONFIGS`)
    // A topic that is not there any more stays in the backup.
    const gone = this.#manifest.topics.filter(({ topic }) => !topics.has(topic))
    if (gone.length > 0) note(`not in Kafka any more, and kept as they are: ${listed(gone.map(({ topic }) => topic))}`)
    this.#manifest.topics = [...rows, ...gone]

    const pointMs = Date.now()
    const point = await takePoint(topics, reader)
    for (const input of point.withoutActs)
      note(`${input}: a transaction has not ended; acts on its dead letters are left to the next backup`)
    const ranges = this.#rangesOf(point, rows)
    this.#total = ranges.reduce((sum, { from, to }) => sum + to - from, 0)
    this.#begunMs = performance.now()
    try {
      for (const range of ranges) await this.#read(range)
    } catch (error) {
      await this.#noteAll().catch(() => undefined)
      throw error
    }

    this.#manifest.pointMs = pointMs
    this.#manifest.committed = point.committed.map(({ topic, partition, offset, metadata }) => ({
      topic,
      partition,
      offset,
      metadata,
    }))
    await this.checkLock()
    await repository.replace(MANIFEST, encodeManifest(this.#manifest))
    await repository.remove(UNFINISHED)
    return { manifest: this.#manifest, records: this.#records, bytes: this.#bytes, storedBytes: this.#storedBytes }
  }

  /** What earlier runs have stored. */
  async #stored(): Promise<Topic[]> {
    const { repository, group, tenant } = this.deps
    const whole = await readManifest(repository, MANIFEST)
    const begun = await readManifest(repository, UNFINISHED)
    for (const one of [whole, begun]) {
      if (one === undefined) continue
      if (one.tenant !== tenant)
        throw new FailedError(
          `${repository.name} has ${one.tenant === undefined ? 'all tenants' : `the tenant ${one.tenant}`}: use another folder for ${tenant === undefined ? 'all tenants' : `the tenant ${tenant} alone`}`,
        )
      if (one.group !== group)
        throw new FailedError(
          `${repository.name} has the positions of the group ${one.group}, and not of ${group}: set GROUP_ID, or use another folder`,
        )
    }
    // A run that was broken off after its manifest, or a later one of which nothing is noted.
    if (begun === undefined || (whole !== undefined && whole.begunMs >= begun.begunMs)) return whole?.topics ?? []
    return begun.topics
  }

  /** Removes what runs have left that were broken off, and nothing that has another kind of name. */
  async #removeUnnamed(): Promise<void> {
    const { repository } = this.deps
    const whole = await readManifest(repository, MANIFEST)
    const named = new Set(
      [this.#manifest, whole].flatMap((one) =>
        one === undefined ? [] : [...segmentsOf(one)].map(({ segment }) => segment.file),
      ),
    )
    for (const file of await repository.list('.'))
      if (!named.has(file) && LEFT_OVER.test(file)) await repository.remove(file)
  }

  #rangesOf(
    { ends }: Point,
    rows: readonly Topic[],
  ): { at: TopicPartition; row: Partition; from: number; to: number }[] {
    const { note, repository } = this.deps
    const byTopic = new Map(rows.map((row) => [row.topic, row]))
    return ends.flatMap(({ at, beginning, end }) => {
      const row = byTopic.get(at.topic)?.partitions[at.partition]
      if (row === undefined) return []
      if (end < row.next)
        throw new FailedError(
          `${at.topic}/${at.partition} ends at ${end}, and its backup at ${row.next}: it has lost records, or is another topic. ${INTO_ANOTHER(repository)}`,
        )
      // Nothing was stored yet: then it is no news.
      if (beginning > row.next && row.next > 0)
        note(
          `${at.topic}/${at.partition}: offsets ${row.next} up to ${beginning} were deleted from Kafka before they were backed up`,
        )
      const from = Math.max(beginning, row.next)
      return from < end ? [{ at, row, from, to: end }] : []
    })
  }

  async #read({ at, row, from, to }: { at: TopicPartition; row: Partition; from: number; to: number }): Promise<void> {
    const { reader, repository, tenant, progress, segmentBytes } = this.deps
    const isWanted = (key: Buffer | null): boolean =>
      at.topic !== CONTROL_TOPIC || tenant === undefined || isOfTenant(key, tenant)
    const onSegment = async (segment: Segment): Promise<void> => {
      row.segments.push(segment)
      row.next = segment.lastOffset + 1
      this.#records += segment.records
      this.#storedBytes += segment.bytes
      await this.#noteStored()
    }
    const writer = new SegmentWriter(repository, folderOf(at), onSegment, segmentBytes)
    const before = { passed: this.#passed, bytes: this.#bytes }
    const count = (offsets: number): void => {
      this.#passed = before.passed + offsets
      this.#bytes = before.bytes + writer.bytes
      progress(this.#passed, this.#total, this.#bytes)
    }
    try {
      await reader.read(
        [{ ...at, from, to }],
        (record) => {
          if (isWanted(record.key)) writer.add(record)
        },
        {
          onProgress: async (offsets) => {
            count(offsets)
            this.#collect()
            await writer.settled()
            await this.#slowDown()
          },
        },
      )
      await writer.finish()
    } finally {
      await writer.abandon()
    }
    row.next = to
    count(to - from)
  }

  /** What was read is garbage soon, and by itself would be collected only after a hundred megabytes. */
  #collect(): void {
    if (this.#bytes - this.#collectedAt < COLLECT_EVERY_BYTES) return
    this.#collectedAt = this.#bytes
    Bun.gc(true)
  }

  async #slowDown(): Promise<void> {
    const { bytesPerSecond } = this.deps
    if (bytesPerSecond === undefined) return
    const dueMs = this.#begunMs + (this.#bytes / bytesPerSecond) * 1_000
    const earlyMs = dueMs - performance.now()
    if (earlyMs > 0) await sleep(earlyMs)
  }

  /** A segment was stored. */
  async #noteStored(): Promise<void> {
    await this.checkLock()
    if (performance.now() - this.#notedMs >= NOTE_INTERVAL_MS) await this.#noteAll()
  }

  async #noteAll(): Promise<void> {
    await this.checkLock()
    await this.deps.repository.replace(UNFINISHED, encodeManifest(this.#manifest))
    this.#notedMs = performance.now()
  }
}

/** Segments, and files that were not finished. */
const LEFT_OVER =
  /^(topics\/kt[a-z0-9.-]+\/\d+\/\d{20}\.[0-9a-f]{8}\.log(\.[0-9a-f]{8}\.part)?|[a-z]+\.json\.[0-9a-f]{8}\.part)$/

/** The row of a topic, with what is stored of it. @throws FailedError when it is another topic than the one that is stored */
function rowOf(
  { topics }: Manifest,
  topic: string,
  partitions: number,
  id: string | undefined,
  settings: Readonly<Record<string, string>> | undefined,
): Topic {
  const stored = topics.find((one) => one.topic === topic)
  if (stored?.id !== undefined && id !== undefined && stored.id !== id)
    throw new FailedError(
      `${topic} was made anew since the last backup, so that its offsets mean other records: use another folder. What is stored of the old one stays where it is`,
    )
  // What cannot be read now stays as it was.
  const known = { id: id ?? stored?.id, settings: settings ?? stored?.settings }
  return {
    topic,
    ...(known.id !== undefined && { id: known.id }),
    ...(known.settings !== undefined && { settings: { ...known.settings } }),
    partitions: Array.from(
      { length: Math.max(partitions, stored?.partitions.length ?? 0) },
      (_, partition) => stored?.partitions[partition] ?? { partition, next: 0, segments: [] },
    ),
  }
}

const INTO_ANOTHER = ({ name }: Repository): string => `Back up into another folder, and keep ${name} as it is`

const absent = (tenant: string | undefined): string =>
  tenant === undefined
    ? 'there are no streams, or they may not be described with these credentials'
    : `the tenant ${tenant} has no streams, or they may not be described with these credentials`

const MAX_LISTED = 5
const listed = (topics: readonly string[]): string =>
  topics.length <= MAX_LISTED
    ? topics.join(', ')
    : `${topics.slice(0, MAX_LISTED).join(', ')} and ${topics.length - MAX_LISTED} more`
