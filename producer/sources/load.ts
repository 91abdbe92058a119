import { isAbsolute, resolve } from 'node:path'
import * as typebox from '@sinclair/typebox'
import { ConfigError } from '../../shared/service/config.ts'
import { loadList } from '../../shared/service/load-module.ts'
import { redactor } from '../../shared/service/redact.ts'
import { messageOf } from '../../shared/service/thrown.ts'
import * as api from './api.ts'
import { kinds } from './index.ts'
import type { SourceKind } from './kind.ts'

/** What a module of kinds may import. */
const PROVIDED = { 'kafkatrace/sources': api, '@sinclair/typebox': typebox }

/**
 * The kinds that a file exports as `kinds`, and the built-in ones.
 * @param path undefined: there is no such file; a relative one starts at the working directory
 * @throws ConfigError saying what is wrong with the file
 */
export async function loadKinds(path: string | undefined): Promise<readonly SourceKind[]> {
  if (path === undefined) return kinds
  const at = `SOURCES_MODULE=${path}${isAbsolute(path) ? '' : ` (${resolve(path)})`}`
  let own: unknown[]
  try {
    own = await loadList(path, 'kinds', PROVIDED, redactor())
  } catch (error) {
    throw new ConfigError([`${at} cannot be used: ${messageOf(error, Number.POSITIVE_INFINITY)}`])
  }
  const faults = own.flatMap((kind, index) => faultsOf(kind).map((fault) => `${at}: kinds[${index}] ${fault}`))
  const names = own.map((kind) => (kind as Partial<SourceKind> | null)?.name)
  for (const name of new Set(names.filter((name, index) => name !== undefined && names.indexOf(name) !== index)))
    faults.push(`${at}: the name ${JSON.stringify(name)} is given to several kinds`)
  if (faults.length > 0) throw new ConfigError(faults)
  // A file's own comes first, so that it can replace a built-in one.
  return [...(own as SourceKind[]), ...kinds]
}

/** No sender waits for less; less is most likely in seconds. */
const LEAST_TIMEOUT_MS = 1_000

function faultsOf(kind: unknown): string[] {
  if (typeof kind !== 'object' || kind === null) return ['is no object']
  const { name, timeoutMs, options, verify, identify, respond } = kind as Record<string, unknown>
  const faults: string[] = []
  const fault = (when: boolean, text: string): void => {
    if (when) faults.push(text)
  }
  fault(typeof name !== 'string' || name === '', 'has no `name`')
  fault(
    typeof timeoutMs !== 'number' || !(timeoutMs >= LEAST_TIMEOUT_MS),
    `has no \`timeoutMs\`, the time that its senders wait, in ms: at least ${LEAST_TIMEOUT_MS}`,
  )
  fault(typeof options !== 'object' || options === null, 'has no `options`, an object of TypeBox schemas')
  fault(typeof verify !== 'function', 'has no function `verify`')
  fault(typeof identify !== 'function', 'has no function `identify`')
  fault(respond !== undefined && typeof respond !== 'function', 'has a `respond` that is no function')
  return faults
}
