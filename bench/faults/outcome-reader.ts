import { connect, type Socket } from 'node:net'

/**
 * Follows server-sent events (HTML, section 9.2), and connects again with the last id when it is cut off. On a socket, since a runtime's own client reads ahead
 * without limit, so that it is never slow.
 */

export interface OutcomeReader {
  /** The last id; undefined before the first. */
  lastId(): string | undefined
  /** Destroys its connection, if it has one. */
  cut(): void
  /** Reads nothing for so long. */
  pause(ms: number): void
  stop(): Promise<void>
}

export interface OutcomeReaderOptions {
  path: string
  /** Chosen anew for each connection. */
  port(): number
  /** Cuts the connection off after this event when it throws. */
  onEvent(name: string, data: string): void
  /** Any answer but 200 and 503. */
  onRefusal(status: number, text: string): void
}

const AGAIN_PAUSE_MS = 50

export function readOutcomes({ path, port, onEvent, onRefusal }: OutcomeReaderOptions): OutcomeReader {
  let lastId: string | undefined
  let socket: Socket | undefined
  let awake = Promise.resolve()
  let stopped = false

  async function once(): Promise<void> {
    socket = connect({ host: '127.0.0.1', port: port() })
    const resume = lastId === undefined ? '' : `last-event-id: ${lastId}\r\n`
    socket.write(`GET ${path} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n${resume}\r\n`)
    const lines = new EventLines((id) => (lastId = id), onEvent)
    let head: { status: number } | undefined
    let rest: Buffer = Buffer.alloc(0)
    let refusal = ''
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      rest = Buffer.concat([rest, chunk])
      if (head === undefined) {
        const end = rest.indexOf('\r\n\r\n')
        if (end < 0) continue
        head = { status: Number(rest.toString('latin1', 9, 12)) }
        rest = rest.subarray(end + 4)
      }
      if (head.status === 200) {
        const { data, left, ended } = dechunk(rest)
        rest = left
        lines.take(data)
        // The connection may stay open.
        if (ended) break
      } else {
        refusal = rest.toString()
        if (refusal.includes('}')) break
      }
      await awake
    }
    if (head !== undefined && head.status !== 200 && head.status !== 503) onRefusal(head.status, refusal)
  }

  async function run(): Promise<void> {
    while (!stopped) {
      // It is refused, reset or closed; all are the same to a reader.
      await once().catch(() => undefined)
      socket?.destroy()
      await Bun.sleep(AGAIN_PAUSE_MS)
    }
  }

  const running = run()
  return {
    lastId: () => lastId,
    cut: () => void socket?.destroy(),
    pause(ms) {
      awake = Bun.sleep(ms)
    },
    async stop() {
      stopped = true
      socket?.destroy()
      await running
    },
  }
}

/** The data of complete chunks (RFC 9112, section 7.1), the bytes after them, and whether the last chunk was among them. */
function dechunk(bytes: Buffer): { data: Buffer; left: Buffer; ended: boolean } {
  const parts: Buffer[] = []
  let at = 0
  for (;;) {
    const lineEnd = bytes.indexOf('\r\n', at)
    const length = lineEnd < 0 ? Number.NaN : Number.parseInt(bytes.toString('latin1', at, lineEnd), 16)
    const end = lineEnd + 2 + length
    const ended = length === 0
    if (ended || Number.isNaN(length) || bytes.length < end + 2)
      return { data: Buffer.concat(parts), left: bytes.subarray(at), ended }
    parts.push(bytes.subarray(lineEnd + 2, end))
    at = end + 2
  }
}

/** Parses events. An id counts once its event is complete, also where that has no data. */
class EventLines {
  #rest: Buffer = Buffer.alloc(0)
  #name = 'message'
  #data: string[] = []
  #id: string | undefined

  constructor(
    readonly onId: (id: string) => void,
    readonly onEvent: (name: string, data: string) => void,
  ) {}

  take(bytes: Buffer): void {
    const all = Buffer.concat([this.#rest, bytes])
    const end = all.lastIndexOf('\n') + 1
    this.#rest = all.subarray(end)
    for (const line of all.toString('utf8', 0, end).split('\n').slice(0, -1)) this.#line(line)
  }

  #line(line: string): void {
    if (line === '') {
      this.#dispatch()
      return
    }
    const colon = line.indexOf(':')
    const value = line.slice(colon + 1).replace(/^ /, '')
    const field = line.slice(0, colon)
    if (field === 'id') this.#id = value
    else if (field === 'event') this.#name = value
    else if (field === 'data') this.#data.push(value)
  }

  #dispatch(): void {
    const [name, data] = [this.#name, this.#data]
    this.#name = 'message'
    this.#data = []
    if (this.#id !== undefined) this.onId(this.#id)
    if (data.length > 0) this.onEvent(name, data.join('\n'))
  }
}
