import { isUtf8 } from 'node:buffer'
import { parseMediaType } from '../../shared/events/event.ts'
import { ProblemError, refusal } from '../../shared/http/problem.ts'
import { Fields } from './fields.ts'

/** A request as its sender made it. Nothing of it is to be trusted until it has been verified. */
export class Webhook {
  readonly headers: Headers
  /** As it came in, which behind a proxy differs from what the sender called. */
  readonly url: string
  /** The bytes that were sent, without their Content-Encoding. */
  readonly body: Buffer
  /** Unix time, ms. */
  readonly receivedAtMs: number
  readonly #maxDepth: number
  #form: ReadonlyMap<string, readonly string[]> | undefined
  #isForm: boolean | undefined
  #data: Buffer | undefined
  readonly #parsed = new Map<Buffer, Fields>()

  constructor(request: Pick<Request, 'headers' | 'url'>, body: Buffer, receivedAtMs: number, maxDepth: number) {
    this.headers = request.headers
    this.url = request.url
    this.body = body
    this.receivedAtMs = receivedAtMs
    this.#maxDepth = maxDepth
  }

  /** A header field; undefined without one, and for an empty one. A field that was given twice is joined with a comma and a space. */
  header(name: string): string | undefined {
    return this.headers.get(name) || undefined
  }

  /** A header field that is a word, such as an id; undefined for anything else: one that was given twice has a comma. */
  word(name: string): string | undefined {
    const value = this.header(name)
    return value !== undefined && WORD.test(value) ? value : undefined
  }

  get isForm(): boolean {
    // What is signed does not cover the media type, and a form begins with a name, in which these two are escaped.
    this.#isForm ??=
      parseMediaType(this.headers.get('content-type') ?? '').essence === 'application/x-www-form-urlencoded' &&
      this.body[0] !== OPEN_BRACE &&
      this.body[0] !== OPEN_BRACKET
    return this.#isForm
  }

  /**
   * The fields of a form in order of their first values (WHATWG URL Standard, section 5.1); empty when the body is none.
   * @throws ProblemError when it is no UTF-8, or has too many
   */
  get form(): ReadonlyMap<string, readonly string[]> {
    this.#form ??= this.isForm ? formOf(this.body) : new Map()
    return this.#form
  }

  /**
   * The event's data as JSON: the body, byte for byte. Of a form, an object of its fields, where a field that was given several times is an array; of a form
   * that is only a field `payload`, as GitHub and Slack send it, its content.
   */
  get data(): Buffer {
    this.#data ??= this.isForm ? jsonOf(this.form) : this.body
    return this.#data
  }

  /** @throws ProblemError when the data is no JSON, or nested too deeply */
  get json(): Fields {
    return this.parse(this.data)
  }

  /**
   * The fields of a part of the body. The same buffer is looked through once.
   * @throws ProblemError as {@link json}
   */
  parse(bytes: Buffer): Fields {
    return this.#parsed.getOrInsertComputed(bytes, () => new Fields(bytes, this.#maxDepth))
  }
}

const WORD = /^[\w./-]+$/
const OPEN_BRACE = 0x7b
const OPEN_BRACKET = 0x5b

/** Some kinds look into forms that they have not verified yet. */
const MAX_FIELDS = 1_000
const AMPERSAND = 0x26

function formOf(body: Buffer): Map<string, string[]> {
  if (!isUtf8(body)) throw new ProblemError(refusal('malformed', 'The form is not valid UTF-8.').problem)
  let fields = 1
  for (let at = body.indexOf(AMPERSAND); at !== -1; at = body.indexOf(AMPERSAND, at + 1))
    if (++fields > MAX_FIELDS)
      throw new ProblemError({ kind: 'body-too-large', detail: `The form has more than ${MAX_FIELDS} fields.` })
  const form = new Map<string, string[]>()
  for (const [name, value] of new URLSearchParams(`?${body.toString('utf8')}`))
    form.getOrInsertComputed(name, () => []).push(value)
  return form
}

function jsonOf(form: ReadonlyMap<string, readonly string[]>): Buffer {
  const [payload, ...more] = form.size === 1 ? (form.get('payload') ?? []) : []
  if (payload !== undefined && more.length === 0) return Buffer.from(payload, 'utf8')
  // Not by way of an object, to which a field may not be called "__proto__".
  const members = [...form].map(
    ([name, values]) => `${JSON.stringify(name)}:${JSON.stringify(values.length === 1 ? values[0] : values)}`,
  )
  return Buffer.from(`{${members.join(',')}}`, 'utf8')
}
