import * as typebox from '@sinclair/typebox'
import { loadList } from '../../shared/service/load-module.ts'
import type { Redact } from '../../shared/service/redact.ts'
import * as api from './api.ts'

/** By its path: by its name, it would be asked for here again. */
const OPENTELEMETRY = import.meta.resolve('@opentelemetry/api')

/** What a module of handlers may import; on demand, what few of them use. */
const PROVIDED = {
  kafkatrace: api,
  '@sinclair/typebox': typebox,
  '@opentelemetry/api': () => import(OPENTELEMETRY),
  'kafkatrace/testing': () => import('./testing.ts'),
}

/**
 * Loads what a file exports as `handlers`.
 * @param path a relative one starts at the working directory
 * @throws Error saying what is wrong with the file, and where
 */
export const loadHandlers = (path: string, redact: Redact, timeoutMs?: number): Promise<unknown[]> =>
  loadList(path, 'handlers', PROVIDED, redact, timeoutMs)
