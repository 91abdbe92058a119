import { expect, test } from 'bun:test'
import { join } from 'node:path'
import { rejection, settled } from './settled.ts'

const ROOT = join(import.meta.dir, '..', '..')

test('a value is returned, a reason is thrown', async () => {
  const reason = new Error('no leader')
  expect((await settled(Promise.resolve(1)))()).toBe(1)
  expect(await settled(Promise.reject(reason))).toThrow(reason)
  expect(await rejection(Promise.reject(reason))).toBe(reason)
  expect(await settled(rejection(Promise.resolve(1)))).toThrow('not rejected, but 1')
})

test('no test lets the matcher wait for a promise', async () => {
  const waiting: string[] = []
  for await (const file of new Bun.Glob('{producer,consumer,shared,bench,helm}/**/*.test.ts').scan(ROOT))
    if (/\)\s*\.(?:rejects|resolves)\s*\./.test(await Bun.file(join(ROOT, file)).text())) waiting.push(file)
  expect(waiting).toEqual([])
})
