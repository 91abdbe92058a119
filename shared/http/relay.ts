import type { X509Certificate } from 'node:crypto'
import type { Socket, TCPSocketListener } from 'bun'
import type { Material } from './certificates.ts'
import { type ClientCertificate, namesOf } from './client-certificates.ts'
import { tlsOf } from './tls.ts'

/**
 * TLS in front of a plain HTTP server of the same process. Bun's server asks clients for certificates, but does not tell whose a request is; its sockets do. So
 * connections end here, and what they carry goes on, unchanged and unread, to a port on the loopback interface: one connection for one. The server knows each by
 * its port, and serves no other.
 */

/** How long a client may take for the TLS handshake, and for reading the rest once the server has closed its connection. */
const HANDSHAKE_TIMEOUT_SECONDS = 10
const LAST_READ_TIMEOUT_SECONDS = 10

export const LOOPBACK = '127.0.0.1'

/** The other end of a connection. */
export interface Peer {
  address: string
  /** undefined: it has shown none. */
  certificate: ClientCertificate | undefined
  /** The authorities by which that was verified are not those of now. */
  isOutdated(): boolean
}

/** One client's connection, and the one that goes on. */
interface Link {
  toServer: Pipe
  toClient: Pipe
  peer: Peer | undefined
}

/** One direction. What the reader does not take at once waits, and no more is read until it is taken. */
class Pipe {
  #to: Socket<Link> | undefined
  #from: Socket<Link> | undefined
  #waiting: Buffer[] = []
  #isEnding = false

  get isEmpty(): boolean {
    return this.#waiting.length === 0
  }

  from(socket: Socket<Link>): void {
    this.#from = socket
  }

  to(socket: Socket<Link>): void {
    this.#to = socket
    this.drain()
  }

  push(data: Buffer): void {
    const written = this.#waiting.length === 0 && this.#to !== undefined ? Math.max(0, this.#to.write(data)) : 0
    if (written === data.length) return
    this.#waiting.push(Buffer.from(data.subarray(written)))
    this.#from?.pause()
  }

  drain(): void {
    const to = this.#to
    if (to === undefined) return
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      const written = Math.max(0, to.write(first))
      if (written < first.length) {
        this.#waiting[0] = first.subarray(written)
        return
      }
      this.#waiting.shift()
    }
    if (this.#isEnding) to.end()
    else this.#from?.resume()
  }

  /** Nothing more comes. */
  end(): void {
    this.#isEnding = true
    this.drain()
  }
}

export interface Relay {
  readonly port: number
  /** The other end of the connection that has this port on the loopback interface; undefined: it does not come from here. */
  peer(port: number | undefined): Peer | undefined
  /** How many connections hold bytes that the server has not been given yet. */
  holding(): number
  /**
   * Listens with other certificates from now on. Open connections stay.
   * @param handOver gives the listening socket to what listens at another port
   * @throws Error where it cannot
   */
  renew(material: Material, handOver: (toServerOf: number) => void): void
  /** Accepts nothing more; connections stay open. */
  stopListening(): void
  /** Closes all connections. */
  stop(): void
}

/** @param serverPort where the server listens, on the loopback interface */
export function relay(
  address: { hostname: string; port: number; reusePort: boolean },
  material: Material,
  serverPort: number,
): Relay {
  const peers = new Map<number, Peer>()
  const clients = new Set<Socket<Link>>()
  let clientCa = material.clientCa

  function goOn(client: Socket<Link>, link: Link): void {
    Bun.connect<Link>({
      hostname: LOOPBACK,
      port: serverPort,
      data: link,
      socket: {
        open(server) {
          const { localPort } = server
          if (link.peer !== undefined) peers.set(localPort, link.peer)
          link.toClient.from(server)
          link.toServer.to(server)
        },
        data: (_server, data) => link.toClient.push(data),
        drain: () => link.toServer.drain(),
        close(server) {
          if (peers.get(server.localPort) === link.peer) peers.delete(server.localPort)
          client.timeout(LAST_READ_TIMEOUT_SECONDS)
          link.toClient.end()
        },
        error: (server) => server.terminate(),
        connectError: () => client.terminate(),
      },
    }).catch(() => client.terminate())
  }

  const open = (at: { hostname: string; port: number; reusePort: boolean }, with_: Material): TCPSocketListener<Link> =>
    Bun.listen<Link>({
      ...at,
      tls: tlsOf(with_),
      socket: {
        open(client) {
          client.data = { toServer: new Pipe(), toClient: new Pipe(), peer: undefined }
          client.data.toServer.from(client)
          clients.add(client)
          client.timeout(HANDSHAKE_TIMEOUT_SECONDS)
        },
        handshake(client, isDone, error) {
          if (!isDone) return client.terminate()
          const link = client.data
          client.timeout(0)
          link.peer = {
            address: client.remoteAddress,
            certificate: shown(client, error),
            isOutdated: () => with_.clientCa !== clientCa,
          }
          link.toClient.to(client)
          goOn(client, link)
        },
        data: (client, data) => client.data.toServer.push(data),
        drain: (client) => client.data.toClient.drain(),
        end: (client) => client.data.toServer.end(),
        timeout: (client) => client.terminate(),
        close(client) {
          clients.delete(client)
          client.data.toServer.end()
        },
        error: (client) => client.terminate(),
      },
    })

  let listening = open(address, material)
  return {
    port: listening.port,
    peer: (number) => (number === undefined ? undefined : peers.get(number)),
    holding: () => [...clients].filter(({ data }) => !data.toServer.isEmpty).length,
    renew(later, handOver) {
      const next = open({ hostname: LOOPBACK, port: 0, reusePort: false }, later)
      try {
        handOver(next.port)
      } catch (error) {
        next.stop(true)
        throw error
      }
      listening.stop(false)
      listening = next
      clientCa = later.clientCa
    },
    stopListening: () => listening.stop(false),
    stop() {
      listening.stop(true)
      for (const client of clients) client.terminate()
    },
  }
}

/** The certificate that a client has shown, and what was wrong with it. */
function shown(client: Socket<Link>, error: Error | null): ClientCertificate | undefined {
  const certificate: X509Certificate | undefined = client.getPeerX509Certificate()
  if (certificate === undefined) return undefined
  return {
    names: namesOf(certificate),
    notAfterMs: Date.parse(certificate.validTo),
    fault: client.authorized ? undefined : (error?.message ?? 'it could not be verified'),
  }
}
