import { expect, test } from 'bun:test'
import { hostname } from 'node:os'
import { settled } from '../testing/settled.ts'
import { takeLock } from './lock.ts'
import { folderRepository } from './repository.ts'
import { newFolder } from './testing/backups.ts'

const LOCK = 'running.json'
const lockOf = (host: string, pid: number, renewed = 0): string =>
  JSON.stringify({ host, process: pid, since: '2026-12-01T00:00:00Z', renewed })

const none = (): never => {
  throw new Error('nobody has to wait')
}

test('a lock is there until it is released', async () => {
  const repository = folderRepository(newFolder())
  const lock = await takeLock(repository, none)
  await lock.check()
  expect(await repository.readText(LOCK)).toContain(hostname())
  await lock.release()
  expect(await repository.readText(LOCK)).toBeUndefined()
})

test('a process that is alive keeps its lock as long as it renews it', async () => {
  const repository = folderRepository(newFolder())
  await repository.createNew(LOCK, lockOf('another-host', 7))
  const waiting: string[] = []
  const taking = settled(takeLock(repository, (holder) => waiting.push(holder), 1_000))
  await repository.replace(LOCK, lockOf('another-host', 7, 1))
  expect(await taking).toThrow('another backup is running: process 7 on another-host, since 2026-12-01T00:00:00Z')
  expect(waiting).toEqual(['process 7 on another-host, since 2026-12-01T00:00:00Z'])
})

test.each([
  ['of a process that was killed on this machine', lockOf(hostname(), 2 ** 22 + 1), 30_000],
  ['of the same number, as in a container that was started again', lockOf(hostname(), process.pid), 30_000],
  ['that nobody renews', lockOf('another-host', 1), 20],
  ['that is cut off', '{"host":', 20],
])('a lock %s is taken over', async (_, content, watchMs) => {
  const repository = folderRepository(newFolder())
  await repository.createNew(LOCK, content)
  const lock = await takeLock(repository, () => undefined, watchMs)
  await lock.check()
  await lock.release()
})

test('a run that has lost its lock says so, and leaves that of the other', async () => {
  const repository = folderRepository(newFolder())
  const lock = await takeLock(repository, none)
  await repository.replace(LOCK, lockOf('another-host', 7))
  expect(await settled(lock.check())).toThrow('another backup has begun meanwhile')
  await lock.release()
  expect(await repository.readText(LOCK)).toContain('another-host')
})
