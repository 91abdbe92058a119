import type { Authorised, Wanted } from '../../shared/http/authorise.ts'
import { authoriseBearer } from '../../shared/http/bearer.ts'
import type { Grant } from '../../shared/http/claims.ts'
import { type OrProblem, type Problem, refusal } from '../../shared/http/problem.ts'
import type { Role, Tenant } from '../../shared/http/tenants.ts'
import { type Bearer, nameIn, type Tokens } from '../../shared/http/tokens.ts'
import type { Logger } from '../../shared/service/logger.ts'
import { Recent } from '../../shared/service/recent.ts'
import { messageOf } from '../../shared/service/thrown.ts'
import { type CookiePlace, cookieIn, cookieOf, noCookie } from './cookies.ts'
import { type Granted, type Oidc, RefusedError } from './oidc.ts'
import { Sealed, type SealingKey } from './sealed.ts'

/**
 * People who have logged in. A session is a cookie that is encrypted, so that every console knows it and none has to keep it. The person's access token is
 * verified as any other, and its grant is kept; with the refresh token the issuer is asked again and again whether it still holds.
 */

/** For so long a session goes on while the issuer cannot be asked. */
const MAX_UNASKED_MS = 60 * 60_000

/** After a question that was not answered. */
const ASK_AGAIN_MS = 15_000

/** Browsers keep no cookie of more (RFC 6265, section 6.1), its attributes included. */
const MAX_COOKIE_CHARS = 3_900

/** So many sessions are known with what their cookies do not have. */
const MAX_KNOWN = 5_000

/** In the cookie. */
interface Content extends Omit<Grant, 'streams' | 'roles'> {
  session: string
  id: string
  name?: string
  streams?: string[]
  roles: Role[]
  /** Epoch. */
  askedAtMs: number
  /** When it ends whatever the issuer says, epoch. */
  endsAtMs: number
  /** Absent: the session ends when its access token does. */
  refreshToken?: string
}

/** What this process knows of a session besides: it is newer than a cookie that comes late. */
interface Known {
  content: Content
  askAtMs: number
  asking: Promise<void> | undefined
  /** Why it has ended. */
  ended: string | undefined
  access: { token: string; untilMs: number } | undefined
  idToken: string | undefined
}

/** A request of somebody who has logged in. */
export interface Session {
  authorise(wanted: Wanted): Authorised
  /** What the answer has to tell the browser to keep; undefined: nothing new. */
  cookie: string | undefined
  /** To act as the person elsewhere; undefined where the issuer gives none now. */
  accessToken(): Promise<string | undefined>
}

/** `cookie` of a problem: what makes the browser forget the session. */
export type SessionFound = OrProblem<{ session: Session }> & { cookie?: string }

export interface SessionsDeps {
  oidc: Pick<Oidc, 'renew' | 'revoke' | 'logoutUrl'>
  tokens: Pick<Tokens, 'find'>
  tenants(): readonly Tenant[]
  sealingKey: SealingKey
  place: CookiePlace
  maxMs: number
  askEveryMs: number
  log: Pick<Logger, 'info' | 'warn'>
  /** Counts a refusal by the address of its request. @returns what to answer */
  failed(problem: Problem, request: Request): Problem
  /** Epoch. */
  nowMs(): number
}

const COOKIE = 'kafkatrace-session'

export class Sessions {
  readonly #deps: SessionsDeps
  readonly #sealed: Sealed<Content>
  readonly #known = new Recent<Known>(MAX_KNOWN)
  /** Of the time when they are asked for. */
  readonly #tenants: { readonly list: readonly Tenant[] }

  constructor(deps: SessionsDeps) {
    this.#deps = deps
    this.#sealed = new Sealed(deps.sealingKey, 'session')
    this.#tenants = {
      get list() {
        return deps.tenants()
      },
    }
  }

  /** Begins a session with what the issuer has granted. @returns the cookie, or the problem with the grant */
  async begin(granted: Granted): Promise<OrProblem<{ cookie: string; bearer: Bearer }>> {
    const { nowMs, maxMs, askEveryMs } = this.#deps
    const found = await this.#bearerOf(granted)
    if (!found.ok) return found
    const now = nowMs()
    const known: Known = {
      content: contentOf(found.bearer, granted, crypto.randomUUID(), now, now + maxMs),
      askAtMs: now + askEveryMs,
      asking: undefined,
      ended: undefined,
      access: undefined,
      idToken: granted.idToken?.text,
    }
    keepAccess(known, granted, found.bearer)
    const cookie = await this.#cookieOf(known)
    this.#known.set(known.content.session, known)
    return { ok: true, cookie, bearer: found.bearer }
  }

  /** Whether a request has a session's cookie. */
  isIn({ headers }: Request): boolean {
    return cookieIn(headers, COOKIE, this.#deps.place) !== undefined
  }

  /** Of a request that has one. */
  async of(request: Request): Promise<SessionFound> {
    const found = await this.#found(request)
    if (found.ok || found.problem.kind !== 'unauthenticated') return found
    return { ...found, problem: this.#deps.failed(found.problem, request) }
  }

  async #found({ headers }: Request): Promise<SessionFound> {
    const { place, nowMs } = this.#deps
    const content = await this.#sealed.open(cookieIn(headers, COOKIE, place) ?? '', nowMs())
    if (content === undefined) return this.#over('it is over, or of another time')
    const known = this.#knownBy(content)
    await this.#ask(known)
    const now = this.#now(known)
    if (!now.ok) return now
    return {
      ok: true,
      session: {
        authorise: (wanted) => authoriseBearer(now.bearer, () => this.#again(known), this.#tenants, wanted, nowMs),
        cookie: known.content.askedAtMs === content.askedAtMs ? undefined : await this.#cookieOf(known),
        accessToken: () => this.#accessToken(known),
      },
    }
  }

  /** Ends the session of a request, here and at the issuer. @returns where the person logs out of the issuer, and what makes the browser forget it */
  async end(request: Request): Promise<{ url: string | undefined; cookie: string }> {
    const { place, nowMs, oidc, log } = this.#deps
    const given = cookieIn(request.headers, COOKIE, place)
    const content = given === undefined ? undefined : await this.#sealed.open(given, nowMs())
    const known = content && this.#knownBy(content)
    let url: string | undefined
    if (known !== undefined) {
      known.ended = 'you have logged out'
      const { id, refreshToken } = known.content
      log.info({ by: id }, 'logged out')
      try {
        // Before that, since the issuer forgets whose it was.
        url = await oidc.logoutUrl(known.idToken)
        if (refreshToken !== undefined) await oidc.revoke(refreshToken)
      } catch (error) {
        log.warn({ by: id, reason: messageOf(error) }, 'the issuer was not told of a log-out')
      }
    }
    return { url, cookie: noCookie(COOKIE, place) }
  }

  /** What is newest of a session: the cookie may come from another console that has asked later. */
  #knownBy(content: Content): Known {
    const known = this.#known.get(content.session)
    if (known === undefined) {
      const made: Known = {
        content,
        askAtMs: content.askedAtMs + this.#deps.askEveryMs,
        asking: undefined,
        ended: undefined,
        access: undefined,
        idToken: undefined,
      }
      this.#known.set(content.session, made)
      return made
    }
    if (content.askedAtMs > known.content.askedAtMs) {
      known.content = content
      known.askAtMs = content.askedAtMs + this.#deps.askEveryMs
      known.access = undefined
    }
    return known
  }

  /** Whether the session still holds, by what is known. */
  #now(known: Known): OrProblem<{ bearer: Bearer }> & { cookie?: string } {
    const { content, ended } = known
    const now = this.#deps.nowMs()
    if (ended !== undefined) return this.#over(ended)
    if (now >= content.endsAtMs) return this.#over('it is over')
    const { refreshToken, askedAtMs } = content
    if (refreshToken !== undefined && now - askedAtMs > this.#deps.askEveryMs + MAX_UNASKED_MS)
      return { ok: false, problem: UNASKED }
    return { ok: true, bearer: bearerIn(content) }
  }

  /** For answers that last: asks in the background. */
  #again(known: Known): OrProblem<{ bearer: Bearer }> {
    void this.#ask(known)
    return this.#now(known)
  }

  #over(why: string): { ok: false; problem: Problem; cookie: string } {
    return {
      ...refusal('unauthenticated', `The session has ended: ${why}. Log in again.`),
      cookie: noCookie(COOKIE, this.#deps.place),
    }
  }

  /** Asks the issuer, when that is due, whether the person may still do what they might. All that ask at a time share one question. */
  #ask(known: Known, isUrgent = false): Promise<void> {
    const { refreshToken, endsAtMs } = known.content
    const now = this.#deps.nowMs()
    const isDue = isUrgent || now >= known.askAtMs
    if (refreshToken === undefined || known.ended !== undefined || now >= endsAtMs || !isDue) return Promise.resolve()
    known.asking ??= this.#askOnce(known, refreshToken).finally(() => {
      known.asking = undefined
    })
    return known.asking
  }

  async #askOnce(known: Known, refreshToken: string): Promise<void> {
    const { oidc, nowMs, askEveryMs, log } = this.#deps
    const { id, session, endsAtMs, name } = known.content
    try {
      const granted = await oidc.renew(refreshToken)
      const found = await this.#bearerOf(granted, name)
      // It may be verified later: the issuer's keys cannot be read now, or do not have a new one yet.
      if (!found.ok && found.problem.retryAfterSeconds !== undefined) throw new Error(found.problem.detail)
      if (!found.ok) throw new RefusedError(found.problem.detail)
      if (found.bearer.id !== id) throw new RefusedError('the issuer has renewed it for somebody else')
      const now = nowMs()
      const next = { ...granted, refreshToken: granted.refreshToken ?? refreshToken }
      known.content = contentOf(found.bearer, next, session, now, endsAtMs)
      known.askAtMs = now + askEveryMs
      keepAccess(known, granted, found.bearer)
    } catch (error) {
      const reason = messageOf(error)
      if (error instanceof RefusedError) {
        known.ended = reason
        log.info({ by: id, reason }, 'a session has ended')
      } else {
        known.askAtMs = nowMs() + ASK_AGAIN_MS
        log.warn({ by: id, reason }, 'the issuer cannot be asked whether a session still holds')
      }
    }
  }

  async #bearerOf(granted: Granted, nameBefore?: string): Promise<OrProblem<{ bearer: Bearer }>> {
    const found = await this.#deps.tokens.find(granted.accessToken)
    if (!found.ok) return found
    const name = found.bearer.name ?? nameIn(granted.idToken?.claims ?? {}) ?? nameBefore
    return { ok: true, bearer: { ...found.bearer, name } }
  }

  async #accessToken(known: Known): Promise<string | undefined> {
    const isThere = (): boolean => known.access !== undefined && this.#deps.nowMs() < known.access.untilMs
    if (!isThere()) await this.#ask(known, true)
    return isThere() ? known.access?.token : undefined
  }

  async #cookieOf(known: Known): Promise<string> {
    const { place, log } = this.#deps
    const { content } = known
    const sealed = await this.#sealed.seal(content, content.endsAtMs)
    if (sealed.length <= MAX_COOKIE_CHARS) return cookieOf(COOKIE, sealed, place)
    log.warn(
      { by: content.id, chars: content.refreshToken?.length ?? 0 },
      'the issuer’s refresh token is too long for a cookie: the session ends when its access token does',
    )
    const { refreshToken: _, ...rest } = content
    known.content = { ...rest, endsAtMs: Math.min(content.endsAtMs, known.access?.untilMs ?? content.askedAtMs) }
    return cookieOf(COOKIE, await this.#sealed.seal(known.content, known.content.endsAtMs), place)
  }
}

const UNASKED: Problem = {
  kind: 'unverifiable',
  detail: 'The issuer has not answered for so long that the session cannot go on until it does.',
  outcome: 'not stored',
  retryAfterSeconds: 30,
}

/** An access token is used elsewhere for so long before its end, since it takes a moment to get there. */
const ACCESS_MARGIN_MS = 10_000

function keepAccess(known: Known, { accessToken, expiresInSeconds, idToken }: Granted, { expiresAtMs }: Bearer): void {
  const said = expiresInSeconds === undefined ? expiresAtMs : known.content.askedAtMs + expiresInSeconds * 1_000
  known.access = { token: accessToken, untilMs: Math.min(said, expiresAtMs) - ACCESS_MARGIN_MS }
  known.idToken = idToken?.text ?? known.idToken
}

function contentOf(bearer: Bearer, granted: Granted, session: string, askedAtMs: number, endsAtMs: number): Content {
  const { id, name, tenant, streams, roles, expiresAtMs } = bearer
  const { refreshToken } = granted
  return {
    session,
    id,
    ...(name === undefined ? {} : { name }),
    tenant,
    ...(streams === undefined ? {} : { streams: [...streams] }),
    roles: [...roles],
    askedAtMs,
    endsAtMs: refreshToken === undefined ? Math.min(endsAtMs, expiresAtMs) : endsAtMs,
    ...(refreshToken === undefined ? {} : { refreshToken }),
  }
}

const bearerIn = ({ id, name, tenant, streams, roles, endsAtMs }: Content): Bearer => ({
  id,
  name,
  tenant,
  streams: streams && new Set(streams),
  roles: new Set(roles),
  expiresAtMs: endsAtMs,
})
