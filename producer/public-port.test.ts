import { expect, test } from 'bun:test'
import { connect } from 'node:net'
import pino from 'pino'
import { Gate } from './admit.ts'
import { loadProducerConfig } from './config.ts'
import { createPublicPort } from './public-port.ts'
import { openSockets } from './sockets.ts'

const DRAIN_TIMEOUT_MS = 400

/** A connection on which one request was answered, and which is idle since. */
async function idleConnection(port: number): Promise<{ received(): string; closed: Promise<void> }> {
  let received = ''
  const socket = connect(port, '127.0.0.1')
  const closed = new Promise<void>((resolve) => void socket.once('close', () => resolve()))
  const answered = new Promise<void>((resolve) => {
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1')
      resolve()
    })
  })
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
  await answered
  return { received: () => received, closed }
}

test.skipIf(openSockets() === undefined)(
  'a connection that stays idle is closed while others are still served: its next request is no 503',
  async () => {
    const gate = new Gate({ maxRequests: 10, maxBytes: 1_000 })
    const { promise: listening, resolve: opened } = Promise.withResolvers<number>()
    const port = createPublicPort({
      config: loadProducerConfig({
        KAFKA_BROKERS: 'localhost:9092',
        NODE_ENV: 'development',
        AUTH: 'off',
        HOST: '127.0.0.1',
        PORT: '0',
      }),
      gate,
      log: pino({ level: 'info' }, { write: (line) => opened((JSON.parse(line) as { port: number }).port) }),
      fetch: () => new Response(null, { status: gate.closed === undefined ? 202 : 503 }),
      ready: () => true,
    })
    await port.open()
    const { received, closed } = await idleConnection(await listening)
    // Another request keeps the process.
    expect(gate.enter(1, false)).toBeUndefined()
    const drained = port.drain(DRAIN_TIMEOUT_MS, () => undefined)
    expect(gate.closed).toBeUndefined()
    await closed
    gate.leave(1, false)
    await drained
    await port.close()
    expect(received()).toStartWith('HTTP/1.1 202')
  },
)
