import http from 'node:http'
import type { Certificates } from '../shared/http/certificates.ts'
import { type Listener, listen } from '../shared/http/listener.ts'
import { logScarcity } from '../shared/http/reserve.ts'
import { kernelHandsOver } from '../shared/http/sockets.ts'
import type { Logger } from '../shared/service/logger.ts'
import { delayMs, sleep, turn } from '../shared/service/retry.ts'
import type { Gate } from './admit.ts'
import type { ProducerConfig } from './config.ts'

/** The public port: opens when events can be stored, and closes without losing a request. */

/** How much Bun's own limit on header fields, which answers with an empty 431, is above ours, which answers with a problem document. */
const HEADER_SLACK_BYTES = 4_096

/** How often to check whether the port may be opened. */
const READY_LOOK = { firstMs: 20, maxMs: 100 }

/** How long the next request of each connection is still answered, with `Connection: close`, before idle connections are closed. */
const IDLE_GRACE_MS = 5_000

/** How long to wait until Bun has read all that has arrived. */
const UNREAD_TIMEOUT_MS = 250

/** How long requests that are still on their way then are let in. */
const LAST_REQUESTS_MS = 2_000

/** How long the last answers, to requests whose deliveries ended with the Kafka client, may take. */
const LAST_ANSWERS_MS = 500

/** How much of an answer may wait in the kernel: more than fast clients have in flight. */
const UNSENT_BYTES = 128 * 1024

/** How often to check whether connections are left. */
const CONNECTIONS_LOOK_MS = 20

export interface PublicPortDeps {
  config: ProducerConfig
  /** undefined: plain HTTP. */
  certificates?: Certificates | undefined
  gate: Gate
  log: Logger
  fetch(request: Request): Response | Promise<Response>
  /** Whether the port may be opened. */
  ready(): boolean
}

export interface PublicPort {
  /**
   * Opens the port once it may be opened. Resolves then, or when it is drained before.
   * @throws Error when the port cannot be opened
   */
  open(): Promise<void>
  listening(): boolean
  /** The address of the other end of a request's connection; undefined once it is closed. */
  addressOf(request: Request): string | undefined
  /**
   * Stops listening at once. Requests of open connections are still answered, with `Connection: close`; then idle connections are closed and streams are ended,
   * and a little later the gate is shut. Waits for the requests in flight, `timeoutMs` in all.
   * @param endStreams called when streams have to end
   */
  drain(timeoutMs: number, endStreams: () => void): Promise<void>
  /** To be called when nothing waits for Kafka any more: sends the last answers, then closes all connections. */
  close(): Promise<void>
}

export function createPublicPort({ config, certificates, gate, log, fetch, ready }: PublicPortDeps): PublicPort {
  const draining = new AbortController()
  let listener: Listener | undefined

  /** Waits until every connection is closed, at most `timeoutMs`, and as long as that where connections cannot be counted. */
  async function connectionsGone(timeoutMs: number): Promise<void> {
    const deadline = performance.now() + timeoutMs
    while (performance.now() < deadline && listener?.connections() !== 0) await sleep(CONNECTIONS_LOOK_MS)
  }

  /** To Bun a connection is idle even if its next request has arrived and is not read yet. */
  async function nothingUnread(): Promise<void> {
    const deadline = performance.now() + UNREAD_TIMEOUT_MS
    while (performance.now() < deadline && listener !== undefined && listener.unread() > 0) await turn()
  }

  return {
    async open() {
      for (let attempt = 1; !ready(); attempt++) {
        if (draining.signal.aborted) return
        await sleep(delayMs(READY_LOOK, attempt), draining.signal)
      }
      if (draining.signal.aborted) return
      ;(http as { maxHeaderSize: number }).maxHeaderSize = config.MAX_HEADER_BYTES + HEADER_SLACK_BYTES
      listener = listen({
        hostname: config.HOST,
        port: config.PORT,
        reusePort: config.REUSE_PORT === 'on',
        // Bodies are limited where they are read; NDJSON streams have no limit.
        maxRequestBodySize: Number.MAX_SAFE_INTEGER,
        idleTimeoutSeconds: idleTimeoutSeconds(config),
        certificates,
        asksClients: true,
        fetch,
        onScarce: logScarcity(log),
      })
      listener.limitUnsent(UNSENT_BYTES)
      log.info({ port: listener.port }, 'listening on the public port')
      if (config.REUSE_PORT === 'on' && kernelHandsOver() !== true)
        log.warn(
          'connections that are being established are reset when this process stops: set net.ipv4.tcp_migrate_req=1',
        )
    },
    listening: () => listener !== undefined,
    addressOf: (request) => listener?.addressOf(request),
    async drain(timeoutMs, endStreams) {
      const deadline = performance.now() + timeoutMs
      draining.abort()
      gate.drain()
      if (listener !== undefined) {
        await listener.stopListening()
        await connectionsGone(Math.min(IDLE_GRACE_MS, timeoutMs / 2))
        await nothingUnread()
        listener.closeIdleConnections()
      }
      endStreams()
      // Each connection that is not idle has one more request at most, whose answer closes it.
      if (listener?.connections() !== undefined) await connectionsGone(Math.min(LAST_REQUESTS_MS, timeoutMs / 4))
      const cut = new AbortController()
      const left = gate.shut().then(() => cut.abort())
      await Promise.race([left, sleep(deadline - performance.now(), cut.signal)])
      if (gate.level.requests > 0)
        log.warn({ requests: gate.level.requests, timeoutMs }, 'drain timed out; aborting requests in flight')
    },
    async close() {
      const deadline = performance.now() + LAST_ANSWERS_MS
      await Promise.race([gate.shut(), sleep(LAST_ANSWERS_MS)])
      // An answer is not sent yet when its request has left the gate.
      while (performance.now() < deadline && listener !== undefined && listener.connections() !== 0) {
        listener.closeIdleConnections()
        await sleep(CONNECTIONS_LOOK_MS)
      }
      await listener?.stop(true)
    },
  }
}

/**
 * Bun counts whole seconds, at most 255, from the last write. The deadlines of bodies and streams are shorter: a stream whose answers are not read ends
 * after two of its time-outs.
 */
function idleTimeoutSeconds({ REQUEST_TIMEOUT_MS, NDJSON_PROGRESS_TIMEOUT_MS }: ProducerConfig): number {
  return Math.min(255, Math.ceil(Math.max(REQUEST_TIMEOUT_MS, 2 * NDJSON_PROGRESS_TIMEOUT_MS) / 1_000) + 5)
}
