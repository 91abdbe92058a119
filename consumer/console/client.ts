import type { Static } from '@sinclair/typebox'
import { createParser } from 'eventsource-parser'
import type { ProblemDocument, ProblemKind } from '../../shared/http/problem.ts'
import { type Backoff, delayMs, sleep, within } from '../../shared/service/retry.ts'
import type { Action, ActRecord, Edit, Job, LetterAct, LetterFilter } from './acts-log.ts'
import type { Order, Page } from './browse.ts'
import type { OUTCOMES, Outcome } from './follow.ts'
import type { History } from './history.ts'
import { parseJson } from './json.ts'
import type { LetterGroups, Letter as LetterSchema } from './letters.ts'
import type { Found, State } from './life.ts'
import type { Format, LetterState, RoleOfTopic } from './names.ts'
import type { Progress } from './progress-lines.ts'
import type { Searched } from './scan.ts'
import type { SchemaDocument, StreamSchemas } from './schemas.ts'
import type { Receipts } from './send.ts'
import type { StreamStatus } from './status.ts'
import type { Access } from './stream-routes.ts'
import type { RecordView } from './view.ts'

/** The client of the console's API, for the command line and for pages: it uses nothing but fetch, streams and URL. */

/** The longest wait for an answer: the console searches for 240 s at most (SCAN_TIMEOUT_MS). */
const ANSWER_TIMEOUT_MS = 250_000

/** Followers are told something every 10 s; a connection that is silent for longer than this is dropped and resumed. */
const SILENCE_MS = 30_000

/** Before a follower connects again. */
const FOLLOW_BACKOFF: Backoff = { firstMs: 500, maxMs: 30_000 }

/** The longest wait that a `Retry-After` is believed. */
const MAX_RETRY_AFTER_MS = 60_000

/** The most characters of one line or event that are held: far more than a life of records with 4 MiB each. */
const MAX_LINE_CHARS = 256 * 2 ** 20

/** An answer that says that it was not possible. The message says why, and what to do. */
export class ApiError extends Error {
  override readonly name = 'ApiError'
  /** The last part of the problem's type; `other` for an answer that is no problem document, as a proxy may give it. */
  readonly kind: ProblemKind | 'other'
  readonly status: number
  /** What is wrong with the request, by JSON pointer. */
  readonly errors: readonly { pointer: string; detail: string }[]
  /** With 401: where people log in with a browser. */
  readonly login: string | undefined

  constructor(
    problem: Partial<ProblemDocument> & { status: number; login?: string },
    readonly retryAfterSeconds?: number,
  ) {
    super(problem.detail ?? problem.title ?? `The answer has the status ${problem.status}.`)
    this.kind = (problem.type?.split(':').pop() as ProblemKind | undefined) ?? 'other'
    this.status = problem.status
    this.errors = problem.errors ?? []
    this.login = problem.login
  }
}

/** There was no answer, or it broke off. */
export class UnreachableError extends Error {
  override readonly name = 'UnreachableError'
}

export interface ClientOptions {
  /** Where the console is, such as `http://127.0.0.1:8081`; a path is kept. */
  url: string
  key?: string | undefined
  /** For keys of operators of all tenants. */
  tenant?: string | undefined
  fetch?: (url: string, init: RequestInit) => Promise<Response>
}

/** What is known of an event: its id, a receipt, or a trace. Times are RFC 3339. */
export type Sought = { from?: string | undefined; to?: string | undefined; format?: Format | undefined } & (
  | { id: string; source?: string | undefined; key?: string | undefined }
  | { partition: number; offset: number }
  | { traceId: string }
)

export interface OutcomeFilter {
  outcome?: (typeof OUTCOMES)[number] | undefined
  /** A final `*` stands for anything. */
  type?: string | undefined
  source?: string | undefined
  subject?: string | undefined
  id?: string | undefined
  key?: string | undefined
  reason?: string | undefined
}

export interface Followed {
  outcome: Outcome
  /** Outcomes after this one follow from here. */
  position: string
}

export interface FollowOptions {
  /** A position; without it, outcomes from now on. */
  since?: string | undefined
  signal?: AbortSignal | undefined
  /** Called when there is nothing new, too, and at the beginning of each connection. */
  onPosition?: (position: string) => void
  /** The connection is cut, and made anew after this time. */
  onCut?: (reason: string, waitMs: number) => void
}

export type Letter = Static<typeof LetterSchema>
export type Receipt = Static<typeof Receipts>['receipts'][number]

export interface Acted {
  /** false: it was acted on before; `act` says how. */
  done: boolean
  act: LetterAct
}

export interface DryRun {
  /** Open letters that the filter matches now. */
  matches: number
  complete: boolean
  searched: Searched[]
}

export interface JobRequest {
  action: Action
  filter: LetterFilter
  ratePerSecond?: number | undefined
  reason?: string | undefined
}

export interface BrowseFilter extends LetterFilter {
  topic?: RoleOfTopic
  order?: Order
  limit?: number
  partition?: number
  offset?: number
  cursor?: string
  /** NAME:VALUE. */
  header?: readonly string[]
  /** POINTER=VALUE. */
  where?: readonly string[]
  format?: Format
}

type Query = Readonly<Record<string, string | number | readonly string[] | undefined>>

interface Asking {
  query?: Query | undefined
  body?: unknown
  headers?: Record<string, string | undefined>
  signal?: AbortSignal | undefined
}

/** Calls that fail throw an {@link ApiError} or an {@link UnreachableError}. */
export class Client {
  readonly #base: string
  readonly #fetch: (url: string, init: RequestInit) => Promise<Response>

  /** @throws TypeError for what is no URL */
  constructor(readonly options: ClientOptions) {
    this.#base = new URL(options.url).href.replace(/\/$/, '')
    // Browsers' fetch wants to be called without another `this`.
    this.#fetch = options.fetch ?? ((url, init) => fetch(url, init))
  }

  /** What the key is for. */
  access(): Promise<Access> {
    return this.#json('GET', '/v1/access')
  }

  async streams(): Promise<{ tenant: string; stream: string }[]> {
    return (await this.#json<{ streams: { tenant: string; stream: string }[] }>('GET', '/v1/streams')).streams
  }

  /** The lives of events. `onProgress` is called several times a second while the log is searched. */
  async find(
    stream: string,
    sought: Sought,
    { onProgress, signal }: { onProgress?: (progress: Progress) => void; signal?: AbortSignal | undefined } = {},
  ): Promise<Found> {
    const { id, ...query } = 'id' in sought ? sought : { ...sought, id: undefined }
    const path = `${pathOf(stream)}/events${id === undefined ? '' : `/${encodeURIComponent(id)}`}`
    const timeout = AbortSignal.timeout(ANSWER_TIMEOUT_MS)
    const response = await this.#ask('GET', path, {
      query,
      headers: { accept: 'application/x-ndjson' },
      signal: either(signal, timeout),
    })
    for await (const line of linesOf(response, signal)) {
      const told = parseJson(line) as { progress: Progress } | { result: Found } | { problem: ProblemDocument }
      if ('problem' in told) throw new ApiError(told.problem)
      if ('result' in told) return told.result
      onProgress?.(told.progress)
    }
    throw new UnreachableError('the answer ended before its result')
  }

  /** @param wait seconds */
  outcome(
    stream: string,
    id: string,
    query: { wait?: number; source?: string; key?: string; generation?: number } = {},
    signal?: AbortSignal,
  ): Promise<{ state: State; outcome?: RecordView }> {
    return this.#json('GET', `${pathOf(stream)}/events/${encodeURIComponent(id)}/outcome`, { query, signal })
  }

  /**
   * Outcomes, each once, in the order of its partition. A connection that ends, is silent or is refused for now is made anew, where it was.
   * @throws ApiError for a refusal that trying again does not change (4xx)
   */
  async *follow(
    stream: string,
    filter: OutcomeFilter = {},
    { since, signal, onPosition, onCut }: FollowOptions = {},
  ): AsyncGenerator<Followed, void, undefined> {
    let position = since
    let failures = 0
    const isOver = (): boolean => signal?.aborted === true
    while (!isOver()) {
      let reason = 'the connection ended'
      let leastWaitMs = 0
      try {
        let told = 0
        for await (const event of this.#connection(stream, filter, position, signal)) {
          if ('end' in event) {
            reason = event.end
            break
          }
          // The first is only where it begins.
          if (++told > 1) failures = 0
          position = event.position
          onPosition?.(position)
          if (event.outcome !== undefined) yield { outcome: event.outcome, position }
        }
      } catch (error) {
        if (isOver()) return
        if (!(error instanceof ApiError || error instanceof UnreachableError)) throw error
        if (error instanceof ApiError && error.status < 500) throw error
        reason = error.message
        if (error instanceof ApiError) leastWaitMs = Math.min(MAX_RETRY_AFTER_MS, (error.retryAfterSeconds ?? 0) * 1000)
      }
      if (isOver()) return
      const waitMs = Math.max(leastWaitMs, delayMs(FOLLOW_BACKOFF, ++failures))
      onCut?.(reason, waitMs)
      await sleep(waitMs, signal)
    }
  }

  /** One answer: positions, each with the outcome before it if there is one, and why the console ended it. */
  async *#connection(
    stream: string,
    filter: OutcomeFilter,
    position: string | undefined,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<{ position: string; outcome?: Outcome } | { end: string }> {
    const ending = new AbortController()
    try {
      const response = await orUnreachable(
        within(
          SILENCE_MS,
          this.#ask('GET', `${pathOf(stream)}/outcomes`, {
            query: { ...filter },
            headers: { accept: 'text/event-stream', 'last-event-id': position },
            signal: either(signal, ending.signal),
          }),
        ),
        signal,
      )
      let events: ({ position: string; outcome?: Outcome } | { end: string })[] = []
      const parser = createParser({
        maxBufferSize: MAX_LINE_CHARS,
        // Before the event that it belongs to.
        onId: (id) => void events.push({ position: id }),
        onEvent: ({ event, data }) => {
          if (event === 'end') events.push({ end: (parseJson(data) as { detail: string }).detail })
          const last = events.at(-1)
          if (event === 'outcome' && last !== undefined && 'position' in last) last.outcome = parseJson(data) as Outcome
        },
      })
      for await (const text of textOf(response, signal, SILENCE_MS)) {
        parser.feed(text)
        const read = events
        events = []
        yield* read
      }
    } finally {
      ending.abort()
    }
  }

  /** Through the producer. An id makes it possible to send it again. */
  async send(stream: string, event: object): Promise<Receipt> {
    const { receipts } = await this.#json<{ receipts: Receipt[] }>('POST', `${pathOf(stream)}/events`, { body: event })
    const [receipt] = receipts
    if (receipt === undefined) throw new UnreachableError('the answer has no receipt')
    return receipt
  }

  browse(stream: string, filter: BrowseFilter = {}, signal?: AbortSignal): Promise<Page> {
    return this.#json('GET', `${pathOf(stream)}/records`, { query: { ...filter }, signal })
  }

  letterGroups(
    stream: string,
    filter: LetterFilter & { state?: LetterState | 'all' | undefined } = {},
    signal?: AbortSignal,
  ): Promise<LetterGroups> {
    return this.#json('GET', `${pathOf(stream)}/dead-letters`, { query: { ...filter }, signal })
  }

  letter(
    stream: string,
    at: { partition: number; offset: number },
    format?: Format,
    signal?: AbortSignal,
  ): Promise<Letter> {
    return this.#json('GET', letterPath(stream, at), { query: { format }, signal })
  }

  redrive(
    stream: string,
    at: { partition: number; offset: number },
    body: { reason?: string | undefined; edit?: Edit | undefined } = {},
  ): Promise<Acted> {
    return this.#json('POST', `${letterPath(stream, at)}/redrive`, { body })
  }

  discard(stream: string, at: { partition: number; offset: number }, reason: string): Promise<Acted> {
    return this.#json('POST', `${letterPath(stream, at)}/discard`, { body: { reason } })
  }

  /** How many letters a job would concern. */
  dryRun(stream: string, job: Pick<JobRequest, 'action' | 'filter'>, signal?: AbortSignal): Promise<DryRun> {
    return this.#json('POST', `${pathOf(stream)}/jobs`, { body: { ...job, dryRun: true }, signal })
  }

  startJob(stream: string, job: JobRequest): Promise<Job> {
    return this.#json('POST', `${pathOf(stream)}/jobs`, { body: job })
  }

  /** Newest first. */
  async jobs(stream: string, signal?: AbortSignal): Promise<Job[]> {
    return (await this.#json<{ jobs: Job[] }>('GET', `${pathOf(stream)}/jobs`, { signal })).jobs
  }

  job(stream: string, id: string, signal?: AbortSignal): Promise<Job> {
    return this.#json('GET', `${pathOf(stream)}/jobs/${encodeURIComponent(id)}`, { signal })
  }

  cancelJob(stream: string, id: string, reason?: string): Promise<Job> {
    return this.#json('POST', `${pathOf(stream)}/jobs/${encodeURIComponent(id)}/cancel`, { body: { reason } })
  }

  /** Newest first. */
  acts(stream: string, limit?: number, signal?: AbortSignal): Promise<{ acts: ActRecord[]; complete: boolean }> {
    return this.#json('GET', `${pathOf(stream)}/acts`, { query: { limit }, signal })
  }

  status(stream: string, signal?: AbortSignal): Promise<StreamStatus> {
    return this.#json('GET', `${pathOf(stream)}/status`, { signal })
  }

  history(stream: string, minutes: number, signal?: AbortSignal): Promise<History> {
    return this.#json('GET', `${pathOf(stream)}/history`, { query: { minutes }, signal })
  }

  /** @param most newest records, of which events are counted; 10,000 where not given */
  schemas(stream: string, most?: number, signal?: AbortSignal): Promise<StreamSchemas> {
    return this.#json('GET', `${pathOf(stream)}/schemas`, { query: { most }, signal })
  }

  schema(stream: string, type: string, version: number, signal?: AbortSignal): Promise<SchemaDocument> {
    return this.#json('GET', `${pathOf(stream)}/schemas/${encodeURIComponent(type)}/${version}`, { signal })
  }

  pause(stream: string, reason: string): Promise<StreamStatus> {
    return this.#json('POST', `${pathOf(stream)}/pause`, { body: { reason } })
  }

  resume(stream: string, reason?: string): Promise<StreamStatus> {
    return this.#json('POST', `${pathOf(stream)}/resume`, { body: { reason } })
  }

  async #json<T>(method: 'GET' | 'POST', path: string, asking: Asking = {}): Promise<T> {
    const { signal } = asking
    const response = await this.#ask(method, path, {
      ...asking,
      signal: either(signal, AbortSignal.timeout(ANSWER_TIMEOUT_MS)),
    })
    const text = await orUnreachable(response.text(), signal)
    return parseJson(text) as T
  }

  async #ask(
    method: 'GET' | 'POST',
    path: string,
    { query = {}, body, headers = {}, signal }: Asking,
  ): Promise<Response> {
    const { key, tenant } = this.options
    const parameters = new URLSearchParams()
    for (const [name, value] of Object.entries({ ...query, tenant }))
      for (const one of Array.isArray(value) ? value : [value])
        if (one !== undefined) parameters.append(name, String(one))
    const given = {
      ...headers,
      authorization: key === undefined ? undefined : `Bearer ${key}`,
      'content-type': body === undefined ? undefined : 'application/json',
    }
    const text = parameters.size === 0 ? '' : `?${parameters}`
    const response = await orUnreachable(
      this.#fetch(`${this.#base}${path}${text}`, {
        method,
        headers: Object.entries(given).filter((entry): entry is [string, string] => entry[1] !== undefined),
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        ...(signal === undefined ? {} : { signal }),
      }),
      signal,
    )
    if (!response.ok) throw await refusalIn(response)
    return response
  }
}

const pathOf = (stream: string): string => `/v1/streams/${encodeURIComponent(stream)}`

const letterPath = (stream: string, { partition, offset }: { partition: number; offset: number }): string =>
  `${pathOf(stream)}/dead-letters/${partition}/${offset}`

/** The one place where answers that are refusals are read. */
export async function refusalIn(response: Response): Promise<ApiError> {
  const { status, headers } = response
  const retryAfter = Number(headers.get('retry-after') ?? Number.NaN)
  const seconds = Number.isFinite(retryAfter) ? retryAfter : undefined
  const isProblem = headers.get('content-type')?.startsWith('application/problem+json') === true
  const text = await response.text().catch(() => '')
  try {
    if (isProblem) return new ApiError({ ...(JSON.parse(text) as ProblemDocument), status }, seconds)
  } catch {
    // It broke off.
  }
  return new ApiError({ status }, seconds)
}

/** An abort of the caller's stays what it is; any other failure is one of the connection. */
async function orUnreachable<T>(asked: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  try {
    return await asked
  } catch (error) {
    if (error instanceof ApiError || error instanceof UnreachableError) throw error
    if (signal?.aborted === true && (signal.reason as Error | undefined)?.name !== 'TimeoutError') throw error
    throw unreachable(error)
  }
}

/** Of a connection that was not made, Bun's message is advice about URLs, and its code says it. */
export function unreachable(error: unknown): UnreachableError {
  const { code, message = String(error) } = error as { code?: unknown; message?: string }
  return new UnreachableError(typeof code === 'string' ? code : message)
}

const either = (signal: AbortSignal | undefined, other: AbortSignal): AbortSignal =>
  signal === undefined ? other : AbortSignal.any([signal, other])

/** @param silenceMs the longest wait for the next part */
async function* textOf(
  response: Response,
  signal: AbortSignal | undefined,
  silenceMs?: number,
): AsyncGenerator<string> {
  const reader = response.body?.getReader()
  const decoder = new TextDecoder()
  try {
    for (;;) {
      const reading = reader?.read() ?? Promise.resolve({ done: true as const, value: undefined })
      const part = silenceMs === undefined ? reading : within(silenceMs, reading, 'nothing came')
      const { done, value } = await orUnreachable(part, signal)
      if (done) return
      yield decoder.decode(value, { stream: true })
    }
  } finally {
    reader?.cancel().catch(() => undefined)
  }
}

/** Lines that are not empty. @throws UnreachableError for a line of more than {@link MAX_LINE_CHARS} */
export async function* linesOf(response: Response, signal?: AbortSignal): AsyncGenerator<string> {
  let parts: string[] = []
  let chars = 0
  for await (const text of textOf(response, signal)) {
    const [first = '', ...others] = text.split('\n')
    parts.push(first)
    chars += first.length
    if (chars > MAX_LINE_CHARS)
      throw new UnreachableError(`a line of the answer has more than ${MAX_LINE_CHARS} characters`)
    if (others.length === 0) continue
    const lines = [parts.join(''), ...others]
    const rest = lines.pop() ?? ''
    parts = [rest]
    chars = rest.length
    for (const line of lines) if (line !== '') yield line
  }
  const rest = parts.join('')
  if (rest !== '') yield rest
}
