import { connect, createServer, type Server, type Socket } from 'node:net'

/**
 * A proxy between Kafka's clients and brokers that understands frames, so that a test can delay or drop one kind of request of one client.
 * The brokers must advertise the proxy's ports. Requests between brokers, and from a broker to itself, pass through it too.
 */

/** API keys by Kafka's names (https://kafka.apache.org/protocol#protocol_api_keys). */
export const API_KEYS = {
  Produce: 0,
  Fetch: 1,
  ListOffsets: 2,
  Metadata: 3,
  OffsetFetch: 9,
  FindCoordinator: 10,
  JoinGroup: 11,
  Heartbeat: 12,
  LeaveGroup: 13,
  SyncGroup: 14,
  InitProducerId: 22,
  AddPartitionsToTxn: 24,
  AddOffsetsToTxn: 25,
  EndTxn: 26,
  WriteTxnMarkers: 27,
  TxnOffsetCommit: 28,
} as const

export interface Match {
  api: keyof typeof API_KEYS
  /** The `client.id`; without it, every client matches. */
  client?: string
}

/**
 * `hold`: waits until the interference ends. `drop`: never arrives. `cut`: never arrives, and its connection is closed. `rewrite`: arrives as another frame, which
 * includes its length prefix. Frames behind it on the same connection wait with it, as on a network.
 */
export type Action = 'hold' | 'drop' | 'cut' | { delayMs: number } | { rewrite(frame: Buffer): Buffer }

/** The frame to forward, or why there is none. */
type Fate = Buffer | 'drop' | 'cut'

export interface Interference {
  /** How many frames have matched. */
  readonly met: number
  /** Matches no more frames, and forwards those on hold. */
  end(): void
}

export interface KafkaProxy {
  /** One for each broker, in order. */
  readonly ports: readonly number[]
  /** Interferes with requests or their responses. The first interference that matches a frame applies. */
  interfere(at: 'request' | 'answer', match: Match, action: Action): Interference
  /** Closes every connection and accepts no more. */
  stop(): Promise<void>
}

/** The part of Kafka's request header that all versions share. */
interface Request {
  apiKey: number
  correlationId: number
  clientId: string
}

const LENGTH_BYTES = 4
/** The brokers' default limit, `socket.request.max.bytes`. */
const MAX_FRAME_BYTES = 100 * 1024 * 1024

/** Cuts a byte stream into frames: a length of four bytes, then as many bytes. */
export class FrameSplitter {
  #rest: Buffer = Buffer.alloc(0)

  /**
   * Frames that this chunk completes, each with its length prefix.
   * @throws RangeError for a length that is not valid in Kafka
   */
  push(chunk: Buffer): Buffer[] {
    const frames: Buffer[] = []
    let rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    while (rest.length >= LENGTH_BYTES) {
      const length = rest.readInt32BE(0)
      if (length < 0 || length > MAX_FRAME_BYTES) throw new RangeError(`a frame cannot have ${length} bytes`)
      if (rest.length < LENGTH_BYTES + length) break
      frames.push(rest.subarray(0, LENGTH_BYTES + length))
      rest = rest.subarray(LENGTH_BYTES + length)
    }
    this.#rest = rest
    return frames
  }
}

function requestOf(frame: Buffer): Request {
  const clientIdLength = frame.readInt16BE(12)
  return {
    apiKey: frame.readInt16BE(4),
    correlationId: frame.readInt32BE(8),
    clientId: clientIdLength < 0 ? '' : frame.toString('utf8', 14, 14 + clientIdLength),
  }
}

interface Rule extends Interference {
  at: 'request' | 'answer'
  matches(request: Request): boolean
  meet(frame: Buffer): Promise<Fate>
}

/** @param brokerPorts on loopback, like the proxy; the brokers may start later */
export async function startKafkaProxy(brokerPorts: readonly number[]): Promise<KafkaProxy> {
  const rules = new Set<Rule>()
  const sockets = new Set<Socket>()

  const fateOf = async (at: Rule['at'], request: Request | undefined, frame: Buffer): Promise<Fate> => {
    const rule = request && [...rules].find((one) => one.at === at && one.matches(request))
    return rule === undefined ? frame : rule.meet(frame)
  }

  async function pass(
    at: Rule['at'],
    from: Socket,
    to: Socket,
    whose: (frame: Buffer) => Request | undefined,
    ended: () => void,
  ): Promise<void> {
    const splitter = new FrameSplitter()
    try {
      for await (const chunk of from)
        for (const frame of splitter.push(chunk as Buffer)) {
          const fate = await fateOf(at, whose(frame), frame)
          if (fate === 'cut') return
          if (fate !== 'drop') to.write(fate)
        }
    } catch {
      // When one side breaks the connection, break it for the other in the same way.
    } finally {
      from.destroy()
      ended()
    }
  }

  const serve = (brokerPort: number): Server =>
    createServer((client) => {
      const broker = connect({ host: '127.0.0.1', port: brokerPort })
      for (const socket of [client, broker]) {
        socket.setNoDelay(true)
        socket.on('error', () => undefined)
        socket.on('close', () => sockets.delete(socket))
        sockets.add(socket)
      }
      const unanswered = new Map<number, Request>()
      // What the client has sent must reach the broker even if the client has left: the broker may still act on it.
      let left = false
      const leave = () => {
        if (left && unanswered.size === 0) broker.end()
      }
      void pass(
        'request',
        client,
        broker,
        (frame) => {
          const request = requestOf(frame)
          unanswered.set(request.correlationId, request)
          return request
        },
        () => {
          left = true
          leave()
        },
      )
      void pass(
        'answer',
        broker,
        client,
        (frame) => {
          const correlationId = frame.readInt32BE(4)
          const request = unanswered.get(correlationId)
          unanswered.delete(correlationId)
          leave()
          return request
        },
        () => client.end(),
      )
    })
  const servers = brokerPorts.map(serve)
  await Promise.all(
    servers.map((server) => new Promise<void>((resolve) => server.listen({ host: '127.0.0.1', port: 0 }, resolve))),
  )

  return {
    ports: servers.map((server) => (server.address() as { port: number }).port),
    interfere(at, { api, client }, action) {
      let met = 0
      const { promise: ended, resolve: end } = Promise.withResolvers<void>()
      const rule: Rule = {
        at,
        matches: ({ apiKey, clientId }) => apiKey === API_KEYS[api] && (client === undefined || clientId === client),
        async meet(frame) {
          met++
          if (action === 'drop' || action === 'cut') return action
          if (typeof action === 'object' && 'rewrite' in action) return action.rewrite(frame)
          await (action === 'hold' ? ended : Bun.sleep(action.delayMs))
          return frame
        },
        get met() {
          return met
        },
        end() {
          rules.delete(rule)
          end()
        },
      }
      rules.add(rule)
      return rule
    },
    async stop() {
      for (const rule of rules) rule.end()
      const closed = servers.map((server) => new Promise((resolve) => server.close(resolve)))
      for (const socket of sockets) socket.destroy()
      await Promise.all(closed)
    },
  }
}
