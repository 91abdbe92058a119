import { getPath } from 'hono/utils/url'

/** What every port of both services does with a request before anything else. */

/** On every answer: a browser is not to guess what it is. */
export const NOSNIFF = { 'x-content-type-options': 'nosniff' }

/** Bun has no origin to put before the path where there is no Host, an empty one, or one that is none: HTTP/1.0 needs none. */
const absolute = (url: string): string => (url.startsWith('/') ? `http://localhost${url}` : url)

/** The path that is routed by: a slash at its end means nothing. */
export function pathOf(request: Request): string {
  const path = getPath(request.url.startsWith('/') ? new Request(absolute(request.url)) : request)
  return path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path
}

/** RFC 9110, section 7.2, by RFC 3986, section 3.2.2: a host, as loosely as that says, and a port. A comma stands between two fields. */
const HOST = /^(?:\[[^\]/?#@, ]*\]|[A-Za-z0-9._~%!$&'()*+;=-]*)(?::\d*)?$/

const LENGTH = /^\d+$/

/**
 * Why it cannot be said what a request is: whoever stands in front of the service may have understood another one. RFC 9112, section 3.2: one
 * Host at most; section 6.3: one Content-Length, though it be the same twice. Bun joins fields of one name by a comma.
 */
export function ambiguity(headers: Headers): string | undefined {
  const length = headers.get('content-length')
  if (length !== null && !LENGTH.test(length)) return 'Content-Length must be given once, as a number.'
  const host = headers.get('host')
  return host === null || HOST.test(host) ? undefined : 'Host must be given once, as a host and a port.'
}

/**
 * A HEAD request as the GET whose headers its answer has (RFC 9110, section 9.3.2). Bun leaves the body out and says how long it would be; Hono
 * would leave out both.
 */
export function headAsGet(request: Request): Request {
  if (request.method !== 'HEAD') return request
  // Where HEAD is answered, nothing is asked in a query. The host may be none that a URL can have.
  return new Request(`http://localhost/${pathOf(request).slice(1)}`, { headers: request.headers })
}
