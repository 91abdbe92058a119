// Fastify on Node with Confluent's client. Environment: PORT, KAFKA_BROKERS, TOPIC.
import { randomUUID } from 'node:crypto'
import Kafka from '@confluentinc/kafka-javascript'
import Fastify from 'fastify'

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

const producer = new Kafka.Producer({
  'client.id': 'peer',
  'bootstrap.servers': KAFKA_BROKERS,
  'enable.idempotence': true,
  acks: -1,
  'compression.codec': 'lz4',
  'linger.ms': 1,
  'delivery.timeout.ms': 10_000,
  partitioner: 'murmur2_random',
  dr_cb: true,
})
producer.on('delivery-report', (error, { opaque: { resolve, reject }, partition, offset }) =>
  error ? reject(error) : resolve({ partition, offset }),
)
await new Promise((resolve, reject) =>
  producer.connect({ topic: TOPIC }, (error, metadata) => (error ? reject(error) : resolve(metadata))),
)
// Reports come when they are there, not when a timer fires.
producer.setPollInBackground(true)

const SPEC_VERSION = { ce_specversion: '1.0' }
const CONTENT_TYPE = { 'content-type': 'application/json' }

async function publish({ type, data = null, source = 'urn:peer', subject = null, id = randomUUID(), time }, now) {
  const headers = [
    SPEC_VERSION,
    { ce_id: id },
    { ce_source: source },
    { ce_type: type },
    { ce_time: time ?? now },
    CONTENT_TYPE,
  ]
  const { partition, offset } = await new Promise((resolve, reject) => {
    producer.produce(TOPIC, null, Buffer.from(JSON.stringify(data)), subject, null, { resolve, reject }, headers)
  })
  return { id, partition, offset }
}

const app = Fastify({ ajv: { customOptions: { coerceTypes: false, allErrors: true, removeAdditional: false } } })
app.get('/ready', () => 'ready')
const bodyLimit = 16 * 1024 * 1024
const preValidation = async (request) => {
  if (!Array.isArray(request.body)) request.body = [request.body]
}
app.post('/v1/events', { schema, bodyLimit, preValidation }, async (request, reply) => {
  const now = new Date().toISOString()
  try {
    const receipts = await Promise.all(request.body.map((one) => publish(one, now)))
    reply.code(202)
    return { receipts }
  } catch (error) {
    reply.code(503)
    return { error: error.message }
  }
})

process.once('SIGTERM', async () => {
  await app.close()
  producer.disconnect(() => process.exit())
})
await app.listen({ host: '127.0.0.1', port: Number(PORT) })
