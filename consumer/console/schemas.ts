import { type Static, Type } from '@sinclair/typebox'
import { STRUCTURED } from '../../shared/events/event.ts'
import { ATTRIBUTE_PREFIX, CONTENT_TYPE, headerText, SCHEMA } from '../../shared/events/headers.ts'
import type { IncomingRecord } from '../../shared/events/record.ts'
import { SCHEMA_CHECKS, SCHEMA_OTHER_TYPES, SCHEMA_WHILE_UNKNOWN, type Tenant } from '../../shared/http/tenants.ts'
import type { RangeReader } from '../../shared/kafka/types.ts'
import type { Version } from '../../shared/schemas/catalog.ts'
import { parseSchemaHeader } from '../../shared/schemas/identity.ts'
import { type Found, type SchemaStore, subjectNames, typeNames } from '../../shared/schemas/store.ts'
import { oneOf } from '../../shared/service/one-of.ts'
import type { Readers } from './readers.ts'
import { type Budget, isComplete, scan } from './scan.ts'
import { partitionsOf, type Stream } from './streams.ts'
import { timeOf } from './view.ts'

/** The schemas of a stream's types, and who sends events of which version, from the headers of the newest records alone. */

const Time = Type.String({ format: 'date-time' })

const SENT = {
  events: Type.Integer({ minimum: 1 }),
  newest: Type.String({ format: 'date-time', description: 'When the newest of them was written.' }),
}

/** Senders of a version that are named. */
const MAX_SENDERS = 20

const SchemaUse = Type.Object(
  {
    ...SENT,
    senders: Type.Array(Type.Object({ source: Type.String({ description: 'The events’ source.' }), ...SENT }), {
      maxItems: MAX_SENDERS,
      description: 'Those with the most events first.',
    }),
    others: Type.Optional(
      Type.Object(
        { senders: Type.Integer({ minimum: 1, description: 'At least so many.' }), ...SENT },
        { description: 'All further senders together.' },
      ),
    ),
  },
  { title: 'SchemaUse', description: 'Events among those that were read, and who sent them.' },
)
export type SchemaUse = Static<typeof SchemaUse>

const DRAFT = Type.Optional(oneOf(['2020-12', 'draft-07'], { description: 'Absent: the version is not known here.' }))

const SchemaVersionView = Type.Object(
  {
    version: Type.Integer({ minimum: 1 }),
    draft: DRAFT,
    title: Type.Optional(Type.String()),
    description: Type.Optional(Type.String()),
    use: Type.Optional(SchemaUse),
  },
  { title: 'SchemaVersion' },
)
export type SchemaVersionView = Static<typeof SchemaVersionView>

const TypeSchemas = Type.Object(
  {
    type: Type.String(),
    subject: Type.String(),
    schema: oneOf(['known', 'none', 'unknown'], {
      description: 'Whether the type has a schema. unknown: that cannot be told now.',
    }),
    versions: Type.Array(SchemaVersionView, {
      description: 'Newest first: those of the subject, and others that events were checked by.',
    }),
    unusable: Type.Optional(
      Type.Integer({
        minimum: 1,
        description:
          'A later version, which is there and cannot be used. Events that do not name another are treated as `whileUnknown` says.',
      }),
    ),
    document: Type.Optional(
      Type.Unknown({
        description:
          'The latest version. It is left out where those before have more than 1 MiB together; …/schemas/{type}/{version} has it.',
      }),
    ),
    without: Type.Optional(SchemaUse),
    otherwise: Type.Optional(SchemaUse),
  },
  {
    title: 'TypeSchemas',
    description:
      'A type. without: its events without the header kt-schema, which were not checked, or were stored with faults since `check` is warn. otherwise: those whose kt-schema names another subject, or none of the first 100 versions that were read.',
  },
)
type TypeSchemas = Static<typeof TypeSchemas>

export const StreamSchemas = Type.Object(
  {
    tenant: Type.String(),
    stream: Type.String(),
    checks: Type.Optional(
      Type.Object(
        {
          check: oneOf(SCHEMA_CHECKS),
          otherTypes: oneOf(SCHEMA_OTHER_TYPES),
          whileUnknown: oneOf(SCHEMA_WHILE_UNKNOWN),
        },
        { description: 'How events are checked, as `schemas` in TENANTS_FILE says. Absent: they are not.' },
      ),
    ),
    known: oneOf(['all', 'some', 'none'], {
      description: 'Which schemas the console knows; `detail` says why not all.',
    }),
    detail: Type.Optional(Type.String()),
    types: Type.Array(TypeSchemas, { description: 'By name: those with a schema, and those that were read.' }),
    read: Type.Object(
      {
        records: Type.Integer({ minimum: 0 }),
        from: Type.Optional(Time),
        to: Type.Optional(Time),
        complete: Type.Boolean({ description: 'These are all records of the stream’s own topic.' }),
        withoutType: Type.Integer({
          minimum: 0,
          description: 'No events, or in structured mode: their headers do not say the type.',
        }),
        ofOtherTypes: Type.Integer({ minimum: 0, description: 'Of types beyond the first 500 that were read.' }),
      },
      { description: 'The newest records of the stream’s own topic, which were counted.' },
    ),
  },
  { title: 'StreamSchemas' },
)
export type StreamSchemas = Static<typeof StreamSchemas>

export const SchemaDocument = Type.Object(
  {
    type: Type.String(),
    subject: Type.String(),
    version: Type.Integer({ minimum: 1 }),
    draft: oneOf(['2020-12', 'draft-07']),
    document: Type.Unknown(),
  },
  { title: 'SchemaDocument', description: 'One version of a type’s schema.' },
)
export type SchemaDocument = Static<typeof SchemaDocument>

export interface KnownSchemasOf {
  /** undefined: the console is not told where schemas are. */
  store: SchemaStore | undefined
  /** How subjects are made of types. */
  template: string
  tenant: Pick<Tenant, 'name' | 'schemas'>
  stream: string
  /** Those that the key is for. */
  streams: ReadonlySet<string>
}

/** The schemas of a stream's types, as far as a key may see them. */
export class KnownSchemas {
  readonly #of: KnownSchemasOf
  readonly subjectOf: (type: string) => string
  readonly #typeOf: (subject: string) => string | undefined

  constructor(of: KnownSchemasOf) {
    const { template, tenant, stream } = of
    this.#of = of
    this.subjectOf = subjectNames(template, tenant.name, stream)
    this.#typeOf = typeNames(template, tenant.name, stream)
  }

  get declared(): StreamSchemas['checks'] {
    return this.#of.tenant.schemas.get(this.#of.stream)
  }

  /** What is wrong with files, or a registry, may be of other tenants: it is in the log alone. */
  get state(): Pick<StreamSchemas, 'known' | 'detail'> {
    const { store } = this.#of
    if (this.declared === undefined)
      return { known: 'none', detail: 'TENANTS_FILE names no schemas for this stream: its events are not checked.' }
    if (store === undefined)
      return {
        known: 'none',
        detail:
          'The console is not told where the schemas are: set SCHEMAS_DIR or SCHEMA_REGISTRY_URL, as for the producer.',
      }
    const state = store.state()
    if (!state.ok)
      return { known: 'none', detail: 'The schema registry has not been read yet: the console’s log says why.' }
    if (state.detail === undefined) return { known: 'all' }
    return {
      known: 'some',
      detail: 'Not all schemas can be read now, and some may be from before: the console’s log says why.',
    }
  }

  find(type: string): Found {
    const { store, streams } = this.#of
    if (this.declared === undefined) return undefined
    if (store === undefined) return 'unknown'
    const subject = this.subjectOf(type)
    const other = this.#closerStream(subject, type)
    return other === undefined || streams.has(other) ? store.find(subject) : undefined
  }

  /** Those that have a schema. */
  types(): string[] {
    const { store } = this.#of
    if (this.declared === undefined || store === undefined) return []
    return [...store.subjects()].flatMap((subject) => {
      const type = this.#typeOf(subject)
      return type === undefined || this.#closerStream(subject, type) !== undefined ? [] : [type]
    })
  }

  /** The names of streams may begin alike: `acme.orders-old-paid` is rather of the type `paid` in `orders-old` than of `old-paid` in `orders`. */
  #closerStream(subject: string, type: string): string | undefined {
    const { template, tenant } = this.#of
    return [...tenant.schemas.keys()].find((stream) => {
      const its = typeNames(template, tenant.name, stream)(subject)
      return its !== undefined && its.length < type.length
    })
  }
}

/** Counts the newest records, at most as many as the budget allows. @throws ProblemError when Kafka cannot be read */
export async function schemasOf(
  stream: Stream,
  known: KnownSchemas,
  reader: RangeReader,
  budget: Budget,
  readers: Readers,
): Promise<StreamSchemas> {
  const places = partitionsOf(stream, 'input')
  const bounds = await readers.bounds(places)
  const wanted = places.map((at, index) => ({ ...at, from: 0, to: 0, ...bounds[index] }))
  const counts = new Counts(known.subjectOf)
  const searched = await scan(reader, wanted, { order: 'newest', budget, readers }, (record) => counts.add(record))
  const { declared } = known
  return {
    tenant: stream.tenant,
    stream: stream.name,
    ...(declared === undefined ? {} : { checks: declared }),
    ...known.state,
    types: typesOf(known, counts),
    read: {
      records: counts.records,
      ...(counts.records === 0 ? {} : { from: timeOf(counts.fromMs), to: timeOf(counts.toMs) }),
      complete: isComplete(searched),
      withoutType: counts.withoutType,
      ofOtherTypes: counts.ofOtherTypes,
    },
  }
}

/** All documents of a list together. */
const MAX_DOCUMENTS_BYTES = 2 ** 20

function typesOf(known: KnownSchemas, counts: Counts): TypeSchemas[] {
  const names = [...new Set([...known.types(), ...counts.types.keys()])].sort()
  let bytesLeft = MAX_DOCUMENTS_BYTES
  return names.map((type) => {
    const found = known.find(type)
    const counted = counts.types.get(type)
    const subject = typeof found === 'object' ? found : undefined
    if (subject !== undefined) bytesLeft -= Buffer.byteLength(JSON.stringify(subject.latest.schema.document))
    const versions = new Set([...(subject?.versions.keys() ?? []), ...(counted?.versions.keys() ?? [])])
    return {
      type,
      subject: known.subjectOf(type),
      schema: subject !== undefined ? 'known' : found === 'unknown' ? 'unknown' : 'none',
      versions: [...versions]
        .sort((a, b) => b - a)
        .map((version) => ({
          version,
          ...described(subject?.versions.get(version)),
          ...useAs('use', counted?.versions.get(version)),
        })),
      ...(subject?.unusable === undefined ? {} : { unusable: subject.unusable }),
      ...(subject !== undefined && bytesLeft >= 0 ? { document: subject.latest.schema.document } : {}),
      ...useAs('without', counted?.without),
      ...useAs('otherwise', counted?.otherwise),
    }
  })
}

const MAX_DESCRIPTION_CHARS = 1_000

function described(version: Version | undefined): Pick<SchemaVersionView, 'draft' | 'title' | 'description'> {
  if (version === undefined) return {}
  const { draft, document } = version.schema
  const textOf = <N extends 'title' | 'description'>(name: N): { [K in N]?: string } => {
    const text = typeof document === 'object' ? document[name] : undefined
    return typeof text === 'string' ? ({ [name]: text.slice(0, MAX_DESCRIPTION_CHARS) } as { [K in N]?: string }) : {}
  }
  return { draft, ...textOf('title'), ...textOf('description') }
}

const useAs = <N extends string>(name: N, use: Use | undefined): { [K in N]?: SchemaUse } =>
  use === undefined || use.events === 0 ? {} : ({ [name]: use.view() } as { [K in N]?: SchemaUse })

// ---- counting

/** Senders choose types and sources: no more of them is told apart. */
const MAX_TYPES = 500
const MAX_VERSIONS = 100
const MAX_NAMES_CHARS = 8 * 2 ** 20
const CHARS_OF_AN_ENTRY = 100

/** What may be kept of names. */
class Room {
  #left = MAX_NAMES_CHARS

  takes(name: string): boolean {
    this.#left -= name.length + CHARS_OF_AN_ENTRY
    return this.#left >= 0
  }
}

interface Sent {
  events: number
  newestMs: number
}

class Use {
  events = 0
  #newestMs = 0
  readonly #senders = new Map<string, Sent>()
  /** Those that are not told apart. */
  readonly #rest: Sent = { events: 0, newestMs: 0 }

  constructor(readonly room: Room) {}

  add(source: string, atMs: number): void {
    this.events++
    this.#newestMs = Math.max(this.#newestMs, atMs)
    let sender = this.#senders.get(source)
    if (sender === undefined && this.room.takes(source)) {
      sender = { events: 0, newestMs: 0 }
      this.#senders.set(source, sender)
    }
    sender ??= this.#rest
    sender.events++
    sender.newestMs = Math.max(sender.newestMs, atMs)
  }

  view(): SchemaUse {
    const sorted = [...this.#senders].sort(
      ([one, a], [other, b]) => b.events - a.events || b.newestMs - a.newestMs || (one < other ? -1 : 1),
    )
    const others = [
      ...sorted.slice(MAX_SENDERS).map(([, sent]) => sent),
      ...(this.#rest.events > 0 ? [this.#rest] : []),
    ]
    return {
      events: this.events,
      newest: timeOf(this.#newestMs),
      senders: sorted.slice(0, MAX_SENDERS).map(([source, { events, newestMs }]) => ({
        source,
        events,
        newest: timeOf(newestMs),
      })),
      ...(others.length === 0
        ? {}
        : {
            others: {
              senders: others.length,
              events: others.reduce((sum, { events }) => sum + events, 0),
              newest: timeOf(Math.max(...others.map(({ newestMs }) => newestMs))),
            },
          }),
    }
  }
}

interface TypeUse {
  subject: string
  versions: Map<number, Use>
  without: Use
  otherwise: Use
}

class Counts {
  readonly types = new Map<string, TypeUse>()
  records = 0
  fromMs = Number.POSITIVE_INFINITY
  toMs = 0
  withoutType = 0
  ofOtherTypes = 0
  readonly #room = new Room()

  constructor(readonly subjectOf: (type: string) => string) {}

  /** From the headers alone: the data may be large, and is decoded on access. */
  add({ headers, timestampMs }: IncomingRecord): void {
    this.records++
    this.fromMs = Math.min(this.fromMs, timestampMs)
    this.toMs = Math.max(this.toMs, timestampMs)
    const type = headerText(headers, `${ATTRIBUTE_PREFIX}type`)
    const source = headerText(headers, `${ATTRIBUTE_PREFIX}source`)
    if (type === undefined || source === undefined || STRUCTURED.test(headerText(headers, CONTENT_TYPE) ?? '')) {
      this.withoutType++
      return
    }
    const of = this.#typeUse(type)
    if (of === undefined) this.ofOtherTypes++
    else this.#useOf(of, headerText(headers, SCHEMA)).add(source, timestampMs)
  }

  #typeUse(type: string): TypeUse | undefined {
    const known = this.types.get(type)
    if (known !== undefined) return known
    if (this.types.size >= MAX_TYPES || !this.#room.takes(type)) return undefined
    const made = {
      subject: this.subjectOf(type),
      versions: new Map(),
      without: new Use(this.#room),
      otherwise: new Use(this.#room),
    }
    this.types.set(type, made)
    return made
  }

  #useOf({ subject, versions, without, otherwise }: TypeUse, header: string | undefined): Use {
    if (header === undefined) return without
    const by = parseSchemaHeader(header)
    if (by === undefined || by.subject !== subject) return otherwise
    const known = versions.get(by.version)
    if (known !== undefined) return known
    if (versions.size >= MAX_VERSIONS) return otherwise
    const made = new Use(this.#room)
    versions.set(by.version, made)
    return made
  }
}
