/** CloudEvents' SDK for JavaScript as a sender and a reader: ../../clients-sdks.ts defines input and output. */
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'

const require = createRequire(join(process.argv[2], 'package.json'))
const { CloudEvent, emitterFor, HTTP, httpTransport, Kafka, Mode } = require('cloudevents')

const { url, sends, records } = JSON.parse(await text(process.stdin))

function eventOf({ extensions, data, ...attributes }) {
  const bytes = data === null ? undefined : Buffer.from(data, 'base64')
  const { datacontenttype } = attributes
  const value =
    bytes === undefined || datacontenttype === 'application/octet-stream'
      ? bytes
      : datacontenttype === 'application/json'
        ? JSON.parse(bytes)
        : bytes.toString()
  return new CloudEvent({ ...attributes, ...extensions, ...(value === undefined ? {} : { data: value }) })
}

async function send({ mode, events }) {
  try {
    if (mode === 'batch') {
      // The SDK reads batches but cannot write one.
      const body = `[${events.map((event) => HTTP.structured(eventOf(event)).body).join(',')}]`
      const answer = await fetch(url, {
        method: 'POST',
        headers: { 'content-type': 'application/cloudevents-batch+json' },
        body,
      })
      return { status: answer.status, body: await answer.text() }
    }
    let status = 0
    // The SDK's transport hides the status, so a function of ours sends its message.
    const transport = async ({ headers, body }) => {
      const sent = await httpTransport(url)({ headers, body })
      status = sent.body.startsWith('{"receipts"') ? 202 : JSON.parse(sent.body).status
      return sent
    }
    const emit = emitterFor(transport, { mode: mode === 'binary' ? Mode.BINARY : Mode.STRUCTURED })
    const { body } = await emit(eventOf(events[0]))
    return { status, body }
  } catch (error) {
    return { error: String(error) }
  }
}

const ATTRIBUTES = ['id', 'source', 'type', 'subject', 'time', 'datacontenttype', 'dataschema']

function read({ headers, value }) {
  try {
    const message = {
      value: value === null ? undefined : Buffer.from(value, 'base64'),
      body: value === null ? undefined : Buffer.from(value, 'base64'),
      headers: Object.fromEntries(headers.map(([name, bytes]) => [name, Buffer.from(bytes, 'base64').toString()])),
      timestamp: '0',
    }
    const event = Kafka.toEvent(message)
    const { specversion, data, data_base64, ...members } = event.toJSON()
    const found = { extensions: {}, data: null }
    for (const [name, one] of Object.entries(members)) {
      if (ATTRIBUTES.includes(name)) found[name] = one
      else found.extensions[name] = one
    }
    if (event.data !== undefined && event.data !== null) {
      const bytes =
        event.data instanceof Uint8Array || typeof event.data === 'string' ? event.data : JSON.stringify(event.data)
      found.data = Buffer.from(bytes).toString('base64')
    }
    return found
  } catch (error) {
    return { error: String(error) }
  }
}

const answers = []
for (const one of sends) answers.push(await send(one))
// Kept-alive connections would keep the process running.
process.stdout.write(JSON.stringify({ sends: answers, records: records.map(read) }), () => process.exit(0))
