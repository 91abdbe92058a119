import { afterEach, expect, test } from 'bun:test'
import type { ConsumerStatusz } from '../statusz.ts'
import { Consumers } from './consumers.ts'

const STATUS: ConsumerStatusz = {
  clientId: 'kafkatrace-consumer-1',
  ready: true,
  faults: [],
  partitions: [{ topic: 'kt.a.s', partition: 0, state: 'reading' }],
}

const ending = new AbortController()
const open: { stop(closeActive: boolean): Promise<void> }[] = []
afterEach(async () => {
  for (const server of open.splice(0)) await server.stop(true)
})

function consumersOn(answer: () => Response | Promise<Response>) {
  let requests = 0
  const server = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    fetch: (request) => {
      requests++
      expect(new URL(request.url).pathname).toBe('/statusz')
      return answer()
    },
  })
  open.push(server)
  return { consumers: new Consumers(server.port ?? 0, 'off', ending.signal), requests: () => requests }
}

test('a consumer is asked once for all streams at a time, and known by its client id', async () => {
  const { consumers, requests } = consumersOn(() => Response.json(STATUS))
  const [one, other] = await Promise.all([
    consumers.statuses(['127.0.0.1', '127.0.0.1']),
    consumers.statuses(['127.0.0.1']),
  ])
  expect([...one]).toEqual([['kafkatrace-consumer-1', STATUS]])
  expect([other, requests()]).toEqual([one, 1])
})

test.each([
  ['is not ready to answer', () => new Response('no', { status: 503 })],
  ['is another service', () => Response.json({ clientId: 'x' })],
  ['answers no JSON', () => new Response('<html>')],
  ['sends elsewhere', () => Response.redirect('http://127.0.0.1:1/')],
  ['says too much', () => new Response(`${JSON.stringify(STATUS)}${' '.repeat(5 * 2 ** 20)}`)],
  ['answers too late', () => new Promise<Response>(() => undefined)],
])('a member of the group that %s is not known', async (_, answer) => {
  expect((await consumersOn(answer).consumers.statuses(['127.0.0.1'])).size).toBe(0)
})

test('a host that is not there, and one of IPv6, are asked as they are', async () => {
  const urls: string[] = []
  const consumers = new Consumers(9081, 'off', ending.signal, async (url) => {
    urls.push(url)
    throw new Error('refused')
  })
  expect((await consumers.statuses(['10.0.0.7', 'fd00::7'])).size).toBe(0)
  expect(urls).toEqual(['http://10.0.0.7:9081/statusz', 'http://[fd00::7]:9081/statusz'])
})

test('where operations ports speak TLS, it is asked in TLS', async () => {
  const urls: string[] = []
  const consumers = new Consumers(9081, 'on', ending.signal, async (url) => {
    urls.push(url)
    throw new Error('refused')
  })
  await consumers.statuses(['10.0.0.7'])
  expect(urls).toEqual(['https://10.0.0.7:9081/statusz'])
})
