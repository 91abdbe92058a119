import { afterEach, expect, test } from 'bun:test'
import { settled } from '../../shared/testing/settled.ts'
import { until } from '../../shared/testing/until.ts'
import { type Seen, type Watch, watchCommits } from './watch.ts'

const PAUSE_MS = 1
const READY_LIMIT_MS = 200

let watch: Watch | undefined
let seen: Seen[] | undefined
let looks = 0
const wrong: string[] = []
const consumer = { name: 'consumer-1', pid: () => 1, running: () => true, isReady: async () => true }

afterEach(async () => {
  await watch?.stop()
  wrong.length = 0
  seen = undefined
})

function start(consumers = [consumer]): Watch {
  watch = watchCommits({
    async look() {
      looks++
      return seen
    },
    consumers: () => consumers,
    wrong: (what) => void wrong.push(what),
    pauseMs: PAUSE_MS,
    readyLimitMs: READY_LIMIT_MS,
  })
  return watch
}

async function looksOver(ms: number): Promise<void> {
  const [end, target] = [performance.now() + ms, looks + 3]
  await until(() => performance.now() > end && looks > target)
}

test('a consumer that is ready without a commit is told of, once, with what it leaves undecided', async () => {
  seen = [
    { position: '7', undecided: 0 },
    { position: '5', undecided: 12 },
  ]
  start()
  await until(() => wrong.length > 0)
  await looksOver(2 * READY_LIMIT_MS)
  expect(wrong).toEqual([
    expect.stringContaining('consumer-1: ready for 0 s without a commit in partition 1; undecided events: 12'),
  ])
  seen = [
    { position: '7', undecided: 0 },
    { position: '6', undecided: 11 },
  ]
  await until(() => wrong.length > 1)
})

test('commits, nothing to commit, one that is not ready, and one that does not run are as they should be', async () => {
  const step = setInterval(() => {
    seen = [
      { position: String(looks), undecided: 3 },
      { position: '1', undecided: 0 },
    ]
  }, 1)
  start()
  await looksOver(2 * READY_LIMIT_MS)
  clearInterval(step)
  await watch?.stop()
  start([consumer, { ...consumer, pid: () => 2, isReady: async () => false }])
  await looksOver(2 * READY_LIMIT_MS)
  await watch?.stop()
  start([{ ...consumer, running: () => false }])
  await looksOver(2 * READY_LIMIT_MS)
  expect(wrong).toEqual([])
})

test('time in which the cluster cannot be seen counts when nothing was committed in it', async () => {
  seen = [{ position: '5', undecided: 12 }]
  start()
  await looksOver(1)
  seen = undefined
  await looksOver(2 * READY_LIMIT_MS)
  expect(wrong).toEqual([])
  seen = [{ position: '5', undecided: 12 }]
  await until(() => wrong.length === 1)
})

test('the next commit is that of the last partition that had something to commit', async () => {
  seen = [
    { position: '5', undecided: 2 },
    { position: '5', undecided: 2 },
    { position: '5', undecided: 0 },
  ]
  const next = start().nextCommit(10_000)
  await looksOver(5)
  seen = [{ position: '6', undecided: 1 }, seen[1] as Seen, seen[2] as Seen]
  await looksOver(5)
  expect(await Promise.race([next, 'none yet'])).toBe('none yet')
  seen = [seen[0] as Seen, { position: '6', undecided: 2 }, seen[2] as Seen]
  expect(await next).toEqual([])
})

test('partitions without a commit within the limit are named, and so is a cluster that cannot be asked', async () => {
  seen = [
    { position: '5', undecided: 0 },
    { position: '5', undecided: 2 },
  ]
  expect(await start().nextCommit(50)).toEqual([1])
  seen = undefined
  await looksOver(1)
  expect(await settled(watch?.nextCommit(50))).toThrow('could not be asked')
})
