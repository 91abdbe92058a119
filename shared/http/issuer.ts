import { createLocalJWKSet, type JSONWebKeySet, type LocalJWKSet } from 'jose'
import { connectionFault } from '../service/connection-fault.ts'
import type { Logger } from '../service/logger.ts'
import { shownUrl } from '../service/redact.ts'
import { type Backoff, delayMs, sleep } from '../service/retry.ts'
import { messageOf } from '../service/thrown.ts'
import { boundedText } from './bounded-text.ts'

/** The public keys of the issuer of tokens (RFC 7517), read again and again. */

/** How often keys are read. A key that the issuer withdraws is trusted for at most this long. */
const REFRESH_MS = 5 * 60_000

/** How often it is looked at whether a reading is due: one that failed in between makes the next one come sooner. */
const LOOK_MS = 500

const RETRY_BACKOFF: Backoff = { firstMs: 1_000, maxMs: 30_000 }

/** The least time between two readings that are caused by tokens whose key is not known: whoever makes up tokens must not make this service flood the issuer. */
const LEAST_MS_BETWEEN_MISSES = 10_000

/** For so long keys are used while the issuer does not answer. Whoever cuts it off must not keep a stolen key valid for ever. */
const MAX_AGE_MS = 24 * 3_600_000

const ANSWER_TIMEOUT_MS = 5_000

/** Of a document of the issuer’s: far more than the keys of any. */
const MAX_ANSWER_BYTES = 256 * 1024

export interface IssuerOptions {
  /** As it stands in tokens, in `iss`. */
  issuer: string
  /** Where its keys are; undefined: where its metadata says (OpenID Connect Discovery 1.0, section 4). */
  jwksUrl: string | undefined
  log: Pick<Logger, 'info' | 'warn'>
  ask?: (url: string, init: RequestInit) => Promise<Response>
  /** Monotonic. */
  nowMs?: () => number
}

/** Not ok: it cannot be told now whether a key is the issuer's; keys are read again in so many seconds. */
export type KeysFound = { ok: true; keys: LocalJWKSet } | { ok: false; retryAfterSeconds: number }

export class IssuerKeys {
  readonly #options: IssuerOptions
  readonly #ask: NonNullable<IssuerOptions['ask']>
  readonly #nowMs: () => number
  readonly #ending = new AbortController()
  readonly #listeners: (() => void)[] = []
  #keys: { set: LocalJWKSet; text: string; readAtMs: number } | undefined
  /** Why the last reading failed. */
  #fault: string | undefined = 'they were not read yet'
  #reading: Promise<boolean> | undefined
  #missedAtMs = Number.NEGATIVE_INFINITY
  /** When keys are read again. */
  #nextAtMs = Number.NEGATIVE_INFINITY
  /** Readings that failed since the last that did not. */
  #failures = 0

  constructor(options: IssuerOptions) {
    this.#options = options
    this.#ask = options.ask ?? fetch
    this.#nowMs = options.nowMs ?? (() => performance.now())
  }

  /** Reads the keys now, and again until {@link stop}. */
  start(): void {
    void this.#run()
  }

  stop(): void {
    this.#ending.abort()
  }

  /** Called after keys were read that differ from those before. */
  onChange(listener: () => void): void {
    this.#listeners.push(listener)
  }

  /** Those that were read last. */
  known(): KeysFound {
    const keys = this.#keys
    if (keys === undefined || this.#nowMs() - keys.readAtMs > MAX_AGE_MS)
      return { ok: false, retryAfterSeconds: RETRY_BACKOFF.maxMs / 1_000 }
    return { ok: true, keys: keys.set }
  }

  /** Whether the last reading worked: a key that is not among those {@link known} is then the issuer's only where that began to sign with it since. */
  get isCurrent(): boolean {
    return this.#fault === undefined
  }

  /** After a token whose key is not among those {@link known}: reads them again, unless another such token has caused that just now. */
  async afterMiss(): Promise<KeysFound> {
    const sinceMs = this.#nowMs() - this.#missedAtMs
    if (this.#reading === undefined && sinceMs < LEAST_MS_BETWEEN_MISSES)
      return { ok: false, retryAfterSeconds: Math.ceil((LEAST_MS_BETWEEN_MISSES - sinceMs) / 1_000) }
    if (this.#reading === undefined) this.#missedAtMs = this.#nowMs()
    return (await this.#read()) ? this.known() : { ok: false, retryAfterSeconds: LEAST_MS_BETWEEN_MISSES / 1_000 }
  }

  /** Without keys the service is ready: those of its tenants file go on working. */
  state(): { ok: true; detail?: string } {
    const { issuer } = this.#options
    if (this.#fault === undefined) return { ok: true }
    if (this.#keys === undefined)
      return { ok: true, detail: `the keys of ${issuer} cannot be read, and no token can be verified: ${this.#fault}` }
    const minutes = Math.floor((this.#nowMs() - this.#keys.readAtMs) / 60_000)
    const used = this.known().ok
      ? 'they are used'
      : `that is more than ${MAX_AGE_MS / 3_600_000} hours ago, and no token can be verified`
    return {
      ok: true,
      detail: `the keys of ${issuer} were last read ${minutes} minutes ago, ${used}: ${this.#fault}`,
    }
  }

  async #run(): Promise<void> {
    const { signal } = this.#ending
    while (!signal.aborted) {
      if (this.#nowMs() >= this.#nextAtMs) await this.#read()
      await sleep(LOOK_MS, signal)
    }
  }

  /** All that ask at a time share one reading. @returns whether it worked */
  #read(): Promise<boolean> {
    this.#reading ??= this.#readOnce().then((worked) => {
      this.#failures = worked ? 0 : this.#failures + 1
      this.#nextAtMs = this.#nowMs() + (worked ? REFRESH_MS : delayMs(RETRY_BACKOFF, this.#failures))
      this.#reading = undefined
      return worked
    })
    return this.#reading
  }

  async #readOnce(): Promise<boolean> {
    const { issuer, log } = this.#options
    const before = this.#fault
    try {
      const { jwksUrl } = this.#options
      const hint = jwksUrl === undefined ? '' : ': is JWT_JWKS_URL the address of the issuer’s keys?'
      const jwks = await this.#document(jwksUrl ?? (await this.#discovered()), hint)
      const { set, text } = readKeys(jwks, hint)
      const isNew = text !== this.#keys?.text
      // The set that was used before has its keys imported.
      this.#keys = { set: isNew ? set : (this.#keys?.set ?? set), text, readAtMs: this.#nowMs() }
      this.#fault = undefined
      if (isNew) {
        log.info({ issuer, keys: idsIn(jwks) }, 'the keys of the issuer of tokens were read')
        for (const listener of this.#listeners) listener()
      } else if (before !== undefined) log.info({ issuer }, 'the issuer of tokens answers again')
      return true
    } catch (error) {
      if (this.#ending.signal.aborted) return false
      this.#fault = messageOf(error)
      if (this.#fault !== before)
        log.warn({ issuer, reason: this.#fault }, 'the keys of the issuer of tokens cannot be read')
      return false
    }
  }

  /** Where the issuer's metadata says that its keys are. */
  async #discovered(): Promise<string> {
    const { issuer } = this.#options
    const url = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`
    const metadata = await this.#document(url, ': is JWT_ISSUER the issuer, as it stands in tokens?')
    const { issuer: said, jwks_uri: jwksUri } = metadata as { issuer?: unknown; jwks_uri?: unknown }
    // Section 4.3: exactly, or keys of somebody else would be trusted.
    if (said !== issuer)
      throw new Error(
        `${url} is of the issuer ${JSON.stringify(said)?.slice(0, 200)}: set JWT_ISSUER to the issuer that stands in tokens, exactly`,
      )
    if (typeof jwksUri !== 'string' || !URL.canParse(jwksUri))
      throw new Error(`${url} has no jwks_uri: set JWT_JWKS_URL`)
    if (issuer.startsWith('https:') && !jwksUri.startsWith('https:'))
      throw new Error(`${url} has a jwks_uri without https`)
    return jwksUri
  }

  /** @param hint for an answer that is not what is wanted */
  async #document(url: string, hint: string): Promise<unknown> {
    const signal = AbortSignal.any([AbortSignal.timeout(ANSWER_TIMEOUT_MS), this.#ending.signal])
    try {
      const response = await this.#ask(url, { headers: { accept: 'application/json' }, redirect: 'error', signal })
      if (!response.ok) throw new Error(`it answers ${response.status}`)
      const document: unknown = JSON.parse(await boundedText(response, MAX_ANSWER_BYTES))
      if (typeof document !== 'object' || document === null) throw new Error('it answers no JSON object')
      return document
    } catch (error) {
      const { code, name } = error as { code?: unknown; name?: string }
      const isAnswer = typeof code !== 'string' && name !== 'TimeoutError' && name !== 'AbortError'
      const why = isAnswer
        ? messageOf(error) + hint
        : (connectionFault(error, { url })?.text ?? (typeof code === 'string' ? code : messageOf(error)))
      throw new Error(`${shownUrl(url)}: ${why}`, { cause: error })
    }
  }
}

/** `text` is the same for the same keys, in whatever order the issuer has them. @throws Error for what is no set of keys, or has none */
function readKeys(jwks: unknown, hint: string): { set: LocalJWKSet; text: string } {
  let set: LocalJWKSet
  try {
    set = createLocalJWKSet(jwks as JSONWebKeySet)
  } catch (error) {
    throw new Error(`the issuer’s keys cannot be used: ${messageOf(error)}${hint}`, { cause: error })
  }
  const { keys } = jwks as JSONWebKeySet
  if (keys.length === 0) throw new Error('the issuer has no keys')
  const texts = keys.map((key) => JSON.stringify(key))
  return { set, text: texts.sort().join() }
}

const LOGGED_KEYS = 10

const idsIn = (jwks: unknown): unknown[] => (jwks as JSONWebKeySet).keys.slice(0, LOGGED_KEYS).map(({ kid }) => kid)
