import { afterEach, describe, expect, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { kcatCommand } from '../testing/kcat.ts'
import { until } from '../testing/until.ts'

const upTimeoutMs = 60_000
const dev = join(import.meta.dir, 'dev.ts')
let running: Bun.Subprocess | undefined

afterEach(async () => {
  running?.kill('SIGKILL')
  await running?.exited
})

function start(...args: string[]) {
  const child = Bun.spawn([process.execPath, dev, ...args], { stdin: 'ignore', stdout: 'pipe', stderr: 'pipe' })
  running = child
  const output = { text: '' }
  const take = async (stream: ReadableStream<Uint8Array>) => {
    const decoder = new TextDecoder()
    for await (const chunk of stream) output.text += decoder.decode(chunk, { stream: true })
  }
  void take(child.stdout)
  void take(child.stderr)
  const shows = (pattern: RegExp) =>
    until(
      () => {
        if (child.exitCode !== null) throw new Error(`dev ended with ${child.exitCode}:\n${output.text}`)
        return pattern.test(output.text)
      },
      { timeoutMs: upTimeoutMs, what: `${pattern} in what dev prints` },
    )
  return { child, output, shows }
}

/** Loopback ports that the screen names: the broker's and the services'. */
const portsIn = (screen: string): number[] => [
  ...new Set([...screen.matchAll(/127\.0\.0\.1:(\d+)/g)].map((match) => Number(match[1]))),
]

/** Those of the ports that something still listens on. */
async function listening(ports: readonly number[]): Promise<number[]> {
  const answers = await Promise.all(
    ports.map((port) =>
      Bun.connect({ hostname: '127.0.0.1', port, socket: { data() {} } }).then(
        (socket) => {
          socket.end()
          return true
        },
        () => false,
      ),
    ),
  )
  return ports.filter((_, index) => answers[index])
}

describe('bun run dev', () => {
  test('processes every webhook payload, takes the event of its curl, and Ctrl-C ends it with 0 and nothing left', async () => {
    const { child, output, shows } = start('--broker', 'embedded')
    await shows(/Ctrl-C drains and stops/)

    const [, sent, stored, processed, dead] =
      /(\d+) sent, (\d+) stored \(202\), (\d+) processed, (\d+) dead/.exec(output.text)?.map(Number) ?? []
    expect(sent).toBeGreaterThan(250)
    expect(stored).toBe(sent as number)
    expect((processed ?? 0) + (dead ?? 0)).toBe(sent as number)

    // What a person would paste, run as they would.
    const curl = /curl -i .*/.exec(output.text)?.[0] ?? ''
    const pasted = Bun.spawnSync(['sh', '-c', curl]).stdout.toString()
    expect(pasted).toStartWith('HTTP/1.1 202')
    expect(pasted).toContain('"offset":')
    // The payloads go on coming, and some are spoiled.
    const counted = (what: string): number =>
      Math.max(0, ...[...output.text.matchAll(new RegExp(`${what} (\\d+) ·`, 'g'))].map(([, text]) => Number(text)))
    await until(() => counted('processed') > (processed ?? 0) + 1 && counted('dead') > (dead ?? 0), {
      timeoutMs: 60_000,
      what: 'more outcomes, and more dead letters',
    })
    const [, id = ''] = /"id":"([^"]+)"/.exec(pasted) ?? []
    const lookUp = /curl -s \S+\/events\/ID/.exec(output.text)?.[0].replace('ID', id) ?? ''
    expect(JSON.parse(Bun.spawnSync(['sh', '-c', lookUp]).stdout.toString())).toMatchObject({
      events: [{ id, type: 'greeting', state: 'processed' }],
    })

    const ports = portsIn(output.text)
    expect(ports.length).toBeGreaterThanOrEqual(4)
    expect(await listening(ports)).toEqual(ports)
    child.kill('SIGINT')
    expect(await child.exited).toBe(0)
    expect(await listening(ports)).toEqual([])
  })

  test('a service that dies is reported, and ends it with a failure', async () => {
    const { child, output, shows } = start('--broker', 'embedded', '--no-payloads')
    await shows(/Ctrl-C drains and stops/)
    expect(output.text).not.toContain('webhook payloads')
    const consumer = Bun.spawnSync(['pgrep', '-P', String(child.pid), '-f', 'consumer/main.ts']).stdout.toString()
    process.kill(Number(consumer.trim()), 'SIGKILL')
    expect(await child.exited).toBe(1)
    expect(output.text).toMatch(/the consumer ended by itself \(exit code SIGKILL\)/)
    expect(await listening(portsIn(output.text))).toEqual([])
  })

  test('a file of handlers that cannot be used ends it, and it says what is wrong and where, nothing of processes', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-bad-handlers-'))
    const file = join(folder, 'handlers.ts')
    writeFileSync(file, "export const handlers = [\n  { type: 'a' }\n")
    try {
      const { child, output } = start('--broker', 'embedded', '--no-payloads', '--handlers', file)
      expect(await child.exited).toBe(1)
      await until(() => output.text.includes('stopping the producer … done'))
      expect(output.text).toMatch(
        /the consumer cannot start:\nHANDLERS_MODULE=\S+ cannot be used: .*handlers\.ts:\d+:\d+/,
      )
      expect(output.text).not.toMatch(/exit code|terminated|killed/)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  test('a broker that dies is reported, and ends it with a failure', async () => {
    const { child, output, shows } = start('--broker', 'embedded', '--no-payloads')
    await shows(/Ctrl-C drains and stops/)
    const cluster = Bun.spawnSync(['pgrep', '-P', String(child.pid), '-f', 'embedded-cluster.ts']).stdout.toString()
    process.kill(Number(cluster.trim()), 'SIGKILL')
    expect(await child.exited).toBe(1)
    expect(output.text).toContain('the broker does not answer any more: no broker at 127.0.0.1')
    expect(await listening(portsIn(output.text))).toEqual([])
  })

  test('services and broker die with it when it is killed with SIGKILL', async () => {
    const { child, output, shows } = start('--broker', 'embedded', '--no-payloads')
    await shows(/Ctrl-C drains and stops/)
    child.kill('SIGKILL')
    await child.exited
    await until(async () => (await listening(portsIn(output.text))).length === 0)
  })

  test('keeps topics and offsets in --data for its next run, and sends the payloads in the first one only', async () => {
    const data = await mkdtemp(join(tmpdir(), 'kafkatrace-dev-data-test-'))
    try {
      const first = start('--broker', 'kafka', '--data', data, '--quiet')
      await first.shows(/324 sent, 324 stored \(202\)/)
      await first.shows(/processed 324 .* lag 0/)
      first.child.kill('SIGINT')
      expect(await first.child.exited).toBe(0)
      expect(await readdir(data)).toEqual(['node-1'])

      const { child, output, shows } = start('--broker', 'kafka', '--data', data, '--quiet')
      await shows(/Ctrl-C drains and stops/)
      await shows(/stored 0 · processed 0 · .* lag 0/)
      expect(output.text).not.toContain('webhook payloads')
      const servers = /broker {2,}(\S+)/.exec(output.text)?.[1] ?? ''
      const read = Bun.spawnSync([
        kcatCommand(),
        '-b',
        servers,
        '-C',
        '-t',
        'kt.default.events.processed',
        '-e',
        '-q',
        '-f',
        '.',
      ])
      expect(read.stdout.toString()).toHaveLength(324)
      child.kill('SIGINT')
      expect(await child.exited).toBe(0)
    } finally {
      await rm(data, { recursive: true, force: true })
    }
  })

  test.each([
    [['--broker', 'embedded', '--data', 'anywhere'], 64, '--data needs --broker kafka'],
    [['--broker', 'kafka', '--data', import.meta.dir], 1, 'is not a directory of this Kafka'],
  ])('%p is refused', async (args, exitCode, why) => {
    const { child, output } = start(...args)
    expect(await child.exited).toBe(exitCode)
    await until(() => output.text.includes(why))
  })

  test('says what it takes when it does not understand', async () => {
    const { child, output } = start('--broker', 'kafak')
    expect(await child.exited).toBe(64)
    await until(() => output.text.includes('--broker takes embedded|redpanda|kafka|HOST:PORT'))
  })
})
