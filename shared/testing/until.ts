/** The default time-out of a wait, long enough for a busy machine. */
const DEFAULT_TIMEOUT_MS = 20_000

/** Waits until the condition holds, so that tests need not sleep for a fixed time. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  options: { timeoutMs?: number; what?: string } = {},
): Promise<void> {
  const deadline = performance.now() + (options.timeoutMs ?? DEFAULT_TIMEOUT_MS)
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`timed out waiting for ${options.what ?? condition.toString()}`)
    await Bun.sleep(2)
  }
}
