import { afterEach, describe, expect, test } from 'bun:test'
import { createServer, type Server, type Socket } from 'node:net'
import { rejection, settled } from '../../shared/testing/settled.ts'
import { createKeepAliveClient, parseAnswer } from './keep-alive.ts'

describe('an answer', () => {
  const bytes = (...lines: string[]) => Buffer.from(lines.join('\r\n'))

  test('is whole when its body has the length that was announced', () => {
    const whole = bytes('HTTP/1.1 202 Accepted', 'Content-Length: 4', '', 'abcd')
    expect(parseAnswer(whole)).toMatchObject({ status: 202, last: false })
    expect(String(parseAnswer(whole)?.body)).toBe('abcd')
    for (const length of [0, 10, whole.length - 1]) expect(parseAnswer(whole.subarray(0, length))).toBeUndefined()
  })

  test('is whole when its last chunk is there', () => {
    const head = ['HTTP/1.1 200 OK', 'transfer-encoding: chunked', 'connection: close', '']
    const whole = bytes(...head, '3', 'abc', 'a', '0123456789', '0', '', '')
    expect(parseAnswer(whole)).toMatchObject({ status: 200, last: true })
    expect(Buffer.concat(parseAnswer(whole)?.body ?? []).toString()).toBe('abc0123456789')
    expect(parseAnswer(whole.subarray(0, -4))).toBeUndefined()
  })

  test('is none when it is something else', () => {
    expect(() => parseAnswer(bytes('SSH-2.0', '', ''))).toThrow('no HTTP answer')
  })
})

describe('the client', () => {
  let server: Server | undefined
  afterEach(() => server?.close())

  /** Answers the n-th request of each connection by what `answer` does. */
  async function start(answer: (socket: Socket, request: number) => void): Promise<string> {
    const listening = createServer((socket) => {
      let requests = 0
      socket.on('data', () => answer(socket, ++requests))
      socket.on('error', () => undefined)
    })
    server = listening
    const ready = Promise.withResolvers<void>()
    listening.listen(0, '127.0.0.1', ready.resolve)
    await ready.promise
    return `http://127.0.0.1:${(listening.address() as { port: number }).port}/v1/events`
  }
  const ok = (close = false) =>
    `HTTP/1.1 202 Accepted\r\n${close ? 'Connection: close\r\n' : ''}Content-Length: 2\r\n\r\nok`
  const soon = () => AbortSignal.timeout(2_000)

  test('sends one request after the other on one connection, and a new one after the last answer of a connection', async () => {
    const url = await start((socket, request) => void socket.write(ok(request === 2)))
    const { post, facts, close } = createKeepAliveClient()
    for (let n = 0; n < 3; n++) {
      const { status, body } = await post(url, {}, 'x', soon())
      expect(status).toBe(202)
      for await (const chunk of body) expect(chunk.toString()).toBe('ok')
    }
    expect(facts).toEqual({ connections: 2, failures: [] })
    close()
  })

  test('does not send a request again whose connection ended, and says so', async () => {
    let requests = 0
    const url = await start((socket) => {
      requests++
      socket.end()
    })
    const { post, facts } = createKeepAliveClient()
    expect(await settled(post(url, {}, 'x', soon()))).toThrow('closed without an answer')
    expect(requests).toBe(1)
    expect(facts.failures).toEqual(['closed without an answer'])
  })

  test('takes another connection when one has ended while nobody used it', async () => {
    const sockets: Socket[] = []
    const url = await start((socket) => {
      sockets.push(socket)
      socket.write(ok())
    })
    const { post, facts, close } = createKeepAliveClient()
    await post(url, {}, 'x', soon())
    const gone = Promise.withResolvers<void>()
    sockets[0]?.once('close', () => gone.resolve())
    sockets[0]?.end()
    await gone.promise
    await post(url, {}, 'x', soon())
    expect(facts).toEqual({ connections: 2, failures: [] })
    close()
  })

  test('gives a request up when it is told to, and says when nobody listens', async () => {
    const url = await start(() => undefined)
    const { post } = createKeepAliveClient()
    expect(await settled(post(url, {}, 'x', AbortSignal.timeout(20)))).toThrow()
    await new Promise((resolve) => server?.close(resolve))
    expect(await rejection(post(url, {}, 'x', soon()))).toMatchObject({ code: 'ECONNREFUSED' })
  })
})
