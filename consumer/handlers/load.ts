import { resolve } from 'node:path'
import type { Redact } from '../../shared/service/redact.ts'
import { TimeoutError, within } from '../../shared/service/retry.ts'
import { callsOf, messageOf } from '../../shared/service/thrown.ts'

/** What a module awaits at its top may never come, and until then there is no operations port that could say so. */
const LOAD_TIMEOUT_MS = 30_000

/**
 * What a file exports as `handlers`.
 * @throws Error saying what is wrong with the file, and where
 */
export async function loadHandlers(path: string, redact: Redact, timeoutMs = LOAD_TIMEOUT_MS): Promise<unknown[]> {
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
