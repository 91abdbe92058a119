import type { KafkaCluster } from '../shared/dev/brokers/kafka.ts'
import { native, promised } from '../shared/kafka/client.ts'

/** The topics of a run: created before it and deleted after it, so that runs do not read each other's records and the disk stays small. */

const DELETE_TIMEOUT_MS = 10_000
const GONE_TIMEOUT_MS = 10_000
const LOOK_INTERVAL_MS = 20

export interface Topics {
  create(names: readonly string[], partitions: number): Promise<void>
  /** The existing ones of these topics. Returns once the broker has forgotten them. */
  remove(names: readonly string[]): Promise<void>
  list(): Promise<string[]>
  close(): void
}

export function openTopics(cluster: KafkaCluster): Topics {
  const admin = native().AdminClient.create({ 'bootstrap.servers': cluster.bootstrapServers })
  const list = (): Promise<string[]> =>
    promised((done) => admin.listTopics({ timeout: DELETE_TIMEOUT_MS }, (error, topics) => done(error, topics)))
  return {
    create: (names, partitions) => cluster.createTopics(names, partitions),
    async remove(names) {
      const there = await list()
      for (const name of names.filter((one) => there.includes(one)))
        await promised((done) => admin.deleteTopic(name, DELETE_TIMEOUT_MS, (error) => done(error)))
      const deadline = performance.now() + GONE_TIMEOUT_MS
      for (;;) {
        const left = await list()
        if (!names.some((name) => left.includes(name))) return
        if (performance.now() > deadline)
          throw new Error(`topics are there after they were deleted: ${names.join(', ')}`)
        await Bun.sleep(LOOK_INTERVAL_MS)
      }
    },
    list,
    close: () => admin.disconnect(),
  }
}
