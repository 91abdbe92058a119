import { join, resolve } from 'node:path'
import { type Static, type TObject, Type } from '@sinclair/typebox'
import { ConfigError, integer } from '../service/config.ts'
import type { Logger } from '../service/logger.ts'
import { sleep } from '../service/retry.ts'
import { messageOf } from '../service/thrown.ts'
import { FILES_POLL_MS, stampOfAll } from '../service/watched-files.ts'
import { Catalog, type SchemaText, type Subject, type VersionFault } from './catalog.ts'
import { pathsIn, readSchemaFile, schemaFiles } from './folder.ts'
import { schemaHeader } from './identity.ts'
import {
  createRegistry,
  type RegisteredSchema,
  type Registry,
  RegistryError,
  registryFaults,
  type registryVariables,
} from './registry.ts'

/** Where the schemas of events come from: files, or a registry. */

export const schemaVariables = {
  SCHEMAS_DIR: Type.Optional(
    Type.String({
      description:
        'A folder of JSON Schemas, SUBJECT.vVERSION.json, for the streams that name `schemas` in TENANTS_FILE. It is read again when it changes (docs/schemas.md).',
    }),
  ),
  SCHEMA_SUBJECT: Type.String({
    default: '{tenant}.{stream}-{type}',
    pattern: '^[^{}]*(\\{(tenant|stream)\\}[^{}]*)*\\{type\\}[^{}]*(\\{(tenant|stream)\\}[^{}]*)*$',
    description:
      'The subject of an event type’s schema, with {tenant}, {stream} and {type} in their places, {type} once.',
  }),
  SCHEMA_REGISTRY_REFRESH_MS: integer(
    30_000,
    1_000,
    3_600_000,
    'With SCHEMA_REGISTRY_URL: how often the registry is asked for new schemas, in ms.',
  ),
}

const aroundType = (template: string, tenant: string, stream: string): [before: string, after: string] => {
  const [before = '', after = ''] = template
    .replaceAll('{tenant}', tenant)
    .replaceAll('{stream}', stream)
    .split('{type}')
  return [before, after]
}

/** Makes the subject of a type. @param template with {type} in it once */
export function subjectNames(template: string, tenant: string, stream: string): (type: string) => string {
  const [before, after] = aroundType(template, tenant, stream)
  return (type) => before + type + after
}

/** Of a subject as {@link subjectNames} makes them, the type; undefined for others. */
export function typeNames(template: string, tenant: string, stream: string): (subject: string) => string | undefined {
  const [before, after] = aroundType(template, tenant, stream)
  const least = before.length + after.length
  return (subject) =>
    subject.length > least && subject.startsWith(before) && subject.endsWith(after)
      ? subject.slice(before.length, subject.length - after.length)
      : undefined
}

/** The schemas of a type; undefined: it has none; `unknown`: that cannot be told now. */
export type Found = Subject | undefined | 'unknown'

/** `detail`: what is wrong although schemas are there. */
export type StoreState = { ok: true; detail?: string } | { ok: false; reason: string }

export interface SchemaStore {
  find(subject: string): Found
  /** Those that have a version. */
  subjects(): Iterable<string>
  state(): StoreState
  /** How many versions are in use. */
  versions(): number
  /** Whether a version that is not known may be one that was registered just now. */
  readonly mayLag: boolean
  /** @throws ConfigError where the schemas can never be read */
  start(): Promise<void>
  stop(): void
}

/** The most faults that a line of the log or a check names. */
const NAMED_FAULTS = 5
const named = (faults: readonly string[]): string =>
  faults.length <= NAMED_FAULTS
    ? faults.join('; ')
    : `${faults.slice(0, NAMED_FAULTS).join('; ')}; and ${faults.length - NAMED_FAULTS} more`

/** Says of which versions the text is another than before. */
function tellChanged(
  before: ReadonlyMap<string, Subject>,
  after: ReadonlyMap<string, Subject>,
  log: Pick<Logger, 'warn'>,
): void {
  const changed = [...before].flatMap(([subject, { versions }]) =>
    [...versions.values()].flatMap((was) => {
      const is = after.get(subject)?.versions.get(was.version)
      return is === undefined || is === was ? [] : [was.header]
    }),
  )
  if (changed.length > 0)
    log.warn(
      { versions: changed.slice(0, NAMED_FAULTS), count: changed.length },
      'published versions of schemas have changed: events that were checked by them before name them, too',
    )
}

/** Whether a subject can be of a stream whose events are checked. */
export type IsOurs = (subject: string) => boolean

/** Of streams that change. */
interface CoveringStore extends SchemaStore {
  /** Other streams have schemas from now on. */
  cover(isOurs: IsOurs): void
}

/** Schemas in a folder. A state of it with any fault is not used: what was read before stays. */
export class FolderStore implements CoveringStore {
  readonly #catalog = new Catalog()
  #seen: string | undefined
  #fault: string | undefined
  readonly #ending = new AbortController()
  readonly mayLag = false

  constructor(
    private readonly folder: string,
    private isOurs: IsOurs,
    private readonly log: Pick<Logger, 'info' | 'warn'>,
    private readonly pollMs = FILES_POLL_MS,
  ) {}

  /** All of the folder is read, whatever streams there are. */
  cover(isOurs: IsOurs): void {
    this.isOurs = isOurs
  }

  find(subject: string): Subject | undefined {
    return this.#catalog.subjects.get(subject)
  }

  subjects(): Iterable<string> {
    return this.#catalog.subjects.keys()
  }

  state(): StoreState {
    if (this.#fault === undefined) return { ok: true }
    return { ok: true, detail: `SCHEMAS_DIR has changed and is not used, the schemas from before are: ${this.#fault}` }
  }

  versions(): number {
    return this.#catalog.versions
  }

  async start(): Promise<void> {
    const faults = await this.#read()
    if (faults.length > 0) throw new ConfigError(faults.map((fault) => `SCHEMAS_DIR=${resolve(this.folder)}: ${fault}`))
    void this.#watch()
  }

  stop(): void {
    this.#ending.abort()
  }

  async #watch(): Promise<void> {
    while (!this.#ending.signal.aborted) {
      await sleep(this.pollMs, this.#ending.signal)
      const before = this.#seen
      const faults = await this.#read()
      if (this.#seen === before) continue
      this.#fault = faults.length === 0 ? undefined : named(faults)
      if (this.#fault === undefined) this.log.info({ count: this.versions() }, 'schemas were read again')
      else this.log.warn({ faults: this.#fault }, 'schemas have changed and are not used: those from before are')
    }
  }

  /** Says what is most likely not meant, of what was read. */
  #tell(before: ReadonlyMap<string, Subject>): void {
    const { subjects } = this.#catalog
    const others = [...subjects.keys()].filter((subject) => !this.isOurs(subject))
    if (others.length > 0)
      this.log.warn(
        { subjects: others.slice(0, NAMED_FAULTS), count: others.length },
        'schemas of no stream that names `schemas` in TENANTS_FILE: they are not used',
      )
    tellChanged(before, subjects, this.log)
  }

  /** Reads the folder if it has changed. @returns what is wrong with it */
  async #read(): Promise<string[]> {
    try {
      const { files, faults: misnamed } = schemaFiles(await pathsIn(this.folder))
      // Most likely a volume that is not there, or the wrong branch: nobody deletes all schemas.
      if (files.length === 0 && misnamed.length === 0)
        throw new Error('it has no schema, named as in acme.orders-order.placed.v1.json')
      if (files.length > MAX_FILES) throw new Error(`${files.length} schemas are too many: ${MAX_FILES} are supported`)
      const paths = files.map(({ path }) => join(this.folder, path))
      const stampOfFolder = async () => [...misnamed, await stampOfAll(paths)].join('\n')
      const stamp = await stampOfFolder()
      if (stamp === this.#seen) return []
      const texts: SchemaText[] = []
      const faults = [...misnamed]
      for (const { subject, version, path } of files)
        try {
          texts.push({ subject, version, bytes: await readSchemaFile(join(this.folder, path)), place: path })
        } catch (error) {
          faults.push(messageOf(error))
        }
      // A folder that was changed while it was read is not used: the next look finds it whole.
      if ((await stampOfFolder()) !== stamp && this.#seen !== undefined) return []
      const before = this.#catalog.subjects
      const wrong = await this.#catalog.replace(texts, (found) => found.length + faults.length === 0)
      this.#seen = stamp
      if (before !== this.#catalog.subjects) this.#tell(before)
      return [...faults, ...wrong.map(({ detail }) => detail)]
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      const fault = code === 'ENOENT' || code === 'ENOTDIR' ? 'there is no such folder' : messageOf(error)
      this.#seen = fault
      return [fault]
    }
  }
}

const MAX_FILES = 10_000

/** Of a subject, so many of its latest versions are read. */
const MAX_VERSIONS_READ = 20
const MAX_SUBJECTS = 10_000
const MAX_REQUESTS = 8
const RETRY_MS = 1_000
/** With three times the refresh: after so long without a complete answer, one that is not known may be there. */
const LATE_MS = 15_000

const goneFrom = ({ length }: readonly string[]): string =>
  length === 1
    ? '1 schema is not in the registry any more and is still used until a restart'
    : `${length} schemas are not in the registry any more and are still used until a restart`

/** What is known of a subject in a registry. */
interface Known {
  texts: ReadonlyMap<number, SchemaText>
  /** Versions among these that the registry does not list any more. */
  gone: readonly string[]
  faults: readonly VersionFault[]
  /** Why its versions are not listed. */
  refusal?: string
}

/** What the registry will not answer later either may be so for one subject alone. */
async function unlessRefused<T, R>(asked: Promise<T>, refused: (why: string) => R): Promise<T | R> {
  try {
    return await asked
  } catch (error) {
    if (error instanceof RegistryError && !error.mayPass) return refused(error.message)
    throw error
  }
}

/** Maps with at most `most` calls at a time, and with none more after a fault. @returns the results, in the order of the items */
async function mapAtMost<T, R>(most: number, items: readonly T[], map: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  let next = 0
  const work = async (): Promise<void> => {
    try {
      while (next < items.length) {
        const index = next++
        results[index] = await map(items[index] as T)
      }
    } catch (error) {
      next = items.length
      throw error
    }
  }
  const ended = await Promise.allSettled(Array.from({ length: most }, work))
  const failed = ended.find((one) => one.status === 'rejected')
  if (failed !== undefined) throw failed.reason
  return results
}

/**
 * Schemas in a registry. While it cannot be reached, those that are known stay, and a type without one may have one that is not known. What it does not list
 * any more stays, too: it may have been restored in part, and a schema that is missing would let every event in.
 */
export class RegistryStore implements CoveringStore {
  readonly #catalog = new Catalog()
  #known: ReadonlyMap<string, Known> = new Map()
  #gone: readonly string[] = []
  /** By subject: why a schema of it cannot be used. */
  #unusable: ReadonlyMap<string, string> = new Map()
  /** Why the registry's last answer is not complete. */
  #fault: string | undefined
  /** How far the read is that is under way. */
  #progress: { done: number; of: number } | undefined
  /** When everything was read last. */
  #readMs: number | undefined
  /** Of which subjects everything was read then. */
  #covered: IsOurs | undefined
  readonly #ending = new AbortController()
  /** Ends the wait for the next read. */
  #waiting = new AbortController()
  readonly mayLag = true

  constructor(
    private readonly registry: Pick<Registry, 'subjects' | 'versions' | 'schemaOf'>,
    private isOurs: IsOurs,
    private readonly log: Pick<Logger, 'info' | 'warn'>,
    private readonly refreshMs: number,
    private readonly nowMs: () => number = () => performance.now(),
  ) {}

  find(subject: string): Found {
    const found = this.#catalog.subjects.get(subject)
    if (found !== undefined) return found
    return this.#fault === undefined && !this.#unusable.has(subject) && !this.#isLate() && this.#covers(subject)
      ? undefined
      : 'unknown'
  }

  #covers(subject: string): boolean {
    return this.#covered === this.isOurs || this.#covered?.(subject) === true
  }

  /** Until all is read of new streams, what is not known of them may be there. */
  cover(isOurs: IsOurs): void {
    this.isOurs = isOurs
    this.#waiting.abort()
  }

  subjects(): Iterable<string> {
    return this.#catalog.subjects.keys()
  }

  state(): StoreState {
    const { done, of } = this.#progress ?? { done: 0, of: 0 }
    const progress = of === 0 ? [] : [`${done.toLocaleString('en')} of ${of.toLocaleString('en')} subjects are read`]
    const fault = this.#fault === undefined ? [] : [this.#fault]
    if (this.#readMs === undefined) {
      const reasons = [...fault, ...progress]
      return { ok: false, reason: `the schema registry: ${reasons.join('; ') || 'it has not answered yet'}` }
    }
    const details: string[] = []
    if (this.#isLate() && fault.length === 0)
      fault.push(`it was read completely ${Math.round((this.nowMs() - this.#readMs) / 1_000)} s ago`, ...progress)
    if (fault.length > 0) details.push(`the schema registry: ${fault.join('; ')}; the schemas from before are used`)
    if (this.#catalog.versions + this.#unusable.size === 0)
      details.push('the schema registry has no schema of these streams')
    if (this.#gone.length > 0) details.push(`${goneFrom(this.#gone)}: ${named(this.#gone)}`)
    if (this.#unusable.size > 0) details.push(`schemas that cannot be used: ${named([...this.#unusable.values()])}`)
    return details.length === 0 ? { ok: true } : { ok: true, detail: details.join('; ') }
  }

  versions(): number {
    return this.#catalog.versions
  }

  /** Does not wait for the registry: until it has answered, {@link state} says so. */
  async start(): Promise<void> {
    void this.#watch()
  }

  stop(): void {
    this.#ending.abort()
  }

  #isLate(): boolean {
    return this.#readMs === undefined || this.nowMs() - this.#readMs > 3 * this.refreshMs + LATE_MS
  }

  async #watch(): Promise<void> {
    while (!this.#ending.signal.aborted) {
      this.#waiting = new AbortController()
      await this.#refresh()
      const waitMs = this.#readMs !== undefined ? this.refreshMs : Math.min(this.refreshMs, RETRY_MS)
      await sleep(waitMs, AbortSignal.any([this.#ending.signal, this.#waiting.signal]))
    }
  }

  async #refresh(): Promise<void> {
    const before = `${JSON.stringify(this.state())} ${this.versions()}`
    try {
      await this.#read()
      this.#readMs = this.nowMs()
      this.#fault = undefined
    } catch (error) {
      this.#fault = messageOf(error)
    }
    this.#progress = undefined
    const state = this.state()
    if (before === `${JSON.stringify(state)} ${this.versions()}`) return
    const told = state.ok ? state.detail : state.reason
    if (told === undefined) this.log.info({ count: this.versions() }, 'schemas were read from the registry')
    else this.log.warn({ count: this.versions(), reason: told }, 'not all schemas can be read from the registry')
  }

  /** @throws RegistryError where the registry cannot be reached */
  async #read(): Promise<void> {
    const { isOurs } = this
    const listed = new Set((await this.registry.subjects()).filter(isOurs))
    const before = this.#catalog.subjects
    const subjects = [...listed.union(new Set([...before.keys()].filter(isOurs)))].sort()
    if (subjects.length > MAX_SUBJECTS)
      throw new Error(`it has ${subjects.length} subjects for these streams; ${MAX_SUBJECTS} are supported`)
    const progress = { done: 0, of: subjects.length }
    this.#progress = progress
    const readOne = async (subject: string): Promise<[string, Known]> => {
      const read = await this.#readSubject(subject, listed.has(subject))
      progress.done++
      return [subject, read]
    }
    const known = new Map(await mapAtMost(MAX_REQUESTS, subjects, readOne))
    const refusals = [...known].flatMap(([subject, { refusal }]): [string, string][] =>
      refusal === undefined ? [] : [[subject, refusal]],
    )
    const [refusal] = refusals
    if (refusal !== undefined && refusals.length === listed.size) throw new Error(refusal[1])
    const all = [...known.values()]
    const faults = await this.#catalog.replace(
      all.flatMap(({ texts }) => [...texts.values()]),
      () => true,
      all.flatMap((one) => one.faults),
    )
    tellChanged(before, this.#catalog.subjects, this.log)
    this.#known = known
    this.#covered = isOurs
    this.#gone = all.flatMap(({ gone }) => gone)
    const last = faults.toSorted((one, other) => one.version - other.version)
    this.#unusable = new Map([...refusals, ...last.map(({ subject, detail }): [string, string] => [subject, detail])])
  }

  /** From the latest version down, until one is as it was: those before it that are known are taken to be so, too. */
  async #readSubject(subject: string, isListed: boolean): Promise<Known> {
    const texts = new Map(this.#known.get(subject)?.texts)
    const versions = isListed ? await unlessRefused(this.registry.versions(subject), (why) => why) : []
    if (typeof versions === 'string') return { texts, gone: [], faults: [], refusal: versions }
    let isAsBefore = false
    const faults: VersionFault[] = []
    for (const version of versions.slice(-MAX_VERSIONS_READ).reverse()) {
      const before = texts.get(version)
      if (isAsBefore && before !== undefined) continue
      const read = await unlessRefused(
        this.registry.schemaOf(subject, version),
        (fault): RegisteredSchema => ({ ok: false, fault }),
      )
      if (!read.ok) {
        faults.push({ subject, version, detail: read.fault })
        continue
      }
      const bytes = Buffer.from(read.text)
      isAsBefore ||= before?.bytes.equals(bytes) ?? false
      texts.set(version, { subject, version, bytes, place: `${subject}, version ${version}` })
    }
    const used = this.#catalog.subjects.get(subject)?.versions
    const isGone = (version: number): boolean => !versions.includes(version)
    const latest = [...texts]
      .filter(([version]) => !isGone(version) || used?.has(version))
      .sort(([one], [other]) => one - other)
      .slice(-MAX_VERSIONS_READ)
    const gone = latest.flatMap(([version]) => (isGone(version) ? [schemaHeader(subject, version)] : []))
    return { texts: new Map(latest), gone, faults }
  }
}

export type SchemaConfig = Readonly<Static<TObject<typeof schemaVariables & typeof registryVariables>>>

/** Faults of these variables together. */
export function schemaConfigFaults(config: SchemaConfig): string[] {
  const faults = registryFaults(config)
  if (config.SCHEMAS_DIR !== undefined && config.SCHEMA_REGISTRY_URL !== undefined)
    faults.push('SCHEMAS_DIR and SCHEMA_REGISTRY_URL are both set, and both have schemas: remove one.')
  return faults
}

type TenantSchemas = { name: string; schemas: ReadonlyMap<string, unknown> }

const streamsWithSchemas = (tenants: readonly TenantSchemas[]) =>
  tenants.flatMap(({ name, schemas }) => [...schemas.keys()].map((stream) => ({ tenant: name, stream })))

/** The schemas of the tenants' streams, which change. What they come from is read from when a stream has schemas for the first time. */
export class StreamsStore implements SchemaStore {
  #store: CoveringStore | undefined

  constructor(
    private readonly config: SchemaConfig,
    private readonly log: Pick<Logger, 'info' | 'warn'>,
  ) {}

  find(subject: string): Found {
    return this.#store === undefined ? 'unknown' : this.#store.find(subject)
  }

  subjects(): Iterable<string> {
    return this.#store?.subjects() ?? []
  }

  state(): StoreState {
    return this.#store?.state() ?? { ok: true }
  }

  versions(): number {
    return this.#store?.versions() ?? 0
  }

  get mayLag(): boolean {
    return this.#store?.mayLag ?? false
  }

  /**
   * To be called before these tenants are used, and {@link cover} when they are.
   * @throws ConfigError where their schemas can never be read
   */
  async prepare(tenants: readonly TenantSchemas[]): Promise<void> {
    if (this.#store !== undefined || streamsWithSchemas(tenants).length === 0) return
    const { SCHEMAS_DIR, SCHEMA_REGISTRY_URL, SCHEMA_REGISTRY_REFRESH_MS } = this.config
    if (SCHEMAS_DIR === undefined && SCHEMA_REGISTRY_URL === undefined)
      throw new ConfigError([
        'TENANTS_FILE names `schemas` of streams, and neither SCHEMAS_DIR nor SCHEMA_REGISTRY_URL is set.',
      ])
    const isOurs = this.#isOursOf(tenants)
    const store: CoveringStore =
      SCHEMAS_DIR === undefined
        ? new RegistryStore(createRegistry(this.config), isOurs, this.log, SCHEMA_REGISTRY_REFRESH_MS)
        : new FolderStore(SCHEMAS_DIR, isOurs, this.log)
    await store.start()
    this.#store = store
  }

  cover(tenants: readonly TenantSchemas[]): void {
    const { SCHEMAS_DIR, SCHEMA_SUBJECT, SCHEMA_REGISTRY_URL } = this.config
    const streams = streamsWithSchemas(tenants)
    if (streams.length === 0 && (SCHEMAS_DIR !== undefined || SCHEMA_REGISTRY_URL !== undefined))
      this.log.warn('no stream names `schemas` in TENANTS_FILE: no event is checked by a schema')
    const both = streams.find(({ tenant, stream }) =>
      streams.some((one) => one.tenant === tenant && one.stream.startsWith(`${stream}-`)),
    )
    if (both !== undefined && SCHEMA_SUBJECT === schemaVariables.SCHEMA_SUBJECT.default)
      this.log.warn(
        both,
        'another stream has the name of this one with something after a hyphen: subjects of both may be the same',
      )
    this.#store?.cover(this.#isOursOf(tenants))
  }

  #isOursOf(tenants: readonly TenantSchemas[]): IsOurs {
    const { SCHEMA_SUBJECT } = this.config
    const typesOf = streamsWithSchemas(tenants).map(({ tenant, stream }) => typeNames(SCHEMA_SUBJECT, tenant, stream))
    return (subject) => typesOf.some((typeOf) => typeOf(subject) !== undefined)
  }

  /** @throws ConfigError where the schemas of these tenants can never be read */
  async start(tenants: readonly TenantSchemas[] = []): Promise<void> {
    await this.prepare(tenants)
    this.cover(tenants)
  }

  stop(): void {
    this.#store?.stop()
  }
}
