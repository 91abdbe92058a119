/** Runs commands to their end, and keeps their results. Uses nothing that has to be installed. */
import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'

export interface Ran {
  readonly exitCode: number
  readonly output: string
  readonly errors: string
  /** Whether the time-out killed it. */
  readonly isLate: boolean
}

/** Runs a command to its end. A failure or a time-out is a result, not an error. */
export async function run(
  command: readonly [string, ...string[]],
  options: { cwd?: string; env?: Record<string, string>; input?: string | Uint8Array; timeoutMs?: number } = {},
): Promise<Ran> {
  const { input, timeoutMs } = options
  const begunMs = performance.now()
  const child = Bun.spawn([...command], {
    cwd: options.cwd ?? process.cwd(),
    env: { ...process.env, ...options.env },
    stdin: input === undefined ? 'ignore' : Buffer.from(input),
    stdout: 'pipe',
    stderr: 'pipe',
    killSignal: 'SIGKILL',
    ...(timeoutMs === undefined ? {} : { timeout: timeoutMs }),
  })
  const [output, errors, exitCode] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited])
  const isLate = exitCode !== 0 && timeoutMs !== undefined && performance.now() - begunMs >= timeoutMs
  return { exitCode, output, errors, isLate }
}

const LAST_LINES = 15

/** The end of long output. */
export const lastLines = (text: string, count = LAST_LINES): string =>
  text.trimEnd().split('\n').slice(-count).join('\n')

/**
 * Makes a folder that is complete whenever it exists: fills it under another name and renames it.
 * @param fill receives an empty folder
 */
export async function makeWhole(folder: string, fill: (unfinished: string) => Promise<void>): Promise<void> {
  const unfinished = `${folder}.${randomUUID()}.unfinished`
  await mkdir(unfinished, { recursive: true })
  try {
    await fill(unfinished)
    await rename(unfinished, folder).catch((error: unknown) => {
      // Another process made the same folder in the meantime.
      if (!existsSync(folder)) throw error
    })
  } finally {
    await rm(unfinished, { recursive: true, force: true })
  }
}
