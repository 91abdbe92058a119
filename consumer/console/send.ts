import { Type } from '@sinclair/typebox'
import { boundedText } from '../../shared/http/bounded-text.ts'
import { ProblemError } from '../../shared/http/problem.ts'
import { connectionFault } from '../../shared/service/connection-fault.ts'
import { messageOf } from '../../shared/service/thrown.ts'
import { KEY_TEXT } from './names.ts'
import type { Answer, Call } from './route.ts'

/** Sending an event from the page: the producer checks and stores it, as whoever has sent the request. */

/** Somewhat longer than the producer takes until it says that it does not know. */
const ANSWER_TIMEOUT_MS = 60_000

/** Of the producer's answer. */
const MAX_ANSWER_BYTES = 2 ** 20

/** What is not here, the producer refuses. */
export const SentEvent = Type.Object(
  { type: Type.String(), data: Type.Optional(Type.Unknown()) },
  {
    title: 'SentEvent',
    description:
      'An event as JSON: the attributes of CloudEvents, and `data`. Without an id and a time, the producer gives it some.',
    examples: [{ type: 'greeting', subject: 'alice', data: { hello: 'world' } }],
    // Numbers keep their digits.
    exact: true,
  },
)

export const Receipts = Type.Object(
  {
    receipts: Type.Array(
      Type.Object({
        id: Type.String(),
        stream: Type.String(),
        partition: Type.Integer({ minimum: 0 }),
        offset: Type.Integer({ minimum: 0 }),
        time: Type.String(),
      }),
    ),
  },
  { title: 'Receipts', description: 'Where it is stored.' },
)

const MEANING = {
  'not stored': 'Nothing was stored.',
  unknown: 'The event may be stored. To send it again with the same id has no further effect.',
} as const

/**
 * Passes an event on to the producer, and its answer back.
 * @throws ProblemError where no producer is configured, or it does not answer
 */
export async function send(
  { PRODUCER_URL }: { PRODUCER_URL?: string },
  stream: string,
  event: unknown,
  { bearer, isLoggedIn }: Pick<Call, 'bearer' | 'isLoggedIn'>,
  ask: (url: string, init: RequestInit) => Promise<Response> = fetch,
): Promise<Answer> {
  if (PRODUCER_URL === undefined)
    throw new ProblemError({ kind: 'not-found', detail: 'The console does not know the producer: set PRODUCER_URL.' })
  // Where keys are asked for, nobody comes here with one that is none.
  const key = await bearer()
  if (isLoggedIn && key === undefined)
    throw new ProblemError({
      kind: 'producer-unavailable',
      detail: 'The issuer gives no token now to send the event with. Nothing was stored.',
      outcome: 'not stored',
      retryAfterSeconds: 5,
    })
  const timeout = AbortSignal.timeout(ANSWER_TIMEOUT_MS)
  try {
    const response = await ask(`${PRODUCER_URL.replace(/\/$/, '')}/v1/streams/${encodeURIComponent(stream)}/events`, {
      method: 'POST',
      redirect: 'error',
      headers: {
        'content-type': 'application/json',
        ...(key === undefined || !KEY_TEXT.test(key) ? {} : { authorization: `Bearer ${key}` }),
      },
      body: JSON.stringify(event),
      signal: timeout,
    })
    // Passed on, it would mean that the session has ended.
    if (isLoggedIn && response.status === 401)
      throw new ProblemError({
        kind: 'producer-unavailable',
        detail:
          'The producer does not take the token of who is logged in. It needs AUTH=jwt, and the same issuer and audience as the console. Nothing was stored.',
        outcome: 'not stored',
      })
    const body: unknown = JSON.parse(await boundedText(response, MAX_ANSWER_BYTES))
    const retryAfter = response.headers.get('retry-after')
    return {
      status: response.status,
      ...(retryAfter === null ? {} : { headers: { 'retry-after': retryAfter } }),
      body,
      contentType: response.ok ? 'application/json' : 'application/problem+json',
    }
  } catch (error) {
    if (error instanceof ProblemError) throw error
    const { code = '' } = error as { code?: string }
    // What it says besides has the producer's address.
    const fault = connectionFault(error, { url: PRODUCER_URL })
    const reason = fault?.text ?? (code === '' ? messageOf(error) : code)
    const outcome = fault?.isBeforeRequest === true ? 'not stored' : 'unknown'
    throw new ProblemError({
      kind: 'producer-unavailable',
      detail: `The producer gave no answer${timeout.aborted ? ` within ${ANSWER_TIMEOUT_MS} ms` : `: ${reason}`}. ${MEANING[outcome]}`,
      outcome,
      retryAfterSeconds: 5,
    })
  }
}
