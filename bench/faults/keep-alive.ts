import { connect, type Socket } from 'node:net'
import type { Post } from './load.ts'

/**
 * A client that keeps connections open and sends one request after another on each, as connection pools do. It never retries a request
 * by itself, and counts what happens to its connections, which a runtime's own client would hide.
 */

export interface KeepAliveClient {
  readonly post: Post
  readonly facts: KeepAliveFacts
  close(): void
}

export interface KeepAliveFacts {
  connections: number
  /** Refused connections, and requests whose connection closed before their answer was complete. */
  failures: string[]
}

/** Reads a response while it arrives. Decodes nothing but chunks. */
interface Answer {
  status: number
  retryAfter: string | undefined
  body: Buffer[]
  /** Whether the server says that the connection closes after it. */
  last: boolean
}

/** Which a URL may leave out. */
const HTTP_PORT = 80

export function createKeepAliveClient(): KeepAliveClient {
  const idle: Socket[] = []
  const facts: KeepAliveFacts = { connections: 0, failures: [] }

  const open = (hostname: string, port: number, signal: AbortSignal): Promise<Socket> =>
    new Promise((resolve, reject) => {
      const socket = connect({ host: hostname, port })
      // Where packets are dropped, the system would try for minutes.
      const giveUp = (): void => void socket.destroy(signal.reason as Error)
      signal.addEventListener('abort', giveUp, { once: true })
      socket.once('connect', () => {
        signal.removeEventListener('abort', giveUp)
        facts.connections++
        socket.removeAllListeners('error')
        // On an idle connection, only the close matters.
        socket.on('error', () => undefined)
        socket.once('close', () => {
          const at = idle.indexOf(socket)
          if (at >= 0) idle.splice(at, 1)
        })
        // The server half-closes when it takes no more requests.
        socket.once('end', () => socket.destroy())
        resolve(socket)
      })
      socket.once('error', reject)
    })

  return {
    facts,
    async post(url, headers, body, signal) {
      const { hostname, port, host, pathname } = new URL(url)
      let socket = idle.pop()
      while (socket !== undefined && (socket.destroyed || socket.readableEnded)) socket = idle.pop()
      try {
        socket ??= await open(hostname, Number(port || HTTP_PORT), signal)
        const bytes = Buffer.from(body as string)
        const lines = Object.entries({ host, 'content-length': String(bytes.length), ...headers })
        const head = `POST ${pathname} HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`
        const answer = await exchange(socket, Buffer.concat([Buffer.from(head), bytes]), signal)
        if (answer.last || socket.destroyed) socket.destroy()
        else idle.push(socket)
        return { status: answer.status, retryAfter: answer.retryAfter, body: each(answer.body) }
      } catch (error) {
        socket?.destroy()
        facts.failures.push((error as Error).message)
        throw error
      }
    },
    close() {
      for (const socket of idle.splice(0)) socket.destroy()
    },
  }
}

async function* each(chunks: readonly Buffer[]): AsyncGenerator<Uint8Array> {
  yield* chunks
}

/** Sends a request and reads its response. Rejects when the connection closes first, or the signal is aborted. */
function exchange(socket: Socket, request: Buffer, signal: AbortSignal): Promise<Answer> {
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0)
    const settle = (act: () => void): void => {
      socket.off('data', take)
      socket.off('close', cut)
      signal.removeEventListener('abort', giveUp)
      act()
    }
    const take = (chunk: Buffer): void => {
      received = Buffer.concat([received, chunk])
      try {
        const answer = parseAnswer(received)
        if (answer !== undefined) settle(() => resolve(answer))
      } catch (error) {
        settle(() => reject(error))
      }
    }
    const cut = (): void =>
      settle(() => reject(new Error(received.length === 0 ? 'closed without an answer' : 'closed within an answer')))
    const giveUp = (): void => settle(() => reject(signal.reason))
    socket.on('data', take)
    socket.on('close', cut)
    signal.addEventListener('abort', giveUp)
    if (signal.aborted) giveUp()
    else socket.write(request)
  })
}

const HEAD_END = '\r\n\r\n'
const LINE_END = '\r\n'

/** An HTTP/1.1 response (RFC 9112); undefined while it is incomplete. @throws Error when it is invalid */
export function parseAnswer(bytes: Buffer): Answer | undefined {
  const headEnd = bytes.indexOf(HEAD_END)
  if (headEnd < 0) return undefined
  const [statusLine = '', ...lines] = bytes.toString('latin1', 0, headEnd).split(LINE_END)
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(statusLine)?.[1])
  if (!Number.isInteger(status)) throw new Error(`no HTTP answer: ${statusLine}`)
  const headers = new Map(
    lines.map((line) => {
      const colon = line.indexOf(':')
      return [
        line.slice(0, colon).toLowerCase(),
        line
          .slice(colon + 1)
          .trim()
          .toLowerCase(),
      ] as const
    }),
  )
  const last = headers.get('connection') === 'close'
  const retryAfter = headers.get('retry-after')
  const rest = bytes.subarray(headEnd + HEAD_END.length)
  if (headers.get('transfer-encoding') === 'chunked') {
    const body = parseChunks(rest)
    return body && { status, retryAfter, body, last }
  }
  const length = Number(headers.get('content-length') ?? 0)
  return rest.length < length ? undefined : { status, retryAfter, body: [rest.subarray(0, length)], last }
}

/** RFC 9112, section 7.1; undefined until the last chunk has arrived. */
function parseChunks(bytes: Buffer): Buffer[] | undefined {
  const chunks: Buffer[] = []
  for (let at = 0; ; ) {
    const lineEnd = bytes.indexOf(LINE_END, at)
    if (lineEnd < 0) return undefined
    const length = Number.parseInt(bytes.toString('latin1', at, lineEnd), 16)
    if (Number.isNaN(length)) throw new Error('no length of a chunk')
    const begin = lineEnd + LINE_END.length
    const end = begin + length
    if (bytes.length < end + LINE_END.length) return undefined
    if (length === 0) return chunks
    chunks.push(bytes.subarray(begin, end))
    at = end + LINE_END.length
  }
}
