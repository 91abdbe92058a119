import { type Static, Type } from '@sinclair/typebox'
import { FORM } from '../../shared/events/headers.ts'
import { ProblemError } from '../../shared/http/problem.ts'
import { oneOf } from '../../shared/service/one-of.ts'
import { browse, ORDERS, Page } from './browse.ts'
import { decodePositions, followOutcomes, nextOutcome, OUTCOMES, Outcome } from './follow.ts'
import { stateOf, typeMatches } from './letters.ts'
import { Found, find, STATES } from './life.ts'
import { ROLES_OF_TOPICS } from './names.ts'
import { lineOf, progressLines } from './progress-lines.ts'
import {
  type Answer,
  askingOf,
  type Call,
  commonOf,
  EVENT_FILTER,
  FORMAT,
  filterIn,
  json,
  LETTER_FILTER,
  MAX_DATA_BYTES,
  MAX_LISTED_DATA_BYTES,
  PERIOD,
  type Route,
  type RouteDeps,
  route,
  SOURCE_AND_KEY,
  showing,
  TENANT,
  text,
  whole,
} from './route.ts'
import type { Budget } from './scan.ts'
import { Receipts, SentEvent, send } from './send.ts'
import { callerOf } from './shares.ts'
import type { Stream } from './streams.ts'
import { RecordView, viewOf } from './view.ts'

/** Events: one’s life and outcome, outcomes as they are committed, and the records of a stream’s topics. */

const MAX_OFFSET = Number.MAX_SAFE_INTEGER

/** The longest wait for an outcome. */
const MAX_WAIT_SECONDS = 60

/** What is searched for an outcome that may be there already. */
const RECENT_MS = 3_600_000

/** Ranges that a problem tells in words; its members have all. */
const MAX_TOLD_RANGES = 20

const OutcomeAnswer = Type.Object(
  {
    state: oneOf(STATES),
    outcome: Type.Optional(RecordView),
  },
  { title: 'OutcomeOfEvent' },
)

const FOUND = { description: 'What was found.', schema: Found, lines: lineOf(Found) }
const LIFE_NOTE =
  'With `Accept: application/x-ndjson` the answer is lines: `{"progress": {…}}` several times a second, then `{"result": …}` or `{"problem": …}`. The status is then 200 also where the last line is a problem.'

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

export function eventRoutes(deps: RouteDeps): Route[] {
  const { config, readers, acts, hubs, log } = deps
  const { streamIn, withBudget, reading } = commonOf(deps)

  const lifeDeps = {
    readers,
    actOf: async (stream: Stream, letter: { partition: number; offset: number }) =>
      (await acts.of(stream).current()).actOf(letter),
  }

  /** Answers as JSON, or, where the client accepts it, as lines of progress with the answer as the last. */
  function searching<T>(
    call: Pick<Call, 'request' | 'tenant' | 'everything'>,
    work: (budget: Budget) => Promise<T>,
    demand: (result: T) => T,
  ): Promise<Answer> {
    const { request } = call
    const asking = askingOf(call)
    const accept = request.headers.get('accept') ?? ''
    if (!accept.includes('application/x-ndjson')) return withBudget(asking, work).then((result) => json(demand(result)))
    return Promise.resolve({
      status: 200,
      contentType: 'application/x-ndjson',
      stream: progressLines(
        request,
        work,
        demand,
        (signal, ...rest) => withBudget({ ...asking, signal }, ...rest),
        log,
      ),
    })
  }

  return [
    route({
      method: 'post',
      path: '/v1/streams/{stream}/events',
      name: 'sendEvent',
      role: 'send',
      summary: 'Send an event, through the producer',
      description:
        'For people: the answer is that of the producer, where programs send their events. Without PRODUCER_URL, it is 404.',
      query: Type.Object(TENANT),
      body: SentEvent,
      answers: { 202: { description: 'It is stored.', schema: Receipts } },
      run: (call) => send(config, call.path['stream'] ?? '', call.body, call),
    }),
    route({
      method: 'get',
      path: '/v1/streams/{stream}/events/{id}',
      name: 'findEvent',
      role: 'read',
      summary: 'An event’s life, by its id',
      description: `Its record, each failed attempt, everywhere it was, and its end. What is given narrows the search: \`key\` and \`source\` tell the partition, and an id that is a UUIDv7 its time. ${LIFE_NOTE}`,
      query: Type.Object({
        ...SOURCE_AND_KEY,
        ...PERIOD,
        ...FORMAT,
        ...TENANT,
      }),
      answers: { 200: FOUND },
      run: async (call) => {
        const stream = await streamIn(call)
        const { id = '' } = call.path
        const { source, key, format } = call.query
        const query = { id, source, key, ...period(call.query) }
        return searching(
          call,
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
      description: `By \`partition\` and \`offset\` of a receipt, or by \`traceId\`. ${LIFE_NOTE}`,
      query: Type.Object({
        partition: Type.Optional(whole(0, 1_000_000, 'Of the receipt.')),
        offset: Type.Optional(whole(0, MAX_OFFSET, 'Of the receipt.')),
        traceId: Type.Optional(Type.String({ pattern: '^[0-9a-f]{32}$', description: '32 hex digits.' })),
        ...PERIOD,
        ...FORMAT,
        ...TENANT,
      }),
      answers: { 200: FOUND },
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
          call,
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
      description:
        'Without `source` and `key`, events of the last hour are found. Where the time is over first, the answer has the state at that time, and no outcome.',
      query: Type.Object({
        wait: whole(0, MAX_WAIT_SECONDS, 'How long to wait for it, in seconds.', 0),
        ...SOURCE_AND_KEY,
        generation: Type.Optional(whole(0, 2 ** 31 - 1, 'Of a redrive; without it, the newest.')),
        ...TENANT,
      }),
      isLong: true,
      answers: {
        200: {
          description: 'The outcome, or the state in which the event is when the time is over.',
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
        const caller = callerOf(call)
        const leave = wait === 0 ? undefined : hubs.enter(caller)
        const hub =
          leave &&
          (await hubs.of(stream, caller).catch((error) => {
            leave()
            throw error
          }))
        const ending = new AbortController()
        const refused = new AbortController()
        const endLooks = call.whileAllowed((problem) => refused.abort(new ProblemError(problem)))
        const signal = AbortSignal.any([call.request.signal, ending.signal, refused.signal])
        const shown = showing(stream, 'json', MAX_DATA_BYTES)
        const coming =
          hub && nextOutcome(hub, matches, wait * 1000, signal).then((record) => record && viewOf(record, shown))
        const query = {
          id,
          source,
          key,
          fromMs: key === undefined && source === undefined ? deps.nowMs() - RECENT_MS : undefined,
        }
        // It may be there already, or be committed while this looks for it.
        const look = () => withBudget({ signal, caller }, (budget) => find(stream, query, shown, budget, lifeDeps))
        const looked = look()
        const generationIn = ({ events }: Static<typeof Found>) => {
          const generations = events[0]?.generations ?? []
          return generation === undefined
            ? generations.at(-1)
            : generations.find((one) => one.generation === generation)
        }
        try {
          const outcome = await Promise.race([
            looked.then((found) => generationIn(found)?.outcome ?? coming),
            ...(coming === undefined ? [] : [coming]),
          ])
          if (outcome !== undefined) return json({ state: outcome.role === 'dlq' ? 'dead' : 'processed', outcome })
          // It may have come in while this waited.
          const found = wait === 0 ? await looked : await look()
          const known = generationIn(found)
          if (known === undefined) {
            const { events } = demandFound(`the id ${id}`)(found)
            const has = events.flatMap(({ generations }) => generations.map((one) => one.generation))
            throw new ProblemError({
              kind: 'event-not-found',
              detail: `The event ${id} was found, but not its generation ${generation}: it has ${has.join(', ')}.`,
            })
          }
          return json({ state: known.state, ...(known.outcome === undefined ? {} : { outcome: known.outcome }) })
        } catch (error) {
          refused.signal.throwIfAborted()
          throw error
        } finally {
          endLooks()
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
        'Each event’s id is a position in the log: with the last one as `Last-Event-ID`, the outcomes after it follow, each once. Without it, those from now on. An `end` event says why the service ends the answer, for example that the client reads too slowly, or that its key was removed.',
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
          stream: await followOutcomes(hubs, stream, since, matches, askingOf(call), call.whileAllowed),
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
        cursor: text('From the page before, with the same other parameters.'),
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
        const seeksForm = header.some((one) => one.slice(0, one.indexOf(':')) === FORM)
        if ((pointers.length > 0 || seeksForm) && stream.redact.length > 0)
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
        const page = await reading(call, (reader, budget) =>
          browse(stream, query, showing(stream, format, MAX_LISTED_DATA_BYTES), reader, budget, readers),
        )
        if (topic !== 'dlq') return json(page)
        const acted = await acts.of(stream).current()
        const records = page.records.map((record) => ({ ...record, state: stateOf(acted.actOf(record)) }))
        return json({ ...page, records })
      },
    }),
  ]
}
