import type { CommonConfig } from '../service/config.ts'
import { connectionFault } from '../service/connection-fault.ts'
import { extensionsOf, readTokenSecrets } from '../service/kafka-security.ts'
import type { Logger } from '../service/logger.ts'
import { type Backoff, delayMs, sleep, within } from '../service/retry.ts'
import { type Token, TokenError } from './token.ts'

/** Tokens for SASL/OAUTHBEARER (RFC 7628): of an issuer by client credentials (RFC 6749, section 4.4), or made of AWS credentials. */

export interface TokenSource {
  /**
   * A token for a client. One request is under way for all that ask.
   * @param isFirst the client has none yet, and takes one that is about to be replaced
   * @returns undefined once `ending` is aborted; until then it is tried again and again
   */
  token(asked: { isFirst: boolean; ending: AbortSignal }): Promise<Token | undefined>
  /** A client was not let in. Its token may be the reason, so the next client gets a new one, unless there was one lately. */
  notLetIn(): void
  /** Why the last attempt to get a token has failed; undefined when it has not. */
  fault(): string | undefined
}

/** librdkafka asks for the next token at this share of the remaining lifetime. */
const RENEWED_AFTER_SHARE = 0.8

/** With less left, a token may have expired when a broker reads it. */
const LEAST_LEFT_MS = 2_000

/** Soon, since connections end with the token. */
const TOKEN_BACKOFF: Backoff = { firstMs: 100, maxMs: 10_000 }

/** How long a token is kept when clients are not let in, for whatever reason. */
const KEPT_AFTER_REFUSAL_MS = 60_000

const FETCH_TIMEOUT_MS = 10_000

/** So that the reason of the request itself comes first. */
const ANSWER_GRACE_MS = 1_000
const MAX_ANSWER_BYTES = 256 * 1024

/** @param nowMs since the epoch */
export function createTokenSource(
  config: CommonConfig,
  log: Logger,
  get: () => Promise<Token> = config.KAFKA_SASL_MECHANISM === 'AWS_MSK_IAM'
    ? async () => (await import('./msk-token.ts')).mskToken(config.AWS_REGION ?? '')
    : () => requestToken(config),
  nowMs: () => number = Date.now,
): TokenSource {
  let current: Token | undefined
  /** Since the epoch. */
  let renewAtMs = 0
  let gotAtMs = 0
  let fault: string | undefined
  let failures = 0
  let attempt: Promise<void> | undefined

  /** One attempt, and after a failure the pause before the next. */
  async function attemptOnce(): Promise<void> {
    try {
      const token = await within(FETCH_TIMEOUT_MS + ANSWER_GRACE_MS, get(), 'no token')
      const leftMs = token.expiresAtMs - nowMs()
      if (leftMs <= LEAST_LEFT_MS)
        throw new TokenError(`the token expires in ${Math.round(leftMs / 1000)} s, or has expired`)
      current = token
      gotAtMs = nowMs()
      renewAtMs = nowMs() + leftMs * RENEWED_AFTER_SHARE
      if (fault !== undefined) log.info('there is a token for Kafka again')
      fault = undefined
      failures = 0
    } catch (error) {
      const reason = `no token for Kafka: ${(error as Error).message}`
      if (reason !== fault) log.error({ reason }, 'no token for Kafka')
      fault = reason
      await sleep(delayMs(TOKEN_BACKOFF, ++failures))
    }
  }

  return {
    async token({ isFirst, ending }) {
      const ended = new Promise<void>((resolve) => ending.addEventListener('abort', () => resolve(), { once: true }))
      while (!ending.aborted) {
        const usableUntilMs = current === undefined ? 0 : isFirst ? current.expiresAtMs - LEAST_LEFT_MS : renewAtMs
        if (nowMs() < usableUntilMs) return current
        attempt ??= attemptOnce().finally(() => {
          attempt = undefined
        })
        await Promise.race([attempt, ended])
      }
      return undefined
    },
    notLetIn() {
      if (nowMs() - gotAtMs > KEPT_AFTER_REFUSAL_MS) current = undefined
    },
    fault: () => fault,
  }
}

/** RFC 6749, section 5.2. */
const REFUSALS: Readonly<Record<string, string>> = {
  invalid_client:
    'client refused (invalid_client): check KAFKA_OAUTH_CLIENT_ID and KAFKA_OAUTH_CLIENT_SECRET or its file',
  invalid_scope: 'scope refused (invalid_scope): check KAFKA_OAUTH_SCOPE',
  unauthorized_client:
    'the client may not get tokens by client credentials (unauthorized_client): allow it at the issuer',
  unsupported_grant_type: 'the issuer does not support client credentials (unsupported_grant_type)',
}

/** Section 2.3.1: encoded as form values before they are joined. */
const formValue = (value: string): string => new URLSearchParams([['', value]]).toString().slice(1)

/**
 * Asks the issuer's token endpoint. Secrets and certificates are read anew.
 * @throws TokenError
 */
export async function requestToken(config: CommonConfig): Promise<Token> {
  const url = config.KAFKA_OAUTH_TOKEN_URL ?? ''
  const { clientSecret, authorities } = readTokenSecrets(config)
  const credentials = `${formValue(config.KAFKA_OAUTH_CLIENT_ID ?? '')}:${formValue(clientSecret)}`
  const body = new URLSearchParams({ grant_type: 'client_credentials' })
  if (config.KAFKA_OAUTH_SCOPE !== undefined) body.set('scope', config.KAFKA_OAUTH_SCOPE)
  // What may be in a URL besides is nobody's business.
  const place = new URL(url).host
  const askedAtMs = Date.now()
  let status: number
  let text: string
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: {
        authorization: `Basic ${Buffer.from(credentials).toString('base64')}`,
        'content-type': 'application/x-www-form-urlencoded',
        accept: 'application/json',
      },
      body: body.toString(),
      redirect: 'error',
      signal: AbortSignal.timeout(FETCH_TIMEOUT_MS),
      ...(authorities === undefined ? {} : { tls: { ca: authorities } }),
    })
    status = response.status
    text = await bounded(response)
  } catch (error) {
    if (error instanceof TokenError) throw error
    throw new TokenError(`${place}: ${requestFault(error as NodeJS.ErrnoException, url)}`)
  }
  return tokenOf(status, text, { place, askedAtMs, extensions: extensionsOf(config.KAFKA_OAUTH_EXTENSIONS) })
}

function requestFault(error: NodeJS.ErrnoException, url: string): string {
  const { name, code = '', message } = error
  if (name === 'TimeoutError') return `no answer within ${FETCH_TIMEOUT_MS / 1_000} s`
  if (/UnexpectedRedirect|ERR_.*REDIRECT/i.test(code))
    return 'it redirects, and the client’s secret is sent nowhere else'
  const fault = connectionFault(error, { url, authoritiesIn: 'KAFKA_OAUTH_CA_FILE' })
  return fault?.text ?? `not reachable: ${code === '' ? message.trim() : code}`
}

async function bounded(response: Response): Promise<string> {
  const parts: Uint8Array[] = []
  let bytes = 0
  for await (const part of response.body ?? []) {
    bytes += part.length
    if (bytes > MAX_ANSWER_BYTES) throw new TokenError(`the answer has more than ${MAX_ANSWER_BYTES} bytes`)
    parts.push(part)
  }
  return Buffer.concat(parts).toString('utf8')
}

/**
 * The token in an answer of a token endpoint (RFC 6749, sections 5.1 and 5.2). Its lifetime begins when it was asked for.
 * @throws TokenError
 */
export function tokenOf(
  status: number,
  text: string,
  { place, askedAtMs, extensions }: { place: string; askedAtMs: number; extensions: Token['extensions'] },
): Token {
  const answer = objectOf(text)
  const { error } = answer
  // The characters of section 5.2, and never what comes with them: issuers repeat parts of a request there.
  const refusal = typeof error === 'string' && /^[\x20-\x7e]{1,64}$/.test(error) ? error : undefined
  if (status === 401 || refusal !== undefined) {
    // Keycloak’s 401 for a wrong secret has the error unauthorized_client.
    const known = REFUSALS[status === 401 || refusal === undefined ? 'invalid_client' : refusal]
    throw new TokenError(`${place}: ${known ?? `it answers ${status}, ${refusal}`}`)
  }
  if (status < 200 || status > 299) throw new TokenError(`${place}: it answers ${status}`)
  const { access_token: value, expires_in: expiresIn } = answer
  if (typeof value !== 'string' || !/^[\x21-\x7e]+$/.test(value))
    throw new TokenError(`${place}: its answer has no access_token: is KAFKA_OAUTH_TOKEN_URL the token endpoint?`)
  const seconds = typeof expiresIn === 'string' ? Number(expiresIn) : expiresIn
  const expiresAtMs =
    typeof seconds === 'number' && Number.isFinite(seconds) ? askedAtMs + seconds * 1_000 : expiryOf(value)
  if (expiresAtMs === undefined)
    throw new TokenError(`${place}: its answer has no expires_in, nor has the token a claim exp`)
  return { value, expiresAtMs: Math.floor(expiresAtMs), extensions }
}

/** The claim `exp` of a JWT (RFC 7519, section 4.1.4), ms; undefined where it has none. */
function expiryOf(token: string): number | undefined {
  const payload = token.split('.')[1]
  const { exp } = payload === undefined ? {} : objectOf(Buffer.from(payload, 'base64url').toString('utf8'))
  return typeof exp === 'number' ? exp * 1_000 : undefined
}

/** An empty one of what is no JSON object. */
function objectOf(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : {}
  } catch {
    return {}
  }
}
