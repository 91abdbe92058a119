import { afterEach, expect, test } from 'bun:test'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { until } from '../testing/until.ts'
import { endBoundChild, isRunning, spawnBoundChild } from './bound-child.ts'

const module = join(import.meta.dir, 'bound-child.ts')
const strays: number[] = []

afterEach(() => {
  for (const pid of strays.splice(0)) if (isAlive(pid)) process.kill(pid, 'SIGKILL')
})

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** A process that starts two bound children, prints their pids, and waits. */
async function startParent(directory: string) {
  const program = `
    import { spawnBoundChild } from ${JSON.stringify(module)}
    const options = { stdout: 'ignore', stderr: 'ignore', removeWhenOrphaned: ${JSON.stringify(directory)} }
    const children = [spawnBoundChild(['sleep', '600'], options), spawnBoundChild(['sleep', '600'], options)]
    console.log(children.map((child) => child.pid).join(' '))
    setInterval(() => children, 1000)`
  const parent = Bun.spawn([process.execPath, '-e', program], { stdin: 'ignore', stdout: 'pipe', stderr: 'inherit' })
  const reader = parent.stdout.getReader()
  const { value } = await reader.read()
  const pids = new TextDecoder().decode(value).trim().split(' ').map(Number)
  strays.push(...pids)
  return { parent, pids }
}

test('children die with a parent that is killed with SIGKILL, and what is useless without them is removed', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'kafkatrace-orphan-'))
  const { parent, pids } = await startParent(directory)
  expect(pids.filter(isAlive)).toHaveLength(2)

  parent.kill('SIGKILL')
  await parent.exited

  await until(() => !pids.some(isAlive) && !existsSync(directory))
})

test('children outlive a collection of garbage in the parent', async () => {
  const child = spawnBoundChild(['sleep', '600'], { stdout: 'ignore', stderr: 'ignore' })
  for (let round = 0; round < 5; round++) {
    Bun.gc(true)
    await Bun.sleep(0)
  }
  expect(isRunning(child)).toBe(true)
  expect(await endBoundChild(child, 5_000)).toBe('terminated')
  expect(isAlive(child.pid)).toBe(false)
})

test('a child that was killed on purpose keeps its directory', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'kafkatrace-killed-'))
  const child = spawnBoundChild(['sh', '-c', 'echo ready; exec sleep 600'], {
    stdout: 'pipe',
    stderr: 'ignore',
    removeWhenOrphaned: directory,
  })
  await child.stdout.getReader().read()
  child.kill('SIGKILL')
  await child.exited
  // The guard is of the child's session: once nobody is, it has done what it was going to do.
  await until(() => Bun.spawnSync(['pgrep', '-s', String(child.pid)]).exitCode === 1)
  expect(existsSync(directory)).toBe(true)
  rmSync(directory, { recursive: true })
})

test('a child that is killed before it has begun is no fault of the parent', async () => {
  for (let round = 0; round < 10; round++) {
    const child = spawnBoundChild(['sleep', '600'], { stdout: 'ignore', stderr: 'ignore' })
    child.kill('SIGKILL')
    await child.exited
  }
})

test('a child that ignores SIGTERM is killed when the grace is over', async () => {
  const child = spawnBoundChild(['sh', '-c', 'trap "" TERM; echo ready; while :; do sleep 0.05; done'], {
    stdout: 'pipe',
    stderr: 'ignore',
  })
  await child.stdout.getReader().read()
  expect(await endBoundChild(child, 100)).toBe('killed')
  expect(isAlive(child.pid)).toBe(false)
})

test('a child sees its environment, its arguments as they are, and no open pipe', async () => {
  const child = spawnBoundChild(['sh', '-c', 'echo "$GREETING|$1"; ls /proc/self/fd | wc -l', 'sh', 'a "b" $c'], {
    stdout: 'pipe',
    stderr: 'ignore',
    env: { PATH: process.env.PATH, GREETING: 'hello' },
  })
  const [greeting, descriptors] = (await child.stdout.text()).split('\n')
  expect(greeting).toBe('hello|a "b" $c')
  // 0, 1, 2 and the one that lists the folder.
  expect(Number(descriptors)).toBe(4)
})

test('a child that writes both outputs into one file writes neither over the other', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'kafkatrace-outputs-'))
  const log = Bun.file(join(directory, 'child.log'))
  const child = spawnBoundChild(['sh', '-c', 'echo first; echo second >&2; echo third'], { stdout: log, stderr: log })
  await child.exited
  expect(await log.text()).toBe('first\nsecond\nthird\n')
  rmSync(directory, { recursive: true })
})
