/** Why a service gave no answer, in words, by the codes that the runtime's fetch and OpenSSL give. Used by pages, too. */

export interface ConnectionFault {
  kind: 'name' | 'authority' | 'expired' | 'tls' | 'closed' | 'refused' | 'unreachable'
  /** What is wrong, and for TLS what to do, with the code; no sentence, and without the address. */
  text: string
}

export interface ConnectionPlace {
  url: string
  /** The variable that names a file of authorities. */
  authoritiesIn?: string | undefined
}

const KINDS: readonly [code: RegExp, kind: ConnectionFault['kind']][] = [
  [/ALTNAME|HOSTNAME_MISMATCH|IP_ADDRESS_MISMATCH/, 'name'],
  [/^CERT_HAS_EXPIRED|^CERT_NOT_YET_VALID/, 'expired'],
  [/SELF_SIGNED|ISSUER_CERT|VERIFY_LEAF|UNABLE_TO_VERIFY|CERT_UNTRUSTED|UNKNOWN_CERTIFICATE/, 'authority'],
  [/^EPROTO$/, 'tls'],
  [/^ECONNRESET$|^ConnectionClosed$/, 'closed'],
  [/^ConnectionRefused$|^ECONNREFUSED$/, 'refused'],
  [/^ENOTFOUND$|^EAI_|DNS|^FailedToOpenSocket$/, 'unreachable'],
]

/** Before a request is sent, the connection is made and the certificate looked at. Only then is it sure that nothing of it has arrived. */
const BEFORE_REQUEST: ReadonlySet<ConnectionFault['kind']> = new Set([
  'name',
  'authority',
  'expired',
  'refused',
  'unreachable',
])

/** @returns undefined for errors without such a code */
export function connectionFault(
  error: unknown,
  { url, authoritiesIn = 'NODE_EXTRA_CA_CERTS' }: ConnectionPlace,
): (ConnectionFault & { isBeforeRequest: boolean }) | undefined {
  const { code } = (error ?? {}) as { code?: unknown }
  if (typeof code !== 'string') return undefined
  const kind = KINDS.find(([pattern]) => pattern.test(code))?.[1]
  if (kind === undefined) return undefined
  return { kind, text: `${textOf(kind, url, authoritiesIn)} (${code})`, isBeforeRequest: BEFORE_REQUEST.has(kind) }
}

function textOf(kind: ConnectionFault['kind'], url: string, authoritiesIn: string): string {
  switch (kind) {
    case 'name':
      return 'wrong host name: its certificate is not for the name in the URL; take a name of the certificate, or issue one with this name'
    case 'authority':
      return `unknown authority: its certificate is not signed by one that is trusted here; put that authority into the PEM file that ${authoritiesIn} names`
    case 'expired':
      return 'its certificate has expired or is not valid yet; renew it, or set the clocks right'
    case 'tls':
      return 'TLS failed: it may speak none at this port, and then the URL begins with http://, or it wants a client certificate'
    case 'closed':
      return url.startsWith('http:')
        ? 'it closed the connection: it may speak TLS at this port, and then the URL begins with https://'
        : 'it closed the connection'
    case 'refused':
      return 'connection refused: nothing listens at this address'
    case 'unreachable':
      return 'unknown host name, or not reachable'
  }
}
