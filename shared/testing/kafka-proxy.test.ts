import { afterEach, expect, test } from 'bun:test'
import { connect, createServer, type Socket } from 'node:net'
import fc from 'fast-check'
import { API_KEYS, FrameSplitter, type KafkaProxy, startKafkaProxy } from './kafka-proxy.ts'
import { until } from './until.ts'

const ending: (() => unknown)[] = []

afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end()
})

const frameOf = (payload: Uint8Array): Buffer => {
  const length = Buffer.alloc(4)
  length.writeInt32BE(payload.length)
  return Buffer.concat([length, payload])
}

test('frames come out whole and in order, however their bytes come in', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 40 })),
      fc.array(fc.nat({ max: 30 })),
      fc.uint8Array({ maxLength: 3 }),
      (payloads, sizes, rest) => {
        const frames = payloads.map(frameOf)
        const bytes = Buffer.concat([...frames, rest])
        const splitter = new FrameSplitter()
        const found: Buffer[] = []
        let at = 0
        for (const size of sizes) {
          found.push(...splitter.push(bytes.subarray(at, at + size)))
          at += size
        }
        found.push(...splitter.push(bytes.subarray(at)))
        expect(found).toEqual(frames)
      },
    ),
  )
})

test('a length that no frame has is refused', () => {
  for (const length of [-1, 2 ** 31 - 1]) {
    const bytes = Buffer.alloc(8)
    bytes.writeInt32BE(length)
    expect(() => new FrameSplitter().push(bytes)).toThrow(RangeError)
  }
})

/** A request as a client writes it: its header, and nothing behind. */
function request(api: keyof typeof API_KEYS, correlationId: number, client: string): Buffer {
  const header = Buffer.alloc(10)
  header.writeInt16BE(API_KEYS[api], 0)
  header.writeInt32BE(correlationId, 4)
  header.writeInt16BE(client.length, 8)
  return frameOf(Buffer.concat([header, Buffer.from(client)]))
}

/** A broker that answers every request with its correlation id, and tells which have come. */
async function listen() {
  const came: number[] = []
  const sockets: Socket[] = []
  const server = createServer((socket) => {
    sockets.push(socket)
    const splitter = new FrameSplitter()
    socket.on('data', (chunk) => {
      for (const frame of splitter.push(chunk as Buffer)) {
        came.push(frame.readInt32BE(8))
        socket.write(frameOf(frame.subarray(8, 12)))
      }
    })
  })
  await new Promise<void>((resolve) => server.listen({ host: '127.0.0.1', port: 0 }, resolve))
  ending.push(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { came, port: (server.address() as { port: number }).port }
}

async function startBroker() {
  const { came, port } = await listen()
  const proxy = await startKafkaProxy([port])
  ending.push(() => proxy.stop())
  return { came, proxy }
}

/** A client of one of the brokers, and the correlation ids of the answers that it got. */
async function startClient({ ports }: KafkaProxy, broker = 0) {
  const answers: number[] = []
  const state = { closed: false }
  const socket = connect({ host: '127.0.0.1', port: ports[broker] ?? 0 })
  const splitter = new FrameSplitter()
  socket.on('data', (chunk) => {
    for (const frame of splitter.push(chunk as Buffer)) answers.push(frame.readInt32BE(4))
  })
  socket.on('error', () => undefined)
  socket.on('close', () => {
    state.closed = true
  })
  await new Promise<void>((resolve) => socket.once('connect', resolve))
  ending.push(() => socket.destroy())
  return { socket, answers, state }
}

test('what is held waits with all behind it on its connection, and goes on when that ends; other clients and requests pass', async () => {
  const { came, proxy } = await startBroker()
  const [one, other] = await Promise.all([startClient(proxy), startClient(proxy)])
  const held = proxy.interfere('request', { api: 'TxnOffsetCommit', client: 'one' }, 'hold')
  one.socket.write(request('AddOffsetsToTxn', 1, 'one'))
  one.socket.write(request('TxnOffsetCommit', 2, 'one'))
  one.socket.write(request('EndTxn', 3, 'one'))
  other.socket.write(request('TxnOffsetCommit', 4, 'other'))
  await until(() => one.answers.length === 1 && other.answers.length === 1 && held.met === 1)
  expect(came.toSorted()).toEqual([1, 4])
  held.end()
  await until(() => one.answers.length === 3)
  expect(one.answers).toEqual([1, 2, 3])
  one.socket.write(request('TxnOffsetCommit', 5, 'one'))
  await until(() => one.answers.length === 4)
  expect(held.met).toBe(1)
})

test('each of several brokers is reached by a port of its own, and what is to be held is met on the way to any of them', async () => {
  const brokers = await Promise.all([listen(), listen()])
  const proxy = await startKafkaProxy(brokers.map(({ port }) => port))
  ending.push(() => proxy.stop())
  const clients = await Promise.all([startClient(proxy, 0), startClient(proxy, 1)])
  const held = proxy.interfere('request', { api: 'EndTxn' }, 'hold')
  for (const [broker, { socket }] of clients.entries()) {
    socket.write(request('Produce', broker, 'one'))
    socket.write(request('EndTxn', 10 + broker, 'one'))
  }
  await until(() => held.met === 2 && clients.every(({ answers }) => answers.length === 1))
  expect(brokers.map(({ came }) => came)).toEqual([[0], [1]])
  held.end()
  await until(() => clients.every(({ answers }) => answers.length === 2))
  expect(brokers.map(({ came }) => came)).toEqual([
    [0, 10],
    [1, 11],
  ])
})

test('an answer that is dropped never comes, though the broker has the request', async () => {
  const { came, proxy } = await startBroker()
  const { socket, answers } = await startClient(proxy)
  const dropped = proxy.interfere('answer', { api: 'EndTxn' }, 'drop')
  socket.write(request('EndTxn', 1, 'one'))
  socket.write(request('Heartbeat', 2, 'one'))
  await until(() => answers.length === 1)
  expect({ came, answers, met: dropped.met }).toEqual({ came: [1, 2], answers: [2], met: 1 })
})

test('a connection is cut before the broker has the request, or before the client has the answer', async () => {
  const { came, proxy } = await startBroker()
  for (const [at, reaches] of [
    ['request', []],
    ['answer', [7]],
  ] as const) {
    const { socket, answers, state } = await startClient(proxy)
    const cut = proxy.interfere(at, { api: 'Produce' }, 'cut')
    socket.write(request('Produce', 7, 'one'))
    await until(() => state.closed)
    cut.end()
    expect({ came: came.splice(0), answers }).toEqual({ came: [...reaches], answers: [] })
  }
})

test('what is delayed comes later than what another connection sends behind it', async () => {
  const { came, proxy } = await startBroker()
  const [one, other] = await Promise.all([startClient(proxy), startClient(proxy)])
  const delayed = proxy.interfere('request', { api: 'Heartbeat', client: 'one' }, { delayMs: 50 })
  one.socket.write(request('Heartbeat', 1, 'one'))
  await until(() => delayed.met === 1)
  other.socket.write(request('Heartbeat', 2, 'other'))
  await until(() => came.length === 2)
  expect(came).toEqual([2, 1])
})
