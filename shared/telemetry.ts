/**
 * W3C Trace Context (level 1): the trace of an event goes from the request through Kafka to the outcome in the `traceparent` and
 * `tracestate` headers, whether or not anybody collects spans.
 */

/** A parsed `traceparent`. */
export interface TraceContext {
  /** 32 hex digits. */
  traceId: string
  /** The whole header, as it goes on. */
  traceparent: string
  tracestate?: string
}

// Section 3.2: version ff is invalid, as are all-zero ids; a later version may carry more fields after the flags.
const TRACEPARENT = /^(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/

/** Section 3.2.2: what is not valid is ignored, and its `tracestate` with it. */
export function parseTraceparent(
  traceparent: string | null | undefined,
  tracestate?: string | null,
): TraceContext | undefined {
  const match = traceparent === null || traceparent === undefined ? null : TRACEPARENT.exec(traceparent)
  if (match === null || traceparent === null || traceparent === undefined) return undefined
  if (match[1] === '00' && match[5] !== undefined) return undefined
  const context: TraceContext = { traceId: match[2] ?? '', traceparent }
  if (tracestate !== null && tracestate !== undefined && tracestate !== '') context.tracestate = tracestate
  return context
}

/** Section 3.2.2.4: the caller has recorded it, and asks others to do so. */
export const isSampled = ({ traceparent }: TraceContext): boolean =>
  (Number.parseInt(traceparent.slice(FLAGS_AT, FLAGS_AT + 2), 16) & SAMPLED) !== 0

/** The flag of section 3.2.2.4. */
export const SAMPLED = 1

const FLAGS_AT = '00-'.length + 32 + '-'.length + 16 + '-'.length

/** Begins a trace. Flag 01 (sampled) is a collector's to overrule. */
export function newTraceContext(): TraceContext {
  const traceId = randomHex(32)
  return { traceId, traceparent: `00-${traceId}-${randomHex(16)}-01` }
}

/** Random bytes are fetched for many traces at a time: one by one they cost more than all the rest of it. */
const POOL_BYTES = 4_096
let pool = ''
let used = 0

function randomHex(digits: number): string {
  if (used + digits > pool.length) {
    pool = crypto.getRandomValues(Buffer.alloc(POOL_BYTES)).toString('hex')
    used = 0
  }
  const hex = pool.slice(used, used + digits)
  used += digits
  // All zero is invalid (section 3.2.2.3); one chance in 2^64 is still a chance.
  return /[^0]/.test(hex) ? hex : randomHex(digits)
}
