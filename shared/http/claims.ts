import { isPointer, stepsOf } from '../events/json-pointer.ts'
import { ROLES, type Role } from './tenants.ts'

/** What the claims of a token (RFC 7519) grant: the tenant, the streams and the roles of whoever it is for. */

/** As the tenant: all of them, as an operator's key has. As a stream: all of the tenant's. No tenant and no stream can have this name. */
export const ALL = '*'

/** Where the claims are that grant something. */
export interface ClaimNames {
  tenant: readonly string[]
  /** undefined: tokens are for all streams of their tenant. */
  streams: readonly string[] | undefined
  roles: readonly string[]
  /** What the roles of this service begin with among others. */
  rolesPrefix: string
}

export interface Grant {
  tenant: string
  /** undefined: all. */
  streams: ReadonlySet<string> | undefined
  roles: ReadonlySet<Role>
}

/**
 * The names that lead to a claim: `tenant`; `realm_access.roles`, where each dot leads into an object; or, for names that have dots themselves, a JSON pointer
 * (RFC 6901). undefined for what is neither.
 */
export function claimPath(text: string): readonly string[] | undefined {
  if (text.startsWith('/')) return isPointer(text) ? stepsOf(text) : undefined
  const steps = text.split('.')
  // The name of a claim that is a URL was not meant to be taken apart.
  return steps.includes('') || text.includes('/') ? undefined : steps
}

function claimAt(claims: unknown, path: readonly string[]): unknown {
  let value = claims
  for (const step of path) {
    if (typeof value !== 'object' || value === null || Array.isArray(value) || !Object.hasOwn(value, step))
      return undefined
    value = (value as Record<string, unknown>)[step]
  }
  return value
}

/** A list, or names with spaces between them, as in `scope` (RFC 6749, section 3.3). undefined for anything else. */
function namesIn(claim: unknown): readonly string[] | undefined {
  if (typeof claim === 'string') return claim.split(' ').filter((one) => one !== '')
  return Array.isArray(claim) && claim.every((one) => typeof one === 'string') ? claim : undefined
}

/**
 * What a token grants, or what is wrong with its claims, in words for whoever sent it. No claim that is missing or of another form grants anything. A token for
 * all tenants cannot send, as no operator's key can.
 */
export function grantOf(
  claims: unknown,
  names: ClaimNames,
): { ok: true; grant: Grant } | { ok: false; detail: string } {
  const refused = (path: readonly string[], what: string) =>
    ({ ok: false, detail: `The token’s claim ${JSON.stringify(path.join('.'))} ${what}.` }) as const
  const claim = claimAt(claims, names.tenant)
  // One name, so that nothing is cut off.
  const tenants = typeof claim === 'string' ? [claim].filter((one) => one !== '') : namesIn(claim)
  if (tenants === undefined && claim !== undefined)
    return refused(names.tenant, 'names no tenant: it has to be a text, or a list of one text')
  if (tenants === undefined || tenants.length === 0) return refused(names.tenant, 'names no tenant')
  const [tenant = ''] = tenants
  if (tenants.length > 1) return refused(names.tenant, 'names several tenants: a token is for one')
  const given = claimAt(claims, names.roles)
  const roles = rolesIn(namesIn(given) ?? [], names.rolesPrefix)
  if (tenant === ALL) roles.delete('send')
  if (roles.size === 0) {
    const known = ROLES.map((role) => names.rolesPrefix + role).join(', ')
    return refused(
      names.roles,
      `has none of the roles ${known}${tenant === ALL ? '; one for all tenants cannot send' : ''}${formFault(given)}`,
    )
  }
  if (names.streams === undefined) return { ok: true, grant: { tenant, streams: undefined, roles } }
  const streams = namesIn(claimAt(claims, names.streams))
  if (streams === undefined || streams.length === 0)
    return refused(names.streams, `names no stream${formFault(claimAt(claims, names.streams))}`)
  if (streams.includes(ALL)) return { ok: true, grant: { tenant, streams: undefined, roles } }
  if (tenant === ALL)
    return refused(names.streams, `has to be ${JSON.stringify(ALL)} where the token is for all tenants`)
  return { ok: true, grant: { tenant, streams: new Set(streams), roles } }
}

/** Of a claim that is there, and names nothing because of its form. */
const formFault = (claim: unknown): string =>
  claim === undefined || namesIn(claim) !== undefined
    ? ''
    : ': it has to be a list of texts, or one text with spaces between the names'

const rolesIn = (names: readonly string[], prefix: string): Set<Role> =>
  new Set(ROLES.filter((role) => names.includes(prefix + role)))
