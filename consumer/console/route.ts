import { type Static, type TObject, type TSchema, Type } from '@sinclair/typebox'
import { MAX_REASON_CHARS } from '../../shared/events/control.ts'
import type { WhileAllowed } from '../../shared/http/access.ts'
import type { Role, Tenant } from '../../shared/http/tenants.ts'
import type { RangeReader } from '../../shared/kafka/types.ts'
import type { SchemaStore } from '../../shared/schemas/store.ts'
import type { Logger } from '../../shared/service/logger.ts'
import { oneOf } from '../../shared/service/one-of.ts'
import type { Acts } from './acts.ts'
import type { LetterFilter } from './acts-log.ts'
import type { ConsoleConfig } from './config.ts'
import type { Hubs } from './follow.ts'
import type { Jobs, JobsDeps } from './jobs.ts'
import { FORMATS } from './names.ts'
import type { Asking, Readers } from './readers.ts'
import { Budget } from './scan.ts'
import { callerOf } from './shares.ts'
import type { Statuses } from './status.ts'
import { type Stream, streamOf } from './streams.ts'
import type { Showing } from './view.ts'

/** What a route is, and what routes share: parameters, and reading the log within bounds. */

export interface RouteDeps {
  config: ConsoleConfig
  readers: Readers
  acts: Acts
  jobs: Jobs
  jobsDeps: JobsDeps
  hubs: Hubs
  statuses: Statuses
  /** undefined where the console is not told where they are, or no stream has any. */
  schemas: SchemaStore | undefined
  log: Logger
  nowMs(): number
  /** Offsets that were passed in the log. */
  onScanned(offsets: number): void
}

/** A request that is allowed, with its parameters checked. */
export interface Call<Q = Record<string, never>, B = undefined> {
  request: Request
  tenant: Tenant
  /** Those of the tenant that the key is for. */
  streams: ReadonlySet<string>
  /** What else the key may do. */
  roles: ReadonlySet<Role>
  everything(): { tenant: Tenant; streams: ReadonlySet<string> }[]
  /** Of this request, for answers that last. */
  whileAllowed: WhileAllowed
  /** Who acts, for the acts’ records. */
  by: string
  /** As people call them; undefined where that is not known. */
  name: string | undefined
  /** By a session, and not by a key. */
  isLoggedIn: boolean
  /** The key or token to act for whoever has sent the request; undefined: they have none. */
  bearer(): Promise<string | undefined>
  path: Readonly<Record<string, string>>
  query: Q
  body: B
}

export interface Answer {
  status: number
  body?: unknown
  /** In place of the body. */
  stream?: ReadableStream<Uint8Array>
  contentType?: string
  headers?: Readonly<Record<string, string>>
}

export interface Route {
  method: 'get' | 'post'
  /** As in OpenAPI. */
  path: string
  /** The operation’s id, and the label in metrics. */
  name: string
  /** any: each key may, whatever its roles are. */
  role: Role | 'any'
  summary: string
  description?: string
  query: TObject
  /** With an example. */
  body?: TSchema
  /** Those as lines are NDJSON where the client accepts that. */
  answers: Readonly<Record<number, { description: string; schema: TSchema; contentType?: string; lines?: TSchema }>>
  /** Its answers take long by their nature. */
  isLong?: boolean
  run(call: Call<never, never>): Promise<Answer>
}

/** Types a route’s run by its schemas. */
export const route = <Q extends TObject, B extends TSchema = TSchema>(
  of: Omit<Route, 'run' | 'query' | 'body'> & {
    query: Q
    body?: B
    run(call: Call<Static<Q>, Static<B>>): Promise<Answer>
  },
): Route => of as unknown as Route

export const text = (description: string) =>
  Type.Optional(Type.String({ minLength: 1, maxLength: 16_384, description }))
export const time = (description: string) => Type.Optional(Type.String({ format: 'date-time', description }))
export const whole = (minimum: number, maximum: number, description: string, fallback?: number) =>
  Type.Integer({ minimum, maximum, description, ...(fallback === undefined ? {} : { default: fallback }) })

export const TENANT = {
  tenant: text('The tenant, for keys of operators of all tenants; others need not name theirs.'),
}
export const PERIOD = {
  from: time('Only records of this time or later.'),
  to: time('Only records before this time.'),
}
export const FORMAT = {
  format: oneOf(FORMATS, {
    default: 'json',
    description: 'How data is shown; what is no JSON is shown as text, and what is no text as hex.',
  }),
}
/** Where the partition follows from. */
export const SOURCE_AND_KEY = {
  source: text('The event’s source.'),
  key: Type.Optional(Type.String({ maxLength: 16_384, description: 'The record’s key; empty: it has none.' })),
}
export const EVENT_FILTER = {
  type: text('The event’s type; a final * stands for anything.'),
  source: text('The event’s source.'),
  subject: text('The event’s subject.'),
}
export const LETTER_FILTER = {
  ...EVENT_FILTER,
  ...PERIOD,
  reason: text('The reason of the failure, such as “out of attempts”.'),
  handler: text('The handler that failed, TYPE or TYPE@VERSION.'),
  id: text('The event’s id.'),
}

export const REASON = Type.Optional(
  Type.String({ maxLength: MAX_REASON_CHARS, description: 'Why; kept with the act.' }),
)
export const WITH_REASON = Type.Object({ reason: REASON }, { additionalProperties: false, examples: [{}] })
export const DEMANDED_REASON = Type.Object(
  { reason: Type.String({ minLength: 1, maxLength: MAX_REASON_CHARS, description: 'Why; kept with the act.' }) },
  { additionalProperties: false, examples: [{ reason: 'database maintenance' }] },
)

/** Data of one record is shown up to this size, and of each of several up to the other. */
export const MAX_DATA_BYTES = 4 * 2 ** 20
export const MAX_LISTED_DATA_BYTES = 16 * 1024

/** The most jobs and acts of a list. */
export const MAX_LISTED = 500

export const json = (body: unknown, status = 200): Answer => ({ status, body })

/** Of a query that has these among others. */
export const filterIn = ({
  type,
  source,
  subject,
  from,
  to,
  reason,
  handler,
  id,
}: Partial<LetterFilter>): LetterFilter =>
  Object.fromEntries(
    Object.entries({ type, source, subject, from, to, reason, handler, id }).filter(([, value]) => value !== undefined),
  )

export const showing = (stream: Stream, format: Showing['format'], maxDataBytes: number): Showing => ({
  format,
  maxDataBytes,
  redact: stream.redact,
})

export const askingOf = (call: Pick<Call, 'request' | 'tenant' | 'everything'>): Asking => ({
  signal: call.request.signal,
  caller: callerOf(call),
})

/** What several routes do. */
export function commonOf(deps: RouteDeps) {
  const { config, readers } = deps

  const streamIn = ({ tenant, path }: Pick<Call, 'tenant' | 'path'>): Promise<Stream> =>
    streamOf(tenant, path['stream'] ?? '', readers)

  async function withBudget<T>(
    asking: Asking,
    work: (budget: Budget) => Promise<T>,
    onProgress?: (budget: Budget) => void,
    maxRecords = config.SCAN_MAX_RECORDS,
  ): Promise<T> {
    let counted = 0
    const budget: Budget = new Budget(
      Math.min(maxRecords, config.SCAN_MAX_RECORDS),
      config.SCAN_TIMEOUT_MS,
      asking,
      () => {
        deps.onScanned(budget.passed - counted)
        counted = budget.passed
        onProgress?.(budget)
      },
    )
    try {
      return await work(budget)
    } finally {
      budget.end()
    }
  }

  /** Reads for a request, within the bounds of one. */
  const reading = <T>(
    call: Pick<Call, 'request' | 'tenant' | 'everything'>,
    work: (reader: RangeReader, budget: Budget) => Promise<T>,
    maxRecords?: number,
  ): Promise<T> =>
    withBudget(
      askingOf(call),
      (budget) => readers.use(askingOf(call), (reader) => work(reader, budget)),
      undefined,
      maxRecords,
    )

  return { streamIn, withBudget, reading }
}
