import { expect, test } from 'bun:test'
import { findFreePorts, isPortFree } from './ports.ts'

test('free ports are different, and lie below those of outgoing connections', async () => {
  const ports = await findFreePorts(20)
  expect(new Set(ports).size).toBe(20)
  expect(Math.max(...ports)).toBeLessThan(32_768)
})

test('a port that something listens on is not free, and is again afterwards', async () => {
  const [port = 0] = await findFreePorts(1)
  const server = Bun.listen({ hostname: '127.0.0.1', port, socket: { data() {} } })
  expect(await isPortFree(port)).toBe(false)
  server.stop(true)
  expect(await isPortFree(port)).toBe(true)
})
