import { resolve } from 'node:path'
import * as typebox from '@sinclair/typebox'
import type { Redact } from '../../shared/service/redact.ts'
import { TimeoutError, within } from '../../shared/service/retry.ts'
import { callsOf, messageOf } from '../../shared/service/thrown.ts'
import * as api from './api.ts'
import * as testing from './testing.ts'

/** What a module awaits at its top may never come, and until then there is no operations port that could say so. */
const LOAD_TIMEOUT_MS = 30_000

/**
 * What a module of handlers may import wherever it lies, with or without a `node_modules` above it. These very modules, since schemas and classes are
 * compared with ours; and not what a registry may have under the same name, which Bun would install by itself.
 */
const PROVIDED = { kafkatrace: api, 'kafkatrace/testing': testing, '@sinclair/typebox': typebox }

/**
 * What a file exports as `handlers`.
 * @param path of the file; a relative one starts at the working directory
 * @throws Error saying what is wrong with the file, and where
 */
export async function loadHandlers(path: string, redact: Redact, timeoutMs = LOAD_TIMEOUT_MS): Promise<unknown[]> {
  Bun.plugin({
    name: 'kafkatrace',
    setup(build) {
      for (const [name, exports] of Object.entries(PROVIDED)) build.module(name, () => ({ exports, loader: 'object' }))
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

/** Of several faults of syntax Bun's message has only the number; of one, not the place. */
function describe(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(describe).join('\n')
  if (error instanceof BuildMessage && error.position !== null) {
    const { file, line, column } = error.position
    return `${error.message} at ${file}:${line}:${column}`
  }
  // Where we have waited says nothing of where the module does.
  const calls = error instanceof TimeoutError ? undefined : callsOf(error)
  return `${messageOf(error, Number.POSITIVE_INFINITY)}${calls === undefined ? '' : `\n${calls}`}`
}
