/** How long a test waits for what it expects, unless it says otherwise: long enough for a machine that has other work. */
const DEFAULT_TIMEOUT_MS = 20_000

/** Waits until the condition holds. Tests never sleep for a time that ought to be enough. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  options: { timeoutMs?: number; what?: string } = {},
): Promise<void> {
  const deadline = performance.now() + (options.timeoutMs ?? DEFAULT_TIMEOUT_MS)
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`waited in vain for ${options.what ?? condition.toString()}`)
    await Bun.sleep(2)
  }
}
