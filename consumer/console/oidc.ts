import * as client from 'openid-client'
import { connectionFault } from '../../shared/service/connection-fault.ts'
import { messageOf } from '../../shared/service/thrown.ts'

/** The issuer as people log in with it: OpenID Connect Core 1.0, section 3.1, the authorization code with PKCE (RFC 7636). */

const ANSWER_TIMEOUT_SECONDS = 5

/** How long the issuer's metadata is used. */
const METADATA_MAX_AGE_MS = 10 * 60_000

export interface OidcOptions {
  issuer: string
  clientId: string
  /** Asked for at each use; undefined: a public client. */
  clientSecret: (() => Promise<string>) | undefined
  scope: string
  audience: string
  /** Where the issuer sends people back to. */
  redirectUri: string
  /** Where it sends them after they have logged out. */
  homeUri: string
  /** Whether the issuer may be without TLS. */
  mayBeInsecure: boolean
  ask?: client.CustomFetch
}

/** What has to be the same when a person comes back. */
export interface Checks {
  state: string
  nonce: string
  verifier: string
}

export interface Granted {
  accessToken: string
  /** Seconds; undefined where the issuer does not say. */
  expiresInSeconds: number | undefined
  refreshToken: string | undefined
  /** Who has logged in; undefined after a renewal that does not say. */
  idToken: { text: string; claims: Readonly<Record<string, unknown>> } | undefined
}

/** What the issuer, or whoever speaks for it, has said no to. Its message is safe to show. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError'
}

/** The issuer gave no answer, or none that can be used. */
export class IssuerError extends Error {
  override readonly name = 'IssuerError'
}

/** Errors of RFC 6749, section 5.2, and OpenID Connect Core 1.0, section 3.1.2.6, that say of the person, not of this client, that it is over. */
const OVER: ReadonlySet<string> = new Set([
  'invalid_grant',
  'access_denied',
  'login_required',
  'interaction_required',
  'consent_required',
  'account_selection_required',
])

export class Oidc {
  readonly #options: OidcOptions
  #metadata: { config: client.Configuration; atMs: number } | undefined

  constructor(options: OidcOptions) {
    this.#options = options
  }

  /**
   * Where a person logs in, and what has to be kept for when they come back.
   * @param asksAnew whether the issuer asks who it is even where it knows somebody
   * @throws IssuerError
   */
  async begin(asksAnew = false): Promise<{ url: string; checks: Checks }> {
    const config = await this.#configuration()
    const checks = {
      state: client.randomState(),
      nonce: client.randomNonce(),
      verifier: client.randomPKCECodeVerifier(),
    }
    const { redirectUri, scope, audience } = this.#options
    const url = client.buildAuthorizationUrl(config, {
      redirect_uri: redirectUri,
      scope,
      // Not of the standard. Auth0 gives access tokens that are JWTs only for one; others ignore it (RFC 6749, section 3.1).
      audience,
      state: checks.state,
      nonce: checks.nonce,
      code_challenge: await client.calculatePKCECodeChallenge(checks.verifier),
      code_challenge_method: 'S256',
      ...(asksAnew ? { prompt: 'login' } : {}),
    })
    return { url: url.href, checks }
  }

  /**
   * Takes what the issuer has sent a person back with: its `state`, and its `iss` (RFC 9207) where the issuer gives one, are checked first.
   * @param query of the request, with its question mark
   * @throws RefusedError, IssuerError
   */
  async finish(query: string, { state, nonce, verifier }: Checks): Promise<Granted> {
    const config = await this.#configuration()
    const url = new URL(this.#options.redirectUri + query)
    const checks = { expectedState: state, expectedNonce: nonce, pkceCodeVerifier: verifier, idTokenExpected: true }
    return grantedBy(await this.#asked(client.authorizationCodeGrant(config, url, checks), true))
  }

  /** @throws RefusedError once the issuer does not know the person any more; IssuerError */
  async renew(refreshToken: string): Promise<Granted> {
    const config = await this.#configuration()
    return grantedBy(await this.#asked(client.refreshTokenGrant(config, refreshToken)))
  }

  /** Makes a refresh token worthless (RFC 7009), where the issuer can. @throws RefusedError, IssuerError */
  async revoke(refreshToken: string): Promise<void> {
    const config = await this.#configuration()
    if (config.serverMetadata().revocation_endpoint === undefined) return
    await this.#asked(client.tokenRevocation(config, refreshToken, { token_type_hint: 'refresh_token' }))
  }

  /** Where a person logs out of the issuer (OpenID Connect RP-Initiated Logout 1.0); undefined where that is not possible. */
  async logoutUrl(idToken: string | undefined): Promise<string | undefined> {
    const config = await this.#configuration()
    if (config.serverMetadata().end_session_endpoint === undefined) return undefined
    return client.buildEndSessionUrl(config, {
      post_logout_redirect_uri: this.#options.homeUri,
      ...(idToken === undefined ? {} : { id_token_hint: idToken }),
    }).href
  }

  async #configuration(): Promise<client.Configuration> {
    const known = this.#metadata
    if (known !== undefined && performance.now() - known.atMs < METADATA_MAX_AGE_MS) return known.config
    try {
      const config = await this.#discover()
      this.#metadata = { config, atMs: performance.now() }
      return config
    } catch (error) {
      if (known !== undefined) return known.config
      throw new IssuerError(reasonOf(error, this.#options.issuer))
    }
  }

  /** @throws RefusedError, IssuerError */
  async #asked<T>(asking: Promise<T>, isCallback = false): Promise<T> {
    try {
      return await asking
    } catch (error) {
      if (error instanceof client.ResponseBodyError || error instanceof client.AuthorizationResponseError) {
        // Of the characters that RFC 6749, appendix A.7, allows, since it is shown.
        const said = /^[\w.-]{1,64}$/.test(error.error) ? error.error : 'an error that is none of OAuth'
        if (OVER.has(said)) throw new RefusedError(`the issuer says ${said}`)
        const hint = NOT_LET_IN.has(said) ? ': check OIDC_CLIENT_ID, and OIDC_CLIENT_SECRET or its file' : ''
        throw new IssuerError(`the issuer says ${said}${hint}`)
      }
      const { code = '' } = error as { code?: string }
      if (isCallback && OTHER_ANSWER.has(code))
        throw new RefusedError(`the answer is not one to this log-in: ${messageOf(error)}`)
      throw new IssuerError(reasonOf(error, this.#options.issuer))
    }
  }

  #discover(): Promise<client.Configuration> {
    const { issuer, clientId, mayBeInsecure, ask } = this.#options
    return client.discovery(new URL(issuer), clientId, undefined, this.#authentication(), {
      timeout: ANSWER_TIMEOUT_SECONDS,
      execute: mayBeInsecure ? [client.allowInsecureRequests] : [],
      ...(ask === undefined ? {} : { [client.customFetch]: ask }),
    })
  }

  /** The secret may be another one than before. */
  #authentication(): client.ClientAuth {
    const { clientSecret } = this.#options
    if (clientSecret === undefined) return client.None()
    return async (server, of, body, headers) => {
      const secret = await clientSecret()
      const methods = server.token_endpoint_auth_methods_supported ?? []
      const method = methods.includes('client_secret_post') ? client.ClientSecretPost : client.ClientSecretBasic
      return method(secret)(server, of, body, headers)
    }
  }
}

type Answer = client.TokenEndpointResponse & client.TokenEndpointResponseHelpers

function grantedBy(answer: Answer): Granted {
  const claims = answer.claims()
  return {
    accessToken: answer.access_token,
    expiresInSeconds: answer.expires_in,
    refreshToken: answer.refresh_token,
    idToken: claims === undefined || answer.id_token === undefined ? undefined : { text: answer.id_token, claims },
  }
}

/** Keycloak answers a wrong secret with the second. */
const NOT_LET_IN: ReadonlySet<string> = new Set(['invalid_client', 'unauthorized_client'])

/** Codes of the client library for an answer that is not what was asked for: another state, nonce, issuer or audience, or none. */
const OTHER_ANSWER: ReadonlySet<string> = new Set([
  'OAUTH_INVALID_RESPONSE',
  'OAUTH_JWT_CLAIM_COMPARISON_FAILED',
  'OAUTH_JWT_TIMESTAMP_CHECK_FAILED',
])

/** With what is wrong with a connection, whose error the library has as the cause. */
function reasonOf(error: unknown, url: string): string {
  const { cause } = error as { cause?: { code?: unknown } }
  const fault = connectionFault(cause, { url })
  if (fault !== undefined) return `${url}: ${fault.text}`
  return typeof cause?.code === 'string' ? `${messageOf(error)} (${cause.code})` : messageOf(error)
}
