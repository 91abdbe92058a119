import { expect, test } from 'bun:test'
import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import pino from 'pino'
import { openSockets } from '../shared/http/sockets.ts'
import { until } from '../shared/testing/until.ts'
import { Gate } from './admit.ts'
import { loadProducerConfig } from './config.ts'
import { createPublicPort } from './public-port.ts'

const DRAIN_TIMEOUT_MS = 1_000

/** A connection that is idle after one answered request. */
async function connection(port: number): Promise<{ socket: Socket; received(): string; closed: Promise<void> }> {
  let received = ''
  const socket = connect(port, '127.0.0.1')
  const closed = new Promise<void>((resolve) => void socket.once('close', () => resolve()))
  const answered = new Promise<void>((resolve) => {
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1')
      resolve()
    })
  })
  socket.write(`${BEGUN}${REST}`)
  await answered
  return { socket, received: () => received, closed }
}

/** Bytes that have arrived at a socket and are not read (proc(5), /proc/net/tcp). */
function receiveQueue({ localPort, remotePort }: Socket): number {
  // A port alone is not enough: sockets towards other addresses, closed ones as well, may have it.
  const [local, remote] = [localPort, remotePort].map(
    (port) => `:${Number(port).toString(16).toUpperCase().padStart(4, '0')}`,
  ) as [string, string]
  const [row] = readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .flatMap((line) => {
      const fields = line.trim().split(/\s+/)
      return fields[1]?.endsWith(local) && fields[2]?.endsWith(remote) ? [fields] : []
    })
  if (row === undefined) throw new Error(`no socket has the ports ${localPort} and ${remotePort}`)
  return Number.parseInt(row[4]?.split(':')[1] ?? '', 16)
}

/** An open public port and its number. */
async function opened(fetch: () => Response, gate = new Gate({ maxRequests: 10, maxBytes: 1_000 })) {
  const { promise: number, resolve } = Promise.withResolvers<number>()
  const config = loadProducerConfig({
    KAFKA_BROKERS: 'localhost:9092',
    NODE_ENV: 'development',
    AUTH: 'off',
    HOST: '127.0.0.1',
    PORT: '0',
  })
  const log = pino({ level: 'info' }, { write: (line) => resolve((JSON.parse(line) as { port: number }).port) })
  const port = createPublicPort({ config, gate, log, fetch, ready: () => true })
  await port.open()
  return { port, number: await number }
}

const BEGUN = 'GET / HTTP/1.1\r\nHost:'
const REST = ' x\r\n\r\n'

test.skipIf(openSockets() === undefined)(
  'idle connections are closed while requests on others are still taken: none is refused',
  async () => {
    const gate = new Gate({ maxRequests: 10, maxBytes: 1_000 })
    const answer = () =>
      new Response(null, {
        status: gate.closed === undefined ? 202 : 503,
        headers: gate.draining ? { connection: 'close' } : {},
      })
    const { port, number } = await opened(answer, gate)
    const idle = await connection(number)
    const slow = await connection(number)
    slow.socket.write(BEGUN)
    const drained = port.drain(DRAIN_TIMEOUT_MS, () => undefined)
    await idle.closed
    slow.socket.write(REST)
    await slow.closed
    await drained
    expect(gate.closed?.kind).toBe('draining')
    await port.close()
    expect(idle.received().match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 202'])
    expect(slow.received().match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 202', 'HTTP/1.1 202'])
  },
)

test.skipIf(openSockets() === undefined)('a request that has arrived is known before it was read', async () => {
  const sockets = openSockets()
  const server = Bun.serve({ hostname: '127.0.0.1', port: 0, fetch: () => new Response(null, { status: 202 }) })
  const port = server.port as number
  const idle = await connection(port)
  const other = await connection(port)
  expect(sockets?.unread(port)).toBe(0)
  // It reaches the kernel at once, and the server in the next turn of the event loop.
  other.socket.write(`${BEGUN}${REST}`)
  expect(sockets?.unread(port)).toBe(1)
  await until(() => other.received().split('HTTP/1.1 202').length === 3, { timeoutMs: 5_000, what: 'the answer' })
  expect(sockets?.unread(port)).toBe(0)
  for (const { socket } of [idle, other]) socket.destroy()
  await server.stop(true)
})

test.skipIf(openSockets() === undefined)('the kernel takes little for a client that does not read', async () => {
  let taken = 0
  const piece = new Uint8Array(64 * 1024)
  const pull = (controller: ReadableStreamDefaultController<Uint8Array>) => {
    taken += piece.length
    controller.enqueue(piece)
  }
  const endless = () => new Response(new ReadableStream({ pull }))
  /** How much of an endless answer is taken without reaching a client that reads only its beginning. */
  async function takenAt(port: number): Promise<number> {
    taken = 0
    const { socket, received } = await connection(port)
    socket.pause()
    let before = 0
    let looks = 0
    await until(
      () => {
        looks = taken === before ? looks + 1 : 0
        before = taken
        return looks > 100
      },
      { timeoutMs: 5_000, what: 'a full connection' },
    )
    // How much arrives depends on the machine: the kernel sizes a receive buffer by how fast it was read.
    const arrived = received().length + receiveQueue(socket)
    socket.destroy()
    return taken - arrived
  }
  const server = Bun.serve({ hostname: '127.0.0.1', port: 0, fetch: endless })
  const unlimited = await takenAt(server.port as number)
  openSockets()?.limitUnsent(server.port as number, 640 * 1024)
  const larger = await takenAt(server.port as number)
  await server.stop(true)
  const { port, number } = await opened(endless)
  const limited = await takenAt(number)
  expect(limited).toBeLessThan(0.75 * unlimited)
  expect(larger).toBeGreaterThan(limited + 128 * 1024)
  await port.close()
})
