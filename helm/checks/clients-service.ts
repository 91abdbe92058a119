import { Type } from '@sinclair/typebox'
import pino from 'pino'
import { identityOf } from '../../consumer/decode.ts'
import { defineHandler } from '../../consumer/handlers/handler.ts'
import { startPipeline } from '../../consumer/testing/pipeline.ts'
import { Gate } from '../../producer/admit.ts'
import { createApp } from '../../producer/app.ts'
import { authenticateBy } from '../../producer/authenticate.ts'
import { loadProducerConfig } from '../../producer/config.ts'
import { createMetrics } from '../../producer/metrics.ts'
import type { IncomingRecord } from '../../shared/events/record.ts'
import { streamTopics } from '../../shared/events/topics.ts'
import { authoriseNobody } from '../../shared/http/authorise.ts'
import { UNCHANGING } from '../../shared/testing/access.ts'
import { FakeKafka } from '../../shared/testing/fake-kafka.ts'
import { until } from '../../shared/testing/until.ts'

/** The HTTP service on its own port, and the consumer's pipeline, both on Kafka in memory. */

const RESULTS_TIMEOUT_MS = 20_000

/** The result of the handler. */
export const RESULT = { handled: 'é "q" 100%' }

export interface ClientService {
  /** The URL for events. */
  url: string
  /** The OpenAPI description as served. */
  description(): Promise<string>
  /** The stored records. */
  stored(): readonly IncomingRecord[]
  /** Processes everything that was stored. @returns the records of `.processed` */
  processed(): Promise<readonly IncomingRecord[]>
  stop(): void
}

export function startClientService(): ClientService {
  const [input = '', ...others] = streamTopics('default', 'events')
  const kafka = new FakeKafka().createTopic(input)
  for (const topic of others) kafka.createTopic(topic)
  const config = loadProducerConfig({ NODE_ENV: 'development', AUTH: 'off', KAFKA_BROKERS: 'memory:1' })
  const app = createApp({
    config,
    producer: kafka.producer({ maxRecords: config.MAX_QUEUE_RECORDS, maxBytes: config.MAX_QUEUE_BYTES }),
    authenticate: authenticateBy(authoriseNobody()),
    schemas: undefined,
    access: UNCHANGING,
    sources: () => new Map(),
    refusedAfterMs: 0,
    gate: new Gate({ maxRequests: config.MAX_IN_FLIGHT_REQUESTS, maxBytes: config.MAX_IN_FLIGHT_BYTES }),
    quotaClock: { nowMs: Date.now, replicas: () => 1 },
    metrics: createMetrics(),
    log: pino({ level: 'silent' }),
    tracing: undefined,
    nowMs: Date.now,
    ending: new AbortController().signal,
  })
  const server = Bun.serve({ hostname: '127.0.0.1', port: 0, fetch: (request) => app.fetch(request) })
  const origin = `http://127.0.0.1:${server.port}`
  return {
    url: `${origin}/v1/events`,
    description: async () => (await fetch(`${origin}/openapi.json`)).text(),
    stored: () => kafka.all(input),
    async processed() {
      const handler = defineHandler({
        type: 'odd.handled',
        version: '1',
        schema: Type.Unknown(),
        handle: () => ({ type: 'odd.result', data: RESULT }),
      })
      const { pipeline, ended } = startPipeline(kafka, [handler], {}, [{ topic: input, partition: 0 }])
      const results = () => kafka.all(`${input}.processed`)
      try {
        await until(() => results().length >= new Set(kafka.all(input).map(identityOf)).size, {
          timeoutMs: RESULTS_TIMEOUT_MS,
          what: 'a result of every event',
        })
        return results()
      } finally {
        await pipeline.stop()
        await ended
      }
    },
    stop: () => void server.stop(true),
  }
}
