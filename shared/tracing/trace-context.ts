/**
 * W3C Trace Context (level 1): the trace of an event goes from the request through Kafka to the outcome in the `traceparent` and
 * `tracestate` headers, whether or not anybody collects spans.
 */
import { trimEnd } from '../service/trim.ts'

/** A parsed `traceparent`. */
export interface TraceContext {
  /** 32 hex digits. */
  traceId: string
  /** The whole header, as it goes on. */
  traceparent: string
  tracestate?: string
}

// Section 3.2: version ff is invalid, as are all-zero ids; a later version may carry more fields after the flags. A comma stands between two header fields.
const TRACEPARENT = /^(?!ff)([0-9a-f]{2})-((?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16})-([0-9a-f]{2})(-[^,]*)?$/

/**
 * Section 3.2.2: what is not valid is ignored, and its `tracestate` with it. What goes on is of version 00 (section 3.4: of a later version only
 * what is known of this one), with the flags that are defined: sampled, and level 2's random.
 */
export function parseTraceparent(
  traceparent: string | null | undefined,
  tracestate?: string | null,
): TraceContext | undefined {
  const match = traceparent === null || traceparent === undefined ? null : TRACEPARENT.exec(traceparent)
  if (match === null) return undefined
  const [, version, ids = '', flags = '', more] = match
  if (version === '00' && more !== undefined) return undefined
  const known = Number.parseInt(flags, 16) & (SAMPLED | RANDOM)
  const context: TraceContext = { traceId: ids.slice(0, 32), traceparent: `00-${ids}-0${known}` }
  const state = tracestate === null || tracestate === undefined ? undefined : validTracestate(tracestate)
  if (state !== undefined) context.tracestate = state
  return context
}

// Level 2, section 3.3.1.3; level 1's keys are among these. Values have no comma, no equals sign and no space at their end.
const STATE_MEMBER =
  /^([a-z0-9][a-z0-9_*/@-]{0,255})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]$/
const MAX_STATE_MEMBERS = 32
/** Section 3.3.1.5: so much is passed on; members at the end are left out before those at the front. */
const MAX_STATE_CHARS = 512

/** Section 3.3: a list that is not valid is ignored as a whole; of a key that is there twice the first one stays. */
function validTracestate(text: string): string | undefined {
  const keys = new Set<string>()
  const kept: string[] = []
  let chars = 0
  for (const given of text.split(',')) {
    const member = trimEnd(given, ' \t').replace(/^[ \t]+/, '')
    if (member === '') continue
    const key = STATE_MEMBER.exec(member)?.[1]
    if (key === undefined || (!keys.has(key) && keys.size === MAX_STATE_MEMBERS)) return undefined
    if (keys.has(key)) continue
    keys.add(key)
    chars += member.length + 1
    if (chars - 1 <= MAX_STATE_CHARS) kept.push(member)
  }
  return kept.length === 0 ? undefined : kept.join(',')
}

/** Section 3.2.2.4: the caller has recorded it, and asks others to do so. */
export const isSampled = (trace: TraceContext): boolean => (flagsOf(trace) & SAMPLED) !== 0

/** Those that are defined. */
export const flagsOf = ({ traceparent }: TraceContext): number =>
  Number.parseInt(traceparent.slice(FLAGS_AT, FLAGS_AT + 2), 16)

/** The flag of section 3.2.2.4. */
export const SAMPLED = 1

/** Level 2, section 3.2.2.5: at least the right half of the trace id is random. It goes on with the trace, whoever records it. */
export const RANDOM = 2

const FLAGS_AT = '00-'.length + 32 + '-'.length + 16 + '-'.length

/** Begins a trace of which nothing is recorded here: no flag, or others would record what follows for the sake of it. */
export function newTraceContext(): TraceContext {
  const traceId = randomHex(32)
  return { traceId, traceparent: `00-${traceId}-${randomHex(16)}-00` }
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
