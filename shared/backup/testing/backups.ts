/** Backups of a Kafka in memory. */
import { afterAll } from 'bun:test'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { headersOf } from '../../events/headers.ts'
import { actsTopic, CONTROL_TOPIC, inputTopic, streamTopics } from '../../events/topics.ts'
import { partitionName } from '../../kafka/types.ts'
import { FakeKafka } from '../../testing/fake-kafka.ts'
import { type BatchRecord, decodeBatch } from '../batch.ts'
import { MANIFEST, type Manifest, segmentsOf } from '../manifest.ts'
import type { Repository } from '../repository.ts'
import { batchesIn } from '../segment-reader.ts'
import { readManifest, type TakeDeps, type Taken, take } from '../take.ts'
import { type Verified, verify } from '../verify.ts'

export const GROUP = 'kafkatrace'
export const INPUT = inputTopic('acme', 'orders')

const home = mkdtempSync(join(tmpdir(), 'kafkatrace-backup-'))
afterAll(() => rmSync(home, { recursive: true, force: true }))
let folders = 0
export const newFolder = (): string => join(home, String(++folders))

/** Two partitions in each topic of a stream; kt-control, and the stream's acts. */
export function cluster(...tenants: string[]): FakeKafka {
  const kafka = new FakeKafka().createTopic(CONTROL_TOPIC)
  for (const tenant of tenants.length > 0 ? tenants : ['acme']) {
    for (const topic of streamTopics(tenant, 'orders')) kafka.createTopic(topic, 2)
    kafka.createTopic(actsTopic(inputTopic(tenant, 'orders')))
  }
  return kafka
}

export const write = (
  kafka: FakeKafka,
  topic: string,
  partition: number,
  value: string | null,
  key: string | null = null,
): number =>
  kafka.append({
    topic,
    partition,
    key,
    value: value === null ? null : Buffer.from(value),
    headers: headersOf({ ce_id: `${topic} ${value}`, other: null }),
  }).offset

interface Options extends Partial<TakeDeps> {
  notes?: string[]
}

export const run = (kafka: FakeKafka, repository: Repository, options: Options = {}): Promise<Taken> =>
  take({
    repository,
    reader: kafka.reader(),
    settings: (topics) => kafka.admin().settings(topics),
    group: GROUP,
    tenant: undefined,
    bytesPerSecond: undefined,
    note: (text) => options.notes?.push(text),
    progress: () => undefined,
    ...options,
  })

/** What a backup holds, by partition. */
export async function held(repository: Repository): Promise<Record<string, BatchRecord[]>> {
  const manifest = await readManifest(repository, MANIFEST)
  const records: Record<string, BatchRecord[]> = {}
  for (const { topic, partition, segment } of segmentsOf(manifest as Manifest)) {
    records[partitionName({ topic, partition })] ??= []
    for await (const { bytes } of batchesIn(repository.read(segment.file), segment.bytes))
      records[partitionName({ topic, partition })]?.push(...decodeBatch(bytes))
  }
  return records
}

export const valuesIn = async (repository: Repository, topic: string, partition = 0): Promise<string[]> =>
  ((await held(repository))[partitionName({ topic, partition })] ?? []).map(({ value }) => String(value))

export async function verified(repository: Repository): Promise<Verified> {
  return verify(repository, (await readManifest(repository, MANIFEST)) as Manifest, () => undefined)
}
