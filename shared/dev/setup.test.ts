import { expect, test } from 'bun:test'
import { installStamp, wrongBun } from './setup.ts'

test('the pinned Bun is accepted, any other is told what to type', () => {
  expect(wrongBun('1.4.5', '1.4.5', 'test')).toBeUndefined()
  expect(wrongBun('1.4.5', '1.4.6', 'test')).toContain('npx -y bun@1.4.5 run test')
})

test('dependencies are installed again when package.json or bun.lock changes, and only then', () => {
  const stamp = installStamp('a', 'b')
  expect(installStamp('a', 'b')).toBe(stamp)
  expect(installStamp('a', 'c')).not.toBe(stamp)
  expect(installStamp('c', 'b')).not.toBe(stamp)
  expect(installStamp('ab', '')).not.toBe(installStamp('a', 'b'))
})
