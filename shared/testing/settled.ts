/**
 * What became of a promise, to be asserted on. `expect(promise).rejects` and `.resolves` run Bun's event loop from within, and what the loop was about to
 * tell others is lost: a stream never ends, an ended process is waited for (https://github.com/oven-sh/bun/issues/33261).
 */

/** @returns a function that returns the promise's value, or throws its reason: `expect(await settled(promise)).toThrow('…')` */
export async function settled<Value>(promise: Value | Promise<Value>): Promise<() => Value> {
  try {
    const value = await promise
    return () => value
  } catch (reason) {
    return () => {
      throw reason
    }
  }
}

/** @returns the promise's reason @throws Error when it has a value */
export const rejection = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    (value) => {
      throw new Error(`not rejected, but ${Bun.inspect(value)}`)
    },
    (reason) => reason,
  )
