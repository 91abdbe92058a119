import { getPath } from 'hono/utils/url'

/** What every port of all services does first with a request. */

/** On every answer, so that browsers do not guess media types. */
export const NOSNIFF = { 'x-content-type-options': 'nosniff' }

/** The path to route by, without a trailing slash. */
export function pathOf(request: Request): string {
  // Without a valid Host, which HTTP/1.0 need not send, Bun's URL is only the path.
  const path = getPath(request.url.startsWith('/') ? new Request(`http://localhost${request.url}`) : request)
  return path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path
}

/** Printable ASCII without spaces: safe in any header and any log. */
const REQUEST_ID = /^[\x21-\x7e]{1,128}$/

/** The request's id: the client's, or a UUIDv7 when that is absent or not usable. */
export const requestIdOf = (given: string | null): string =>
  given !== null && REQUEST_ID.test(given) ? given : Bun.randomUUIDv7()

/** RFC 9110, section 7.2, and RFC 3986, section 3.2.2: a host and a port. No comma, with which Bun joins repeated fields. */
const HOST = /^(?:\[[^\]/?#@, ]*\]|[A-Za-z0-9._~%!$&'()*+;=-]*)(?::\d*)?$/

const changed = new WeakSet<Request>()

/** Says that the path of `request.url` may not be the one that was sent. */
export const noteChangedPath = (request: Request): void => void changed.add(request)

/**
 * Why a request is ambiguous, so that a proxy may have understood it differently; undefined when it is not. RFC 9112, section 3.2: at most one Host, and a path
 * that nothing has to be taken out of; section 6.3: one Content-Length, even if repeated with the same value.
 */
export function ambiguity(request: Request): string | undefined {
  const { headers } = request
  const length = headers.get('content-length')
  if (length !== null && !/^\d+$/.test(length)) return 'Content-Length must be given once, as a number.'
  const host = headers.get('host')
  if (host !== null && !HOST.test(host)) return 'Host must be given once, as a host and a port.'
  if (changed.has(request)) return 'The path must be sent as it is meant: without "\\", ".", ".." and "#".'
  return undefined
}

/**
 * Whether a request names a host as websites have: then it may be from a page of such a site whose name was pointed at this machine (DNS rebinding), which
 * browsers take for the same origin. Addresses, names without a dot, and those that are reserved for private use (RFC 6761; .internal) cannot be.
 */
function isOfWebsite(headers: Headers): boolean {
  const host = (headers.get('host') ?? '').replace(/:\d*$/, '').replace(/\.$/, '').toLowerCase()
  return host.includes('.') && !/^(?:\[|[\d.]+$)/.test(host) && !/\.(localhost|internal|test)$/.test(host)
}

/** An origin of this machine. */
const LOCAL_ORIGIN = /^https?:\/\/(?:(?:[a-z0-9-]+\.)*localhost|127(?:\.\d+){3}|\[::1\])(?::\d+)?$/

/**
 * With AUTH=off, why a request may be from a website, through the browser of somebody who can reach this service; undefined when it is not.
 * @param origins of pages that may
 */
export function websiteFault(headers: Headers, origins: ReadonlySet<string>): string | undefined {
  if (isOfWebsite(headers))
    return 'With AUTH=off, services answer to localhost, addresses and names without a dot only, so that no website can reach them through a browser.'
  const origin = headers.get('origin')
  if (origin === null || LOCAL_ORIGIN.test(origin) || origins.has(origin)) return undefined
  if (origin.replace(/^https?:\/\//, '') === headers.get('host')) return undefined
  return 'With AUTH=off, services answer to pages of their own origin, of this machine, and of the tenant’s origins only.'
}

/** A HEAD request as the GET that it asks about (RFC 9110, section 9.3.2). Bun then omits the body and keeps its length; Hono would omit both. */
export function headAsGet(request: Request): Request {
  if (request.method !== 'HEAD') return request
  // Without the host, which may be invalid in a URL, and without the query, which no GET here has.
  const path = pathOf(request).slice(1).replaceAll('\\', '%5C')
  return new Request(`http://localhost/${path}`, { headers: request.headers })
}
