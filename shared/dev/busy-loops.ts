import { type BoundChild, endBoundChild, spawnBoundChild } from './bound-child.ts'

export const MAX_BUSY_LOOPS = 16

/** Starts processes that use as much CPU as they can get, one core each, like other work on the machine. */
export function startBusyLoops(count: number): { stop(): Promise<void> } {
  const loops: BoundChild[] = Array.from({ length: count }, () =>
    spawnBoundChild(['/bin/sh', '-c', 'while :; do :; done'], { stdout: 'ignore', stderr: 'ignore' }),
  )
  return {
    async stop() {
      await Promise.all(loops.map((loop) => endBoundChild(loop, 1_000)))
    },
  }
}
