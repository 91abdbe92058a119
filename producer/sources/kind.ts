import { type Static, type TObject, type TProperties, Type } from '@sinclair/typebox'
import type { Webhook } from './webhook.ts'

/** What is known of a sender of webhooks: the one interface of all kinds of sources. */

/** Why a webhook is not taken for its sender's. For the log and the counter; its sender is not told. */
export const REFUSALS = ['unsigned', 'wrong', 'stale'] as const
export type Refusal = (typeof REFUSALS)[number]

/** "unavailable": it cannot be said now, so that the sender has to try again. */
export type Verdict = { ok: true } | { ok: false; reason: Refusal | 'unavailable'; detail: string }

/** An event's attributes and data. What is undefined is left out, and so is an optional attribute that CloudEvents does not allow as it is. */
export interface Identity {
  /** The same in every attempt of the sender, so that they take effect once. */
  id: string | undefined
  type: string | undefined
  /** Together with `id` it names the event. Without it: `urn:kafkatrace:source:NAME`. */
  source?: string | undefined
  /** The record's key, unless the declaration says from where to take it. */
  subject?: string | undefined
  /** RFC 3339. */
  time?: string | undefined
  /** Without it: the webhook's whole JSON, byte for byte. */
  data?: Buffer | undefined
}

export interface Reply {
  status: number
  headers?: Record<string, string>
  body?: string
  /** For the log, such as what the operator has to do. The sender is not told. */
  note?: string
}

export interface SourceKind<O extends TProperties = TProperties> {
  /** In a declaration's `kind`. */
  name: string
  /** How long its senders wait for an answer, ms. */
  timeoutMs: number
  /** What a declaration has besides kind, stream and subject. */
  options: O
  /** Whether the webhook is from whom the declaration trusts. What throws is refused. */
  verify(webhook: Webhook, options: Static<TObject<O>>): Verdict | Promise<Verdict>
  /**
   * The event, or events, of a verified webhook; undefined when it has none, such as a question whether anybody listens. A kind whose webhooks can have very
   * many yields them: no more are read than may be stored.
   */
  identify(webhook: Webhook, options: Static<TObject<O>>): Identity | Iterable<Identity> | undefined
  /** The answer once the events are stored, or when there are none. Without it: 202 with receipts, or 200. */
  respond?(webhook: Webhook, options: Static<TObject<O>>): Reply | Promise<Reply>
}

/** An event's time of a Unix time in seconds; undefined for what is none. */
export const timeOf = (seconds: string | undefined): string | undefined =>
  seconds !== undefined && /^\d{1,12}$/.test(seconds) ? new Date(Number(seconds) * 1_000).toISOString() : undefined

/** Infers the options' type from their schema. */
export const defineKind = <O extends TProperties>(kind: SourceKind<O>): SourceKind<O> => kind

/** RFC 9110, section 5.1. */
export const HeaderName = Type.String({
  description: 'a name of a header field',
  pattern: "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$",
})

/** While one is being replaced, both count. */
export const Secrets = Type.Array(
  Type.String({
    minLength: 8,
    // A blank or a line end that was pasted with it would make every signature wrong.
    pattern: '^(?!THE )[^ \\t\\r\\n](?:.*[^ \\t\\r\\n])$',
    description: 'a secret: it has a blank at an end, or is still the placeholder of the documentation',
  }),
  { minItems: 1, maxItems: 2, uniqueItems: true },
)
