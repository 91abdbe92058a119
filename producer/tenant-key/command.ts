import { isTime } from '../../shared/events/event.ts'
import { NAME_PATTERN } from '../../shared/events/topics.ts'
import { ROLES, type TenantsFile } from '../../shared/http/tenants.ts'
import { type Command as CommandOf, FailedError, type Output, UsageError } from '../../shared/service/command-line.ts'
import { messageOf } from '../../shared/service/thrown.ts'
import { durationMs } from '../../shared/service/time.ts'

/** What every command of `tenant-key` has, and what it gets. */

/** @throws UsageError, FailedError, ConfigError */
export type Command = CommandOf<Io>

export interface Io extends Output {
  env: Readonly<Record<string, string | undefined>>
  nowMs(): number
  /** A line of standard output that must not get lost. @throws Error where it cannot be written */
  give(line: string): void
}

/** An entry of `keys` or of `operators`. */
export type Entry = TenantsFile['tenants'][string]['keys'][number]

export const FILE_OPTION = { file: { type: 'string' } } as const

export const FILE_HELP = `  --file FILE     the tenants file; without it, the variable TENANTS_FILE names it`

/** The file to change; undefined where there is none, or where it is `-`. */
export function fileOf(file: string | undefined, { env }: Pick<Io, 'env'>): string | undefined {
  const named = file ?? (env['TENANTS_FILE'] || undefined)
  return named === '-' ? undefined : named
}

/** @throws UsageError */
export function neededFile(file: string | undefined, io: Pick<Io, 'env'>): string {
  const named = fileOf(file, io)
  if (named === undefined) throw new UsageError('--file is missing, and TENANTS_FILE is not set')
  return named
}

/** @throws UsageError */
export function nameOf(what: string, text: string): string {
  if (new RegExp(NAME_PATTERN).test(text)) return text
  throw new UsageError(`${what} ${text}: not a name: at most 63 of a-z, 0-9 and "-", not beginning with "-"`)
}

/** @throws UsageError */
export function rolesOf(text: string | undefined, allowed: readonly string[] = ROLES): Entry['roles'] {
  const roles = text?.split(',')
  if (roles === undefined) return undefined
  if (roles.every((role) => allowed.includes(role)) && new Set(roles).size === roles.length)
    return roles as Entry['roles']
  throw new UsageError(`--roles ${text}: not some of ${allowed.join(',')}, each once`)
}

/** A time of RFC 3339 as it is, and a duration from now as the time that it means, to the second. @throws UsageError */
export function timeFrom(option: string, text: string, nowMs: number): string {
  const lasting = durationMs(text)
  if (lasting !== undefined) return secondOf(nowMs + lasting)
  if (isTime(text)) return text
  throw new UsageError(
    `${option} ${text}: neither a time such as 2026-12-31T23:59:59Z nor a duration from now such as 12h or 90d`,
  )
}

/** RFC 3339, UTC, to the second. */
export const secondOf = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`

/** Where a key stands in a file. */
export interface Place {
  /** undefined: among the operators'. */
  tenant: string | undefined
  path: readonly string[]
  index: number
  entry: Entry
}

/** All keys of a file, in its order. */
export function placesIn({ tenants, operators = [] }: TenantsFile): Place[] {
  const placed = (tenant: string | undefined, path: readonly string[], entries: readonly Entry[]): Place[] =>
    entries.map((entry, index) => ({ tenant, path, index, entry }))
  return [
    ...Object.entries(tenants).flatMap(([tenant, { keys }]) => placed(tenant, ['tenants', tenant, 'keys'], keys)),
    ...placed(undefined, ['operators'], operators),
  ]
}

/** Where an entry belongs, as people find it in the file. */
export const placeName = (tenant: string | undefined): string =>
  tenant === undefined ? '"operators"' : `the "keys" of the tenant ${tenant}`

/** @throws FailedError where there is no such key */
export function placeOf(id: string, file: TenantsFile): Place {
  const place = placesIn(file).find(({ entry }) => entry.id === id)
  if (place !== undefined) return place
  throw new FailedError(`there is no key ${id} in the file; list names all`)
}

/**
 * Hands over a key that is in the file, or has to be put there.
 * @param ifLost what was done, and is to be done, if nobody gets it
 * @throws FailedError
 */
export function handOver(key: string, ifLost: string, io: Pick<Io, 'say' | 'give'>): void {
  io.say('Give this to the client; it is not kept anywhere:')
  try {
    io.give(key)
  } catch (error) {
    throw new FailedError(`the key cannot be written to standard output, and is lost: ${messageOf(error)}\n${ifLost}`)
  }
}

export const APPLIED = 'Producers and consoles read it within seconds.'
