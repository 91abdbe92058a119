import { afterAll, expect, test } from 'bun:test'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { spawnBoundChild } from '../dev/bound-child.ts'

/* Processes that would each hang indefinitely in another way have to exit. They are started together, since each takes seconds. */

const TIMEOUT_MS = 500
/** How long exiting may take after the drain time-out. */
const BEYOND_MS = 5_000
const TEST_TIMEOUT_MS = 30_000

/** The kernel's SIGALRM ended it: see shutdown.ts. */
const HARD_EXIT_CODE = 14

const directory = mkdtempSync(join(tmpdir(), 'kafkatrace-shutdown-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

interface End {
  exitCode: number
  afterMs: number
  messages: string[]
}

/**
 * A process that is stopped as soon as it has written `ready`.
 * @param options.step what its shutdown step does; of the libc functions, `sleep` blocks the thread that calls it
 * @param options.before statements before `ready`
 * @param options.instead statements after `ready` in place of the signal
 * @param options.read whether its output is still read after `ready`
 */
async function end(options: { step?: string; before?: string; instead?: string; read?: boolean }): Promise<End> {
  const { step = '', before = '', instead = '', read = true } = options
  const source = `
    import { dlopen, FFIType } from 'bun:ffi'
    import { writeSync } from 'node:fs'
    import { createLogger } from ${JSON.stringify(join(import.meta.dir, 'logger.ts'))}
    import { stopOnSignal } from ${JSON.stringify(join(import.meta.dir, 'shutdown.ts'))}
    const { symbols: libc } = dlopen('libc.so.6', { sleep: { args: [FFIType.u32], returns: FFIType.u32 } })
    const log = createLogger('test', { LOG_LEVEL: 'info', LOG_FORMAT: 'json' })
    const step = { name: 'step', run: async () => { ${step} } }
    const stop = stopOnSignal([step], { timeoutMs: ${TIMEOUT_MS}, log })
    setInterval(() => {}, 1_000)
    ${before}
    writeSync(1, '{"message":"ready"}\\n')
    ${instead}`
  const child = spawnBoundChild([process.execPath, '-e', source], { stdout: 'pipe', stderr: 'inherit' })
  const reader = child.stdout.getReader()
  const decoder = new TextDecoder()
  let text = ''
  while (!text.includes('"ready"')) {
    const { value, done } = await reader.read()
    if (done) throw new Error(`it ended before it was ready:\n${text}`)
    text += decoder.decode(value, { stream: true })
  }
  const begun = performance.now()
  if (instead === '') child.kill('SIGTERM')
  if (read)
    for (let next = await reader.read(); !next.done; next = await reader.read()) text += decoder.decode(next.value)
  const exitCode = await child.exited
  const afterMs = performance.now() - begun
  const messages = text
    .trim()
    .split('\n')
    .filter((line) => line.endsWith('}'))
    .map((line) => (JSON.parse(line) as { message: string }).message)
  return { exitCode, afterMs, messages }
}

const FOR_EVER = 'await new Promise(() => {})'
const CUT_OFF = 'shutdown timed out; exiting'

/** Keeps every thread of the runtime's pool busy, so that background writes stop. */
const STARVE = `
  const { open } = await import('node:fs')
  for (let count = 0; count < 64; count++) open(${JSON.stringify(join(directory, 'fifo'))}, 'r', () => {})
  await Bun.sleep(100)`

const silent = createServer(() => undefined).listen(0, '127.0.0.1')
afterAll(() => silent.close())

Bun.spawnSync(['mkfifo', join(directory, 'fifo')])

/** Each with its exit code and, where its output is read, its last message. */
const WAYS: Record<string, [how: Parameters<typeof end>[0], exitCode: number, lastMessage?: string]> = {
  'a step that never ends': [{ step: FOR_EVER }, 1, CUT_OFF],
  'a step that never ends, without a thread that writes the log': [{ step: FOR_EVER, before: STARVE }, 1, CUT_OFF],
  'a log that is not written': [{ before: STARVE }, 0, 'stopped'],
  'a step that blocks the thread': [{ step: 'libc.sleep(60)' }, HARD_EXIT_CODE],
  'a step that turns in circles': [{ step: 'for (;;) {}' }, HARD_EXIT_CODE],
  'an exit that does not return': [{ before: "process.on('exit', () => libc.sleep(60))" }, HARD_EXIT_CODE, 'stopped'],
  'output that nobody reads': [
    { step: `for (let line = 0; line < 4_000; line++) log.info('x'.repeat(100)); ${FOR_EVER}`, read: false },
    HARD_EXIT_CODE,
  ],
  'a client of Kafka that gets no answer': [
    {
      before: `
        const { native, promised } = await import(${JSON.stringify(join(import.meta.dir, '../kafka/client.ts'))})
        const connect = { timeout: 60_000 }
        const clients = Array.from({ length: 8 }, () =>
          new (native().Producer)({ 'metadata.broker.list': '127.0.0.1:' + ${JSON.stringify((silent.address() as { port: number }).port)}, log_level: 0 }))
        for (const client of clients) client.connect(connect, () => {})
        await Bun.sleep(100)`,
      step: 'await Promise.all(clients.map((client) => promised((done) => client.disconnect(0, done))))',
    },
    1,
    CUT_OFF,
  ],
  'a service that stops by itself, in a step that never ends': [
    { step: FOR_EVER, instead: 'void stop(3)' },
    1,
    CUT_OFF,
  ],
  'a service that stops by itself, in a step that blocks the thread': [
    { step: 'libc.sleep(60)', instead: 'void stop(3)' },
    HARD_EXIT_CODE,
  ],
}

const ends = new Map(Object.entries(WAYS).map(([name, [how]]) => [name, end(how)]))

for (const [name, [, exitCode, lastMessage]] of Object.entries(WAYS))
  test(
    `${name} does not keep a process from ending in time`,
    async () => {
      const ended = (await ends.get(name)) as End
      expect(ended.exitCode).toBe(exitCode)
      expect(ended.afterMs).toBeLessThan(TIMEOUT_MS + BEYOND_MS)
      if (lastMessage !== undefined) expect(ended.messages.at(-1)).toBe(lastMessage)
    },
    TEST_TIMEOUT_MS,
  )
