import { describe, expect, test } from 'bun:test'
import { once } from 'node:events'
import { connect } from 'node:net'
import { Type } from '@sinclair/typebox'
import pino from 'pino'
import { authoriseNobody } from '../../shared/http/authorise.ts'
import { docsPage } from '../../shared/http/docs-page.ts'
import { listen } from '../../shared/http/listener.ts'
import { UNCHANGING } from '../../shared/testing/access.ts'
import { createApp } from './app.ts'
import { createMetrics } from './metrics.ts'
import type { Route } from './route.ts'

const OUTCOMES = '/v1/streams/events/outcomes'

function console({ isAuthOn = false, kafkaFault = undefined as string | undefined } = {}) {
  let followers = 0
  const logged: string[] = []
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
  const act: Route = {
    ...route,
    method: 'post',
    name: 'act',
    run: async () => {
      throw new Error('s3cret')
    },
  }
  const pause: Route = { ...act, path: '/v1/streams/{stream}/pause', name: 'pauseStream' }
  const app = createApp({
    routes: [route, act, pause],
    access: { ...UNCHANGING, authorise: (_, wanted) => authoriseNobody()(new Request('http://localhost/'), wanted) },
    isAuthOn,
    login: undefined,
    page: { answer: async () => undefined },
    metrics: createMetrics([route.name]),
    log: pino({ level: 'warn' }, { write: (line) => void logged.push(line) }),
    isDraining: () => false,
    kafkaFault: () => kafkaFault,
  })
  const ask = async (host: string, method = 'GET', path = OUTCOMES) =>
    app.fetch(new Request(`http://localhost${path}`, { method, headers: { host } }))
  return { app, ask, followers: () => followers, logged }
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
    const plain = ['evil.example', 'evil.example:8081', 'evil.contest', '1.2.3.4x']
    const below = ['localhost', 'a.localhost', 'x.internal', '127.0.0.1'].map((name) => `${name}.evil.example`)
    for (const host of [...plain, ...below, '127.0.0.1.evil.example.', 'my.test.example'])
      expect((await ask(host)).status, host).toBe(403)
    expect(followers()).toBe(0)
  })

  test('is refused by its origin, too', async () => {
    const { app, followers } = console()
    const headers = { host: '127.0.0.1:8081', origin: 'https://evil.example' }
    for (const path of [OUTCOMES, '/docs'])
      expect((await app.request(`http://127.0.0.1:8081${path}`, { headers })).status).toBe(403)
    expect(followers()).toBe(0)
  })

  test('is told from this machine’s own names', async () => {
    const addresses = ['127.0.0.1:8081', '[::1]:8081', '[::ffff:127.0.0.1]']
    const names = [
      'localhost:8081',
      'localhost.',
      'console',
      'kt.localhost',
      'KT.LOCALHOST',
      'kt.internal:80',
      'kt.test',
    ]
    for (const host of [...addresses, ...names, 'host.docker.internal'])
      expect((await console().ask(host)).status, host).toBe(200)
  })

  test('has no key, so that AUTH=on asks for no names', async () => {
    expect((await console({ isAuthOn: true }).ask('console.example.com')).status).toBe(200)
  })
})

test.each(['/x\\..\\docs', '/x/../docs', '/x/%2E%2e/docs', '/docs/..\\v1\\streams\\events\\outcomes'])(
  'a path that is not as it was sent is refused: %s',
  async (path) => {
    const { app } = console({ isAuthOn: true })
    const listener = listen({ hostname: '127.0.0.1', port: 0, fetch: (request) => app.fetch(request) })
    const socket = connect(listener.port, '127.0.0.1', () => socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`))
    expect(`${(await once(socket, 'data'))[0]}`).toStartWith('HTTP/1.1 400 ')
    socket.destroy()
    await listener.stop(true)
  },
)

test('what failed unexpectedly is told to the log, and not to the client', async () => {
  const { ask, logged } = console()
  const answer = await ask('localhost', 'POST')
  expect(answer.status).toBe(500)
  const body = await answer.text()
  expect(JSON.parse(body)).toMatchObject({ type: 'urn:kafkatrace:problem:internal', status: 500 })
  expect(body).not.toContain('s3cret')
  expect(logged.join()).toContain('s3cret')
})

test('pages of other origins are told nothing, so that browsers let them read nothing', async () => {
  const { app } = console()
  for (const [method, path] of [
    ['GET', OUTCOMES],
    ['POST', '/v1/streams/events/pause'],
    ['OPTIONS', OUTCOMES],
    ['GET', '/'],
  ] as const) {
    const headers = { host: 'localhost', origin: 'https://evil.example', 'access-control-request-method': 'GET' }
    const answer = await app.fetch(new Request(`http://localhost${path}`, { method, headers }))
    expect([...answer.headers.keys()].filter((name) => name.startsWith('access-control-'))).toEqual([])
  }
})

test('while Kafka cannot be read, requests are refused at once with the reason', async () => {
  const { ask, followers, logged } = console({ kafkaFault: 'Kafka cannot be read: no broker' })
  for (const method of ['GET', 'POST']) {
    const answer = await ask('localhost', method)
    expect([answer.status, answer.headers.get('retry-after')]).toEqual([503, '5'])
    expect(await answer.json()).toMatchObject({ detail: 'Kafka cannot be read: no broker.' })
  }
  expect([followers(), logged.join().includes('s3cret')]).toEqual([0, false])
})

test.each([
  ['DELETE', OUTCOMES, 405, 'GET, POST'],
  ['PUT', OUTCOMES, 405, 'GET, POST'],
  ['GET', '/v1/streams/events/pause', 405, 'POST'],
  ['POST', '/docs', 405, 'GET'],
  ['GET', '/v1/streams/events', 404, null],
])('%s %s is answered %d, allowing %p', async (method, path, status, allow) => {
  const answer = await console().ask('localhost', method, path)
  expect([answer.status, answer.headers.get('allow')]).toEqual([status, allow])
})

test('the API page has the headers that protect it', async () => {
  const answer = await console().ask('localhost', 'GET', '/docs')
  expect(Object.fromEntries(answer.headers)).toEqual(docsPage().headers)
})
