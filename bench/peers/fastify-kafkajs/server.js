// Fastify on Node with KafkaJS. Environment: PORT, KAFKA_BROKERS, TOPIC.
import { randomUUID } from 'node:crypto'
import Fastify from 'fastify'
import { Kafka, logLevel, Partitioners } from 'kafkajs'

const { PORT, KAFKA_BROKERS, TOPIC } = process.env

const text = { type: 'string', minLength: 1 }
const event = {
  type: 'object',
  required: ['type'],
  properties: {
    type: text,
    data: {},
    source: text,
    subject: text,
    id: text,
    time: { type: 'string', format: 'date-time' },
  },
}
const schema = { body: { type: 'array', items: event, minItems: 1 } }

const kafka = new Kafka({
  clientId: 'peer',
  brokers: KAFKA_BROKERS.split(','),
  logLevel: logLevel.ERROR,
  retry: { retries: 8, initialRetryTime: 100, maxRetryTime: 2_000 },
})
// An application that keeps the partitions of keys needs this one: Java's murmur2.
const partitioner = Partitioners.DefaultPartitioner()
const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1, createPartitioner: () => partitioner })
await producer.connect()
const admin = kafka.admin()
await admin.connect()
const [{ partitions }] = (await admin.fetchTopicMetadata({ topics: [TOPIC] })).topics
await admin.disconnect()

// An idempotent producer has one request in flight and no linger of its own: what comes in the meantime goes out together next.
const waiting = []
let sending = false
const publish = (messages) =>
  new Promise((resolve, reject) => {
    waiting.push({ messages, resolve, reject })
    if (!sending) sendAll()
  })

// What goes to one partition at a time has to stay below message.max.bytes, 1 MB if a broker is not told otherwise.
const MOST_BYTES = 900_000
const HEADER_BYTES = 250
const bytesOf = ({ messages }) =>
  messages.reduce((bytes, { value }) => bytes + Buffer.byteLength(value) + HEADER_BYTES, 0)

function fitting(waiting) {
  let count = 1
  for (let bytes = bytesOf(waiting[0]); count < waiting.length; count++) {
    bytes += bytesOf(waiting[count])
    if (bytes > MOST_BYTES) break
  }
  return count
}

async function sendAll() {
  sending = true
  while (waiting.length > 0) {
    const batch = waiting.splice(0, fitting(waiting))
    const messages = batch.flatMap((one) => one.messages)
    const keyless = Math.floor(Math.random() * partitions.length)
    for (const message of messages)
      message.partition =
        message.key === null ? keyless : partitioner({ topic: TOPIC, partitionMetadata: partitions, message })
    try {
      const sent = await producer.send({ topic: TOPIC, acks: -1, messages })
      const next = new Map(sent.map(({ partition, baseOffset }) => [partition, Number(baseOffset)]))
      for (const one of batch)
        one.resolve(
          one.messages.map(({ headers, partition }) => {
            const offset = next.get(partition)
            next.set(partition, offset + 1)
            return { id: headers.ce_id, partition, offset }
          }),
        )
    } catch (error) {
      for (const { reject } of batch) reject(error)
    }
  }
  sending = false
}

const messageOf = ({ type, data = null, source = 'urn:peer', subject = null, id, time }, now) => ({
  key: subject,
  value: JSON.stringify(data),
  headers: {
    ce_specversion: '1.0',
    ce_id: id ?? randomUUID(),
    ce_source: source,
    ce_type: type,
    ce_time: time ?? now,
    'content-type': 'application/json',
  },
})

const app = Fastify({ ajv: { customOptions: { coerceTypes: false, allErrors: true, removeAdditional: false } } })
app.get('/ready', () => 'ready')
const bodyLimit = 16 * 1024 * 1024
const preValidation = async (request) => {
  if (!Array.isArray(request.body)) request.body = [request.body]
}
app.post('/v1/events', { schema, bodyLimit, preValidation }, async (request, reply) => {
  const now = new Date().toISOString()
  const messages = request.body.map((one) => messageOf(one, now))
  try {
    const receipts = await publish(messages)
    reply.code(202)
    return { receipts }
  } catch (error) {
    reply.code(503)
    return { error: error.message }
  }
})

process.once('SIGTERM', async () => {
  await app.close()
  await producer.disconnect()
  process.exit()
})
await app.listen({ host: '127.0.0.1', port: Number(PORT) })
