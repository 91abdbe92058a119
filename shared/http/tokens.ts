import { createHash } from 'node:crypto'
import { decodeJwt, errors, type JWTPayload, type JWTVerifyResult, jwtVerify, type LocalJWKSet } from 'jose'
import { Recent } from '../service/recent.ts'
import { TOKEN_ID_PREFIX } from './authorise.ts'
import { type ClaimNames, type Grant, grantOf } from './claims.ts'
import { CHALLENGE_INVALID, notOfForm } from './credentials.ts'
import type { IssuerKeys, KeysFound } from './issuer.ts'
import { type AuthenticationFailure, type OrProblem, type Problem, refusal, refusedTo } from './problem.ts'

/** Access tokens of people and services: JSON Web Tokens (RFC 7519), verified as RFC 9068, section 4, and RFC 8725 say. */

/** Signatures that only the issuer can make. Those by a shared secret (HS256) are not among them, nor `none`. */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519']

/** More fits into no header field of a request that also has others. */
const MAX_TOKEN_CHARS = 8_192

/** So many verified tokens are remembered, and in the worst case twice as many. */
const MAX_REMEMBERED = 10_000

/** So many requests may wait for keys to be read again. */
const MAX_WAITING = 1_000

/** While keys cannot be read. */
const RETRY_AFTER_SECONDS = 5

/** Whoever a verified token is for. */
export interface Bearer extends Grant {
  /** `jwt:` and the subject: the name in logs and in acts. */
  id: string
  /** As people call whoever it is; undefined where the token does not say. */
  name: string | undefined
  /** Since the epoch. */
  expiresAtMs: number
}

/** 401: not valid; with `retryAfterSeconds`, by the keys that are known. 403: valid, and its claims grant nothing. 503: it cannot be verified now. */
export type TokenFound = OrProblem<{ bearer: Bearer }>

type Refused = Extract<TokenFound, { ok: false }>

export interface TokenOptions {
  keys: IssuerKeys
  issuer: string
  audience: string
  clockSkewSeconds: number
  names: ClaimNames
  /** Since the epoch. */
  nowMs?: () => number
}

export class Tokens {
  readonly #options: TokenOptions
  readonly #nowMs: () => number
  /** By the token's hash, so that a copy of this memory is no collection of tokens. */
  readonly #verified = new Recent<{ found: TokenFound; untilMs: number }>(MAX_REMEMBERED)
  readonly #verifying = new Map<string, Promise<TokenFound>>()
  #waiting = 0

  constructor(options: TokenOptions) {
    this.#options = options
    this.#nowMs = options.nowMs ?? Date.now
    // What a key has signed that the issuer has withdrawn is not valid any more.
    options.keys.onChange(() => this.#verified.clear())
  }

  /** Whoever a token is for; a promise only where it was not verified before. */
  find(token: string): TokenFound | Promise<TokenFound> {
    if (token.length > MAX_TOKEN_CHARS) return invalid(`has more than ${MAX_TOKEN_CHARS} characters`)
    const known = this.#options.keys.known()
    if (!known.ok) return FORM.test(token) ? UNVERIFIABLE : UNKNOWN
    const hash = createHash('sha256').update(token).digest('base64')
    const verified = this.#verified.get(hash)
    if (verified !== undefined && this.#nowMs() < verified.untilMs) return verified.found
    if (!FORM.test(token)) return UNKNOWN
    let verifying = this.#verifying.get(hash)
    if (verifying === undefined) {
      verifying = this.#verify(token, hash, known.keys).finally(() => this.#verifying.delete(hash))
      this.#verifying.set(hash, verifying)
    }
    return verifying
  }

  async #verify(token: string, hash: string, keys: LocalJWKSet): Promise<TokenFound> {
    let checked = await this.#check(token, keys)
    if (checked === 'unknown key') {
      const hopeless = this.#hopeless(token)
      if (hopeless !== undefined) return hopeless
      const again = await this.#keysAfter(keys)
      if (!again.ok) return this.#unknownKey(again.retryAfterSeconds)
      checked = await this.#check(token, again.keys)
      if (checked === 'unknown key') return invalid(`${OTHER_KEY} does not have`)
      keys = again.keys
    }
    if ('problem' in checked) return checked
    const { payload } = checked
    const untilMs = this.#expiryOf(payload)
    const found = this.#bearer(payload, untilMs)
    const now = this.#options.keys.known()
    // Verified by keys that were replaced meanwhile, it must not be remembered.
    if (now.ok && now.keys === keys) this.#verified.set(hash, { found, untilMs })
    return found
  }

  async #check(token: string, keys: LocalJWKSet): Promise<JWTVerifyResult | 'unknown key' | Refused> {
    const { issuer, audience, clockSkewSeconds } = this.#options
    try {
      const result = await jwtVerify(token, keys, {
        algorithms: ALGORITHMS,
        issuer,
        audience,
        clockTolerance: clockSkewSeconds,
        currentDate: new Date(this.#nowMs()),
        requiredClaims: ['exp', 'sub'],
      })
      const fault = claimFault(result.payload, clockSkewSeconds) ?? otherThanAccessToken(result)
      return fault === undefined ? result : refusedTo(subjectIn(result.payload), invalid(fault))
    } catch (error) {
      if (error instanceof errors.JWKSNoMatchingKey) return 'unknown key'
      const refused = invalid(faultOf(error, audience))
      // Claims are looked at after the signature.
      return error instanceof errors.JWTClaimValidationFailed || error instanceof errors.JWTExpired
        ? refusedTo(subjectIn(error.payload), refused)
        : refused
    }
  }

  /** Keys after those that a token's is not among. */
  async #keysAfter(missed: LocalJWKSet): Promise<KeysFound> {
    const { keys } = this.#options
    const known = keys.known()
    // Read while the token was looked at.
    if (known.ok && known.keys !== missed) return known
    if (this.#waiting >= MAX_WAITING) return { ok: false, retryAfterSeconds: RETRY_AFTER_SECONDS }
    this.#waiting++
    return keys.afterMiss().finally(() => this.#waiting--)
  }

  /**
   * Where keys are not read again for a token. Whoever makes up keys must not cause answers that count as this service's fault, so it is refused as any other
   * while the last reading worked. It counts as a failed authentication also where that did not.
   */
  #unknownKey(retryAfterSeconds: number): Refused {
    const problem: Problem = this.#options.keys.isCurrent
      ? invalid(`${OTHER_KEY} did not have a moment ago. If it is new, send the token again in ${retryAfterSeconds} s`)
          .problem
      : { ...UNVERIFIABLE.problem, failure: 'invalid_token' }
    return { ok: false, problem: { ...problem, retryAfterSeconds } }
  }

  /** Why a token of which nothing is verified would be refused whatever the issuer's keys are: for those, none are read. */
  #hopeless(token: string): TokenFound | undefined {
    const { issuer, audience } = this.#options
    const payload = payloadOf(token)
    if (payload === undefined) return invalid(MALFORMED)
    if (payload.iss !== issuer) return invalid(OTHER_ISSUER)
    if (payload.aud !== audience && !(Array.isArray(payload.aud) && payload.aud.includes(audience)))
      return invalid(otherAudience(audience))
    return this.#nowMs() < this.#expiryOf(payload) ? undefined : invalid(EXPIRED)
  }

  #expiryOf({ exp = 0 }: JWTPayload): number {
    return (exp + this.#options.clockSkewSeconds) * 1_000
  }

  #bearer(payload: JWTPayload, expiresAtMs: number): TokenFound {
    const granted = grantOf(payload, this.#options.names)
    if (!granted.ok) return refusedTo(subjectIn(payload), refusal('forbidden', granted.detail))
    return {
      ok: true,
      bearer: { ...granted.grant, id: idOf(payload.sub ?? ''), name: nameIn(payload), expiresAtMs },
    }
  }
}

/** A compact JWS (RFC 7515, section 7.1). */
const FORM = /^[\w-]+\.[\w-]+\.[\w-]+$/

const invalid = (what: string): Refused =>
  refusal('unauthenticated', `The token ${what}.`, CHALLENGE_INVALID, FAILURES[what] ?? 'invalid_token')

/** What is neither a key nor a token. */
const UNKNOWN = refusal('unauthenticated', notOfForm('key or a token'), CHALLENGE_INVALID, 'unknown')

const OTHER_KEY = 'is signed with a key that its issuer'
const OTHER_ISSUER = 'is of another issuer'
const otherAudience = (wanted: string): string => `is for another audience than ${wanted}`
const EXPIRED = 'has expired'
const NOT_YET = 'is not valid yet'
const MALFORMED = 'is malformed'

const FAILURES: Readonly<Record<string, AuthenticationFailure>> = { [EXPIRED]: 'expired', [NOT_YET]: 'not_yet_valid' }

function payloadOf(token: string): JWTPayload | undefined {
  try {
    return decodeJwt(token)
  } catch {
    return undefined
  }
}

const UNVERIFIABLE = {
  ok: false,
  problem: {
    kind: 'unverifiable',
    detail: 'The token cannot be verified now: the keys of its issuer cannot be read. Try again.',
    outcome: 'not stored',
    retryAfterSeconds: RETRY_AFTER_SECONDS,
  },
} as const satisfies Refused

function faultOf(error: unknown, audience: string): string {
  if (error instanceof errors.JWTExpired) return EXPIRED
  if (error instanceof errors.JWSSignatureVerificationFailed) return 'has a signature that is not its issuer’s'
  if (error instanceof errors.JOSEAlgNotAllowed || error instanceof errors.JOSENotSupported)
    return 'is signed in a way that is not accepted'
  if (error instanceof errors.JWKSMultipleMatchingKeys)
    return 'does not say which of its issuer’s keys it is signed with'
  if (!(error instanceof errors.JOSEError)) return 'is signed with a key of its issuer that cannot be used'
  if (!(error instanceof errors.JWTClaimValidationFailed)) return MALFORMED
  if (error.reason === 'missing') return `has no claim ${error.claim}`
  if (error.claim === 'iss') return OTHER_ISSUER
  if (error.claim === 'aud') return otherAudience(audience)
  return error.claim === 'nbf' ? NOT_YET : `has a claim ${error.claim} that is not valid`
}

/** What a time can be at most (ECMA-262, section 21.4.1.1). */
const MAX_TIME_MS = 8.64e15

/** What is wrong with the claims of a token that is the issuer's: the library only looks whether they are there, and whether `exp` is a number. */
function claimFault({ sub, exp = 0 }: JWTPayload, clockSkewSeconds: number): string | undefined {
  if (typeof sub !== 'string' || sub === '') return 'has a claim sub that is no text, or an empty one'
  return (exp + clockSkewSeconds) * 1_000 <= MAX_TIME_MS ? undefined : 'has a claim exp that is no time'
}

/**
 * What a token of the issuer's is, where it is no access token that its bearer alone may use. RFC 9068 marks those with the type `at+jwt`; many issuers give
 * them `JWT` as they do all others, and then the claims tell. Keycloak's say it in their own `typ`; those of ID tokens are of OpenID Connect Core 1.0, sections
 * 2 and 3.3.2.11, `events` is of RFC 8417.
 */
function otherThanAccessToken({ payload, protectedHeader }: JWTVerifyResult): string | undefined {
  // RFC 7800: only together with a proof that its key is had, which is not asked for here.
  if (payload['cnf'] !== undefined) return 'is bound to a key, and such tokens are not accepted'
  const type = (protectedHeader.typ ?? 'JWT').toLowerCase().replace(/^application\//, '')
  if (type === 'at+jwt') return undefined
  const said = payload['typ']
  const isOther = type !== 'jwt' || (typeof said === 'string' && said !== 'Bearer')
  const marks = ['nonce', 'at_hash', 'c_hash', 'events']
  return isOther || marks.some((mark) => payload[mark] !== undefined) ? 'is no access token' : undefined
}

const subjectIn = ({ sub }: JWTPayload): string | undefined =>
  typeof sub === 'string' && sub !== '' ? idOf(sub) : undefined

const MAX_ID_CHARS = 100
const KEPT_ID_CHARS = 80

/** Of a subject, percent-encoded, so that no two of them look alike; a long one is cut, and has a part of its hash instead. */
export function idOf(subject: string): string {
  const id = TOKEN_ID_PREFIX + encodeURIComponent(subject.toWellFormed())
  if (id.length <= MAX_ID_CHARS) return id
  return `${id.slice(0, KEPT_ID_CHARS)}~${createHash('sha256').update(subject).digest('hex').slice(0, 16)}`
}

const MAX_NAME_CHARS = 64

/** Only what can be shown beside an id without looking like one. */
export function nameIn(claims: Readonly<Record<string, unknown>>): string | undefined {
  for (const claim of ['preferred_username', 'name', 'email']) {
    const said = claims[claim]
    if (typeof said !== 'string') continue
    const name = said.replaceAll(/[^\p{L}\p{M}\p{N} .,_@+'’-]/gu, '').trim()
    if (name !== '') return [...name].slice(0, MAX_NAME_CHARS).join('')
  }
  return undefined
}
