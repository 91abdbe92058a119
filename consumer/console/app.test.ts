import { describe, expect, test } from 'bun:test'
import { Type } from '@sinclair/typebox'
import { authoriseNobody } from '../../shared/http/authorise.ts'
import { createLogger } from '../../shared/service/logger.ts'
import { createApp } from './app.ts'
import { createMetrics } from './metrics.ts'
import type { Route } from './route.ts'

function console({ isAuthOn = false } = {}) {
  let followers = 0
  const route: Route = {
    method: 'get',
    path: '/v1/streams/{stream}/outcomes',
    name: 'followOutcomes',
    role: 'read',
    summary: 'outcomes',
    query: Type.Object({}),
    answers: {},
    run: async () => {
      followers++
      const stream = new ReadableStream<Uint8Array>(
        {
          pull: () => new Promise(() => undefined),
          cancel: () => {
            followers--
          },
        },
        { highWaterMark: 0 },
      )
      return { status: 200, stream, contentType: 'text/event-stream' }
    },
  }
  const app = createApp({
    routes: [route],
    authorise: authoriseNobody([]).authorise,
    isAuthOn,
    metrics: createMetrics([route.name]),
    log: createLogger('console', { LOG_LEVEL: 'silent', LOG_FORMAT: 'json' }),
    isDraining: () => false,
    kafkaFault: () => undefined,
  })
  const ask = (host: string, method = 'GET') =>
    app.fetch(new Request('http://localhost/v1/streams/events/outcomes', { method, headers: { host } }))
  return { ask, followers: () => followers }
}

test('a HEAD request leaves no follower behind', async () => {
  const { ask, followers } = console()
  const answer = await ask('localhost', 'HEAD')
  expect(answer.status).toBe(200)
  expect(answer.headers.get('content-type')).toBe('text/event-stream')
  expect(followers()).toBe(0)
})

describe('a website whose name was pointed at this machine', () => {
  test('reaches nothing with AUTH=off', async () => {
    const { ask, followers } = console()
    for (const host of ['evil.example', 'evil.example:8081', 'localhost.evil.example', '127.0.0.1.evil.example.'])
      expect((await ask(host)).status).toBe(403)
    expect(followers()).toBe(0)
  })

  test('is told from this machine’s own names', async () => {
    const hosts = ['localhost:8081', '127.0.0.1:8081', '[::1]:8081', '[::ffff:127.0.0.1]', 'console', 'kt.localhost']
    for (const host of [...hosts, 'host.docker.internal']) expect((await console().ask(host)).status).toBe(200)
  })

  test('has no key, so that AUTH=on asks for no names', async () => {
    expect((await console({ isAuthOn: true }).ask('console.example.com')).status).toBe(200)
  })
})
