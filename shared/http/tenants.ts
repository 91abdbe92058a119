import { createHash, timingSafeEqual } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { type Static, type TObject, type TProperties, Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { isTime } from '../events/event.ts'
import { anyJson, outlineJson, placed } from '../events/json.ts'
import { readJson, TwiceError } from '../events/json-in-slices.ts'
import { isPointer } from '../events/json-pointer.ts'
import { NAME_PATTERN } from '../events/topics.ts'
import { ConfigError } from '../service/config.ts'
import { NAME_RULE, schemaFaults } from '../service/schema-faults.ts'
import { atOnce, inSlices, type Sliced } from '../service/slices.ts'
import { messageOf } from '../service/thrown.ts'

/** Tenants, their streams, quotas and API keys, and operators' keys: one JSON file. */

const closed = <T extends TProperties>(properties: T) => Type.Object(properties, { additionalProperties: false })

const Name = Type.String({ pattern: NAME_PATTERN, description: `a name: ${NAME_RULE}` })

/** What a key may do. No role includes another. */
export const ROLES = ['send', 'read', 'operate'] as const
export type Role = (typeof ROLES)[number]

/** Not a union of literals, whose faults do not name what is allowed. */
const rolesAmong = <R extends Role>(...roles: readonly R[]) =>
  Type.Optional(
    Type.Array(
      Type.Unsafe<R>(Type.String({ pattern: `^(${roles.join('|')})$`, description: `one of ${roles.join(', ')}` })),
      { minItems: 1, uniqueItems: true },
    ),
  )

const keyMembers = {
  /** Unique in the file; part of the key, and its name in logs. */
  id: Name,
  /** SHA-256 of the whole key, hex. A key has 256 random bits, so a slow hash is not needed. */
  sha256: Type.String({ pattern: '^[0-9a-f]{64}$', description: 'a SHA-256: 64 lower-case hexadecimal digits' }),
  /** Whose it is or what for, as tools show it; logs have the id. */
  name: Type.Optional(
    Type.String({
      pattern: '^[^\\u0000-\\u001f\\u007f-\\u009f]{1,100}$',
      description: 'a text of 1 to 100 characters in one line',
    }),
  ),
  /** RFC 3339 with an offset. Absent: valid at once. */
  notBefore: Type.Optional(Type.String()),
  /** The first moment at which it is not valid any more. Absent: never. */
  expiresAt: Type.Optional(Type.String()),
}

type KeyMembers = Static<TObject<typeof keyMembers>>

/** A client certificate that stands for the tenant, as a key does. Exactly one of `san` and `subject`. */
const CertificateDeclaration = closed({
  /** Unique among the ids of keys; its name in logs. */
  id: Name,
  /** One of its subject alternative names (RFC 5280, section 4.2.1.6): `DNS:`, `URI:` or `email:`, then the name. */
  san: Type.Optional(Type.String()),
  /** All of its subject, as in RFC 2253. */
  subject: Type.Optional(Type.String()),
  /** As of keys. */
  streams: Type.Optional(Type.Array(Name, { minItems: 1 })),
  roles: rolesAmong(...ROLES),
})
type CertificateDeclaration = Static<typeof CertificateDeclaration>

/** What a certificate is known by: as `namesOf` in client-certificates.ts gives the names of one that a client shows. */
const certificateName = ({ san, subject = '' }: CertificateDeclaration): string =>
  san === undefined ? `subject:${subject}` : san.startsWith('DNS:') ? `DNS:${san.slice(4).toLowerCase()}` : san

/** The burst is what may be sent at once after a pause; by default as much as in a second. */
const QuotaDeclaration = closed({
  eventsPerSecond: Type.Number({ exclusiveMinimum: 0 }),
  bytesPerSecond: Type.Optional(Type.Number({ exclusiveMinimum: 0 })),
  burstEvents: Type.Optional(Type.Number({ minimum: 1 })),
  burstBytes: Type.Optional(Type.Number({ minimum: 1 })),
})

/** A source of webhooks. Its kind, in the producer, says what else it has. */
const SourceDeclaration = Type.Object({ kind: Type.String({ minLength: 1 }), stream: Name })
export type SourceDeclaration = Static<typeof SourceDeclaration> & Readonly<Record<string, unknown>>

/** What is done with events that are not as their schema wants them. */
export const SCHEMA_CHECKS = ['off', 'warn', 'enforce'] as const
export const SCHEMA_OTHER_TYPES = ['accept', 'refuse'] as const
export const SCHEMA_WHILE_UNKNOWN = ['refuse', 'accept'] as const

const option = <O extends string>(...options: readonly O[]) =>
  Type.Optional(
    Type.Unsafe<O>(Type.String({ pattern: `^(${options.join('|')})$`, description: `one of ${options.join(', ')}` })),
  )

/** How the events of a stream are checked by the schemas of their types. */
const SchemasDeclaration = closed({
  /** warn: events that are not as their schema wants them are counted, logged and stored. Absent: enforce, they are refused. */
  check: option(...SCHEMA_CHECKS),
  /** Events of types without a schema. Absent: accept. */
  otherTypes: option(...SCHEMA_OTHER_TYPES),
  /** Events of which it is not known whether their type has a schema, as while the registry cannot be reached. Absent: refuse, with 503, or with warn accept. */
  whileUnknown: option(...SCHEMA_WHILE_UNKNOWN),
})
/** With the defaults filled in. */
export type StreamSchemas = Required<Static<typeof SchemasDeclaration>>

const TenantsFile = closed({
  tenants: Type.Record(
    Name,
    closed({
      /** false: every key of the tenant is refused with 403. */
      enabled: Type.Optional(Type.Boolean()),
      streams: Type.Array(Name, { minItems: 1 }),
      /** Absent: no quota. */
      quota: Type.Optional(QuotaDeclaration),
      /** By stream, of what is sent to it; besides the tenant's. */
      streamQuotas: Type.Optional(Type.Record(Type.String(), QuotaDeclaration)),
      keys: Type.Array(
        closed({
          ...keyMembers,
          /** Absent: all of the tenant's. */
          streams: Type.Optional(Type.Array(Name, { minItems: 1 })),
          /** Absent: `send`. */
          roles: rolesAmong(...ROLES),
          /** Of what is sent with this key; besides the tenant's. */
          quota: Type.Optional(QuotaDeclaration),
        }),
      ),
      /** With TLS_CLIENT_CA_FILE. Absent: none. */
      certificates: Type.Optional(Type.Array(CertificateDeclaration)),
      /** Web origins (RFC 6454) whose pages may send events with the tenant's keys. Absent: none. */
      origins: Type.Optional(Type.Array(Type.String(), { uniqueItems: true })),
      /** By stream: RFC 6901 pointers into the data of its events, to what the console does not show. "" is all of it. */
      redact: Type.Optional(Type.Record(Type.String(), Type.Array(Type.String()))),
      /** By stream. Absent: events are not checked. */
      schemas: Type.Optional(Type.Record(Type.String(), SchemasDeclaration)),
      /** By name, which is unique in the file: webhooks go to /v1/sources/NAME, without a key. */
      sources: Type.Optional(Type.Record(Name, SourceDeclaration, { additionalProperties: false })),
    }),
    { additionalProperties: false },
  ),
  /** Keys for all tenants. Roles absent: `read`. */
  operators: Type.Optional(Type.Array(closed({ ...keyMembers, roles: rolesAmong('read', 'operate') }))),
})
export type TenantsFile = Static<typeof TenantsFile>

const check = TypeCompiler.Compile(TenantsFile)

/** A tenant's rate limits, with the bursts filled in. */
export interface Quota {
  events: Rate
  bytes?: Rate
}

export interface Rate {
  perSecond: number
  burst: number
}

export interface Tenant {
  name: string
  enabled: boolean
  streams: ReadonlySet<string>
  quota?: Quota
  /** By stream, besides the tenant's. */
  streamQuotas: ReadonlyMap<string, Quota>
  /** Web origins whose pages may send events. */
  origins: ReadonlySet<string>
  /** By stream: pointers (RFC 6901) into the data of its events, to what the console does not show. */
  redact: ReadonlyMap<string, readonly string[]>
  /** By stream; those alone whose events are checked. */
  schemas: ReadonlyMap<string, StreamSchemas>
  sources: ReadonlyMap<string, SourceDeclaration>
}

/** A key that was recognised. */
export interface Credential {
  keyId: string
  /** It is a client certificate, and no key. */
  isCertificate?: true
  /** As people call it. */
  name?: string
  /** undefined: an operator's, for all tenants. */
  tenant: Tenant | undefined
  /** The streams that this key is for; undefined: all of the tenant, or of all tenants. */
  streams: ReadonlySet<string> | undefined
  roles: ReadonlySet<Role>
  /** Of what is sent with it, besides the tenant's. */
  quota?: Quota
  /** Epoch, ms: the first moment at which it is valid. undefined: it always was. */
  validFromMs?: number
  /** Epoch, ms: the first moment at which it is not valid any more. undefined: never. */
  validUntilMs?: number
}

/** What a tenants file says. Of one that is read again, each answer is by what it says then. */
export interface Tenants {
  readonly list: readonly Tenant[]
  /** By the key's id. */
  readonly credentials: ReadonlyMap<string, Credential>
  /** The credential of a key, also of one that is not valid now; undefined when the key is unknown. */
  find(key: string): Credential | undefined
  /** What a key is for now that was found before, maybe in an earlier state of the file; undefined: it is not in the file any more. */
  again(found: Credential): Credential | undefined
  /** The credentials of a client certificate, by its names: none when it is unknown, several when it is not clear which it is. */
  certified(names: readonly string[]): readonly Credential[]
  /** SHA-256 of the file; undefined where there is none. */
  readonly digest?: string
}

/** `kt.<id>.<secret>`: the id finds the key's entry without comparing secrets. */
export const makeKey = (id: string): { key: string; sha256: string } => {
  const key = `kt.${id}.${Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString('base64url')}`
  return { key, sha256: digest(key).toString('hex') }
}

const digest = (key: string): Buffer => createHash('sha256').update(key).digest()

// Compared with when the id is unknown, so that it takes as long as for a known one.
const NO_DIGEST = Buffer.alloc(32)

/** What has a brace is the file's content, which has secrets of webhooks, in place of its path. */
const unreadable = (path: string, error: unknown): ConfigError =>
  new ConfigError([
    path.includes('{')
      ? 'TENANTS_FILE is to name a file, and has JSON (not shown). Is this the content of the file?'
      : `TENANTS_FILE=${path} cannot be read: ${messageOf(error)}`,
  ])

/** @throws ConfigError naming every fault of the file */
export function loadTenants(path: string): Tenants {
  let bytes: Buffer
  try {
    bytes = readFileSync(path)
  } catch (error) {
    throw unreadable(path, error)
  }
  return atOnce(tenantsIn(bytes, digestOf(bytes), path))
}

/**
 * Reads the file again, in slices: a file of many keys takes a while.
 * @param known what it said before: the first is in use
 * @returns one of these where the file says the same
 * @throws ConfigError naming every fault of the file
 */
export async function reloadTenants(path: string, known: readonly [Tenants, ...Tenants[]]): Promise<Tenants> {
  let bytes: Buffer
  try {
    bytes = await readFile(path)
  } catch (error) {
    throw unreadable(path, error)
  }
  const digest = digestOf(bytes)
  return known.find((one) => one.digest === digest) ?? inSlices(tenantsIn(bytes, digest, path, known[0]))
}

const digestOf = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

/** @throws ConfigError */
function* tenantsIn(bytes: Buffer, digest: string, path: string, before?: Tenants): Sliced<Tenants> {
  const file = yield* fileIn(bytes, path)
  return { ...(yield* tenantsFrom(file, before)), digest }
}

/** @throws ConfigError */
function* fileIn(bytes: Buffer, path: string): Sliced<TenantsFile> {
  const parsed = yield* parsedFrom(bytes, path)
  const faults = yield* faultsIn(parsed)
  if (faults.length > 0) throw new ConfigError(faults.map((fault) => `TENANTS_FILE=${path}: ${fault}`))
  return parsed as TenantsFile
}

/** What a tenants file says. @throws ConfigError naming every fault of it */
export const tenantsFileIn = (bytes: Buffer, path: string): TenantsFile => atOnce(fileIn(bytes, path))

const MAX_DEPTH = 64

/** @throws ConfigError */
function* parsedFrom(bytes: Buffer, path: string): Sliced<unknown> {
  try {
    return yield* readJson(bytes, MAX_DEPTH)
  } catch (error) {
    if (error instanceof TwiceError && error.pointer !== '')
      throw new ConfigError([
        `TENANTS_FILE=${path} has a member twice: ${JSON.stringify(error.member)}, at ${error.pointer}`,
      ])
    // Says where.
    const outlined = outlineJson(bytes, anyJson(MAX_DEPTH))
    const why = outlined.ok ? messageOf(error) : placed(outlined.fault.detail, bytes)
    throw new ConfigError([`TENANTS_FILE=${path} is no JSON: ${why}`])
  }
}

/** Every fault of a tenants file. */
export const tenantsFaults = (file: unknown): string[] => atOnce(faultsIn(file))

function* faultsIn(file: unknown): Sliced<string[]> {
  if (!check.Check(file)) return schemaFaults(check.Errors(file))
  yield
  const faults: string[] = []
  const ownership = (what: string, of = '') => {
    const owners = new Map<string, string>()
    return (id: string, name: string): void => {
      const owner = owners.get(id)
      if (owner !== undefined) faults.push(`the ${what} ${id}${of} is given twice, by ${owner} and ${name}`)
      owners.set(id, name)
    }
  }
  const own = ownership('id', ' of a key or certificate')
  const idOfHash = new Map<string, string>()
  // A hash is of the whole key, which has its id in it.
  const ownHash = ({ id, sha256 }: KeyMembers): void => {
    const other = idOfHash.get(sha256)
    if (other !== undefined && other !== id)
      faults.push(`the keys ${other} and ${id} have the same sha256, so that one of them lets nobody in`)
    idOfHash.set(sha256, id)
  }
  const ownName = ownership('certificate')
  const ownSource = ownership('source')
  for (const [name, tenant] of Object.entries(file.tenants)) {
    const known = new Set(tenant.streams)
    for (const key of tenant.keys) {
      own(key.id, name)
      ownHash(key)
      faults.push(...timeFaults(key))
      yield
      for (const stream of key.streams ?? [])
        if (!known.has(stream)) faults.push(`the key ${key.id} names the stream ${stream}, which ${name} does not have`)
    }
    for (const certificate of tenant.certificates ?? []) {
      const { id, streams } = certificate
      own(id, name)
      const fault = certificateFault(certificate)
      if (fault === undefined) ownName(certificateName(certificate), name)
      else faults.push(fault)
      for (const stream of streams ?? [])
        if (!known.has(stream))
          faults.push(`the certificate ${id} names the stream ${stream}, which ${name} does not have`)
    }
    for (const [source, { stream }] of Object.entries(tenant.sources ?? {})) {
      ownSource(source, name)
      if (!known.has(stream))
        faults.push(`the source ${source} names the stream ${stream}, which ${name} does not have`)
    }
    for (const what of ['schemas', 'streamQuotas', 'redact'] as const)
      for (const stream of Object.keys(tenant[what] ?? {}))
        if (!known.has(stream)) faults.push(`${what} of ${name} names the stream ${stream}, which it does not have`)
    for (const [stream, pointers] of Object.entries(tenant.redact ?? {}))
      for (const pointer of pointers)
        if (!isPointer(pointer))
          faults.push(`redact of ${name} has ${JSON.stringify(pointer)} for ${stream}, which is no JSON pointer`)
    for (const origin of tenant.origins ?? [])
      if (!isWebOrigin(origin))
        faults.push(
          `origins of ${name} has ${JSON.stringify(origin)}, which is no web origin, such as https://app.example or http://localhost:3000`,
        )
  }
  for (const key of file.operators ?? []) {
    own(key.id, 'the operators')
    ownHash(key)
    faults.push(...timeFaults(key))
  }
  return faults
}

function certificateFault({ id, san, subject }: CertificateDeclaration): string | undefined {
  if ((san === undefined) === (subject === undefined))
    return `the certificate ${id} needs one of san and subject, and not both`
  if (san !== undefined && !SAN.test(san))
    return `san of the certificate ${id} is ${JSON.stringify(san)}, which is none of DNS:NAME, URI:NAME and email:NAME`
  return subject === '' ? `subject of the certificate ${id} is empty` : undefined
}

const SAN = /^(?:DNS|URI|email):[!-~]+$/

const TIME_FORM = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)$/

function timeFaults({ id, ...times }: { id: string; notBefore?: string; expiresAt?: string }): string[] {
  const faults: string[] = []
  for (const name of ['notBefore', 'expiresAt'] as const) {
    const text = times[name]
    if (text === undefined || isTime(text)) continue
    const why = TIME_FORM.test(text)
      ? 'which does not exist: there is no such day or time'
      : 'which is no time of RFC 3339 with an offset, such as 2026-12-31T23:59:59Z'
    faults.push(`${name} of the key ${id} is ${JSON.stringify(text)}, ${why}`)
  }
  const { notBefore, expiresAt } = times
  if (notBefore !== undefined && expiresAt !== undefined && Date.parse(notBefore) >= Date.parse(expiresAt))
    faults.push(`the key ${id} is never valid: its notBefore is not before its expiresAt`)
  return faults
}

/** As browsers send it: with the host in lower case, and without the scheme's own port. */
const isWebOrigin = (text: string): boolean =>
  /^https?:[^*]+$/.test(text) && URL.canParse(text) && new URL(text).origin === text

const rate = (perSecond: number, burst = Math.max(1, perSecond)): Rate => ({ perSecond, burst })

const quotaOf = ({
  eventsPerSecond,
  burstEvents,
  bytesPerSecond,
  burstBytes,
}: Static<typeof QuotaDeclaration>): Quota => ({
  events: rate(eventsPerSecond, burstEvents),
  ...(bytesPerSecond === undefined ? {} : { bytes: rate(bytesPerSecond, burstBytes) }),
})

type TenantDeclaration = Omit<TenantsFile['tenants'][string], 'keys' | 'certificates'>

/** What a tenant was made of. */
const declarations = new WeakMap<Tenant, string>()

function tenantOf(name: string, declaration: TenantDeclaration): Tenant {
  const {
    enabled = true,
    streams,
    quota,
    streamQuotas = {},
    origins = [],
    redact = {},
    schemas = {},
    sources = {},
  } = declaration
  return {
    name,
    enabled,
    streams: new Set(streams),
    ...(quota === undefined ? {} : { quota: quotaOf(quota) }),
    streamQuotas: new Map(Object.entries(streamQuotas).map(([stream, one]) => [stream, quotaOf(one)])),
    origins: new Set(origins),
    redact: new Map(Object.entries(redact)),
    schemas: new Map(
      Object.entries(schemas)
        .map(([stream, { check = 'enforce', otherTypes = 'accept', whileUnknown }]): [string, StreamSchemas] => [
          stream,
          { check, otherTypes, whileUnknown: whileUnknown ?? (check === 'warn' ? 'accept' : 'refuse') },
        ])
        .filter(([, { check }]) => check !== 'off'),
    ),
    sources: new Map(Object.entries(sources)),
  }
}

/** Of the key of a credential, or of a certificate's name. */
const hashes = new WeakMap<Credential, Buffer>()

/**
 * Tenants of a file without faults.
 * @param before of an earlier state of the file: a tenant of which both say the same, its keys apart, stays the same object, so that what was made for it may
 *   stay, too
 */
export const tenantsOf = (file: TenantsFile, before?: Tenants): Tenants => atOnce(tenantsFrom(file, before))

function* tenantsFrom(file: TenantsFile, before?: Tenants): Sliced<Tenants> {
  const list: Tenant[] = []
  const credentials = new Map<string, Credential>()
  const certified = new Map<string, Credential>()
  const known = new Map(before?.list.map((tenant) => [tenant.name, tenant]))
  const add = (
    { id, sha256, name, notBefore, expiresAt, quota }: KeyMembers & { quota?: Static<typeof QuotaDeclaration> },
    rights: Pick<Credential, 'tenant' | 'streams' | 'roles'>,
  ): void => {
    const credential: Credential = {
      keyId: id,
      ...rights,
      ...(name === undefined ? {} : { name }),
      ...(quota === undefined ? {} : { quota: quotaOf(quota) }),
      ...(notBefore === undefined ? {} : { validFromMs: Date.parse(notBefore) }),
      ...(expiresAt === undefined ? {} : { validUntilMs: Date.parse(expiresAt) }),
    }
    hashes.set(credential, Buffer.from(sha256, 'hex'))
    credentials.set(id, credential)
  }
  for (const [name, { keys, certificates = [], ...declaration }] of Object.entries(file.tenants)) {
    const text = JSON.stringify(declaration)
    const earlier = known.get(name)
    const isSame = earlier !== undefined && declarations.get(earlier) === text
    const tenant = isSame ? earlier : tenantOf(name, declaration)
    declarations.set(tenant, text)
    list.push(tenant)
    for (const one of keys) {
      add(one, {
        tenant,
        streams: one.streams === undefined ? undefined : new Set(one.streams),
        roles: new Set<Role>(one.roles ?? ['send']),
      })
      yield
    }
    for (const one of certificates) {
      const credential: Credential = {
        keyId: one.id,
        isCertificate: true,
        tenant,
        streams: one.streams === undefined ? undefined : new Set(one.streams),
        roles: new Set<Role>(one.roles ?? ['send']),
      }
      hashes.set(credential, digest(certificateName(one)))
      credentials.set(one.id, credential)
      certified.set(certificateName(one), credential)
      yield
    }
  }
  for (const one of file.operators ?? [])
    add(one, { tenant: undefined, streams: undefined, roles: new Set<Role>(one.roles ?? ['read']) })
  return {
    list,
    credentials,
    certified: (names) => [...new Set(names.flatMap((name) => certified.get(name) ?? []))],
    find(key) {
      const credential = credentials.get(KEY.exec(key)?.[1] ?? '')
      const hash = credential && hashes.get(credential)
      return timingSafeEqual(digest(key), hash ?? NO_DIGEST) ? credential : undefined
    },
    again(found) {
      const credential = credentials.get(found.keyId)
      const [now, then] = [credential && hashes.get(credential), hashes.get(found)]
      return now !== undefined && then !== undefined && now.equals(then) ? credential : undefined
    },
  }
}

const KEY = /^kt\.([a-z0-9_-]+)\./
