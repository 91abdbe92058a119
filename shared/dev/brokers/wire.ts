/**
 * Kafka's protocol, for what the client does not offer: it asks one broker by its address, so that tests can tell a frozen or cut-off broker from the others,
 * and (in the files beside this one) changes ACLs, settings and transaction markers. For development and tests only. Versions are those that Apache Kafka 4 and
 * Redpanda both support (https://kafka.apache.org/protocol: Metadata v4, CreateTopics v4, request header v1).
 */
import { Encoder, request } from './wire-codec.ts'

const metadataApi = { key: 3, version: 4 }
const createTopicsApi = { key: 19, version: 4 }
const clusterDefault = -1
/** The length that encodes null. */
const allTopics = -1
const topicAlreadyExists = 36
const topicTimeoutMs = 15_000
const probeTimeoutMs = 2_000
const probePauseMs = 25

export interface ClusterMetadata {
  readonly clusterId: string | null
  readonly brokers: readonly { readonly id: number; readonly host: string; readonly port: number }[]
  readonly topics: readonly TopicMetadata[]
}

export interface TopicMetadata {
  readonly name: string
  readonly partitions: number
  /** Every partition has a leader. */
  readonly led: boolean
  /** The ID of the leader of each partition, by partition number; -1 for none. */
  readonly leaders: readonly number[]
  /** Every partition's replicas are all in sync. */
  readonly inSync: boolean
}

/**
 * Asks one broker for the cluster's members and the named topics (by default none, or all topics). Rejects when it does not answer
 * in time.
 */
export async function fetchMetadata(
  address: string,
  timeoutMs: number,
  topics: readonly string[] | 'all' = [],
  missing: 'leave out' | 'create missing topics' = 'leave out',
): Promise<ClusterMetadata> {
  const allowCreation = missing === 'create missing topics' ? 1 : 0
  const asked = new Encoder()
  const body = (
    topics === 'all' ? asked.int32(allTopics) : asked.array(topics, (encoder, topic) => encoder.string(topic))
  ).int8(allowCreation)
  const response = await request(address, metadataApi, body, timeoutMs)
  response.int32()
  const brokers = response.array(() => {
    const broker = { id: response.int32(), host: response.string() ?? '', port: response.int32() }
    response.string()
    return broker
  })
  const clusterId = response.string()
  response.int32()
  const topicsThere = response.array(() => {
    const topicError = response.int16()
    const name = response.string() ?? ''
    response.int8()
    const leaders: number[] = []
    let inSync = true
    response.array(() => {
      const partitionError = response.int16()
      const index = response.int32()
      const leader = response.int32()
      const replicas = response.array(() => response.int32())
      const replicasInSync = response.array(() => response.int32())
      leaders[index] = partitionError === 0 ? leader : -1
      inSync &&= replicas.length === replicasInSync.length
    })
    return { error: topicError, name, leaders, inSync }
  })
  return {
    clusterId,
    brokers,
    topics: topicsThere
      .filter(({ error, leaders }) => error === 0 && leaders.length > 0)
      .map(({ name, leaders, inSync }) => ({
        name,
        partitions: leaders.length,
        led: leaders.every((leader) => leader >= 0),
        leaders,
        inSync,
      })),
  }
}

/** Creates missing topics with the cluster's default replication, and waits until each partition has a leader. */
export async function createTopicsAndWait(
  address: string,
  names: readonly string[],
  partitions: number,
): Promise<void> {
  if (names.length === 0) return
  const deadline = Date.now() + topicTimeoutMs
  await createTopics(address, names, partitions, topicTimeoutMs)
  for (;;) {
    const { topics } = await fetchMetadata(address, probeTimeoutMs, names)
    const ready = new Set(topics.filter((topic) => topic.led).map((topic) => topic.name))
    const waiting = names.filter((name) => !ready.has(name))
    if (waiting.length === 0) return
    if (Date.now() > deadline) throw new Error(`no leader within ${topicTimeoutMs} ms for ${waiting.join(', ')}`)
    await Bun.sleep(probePauseMs)
  }
}

async function createTopics(
  address: string,
  names: readonly string[],
  partitions: number,
  timeoutMs: number,
): Promise<void> {
  const body = new Encoder()
    .array(names, (encoder, name) =>
      encoder
        .string(name)
        .int32(partitions)
        .int16(clusterDefault)
        .array([], () => {})
        .array([], () => {}),
    )
    .int32(timeoutMs)
    .int8(0)
  const response = await request(address, createTopicsApi, body, timeoutMs)
  response.int32()
  const failures = response
    .array(() => ({ name: response.string(), error: response.int16(), message: response.string() }))
    .filter((topic) => topic.error !== 0 && topic.error !== topicAlreadyExists)
  if (failures.length > 0) {
    const faults = failures.map((topic) => `${topic.name}: ${topic.message ?? `error ${topic.error}`}`).join('; ')
    throw new Error(`the broker at ${address} did not create every topic: ${faults}`)
  }
}
