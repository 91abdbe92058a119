import { existsSync } from 'node:fs'
import type { Certificates, Material } from './certificates.ts'
import { showCertificate } from './client-certificates.ts'
import { LOOPBACK, type Relay, relay } from './relay.ts'
import { keepReserve } from './reserve.ts'
import { openSockets } from './sockets.ts'
import { withSentPaths } from './target.ts'
import { tlsOf } from './tls.ts'

/** A port that speaks HTTP, or HTTP in TLS with a certificate that is replaced while connections are open. */

/** How often it is looked at whether servers with an earlier certificate have connections left. */
const EARLIER_LOOK_MS = 30_000

/** Of IPv6, and of IPv4 where the kernel has both. */
const EVERY_ADDRESS = '::'

/** There is none with the kernel's `ipv6.disable=1`. */
const kernelHasIpv6 = (): boolean => process.platform !== 'linux' || existsSync('/proc/net/if_inet6')

/** @returns where to listen: for `::`, every address of IPv4 where the kernel has no IPv6 */
export const listenable = (hostname: string, hasIpv6 = kernelHasIpv6()): string =>
  hostname === EVERY_ADDRESS && !hasIpv6 ? '0.0.0.0' : hostname

export interface ListenOptions {
  /** An address; `::` is every one of IPv6 and IPv4. */
  hostname: string
  /** 0 takes a free one. */
  port: number
  reusePort?: boolean
  idleTimeoutSeconds?: number
  maxRequestBodySize?: number
  /** undefined: plain HTTP. */
  certificates?: Certificates | undefined
  /** Whether clients are asked for certificates, where there are authorities for them. */
  asksClients?: boolean
  fetch(request: Request): Response | Promise<Response>
  /**
   * Is told when the process has no descriptors left for connections, and when it has again. With it, some are kept for all else, and the port accepts none in
   * between, on Linux.
   */
  onScarce?(isScarce: boolean): void
}

export interface Listener {
  readonly port: number
  /** The address of the other end of a request's connection: of a client, or of the last proxy before this. undefined once it is closed. */
  addressOf(request: Request): string | undefined
  /** undefined where connections cannot be counted. */
  connections(): number | undefined
  /** On how many of them something has arrived that is not read yet. */
  unread(): number
  /** Limits how many unsent bytes the kernel takes on each connection accepted from now on. */
  limitUnsent(bytes: number): void
  /** Accepts what waits to be accepted, then nothing more; connections stay open. */
  stopListening(): Promise<void>
  closeIdleConnections(): void
  /** @param force also closes connections with requests that are being answered */
  stop(force?: boolean): Promise<void>
}

type Server = ReturnType<typeof Bun.serve>

/** @throws Error where the port cannot be listened at */
export function listen(options: ListenOptions): Listener {
  const { reusePort = false, certificates, asksClients = false } = options
  const hostname = listenable(options.hostname)
  const sockets = openSockets()
  const serve = (address: { hostname: string; port: number }, material?: Material, fetch = options.fetch): Server =>
    Bun.serve({
      ...address,
      reusePort: reusePort && address.port !== 0,
      ...(material === undefined ? {} : { tls: tlsOf(material) }),
      ...(options.idleTimeoutSeconds === undefined ? {} : { idleTimeout: options.idleTimeoutSeconds }),
      ...(options.maxRequestBodySize === undefined ? {} : { maxRequestBodySize: options.maxRequestBodySize }),
      // Otherwise Bun writes the errors of cut streams to stderr, not as JSON.
      development: false,
      ...withSentPaths(fetch),
    })

  let front: Relay | undefined
  let current: Server
  const first = certificates?.current
  if (first?.clientCa !== undefined && asksClients) {
    const server = serve({ hostname: LOOPBACK, port: 0 }, undefined, (request) => {
      const peer = front?.peer(server.requestIP(request)?.port)
      // Another process of this machine, past TLS.
      if (peer === undefined) return new Response(null, { status: 403, headers: { connection: 'close' } })
      if (peer.certificate === undefined) return options.fetch(request)
      showCertificate(request, peer.certificate)
      // So that the client comes again, and is verified by the authorities of now.
      return peer.isOutdated() ? closing(options.fetch(request)) : options.fetch(request)
    })
    current = server
    front = relay({ hostname, port: options.port, reusePort }, first, server.port ?? 0)
  } else current = serve({ hostname, port: options.port }, first && { ...first, clientCa: undefined })
  const port = front?.port ?? current.port ?? options.port

  const { onScarce } = options
  /** Found while there are few descriptors to look through. */
  let accepting = onScarce && sockets?.accepting(port)
  const reserve = accepting && onScarce && keepReserve(() => accepting, onScarce)

  /** Servers with earlier certificates, with the connections that they had when they were replaced. */
  let earlier: { server: Server; connections: ReadonlySet<string> }[] = []
  let isStopping = false
  const lookAtEarlier = (): void => {
    const open = sockets?.connectionIds(port) ?? new Set()
    const isLeft = ({ connections }: (typeof earlier)[number]): boolean => !connections.isDisjointFrom(open)
    for (const one of earlier) if (!isLeft(one)) void one.server.stop(true)
    earlier = earlier.filter(isLeft)
  }
  const looks =
    certificates === undefined
      ? undefined
      : setInterval(() => {
          if (earlier.length > 0) lookAtEarlier()
        }, EARLIER_LOOK_MS)
  looks?.unref()

  const handOver = (to: number): void => {
    reserve?.renew()
    if (sockets?.handOver(port, to) !== true)
      throw new Error('only on Linux can a port change its certificate while it is open: restart the service')
    if (reserve !== undefined) accepting = sockets.accepting(port)
  }
  certificates?.onChange((material) => {
    if (isStopping) return
    if (front !== undefined) {
      front.renew(material, handOver)
      return
    }
    const next = serve({ hostname: LOOPBACK, port: 0 }, { ...material, clientCa: undefined })
    try {
      handOver(next.port ?? 0)
    } catch (error) {
      void next.stop(true)
      throw error
    }
    earlier.push({ server: current, connections: sockets?.connectionIds(port) ?? new Set() })
    current = next
    lookAtEarlier()
  })

  const servers = (): Server[] => [current, ...earlier.map(({ server }) => server)]
  return {
    port,
    addressOf(request) {
      const peer = current.requestIP(request)
      return front === undefined ? peer?.address : front.peer(peer?.port)?.address
    },
    connections: () => sockets?.connections(port),
    unread() {
      const inside = front === undefined ? 0 : front.holding() + (sockets?.unread(current.port ?? 0) ?? 0)
      return inside + (sockets?.unread(port) ?? 0)
    },
    limitUnsent: (bytes) => sockets?.limitUnsent(port, bytes),
    async stopListening() {
      isStopping = true
      reserve?.stop()
      await sockets?.stopListening(port)
    },
    closeIdleConnections() {
      for (const server of servers()) server.closeIdleConnections()
    },
    async stop(force) {
      isStopping = true
      reserve?.stop()
      clearInterval(looks)
      front?.stopListening()
      await Promise.all(servers().map((server) => server.stop(force)))
      front?.stop()
    },
  }
}

async function closing(answered: Response | Promise<Response>): Promise<Response> {
  const response = await answered
  response.headers.set('connection', 'close')
  return response
}
