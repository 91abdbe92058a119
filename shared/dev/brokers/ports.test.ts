import { expect, test } from 'bun:test'
import { join } from 'node:path'
import { findFreePorts, holdPort, isPortFree, releasePorts } from './ports.ts'

test('free ports are different, and lie below those of outgoing connections', async () => {
  const ports = await findFreePorts(20)
  expect(new Set(ports).size).toBe(20)
  expect(Math.max(...ports)).toBeLessThan(32_768)
  releasePorts(ports)
})

test('a port that something listens on is not free, and is again afterwards', async () => {
  const [port = 0] = await findFreePorts(1)
  const server = Bun.listen({ hostname: '127.0.0.1', port, socket: { data() {} } })
  expect(await isPortFree(port)).toBe(false)
  server.stop(true)
  expect(await isPortFree(port)).toBe(true)
  releasePorts([port])
})

test('a port that was found is nobody else’s, in this process or another, until it is given back or its holder ends', async () => {
  const module = join(import.meta.dir, 'ports.ts')
  const child = Bun.spawn(
    [
      process.execPath,
      '-e',
      `const { findFreePorts } = await import(${JSON.stringify(module)}); console.log((await findFreePorts(1))[0]); await Bun.stdin.text()`,
    ],
    { stdin: 'pipe', stdout: 'pipe' },
  )
  const port = Number(new TextDecoder().decode((await child.stdout.getReader().read()).value))
  expect(await isPortFree(port)).toBe(true)
  expect(await holdPort(port)).toBe(false)
  child.kill('SIGKILL')
  await child.exited
  expect(await holdPort(port)).toBe(true)
  expect(await holdPort(port)).toBe(false)
  releasePorts([port])
  expect(await holdPort(port)).toBe(true)
  releasePorts([port])
})
