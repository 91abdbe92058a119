import { resolve } from 'node:path'
import * as typebox from '@sinclair/typebox'
import type { Redact } from '../../shared/service/redact.ts'
import { TimeoutError, within } from '../../shared/service/retry.ts'
import { callsOf, messageOf } from '../../shared/service/thrown.ts'
import * as api from './api.ts'

/** A module's top-level await may never settle, and until it does there is no operations port to report that. */
const LOAD_TIMEOUT_MS = 30_000

/**
 * What a module of handlers may import wherever it is, with or without a `node_modules` above it. It gets our own instances, since schemas and classes
 * are compared with ours, and not a package of the same name, which Bun would install from the registry.
 */
const PROVIDED = { kafkatrace: api, '@sinclair/typebox': typebox }

/**
 * Loads what a file exports as `handlers`.
 * @param path a relative one starts at the working directory
 * @throws Error saying what is wrong with the file, and where
 */
export async function loadHandlers(path: string, redact: Redact, timeoutMs = LOAD_TIMEOUT_MS): Promise<unknown[]> {
  Bun.plugin({
    name: 'kafkatrace',
    setup(build) {
      for (const [name, exports] of Object.entries(PROVIDED)) build.module(name, () => ({ exports, loader: 'object' }))
      // On demand, since only unit tests of handlers use it.
      build.module('kafkatrace/testing', async () => ({ exports: await import('./testing.ts'), loader: 'object' }))
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
  const { handlers } = exported
  if (Array.isArray(handlers)) return handlers
  throw new Error(
    `what it exports as \`handlers\` is no list: write \`export const handlers = […]\`; it exports ${Object.keys(exported).join(', ') || 'nothing'}`,
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
