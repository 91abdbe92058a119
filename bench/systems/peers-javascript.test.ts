import { expect, test } from 'bun:test'
import { join } from 'node:path'

const PEERS = join(import.meta.dir, '../peers')
const locks = [...new Bun.Glob('*/{package-lock.json,bun.lock}').scanSync(PEERS)].sort()

test('lock files pin packages by their hashes, and leave open which registry they come from', async () => {
  expect(locks).toEqual([
    'fastify-confluent/package-lock.json',
    'fastify-kafkajs/package-lock.json',
    'hono-platformatic/bun.lock',
  ])
  for (const lock of locks) {
    const text = await Bun.file(join(PEERS, lock)).text()
    expect(text).toContain('sha512-')
    expect(text).not.toContain('"resolved"')
    expect(text).not.toMatch(/https?:\/\/[^"]+\.tgz/)
  }
})
