import {
  type Authorise,
  type Authorised,
  authorised,
  authoriseKey,
  type Proved,
  type Renewed,
  type Wanted,
} from './authorise.ts'
import { ALL } from './claims.ts'
import { givenIn } from './credentials.ts'
import { type OrProblem, refusal, refusedTo } from './problem.ts'
import type { Tenant, Tenants } from './tenants.ts'
import type { Bearer, TokenFound, Tokens } from './tokens.ts'

/** What is decided for whoever has a token, or has logged in with one. */

/** As keys begin, and no token does. */
const KEY_PREFIX = 'kt.'

/**
 * By key or token: what {@link authoriseBearer} and {@link authoriseKey} refuse. Decides at once, but for a token that was not verified before.
 * @param nowMs epoch
 */
export const authoriseByToken =
  (tokens: Pick<Tokens, 'find'>, nowMs: () => number = Date.now) =>
  (tenants: Tenants): Authorise =>
  (request, wanted) => {
    const given = givenIn(request, 'key or a token')
    if (!given.ok) return given
    if (given.key.startsWith(KEY_PREFIX)) return authoriseKey(given.key, tenants, wanted, nowMs)
    const decide = (found: TokenFound): Authorised =>
      found.ok ? authoriseBearer(found.bearer, () => found, tenants, wanted, nowMs) : found
    const found = tokens.find(given.key)
    return found instanceof Promise ? found.then(decide) : decide(found)
  }

/**
 * 401: the token has expired. 403: its tenant is not in the tenants file, or what {@link authorised} refuses.
 * @param now what is known of the bearer later
 */
export function authoriseBearer(
  bearer: Bearer,
  now: () => OrProblem<{ bearer: Bearer }>,
  tenants: Proved['tenants'],
  wanted: Wanted,
  nowMs: () => number = Date.now,
): Authorised {
  const first = senderOf(bearer, tenants)
  if (!first.ok) return first
  const renew = (): Renewed => {
    const found = now()
    return found.ok ? senderOf(found.bearer, tenants) : found
  }
  return authorised({ first: first.sender, now: renew, tenants, nowMs }, wanted)
}

function senderOf(
  { id, name, tenant: named, streams, roles, expiresAtMs }: Bearer,
  { list }: Proved['tenants'],
): Renewed {
  const rights = { keyId: id, ...(name === undefined ? {} : { name }), roles, validUntilMs: expiresAtMs }
  if (named === ALL) return { ok: true, sender: { ...rights, tenant: undefined, streams: undefined } }
  const tenant = tenantOf(list, named)
  if (tenant === undefined)
    return refusedTo(
      id,
      refusal('forbidden', `The token is for the tenant ${JSON.stringify(named)}, which TENANTS_FILE does not have.`),
    )
  return { ok: true, sender: { ...rights, tenant, streams: streams?.intersection(tenant.streams) } }
}

/** Lists are not changed, but replaced. */
const byName = new WeakMap<readonly Tenant[], Map<string, Tenant>>()

function tenantOf(list: readonly Tenant[], name: string): Tenant | undefined {
  let tenants = byName.get(list)
  if (tenants === undefined) {
    tenants = new Map(list.map((tenant) => [tenant.name, tenant]))
    byName.set(list, tenants)
  }
  return tenants.get(name)
}
