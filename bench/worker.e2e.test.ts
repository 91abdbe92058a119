import { expect, test } from 'bun:test'
import { settled } from '../shared/testing/settled.ts'
import { epochMs, startWorker } from './worker.ts'

/** Many times what any of these takes: one that hangs must not use up the time of the others. */
const TIMEOUT_MS = 30_000

const worker = <Line>(script: string) => startWorker<Line>('the worker', ['/bin/sh', '-c', script])

test(
  'a worker is heard line by line, and ends when it is told to',
  async () => {
    const one = worker<{ n: number }>(`echo '{"n":1}'; echo '{"n":2}'; exec sleep 60`)
    expect(await one.next()).toEqual({ n: 1 })
    expect(await one.next()).toEqual({ n: 2 })
    await one.end()
    expect(await settled(one.next())).toThrow('the worker ended with SIGTERM')
  },
  TIMEOUT_MS,
)

test(
  'a worker that ends instead is an error with what it said',
  async () => {
    const one = worker('echo "no such plan" >&2; exit 3')
    expect(await settled(one.next())).toThrow('the worker ended with code 3: no such plan')
  },
  TIMEOUT_MS,
)

test(
  'the clock is the same in two processes',
  async () => {
    const one = startWorker<{ atMs: number }>('the worker', [
      process.execPath,
      '-e',
      'console.log(JSON.stringify({ atMs: performance.timeOrigin + performance.now() }))',
    ])
    const before = epochMs()
    const { atMs } = await one.next()
    expect(atMs).toBeGreaterThan(before - 5)
    expect(atMs).toBeLessThan(epochMs() + 5)
  },
  TIMEOUT_MS,
)
