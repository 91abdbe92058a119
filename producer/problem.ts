import { Type } from '@sinclair/typebox'
import { EventFault, MAX_NAMED_FAULTS, PROBLEM_MEMBERS, type ProblemKind } from '../shared/http/problem.ts'
import { oneOf } from '../shared/service/one-of.ts'
import { EventOutcome } from './receipt.ts'

/** The problems that this service answers with. */

export const KINDS = [
  'malformed',
  'unauthenticated',
  'forbidden',
  'not-found',
  'unknown-stream',
  'method-not-allowed',
  'request-timeout',
  'body-too-large',
  'event-too-large',
  'too-many-events',
  'too-deep',
  'unsupported-media-type',
  'unsupported-encoding',
  'invalid-event',
  'over-quota',
  'too-many-failures',
  'webhook-over-quota',
  'headers-too-large',
  'internal',
  'overloaded',
  'draining',
  'kafka-unavailable',
  'schema-unavailable',
  'unverifiable',
  'undelivered',
] as const satisfies readonly ProblemKind[]

/** What a quota is of, as a label, too. */
export const QUOTA_SCOPES = ['tenant', 'stream', 'key'] as const
export type QuotaScope = (typeof QUOTA_SCOPES)[number]

/** What a problem concerns. */
export type Unit = 'request' | 'line'

export const NOTHING_STORED: Readonly<Record<Unit, string>> = {
  request: 'Nothing of the request was stored.',
  line: 'The line was not stored.',
}

/** The problem document, as the OpenAPI description has it. */
export const ProblemDocument = Type.Object(
  {
    ...PROBLEM_MEMBERS,
    errors: Type.Optional(
      Type.Array(EventFault, {
        maxItems: MAX_NAMED_FAULTS,
        description: `With invalid-event and event-too-large: the first ${MAX_NAMED_FAULTS} faults of the request, or of all lines of a stream; detail has their number.`,
      }),
    ),
    outcome: Type.Optional(
      Type.Union([Type.Literal('not stored'), Type.Literal('unknown')], {
        description:
          'With 503: "not stored" when it is certain that nothing of the request is in the log, else "unknown". Sending the same ids again is right in both cases.',
      }),
    ),
    quota: Type.Optional(oneOf(QUOTA_SCOPES, { description: 'With over-quota: whose quota has to be waited for.' })),
    events: Type.Optional(
      Type.Array(EventOutcome, { description: 'With undelivered: what became of each event, in order.' }),
    ),
  },
  { title: 'Problem', description: 'An RFC 9457 problem document.' },
)
