import { afterAll, beforeAll, expect, test } from 'bun:test'
import { uniqueName } from '../../testing/brokers.ts'
import { type ProxiedKafka, startProxiedKafka } from '../../testing/proxied-kafka.ts'
import { native, type Producer, promised } from '../client.ts'

/*
 * A broker that comes back after its session is fenced for a moment, and names no broker in its answers, not even itself (KIP-631). The part of
 * addon.patch that is rdkafka_metadata.c's: without it a client that has such an answer has nobody left to ask, for good.
 */

const CALL_TIMEOUT_MS = 5_000
/** It depends on the moment whether a client loses all brokers for good: of some hundred answers one does it. */
const ROUNDS = 300

let proxied: ProxiedKafka
const topic = uniqueName('fenced')

beforeAll(async () => {
  proxied = await startProxiedKafka()
  await proxied.kafka.createTopics([topic], 1)
})

afterAll(() => proxied?.stop())

/** An unsigned varint: the value, and where it ends. */
function varint(frame: Buffer, at: number): [value: number, end: number] {
  let value = 0
  for (let shift = 0; ; shift += 7) {
    const byte = frame.readUInt8(at++)
    value += (byte & 0x7f) * 2 ** shift
    if (byte < 0x80) return [value, at]
  }
}

/** A Metadata response without brokers (MetadataResponse.json of Apache Kafka, flexible since version 9). */
function withoutBrokers(frame: Buffer): Buffer {
  const [LENGTH, CORRELATION_ID, TAGS, THROTTLE_TIME, NODE_ID, PORT] = [4, 4, 1, 4, 4, 4]
  const from = LENGTH + CORRELATION_ID + TAGS + THROTTLE_TIME
  let [brokers, at] = varint(frame, from)
  // Lengths are one more than they say; 0 is null.
  const skipString = (): void => {
    const [length, end] = varint(frame, at)
    at = end + Math.max(0, length - 1)
  }
  for (; brokers > 1; brokers--) {
    at += NODE_ID
    skipString()
    at += PORT
    skipString()
    at += TAGS
  }
  const rewritten = Buffer.concat([frame.subarray(0, from), Buffer.from([1]), frame.subarray(at)])
  rewritten.writeInt32BE(rewritten.length - LENGTH)
  return rewritten
}

const brokersOf = (client: Producer): Promise<number> =>
  promised<{ brokers: unknown[] }>((done) =>
    client.getMetadata({ timeout: CALL_TIMEOUT_MS, allTopics: true }, (error, answer) => done(error, answer)),
  ).then(({ brokers }) => brokers.length)

test('a client that is told of no broker goes on asking those that it knew', async () => {
  const client = new (native().Producer)({ 'metadata.broker.list': proxied.brokers, log_level: 0 })
  await promised((done) => client.connect({ timeout: CALL_TIMEOUT_MS }, (error) => done(error)))
  try {
    for (let round = 0; round < ROUNDS; round++) {
      expect(await brokersOf(client)).toBe(1)
      const fenced = proxied.proxy.interfere('answer', { api: 'Metadata' }, { rewrite: withoutBrokers })
      expect(await brokersOf(client)).toBe(0)
      expect(fenced.met).toBeGreaterThan(0)
      fenced.end()
    }
    expect(await brokersOf(client)).toBe(1)
  } finally {
    await promised((done) => client.disconnect(1_000, (error) => done(error)))
  }
}, 120_000)
