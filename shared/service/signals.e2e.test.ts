import { afterAll, expect, test } from 'bun:test'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { endOf, spawnBoundChild } from '../dev/bound-child.ts'

const directory = mkdtempSync(join(tmpdir(), 'kafkatrace-signals-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

/** A runtime that says when it loads a service, and never ends loading. */
const slowLoader = join(directory, 'slow-loader.ts')
await Bun.write(
  slowLoader,
  `Bun.plugin({
    name: 'slow loader',
    setup: (build) => build.onLoad({ filter: /\\/run\\.ts$/ }, () => {
      console.log('loading')
      setInterval(() => {}, 1_000)
      return new Promise(() => {})
    }),
  })`,
)

test.each(['producer', 'consumer'])('a %s that is stopped while it is loaded exits with 0', async (service) => {
  const main = join(import.meta.dir, '../..', service, 'main.ts')
  const child = spawnBoundChild([process.execPath, '--preload', slowLoader, main], {
    env: { PATH: process.env['PATH'] },
    stdout: 'pipe',
    stderr: 'inherit',
  })
  const { value } = await child.stdout.getReader().read()
  expect(new TextDecoder().decode(value)).toBe('loading\n')
  child.kill('SIGTERM')
  await child.exited
  expect(endOf(child)).toBe(0)
})
