import { expect, test } from 'bun:test'
import { settled } from '../shared/testing/settled.ts'
import { until } from '../shared/testing/until.ts'
import { askAt, watchPeers } from './peers.ts'

/** A producer among others at these addresses. */
function among(...addresses: string[]) {
  const logged: string[] = []
  const now = { cutOff: false, well: new Set<string>(), asked: 0, silent: false }
  let looks = 0
  const peers = watchPeers({
    isCutOff: () => {
      looks++
      return now.cutOff
    },
    addresses: () => addresses,
    log: { info: (text: string) => void logged.push(text), warn: (text: string) => void logged.push(text) },
    async ask(address) {
      now.asked++
      if (now.silent) throw new Error('no answer')
      return now.well.has(address)
    },
    intervalMs: 0,
  })
  const looked = async () => {
    const from = looks
    await until(() => looks > from + 3, { timeoutMs: 1_000, what: 'a look' })
  }
  return { peers, now, logged, looked }
}

test('nobody is asked while events can be stored', async () => {
  const { peers, now, looked } = among('a', 'b')
  now.well.add('a')
  await looked()
  expect([peers.canStore(), now.asked]).toEqual([false, 0])
  peers.stop()
})

test('without events to store, one of the others that can is enough; each change is logged', async () => {
  const { peers, now, logged, looked } = among('a', 'b', 'c')
  now.well.add('b')
  now.cutOff = true
  await looked()
  expect(peers.canStore()).toBe(true)
  now.well.clear()
  await looked()
  expect(peers.canStore()).toBe(false)
  now.well.add('c')
  await looked()
  now.cutOff = false
  expect(peers.canStore()).toBe(false)
  await looked()
  expect(logged.map((text) => /not ready|ready|again/.exec(text)?.[0])).toEqual([
    'not ready',
    'ready',
    'not ready',
    'again',
  ])
  peers.stop()
})

test.each([
  ['that do not answer', ['a', 'b']],
  ['that are not there', []],
])('others %s keep nobody away', async (_, addresses) => {
  const { peers, now, looked } = among(...addresses)
  now.well.add('a')
  now.silent = true
  now.cutOff = true
  await looked()
  expect(peers.canStore()).toBe(false)
  peers.stop()
})

test('of many others, twenty are asked at a time', async () => {
  const { peers, now } = among(...Array.from({ length: 50 }, (_, index) => String(index)))
  now.cutOff = true
  await until(() => now.asked > 0, { timeoutMs: 1_000, what: 'the first look' })
  expect(now.asked).toBe(20)
  peers.stop()
})

test('another can store events if it says that all is well, not if it is only ready', async () => {
  let answer = {}
  const server = Bun.serve({ hostname: '127.0.0.1', port: 0, fetch: () => Response.json(answer) })
  const ask = askAt(server.port ?? 0, false)
  answer = { ok: true, checks: [] }
  expect(await ask('127.0.0.1')).toBe(true)
  answer = { ok: false, degraded: true, checks: [] }
  expect(await ask('127.0.0.1')).toBe(false)
  await server.stop(true)
  expect(await settled(ask('127.0.0.1'))).toThrow()
})
