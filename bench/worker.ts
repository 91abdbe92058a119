import { type BoundChild, endBoundChild, isRunning, spawnBoundChild } from '../shared/dev/bound-child.ts'

/** Processes that generate load or observe, separate so that none disturbs another's clock. They report in lines of JSON. */

const END_GRACE_MS = 5_000

export interface Worker<Line> {
  readonly pid: number
  /** The next line that it prints. @throws Error with its standard error, when it ends instead */
  next(): Promise<Line>
  /** SIGTERM; resolves when it is gone. */
  end(): Promise<void>
}

/** @param name used in errors */
export function startWorker<Line>(name: string, command: readonly string[]): Worker<Line> {
  const child: BoundChild<'pipe', 'pipe'> = spawnBoundChild(command, { stdout: 'pipe', stderr: 'pipe' })
  const errors = child.stderr.text()
  const lines = linesOf(child.stdout)
  return {
    pid: child.pid,
    async next() {
      const { value, done } = await lines.next()
      if (done !== true) return JSON.parse(value) as Line
      await child.exited
      const how = child.signalCode ?? `code ${child.exitCode}`
      throw new Error(`${name} ended with ${how}: ${(await errors).trim().slice(-500) || 'it said nothing'}`)
    },
    async end() {
      if (isRunning(child)) await endBoundChild(child, END_GRACE_MS)
    },
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, undefined> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n')
    rest = lines.pop() ?? ''
    yield* lines
  }
  return undefined
}

/** Milliseconds since the epoch, with fractions, on a monotonic clock that all processes of a machine share. */
export const epochMs = (): number => performance.timeOrigin + performance.now()
