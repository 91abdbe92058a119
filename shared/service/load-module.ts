import { resolve } from 'node:path'
import type { Redact } from './redact.ts'
import { TimeoutError, within } from './retry.ts'
import { callsOf, messageOf } from './thrown.ts'

/** Loads what a user of the project has written. */

/** A module's top-level await may never settle, and until it does there is no operations port to report that. */
const LOAD_TIMEOUT_MS = 30_000

/** The exports of a module that others may import, or how to get them where few need them. */
type Exports = Record<string, unknown>
export type Provided = Readonly<Record<string, Exports | (() => Promise<Exports>)>>

/**
 * Loads the list that a file exports under a name.
 * @param path a relative one starts at the working directory
 * @param provided what the file may import by name wherever it is, with or without a `node_modules` above it. It gets our own instances, since schemas and
 * classes are compared with ours, and not a package of the same name, which Bun would install from the registry.
 * @throws Error saying what is wrong with the file, and where
 */
export async function loadList(
  path: string,
  name: string,
  provided: Provided,
  redact: Redact,
  timeoutMs = LOAD_TIMEOUT_MS,
): Promise<unknown[]> {
  Bun.plugin({
    name: 'kafkatrace',
    setup(build) {
      for (const [module, exports] of Object.entries(provided))
        build.module(
          module,
          typeof exports === 'function'
            ? async () => ({ exports: await exports(), loader: 'object' })
            : () => ({ exports, loader: 'object' }),
        )
    },
  })
  let exported: Record<string, unknown>
  try {
    exported = await within(
      timeoutMs,
      import(resolve(path)) as Promise<Record<string, unknown>>,
      'what it awaits at its top has not come',
    )
  } catch (error) {
    throw new Error(redact(describe(error)))
  }
  const list = exported[name]
  if (Array.isArray(list)) return list
  throw new Error(
    `what it exports as \`${name}\` is no list: write \`export const ${name} = […]\`; it exports ${Object.keys(exported).join(', ') || 'nothing'}`,
  )
}

/** For several syntax errors Bun's own message has only their number; for one, it lacks the place. */
function describe(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(describe).join('\n')
  if (error instanceof BuildMessage && error.position !== null) {
    const { file, line, column } = error.position
    return `${error.message} at ${file}:${line}:${column}`
  }
  // The stack of a time-out is ours, not the module's.
  const calls = error instanceof TimeoutError ? undefined : callsOf(error)
  return `${messageOf(error, Number.POSITIVE_INFINITY)}${calls === undefined ? '' : `\n${calls}`}`
}
