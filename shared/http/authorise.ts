import { DEFAULT_TENANT } from '../events/topics.ts'
import { isoTime } from '../service/time.ts'
import { CHALLENGE_INVALID, credentialOf, givenIn } from './credentials.ts'
import { websiteFault } from './http.ts'
import { type AuthenticationFailure, type OrProblem, refusal, refusedTo } from './problem.ts'
import { type Credential, type Quota, ROLES, type Role, type Tenant, type Tenants } from './tenants.ts'

/** Whether a request may do what it asks for: the one place with the rules of keys, roles, tenants and streams. */

/** The stream of a request that names none. With AUTH=off it always exists. */
export const DEFAULT_STREAM = 'events'

export interface Wanted {
  /** undefined: any. */
  role: Role | undefined
  /** undefined: the key's own, or, for an operator's key, the only one. */
  tenant: string | undefined
  /** undefined: no stream in particular. */
  stream: string | undefined
}

export type Authorised = OrProblem<{
  tenant: Tenant
  /** The tenant's streams that the key is for. */
  streams: ReadonlySet<string>
  /** undefined with AUTH=off. */
  keyId: string | undefined
  /** Of what is sent with the key, besides the tenant's. */
  keyQuota: Quota | undefined
  /** As people call the key, or whoever has the token. */
  name: string | undefined
  roles: ReadonlySet<Role>
  /** All that the key is for. */
  everything(): { tenant: Tenant; streams: ReadonlySet<string> }[]
  /** Decides the same once more, by the tenants and the time of then: for answers that last. */
  again(): Authorised
}>

/** A promise only where something has to be asked for first. */
export type Authorise = (request: Request, wanted: Wanted) => Authorised | Promise<Authorised>

/**
 * By key. 400: keys that differ, or an operator's key without a tenant where there are several. 401: no key, or an unknown one, or one that is not valid now.
 * 403: the key lacks the role; it is for another tenant, or its tenant is disabled; or it is not for this stream. The answer is the same whether or not that
 * tenant or stream exists. 404: no such tenant, for an operator's key; or the tenant has no such stream.
 * @param nowMs epoch
 */
export const authoriseByKey =
  (tenants: Tenants, nowMs: () => number = Date.now) =>
  (request: Request, wanted: Wanted): Authorised => {
    const given = givenIn(request)
    return given.ok ? authoriseKey(given.key, tenants, wanted, nowMs) : given
  }

export function authoriseKey(key: string, tenants: Tenants, wanted: Wanted, nowMs: () => number): Authorised {
  const found = credentialOf(key, tenants)
  if (!found.ok) return found
  const { credential } = found
  const now = (): Renewed => {
    const sender = tenants.again(credential)
    return sender === undefined ? revoked(credential.keyId) : { ok: true, sender }
  }
  return authorised({ first: credential, now, tenants, nowMs }, wanted)
}

const revoked = (keyId: string) =>
  refusal('unauthenticated', `The key ${keyId} is not accepted any more: it was removed.`, CHALLENGE_INVALID, 'unknown')

/** With AUTH=off, and without a tenants file: the one tenant. */
export const onlyTenant = (streams: readonly string[] = []): Tenant => ({
  name: DEFAULT_TENANT,
  enabled: true,
  streams: new Set([DEFAULT_STREAM, ...streams]),
  streamQuotas: new Map(),
  origins: new Set(),
  redact: new Map(),
  schemas: new Map(),
  sources: new Map(),
})

/** With AUTH=off: every request may do everything with the streams of one tenant. 403: it may be from a website. */
export function authoriseNobody(
  tenants: Pick<Tenants, 'list'> = { list: [onlyTenant()] },
): (request: Request, wanted: Wanted) => Authorised {
  const everybody = { keyId: undefined, tenant: undefined, streams: undefined, roles: new Set(ROLES) }
  const now = (): Renewed => ({ ok: true, sender: everybody })
  /** Most requests have the same host. */
  let known: string | null = null
  return ({ headers }, wanted) => {
    const host = headers.get('host')
    if (host !== known || headers.has('origin')) {
      const fault = websiteFault(headers, tenants.list[0]?.origins ?? new Set())
      if (fault !== undefined) return refusal('forbidden', fault)
      known = host
    }
    return authorised({ first: everybody, now, tenants, nowMs: Date.now }, wanted)
  }
}

export type Sender = Omit<Credential, 'keyId'> & { keyId: string | undefined }

export type Renewed = OrProblem<{ sender: Sender }>

/** A sender that a request has proved to be one. */
export interface Proved {
  first: Sender
  /** What the sender is later, by what is known then; a problem once it is not accepted any more. */
  now(): Renewed
  tenants: Pick<Tenants, 'list'>
  /** Epoch. */
  nowMs(): number
}

/** What is wanted, decided now and as often as it is asked for again. */
export function authorised({ first, now, tenants, nowMs }: Proved, wanted: Wanted): Authorised {
  const decided = (sender: Sender): Authorised => {
    const found = decide(sender, tenants.list, wanted, nowMs, again)
    return found.ok ? found : refusedTo(sender.keyId, found)
  }
  const again = (): Authorised => {
    const renewed = now()
    return renewed.ok ? decided(renewed.sender) : renewed
  }
  return decided(first)
}

function decide(
  sender: Sender,
  list: readonly Tenant[],
  wanted: Wanted,
  nowMs: () => number,
  again: () => Authorised,
): Authorised {
  const { keyId, quota: keyQuota, roles } = sender
  const untimely = timeFault(sender, nowMs)
  if (untimely !== undefined) return refusal('unauthenticated', untimely.detail, CHALLENGE_INVALID, untimely.failure)
  if (wanted.role !== undefined && !roles.has(wanted.role))
    return refusal('forbidden', withoutRole(sender, wanted.role))
  const found = sender.tenant === undefined ? namedTenant(list, wanted) : ownTenant(sender, sender.tenant, wanted)
  if (!found.ok) return found
  const { tenant } = found
  const streamsOf = ({ streams }: Tenant): ReadonlySet<string> => sender.streams ?? streams
  const streams = streamsOf(tenant)
  const everything = () =>
    (sender.tenant === undefined ? list : [tenant]).map((one) => ({ tenant: one, streams: streamsOf(one) }))
  if (wanted.stream === undefined || streams.has(wanted.stream))
    return { ok: true, tenant, streams, keyId, keyQuota, name: sender.name, roles, everything, again }
  if (streams.size === tenant.streams.size)
    return refusal('unknown-stream', `The tenant ${tenant.name} has the streams: ${[...tenant.streams].join(', ')}.`)
  return refusal('forbidden', `The ${called(sender)} is for these streams: ${[...streams].join(', ')}.`)
}

/** The ids of keys have no colon. */
export const TOKEN_ID_PREFIX = 'jwt:'

const isOfToken = (keyId: string | undefined): boolean => keyId?.startsWith(TOKEN_ID_PREFIX) === true

const called = ({ keyId, isCertificate }: Sender): string =>
  `${isOfToken(keyId) ? 'token of' : isCertificate === true ? 'certificate' : 'key'} ${keyId}`

/** Who acts, for the records of acts: of a person the name, too, which is no proof, since people can change theirs. */
export const actorOf = ({
  keyId,
  name,
}: {
  keyId: string | undefined
  name: string | undefined
}): string | undefined => (isOfToken(keyId) && name !== undefined ? `${keyId} (${name})` : keyId)

/** Why a key is not valid now. */
function timeFault(
  sender: Sender,
  nowMs: () => number,
): { failure: AuthenticationFailure; detail: string } | undefined {
  const { validFromMs, validUntilMs } = sender
  if (validFromMs !== undefined && nowMs() < validFromMs)
    return {
      failure: 'not_yet_valid',
      detail: `The ${called(sender)} is not valid yet: it will be from ${isoTime(validFromMs)} on.`,
    }
  if (validUntilMs !== undefined && nowMs() >= validUntilMs)
    return {
      failure: 'expired',
      detail: `The ${called(sender)} has expired: it was valid until ${isoTime(validUntilMs)}.`,
    }
  return undefined
}

type Found = OrProblem<{ tenant: Tenant }>

function ownTenant(sender: Sender, tenant: Tenant, wanted: Wanted): Found {
  if (wanted.tenant !== undefined && wanted.tenant !== tenant.name)
    return refusal(
      'forbidden',
      `The ${called(sender)} is for the tenant ${tenant.name} only.`,
      undefined,
      'wrong_tenant',
    )
  return tenant.enabled ? { ok: true, tenant } : refusal('forbidden', `The tenant ${tenant.name} is switched off.`)
}

/** For operators, also a disabled one. Where no role is wanted, any does. */
function namedTenant(list: readonly Tenant[], { tenant: name, role }: Wanted): Found {
  if (name === undefined && list.length !== 1 && (role !== undefined || list.length === 0))
    return refusal(
      'malformed',
      `The key is for all tenants: name one with the query parameter "tenant". ${those(list)}`,
    )
  const tenant = name === undefined ? list[0] : list.find((one) => one.name === name)
  return tenant === undefined
    ? refusal('unknown-tenant', `There is no such tenant. ${those(list)}`)
    : { ok: true, tenant }
}

const MAX_NAMED_TENANTS = 20

function those(list: readonly Tenant[]): string {
  if (list.length === 0) return 'There are none.'
  const names = list.slice(0, MAX_NAMED_TENANTS).map(({ name }) => name)
  const more = list.length - names.length
  return `The tenants are: ${names.join(', ')}${more > 0 ? `, and ${more} more` : ''}.`
}

const MAY: Readonly<Record<Role, string>> = {
  send: 'send events',
  read: 'read events',
  operate: 'change what becomes of events',
}

function withoutRole(sender: Sender, role: Role): string {
  const { keyId, tenant, roles } = sender
  const has = `it has the ${roles.size === 1 ? 'role' : 'roles'} ${[...roles].join(', ')}`
  const remedy =
    role === 'send' && tenant === undefined
      ? 'Events are sent with a key of their tenant.'
      : `It needs the role ${role}, which ${isOfToken(keyId) ? 'the issuer of its token' : 'TENANTS_FILE'} can give it.`
  return `The ${called(sender)} may not ${MAY[role]}: ${has}. ${remedy}`
}
