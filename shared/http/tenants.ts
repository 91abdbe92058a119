import { createHash, timingSafeEqual } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { type Static, type TProperties, Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { NAME_PATTERN } from '../events/topics.ts'
import { ConfigError } from '../service/config.ts'

/** Tenants, their streams, quotas and API keys: one JSON file, read at the start. */

const closed = <T extends TProperties>(properties: T) => Type.Object(properties, { additionalProperties: false })

const Name = Type.String({ pattern: NAME_PATTERN })

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
          /** Unique in the file; part of the key, and its name in logs. */
          id: Name,
          /** SHA-256 of the whole key, hex. A key has 256 random bits, so a slow hash is not needed. */
          sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }),
          /** Absent: all of the tenant's. */
          streams: Type.Optional(Type.Array(Name, { minItems: 1 })),
        }),
      ),
    }),
    { additionalProperties: false },
  ),
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
}

/** A key that was recognised. */
export interface Credential {
  keyId: string
  tenant: Tenant
  /** The streams that this key may write to. */
  streams: ReadonlySet<string>
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
  let parsed: unknown
  try {
    parsed = JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    throw new ConfigError([`TENANTS_FILE=${path} cannot be read: ${(error as Error).message}`])
  }
  const faults = tenantsFaults(parsed)
  if (faults.length > 0) throw new ConfigError(faults.map((fault) => `TENANTS_FILE=${path}: ${fault}`))
  return tenantsOf(parsed as TenantsFile)
}

/** Every fault of a tenants file. */
export function tenantsFaults(file: unknown): string[] {
  if (!check.Check(file)) return [...check.Errors(file)].map((error) => `${error.path || '/'} ${error.message}`)
  const faults: string[] = []
  const owners = new Map<string, string>()
  for (const [name, tenant] of Object.entries(file.tenants)) {
    for (const { id, streams } of tenant.keys) {
      const owner = owners.get(id)
      if (owner !== undefined) faults.push(`the key id ${id} is given twice, by ${owner} and ${name}`)
      owners.set(id, name)
      for (const stream of streams ?? [])
        if (!tenant.streams.includes(stream))
          faults.push(`the key ${id} names the stream ${stream}, which ${name} does not have`)
    }
  }
  return faults
}

const rate = (perSecond: number, burst = Math.max(1, perSecond)): Rate => ({ perSecond, burst })

/** Tenants of a file without faults. */
export function tenantsOf(file: TenantsFile): Tenants {
  const list: Tenant[] = []
  const keys = new Map<string, { hash: Buffer; credential: Credential }>()
  for (const [name, { enabled = true, streams, quota, keys: declared }] of Object.entries(file.tenants)) {
    const tenant: Tenant = { name, enabled, streams: new Set(streams) }
    if (quota !== undefined) {
      tenant.quota = { events: rate(quota.eventsPerSecond, quota.burstEvents) }
      if (quota.bytesPerSecond !== undefined) tenant.quota.bytes = rate(quota.bytesPerSecond, quota.burstBytes)
    }
    list.push(tenant)
    for (const key of declared) {
      const credential = {
        keyId: key.id,
        tenant,
        streams: key.streams === undefined ? tenant.streams : new Set(key.streams),
      }
      keys.set(key.id, { hash: Buffer.from(key.sha256, 'hex'), credential })
    }
  }
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
