/** Cookies (RFC 6265) that only the console sees: no script, and nobody on the way. */

/** Where the console is, as browsers see it. */
export interface CookiePlace {
  /** Whether browsers reach it by https. */
  isSecure: boolean
}

/** With the prefix, browsers take the cookie from this host alone, by https, for all of its paths (RFC 6265bis, section 4.1.3.2). */
const named = (name: string, { isSecure }: CookiePlace): string => (isSecure ? `__Host-${name}` : name)

/** `lax`: also sent when another site leads here, as the issuer does after a log-in. */
type SameSite = 'strict' | 'lax'

/** Until the browser is closed. */
export const cookieOf = (name: string, value: string, place: CookiePlace, sameSite: SameSite = 'strict'): string =>
  `${named(name, place)}=${value}; Path=/; HttpOnly; SameSite=${sameSite}${place.isSecure ? '; Secure' : ''}`

/** Makes browsers forget it. */
export const noCookie = (name: string, place: CookiePlace, sameSite: SameSite = 'strict'): string =>
  `${cookieOf(name, '', place, sameSite)}; Max-Age=0`

/** undefined where there is none, or more than one: a site beside this one may have added its own. */
export function cookieIn(headers: Headers, name: string, place: CookiePlace): string | undefined {
  const start = `${named(name, place)}=`
  const found = (headers.get('cookie') ?? '')
    .split(';')
    .map((one) => one.trim())
    .filter((one) => one.startsWith(start))
  return found.length === 1 ? found[0]?.slice(start.length) : undefined
}
