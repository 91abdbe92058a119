import { expect, test } from 'bun:test'
import { turn } from '../shared/service/retry.ts'
import { Turns } from './turns.ts'

/** Blocks the thread. */
function work(ms: number): void {
  const end = performance.now() + ms
  while (performance.now() < end);
}

test('whatever many have to do, the event loop goes on in between', async () => {
  const turns = new Turns(() => true)
  let pieces = 0
  const worker = async (tenant: string) => {
    for (let piece = 0; piece < 10; piece++) {
      const waiting = turns.next(tenant)
      if (waiting !== undefined) await waiting
      work(2)
      pieces++
    }
  }
  const all = Promise.all(Array.from({ length: 20 }, (_, i) => worker(`${i % 3}`)))
  const inTurns: number[] = []
  let before = 0
  while (pieces < 200) {
    await turn()
    inTurns.push(pieces - before)
    before = pieces
  }
  await all
  // Without turns, all twenty would work in each.
  expect(Math.max(...inTurns)).toBeLessThan(8)
})

test('tenants take turns, however many of one wait', async () => {
  const turns = new Turns(() => true)
  const order: string[] = []
  const worker = async (tenant: string) => {
    const waiting = turns.next(tenant)
    if (waiting !== undefined) await waiting
    order.push(tenant)
    work(6)
  }
  await Promise.all([...'aaaaaaaabc'].map(worker))
  expect(order.join('')).toBe('aabcaaaaaa')
})

test('what takes little never waits', async () => {
  const turns = new Turns(() => true)
  for (let i = 0; i < 20; i++) {
    expect(turns.next('a')).toBeUndefined()
    await turn()
  }
})
