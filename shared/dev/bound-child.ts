import { closeSync, openSync, writeSync } from 'node:fs'
import type { BunFile, Subprocess } from 'bun'

/**
 * This shell execs the child and leaves a guard behind, which reads a pipe (descriptor 3) that our process holds open. A line on it means
 * that we have seen the child end. End of file without a line means that we died: the guard kills the child and removes its
 * directory.
 */
const guardedExec = `
directory=$1; shift
child=$$
(
  trap '' HUP INT TERM
  read -r released <&3 && exit 0
  kill -KILL $child
  [ -z "$directory" ] || rm -rf "$directory" || { sleep 1; rm -rf "$directory"; }
) </dev/null >/dev/null 2>&1 &
exec 3<&- "$@"
`

const guardDescriptor = 3

type Output = 'inherit' | 'ignore' | 'pipe' | BunFile

export type BoundChild<Out extends Output = Output, Err extends Output = Output> = Subprocess<'ignore', Out, Err>

export interface BoundChildOptions<Out extends Output, Err extends Output> {
  readonly stdout: Out
  readonly stderr: Err
  readonly env?: Record<string, string | undefined>
  readonly cwd?: string
  /** A directory that only this process needs. It is removed when this process dies. */
  readonly removeWhenOrphaned?: string
}

/**
 * Starts a process that cannot outlive this one, even when this one is killed with SIGKILL. It gets its own session: a Ctrl-C on the
 * terminal reaches only us, and we decide in which order processes end.
 */
export function spawnBoundChild<Out extends Output, Err extends Output>(
  command: readonly string[],
  options: BoundChildOptions<Out, Err>,
): BoundChild<Out, Err> {
  const { stdout, stderr }: { stdout: Output; stderr: Output } = options
  // Given one file for both, Bun opens it twice with separate offsets, and the two streams overwrite each other.
  const both = typeof stdout === 'object' && stdout === stderr ? openSync(stdout.name ?? '', 'a') : undefined
  const child = Bun.spawn({
    cmd: ['/bin/sh', '-c', guardedExec, 'sh', options.removeWhenOrphaned ?? '', ...command],
    stdio: ['ignore', both ?? stdout, both ?? stderr, 'pipe'],
    env: options.env ?? process.env,
    ...(options.cwd !== undefined && { cwd: options.cwd }),
    detached: true,
  })
  if (both !== undefined) closeSync(both)
  const guard = child.stdio[guardDescriptor]
  if (typeof guard !== 'number') throw new Error('this Bun gives no descriptor for a fourth pipe of a child')
  child.exited.then(() => {
    try {
      writeSync(guard, 'released\n')
    } catch (error) {
      // The child ended before the shell had started the guard.
      if ((error as NodeJS.ErrnoException).code !== 'EPIPE') throw error
    } finally {
      closeSync(guard)
    }
  })
  return child as BoundChild<Out, Err>
}

export function isRunning(child: BoundChild): boolean {
  return child.exitCode === null && child.signalCode === null
}

/** How a process ended: its exit code, or the signal. @throws Error while it runs */
export function endOf(child: BoundChild): number | NodeJS.Signals {
  const end = child.exitCode ?? child.signalCode
  if (end === null) throw new Error(`process ${child.pid} has not ended`)
  return end
}

/** SIGTERM, then SIGKILL once the grace is over. Returns when the process is gone. */
export async function endBoundChild(child: BoundChild, graceMs: number): Promise<'terminated' | 'killed'> {
  child.kill('SIGTERM')
  const late = Promise.withResolvers<'late'>()
  const timer = setTimeout(() => late.resolve('late'), graceMs)
  const first = await Promise.race([child.exited, late.promise])
  clearTimeout(timer)
  if (first !== 'late') return 'terminated'
  child.kill('SIGKILL')
  await child.exited
  return 'killed'
}
