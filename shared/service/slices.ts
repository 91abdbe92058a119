import { turn } from './retry.ts'

/** Long work, in slices between which the event loop goes on. */

/** It yields wherever it may be interrupted, which should be more often than each millisecond. */
export type Sliced<T> = Generator<undefined, T>

const SLICE_MS = 2

/** Does all of it now. */
export function atOnce<T>(work: Sliced<T>): T {
  for (;;) {
    const step = work.next()
    if (step.done === true) return step.value
  }
}

/** Lets the event loop go on after every two milliseconds. */
export async function inSlices<T>(work: Sliced<T>): Promise<T> {
  for (;;) {
    const endMs = performance.now() + SLICE_MS
    do {
      const step = work.next()
      if (step.done === true) return step.value
    } while (performance.now() < endMs)
    await turn()
  }
}
