import { expect, test } from 'bun:test'
import { connect, type Socket } from 'node:net'
import { startKafka } from '../shared/dev/brokers/kafka.ts'
import { findFreePorts, releasePorts } from '../shared/dev/brokers/ports.ts'
import { type ServiceProcess, startService } from '../shared/testing/service-process.ts'
import { until } from '../shared/testing/until.ts'

/**
 * Producers that share a port, replaced in turn under load: no request fails, and none has to be sent again. In a network namespace of its own where
 * possible, since there the kernel can be told to hand connections being established from one process to another.
 */

const TEST_TIMEOUT_MS = 240_000
const START_TIMEOUT_MS = 60_000
const ROUNDS = 4
const KEEPING_CLIENTS = 12
const OPENING_CLIENTS = 4
const PAUSE_MS = 5
/** How many requests are answered between two steps of a round. */
const REQUESTS_A_STEP = 150

const INSIDE = process.env['KAFKATRACE_OWN_NETWORK'] === 'yes'
const PREPARE = 'ip link set lo up && echo 1 > /proc/sys/net/ipv4/tcp_migrate_req && exec "$@"'

/** A command that runs its arguments in a network namespace of its own. */
const ownNetwork = (...command: string[]): string[] => [
  'unshare',
  '--net',
  ...(process.getuid?.() === 0 ? [] : ['--map-root-user']),
  ...['sh', '-c', PREPARE, 'sh'],
  ...command,
]

const canHaveOwnNetwork = (): boolean =>
  Bun.which('unshare') !== null && Bun.which('ip') !== null && Bun.spawnSync(ownNetwork('true')).exitCode === 0

const body = (id: string) => JSON.stringify({ type: 't', id, data: { n: 1 } })
const request = (type: string, content: string, more = '') =>
  `POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: ${type}\r\n${more}Content-Length: ${Buffer.byteLength(content)}\r\n\r\n${content}`

interface Answer {
  status: number
  text: string
  last: boolean
}

/** A connection that sends requests one after the other, without retries. */
class Client {
  readonly #socket: Socket
  #received = ''
  #take: (() => void) | undefined
  closed = false

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (chunk) => {
      this.#received += chunk.toString('latin1')
      this.#take?.()
    })
    socket.on('error', () => undefined)
    socket.on('close', () => {
      this.closed = true
      this.#take?.()
    })
    socket.on('end', () => {
      this.closed = true
      this.#take?.()
    })
  }

  static open(port: number): Promise<Client> {
    return new Promise((resolve, reject) => {
      const socket = connect(port, '127.0.0.1', () => resolve(new Client(socket)))
      socket.once('error', (error) => reject(new Error(`not connected: ${error.message}`)))
    })
  }

  write(text: string): void {
    this.#socket.write(text)
  }

  /** The answer to a request. @throws Error when the connection ends before it */
  async answer(): Promise<Answer> {
    for (;;) {
      const end = this.#received.indexOf('\r\n\r\n')
      const head = this.#received.slice(0, Math.max(0, end)).toLowerCase()
      const length = Number(/content-length: (\d+)/.exec(head)?.[1] ?? Number.NaN)
      const chunked = head.includes('transfer-encoding: chunked')
      const whole = chunked ? this.#received.includes('\r\n0\r\n\r\n') : this.#received.length >= end + 4 + length
      if (end > 0 && whole) {
        const text = this.#received.slice(end + 4)
        this.#received = ''
        return { status: Number(head.slice(9, 12)), text, last: head.includes('connection: close') }
      }
      if (this.closed) throw new Error(`closed ${this.#received === '' ? 'without' : 'within'} an answer`)
      await new Promise<void>((resolve) => {
        this.#take = resolve
      })
    }
  }

  close(): void {
    this.#socket.destroy()
  }
}

/** Clients that send until they are stopped, and record failures. */
function startLoad(port: number) {
  const failures: string[] = []
  let answered = 0
  let lastAnswers = 0
  let going = true
  const one = async (name: string, keeps: boolean, type: string, content: () => string): Promise<void> => {
    let client: Client | undefined
    while (going) {
      try {
        client ??= await Client.open(port)
        client.write(request(type, content(), keeps ? '' : 'Connection: close\r\n'))
        const { status, text, last } = await client.answer()
        if (status !== 202 && !(status === 200 && text.includes('"complete":true')))
          failures.push(`${name}: ${status} ${text}`)
        answered++
        if (keeps && last) lastAnswers++
        if (!keeps || last) {
          client.close()
          client = undefined
        }
      } catch (error) {
        failures.push(`${name}: ${(error as Error).message}`)
        client?.close()
        client = undefined
      }
      await Bun.sleep(PAUSE_MS)
    }
    client?.close()
  }
  let number = 0
  const single = () => body(`one-${number++}`)
  const lines = () => Array.from({ length: 10 }, () => body(`line-${number++}`)).join('\n')
  const clients = [
    ...Array.from({ length: KEEPING_CLIENTS }, () => one('keeps', true, 'application/json', single)),
    ...Array.from({ length: INSIDE ? OPENING_CLIENTS : 0 }, () => one('opens', false, 'application/json', single)),
    one('streams', true, 'application/x-ndjson', lines),
  ]
  return {
    failures,
    answered: () => answered,
    lastAnswers: () => lastAnswers,
    async stop() {
      going = false
      await Promise.all(clients)
    },
  }
}

async function replaceUnderLoad(): Promise<void> {
  const kafka = await startKafka()
  const [port = 0] = await findFreePorts(1)
  const start = async (): Promise<ServiceProcess> => {
    const service = await startService('producer', {
      NODE_ENV: 'development',
      AUTH: 'off',
      KAFKA_BROKERS: kafka.bootstrapServers,
      HOST: '127.0.0.1',
      PORT: String(port),
      REUSE_PORT: 'on',
    })
    expect(service.started['port']).toBeUndefined()
    await until(() => service.started['port'] === port, { timeoutMs: START_TIMEOUT_MS, what: 'the public port' })
    return service
  }
  let old = await start()
  // To the first process: a stream that continues, and an idle connection.
  const stream = await Client.open(port)
  stream.write(
    `POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n${chunk(`${body('s1')}\n`)}`,
  )
  const idle = await Client.open(port)
  idle.write(request('application/json', body('i1')))
  expect(await idle.answer()).toMatchObject({ status: 202, last: false })

  const load = startLoad(port)
  const more = async () => {
    const from = load.answered()
    await until(() => load.answered() > from + REQUESTS_A_STEP, { timeoutMs: 30_000, what: 'requests to be answered' })
  }
  for (let round = 0; round < ROUNDS; round++) {
    await more()
    const next = await start()
    await more()
    const ended = old.stop()
    if (round === 0) {
      await until(() => load.lastAnswers() > 0, { timeoutMs: 5_000, what: 'the first one to drain' })
      idle.write(request('application/json', body('i2')))
      expect(await idle.answer()).toMatchObject({ status: 202, last: true })
      const { status, text } = await stream.answer()
      expect(status).toBe(200)
      expect(text).toContain('"receipt":{"id":"s1"')
      expect(text).toMatch(/"stored":1,.*"complete":false/)
    }
    expect(await ended).toBe(0)
    old = next
  }
  await more()
  await load.stop()
  expect(await old.stop()).toBe(0)
  await kafka.stop()
  releasePorts([port])
  expect(load.failures).toEqual([])
  // Every client that keeps its connection got `Connection: close` at least once.
  expect(load.lastAnswers()).toBeGreaterThanOrEqual(KEEPING_CLIENTS)
}

const chunk = (text: string) => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`

test(
  'no request fails, and none has to be sent again, while producers on one port are replaced in turn',
  async () => {
    if (INSIDE || !canHaveOwnNetwork()) return replaceUnderLoad()
    const child = Bun.spawn(ownNetwork(process.execPath, 'test', import.meta.path), {
      env: { ...process.env, KAFKATRACE_OWN_NETWORK: 'yes' },
      stdout: 'pipe',
      stderr: 'pipe',
    })
    const [output, errors, exitCode] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited])
    if (exitCode !== 0) throw new Error(`${output}${errors}`)
  },
  TEST_TIMEOUT_MS,
)
