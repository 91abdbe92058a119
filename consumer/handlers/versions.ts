import type { Event } from '../../shared/events/event.ts'
import { ATTRIBUTE_PREFIX, headerText, SCHEMA } from '../../shared/events/headers.ts'
import type { IncomingRecord } from '../../shared/events/record.ts'
import { MAX_VERSION, parseSchemaHeader, parseSchemaUrn } from '../../shared/schemas/identity.ts'
import type { Context } from '../enrich.ts'
import { AttemptFault } from './attempt-fault.ts'
import { type DataCheck, type DataSchema, faultsIn } from './data-schema.ts'
import { registerSchema } from './registered-schema.ts'

/** Versions of an event type’s schema: which one a handler takes, and how data of older ones become data of that one. */

/** Makes data of one version of the schema from data of an older one. Its errors count as those of a handler. */
export interface Upcaster {
  from: number
  /** Higher than `from`. */
  to: number
  /** Checks what `up` returns; the last version is checked by the handler’s own schema in any case. */
  schema?: DataSchema
  /** May change what it gets. Runs in the time of the attempt. */
  up(data: unknown): unknown
}

interface RegisteredUpcaster {
  to: number
  up(data: unknown): unknown
  check: DataCheck | undefined
}

/** From each version with an upcaster, a chain of them leads to the version that is taken. */
export interface Versions {
  takes: number
  /** By `from`. */
  upcasters: ReadonlyMap<number, RegisteredUpcaster>
}

/** @returns what is wrong, if anything is: each fault */
export function registerVersions(takes: unknown, upcasters: unknown): Versions | undefined | string[] {
  if (takes === undefined)
    return upcasters === undefined ? undefined : ['has upcasters and no `takes`: say which version they lead to']
  if (!isVersion(takes)) return ['has a `takes` that is no version: a whole number from 1']
  if (upcasters !== undefined && !Array.isArray(upcasters)) return ['has `upcasters` that are no list']
  const all = (upcasters ?? []) as Upcaster[]
  const faults: string[] = []
  const byFrom = new Map<number, RegisteredUpcaster & { index: number }>()
  for (const [index, upcaster] of all.entries()) {
    const fault = upcasterFault(upcaster, takes)
    const earlier = fault === undefined ? byFrom.get(upcaster.from) : undefined
    if (fault !== undefined) faults.push(`upcasters[${index}] ${fault}`)
    else if (earlier !== undefined)
      faults.push(`upcasters[${earlier.index}] and upcasters[${index}] are both from ${upcaster.from}: remove one`)
    else {
      const { from, to, schema } = upcaster
      const check = schema === undefined ? undefined : registerSchema(schema)
      if (typeof check === 'string') faults.push(`upcasters[${index}] has a schema that ${check}`)
      else byFrom.set(from, { index, to, up: (data) => upcaster.up(data), check })
    }
  }
  const froms = new Set(all.map((upcaster) => upcaster?.from))
  for (const { index, to } of byFrom.values())
    if (to !== takes && !froms.has(to))
      faults.push(`upcasters[${index}] leads to ${to}, and none is from ${to}: the chain has to end at ${takes}`)
  return faults.length > 0 ? faults : { takes, upcasters: byFrom }
}

function upcasterFault(upcaster: Partial<Upcaster> | null, takes: number): string | undefined {
  if (typeof upcaster !== 'object' || upcaster === null || typeof upcaster.up !== 'function')
    return 'is no upcaster: { from, to, up }'
  const { from, to } = upcaster
  if (!isVersion(from) || !isVersion(to)) return 'has a `from` or `to` that is no version: a whole number from 1'
  if (from >= to) return `is from ${from} to ${to}: \`to\` has to be higher`
  if (to > takes) return `leads to ${to}, and the handler takes ${takes}`
  return undefined
}

const isVersion = (value: unknown): value is number =>
  Number.isSafeInteger(value) && Number(value) >= 1 && Number(value) <= MAX_VERSION

/** Whether a handler takes an event, by the version of its schema. */
export type Fit =
  /** `raised`: once its data are raised. */
  | { kind: 'taken'; raised?: NonNullable<Context['schema']> }
  | { kind: 'newer'; message: string }
  | { kind: 'no upcaster'; message: string }

const TAKEN: Fit = { kind: 'taken' }

/**
 * Goes by the version that the producer checked the data by, else by the one that the sender names in `dataschema`. An event that says neither is taken as it
 * is, and so is any by a handler that does not say which it takes.
 * @param event the record's, where it is decoded; undefined where it is known to be in binary mode
 */
export function fitOf(
  { type, version: ofHandler, versions }: { type: string; version: string; versions: Versions | undefined },
  record: Pick<IncomingRecord, 'headers'>,
  event: Pick<Event, 'dataschema'> | undefined,
): Fit {
  // Reading the headers takes time.
  if (versions === undefined) return TAKEN
  const { headers } = record
  const schema =
    parseSchemaHeader(headerText(headers, SCHEMA)) ??
    parseSchemaUrn(event === undefined ? headerText(headers, `${ATTRIBUTE_PREFIX}dataschema`) : event.dataschema)
  const { takes, upcasters } = versions
  if (schema === undefined || schema.version === takes) return TAKEN
  const { version } = schema
  const said = `its data are of version ${version} of their schema, and ${type}@${ofHandler} takes ${takes}`
  if (version > takes) return { kind: 'newer', message: `${said}: deploy a handler that takes ${version}` }
  if (!upcasters.has(version)) return { kind: 'no upcaster', message: `${said}: it has no upcaster from ${version}` }
  return { kind: 'taken', raised: { ...schema, takes } }
}

/**
 * Makes data of the version that is taken, by the chain of upcasters.
 * @param from a version with an upcaster
 * @param bytes of the event's data
 * @throws AttemptFault for what an upcaster may not return, and whatever it throws
 */
export function raise({ takes, upcasters }: Versions, data: unknown, from: number, bytes: number): unknown {
  let raised = data
  for (let version = from; version !== takes; ) {
    const { to, up, check } = upcasters.get(version) as RegisteredUpcaster
    raised = up(raised)
    const fault =
      returnedFault(raised) ?? (check?.passes(raised) === false ? faultsIn(check, raised, bytes) : undefined)
    if (fault !== undefined)
      throw new AttemptFault('invalid data', `the upcaster from ${version} to ${to} made: ${fault}`)
    version = to
  }
  return raised
}

/** A schema may let these pass. */
function returnedFault(returned: unknown): string | undefined {
  if (returned === undefined) return 'nothing, that is, it returned undefined'
  const isThenable = typeof returned === 'object' && returned !== null && 'then' in returned
  return isThenable && typeof returned.then === 'function' ? 'a promise: it must return the data' : undefined
}
