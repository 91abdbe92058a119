import { expect, test } from 'bun:test'

/**
 * A process that stops as a service does, with the given steps (source text) and time. `ready` is awaited before signals are sent.
 */
async function startService(steps: string, options: { timeoutMs?: number; afterwards?: string } = {}) {
  const program = `
    import { createLogger } from ${JSON.stringify(`${import.meta.dir}/logger.ts`)}
    import { stopOnSignal } from ${JSON.stringify(`${import.meta.dir}/shutdown.ts`)}
    const log = createLogger('test', { LOG_LEVEL: 'info', LOG_FORMAT: 'json' })
    const stop = stopOnSignal([${steps}], { timeoutMs: ${options.timeoutMs ?? 10_000}, log })
    setInterval(() => {}, 1_000)
    log.info('ready')
    ${options.afterwards ?? ''}`
  const child = Bun.spawn([process.execPath, '-e', program], {
    cwd: import.meta.dir,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const decoder = new TextDecoder()
  const reader = child.stdout.getReader()
  let text = ''
  /** Reads until a message is logged. */
  const logged = async (what: string) => {
    while (!text.includes(what)) {
      const { value, done } = await reader.read()
      if (done) throw new Error(`the process ended without logging ${what}:\n${text}`)
      text += decoder.decode(value, { stream: true })
    }
  }
  /** All messages, after the process has ended. */
  const ended = async (): Promise<{ exitCode: number; messages: string[] }> => {
    for (let read = await reader.read(); !read.done; read = await reader.read())
      text += decoder.decode(read.value, { stream: true })
    const exitCode = await child.exited
    const lines = text.trim().split('\n')
    return { exitCode, messages: lines.map((line) => (JSON.parse(line) as { message: string }).message) }
  }
  await logged('ready')
  return { child, logged, ended }
}

const step = (name: string, body = '') => `{ name: '${name}', run: async () => { ${body}; log.info('step ${name}') } }`

test.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)(
  '%s runs the steps in order, each after the one before, and exits 0',
  async (signal) => {
    const { child, ended } = await startService(
      [step('drain', 'await Bun.sleep(20)'), step('flush', 'await Bun.sleep(5)'), step('telemetry')].join(),
    )
    child.kill(signal)
    expect(await ended()).toEqual({
      exitCode: 0,
      messages: ['ready', 'shutting down', 'step drain', 'step flush', 'step telemetry', 'stopped'],
    })
  },
)

test('a step that fails does not keep the others from running, and shows in the exit code', async () => {
  const { child, ended } = await startService([step('drain', "throw new Error('no')"), step('flush')].join())
  child.kill('SIGTERM')
  expect(await ended()).toEqual({
    exitCode: 1,
    messages: ['ready', 'shutting down', 'shutdown step failed', 'step flush', 'stopped'],
  })
})

test('a step that never ends is cut off when the time is over', async () => {
  const { child, ended } = await startService([step('drain', 'await new Promise(() => {})'), step('flush')].join(), {
    timeoutMs: 100,
  })
  child.kill('SIGTERM')
  expect(await ended()).toEqual({
    exitCode: 1,
    messages: ['ready', 'shutting down', 'shutdown timed out; exiting'],
  })
})

test('a second signal ends it at once', async () => {
  const { child, logged, ended } = await startService(step('drain', 'await new Promise(() => {})'), {
    timeoutMs: 60_000,
  })
  child.kill('SIGTERM')
  await logged('shutting down')
  child.kill('SIGINT')
  expect(await ended()).toEqual({ exitCode: 1, messages: ['ready', 'shutting down', 'second signal: exiting now'] })
})

test('a closing terminal may send SIGHUP several times', async () => {
  const { child, logged, ended } = await startService(
    step('drain', "await new Promise((hungUp) => process.once('SIGHUP', hungUp))"),
  )
  child.kill('SIGHUP')
  await logged('shutting down')
  child.kill('SIGHUP')
  expect(await ended()).toEqual({ exitCode: 0, messages: ['ready', 'shutting down', 'step drain', 'stopped'] })
})

test('a service can stop by itself, with its own exit code, and only once', async () => {
  const { ended } = await startService(step('drain'), { afterwards: 'void stop(3); void stop(4)' })
  expect(await ended()).toEqual({ exitCode: 3, messages: ['ready', 'step drain', 'stopped'] })
})
