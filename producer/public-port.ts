import http from 'node:http'
import type { Logger } from '../shared/service/logger.ts'
import { delayMs, sleep, turn } from '../shared/service/retry.ts'
import type { Gate } from './admit.ts'
import type { ProducerConfig } from './config.ts'
import { kernelHandsOver, openSockets } from './sockets.ts'

/** The public port: opened when events can be stored, and closed so that no request is lost. */

/** The runtime's own bound on header fields answers with an empty 431; ours, a little lower, with a problem document. */
const HEADER_SLACK_BYTES = 4_096

/** How often it is looked whether the port may be opened. */
const READY_LOOK = { firstMs: 20, maxMs: 100 }

/** How long the next request of a connection is still answered, with the word that it was the last. Then idle ones are closed. */
const IDLE_GRACE_MS = 5_000

/** How long it may take until nothing has arrived that was not read. */
const UNREAD_TIMEOUT_MS = 250

/** How much longer a request is waited for that is on its way then, before it is refused. */
const LAST_REQUESTS_MS = 2_000

/** How long answers may take that are given at the very end, to what Kafka's client was holding. */
const LAST_ANSWERS_MS = 500

/** Of an answer, so much waits in the kernel: more than what fast clients have under way at a time. */
const UNSENT_BYTES = 128 * 1024

/** How often it is looked whether connections are left. */
const CONNECTIONS_LOOK_MS = 20

export interface PublicPortDeps {
  config: ProducerConfig
  gate: Gate
  log: Logger
  fetch(request: Request): Response | Promise<Response>
  /** Whether the port may be opened. */
  ready(): boolean
}

export interface PublicPort {
  /**
   * Opens the port once it may be opened. Resolves then, or when it is drained before.
   * @throws Error when the port cannot be had
   */
  open(): Promise<void>
  listening(): boolean
  /**
   * New connections are left to other processes at once. Those that are open have their requests answered, each with `Connection: close`; then idle
   * ones are closed and streams are ended, and a little later the gate is shut; what is left of requests is waited for until `timeoutMs` have passed in all.
   * @param endStreams called when streams have to end
   */
  drain(timeoutMs: number, endStreams: () => void): Promise<void>
  /** To be called when nothing waits for Kafka any more: what is answered then is sent, then connections are cut. */
  close(): Promise<void>
}

export function createPublicPort({ config, gate, log, fetch, ready }: PublicPortDeps): PublicPort {
  const draining = new AbortController()
  const sockets = openSockets()
  let server: ReturnType<typeof Bun.serve> | undefined

  /** Waits until every connection is closed, at most so long. Where that is not known, so long. */
  async function connectionsGone(port: number, timeoutMs: number): Promise<void> {
    const deadline = performance.now() + timeoutMs
    while (performance.now() < deadline && (sockets === undefined || sockets.connections(port) > 0))
      await sleep(CONNECTIONS_LOOK_MS)
  }

  /** A connection whose next request has arrived, and was not read yet, counts as idle to Bun. */
  async function nothingUnread(port: number): Promise<void> {
    const deadline = performance.now() + UNREAD_TIMEOUT_MS
    while (performance.now() < deadline && sockets !== undefined && sockets.unread(port) > 0) await turn()
  }

  return {
    async open() {
      for (let attempt = 1; !ready(); attempt++) {
        if (draining.signal.aborted) return
        await sleep(delayMs(READY_LOOK, attempt), draining.signal)
      }
      if (draining.signal.aborted) return
      ;(http as { maxHeaderSize: number }).maxHeaderSize = config.MAX_HEADER_BYTES + HEADER_SLACK_BYTES
      server = Bun.serve({
        hostname: config.HOST,
        port: config.PORT,
        reusePort: config.REUSE_PORT === 'on',
        // Bodies are counted where they are read: a stream of lines has no bound of its own.
        maxRequestBodySize: Number.MAX_SAFE_INTEGER,
        idleTimeout: idleTimeoutSeconds(config),
        // Otherwise Bun writes what a stream is cut off with to stderr, as no JSON.
        development: false,
        fetch,
      })
      if (server.port !== undefined) sockets?.limitUnsent(server.port, UNSENT_BYTES)
      log.info({ port: server.port }, 'listening on the public port')
      if (config.REUSE_PORT === 'on' && kernelHandsOver() !== true)
        log.warn(
          'connections that are being established are reset when this process stops: set net.ipv4.tcp_migrate_req=1',
        )
    },
    listening: () => server !== undefined,
    async drain(timeoutMs, endStreams) {
      const deadline = performance.now() + timeoutMs
      draining.abort()
      gate.drain()
      const port = server?.port
      if (port !== undefined) {
        await sockets?.stopListening(port)
        await connectionsGone(port, Math.min(IDLE_GRACE_MS, timeoutMs / 2))
        await nothingUnread(port)
      }
      server?.closeIdleConnections()
      endStreams()
      // A connection that is not idle has one more request at most, since its answer is the last.
      if (port !== undefined && sockets !== undefined)
        await connectionsGone(port, Math.min(LAST_REQUESTS_MS, timeoutMs / 4))
      const cut = new AbortController()
      const left = gate.shut().then(() => cut.abort())
      await Promise.race([left, sleep(deadline - performance.now(), cut.signal)])
      if (gate.level.requests > 0)
        log.warn({ requests: gate.level.requests, timeoutMs }, 'drain timed out; aborting requests in flight')
    },
    async close() {
      const deadline = performance.now() + LAST_ANSWERS_MS
      await Promise.race([gate.shut(), sleep(LAST_ANSWERS_MS)])
      // Answered is not sent yet.
      if (server?.port !== undefined) await connectionsGone(server.port, deadline - performance.now())
      await server?.stop(true)
    },
  }
}

/**
 * Bun counts whole seconds, 255 at most, from what was last written. Bodies and streams have deadlines of their own, below this one: a stream whose
 * answers are not read ends after two.
 */
function idleTimeoutSeconds({ REQUEST_TIMEOUT_MS, NDJSON_PROGRESS_TIMEOUT_MS }: ProducerConfig): number {
  return Math.min(255, Math.ceil(Math.max(REQUEST_TIMEOUT_MS, 2 * NDJSON_PROGRESS_TIMEOUT_MS) / 1_000) + 5)
}
