/**
 * As much of Kafka's own protocol as it takes to know that a broker answers and to create topics, without the native client: a broker
 * must be able to start before the addon is built. Versions are those that Apache Kafka 4 and Redpanda both speak
 * (https://kafka.apache.org/protocol: Metadata v4, CreateTopics v4, request header v1).
 */
import { connect } from 'node:net'

const metadataApi = { key: 3, version: 4 }
const createTopicsApi = { key: 19, version: 4 }
const clusterDefault = -1
const topicAlreadyExists = 36
const topicTimeoutMs = 15_000
const probeTimeoutMs = 2_000
const probePauseMs = 25
const maxResponseBytes = 16 * 1024 * 1024

export interface ClusterMetadata {
  readonly clusterId: string | null
  readonly brokers: readonly { readonly id: number; readonly host: string; readonly port: number }[]
  readonly topics: readonly TopicMetadata[]
}

export interface TopicMetadata {
  readonly name: string
  readonly partitions: number
  /** Every partition has a leader, so it can be written to. */
  readonly led: boolean
}

/** Asks one broker for the cluster's members and the topics named (none by default). Rejects when it does not answer in time. */
export async function fetchMetadata(
  address: string,
  timeoutMs: number,
  topics: readonly string[] = [],
  missing: 'leave out' | 'create missing topics' = 'leave out',
): Promise<ClusterMetadata> {
  const allowCreation = missing === 'create missing topics' ? 1 : 0
  const body = new Encoder().array(topics, (encoder, topic) => encoder.string(topic)).int8(allowCreation)
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
    const partitions = response.array(() => {
      const partitionError = response.int16()
      response.int32()
      const leader = response.int32()
      response.array(() => response.int32())
      response.array(() => response.int32())
      return partitionError === 0 && leader >= 0
    })
    return { error: topicError, name, partitions: partitions.length, led: partitions.every(Boolean) }
  })
  return {
    clusterId,
    brokers,
    topics: topicsThere
      .filter((topic) => topic.error === 0 && topic.partitions > 0)
      .map(({ name, partitions, led }) => ({ name, partitions, led })),
  }
}

/** Creates topics, where they do not exist, with the cluster's default replication, and waits until each of their partitions has a leader. */
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

/** One request, one response, one connection. */
function request(
  address: string,
  api: { key: number; version: number },
  body: Encoder,
  timeoutMs: number,
): Promise<Decoder> {
  const colon = address.lastIndexOf(':')
  const header = new Encoder().int16(api.key).int16(api.version).int32(1).string('kafkatrace-broker-check')
  const message = Buffer.concat([header.bytes(), body.bytes()])
  return new Promise((resolve, reject) => {
    const socket = connect({ host: address.slice(0, colon), port: Number(address.slice(colon + 1)) })
    const fail = (why: string) => {
      clearTimeout(timer)
      socket.destroy()
      reject(new Error(`${address} ${why}`))
    }
    const timer = setTimeout(() => fail(`did not answer within ${timeoutMs} ms`), timeoutMs)
    let received = Buffer.alloc(0)
    socket.once('connect', () => socket.write(Buffer.concat([new Encoder().int32(message.length).bytes(), message])))
    socket.on('error', (error) => fail(`cannot be reached (${error.message})`))
    socket.on('close', () => fail('closed the connection'))
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk])
      if (received.length < 4) return
      const length = received.readInt32BE(0)
      if (length < 4 || length > maxResponseBytes) return fail('does not speak the Kafka protocol')
      if (received.length < 4 + length) return
      clearTimeout(timer)
      socket.destroy()
      resolve(new Decoder(received.subarray(8, 4 + length)))
    })
  })
}

class Encoder {
  readonly #parts: Buffer[] = []

  int8(value: number): this {
    return this.#write(1, (buffer) => buffer.writeInt8(value))
  }

  int16(value: number): this {
    return this.#write(2, (buffer) => buffer.writeInt16BE(value))
  }

  int32(value: number): this {
    return this.#write(4, (buffer) => buffer.writeInt32BE(value))
  }

  string(value: string): this {
    const bytes = Buffer.from(value)
    this.int16(bytes.length)
    this.#parts.push(bytes)
    return this
  }

  array<Item>(items: readonly Item[], encode: (encoder: this, item: Item) => void): this {
    this.int32(items.length)
    for (const item of items) encode(this, item)
    return this
  }

  bytes(): Buffer {
    return Buffer.concat(this.#parts)
  }

  #write(bytes: number, write: (buffer: Buffer) => void): this {
    const buffer = Buffer.alloc(bytes)
    write(buffer)
    this.#parts.push(buffer)
    return this
  }
}

class Decoder {
  readonly #bytes: Buffer
  #offset = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  int8(): number {
    return this.#bytes.readInt8(this.#advance(1))
  }

  int16(): number {
    return this.#bytes.readInt16BE(this.#advance(2))
  }

  int32(): number {
    return this.#bytes.readInt32BE(this.#advance(4))
  }

  string(): string | null {
    const length = this.int16()
    if (length < 0) return null
    const start = this.#advance(length)
    return this.#bytes.toString('utf8', start, start + length)
  }

  array<Item>(decode: () => Item): Item[] {
    const length = this.int32()
    const items: Item[] = []
    for (let index = 0; index < length; index++) items.push(decode())
    return items
  }

  #advance(bytes: number): number {
    const at = this.#offset
    this.#offset += bytes
    return at
  }
}
