import { useEffect, useState } from 'preact/hooks'

/** Asking the API from a view. */

/** After an error, the next question waits so many times as long, but not longer than this. */
const AFTER_ERROR = 5
const MOST_AFTER_ERROR_MS = 10_000

/** @property atMs when the value came, since the epoch */
export type Loaded<T> = { again(): void; isLoading: boolean; value?: T; atMs?: number; error?: Error }

/**
 * What an asynchronous function gives. It is asked again when `what` changes, or `again` is called; what it gave before stays until then. A question that is no
 * longer asked is aborted.
 * @param what of which the answer is; undefined: nothing is asked
 * @param everyMs asks again so long after each answer, while the page is seen
 */
export function useLoad<T>(
  what: string | undefined,
  ask: (signal: AbortSignal) => Promise<T>,
  everyMs?: number,
): Loaded<T> {
  const [round, setRound] = useState(0)
  const [state, setState] = useState<{ of?: string; isLoading: boolean; value?: T; atMs?: number; error?: Error }>({
    isLoading: what !== undefined,
  })
  useEffect(() => {
    if (what === undefined) return
    const ending = new AbortController()
    let timer: ReturnType<typeof setTimeout> | undefined
    setState((before) => (before.of === what ? { ...before, isLoading: true } : { of: what, isLoading: true }))
    const settle = (got: { value: T; atMs: number } | { error: Error }): void => {
      if (ending.signal.aborted) return
      setState((before) => ({
        of: what,
        isLoading: false,
        // What was answered before is still the last that is known.
        ...(before.of === what && before.value !== undefined && { value: before.value, atMs: before.atMs ?? 0 }),
        ...got,
      }))
      if (everyMs !== undefined)
        timer = setTimeout(next, 'error' in got ? Math.min(everyMs * AFTER_ERROR, MOST_AFTER_ERROR_MS) : everyMs)
    }
    const next = (): void => {
      if (document.visibilityState === 'visible') setRound((one) => one + 1)
      else document.addEventListener('visibilitychange', next, { once: true, signal: ending.signal })
    }
    ask(ending.signal).then(
      (value) => settle({ value, atMs: Date.now() }),
      (error) => settle({ error }),
    )
    return () => {
      ending.abort()
      clearTimeout(timer)
    }
  }, [what, round, everyMs])
  const shown = state.of === what ? state : { isLoading: what !== undefined }
  return { ...shown, again: () => setRound((one) => one + 1) }
}

/** Whether the tab is seen. */
export function useVisible(): boolean {
  const [isVisible, setVisible] = useState(document.visibilityState === 'visible')
  useEffect(() => {
    const changed = (): void => setVisible(document.visibilityState === 'visible')
    document.addEventListener('visibilitychange', changed)
    return () => document.removeEventListener('visibilitychange', changed)
  }, [])
  return isVisible
}
