// Hono on Bun with @platformatic/kafka. Environment: PORT, KAFKA_BROKERS, TOPIC.
import { compatibilityPartitioner, Producer, stringSerializers } from '@platformatic/kafka'
import { FormatRegistry, Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { Hono } from 'hono'
import { validator } from 'hono/validator'

const { PORT, KAFKA_BROKERS, TOPIC } = process.env

const RFC_3339 = /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/
FormatRegistry.Set('date-time', (text) => RFC_3339.test(text) && !Number.isNaN(Date.parse(text)))
const Text = Type.String({ minLength: 1 })
const Event = Type.Object({
  type: Text,
  data: Type.Optional(Type.Unknown()),
  source: Type.Optional(Text),
  subject: Type.Optional(Text),
  id: Type.Optional(Text),
  time: Type.Optional(Type.String({ format: 'date-time' })),
})
const events = TypeCompiler.Compile(Type.Array(Event, { minItems: 1 }))

const producer = new Producer({
  clientId: 'peer',
  bootstrapBrokers: KAFKA_BROKERS.split(','),
  serializers: stringSerializers,
  idempotent: true,
  compression: 'lz4',
  retries: 10,
})
const { partitionsCount } = (await producer.metadata({ topics: [TOPIC] })).topics.get(TOPIC)
await producer.initIdempotentProducer({})

// An idempotent producer has one request in flight and no linger of its own: what comes in the meantime goes out together next.
const waiting = []
let sending = false
const publish = (records) =>
  new Promise((resolve, reject) => {
    waiting.push({ records, resolve, reject })
    if (!sending) sendAll()
  })

// What goes to one partition at a time has to stay below message.max.bytes, 1 MB if a broker is not told otherwise.
const MOST_BYTES = 900_000
const HEADER_BYTES = 250
const bytesOf = ({ records }) =>
  records.reduce((bytes, { value }) => bytes + Buffer.byteLength(value) + HEADER_BYTES, 0)

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
    const keyless = Math.floor(Math.random() * partitionsCount)
    for (const record of batch.flatMap(({ records }) => records))
      record.partition =
        record.key === undefined ? keyless : compatibilityPartitioner(record, Buffer.from(record.key)) % partitionsCount
    try {
      const { offsets } = await producer.send({ messages: batch.flatMap(({ records }) => records) })
      const next = new Map(offsets.map(({ partition, offset }) => [partition, offset]))
      for (const { records, resolve } of batch)
        resolve(
          records.map(({ headers, partition }) => {
            const offset = next.get(partition)
            next.set(partition, offset + 1n)
            return { id: headers.ce_id, partition, offset: Number(offset) }
          }),
        )
    } catch (error) {
      for (const { reject } of batch) reject(error)
    }
  }
  sending = false
}

const recordOf = ({ type, data = null, source = 'urn:peer', subject, id, time }, now) => ({
  topic: TOPIC,
  key: subject,
  value: JSON.stringify(data),
  headers: {
    ce_specversion: '1.0',
    ce_id: id ?? Bun.randomUUIDv7(),
    ce_source: source,
    ce_type: type,
    ce_time: time ?? now,
    'content-type': 'application/json',
  },
})

const validate = validator('json', (body, c) => {
  const list = Array.isArray(body) ? body : [body]
  if (events.Check(list)) return list
  const faults = [...events.Errors(list)].map(({ path, message }) => ({ pointer: path, detail: message }))
  return c.json({ faults }, 422)
})

const app = new Hono()
app.get('/ready', (c) => c.text('ready'))
app.post('/v1/events', validate, async (c) => {
  const now = new Date().toISOString()
  const records = c.req.valid('json').map((event) => recordOf(event, now))
  try {
    return c.json({ receipts: await publish(records) }, 202)
  } catch (error) {
    return c.json({ error: error.message }, 503)
  }
})

const server = Bun.serve({ hostname: '127.0.0.1', port: Number(PORT), fetch: app.fetch })
process.once('SIGTERM', async () => {
  await server.stop()
  await producer.close()
  process.exit()
})
