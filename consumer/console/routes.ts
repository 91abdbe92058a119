import { type Static, type TObject, type TSchema, Type } from '@sinclair/typebox'
import { encodeControl, MAX_REASON_CHARS } from '../../shared/events/control.ts'
import { ProblemError } from '../../shared/http/problem.ts'
import type { Role, Tenant } from '../../shared/http/tenants.ts'
import type { Acts } from './acts.ts'
import { ACTIONS, type Action, type ActRecord, Edit, Job, jobView, LetterAct, LetterFilter } from './acts-log.ts'
import { browse, ORDERS, Page } from './browse.ts'
import type { ConsoleConfig } from './config.ts'
import { decodePositions, followOutcomes, type Hubs, nextOutcome, OUTCOMES, Outcome } from './follow.ts'
import { actOnOne, demandFewJobs, type Jobs, type JobsDeps } from './jobs.ts'
import {
  groupLetters,
  LETTER_STATES,
  Letter,
  LetterGroups,
  type LetterState,
  letterRanges,
  matcherOf,
  nativeFilter,
  stateOf,
  typeMatches,
} from './letters.ts'
import { Found, find, STATES } from './life.ts'
import { progressLines } from './progress-lines.ts'
import type { Readers } from './readers.ts'
import { recordAt } from './record-at.ts'
import { Budget, isComplete, merged, Searched, scan } from './scan.ts'
import { oneOf } from './schemas.ts'
import { type Statuses, StreamStatus } from './status.ts'
import { type Stream, streamOf, topicOf } from './streams.ts'
import { FORMATS, RecordView, ROLES_OF_TOPICS, type Showing, viewOf } from './view.ts'

/** What the console answers: one table, from which come the routes, the access rules and the OpenAPI description. */

export interface RouteDeps {
  config: ConsoleConfig
  readers: Readers
  acts: Acts
  jobs: Jobs
  jobsDeps: JobsDeps
  hubs: Hubs
  statuses: Statuses
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
  /** Who acts, for the acts’ records. */
  by: string
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
}

export interface Route {
  method: 'get' | 'post'
  /** As in OpenAPI. */
  path: string
  /** The operation’s id, and the label in metrics. */
  name: string
  role: Role
  summary: string
  description?: string
  query: TObject
  /** With an example. */
  body?: TSchema
  answers: Readonly<Record<number, { description: string; schema: TSchema; contentType?: string }>>
  /** Its answers take long by their nature. */
  isLong?: boolean
  run(call: Call<never, never>): Promise<Answer>
}

/** Types a route’s run by its schemas. */
const route = <Q extends TObject, B extends TSchema = TSchema>(
  of: Omit<Route, 'run' | 'query' | 'body'> & {
    query: Q
    body?: B
    run(call: Call<Static<Q>, Static<B>>): Promise<Answer>
  },
): Route => of as unknown as Route

const text = (description: string) => Type.Optional(Type.String({ minLength: 1, maxLength: 16_384, description }))
const time = (description: string) => Type.Optional(Type.String({ format: 'date-time', description }))
const whole = (minimum: number, maximum: number, description: string, fallback?: number) =>
  Type.Integer({ minimum, maximum, description, ...(fallback === undefined ? {} : { default: fallback }) })

const TENANT = {
  tenant: text('The tenant, for keys of operators of all tenants; others need not name theirs.'),
}
const PERIOD = {
  from: time('Only records of this time or later.'),
  to: time('Only records before this time.'),
}
const FORMAT = {
  format: oneOf(FORMATS, {
    default: 'json',
    description: 'How data is shown; what is no JSON is shown as text, and what is no text as hex.',
  }),
}
const EVENT_FILTER = {
  type: text('The event’s type; a final * stands for anything.'),
  source: text('The event’s source.'),
  subject: text('The event’s subject.'),
}
const LETTER_FILTER = {
  ...EVENT_FILTER,
  ...PERIOD,
  reason: text('The reason of the failure, such as “out of attempts”.'),
  handler: text('The handler that failed, TYPE or TYPE@VERSION.'),
  id: text('The event’s id.'),
}

const REASON = Type.Optional(Type.String({ maxLength: MAX_REASON_CHARS, description: 'Why; kept with the act.' }))
const WITH_REASON = Type.Object({ reason: REASON }, { additionalProperties: false, examples: [{}] })
const DEMANDED_REASON = Type.Object(
  { reason: Type.String({ minLength: 1, maxLength: MAX_REASON_CHARS, description: 'Why; kept with the act.' }) },
  { additionalProperties: false, examples: [{ reason: 'database maintenance' }] },
)

/** Data of one record is shown up to this size, and of each of several up to the other. */
const MAX_DATA_BYTES = 4 * 2 ** 20
const MAX_LISTED_DATA_BYTES = 16 * 1024

const MAX_OFFSET = Number.MAX_SAFE_INTEGER

/** The longest wait for an outcome. */
const MAX_WAIT_SECONDS = 60

/** What is searched for an outcome that may be there already. */
const RECENT_MS = 3_600_000

const JobList = Type.Object({ jobs: Type.Array(Job) }, { title: 'Jobs' })
const Acted = Type.Object(
  { done: Type.Boolean({ description: 'false: it was acted on before; `act` says how.' }), act: LetterAct },
  { title: 'Acted' },
)
const Counted = Type.Object(
  {
    matches: Type.Integer({ minimum: 0, description: 'Open letters that the filter matches now.' }),
    complete: Type.Boolean(),
    searched: Type.Array(Searched),
  },
  { title: 'DryRun' },
)
const JobRequest = Type.Object(
  {
    action: oneOf(ACTIONS, { default: 'redrive', description: 'What is done to each letter.' }),
    filter: LetterFilter,
    ratePerSecond: Type.Number({
      exclusiveMinimum: 0,
      maximum: 10_000,
      default: 100,
      description: 'The most letters a second.',
    }),
    dryRun: Type.Boolean({ default: false, description: 'Only counts them.' }),
    reason: REASON,
  },
  {
    title: 'JobRequest',
    additionalProperties: false,
    examples: [{ filter: { reason: 'out of attempts' }, ratePerSecond: 100, dryRun: true }],
  },
)
const StreamList = Type.Object(
  { streams: Type.Array(Type.Object({ tenant: Type.String(), stream: Type.String() })) },
  { title: 'Streams' },
)
const ActList = Type.Object(
  {
    acts: Type.Array(Type.Unknown({ description: 'As they were recorded.' }), { description: 'Newest first.' }),
    complete: Type.Boolean(),
  },
  { title: 'Acts' },
)
const OutcomeAnswer = Type.Object(
  {
    state: oneOf(STATES),
    outcome: Type.Optional(RecordView),
  },
  { title: 'OutcomeOfEvent' },
)

const json = (body: unknown, status = 200): Answer => ({ status, body })

export function routes(deps: RouteDeps): Route[] {
  const { config, readers, acts, jobs, jobsDeps, hubs, statuses } = deps

  const streamIn = ({ tenant, path }: Pick<Call, 'tenant' | 'path'>): Promise<Stream> =>
    streamOf(tenant, path['stream'] ?? '', readers)

  const showing = (stream: Stream, format: Showing['format'], maxDataBytes: number): Showing => ({
    format,
    maxDataBytes,
    redact: stream.redact,
  })

  async function withBudget<T>(
    signal: AbortSignal,
    work: (budget: Budget) => Promise<T>,
    onProgress?: (budget: Budget) => void,
  ): Promise<T> {
    let counted = 0
    const budget: Budget = new Budget(config.SCAN_MAX_RECORDS, config.SCAN_TIMEOUT_MS, signal, () => {
      deps.onScanned(budget.passed - counted)
      counted = budget.passed
      onProgress?.(budget)
    })
    try {
      return await work(budget)
    } finally {
      budget.end()
    }
  }

  const lifeDeps = {
    readers,
    actOf: async (stream: Stream, letter: { partition: number; offset: number }) =>
      (await acts.of(stream).current()).actOf(letter),
  }

  /** Answers as JSON, or, where the client accepts it, as lines of progress with the answer as the last. */
  function searching<T>(
    request: Request,
    work: (budget: Budget) => Promise<T>,
    demand: (result: T) => T,
  ): Promise<Answer> {
    const accept = request.headers.get('accept') ?? ''
    if (!accept.includes('application/x-ndjson'))
      return withBudget(request.signal, work).then((result) => json(demand(result)))
    return Promise.resolve({
      status: 200,
      contentType: 'application/x-ndjson',
      stream: progressLines(request, work, demand, withBudget),
    })
  }

  function demandFound(what: string): (found: Static<typeof Found>) => Static<typeof Found> {
    return (found) => {
      if (found.events.length > 0) return found
      const ranges = found.searched
        .filter(({ searched }) => searched.from < searched.to)
        .map(({ topic, partition, searched }) => `${topic}/${partition} from ${searched.from} to ${searched.to - 1}`)
      const more = ranges.length > MAX_TOLD_RANGES ? `, and ${ranges.length - MAX_TOLD_RANGES} more` : ''
      const told =
        ranges.length === 0 ? 'no records' : `the offsets of ${ranges.slice(0, MAX_TOLD_RANGES).join(', ')}${more}`
      throw new ProblemError({
        kind: 'event-not-found',
        detail: `There is no record with ${what} in what was searched: ${told}.${found.complete ? '' : ' The search ended at a limit: give `source`, `key`, `from` or `to`.'}`,
        extensions: { complete: found.complete, searched: found.searched },
      })
    }
  }

  const period = ({ from, to }: { from?: string; to?: string }) => ({
    fromMs: from === undefined ? undefined : Date.parse(from),
    toMs: to === undefined ? undefined : Date.parse(to),
  })

  /** @throws ProblemError when it is no letter */
  async function letterIn(stream: Stream, path: Call['path'], signal: AbortSignal) {
    const partition = Number(path['partition'])
    const offset = Number(path['offset'])
    const isPlace = /^\d{1,9}$/.test(path['partition'] ?? '') && /^\d{1,15}$/.test(path['offset'] ?? '')
    const letter =
      isPlace && partition < stream.partitions
        ? await withBudget(signal, (budget) =>
            readers.use(signal, (reader) =>
              recordAt({ topic: topicOf(stream, 'dlq'), partition }, offset, reader, budget, readers),
            ),
          )
        : undefined
    if (letter === undefined)
      throw new ProblemError({
        kind: 'letter-not-found',
        detail: `There is no dead letter at ${topicOf(stream, 'dlq')}/${path['partition']}/${path['offset']}: it may have been deleted by retention.`,
      })
    return letter
  }

  const filterIn = ({ type, source, subject, from, to, reason, handler, id }: Partial<LetterFilter>): LetterFilter =>
    Object.fromEntries(
      Object.entries({ type, source, subject, from, to, reason, handler, id }).filter(
        ([, value]) => value !== undefined,
      ),
    )

  async function actOnLetter(
    action: Action,
    call: Pick<Call, 'request' | 'tenant' | 'path' | 'by'>,
    reason: string | undefined,
    edit?: Static<typeof Edit>,
  ) {
    const stream = await streamIn(call)
    const letter = await letterIn(stream, call.path, call.request.signal)
    const done = await actOnOne(action, stream, letter, { by: call.by, reason }, edit, jobsDeps)
    const act = (await acts.of(stream).current()).actOf(letter)
    return json({ done, act }, done ? 201 : 200)
  }

  async function control(
    call: Pick<Call, 'tenant' | 'path' | 'by' | 'request'>,
    act: 'pause' | 'resume',
    reason: string | undefined,
  ): Promise<Answer> {
    const stream = await streamIn(call)
    const { by } = call
    const nowMs = deps.nowMs()
    await acts.of(stream).perform<void>(async () => ({
      records: [
        encodeControl(stream.tenant, stream.name, {
          state: act === 'pause' ? 'paused' : 'running',
          by,
          atMs: nowMs,
          reason: reason ?? '',
        }),
      ],
      acts: [
        {
          act,
          id: Bun.randomUUIDv7(),
          time: new Date(nowMs).toISOString(),
          by,
          ...(reason === undefined ? {} : { reason }),
        },
      ],
      result: undefined,
    }))
    return json(await statuses.of(stream, (await acts.of(stream).current()).paused))
  }

  const found = { description: 'What was found.', schema: Found }
  const lifeNote =
    'With `Accept: application/x-ndjson` the answer is lines: `{"progress": {…}}` several times a second, then `{"result": …}` or `{"problem": …}`.'

  return [
    route({
      method: 'get',
      path: '/v1/streams',
      name: 'listStreams',
      role: 'read',
      summary: 'The streams that the key may read',
      query: Type.Object(TENANT),
      answers: { 200: { description: 'The streams.', schema: StreamList } },
      run: async ({ tenant, streams }) =>
        json({ streams: [...streams].map((stream) => ({ tenant: tenant.name, stream })) }),
    }),
    route({
      method: 'get',
      path: '/v1/streams/{stream}/events/{id}',
      name: 'findEvent',
      role: 'read',
      summary: 'An event’s life, by its id',
      description: `Its record, each failed attempt, everywhere it was, and its end. What is given narrows the search: \`key\` and \`source\` tell the partition, and an id that is a UUIDv7 its time. ${lifeNote}`,
      query: Type.Object({
        source: text('The event’s source.'),
        key: Type.Optional(Type.String({ maxLength: 16_384, description: 'The record’s key; empty: it has none.' })),
        ...PERIOD,
        ...FORMAT,
        ...TENANT,
      }),
      answers: { 200: found },
      run: async (call) => {
        const stream = await streamIn(call)
        const { id = '' } = call.path
        const { source, key, format } = call.query
        const query = { id, source, key, ...period(call.query) }
        return searching(
          call.request,
          (budget) => find(stream, query, showing(stream, format, MAX_DATA_BYTES), budget, lifeDeps),
          demandFound(`the id ${id}`),
        )
      },
    }),
    route({
      method: 'get',
      path: '/v1/streams/{stream}/events',
      name: 'findEvents',
      role: 'read',
      summary: 'Events’ lives, by receipt or trace',
      description: `By \`partition\` and \`offset\` of a receipt, or by \`traceId\`. ${lifeNote}`,
      query: Type.Object({
        partition: Type.Optional(whole(0, 1_000_000, 'Of the receipt.')),
        offset: Type.Optional(whole(0, MAX_OFFSET, 'Of the receipt.')),
        traceId: Type.Optional(Type.String({ pattern: '^[0-9a-f]{32}$', description: '32 hex digits.' })),
        ...PERIOD,
        ...FORMAT,
        ...TENANT,
      }),
      answers: { 200: found },
      run: async (call) => {
        const { partition, offset, traceId, format } = call.query
        const isReceipt = partition !== undefined && offset !== undefined
        if ((traceId !== undefined) === isReceipt || (partition === undefined) !== (offset === undefined))
          throw new ProblemError({
            kind: 'invalid-parameters',
            detail: 'Give `partition` and `offset`, or `traceId`.',
            errors: [{ pointer: '/query/traceId', detail: 'is needed, or partition and offset are' }],
          })
        const stream = await streamIn(call)
        const receipt = isReceipt ? { partition, offset } : undefined
        return searching(
          call.request,
          (budget) =>
            find(
              stream,
              { receipt, traceId, ...period(call.query) },
              showing(stream, format, MAX_DATA_BYTES),
              budget,
              lifeDeps,
            ),
          demandFound(
            traceId === undefined ? `the partition ${partition} and the offset ${offset}` : `the trace ${traceId}`,
          ),
        )
      },
    }),
    route({
      method: 'get',
      path: '/v1/streams/{stream}/events/{id}/outcome',
      name: 'waitForOutcome',
      role: 'read',
      summary: 'An event’s outcome, as soon as it is committed',
      query: Type.Object({
        wait: whole(0, MAX_WAIT_SECONDS, 'How long to wait for it, in seconds.', 0),
        source: text('The event’s source.'),
        key: Type.Optional(Type.String({ maxLength: 16_384, description: 'The record’s key; empty: it has none.' })),
        generation: Type.Optional(whole(0, 2 ** 31 - 1, 'Of a redrive; without it, the newest.')),
        ...TENANT,
      }),
      isLong: true,
      answers: {
        200: {
          description: 'The outcome, or the state that the event is in when the time is over.',
          schema: OutcomeAnswer,
        },
      },
      run: async (call) => {
        const stream = await streamIn(call)
        const { id = '' } = call.path
        const { wait, source, key, generation } = call.query
        const matches = (outcome: Outcome): boolean =>
          outcome.id === id &&
          (source === undefined || outcome.source === source) &&
          (generation === undefined || outcome.generation === generation)
        const hub = wait === 0 ? undefined : await hubs.of(stream)
        const leave = hub && hubs.enter()
        const ending = new AbortController()
        const signal = AbortSignal.any([call.request.signal, ending.signal])
        const shown = showing(stream, 'json', MAX_DATA_BYTES)
        const coming =
          hub && nextOutcome(hub, matches, wait * 1000, signal).then((record) => record && viewOf(record, shown))
        // It may be there already, or be committed while this looks for it.
        const looked = withBudget(signal, (budget) =>
          find(
            stream,
            {
              id,
              source,
              key,
              fromMs: key === undefined && source === undefined ? deps.nowMs() - RECENT_MS : undefined,
            },
            shown,
            budget,
            lifeDeps,
          ),
        )
        const stateIn = async () => {
          const { events } = await looked
          const generations = events[0]?.generations ?? []
          return generation === undefined
            ? generations.at(-1)
            : generations.find((one) => one.generation === generation)
        }
        try {
          const outcome = await Promise.race([
            stateIn().then((one) => one?.outcome ?? coming),
            ...(coming === undefined ? [] : [coming]),
          ])
          if (outcome !== undefined) return json({ state: outcome.role === 'dlq' ? 'dead' : 'processed', outcome })
          const known = await stateIn()
          if (known !== undefined) return json({ state: known.state })
          return json(demandFound(`the id ${id}`)(await looked))
        } finally {
          leave?.()
          ending.abort()
          looked.catch(() => undefined)
        }
      },
    }),
    route({
      method: 'get',
      path: '/v1/streams/{stream}/outcomes',
      name: 'followOutcomes',
      role: 'read',
      summary: 'Outcomes as they are committed, as server-sent events',
      description:
        'Each event’s id is a position in the log: with the last one as `Last-Event-ID`, the outcomes after it follow, each once. Without it, those from now on. An `end` event says why the service ends the answer, for example that the client reads too slowly.',
      isLong: true,
      query: Type.Object({
        outcome: Type.Optional(oneOf(OUTCOMES, { description: 'Only these.' })),
        ...EVENT_FILTER,
        id: text('The event’s id.'),
        key: text('The record’s key.'),
        reason: text('The reason of the failure.'),
        since: text('In place of Last-Event-ID, where a client cannot set the header.'),
        ...TENANT,
      }),
      answers: {
        200: {
          description: 'Events of the type `outcome`, with an Outcome as data.',
          schema: Outcome,
          contentType: 'text/event-stream',
        },
      },
      run: async (call) => {
        const stream = await streamIn(call)
        const { outcome, type, source, subject, id, key, reason } = call.query
        const given = call.request.headers.get('last-event-id') ?? call.query.since
        const since = given === undefined || given === '' ? undefined : decodePositions(given)
        if (since === undefined && given !== undefined && given !== '')
          throw new ProblemError({ kind: 'invalid-parameters', detail: 'Last-Event-ID is no position of this stream.' })
        const matches = (one: Outcome): boolean =>
          (outcome === undefined || one.outcome === outcome) &&
          (type === undefined || (one.type !== undefined && typeMatches(type, one.type))) &&
          (source === undefined || one.source === source) &&
          (subject === undefined || one.subject === subject) &&
          (id === undefined || one.id === id) &&
          (key === undefined || one.key === key) &&
          (reason === undefined || one.error?.reason === reason)
        return {
          status: 200,
          contentType: 'text/event-stream',
          stream: await followOutcomes(hubs, stream, since, matches, call.request.signal),
        }
      },
    }),
    route({
      method: 'get',
      path: '/v1/streams/{stream}/records',
      name: 'browseRecords',
      role: 'read',
      summary: 'Records of one of the stream’s topics, page by page',
      query: Type.Object({
        topic: oneOf(ROLES_OF_TOPICS, { default: 'input', description: 'Which of the stream’s topics.' }),
        order: oneOf(ORDERS, { default: 'newest', description: 'Which come first.' }),
        limit: whole(1, 500, 'The most records of a page.', 20),
        partition: Type.Optional(whole(0, 1_000_000, 'Only this partition.')),
        offset: Type.Optional(whole(0, MAX_OFFSET, 'With a partition: begins at this offset.')),
        cursor: text('From the page before.'),
        ...LETTER_FILTER,
        header: Type.Optional(
          Type.Array(Type.String({ pattern: '^[^:]+:' }), {
            maxItems: 10,
            description: 'NAME:VALUE, exactly. May be repeated.',
          }),
        ),
        where: Type.Optional(
          Type.Array(Type.String({ pattern: '^(/[^=]*)?=' }), {
            maxItems: 10,
            description:
              'POINTER=VALUE: a JSON pointer (RFC 6901) into the data, and the value there, a string as it is. May be repeated.',
          }),
        ),
        ...FORMAT,
        ...TENANT,
      }),
      answers: { 200: { description: 'A page.', schema: Page } },
      run: async (call) => {
        const stream = await streamIn(call)
        const { topic, order, limit, partition, offset, cursor, header = [], where = [], format } = call.query
        if (offset !== undefined && partition === undefined)
          throw new ProblemError({
            kind: 'invalid-parameters',
            detail: 'An offset is one of a partition: give `partition`, too.',
            errors: [{ pointer: '/query/offset', detail: 'needs a partition' }],
          })
        const pointers = where.map((one) => ({
          pointer: one.slice(0, one.indexOf('=')),
          value: one.slice(one.indexOf('=') + 1),
        }))
        if (pointers.length > 0 && stream.redact.length > 0)
          throw new ProblemError({
            kind: 'forbidden',
            detail: 'Parts of this stream’s data are masked, so it cannot be searched by its data.',
          })
        const query = {
          role: topic,
          order,
          limit,
          partition,
          offset,
          cursor,
          filter: filterIn(call.query),
          headers: header.map((one) => ({
            name: one.slice(0, one.indexOf(':')),
            value: one.slice(one.indexOf(':') + 1),
          })),
          where: pointers,
        }
        return json(
          await withBudget(call.request.signal, (budget) =>
            readers.use(call.request.signal, (reader) =>
              browse(stream, query, showing(stream, format, MAX_LISTED_DATA_BYTES), reader, budget, readers),
            ),
          ),
        )
      },
    }),
    route({
      method: 'get',
      path: '/v1/streams/{stream}/dead-letters',
      name: 'groupDeadLetters',
      role: 'read',
      summary: 'Dead letters, counted by reason, type, handler and state',
      query: Type.Object({
        ...LETTER_FILTER,
        state: oneOf([...LETTER_STATES, 'all'], {
          default: 'open',
          description: 'Which: open ones are those that nothing was done to.',
        }),
        ...TENANT,
      }),
      answers: { 200: { description: 'The groups.', schema: LetterGroups } },
      run: async (call) => {
        const stream = await streamIn(call)
        const { state } = call.query
        const states: readonly LetterState[] = state === 'all' ? LETTER_STATES : [state as LetterState]
        const acted = await acts.of(stream).current()
        return json(
          await withBudget(call.request.signal, (budget) =>
            readers.use(call.request.signal, (reader) =>
              groupLetters(stream, filterIn(call.query), states, acted, reader, budget, readers),
            ),
          ),
        )
      },
    }),
    route({
      method: 'get',
      path: '/v1/streams/{stream}/dead-letters/{partition}/{offset}',
      name: 'getDeadLetter',
      role: 'read',
      summary: 'One dead letter in full',
      query: Type.Object({ ...FORMAT, ...TENANT }),
      answers: { 200: { description: 'The letter.', schema: Letter } },
      run: async (call) => {
        const stream = await streamIn(call)
        const letter = await letterIn(stream, call.path, call.request.signal)
        const act = (await acts.of(stream).current()).actOf(letter)
        return json({
          state: stateOf(act),
          ...(act === undefined ? {} : { act }),
          letter: viewOf(letter, showing(stream, call.query.format, MAX_DATA_BYTES)),
        })
      },
    }),
    route({
      method: 'post',
      path: '/v1/streams/{stream}/dead-letters/{partition}/{offset}/redrive',
      name: 'redriveDeadLetter',
      role: 'operate',
      summary: 'Send a dead letter’s event through its stream once more',
      description:
        'It is the same event, as its next generation. A letter is acted on once, however often this is called.',
      query: Type.Object(TENANT),
      body: Type.Object(
        { reason: REASON, edit: Type.Optional(Edit) },
        {
          additionalProperties: false,
          examples: [{ reason: 'the total was text', edit: { patch: [{ op: 'replace', path: '/total', value: 10 }] } }],
        },
      ),
      answers: {
        200: { description: 'It was acted on before.', schema: Acted },
        201: { description: 'It was redriven.', schema: Acted },
      },
      run: (call) => actOnLetter('redrive', call, call.body.reason, call.body.edit),
    }),
    route({
      method: 'post',
      path: '/v1/streams/{stream}/dead-letters/{partition}/{offset}/discard',
      name: 'discardDeadLetter',
      role: 'operate',
      summary: 'Note that a dead letter needs nothing more',
      description: 'The letter stays in .dlq as long as retention keeps it.',
      query: Type.Object(TENANT),
      body: DEMANDED_REASON,
      answers: {
        200: { description: 'It was acted on before.', schema: Acted },
        201: { description: 'It was discarded.', schema: Acted },
      },
      run: (call) => actOnLetter('discard', call, call.body.reason),
    }),
    route({
      method: 'post',
      path: '/v1/streams/{stream}/jobs',
      name: 'startJob',
      role: 'operate',
      summary: 'Redrive, or discard, all open dead letters that a filter matches',
      description:
        'It concerns the letters that are there now, in the order of their partitions, and goes on after a restart. `dryRun` only counts them.',
      query: Type.Object(TENANT),
      body: JobRequest,
      answers: {
        200: { description: 'Of a dry run.', schema: Counted },
        201: { description: 'The job was started.', schema: Job },
      },
      run: async (call) => {
        const stream = await streamIn(call)
        const { action, filter, ratePerSecond, dryRun, reason } = call.body
        if (action === 'discard' && reason === undefined && !dryRun)
          throw new ProblemError({
            kind: 'invalid-body',
            detail: 'A discard needs a reason.',
            errors: [{ pointer: '/reason', detail: 'is required' }],
          })
        const ranges = await letterRanges(stream, filter, readers)
        if (dryRun) {
          const state = await acts.of(stream).current()
          const matches = matcherOf(filter)
          let count = 0
          const searched = await withBudget(call.request.signal, (budget) =>
            readers.use(call.request.signal, (reader) =>
              scan(reader, ranges, { order: 'newest', filter: nativeFilter(filter), budget }, (letter) => {
                if (matches(letter) && state.actOf(letter) === undefined) count++
              }),
            ),
          )
          return json({ matches: count, complete: isComplete(searched), searched: merged(searched) })
        }
        const id = Bun.randomUUIDv7()
        const record: ActRecord = {
          act: 'job',
          id,
          time: new Date(deps.nowMs()).toISOString(),
          by: call.by,
          ...(reason === undefined ? {} : { reason }),
          action,
          filter,
          ratePerSecond,
          from: ranges.map(({ from }) => from),
          to: ranges.map(({ to }) => to),
        }
        await acts.of(stream).perform<void>(async (state) => {
          // It may be there after a transaction whose outcome was not known.
          if (state.jobs.has(id)) return { records: [], acts: [], result: undefined }
          demandFewJobs(state)
          return { records: [], acts: [record], result: undefined }
        })
        jobs.run(stream, id)
        return json(await jobIn(stream, id), 201)
      },
    }),
    route({
      method: 'get',
      path: '/v1/streams/{stream}/jobs',
      name: 'listJobs',
      role: 'read',
      summary: 'Redrives and discards by filter, newest first',
      query: Type.Object(TENANT),
      answers: { 200: { description: 'The jobs.', schema: JobList } },
      run: async (call) => {
        const stream = await streamIn(call)
        const { jobs: known } = await acts.of(stream).current()
        return json({ jobs: [...known.values()].reverse().slice(0, MAX_LISTED).map(jobView) })
      },
    }),
    route({
      method: 'get',
      path: '/v1/streams/{stream}/jobs/{job}',
      name: 'getJob',
      role: 'read',
      summary: 'A job’s progress',
      query: Type.Object(TENANT),
      answers: { 200: { description: 'The job.', schema: Job } },
      run: async (call) => json(await jobIn(await streamIn(call), call.path['job'] ?? '')),
    }),
    route({
      method: 'post',
      path: '/v1/streams/{stream}/jobs/{job}/cancel',
      name: 'cancelJob',
      role: 'operate',
      summary: 'Cancel a job',
      description: 'What it has done stays done.',
      query: Type.Object(TENANT),
      body: WITH_REASON,
      answers: { 200: { description: 'The job, as it ended.', schema: Job } },
      run: async (call) => {
        const stream = await streamIn(call)
        const id = call.path['job'] ?? ''
        await jobIn(stream, id)
        await acts.of(stream).perform<void>(async (state) => ({
          records: [],
          acts:
            state.jobs.get(id)?.end === undefined
              ? [
                  {
                    act: 'job-end',
                    id: Bun.randomUUIDv7(),
                    job: id,
                    time: new Date(deps.nowMs()).toISOString(),
                    by: call.by,
                    state: 'cancelled',
                    ...(call.body.reason === undefined ? {} : { detail: call.body.reason }),
                  },
                ]
              : [],
          result: undefined,
        }))
        return json(await jobIn(stream, id))
      },
    }),
    route({
      method: 'get',
      path: '/v1/streams/{stream}/acts',
      name: 'listActs',
      role: 'read',
      summary: 'Who did what to the stream and its dead letters, newest first',
      query: Type.Object({ limit: whole(1, MAX_LISTED, 'The most acts.', 50), ...TENANT }),
      answers: { 200: { description: 'The acts.', schema: ActList } },
      run: async (call) => {
        const stream = await streamIn(call)
        return json(
          await withBudget(call.request.signal, (budget) =>
            readers.use(call.request.signal, (reader) =>
              acts.of(stream).list(call.query.limit, stream.redact, reader, budget),
            ),
          ),
        )
      },
    }),
    route({
      method: 'get',
      path: '/v1/streams/{stream}/status',
      name: 'getStatus',
      role: 'read',
      summary: 'Lag, rates, and which consumer has which partition',
      query: Type.Object(TENANT),
      answers: { 200: { description: 'The status.', schema: StreamStatus } },
      run: async (call) => {
        const stream = await streamIn(call)
        return json(await statuses.of(stream, (await acts.of(stream).current()).paused))
      },
    }),
    route({
      method: 'post',
      path: '/v1/streams/{stream}/pause',
      name: 'pauseStream',
      role: 'operate',
      summary: 'Pause the stream’s processing',
      description:
        'Consumers finish what they have begun, and begin nothing new of it, within seconds. Events are still taken in.',
      query: Type.Object(TENANT),
      body: DEMANDED_REASON,
      answers: { 200: { description: 'The status.', schema: StreamStatus } },
      run: (call) => control(call, 'pause', call.body.reason),
    }),
    route({
      method: 'post',
      path: '/v1/streams/{stream}/resume',
      name: 'resumeStream',
      role: 'operate',
      summary: 'Go on with the stream’s processing',
      query: Type.Object(TENANT),
      body: WITH_REASON,
      answers: { 200: { description: 'The status.', schema: StreamStatus } },
      run: (call) => control(call, 'resume', call.body.reason),
    }),
  ]

  async function jobIn(stream: Stream, id: string): Promise<Static<typeof Job>> {
    const job = (await acts.of(stream).current()).jobs.get(id)
    if (job === undefined)
      throw new ProblemError({ kind: 'job-not-found', detail: `The stream ${stream.name} has no job ${id}.` })
    return jobView(job)
  }
}

const MAX_LISTED = 500

/** Ranges that a problem tells in words; its members have all. */
const MAX_TOLD_RANGES = 20
