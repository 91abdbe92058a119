/**
 * W3C Trace Context (level 1). `traceparent` and `tracestate` headers carry an event's trace from the request through Kafka to the outcome, whether or not spans
 * are collected.
 */
import { trimEnd } from '../service/trim.ts'

/** A parsed `traceparent`. */
export interface TraceContext {
  /** 32 hex digits. */
  traceId: string
  /** The header to pass on. */
  traceparent: string
  tracestate?: string
}

// Section 3.2: version ff and all-zero ids are invalid; a later version may have more fields after the flags. A comma would join repeated headers.
const TRACEPARENT = /^(?!ff)([0-9a-f]{2})-((?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16})-([0-9a-f]{2})(-[^,]*)?$/

/**
 * Section 3.2.2: an invalid `traceparent` is ignored, together with its `tracestate`. The result is of version 00 (section 3.4), with only the defined flags:
 * sampled, and random of level 2.
 */
export function parseTraceparent(traceparent: string | undefined, tracestate?: string): TraceContext | undefined {
  const match = traceparent === undefined ? null : TRACEPARENT.exec(traceparent)
  if (match === null) return undefined
  const [, version, ids = '', flags = '', more] = match
  if (version === '00' && more !== undefined) return undefined
  const known = Number.parseInt(flags, 16) & (SAMPLED | RANDOM)
  const context: TraceContext = { traceId: ids.slice(0, 32), traceparent: `00-${ids}-0${known}` }
  const state = tracestate === undefined ? undefined : validTracestate(tracestate)
  if (state !== undefined) context.tracestate = state
  return context
}

// Level 2, section 3.3.1.3, which includes level 1's keys. Values have no comma, no equals sign and no trailing space.
const STATE_MEMBER =
  /^([a-z0-9][a-z0-9_*/@-]{0,255})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]$/
const MAX_STATE_MEMBERS = 32
/** Section 3.3.1.5: how much is passed on; members are dropped from the end. */
const MAX_STATE_CHARS = 512

/** Section 3.3: an invalid list is ignored as a whole; the first member of each key is kept. */
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

/** Section 3.2.2.4: the caller records the trace and asks others to do so. */
export const isSampled = (trace: TraceContext): boolean => (flagsOf(trace) & SAMPLED) !== 0

export const flagsOf = ({ traceparent }: TraceContext): number =>
  Number.parseInt(traceparent.slice(FLAGS_AT, FLAGS_AT + 2), 16)

/** The flag of section 3.2.2.4. */
export const SAMPLED = 1

/** Level 2, section 3.2.2.5: at least the right half of the trace id is random. Always passed on. */
export const RANDOM = 2

const FLAGS_AT = '00-'.length + 32 + '-'.length + 16 + '-'.length

/** Begins a trace that is not recorded here, so without the sampled flag, which would make others record it. */
export function newTraceContext(): TraceContext {
  const traceId = randomHex(32)
  return { traceId, traceparent: `00-${traceId}-${randomHex(16)}-00` }
}

/** Random bytes are fetched for many traces at once; singly they would cost more than the rest of the function. */
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
  // All zeros are invalid (section 3.2.2.3).
  return /[^0]/.test(hex) ? hex : randomHex(digits)
}
