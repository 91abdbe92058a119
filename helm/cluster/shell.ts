import { randomUUID } from 'node:crypto'

/** A shell in which commands are typed one after the other, as a person does. What it starts in the background ends with it. */

export interface Typed {
  /** undefined: it did not end in time. */
  readonly exitCode: number | undefined
  /** What it printed, errors as well, and what programs in the background printed meanwhile. */
  readonly output: string
}

export interface Shell {
  /** Types a command and waits until it has ended; one with `&` at its end, until its port listens. */
  type(command: string, timeoutMs?: number): Promise<Typed>
  close(): Promise<void>
}

const TYPE_TIMEOUT_MS = 420_000
const LISTEN_SECONDS = 20

/** @param enter the command that runs another one where the shell is to be */
export function openShell(enter: readonly string[], options: { cwd: string; env: Record<string, string> }): Shell {
  const own = ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc', 'bash', '--noprofile', '--norc']
  const child = Bun.spawn([...enter, ...own], {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdin: 'pipe',
    stdout: 'pipe',
    stderr: 'ignore',
  })
  const reader = child.stdout.getReader()
  const decoder = new TextDecoder()
  let text = ''
  const write = (lines: string): void => {
    child.stdin.write(lines)
    child.stdin.flush()
  }
  write('exec 2>&1\n')

  async function execute(command: string, timeoutMs: number): Promise<Typed> {
    const mark = randomUUID()
    const ended = new RegExp(`\\n?${mark} (\\d+)\\n`)
    write(`${command}\nprintf '\\n%s %d\\n' ${mark} $?\n`)
    const late = Promise.withResolvers<'late'>()
    const timer = setTimeout(() => late.resolve('late'), timeoutMs)
    try {
      for (;;) {
        const found = ended.exec(text)
        if (found !== null) {
          const output = text.slice(0, found.index)
          text = text.slice(found.index + found[0].length)
          return { exitCode: Number(found[1]), output: output.trim() }
        }
        const next = await Promise.race([reader.read(), late.promise])
        if (next === 'late' || next.done) return { exitCode: undefined, output: text.trim() }
        text += decoder.decode(next.value, { stream: true })
      }
    } finally {
      clearTimeout(timer)
    }
  }

  return {
    async type(command, timeoutMs = TYPE_TIMEOUT_MS) {
      const typed = await execute(command, timeoutMs)
      const [, port] = / (\d+):\d+ &$/.exec(command) ?? []
      if (port === undefined || typed.exitCode !== 0) return typed
      const listens = `timeout ${LISTEN_SECONDS} sh -c 'until bash -c ": </dev/tcp/127.0.0.1/${port}" 2>/dev/null; do sleep 0.1; done'`
      const { exitCode, output } = await execute(listens, timeoutMs)
      return { exitCode, output: `${typed.output}\n${output}`.trim() }
    },
    async close() {
      child.kill('SIGKILL')
      await child.exited
    },
  }
}
