import { afterEach, expect, test } from 'bun:test'
import type { TCPSocketListener } from 'bun'
import { settled } from '../../testing/settled.ts'
import { findFreePorts } from './ports.ts'
import { fetchMetadata } from './wire.ts'

let server: TCPSocketListener | undefined

afterEach(() => server?.stop(true))

/** Something that listens and answers every request with these bytes, or not at all. */
function listen(answer: Uint8Array | undefined): string {
  const listening = Bun.listen({
    hostname: '127.0.0.1',
    port: 0,
    socket: {
      data(socket) {
        if (answer !== undefined) socket.end(answer)
      },
    },
  })
  server = listening
  return `127.0.0.1:${listening.port}`
}

test('nobody there is said at once', async () => {
  const [port] = await findFreePorts(1)
  expect(await settled(fetchMetadata(`127.0.0.1:${port}`, 5_000))).toThrow('cannot be reached')
})

test('a port that is open is not yet a broker that answers', async () => {
  expect(await settled(fetchMetadata(listen(undefined), 50))).toThrow('did not answer within 50 ms')
})

test('something else than Kafka is recognised', async () => {
  const address = listen(Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'))
  expect(await settled(fetchMetadata(address, 5_000))).toThrow('does not speak the Kafka protocol')
})

test('an answer that is cut off is no answer', async () => {
  const address = listen(Buffer.from([0, 0, 0, 100, 0, 0]))
  expect(await settled(fetchMetadata(address, 5_000))).toThrow('closed the connection')
})

test('an answer that ends before what it announces is refused', async () => {
  const address = listen(Buffer.from([0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9]))
  expect(await settled(fetchMetadata(address, 5_000))).toThrow()
})

test('an answer that arrives in pieces is read whole', async () => {
  const text = (value: string) => [0, value.length, ...Buffer.from(value)]
  const body = [
    ...[0, 0, 0, 1], // correlation id
    ...[0, 0, 0, 0], // throttle time
    ...[0, 0, 0, 1, 0, 0, 0, 7, ...text('a.example'), 0, 0, 0x23, 0x84, 0xff, 0xff], // one broker, without a rack
    ...[...text('the-cluster'), 0, 0, 0, 7], // cluster and controller
    ...[0, 0, 0, 0], // no topics
  ]
  const answer = Buffer.from([0, 0, 0, body.length, ...body])
  const listening = Bun.listen({
    hostname: '127.0.0.1',
    port: 0,
    socket: {
      async data(socket) {
        for (const piece of [answer.subarray(0, 3), answer.subarray(3, 20), answer.subarray(20)]) {
          socket.write(piece)
          socket.flush()
          await Bun.sleep(5)
        }
      },
    },
  })
  server = listening
  expect(await fetchMetadata(`127.0.0.1:${listening.port}`, 5_000)).toEqual({
    clusterId: 'the-cluster',
    brokers: [{ id: 7, host: 'a.example', port: 9_092 }],
    topics: [],
  })
})
