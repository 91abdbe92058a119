import type { X509Certificate } from 'node:crypto'
import { type Authorise, type Authorised, authorised, type Renewed } from './authorise.ts'
import { hasKey } from './credentials.ts'
import { refusal } from './problem.ts'
import type { Tenants } from './tenants.ts'

/** Certificates that clients show in TLS: which tenant they stand for. */

export interface ClientCertificate {
  /** Its subject alternative names, and its subject, as a tenants file names them. */
  names: readonly string[]
  /** Epoch. */
  notAfterMs: number
  /** Why it was not accepted: no authority of TLS_CLIENT_CA_FILE has issued it, or it has expired. */
  fault: string | undefined
}

const ofRequests = new WeakMap<Request, ClientCertificate>()

/** Says which certificate the client of a request has shown. */
export const showCertificate = (request: Request, certificate: ClientCertificate): void =>
  void ofRequests.set(request, certificate)

/** One name of the list in `subjectAltName`. Node quotes a value in which anything could be taken for another name. */
const SAN = /(DNS|URI|email|[^:"]+):("(?:[^"\\]|\\.)*"|[^,"]*)(?:, |$)/gy

/** What a tenants file can know a certificate by: `DNS:`, `URI:` and `email:` names, and `subject:` with its subject as in RFC 2253. */
export function namesOf({ subject, subjectAltName }: Pick<X509Certificate, 'subject' | 'subjectAltName'>): string[] {
  const names: string[] = []
  for (const [, kind = '', value = ''] of (subjectAltName ?? '').matchAll(SAN)) {
    if (value === '' || value.startsWith('"')) continue
    if (kind === 'DNS') names.push(`DNS:${value.toLowerCase()}`)
    else if (kind === 'URI' || kind === 'email') names.push(`${kind}:${value}`)
  }
  // Node gives a line to each part, in the certificate's order and with the escapes of RFC 2253, which has them from the last to the first.
  if (subject)
    names.push(
      `subject:${backwards(
        subject.split('\n').map((part) => backwards(part.split(' + '), '+')),
        ',',
      )}`,
    )
  return names
}

/** The most names of a certificate that are told. */
const NAMED = 10

const backwards = (parts: readonly string[], separator: string): string => parts.toReversed().join(separator)

/**
 * By certificate, by key, or by both where they are of the same tenant. 400: they are not; or the tenants file names the certificate several times. 401: the
 * certificate was not accepted; or it stands for nobody, and there is no key. 403: a page of another site sends it, whose origin the tenant does not name.
 * @param byKey decides requests that have a key
 * @param nowMs epoch
 */
export function authoriseByCertificate(tenants: Tenants, byKey: Authorise, nowMs: () => number = Date.now): Authorise {
  return (request, wanted) => {
    const certificate = ofRequests.get(request)
    if (certificate === undefined) return byKey(request, wanted)
    if (certificate.fault !== undefined)
      return refusal(
        'unauthenticated',
        `The client’s certificate is not accepted: ${certificate.fault}.`,
        undefined,
        'certificate',
      )
    const [credential, ...others] = tenants.certified(certificate.names)
    if (others.length > 0)
      return refusal(
        'malformed',
        'The tenants file names the client’s certificate several times: by several of its names.',
      )
    if (hasKey(request)) {
      const agreeing = (decided: Authorised): Authorised => {
        if (!decided.ok || credential === undefined || decided.tenant.name === credential.tenant?.name)
          return decided.ok ? { ...decided, again: () => agreeing(decided.again()) } : decided
        return refusal(
          'malformed',
          `The client’s certificate is of the tenant ${credential.tenant?.name}, and the request is for another: send one of them, or a key of this tenant.`,
        )
      }
      const decided = byKey(request, wanted)
      return decided instanceof Promise ? decided.then(agreeing) : agreeing(decided)
    }
    if (credential === undefined)
      return refusal(
        'unauthenticated',
        `The client’s certificate stands for no tenant, and the request has no key. Its names are: ${certificate.names.slice(0, NAMED).join('; ')}.`,
        undefined,
        'certificate',
      )
    if (isOfOtherSite(request, credential.tenant?.origins))
      return refusal('forbidden', 'A page of another site may not use the certificate of whoever visits it.')
    const now = (): Renewed => {
      const sender = tenants.again(credential)
      if (sender === undefined)
        return refusal(
          'unauthenticated',
          `The certificate ${credential.keyId} is not accepted any more: it was removed.`,
          undefined,
          'certificate',
        )
      return { ok: true, sender: { ...sender, validUntilMs: certificate.notAfterMs } }
    }
    return authorised({ first: { ...credential, validUntilMs: certificate.notAfterMs }, now, tenants, nowMs }, wanted)
  }
}

/**
 * Browsers show a certificate unasked, whichever page sends the request. They say so in fields that no page can set: of today's in Sec-Fetch-Site (Fetch Metadata),
 * and of all in Origin, with whatever a page sends that could change something.
 */
function isOfOtherSite({ headers }: Request, origins: ReadonlySet<string> | undefined): boolean {
  const [site, origin] = [headers.get('sec-fetch-site'), headers.get('origin')]
  if (origin !== null && origins?.has(origin) === true) return false
  if (origin !== null && origin !== `https://${headers.get('host')}`) return true
  return site !== null && site !== 'same-origin' && site !== 'none'
}
