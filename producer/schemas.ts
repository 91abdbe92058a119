import { isAscii, isUtf8 } from 'node:buffer'
import { type Event, type Fault, isJsonMediaType, parseMediaType } from '../shared/events/event.ts'
import { atIndex, type EventResult } from '../shared/events/event-json.ts'
import { anyJson, outlineJson } from '../shared/events/json.ts'
import type { StreamSchemas as Declared } from '../shared/http/tenants.ts'
import type { Subject, Version } from '../shared/schemas/catalog.ts'
import { isSchemaUrn, parseSchemaUrn } from '../shared/schemas/identity.ts'
import type { SchemaStore } from '../shared/schemas/store.ts'
import { CHECK_TIMEOUT_MS, LATE } from '../shared/schemas/verdict.ts'
import type { Logger, TenantLines } from '../shared/service/logger.ts'
import type { Tally } from '../shared/service/tally.ts'

/** Events of a stream, checked by the schemas of their types. */

/** What a check of an event by a schema finds, as a label. */
export const CHECKED = ['valid', 'invalid'] as const
/** Why an event is not checked, as a label: its type has no schema, or that cannot be told now. */
export const UNCHECKED = ['no_schema', 'unknown'] as const

/** Makes tallies of a stream's events. */
export interface Checks {
  of(type: string, version: number): Record<(typeof CHECKED)[number], Tally>
  others(): Record<(typeof UNCHECKED)[number], Tally>
}

export interface StreamSchemasDeps {
  declared: Declared
  tenant: string
  stream: string
  /** Of a type. */
  subjectOf(type: string): string
  store: SchemaStore
  checks: Checks
  log: Pick<Logger, 'warn' | 'debug'>
  lines: TenantLines
}

/** Of a request's events: for each the version that it was checked by, or undefined where there is none. */
export type CheckedEvents =
  | { ok: true; versions: readonly (Version | undefined)[] }
  /** `unknown`: nothing is wrong but that it cannot be checked now. `late`: the checks have taken too long for one request. */
  | { ok: false; why: 'faults'; results: readonly EventResult[] }
  | { ok: false; why: 'unknown' | 'late' }

/** No more pointers are logged of an event. */
const LOGGED_FAULTS = 5
/** A type may be 16 KB long. */
const LOGGED_CHARS = 256

/** How long the checks of one request may keep the thread. One check has its own limit, and a request may have 1,000 events. */
export const REQUEST_CHECKS_MS = 1_000

export class StreamSchemas {
  readonly #deps: StreamSchemasDeps
  /** Weak, or versions that were replaced would stay in memory. */
  readonly #counted = new WeakMap<Version, ReturnType<Checks['of']>>()
  readonly #others: ReturnType<Checks['others']>

  constructor(deps: StreamSchemasDeps) {
    this.#deps = deps
    this.#others = deps.checks.others()
  }

  /** @param maxDataBytes larger data is not looked at: such an event is refused for its size */
  check(results: readonly EventResult[], isList: boolean, maxDataBytes: number): CheckedEvents {
    const versions: (Version | undefined)[] = []
    let refused: EventResult[] | undefined
    let isUnknown = false
    const endMs = performance.now() + REQUEST_CHECKS_MS
    for (let index = 0; index < results.length; index++) {
      const result = results[index] as EventResult
      if (!result.ok) {
        refused ??= [...results]
        continue
      }
      if (result.event.data !== null && result.event.data.length > maxDataBytes) {
        versions.push(undefined)
        continue
      }
      if (index > 0 && performance.now() > endMs) return { ok: false, why: 'late' }
      const checked = this.#checkOne(result.event)
      if (checked === 'unknown') isUnknown = true
      else if (!Array.isArray(checked)) versions.push(checked as Version | undefined)
      else {
        refused ??= [...results]
        refused[index] = { ok: false, faults: isList ? atIndex(checked, index) : checked }
      }
    }
    if (refused !== undefined) return { ok: false, why: 'faults', results: refused }
    return isUnknown ? { ok: false, why: 'unknown' } : { ok: true, versions }
  }

  /** @returns the version that the event is valid by; its faults; or undefined where it is let in unchecked */
  #checkOne(event: Event): Version | undefined | 'unknown' | Fault[] {
    const { declared, store, subjectOf } = this.#deps
    const name = subjectOf(event.type)
    const subject = store.find(name)
    if (subject === undefined) {
      this.#others.no_schema.count++
      return declared.otherTypes === 'refuse'
        ? this.#wrong(event, name, [fault('/type', `has no schema, which this stream requires (subject ${name})`)])
        : undefined
    }
    const version = subject === 'unknown' ? subject : this.#versionOf(name, subject, event)
    if (version === 'unknown') return this.#unknown(event, name, 'its schema is not known now')
    if (typeof version === 'string') {
      // As of the latest: which version it names may be anything.
      if (typeof subject === 'object') this.#countedOf(event.type, subject.latest).invalid.count++
      return this.#wrong(event, name, [fault('/dataschema', version)])
    }
    const faults = faultsOf(event, version)
    if (faults === 'late')
      return this.#unknown(event, version.header, `its check took more than ${CHECK_TIMEOUT_MS} ms`)
    const counted = this.#countedOf(event.type, version)
    if (faults === undefined) {
      counted.valid.count++
      return version
    }
    counted.invalid.count++
    return this.#wrong(event, version.header, faults)
  }

  #unknown(event: Event, schema: string, why: string): undefined | 'unknown' {
    this.#others.unknown.count++
    if (this.#deps.declared.whileUnknown === 'accept') return undefined
    this.#log(event, schema, {}, `an event is answered 503: ${why}`)
    return 'unknown'
  }

  /** The version that the event names, else the latest; a text says what is wrong with its name. */
  #versionOf(
    name: string,
    { latest, versions, unusable }: Subject,
    { dataschema }: Event,
  ): Version | 'unknown' | string {
    if (dataschema === latest.urn) return latest
    const named = dataschema === undefined ? undefined : parseSchemaUrn(dataschema)
    if (dataschema !== undefined && named === undefined && isSchemaUrn(dataschema))
      return `is not as schemas are named: ${latest.urn}`
    // By a version that is not the latest any more, an event could pass that the latest refuses.
    if (named === undefined || named.subject !== name) return unusable === undefined ? latest : 'unknown'
    const version = versions.get(named.version)
    if (version !== undefined) return version
    if (this.#deps.store.mayLag && named.version > latest.version) return 'unknown'
    const known = [...versions.keys()].sort((one, other) => other - one).slice(0, NAMED_VERSIONS)
    return `names version ${named.version} of ${name}, which is not known: the latest are ${known.join(', ')}`
  }

  /** Of an event that is not as its schema wants it. @param schema its subject, or its subject and version */
  #wrong(event: Event, schema: string, faults: readonly LoggedFault[]): Fault[] | undefined {
    if (this.#deps.declared.check === 'enforce') return faults.map(told)
    const pointers = faults.slice(0, LOGGED_FAULTS).map(({ logged }) => logged)
    this.#log(
      event,
      schema,
      { count: faults.length, pointers },
      'an event is stored that is not as its schema wants it',
    )
    return undefined
  }

  #log({ type }: Event, schema: string, more: object, text: string): void {
    const { tenant, stream, log, lines } = this.#deps
    const at = { tenant, stream, type: type.slice(0, LOGGED_CHARS), schema: schema.slice(0, LOGGED_CHARS) }
    log[lines.level(tenant, 'warn')]({ ...at, ...more }, text)
  }

  #countedOf(type: string, version: Version): ReturnType<Checks['of']> {
    let counted = this.#counted.get(version)
    if (counted === undefined) {
      counted = this.#deps.checks.of(type, version.version)
      this.#counted.set(version, counted)
    }
    return counted
  }
}

/** Into the event's JSON form, where data is a member. */
const DATA = '/data'

/** No more versions are named of a type. */
const NAMED_VERSIONS = 10

/** `logged`: the pointer without names that only the sender knows. */
type LoggedFault = Fault & { logged: string }

const told = ({ pointer, detail }: LoggedFault): Fault => ({ pointer, detail })

const fault = (pointer: string, detail: string): LoggedFault => ({ pointer, logged: pointer, detail })

/** undefined where the event is valid. */
function faultsOf({ data, datacontenttype }: Event, { schema, header }: Version): LoggedFault[] | 'late' | undefined {
  if (data === null) return [fault(DATA, `is required by the schema ${header}`)]
  if (datacontenttype === undefined || !isJson(datacontenttype))
    return [fault('/datacontenttype', `must be JSON: the schema ${header} describes JSON`)]
  // Decoding as Latin-1 takes half the time.
  const ascii = isAscii(data)
  if (!ascii && !isUtf8(data)) return [fault(DATA, 'is no JSON: it is not UTF-8')]
  let value: unknown
  try {
    value = JSON.parse(data.toString(ascii ? 'latin1' : 'utf8'))
  } catch {
    // Unlike the parser's message, this does not quote the data.
    const outlined = outlineJson(data, ANY)
    return [fault(DATA, outlined.ok ? 'is no JSON' : `is no JSON: ${outlined.fault.detail}`)]
  }
  const faults = schema.faults(value, data.length)
  if (faults.length === 0) return undefined
  if (faults === LATE) return 'late'
  return faults.map(({ pointer, knownPointer, detail }) => ({
    pointer: DATA + pointer,
    logged: DATA + knownPointer,
    detail: `${detail} (schema ${header})`,
  }))
}

const ANY = anyJson(512)

const isJson = (type: string): boolean => type === 'application/json' || isJsonMediaType(parseMediaType(type).essence)
