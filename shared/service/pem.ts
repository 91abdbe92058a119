import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'

/**
 * What a file or variable that should have certificates or a key in PEM (RFC 7468) has instead. What cannot be told for certain is no fault: the library that
 * uses the PEM reads more kinds of keys and certificates than this runtime does.
 */

/** What belongs there. */
export type Wanted = 'authorities' | 'certificate' | 'key'

/** Where a PEM stands: the variable, and the file that it names. */
export interface Place {
  variable: string
  /** undefined: the PEM is the variable's value. */
  file: string | undefined
}

const nameOf = ({ variable, file }: Place): string => (file === undefined ? variable : `${variable}=${file}`)

/** The first bytes of Java's keystores of the types JKS and JCEKS. */
const JAVA_KEYSTORES = [0xfeedfeed, 0xcececece]

/** ASN.1, DER. */
const SEQUENCE = 0x30
const INTEGER = 0x02
const PKCS12_VERSION = 3

// Header lines of OpenSSL's old format have hyphens.
const BLOCK = /-----BEGIN ([A-Z0-9 ]+)-----([\s\S]*?)-----END \1-----/g
const CERTIFICATES = new Set(['CERTIFICATE', 'X509 CERTIFICATE', 'TRUSTED CERTIFICATE'])

const isKey = (label: string): boolean => label.endsWith('PRIVATE KEY') && !label.startsWith('OPENSSH')

interface Block {
  label: string
  pem: string
  /** Base64, or a header and base64. */
  body: string
  /** Its markers are in no line by themselves, which no reader of PEM takes. */
  layout: 'joined' | 'beside' | undefined
}

const blocksOf = (text: string): Block[] =>
  [...text.matchAll(BLOCK)].map(({ 0: pem, 1: label = '', 2: body = '', index }) => {
    const end = index + pem.length
    const newline = text.indexOf('\n', end)
    const lineRest = text.slice(end, newline === -1 ? undefined : newline)
    return { label, pem, body, layout: layoutOf(text[index - 1], body, lineRest) }
  })

function layoutOf(before: string | undefined, body: string, after: string): Block['layout'] {
  if (!body.includes('\n')) return 'joined'
  const isBegun = (before === undefined || before === '\n') && /^[ \t\r]*\n/.test(body)
  return isBegun && body.endsWith('\n') && after.trim() === '' ? undefined : 'beside'
}

const LAYOUT_FAULTS = {
  joined: 'has a PEM whose lines were joined: they have to stay lines, as in "$(cat FILE)" with its quotes.',
  beside:
    'has a PEM with something in the line of a -----BEGIN or -----END besides it, such as quotes, or spaces before it.',
} as const

/** A path as a shell takes it. */
export const quoted = (path: string): string =>
  /^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`

/** The options of `openssl pkcs12` for what is wanted. All certificates, so that those of intermediate authorities are there, too. */
const PKCS12_OPTIONS: Readonly<Record<Wanted, string>> = {
  authorities: '-nokeys',
  certificate: '-nokeys',
  key: '-nocerts -nodes',
}

/** What the result of a command is named after its source. One keystore has all of these, so that none may overwrite another. */
const RESULT_ENDS: Readonly<Record<Wanted, string>> = {
  authorities: '.ca.pem',
  certificate: '.crt.pem',
  key: '.key.pem',
}

const extraction = (wanted: Wanted, store: string, to: string): string =>
  `openssl pkcs12 -in ${quoted(store)} ${PKCS12_OPTIONS[wanted]} -out ${quoted(to)}`

/** The bytes of a DER element's content, from its length octets; undefined where they are cut off. */
function contentOf(der: Uint8Array): Uint8Array | undefined {
  const [, length = 0] = der
  if (length < 0x80) return der.length >= 2 + length ? der.subarray(2, 2 + length) : undefined
  const octets = length & 0x7f
  if (octets === 0 || octets > 4 || der.length < 2 + octets) return undefined
  const size = der.subarray(2, 2 + octets).reduce((sum, octet) => sum * 256 + octet, 0)
  return der.length >= 2 + octets + size ? der.subarray(2 + octets, 2 + octets + size) : undefined
}

/** The commands that make a PEM of a file in another format; undefined for a file in none that is known. */
function conversion(bytes: Uint8Array, file: string, wanted: Wanted): string | undefined {
  const to = `${file}${RESULT_ENDS[wanted]}`
  const magic = bytes.length < 4 ? 0 : new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0)
  if (JAVA_KEYSTORES.includes(magic)) {
    const store = `${file}.p12`
    return `is a Java keystore, which is not read. Convert it: keytool -importkeystore -srckeystore ${quoted(file)} -destkeystore ${quoted(store)} -deststoretype PKCS12 && ${extraction(wanted, store, to)}`
  }
  const content = bytes[0] === SEQUENCE ? contentOf(bytes) : undefined
  if (content === undefined) return undefined
  if (content[0] === INTEGER && content[1] === 1 && content[2] === PKCS12_VERSION)
    return `is a PKCS#12 keystore, which is not read. Convert it (one of an old Java with -legacy): ${extraction(wanted, file, to)}`
  const command = wanted === 'key' ? 'pkey' : 'x509'
  return `is DER, not PEM. Convert it: openssl ${command} -inform der -in ${quoted(file)} -out ${quoted(to)}`
}

/** Whether a block's base64 is complete DER. */
function isIntact({ body }: Block): boolean {
  // An encrypted key of OpenSSL's own format, which has header lines.
  if (body.includes(':')) return true
  const base64 = body.trim().replaceAll(/[ \t]*\r?\n[ \t]*(?=\S)/g, '')
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(base64)) return false
  const der = Buffer.from(base64, 'base64')
  return der[0] === SEQUENCE && contentOf(der) !== undefined
}

const isEncrypted = ({ label, body }: Block): boolean =>
  label === 'ENCRYPTED PRIVATE KEY' || body.includes('Proc-Type: 4,ENCRYPTED')

/** What is wrong with what stands there; undefined when nothing is known to be. */
export function pemFault(bytes: Uint8Array, wanted: Wanted, place: Place): string | undefined {
  const fault = (what: string): string => `${nameOf(place)} ${what}`
  const other = place.file === undefined ? undefined : conversion(bytes, place.file, wanted)
  if (other !== undefined) return fault(other)
  const blocks = blocksOf(Buffer.from(bytes).toString('latin1'))
  const found = blocks.filter(({ label }) => (wanted === 'key' ? isKey(label) : CERTIFICATES.has(label)))
  if (found.length > 0) {
    const layout = found.map((block) => block.layout).find((one) => one !== undefined)
    if (layout !== undefined) return fault(LAYOUT_FAULTS[layout])
    return found.every(isIntact) ? undefined : fault('is damaged: a block of its PEM is no complete base64 of DER.')
  }
  const [first] = blocks
  const has = first === undefined ? 'has no PEM block' : `has a PEM block of the type ${first.label}`
  return fault(`${has}, and ${wanted === 'key' ? 'a PRIVATE KEY' : 'a CERTIFICATE'} belongs there.`)
}

/** The first key of a PEM, the reason why it cannot be decrypted, or neither where this runtime cannot read it. */
function keyOf(
  pem: string,
  password: string | undefined,
): { key?: KeyObject; fault?: 'no password' | 'wrong password' } {
  const block = blocksOf(pem).find(({ label }) => isKey(label))
  if (block === undefined) return {}
  if (isEncrypted(block) && password === undefined) return { fault: 'no password' }
  try {
    return { key: createPrivateKey({ key: block.pem, ...(password === undefined ? {} : { passphrase: password }) }) }
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ERR_OSSL_BAD_DECRYPT' ? { fault: 'wrong password' } : {}
  }
}

/** Its certificates, without those that this runtime cannot read. The first is the owner's. */
function certificatesOf(pem: string): X509Certificate[] {
  return blocksOf(pem).flatMap(({ label, pem: one }) => {
    if (!CERTIFICATES.has(label)) return []
    try {
      return [new X509Certificate(one)]
    } catch {
      return []
    }
  })
}

const nth = (index: number): string => ['1st', '2nd', '3rd'][index] ?? `${index + 1}th`

/**
 * What is wrong with a certificate and its key together; undefined when nothing is known to be.
 * @param password the variable that has the key's password, and its value
 */
export function pairFault(
  certificate: { pem: string; place: Place },
  key: { pem: string; place: Place },
  password: { variable: string; value: string | undefined },
): string | undefined {
  const { key: own, fault } = keyOf(key.pem, password.value)
  if (fault === 'no password') return `${nameOf(key.place)} is encrypted: set ${password.variable}.`
  if (fault === 'wrong password') return `${nameOf(key.place)} cannot be decrypted: check ${password.variable}.`
  if (own === undefined) return undefined
  const all = certificatesOf(certificate.pem)
  const at = all.findIndex((one) => one.checkPrivateKey(own))
  if (all.length === 0 || at === 0) return undefined
  if (at > 0)
    return `${nameOf(key.place)}: the certificate of this key is the ${nth(at)} of ${nameOf(certificate.place)}: put it first.`
  return `${nameOf(key.place)} does not belong to ${nameOf(certificate.place)}: they have different public keys.`
}

/** What is wrong with authorities, by which others are to be verified; undefined when nothing is known to be. */
export function authoritiesFault(pem: string, place: Place): string | undefined {
  // One that signed itself vouches for itself at least, and one of the first version of X.509 does not say what it is.
  const at = certificatesOf(pem).findIndex((one) => !one.ca && !one.checkIssued(one))
  return at === -1
    ? undefined
    : `${nameOf(place)}: the ${nth(at)} certificate is no authority, and what it signs is not accepted. Put the authority there that has signed it.`
}

/** When the owner's certificate expires, ms since the epoch; undefined where it cannot be read. */
export const ownerNotAfterMs = (pem: string): number | undefined => certificatesOf(pem).map(notAfterMs)[0]

/** When the last of several certificates expires, ms since the epoch; undefined where none can be read. */
export function lastNotAfterMs(pem: string): number | undefined {
  const all = certificatesOf(pem).map(notAfterMs)
  return all.length === 0 ? undefined : Math.max(...all)
}

const notAfterMs = ({ validTo }: X509Certificate): number => Date.parse(validTo)

/** A PEM from a variable, in which many CI systems keep newlines as the two characters \n. */
export const withNewlines = (value: string): string => value.replaceAll('\\r', '').replaceAll('\\n', '\n')
