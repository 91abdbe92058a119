import { afterEach, expect, setDefaultTimeout, test } from 'bun:test'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { eachLine } from '../testing/service-process.ts'
import { until } from '../testing/until.ts'

setDefaultTimeout(60_000)

const ending: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end()
})

test.skipIf(process.platform !== 'linux')(
  'while clients hold all descriptors, files are read and another port answers; then the port accepts again',
  async () => {
    const script = join(import.meta.dir, '../testing/scarce-listener.ts')
    const child = Bun.spawn(['sh', '-c', 'ulimit -n 800 && exec "$0" "$1"', process.execPath, script], {
      stdout: 'pipe',
    })
    ending.push(async () => {
      child.kill()
      await child.exited
    })
    const said: Record<string, unknown>[] = []
    void eachLine(child.stdout, (line) => void said.push(JSON.parse(line)))
    await until(() => said.length === 1)
    const [{ port, opsPort } = {}] = said
    const ask = (at: unknown) =>
      fetch(`http://127.0.0.1:${at}`, { signal: AbortSignal.timeout(1_000), keepalive: false }).then(
        ({ status }) => status,
        () => undefined,
      )
    expect([await ask(port), await ask(opsPort)]).toEqual([200, 200])

    const held = new Set<Socket>()
    let isFlooding = true
    // Whoever is refused comes again.
    const hold = (): void => {
      if (!isFlooding) return
      const socket = connect({ host: '127.0.0.1', port: port as number })
      held.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => {
        held.delete(socket)
        setImmediate(hold)
      })
    }
    for (let number = 0; number < 1_000; number++) hold()
    ending.push(() => {
      isFlooding = false
      for (const socket of held) socket.destroy()
    })
    await until(() => said.at(-1)?.['isScarce'] === true, { timeoutMs: 10_000 })
    for (let asked = 0; asked < 20; asked++) expect(await ask(opsPort)).toBe(200)

    isFlooding = false
    for (const socket of held) socket.destroy()
    await until(() => said.at(-1)?.['isScarce'] === false, { timeoutMs: 10_000 })
    expect(await ask(port)).toBe(200)
  },
)
