import { type JsonElement, type JsonMember, type JsonSpan, outlineJson, stringAt } from '../../shared/events/json.ts'
import { stepsOf } from '../../shared/events/json-pointer.ts'
import { type Problem, ProblemError } from '../../shared/http/problem.ts'

/** The most members that are listed of an object: crafted names can make each one be compared with all before it. */
const MAX_MEMBERS = 10_000
/** The most members and elements that are listed in all: each takes memory many times its size, and some kinds look into what they have not verified yet. */
const MAX_LISTED = 100_000

/**
 * A JSON text that is read only where it is asked for: nothing is copied, and a number beyond 2^53 stays as it is written.
 */
export class Fields {
  readonly #bytes: Buffer
  readonly #inside: readonly JsonMember[] | readonly JsonElement[]
  readonly #isArray: boolean
  /** By step: texts that were looked into. */
  #opened: Map<string, Fields | undefined> | undefined

  /**
   * @param maxDepth of objects and arrays
   * @throws ProblemError when the bytes are no JSON, nested more deeply, or have too many members or elements
   */
  constructor(bytes: Buffer, maxDepth: number) {
    const result = outlineJson(bytes, {
      maxDepth,
      maxElements: MAX_LISTED,
      maxMembers: MAX_LISTED,
      maxObjectMembers: MAX_MEMBERS,
    })
    if (!result.ok) throw new ProblemError(problemOf(result.fault, maxDepth))
    const { outline } = result
    this.#bytes = bytes
    this.#isArray = outline.root === 'array'
    this.#inside = outline.root === 'object' ? outline.members : outline.root === 'array' ? outline.elements : []
  }

  /** The text of a string, a number or a boolean at a pointer (RFC 6901); undefined where there is none. */
  text(pointer: string): string | undefined {
    const found = this.#find(pointer)
    if (found === undefined) return undefined
    const { bytes, span } = found
    switch (span.kind) {
      case 'string':
        return stringAt(bytes, span)
      case 'number':
      case 'true':
      case 'false':
        return bytes.toString('latin1', span.start, span.end)
      default:
        return undefined
    }
  }

  /** The JSON at a pointer, byte for byte. */
  json(pointer: string): Buffer | undefined {
    const found = this.#find(pointer)
    return found?.bytes.subarray(found.span.start, found.span.end)
  }

  /** How many elements the array at a pointer has; 0 where there is none. */
  count(pointer: string): number {
    let at: Fields | undefined = this
    for (const step of stepsOf(pointer)) at = at === undefined ? undefined : at.#open(step)
    return at === undefined || !at.#isArray ? 0 : at.#inside.length
  }

  #find(pointer: string): { bytes: Buffer; span: JsonSpan } | undefined {
    let at: Fields = this
    const steps = stepsOf(pointer)
    const last = steps.length - 1
    if (last < 0) return undefined
    for (let index = 0; index < last; index++) {
      const inner = at.#open(steps[index] as string)
      if (inner === undefined) return undefined
      at = inner
    }
    const span = at.#at(steps[last] as string)
    return span === undefined ? undefined : { bytes: at.#bytes, span }
  }

  #open(step: string): Fields | undefined {
    this.#opened ??= new Map()
    return this.#opened.getOrInsertComputed(step, () => {
      const span = this.#at(step)
      if (span?.kind !== 'object' && span?.kind !== 'array') return undefined
      // It has been found to be JSON, and not nested too deeply.
      return new Fields(this.#bytes.subarray(span.start, span.end), Number.POSITIVE_INFINITY)
    })
  }

  #at(step: string): JsonSpan | undefined {
    if (this.#isArray) return INDEX.test(step) ? this.#inside[Number(step)] : undefined
    return (this.#inside as readonly JsonMember[]).find(({ name }) => name === step)
  }
}

/** RFC 6901, section 4. */
const INDEX = /^(?:0|[1-9]\d*)$/

function problemOf({ reason, detail }: { reason: string; detail: string }, maxDepth: number): Problem {
  if (reason === 'too deep')
    return { kind: 'too-deep', detail: `The body is nested more than MAX_NESTING_DEPTH=${maxDepth} levels deep.` }
  if (reason !== 'syntax')
    return { kind: 'body-too-large', detail: `The body has more members or elements than are read: ${MAX_LISTED}.` }
  return { kind: 'malformed', detail: `The body is not the JSON that this source's kind expects: ${detail}.` }
}
