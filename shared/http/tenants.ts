import { createHash, timingSafeEqual } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { type Static, type TProperties, Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { anyJson, outlineJson, placed } from '../events/json.ts'
import { isPointer, pointerTo } from '../events/json-pointer.ts'
import { NAME_PATTERN } from '../events/topics.ts'
import { ConfigError } from '../service/config.ts'
import { NAME_RULE, schemaFaults } from '../service/schema-faults.ts'

/** Tenants, their streams, quotas and API keys, and operators' keys: one JSON file, read at the start. */

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

const key = {
  /** Unique in the file; part of the key, and its name in logs. */
  id: Name,
  /** SHA-256 of the whole key, hex. A key has 256 random bits, so a slow hash is not needed. */
  sha256: Type.String({ pattern: '^[0-9a-f]{64}$', description: 'a SHA-256: 64 lower-case hexadecimal digits' }),
}

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
      /** Absent: no quota. The burst is what the tenant may send at once after a pause; by default as much as in a second. */
      quota: Type.Optional(
        closed({
          eventsPerSecond: Type.Number({ exclusiveMinimum: 0 }),
          bytesPerSecond: Type.Optional(Type.Number({ exclusiveMinimum: 0 })),
          burstEvents: Type.Optional(Type.Number({ minimum: 1 })),
          burstBytes: Type.Optional(Type.Number({ minimum: 1 })),
        }),
      ),
      keys: Type.Array(
        closed({
          ...key,
          /** Absent: all of the tenant's. */
          streams: Type.Optional(Type.Array(Name, { minItems: 1 })),
          /** Absent: `send`. */
          roles: rolesAmong(...ROLES),
        }),
      ),
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
  operators: Type.Optional(Type.Array(closed({ ...key, roles: rolesAmong('read', 'operate') }))),
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
  /** By stream: pointers (RFC 6901) into the data of its events, to what the console does not show. */
  redact: ReadonlyMap<string, readonly string[]>
  /** By stream; those alone whose events are checked. */
  schemas: ReadonlyMap<string, StreamSchemas>
  sources: ReadonlyMap<string, SourceDeclaration>
}

/** A key that was recognised. */
export interface Credential {
  keyId: string
  /** undefined: an operator's, for all tenants. */
  tenant: Tenant | undefined
  /** The streams that this key is for; undefined: all of the tenant, or of all tenants. */
  streams: ReadonlySet<string> | undefined
  roles: ReadonlySet<Role>
}

export interface Tenants {
  list: readonly Tenant[]
  /** The credential of a key; undefined when the key is unknown. */
  find(key: string): Credential | undefined
}

/** `kt.<id>.<secret>`: the id finds the key's entry without comparing secrets. */
export const makeKey = (id: string): { key: string; sha256: string } => {
  const key = `kt.${id}.${Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString('base64url')}`
  return { key, sha256: digest(key).toString('hex') }
}

const digest = (key: string): Buffer => createHash('sha256').update(key).digest()

// Compared with when the id is unknown, so that it takes as long as for a known one.
const NO_DIGEST = Buffer.alloc(32)

/** @throws ConfigError naming every fault of the file */
export function loadTenants(path: string): Tenants {
  let bytes: Buffer
  try {
    bytes = readFileSync(path)
  } catch (error) {
    throw new ConfigError([`TENANTS_FILE=${path} cannot be read: ${(error as Error).message}`])
  }
  const fault = jsonFault(bytes)
  if (fault !== undefined) throw new ConfigError([`TENANTS_FILE=${path} ${fault}`])
  const parsed: unknown = JSON.parse(bytes.toString('utf8'))
  const faults = tenantsFaults(parsed)
  if (faults.length > 0) throw new ConfigError(faults.map((fault) => `TENANTS_FILE=${path}: ${fault}`))
  return tenantsOf(parsed as TenantsFile)
}

const ANY_JSON = anyJson(64)

/** Why a file is no JSON, or where an object has a member twice, of which JSON.parse would take the last. */
function jsonFault(bytes: Buffer, path = ''): string | undefined {
  const result = outlineJson(bytes, ANY_JSON)
  if (!result.ok) {
    const { detail } = result.fault
    if (path !== '') return `has a member twice, at ${path}`
    return `is no JSON: ${placed(detail, bytes)}`
  }
  const { outline } = result
  if (outline.root === 'scalar') return undefined
  for (const [index, span] of (outline.root === 'object' ? outline.members : outline.elements).entries()) {
    if (span.kind !== 'object' && span.kind !== 'array') continue
    const step = 'name' in span ? span.name : String(index)
    const fault = jsonFault(bytes.subarray(span.start, span.end), path + pointerTo(step))
    if (fault !== undefined) return fault
  }
  return undefined
}

/** Every fault of a tenants file. */
export function tenantsFaults(file: unknown): string[] {
  if (!check.Check(file)) return schemaFaults(check.Errors(file))
  const faults: string[] = []
  const ownership = (what: string) => {
    const owners = new Map<string, string>()
    return (id: string, name: string): void => {
      const owner = owners.get(id)
      if (owner !== undefined) faults.push(`the ${what} ${id} is given twice, by ${owner} and ${name}`)
      owners.set(id, name)
    }
  }
  const own = ownership('key id')
  const ownSource = ownership('source')
  for (const [name, tenant] of Object.entries(file.tenants)) {
    for (const { id, streams } of tenant.keys) {
      own(id, name)
      for (const stream of streams ?? [])
        if (!tenant.streams.includes(stream))
          faults.push(`the key ${id} names the stream ${stream}, which ${name} does not have`)
    }
    for (const [source, { stream }] of Object.entries(tenant.sources ?? {})) {
      ownSource(source, name)
      if (!tenant.streams.includes(stream))
        faults.push(`the source ${source} names the stream ${stream}, which ${name} does not have`)
    }
    for (const stream of Object.keys(tenant.schemas ?? {}))
      if (!tenant.streams.includes(stream))
        faults.push(`schemas of ${name} names the stream ${stream}, which it does not have`)
    for (const [stream, pointers] of Object.entries(tenant.redact ?? {})) {
      if (!tenant.streams.includes(stream))
        faults.push(`redact of ${name} names the stream ${stream}, which it does not have`)
      for (const pointer of pointers)
        if (!isPointer(pointer))
          faults.push(`redact of ${name} has ${JSON.stringify(pointer)} for ${stream}, which is no JSON pointer`)
    }
  }
  for (const { id } of file.operators ?? []) own(id, 'the operators')
  return faults
}

const rate = (perSecond: number, burst = Math.max(1, perSecond)): Rate => ({ perSecond, burst })

/** Tenants of a file without faults. */
export function tenantsOf(file: TenantsFile): Tenants {
  const list: Tenant[] = []
  const keys = new Map<string, { hash: Buffer; credential: Credential }>()
  const add = (sha256: string, credential: Credential): void => {
    keys.set(credential.keyId, { hash: Buffer.from(sha256, 'hex'), credential })
  }
  for (const [name, declaration] of Object.entries(file.tenants)) {
    const { enabled = true, streams, quota, keys: declared, redact = {}, schemas = {}, sources = {} } = declaration
    const tenant: Tenant = {
      name,
      enabled,
      streams: new Set(streams),
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
    if (quota !== undefined) {
      tenant.quota = { events: rate(quota.eventsPerSecond, quota.burstEvents) }
      if (quota.bytesPerSecond !== undefined) tenant.quota.bytes = rate(quota.bytesPerSecond, quota.burstBytes)
    }
    list.push(tenant)
    for (const { id, sha256, streams: some, roles } of declared)
      add(sha256, {
        keyId: id,
        tenant,
        streams: some === undefined ? undefined : new Set(some),
        roles: new Set<Role>(roles ?? ['send']),
      })
  }
  for (const { id, sha256, roles } of file.operators ?? [])
    add(sha256, { keyId: id, tenant: undefined, streams: undefined, roles: new Set<Role>(roles ?? ['read']) })
  return {
    list,
    find(key) {
      const entry = keys.get(KEY.exec(key)?.[1] ?? '')
      const equal = timingSafeEqual(digest(key), entry?.hash ?? NO_DIGEST)
      return equal ? entry?.credential : undefined
    },
  }
}

const KEY = /^kt\.([a-z0-9_-]+)\./
