/**
 * Error messages of other code may contain credentials, and go into logs and record headers. Removes the usual forms: values of names such as `token` or
 * `password`, credentials of HTTP and URLs, JSON Web Tokens (RFC 7519) and private keys in PEM (RFC 7468).
 */

const CENSOR = '(redacted)'

const NAME = String.raw`(?:password|passwd|pwd|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|credential|signature|cookie|session)[\w-]{0,32}|authorization`
const VALUE = String.raw`"[^"]*"?|'[^']*'?|(?:Bearer|Basic|Digest)\s+[^\s,;"']+|[^\s,;&"'}\])]+`

const CREDENTIALS: readonly (readonly [RegExp, string])[] = [
  [new RegExp(String.raw`((?:${NAME})["']?\s{0,4}[:=]\s{0,4})(?!\(redacted\))(?:${VALUE})`, 'gi'), `$1${CENSOR}`],
  [/\b(Bearer|Basic)\s+[\w.~+/=-]{8,}/gi, `$1 ${CENSOR}`],
  [/(\/\/)[^\s/@]+@/g, `$1${CENSOR}@`],
  [/\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?/g, CENSOR],
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g, CENSOR],
]

/** A URL as it may stand in texts: its user, password, query and fragment may be secrets, and in what is no URL, anything. */
export const shownUrl = (url: string): string =>
  URL.canParse(url)
    ? url.replace(/^(\w+:\/\/)[^/?#]*@/, `$1${CENSOR}@`).replace(/[?#].*$/s, `?${CENSOR}`)
    : url.replace(/:\/\/.*$/s, `://${CENSOR}`)

export type Redact = (text: string) => string

/** @param pattern a case-insensitive regular expression of what to remove besides */
export function redactor(pattern?: string): Redact {
  const all = pattern === undefined ? CREDENTIALS : [...CREDENTIALS, [new RegExp(pattern, 'gi'), CENSOR] as const]
  return (text) => all.reduce((left, [credential, instead]) => left.replace(credential, instead), text)
}
