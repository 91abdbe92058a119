import type { BunRequest } from 'bun'
import { noteChangedPath, pathOf } from './http.ts'

/**
 * The path of a request as it was sent. `request.url` is a URL, so that `\` has become `/`, and dot segments are gone with what stood before them (WHATWG URL,
 * "path state"): a proxy may have decided by another path. Bun's router matches the path as it was sent, and tells its segments.
 */

/** More segments than any path of a service has. */
const MAX_SEGMENTS = 12
const KNOWN_LENGTH = new RegExp(`^(?:/|(?:/[^/]+){1,${MAX_SEGMENTS}})$`)

/** Where it is what was sent, there is no segment to look at, which most requests save. */
const MOST_COMMON = '/v1/events'

type Fetch = (request: Request) => Response | Promise<Response>

/** For `Bun.serve`: notes which requests have another path than was sent. */
export function withSentPaths(fetch: Fetch) {
  const routed = (request: BunRequest): Response | Promise<Response> => {
    if (isChanged(request.params, request.url)) noteChangedPath(request)
    return fetch(request)
  }
  const paths = Array.from({ length: MAX_SEGMENTS }, (_, i) => i + 1).flatMap((segments) => {
    const path = Array.from({ length: segments }, (_, i) => `/:s${i}`).join('')
    return [path, `${path}/`]
  })
  return {
    routes: {
      ...Object.fromEntries(['/', ...paths].map((path) => [path, routed])),
      [MOST_COMMON]: fetch,
    },
    fetch(request: Request): Response | Promise<Response> {
      // It was sent with more segments, or with empty ones.
      if (KNOWN_LENGTH.test(pathOf(request))) noteChangedPath(request)
      return fetch(request)
    },
  }
}

/** @param segments as they were sent, percent-decoded */
export function isChanged(segments: Readonly<Record<string, string>>, url: string): boolean {
  // A target has no fragment (RFC 9112, section 3.2).
  if (url.includes('#')) return true
  for (const name in segments) {
    const segment = segments[name] as string
    if (segment === '.' || segment === '..') return true
    if (segment.includes('\\')) return !isPathOf(Object.values(segments), url)
  }
  return false
}

/** Whether these are the URL's segments: then each `\` was sent as %5C, which a URL keeps. */
function isPathOf(segments: readonly string[], url: string): boolean {
  // Without a valid Host, it is the path as it was sent.
  const path = /^(?:https?:\/\/[^/]*)?\/([^?\\]*?)\/?(?:\?|$)/.exec(url)?.[1]
  if (path === undefined) return false
  try {
    return path.split('/').map(decodeURIComponent).join('/') === segments.join('/')
  } catch {
    return false
  }
}
