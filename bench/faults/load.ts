import { createHmac } from 'node:crypto'
import type { Answer, Entry, Ledger } from './ledger.ts'
import type { Random } from './random.ts'

/**
 * A client with realistic variety: many keys and none, every content type, with and without compression, some invalid requests, and retries with the same
 * IDs when an answer is missing or an error. Its seed determines what it sends, but not when answers arrive.
 */

/** A kind of event, and its expected outcome. */
export interface Kind {
  type: string
  expected: Entry['expected']
  /** How often this kind is chosen, relative to the others. */
  weight: number
  data(random: Random): Record<string, unknown>
}

/** An event that passes through. */
export const PLAIN: Kind = {
  type: 'dev.kafkatrace.plain',
  expected: 'processed',
  weight: 1,
  data: (random) => ({ n: random.integer(0, 1e9), text: 'ä€😀 '.repeat(random.integer(0, 40)) }),
}

export interface LoadOptions {
  url: string
  stream: string
  ledger: Ledger
  random: Random
  /** Part of every ID, so that several loads can share a ledger. */
  name: string
  eventsPerSecond: number
  kinds: readonly [Kind, ...Kind[]]
  keys: number
  /** The share of events without a key. */
  keyless: number
  /** The share of invalid requests, which must be refused. */
  wrong: number
  /** The share of requests that are sent again although acknowledged, as when the answer is lost. */
  repeatedAnyway: number
  /** The time-out of a request in ms: random between the two, times the number of the attempt. */
  timeoutMs: readonly [least: number, most: number]
  /** How requests are sent. Default: each on its own connection. */
  post?: Post
  /** Given: all requests are GitHub's webhooks to the source "github", signed with this secret, and a wrong one is signed with another. */
  webhookSecret?: string
}

export interface LoadFacts {
  requests: number
  /** Of these: sent once more with the same ids. */
  repeated: number
  /** By status; 0 stands for requests without an answer. */
  statuses: Record<number, number>
  /** By status, the first refusal: the start of its problem document, or why there was no response. */
  refusals: Record<number, string>
  /** Requests whose events were neither acknowledged nor finally refused when the client stopped retrying. */
  givenUp: number
}

export interface Load {
  readonly facts: LoadFacts
  /**
   * Stops starting new requests. Resolves when every event was acknowledged or finally refused. Gives up after two
   * minutes.
   */
  stop(): Promise<void>
}

const MAX_REQUESTS_IN_FLIGHT = 64
const MAX_EVENTS_A_REQUEST = 20
/** From this attempt on, the time-out no longer grows. */
const MOST_PATIENT_SEND = 60
/** How long the client waits before it sends a request again. */
const PAUSE_MS: readonly [number, number] = [100, 700]
const TICK_MS = 10
/** How long the client keeps retrying after it stops sending new events. */
const PATIENCE_MS = 120_000

/** An event from the client's point of view. */
export interface Sent {
  id: string
  source: string
  type: string
  subject?: string
  partitionkey?: string
  time: string
  data: Record<string, unknown>
}

/** The part of a request that sets the key of an event's record. */
export const keyOf = (event: Sent): string | null => event.partitionkey ?? event.subject ?? null

const FORMS = ['binary', 'structured', 'batch', 'plain', 'plain list', 'ndjson'] as const
export type Form = (typeof FORMS)[number]

const SINGLE: ReadonlySet<Form> = new Set(['binary', 'structured', 'plain'])

interface Prepared {
  headers: Record<string, string>
  body: string | Uint8Array<ArrayBuffer>
}

export function startLoad(options: LoadOptions): Load {
  const { random, ledger } = options
  const facts: LoadFacts = { requests: 0, repeated: 0, statuses: {}, refusals: {}, givenUp: 0 }
  const impatient = new AbortController()
  const inFlight = new Set<Promise<void>>()
  const begunMs = performance.now()
  let made = 0

  const begin = (): void => {
    const form = random.pick(FORMS)
    const wrong = random.chance(options.wrong)
    const count = SINGLE.has(form) ? 1 : random.integer(1, MAX_EVENTS_A_REQUEST)
    const { webhookSecret } = options
    const events =
      webhookSecret === undefined
        ? Array.from({ length: count }, () => makeEvent(options, `${options.name}-${made++}`))
        : [asWebhook(makeEvent(options, `${options.name}-${made++}`))]
    const gzip = random.chance(0.2) && webhookSecret === undefined
    const request =
      webhookSecret !== undefined
        ? prepareWebhook(events[0] as Sent, wrong ? `not ${webhookSecret}` : webhookSecret)
        : wrong
          ? prepareWrong(events, random)
          : prepare(form, events)
    if (gzip) {
      request.body = Bun.gzipSync(Buffer.from(request.body as string))
      request.headers['content-encoding'] = 'gzip'
    }
    const running = sendUntilSettled(options, facts, events, request, random.fork(), impatient.signal).finally(() =>
      inFlight.delete(running),
    )
    inFlight.add(running)
  }

  const timer = setInterval(() => {
    const due = ((performance.now() - begunMs) / 1000) * options.eventsPerSecond
    while (made < due && inFlight.size < MAX_REQUESTS_IN_FLIGHT && ledger.size < MAX_LEDGER_EVENTS) begin()
  }, TICK_MS)

  return {
    facts,
    async stop() {
      clearInterval(timer)
      const patience = setTimeout(() => impatient.abort(), PATIENCE_MS)
      await Promise.all(inFlight)
      clearTimeout(patience)
    },
  }
}

/** The ledger is in memory. */
const MAX_LEDGER_EVENTS = 2_000_000

function makeEvent({ random, name, kinds, keys, keyless }: LoadOptions, id: string): Sent {
  const kind = weighted(kinds, random)
  const event: Sent = {
    id,
    source: `/load/${name}`,
    type: kind.type,
    time: new Date().toISOString(),
    data: kind.data(random),
  }
  if (random.chance(keyless)) return event
  // Skewed, so that a few keys are busy and most are not. Some are not ASCII, which binary mode must encode.
  const number = Math.floor(random.next() ** 2 * keys)
  const key = number % 7 === 0 ? `schlüssel % ${number}` : `key-${number}`
  if (random.chance(0.3)) event.partitionkey = key
  else event.subject = key
  return event
}

function weighted(kinds: LoadOptions['kinds'], random: Random): Kind {
  let left = random.next() * kinds.reduce((sum, { weight }) => sum + weight, 0)
  for (const kind of kinds) {
    left -= kind.weight
    if (left < 0) return kind
  }
  return kinds[0]
}

/** CloudEvents HTTP binding 1.0.2, section 3.1.3.2. */
const percentEncoded = (value: string): string => value.replace(/[^\x21-\x7e]+|["%]/gu, encodeURIComponent)

/** A request with these events, in a format that can hold as many. */
export function prepare(form: Form, events: readonly Sent[]): Prepared {
  const json = (value: unknown) => JSON.stringify(value)
  const structured = (event: Sent) => ({ specversion: '1.0', datacontenttype: 'application/json', ...event })
  const [first] = events
  if (first === undefined) throw new Error('a request has at least one event')
  switch (form) {
    case 'binary': {
      const { data, ...attributes } = first
      const headers: Record<string, string> = { 'content-type': 'application/json', 'ce-specversion': '1.0' }
      for (const [name, value] of Object.entries(attributes)) headers[`ce-${name}`] = percentEncoded(value)
      return { headers, body: json(data) }
    }
    case 'structured':
      return { headers: { 'content-type': 'application/cloudevents+json' }, body: json(structured(first)) }
    case 'batch':
      return {
        headers: { 'content-type': 'application/cloudevents-batch+json' },
        body: json(events.map(structured)),
      }
    case 'plain':
      return { headers: { 'content-type': 'application/json' }, body: json(first) }
    case 'plain list':
      return { headers: { 'content-type': 'application/json; charset=utf-8' }, body: json(events) }
    case 'ndjson':
      return {
        headers: { 'content-type': 'application/x-ndjson' },
        body: events.map((event) => `${json(event)}\n`).join(''),
      }
  }
}

/** The event of a webhook, as its source's kind takes it from what GitHub says. */
function asWebhook({ id, source, type, subject, partitionkey, time, data }: Sent): Sent {
  const key = subject ?? partitionkey
  return { id, source: `https://github.com${source}`, type, time, data, ...(key === undefined ? {} : { subject: key }) }
}

/** Sources: docs.github.com, "Webhook events and payloads" and "Validating webhook deliveries". */
function prepareWebhook({ id, source, type, subject, data }: Sent, secret: string): Prepared {
  const body = JSON.stringify({ repository: { html_url: source, full_name: subject }, data })
  return {
    headers: {
      'content-type': 'application/json',
      'x-github-delivery': id,
      'x-github-event': type.slice(GITHUB_PREFIX.length),
      'x-hub-signature-256': `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`,
    },
    body,
  }
}

const GITHUB_PREFIX = 'com.github.'

/** A webhook that no handler takes. */
export const STAR: Kind = { ...PLAIN, type: `${GITHUB_PREFIX}star` }

const WAYS_TO_BE_WRONG = ['cut off', 'media type', 'no type', 'bad time'] as const

/** A request that must be refused as a whole: because of its body, its media type, or one invalid event. */
function prepareWrong(events: readonly Sent[], random: Random): Prepared {
  const whole = prepare('batch', events)
  switch (random.pick(WAYS_TO_BE_WRONG)) {
    case 'cut off':
      return { ...whole, body: (whole.body as string).slice(0, -2) }
    case 'media type':
      return { ...whole, headers: { 'content-type': 'application/cloudevents-batch+xml' } }
    case 'no type':
      return prepare('batch', [...events, { ...(events[0] as Sent), id: 'no-type', type: '' }])
    case 'bad time':
      return prepare('plain list', [{ ...(events[0] as Sent), id: 'bad-time', time: 'yesterday' }, ...events])
  }
}

/** Clients that wait longer than the producer takes to report an unknown outcome, also on a busy machine: for {@link LoadOptions.timeoutMs}. */
export const PATIENT_MS = [15_000, 20_000] as const

async function sendUntilSettled(
  { url, stream, ledger, repeatedAnyway, timeoutMs, kinds, post = postOnce, webhookSecret }: LoadOptions,
  facts: LoadFacts,
  events: readonly Sent[],
  { headers, body }: Prepared,
  random: Random,
  impatient: AbortSignal,
): Promise<void> {
  const path = webhookSecret === undefined ? `streams/${stream}/events` : 'sources/github'
  const expected = new Map(kinds.map((kind) => [kind.type, kind.expected]))
  for (let send = 1; !impatient.aborted; send++) {
    const notes = events.map((event) =>
      ledger.send({
        source: event.source,
        id: event.id,
        key: keyOf(event),
        expected: expected.get(event.type) ?? 'processed',
      }),
    )
    facts.requests++
    if (send > 1) facts.repeated++
    // Longer each time. Otherwise an impatient client would never finish on a slow machine.
    const timedOut = AbortSignal.timeout(random.integer(...timeoutMs) * Math.min(send, MOST_PATIENT_SEND))
    const { status, answers, text } = await ask(
      () => post(`${url}/v1/${path}`, headers, body, AbortSignal.any([timedOut, impatient])),
      events.length,
    )
    facts.statuses[status] = (facts.statuses[status] ?? 0) + 1
    if (status !== 200 && status !== 202) facts.refusals[status] ??= text.slice(0, MAX_REFUSAL_LENGTH)
    for (const [index, note] of notes.entries())
      note(answers[index] ?? { kind: 'unknown', reason: 'no answer to this one' })
    const final = answers.every(({ kind }) => kind === 'acknowledged') || (status >= 400 && status < 429)
    if (final && !(status < 300 && random.chance(repeatedAnyway))) return
    await Bun.sleep(random.integer(...PAUSE_MS))
  }
  facts.givenUp++
}

/** Sends one request once, and returns its response while it arrives. Rejects with the code `ECONNREFUSED` when nothing was sent. */
export type Post = (
  url: string,
  headers: Record<string, string>,
  body: Prepared['body'],
  signal: AbortSignal,
) => Promise<{ status: number; retryAfter?: string | undefined; body: AsyncIterable<Uint8Array> }>

/** A connection for every request. */
export const postOnce: Post = async (url, headers, body, signal) => {
  // For a pooled connection that turns out to be closed, the runtime would resend the request without our knowledge.
  const response = await fetch(url, { method: 'POST', headers, body, keepalive: false, signal })
  const retryAfter = response.headers.get('retry-after') ?? undefined
  return { status: response.status, retryAfter, body: response.body ?? new Blob([]).stream() }
}

/** How much of a refusal is kept, in characters. */
const MAX_REFUSAL_LENGTH = 400

/** One request, what its response says about each event, and the response itself or the reason why there is none. */
async function ask(
  post: () => ReturnType<Post>,
  count: number,
): Promise<{ status: number; answers: Answer[]; text: string }> {
  let status = 0
  // The part of a response that arrived counts, even if the rest never does.
  let text = ''
  let fault = 'the answer was cut off'
  try {
    const response = await post()
    status = response.status
    const decoder = new TextDecoder()
    for await (const chunk of response.body) text += decoder.decode(chunk, { stream: true })
    fault = ''
  } catch (error) {
    const { code, name, message } = error as Error & { code?: string }
    // Nothing was listening, so nothing was sent.
    if (code === 'ECONNREFUSED')
      return { status: 0, answers: Array<Answer>(count).fill({ kind: 'refused', status: 0 }), text: message }
    fault = `${name}: ${message}`
    if (status !== 200)
      return { status: 0, answers: Array<Answer>(count).fill({ kind: 'unknown', reason: fault }), text: fault }
  }
  return { status, answers: answersOf(status, text, count, fault), text }
}

/** The parts of the producer's responses that concern events; see its OpenAPI document. */
interface Receipt {
  partition: number
  offset: number
}
interface Problem {
  status: number
  outcome?: 'not stored' | 'unknown'
  events?: { outcome: 'stored' | 'not stored' | 'unknown'; receipt?: Receipt }[]
}
interface AnswerLine {
  line?: number
  receipt?: Receipt
  problem?: Problem
  summary?: { complete: boolean }
}

/**
 * What a response says about each event of a request, in order.
 * @param fault why the response ends after `text`; empty when it is complete
 */
export function answersOf(status: number, text: string, count: number, fault = ''): Answer[] {
  const all = (answer: Answer) => Array<Answer>(count).fill(answer)
  if (status === 200) return answersOfStream(text, count, fault)
  if (status === 202) {
    const { receipts } = JSON.parse(text) as { receipts: Receipt[] }
    if (receipts.length !== count)
      return all({ kind: 'unknown', reason: `${receipts.length} receipts for ${count} events` })
    return receipts.map(acknowledged)
  }
  if (status >= 400 && status < 500) return all({ kind: 'refused', status })
  if (status !== 503) return all({ kind: 'unknown', reason: `status ${status}` })
  const problem = JSON.parse(text) as Problem
  if (problem.events === undefined) return all(answerOf(problem))
  return problem.events.map(({ outcome, receipt }) =>
    outcome === 'stored' && receipt !== undefined
      ? acknowledged(receipt)
      : answerOf({ ...problem, outcome: outcome === 'not stored' ? outcome : 'unknown' }),
  )
}

function answersOfStream(text: string, count: number, fault: string): Answer[] {
  const answers: Answer[] = Array.from({ length: count }, () => ({
    kind: 'unknown',
    reason: fault || 'no line for it',
  }))
  let whole = false
  // A line without a line feed is incomplete.
  for (const json of text.split('\n').slice(0, -1)) {
    const { line, receipt, problem, summary } = JSON.parse(json) as AnswerLine
    whole ||= summary !== undefined
    if (line === undefined) continue
    if (receipt !== undefined) answers[line - 1] = acknowledged(receipt)
    else if (problem !== undefined) answers[line - 1] = answerOf(problem)
  }
  // When the service ends the stream, lines that it has not read are not in the log. Its summary counts only the others.
  return whole
    ? answers.map((answer) =>
        answer.kind === 'unknown' && answer.reason === 'no line for it' ? { kind: 'refused', status: 200 } : answer,
      )
    : answers
}

const acknowledged = ({ partition, offset }: Receipt): Answer => ({ kind: 'acknowledged', partition, offset })

/** Without an outcome, nothing was attempted. */
const answerOf = ({ status, outcome }: Problem): Answer =>
  outcome === 'unknown' ? { kind: 'unknown', reason: `status ${status}` } : { kind: 'refused', status }
