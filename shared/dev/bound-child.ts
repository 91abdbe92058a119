import { closeSync, openSync, writeSync } from 'node:fs'
import type { BunFile, Subprocess } from 'bun'

/**
 * The child is exec'd by this shell, which leaves a guard behind: it reads a pipe (descriptor 3) that our process holds open. A line
 * means that the child's end has been seen to; end of file without one means that we died, so the child is killed and its directory
 * removed.
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
  /** A directory that is of no use without this process, removed when it is orphaned. */
  readonly removeWhenOrphaned?: string
}

/**
 * Starts a process that cannot outlive this one, even when this one is killed with SIGKILL. It has a session of its own, so that a
 * Ctrl-C on the terminal reaches us alone and we decide in which order things end.
 */
export function spawnBoundChild<Out extends Output, Err extends Output>(
  command: readonly string[],
  options: BoundChildOptions<Out, Err>,
): BoundChild<Out, Err> {
  const { stdout, stderr }: { stdout: Output; stderr: Output } = options
  // Of one file for both Bun makes two descriptors, each with a place of its own, so that they write over each other.
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
      // It ended before the shell had set the guard up: there is nobody to tell.
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
