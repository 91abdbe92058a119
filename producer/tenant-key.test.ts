import { expect, test } from 'bun:test'
import { join } from 'node:path'

const run = (...args: string[]) => {
  const { stdout, stderr, exitCode } = Bun.spawnSync([
    process.execPath,
    join(import.meta.dir, 'tenant-key.ts'),
    ...args,
  ])
  return { key: stdout.toString().trim(), entry: stderr.toString().trim().split('\n').at(-1) ?? '', exitCode }
}

test('a key’s entry has its hash, and roles only where they are given', () => {
  const { key, entry, exitCode } = run('shop-1')
  expect(exitCode).toBe(0)
  const sha256 = new Bun.CryptoHasher('sha256').update(key).digest('hex')
  expect(JSON.parse(entry)).toEqual({ id: 'shop-1', sha256 })
  expect(JSON.parse(run('shop-1', '--roles', 'read,operate').entry)).toMatchObject({ roles: ['read', 'operate'] })
})

test.each([['read,admin'], ['read,read'], ['']])('roles that there are not, or twice, are refused: %p', (roles) => {
  expect(run('shop-1', '--roles', roles)).toMatchObject({ key: '', exitCode: 64 })
})
