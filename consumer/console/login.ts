import { actorOf } from '../../shared/http/authorise.ts'
import type { ClientAddress } from '../../shared/http/client-address.ts'
import { NOSNIFF } from '../../shared/http/http.ts'
import { type OrProblem, PROBLEMS, type Problem, refusal } from '../../shared/http/problem.ts'
import { idOf } from '../../shared/http/tokens.ts'
import { type Logger, TenantLines } from '../../shared/service/logger.ts'
import { Recent } from '../../shared/service/recent.ts'
import { messageOf } from '../../shared/service/thrown.ts'
import { type CookiePlace, cookieIn, cookieOf, noCookie } from './cookies.ts'
import type { LoginResult } from './metrics.ts'
import { type Checks, type Oidc, RefusedError } from './oidc.ts'
import { Sealed, type SealingKey } from './sealed.ts'
import type { Sessions } from './sessions.ts'

/** How people log in and out: to the issuer and back. */

/** How long somebody may take at the issuer. */
const MAX_LOGIN_MS = 10 * 60_000

/** So many log-ins that were answered are remembered, and in the worst case twice as many. */
const MAX_ANSWERED = 10_000

const COOKIE = 'kafkatrace-login'

/** Where on the page somebody was: a fragment alone, so that nothing leads to another site. */
const FRAGMENT = /^#[\x21-\x7e]{0,2000}$/

/** What has to be there again when somebody comes back from the issuer. */
interface Begun extends Checks {
  to: string
}

export interface LoginDeps {
  oidc: Pick<Oidc, 'begin' | 'finish'>
  sessions: Sessions
  sealingKey: SealingKey
  place: CookiePlace
  /** Without a slash at its end. */
  publicUrl: string
  log: Pick<Logger, 'info' | 'warn' | 'debug'>
  onLogin(result: LoginResult): void
  /** Counts a refusal by the address of its request. @returns what to answer */
  failed(problem: Problem, request: Request): Problem
  /** For the log of those who are refused. undefined: it has no addresses. */
  clientAddress?: ClientAddress | undefined
  /** Epoch. */
  nowMs(): number
}

export class Login {
  readonly #deps: LoginDeps
  readonly #sealed: Sealed<Begun>
  readonly #lines = new TenantLines()
  /** By their state. Whoever keeps the cookie of one must not make the console ask the issuer again and again. */
  readonly #answered = new Recent<true>(MAX_ANSWERED)
  readonly sessions: Sessions
  /** Where people log in. */
  readonly url: string
  readonly #origin: string

  constructor(deps: LoginDeps) {
    this.#deps = deps
    this.#sealed = new Sealed(deps.sealingKey, 'login')
    this.sessions = deps.sessions
    this.url = `${deps.publicUrl}/auth/login`
    this.#origin = new URL(deps.publicUrl).origin
  }

  /**
   * Sends somebody to the issuer. The query's `to` is where on the page they go afterwards; with `prompt=login` the issuer asks who it is though it knows
   * somebody. A browser that is at another name of the console goes to PUBLIC_URL first: there the issuer sends it back, and cookies of other names are not sent.
   */
  async begin(request: Request): Promise<Response> {
    const { oidc, place, nowMs } = this.#deps
    const query = queryOf(request)
    const to = query.get('to') ?? ''
    // Once: a proxy may pass on another name than browsers use.
    if (!query.has(MOVED) && isElsewhere(request, this.#origin)) {
      query.set(MOVED, '')
      return redirect(`${this.url}?${query}`, [])
    }
    try {
      const { url, checks } = await oidc.begin(query.get('prompt') === 'login')
      const begun = { ...checks, to: FRAGMENT.test(to) ? to : '' }
      const sealed = await this.#sealed.seal(begun, nowMs() + MAX_LOGIN_MS)
      // The issuer, another site, leads back here.
      return redirect(url, [cookieOf(COOKIE, sealed, place, 'lax')])
    } catch (error) {
      return this.#failed(error)
    }
  }

  /** Takes somebody back from the issuer. */
  async finish(request: Request): Promise<Response> {
    const { oidc, place, log, nowMs, onLogin, publicUrl } = this.#deps
    const cookie = cookieIn(request.headers, COOKIE, place)
    const begun = cookie === undefined ? undefined : await this.#sealed.open(cookie, nowMs())
    const query = queryOf(request)
    // The one in the cookie is of this browser: another one’s answer must not log in anybody here.
    if (begun === undefined || query.get('state') !== begun.state)
      return this.#refused(request, 'it is not the answer to a log-in that was begun in this browser, or to an old one')
    if (this.#answered.get(begun.state)) return this.#refused(request, 'this log-in was answered already')
    this.#answered.set(begun.state, true)
    try {
      const granted = await oidc.finish(`?${query}`, begun)
      const session = await this.sessions.begin(granted)
      if (!session.ok) {
        const subject = granted.idToken?.claims['sub']
        const by = session.problem.by ?? (typeof subject === 'string' ? idOf(subject) : undefined)
        return this.#refused(request, session.problem.detail, {
          by,
          advice: session.problem.kind === 'forbidden' ? WITHOUT_RIGHTS : undefined,
        })
      }
      log.info({ by: actorOf({ keyId: session.bearer.id, name: session.bearer.name }) }, 'logged in')
      onLogin('done')
      return redirect(`${publicUrl}/${begun.to}`, [session.cookie, noCookie(COOKIE, place, 'lax')])
    } catch (error) {
      return error instanceof RefusedError ? this.#refused(request, error.message) : this.#failed(error)
    }
  }

  /** Ends a session. Answers where the person logs out of the issuer, or where the page is. */
  async end(request: Request): Promise<OrProblem<{ response: Response }>> {
    const fault = this.crossSiteFault(request)
    if (fault !== undefined) return refusal('forbidden', fault)
    const { url, cookie } = await this.sessions.end(request)
    const headers = { ...PRIVATE, 'content-type': 'application/json', 'set-cookie': cookie }
    return { ok: true, response: new Response(JSON.stringify({ url: url ?? `${this.#deps.publicUrl}/` }), { headers }) }
  }

  /**
   * Why a request that counts by its cookie may have been caused by a page of another site; undefined where a browser says that it was not. One that reads may
   * come without a proof, since no other page can see the answer.
   */
  crossSiteFault({ method, headers }: Request): string | undefined {
    // W3C Fetch Metadata; browsers that do not send it send Origin with everything that is not read.
    const site = headers.get('sec-fetch-site')
    const origin = headers.get('origin')
    const isRead = method === 'GET' || method === 'HEAD'
    const isProved = origin === null ? site === 'same-origin' : origin === this.#origin
    const isOther = site !== null && site !== 'same-origin' && !(isRead && site === 'none')
    if (!isOther && (isProved || (isRead && origin === null))) return undefined
    return `With the cookie of a session, only pages of ${this.#origin} may ask here. Elsewhere, use a key or a token.`
  }

  /** @param by who it was, where that is known */
  #refused(
    request: Request,
    why: string,
    { by, advice = '' }: { by?: string | undefined; advice?: string | undefined } = {},
  ): Response {
    const { onLogin, log, failed, clientAddress } = this.#deps
    onLogin('refused')
    const { problem } = refusal('forbidden', `${asSentence(why)} ${advice}`.trim())
    const counted = failed(problem, request)
    const isLimited = counted !== problem
    const client = clientAddress?.(request)
    log[isLimited ? 'debug' : this.#lines.level(undefined, 'info')](
      { ...(by && { by }), ...(client && { client }), reason: why },
      'a log-in was refused',
    )
    const { status, title } = PROBLEMS[counted.kind]
    return this.#page(status, isLimited ? title : 'You are not logged in', counted.detail, counted.retryAfterSeconds)
  }

  #failed(error: unknown): Response {
    this.#deps.onLogin('failed')
    this.#deps.log[this.#lines.level(undefined, 'warn')]({ reason: messageOf(error) }, 'a log-in has failed')
    return this.#page(
      503,
      'Nobody can log in now',
      'the issuer gives no answer that can be used; the log of the console says more',
    )
  }

  /** For whoever is not on the page now. */
  #page(status: number, title: string, why: string, retryAfterSeconds?: number): Response {
    const { publicUrl } = this.#deps
    const text = Bun.escapeHTML(asSentence(why))
    // Otherwise the issuer, which knows who it was, would send the same person back at once.
    const [url, link] =
      status === 403 ? [`${this.url}?prompt=login`, 'Log in, also as somebody else,'] : [this.url, 'Log in']
    return new Response(
      `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">` +
        `<title>${title} · KafkaTrace</title><h1>${title}</h1><p>Why: ${text}</p>` +
        `<p><a href="${Bun.escapeHTML(url)}">${link}</a> or <a href="${Bun.escapeHTML(publicUrl)}/">use a key</a>.</p></html>`,
      {
        status,
        headers: {
          ...PRIVATE,
          ...(retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) }),
          'content-type': 'text/html;charset=utf-8',
          'content-security-policy': "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        },
      },
    )
  }
}

const asSentence = (text: string): string => text.replace(/\.?$/, '.')

const WITHOUT_RIGHTS =
  'Your administrator has to give you a tenant, and roles in it, at the issuer where you log in. If you have them as somebody else there, log in as that person.'

const PRIVATE = { 'cache-control': 'no-store', 'referrer-policy': 'no-referrer', ...NOSNIFF }

/** In the query of a log-in that was sent to PUBLIC_URL. */
const MOVED = 'moved'

function isElsewhere({ headers }: Request, origin: string): boolean {
  const { protocol, host } = new URL(origin)
  const asked = `${protocol}//${headers.get('host')}`
  return headers.has('host') && URL.canParse(asked) && new URL(asked).host !== host
}

const queryOf = (request: Request): URLSearchParams => new URL(request.url, 'http://localhost').searchParams

function redirect(location: string, cookies: readonly string[]): Response {
  const response = new Response(null, { status: 303, headers: { ...PRIVATE, location } })
  for (const cookie of cookies) response.headers.append('set-cookie', cookie)
  return response
}
