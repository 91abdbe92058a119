import { beforeAll, describe, expect, test } from 'bun:test'
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run } from '../dev/run.ts'
import { readMaterial } from '../http/certificates.ts'
import { type Authority, type Certificate, createAuthority, KEY_PASSWORD } from '../testing/certificates.ts'
import { authoritiesFault, lastNotAfterMs, ownerNotAfterMs, pairFault, pemFault, type Wanted } from './pem.ts'

/** Keystores that keytool and openssl have made, and the commands that convert them. */

const PASSWORD = 'of-a-store'
const DAY_MS = 86_400_000
const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-pem-'))
const at = (name: string): string => join(folder, name)

let authority: Authority
let certificate: Certificate
let other: Certificate

async function must(command: readonly [string, ...string[]]): Promise<void> {
  const { exitCode, output, errors } = await run(command)
  if (exitCode !== 0) throw new Error(`${command.join(' ')}: ${output}${errors}`)
}

beforeAll(async () => {
  authority = await createAuthority()
  certificate = await authority.issue('DNS:client', 3)
  other = await authority.issue('DNS:other')
  const { certificateFile, keyFile } = certificate
  const chain = ['-certfile', authority.certificateFile]
  await must([
    'openssl',
    'pkcs12',
    '-export',
    '-in',
    certificateFile,
    '-inkey',
    keyFile,
    ...chain,
    '-name',
    'client',
    '-passout',
    `pass:${PASSWORD}`,
    '-out',
    at('client.p12'),
  ])
  const types = ['-srcstoretype', 'PKCS12', '-deststoretype', 'JKS']
  const passwords = ['-srcstorepass', PASSWORD, '-deststorepass', PASSWORD]
  await must([
    'keytool',
    '-importkeystore',
    '-noprompt',
    '-srckeystore',
    at('client.p12'),
    '-destkeystore',
    at('client.jks'),
    ...types,
    ...passwords,
  ])
  await must([
    'keytool',
    '-importcert',
    '-noprompt',
    '-alias',
    'ca',
    '-file',
    authority.certificateFile,
    '-keystore',
    at('trust.jks'),
    '-storetype',
    'JKS',
    '-storepass',
    PASSWORD,
  ])
  await must(['openssl', 'x509', '-in', certificateFile, '-outform', 'der', '-out', at('certificate.der')])
  await must(['openssl', 'pkey', '-in', keyFile, '-outform', 'der', '-out', at('key.der')])
}, 60_000)

const placeOf = (file: string) => ({ variable: 'V', file })
const faultOf = (file: string, wanted: Wanted): string | undefined =>
  pemFault(readFileSync(file), wanted, placeOf(file))

/** The command of a fault, with the passwords that it would ask for. */
function commandOf(fault: string | undefined): string {
  const command = /Convert it[^:]*: (.*)$/.exec(fault ?? '')?.[1] ?? ''
  return command
    .replace(
      'keytool -importkeystore',
      `keytool -importkeystore -noprompt -srcstorepass ${PASSWORD} -deststorepass ${PASSWORD}`,
    )
    .replaceAll('openssl pkcs12', `openssl pkcs12 -passin pass:${PASSWORD}`)
}

test.each([
  ['client.p12', 'certificate'],
  ['client.p12', 'key'],
  ['client.p12', 'authorities'],
  ['client.jks', 'certificate'],
  ['client.jks', 'key'],
  ['trust.jks', 'authorities'],
  ['certificate.der', 'certificate'],
  ['key.der', 'key'],
] as const)(
  '%s is refused as %s with a command that makes what is wanted of it',
  async (name, wanted) => {
    const file = at(`${name}-${wanted}`)
    writeFileSync(file, readFileSync(at(name)))
    const fault = faultOf(file, wanted)
    await must(['sh', '-c', commandOf(fault)])
    const made = `${file}.${{ authorities: 'ca', certificate: 'crt', key: 'key' }[wanted]}.pem`
    expect(faultOf(made, wanted)).toBeUndefined()
    const text = readFileSync(made, 'utf8')
    if (wanted === 'authorities') expect(lastNotAfterMs(text)).toBeGreaterThan(Date.now())
    else {
      const own = wanted === 'certificate' ? text : readFileSync(certificate.certificateFile, 'utf8')
      const key = wanted === 'key' ? text : readFileSync(certificate.keyFile, 'utf8')
      expect(pair(own, key)).toBeUndefined()
      expect(pair(own, readFileSync(other.keyFile, 'utf8'))).toContain('does not belong to')
    }
  },
  30_000,
)

const pair = (certificatePem: string, key: string, value?: string): string | undefined =>
  pairFault(
    { pem: certificatePem, place: placeOf('c') },
    { pem: key, place: placeOf('k') },
    { variable: 'PASSWORD', value },
  )

describe('a certificate and its key', () => {
  const of = (file: string): string => readFileSync(file, 'utf8')

  test('belong together, encrypted or not', () => {
    const own = of(certificate.certificateFile)
    expect(pair(own, of(certificate.keyFile))).toBeUndefined()
    expect(pair(own, of(certificate.encryptedKeyFile), KEY_PASSWORD)).toBeUndefined()
    expect(pair(own, of(certificate.encryptedKeyFile))).toBe('V=k is encrypted: set PASSWORD.')
    expect(pair(own, of(certificate.encryptedKeyFile), 'wrong')).toBe('V=k cannot be decrypted: check PASSWORD.')
    expect(pair(of(other.certificateFile), of(certificate.keyFile))).toBe(
      'V=k does not belong to V=c: they have different public keys.',
    )
  })

  test('the certificate of the key is said to be in a wrong place, where it is', async () => {
    await must([
      'openssl',
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-subj',
      '/CN=rsa',
      '-keyout',
      at('rsa.key'),
      '-out',
      at('rsa.pem'),
    ])
    const [own, rsa] = [of(certificate.certificateFile), of(at('rsa.pem'))]
    const chain = of(authority.certificateFile) + rsa + own
    expect(pair(chain, of(certificate.keyFile))).toBe(
      'V=k: the certificate of this key is the 3rd of V=c: put it first.',
    )
    expect(pair(own + rsa, of(at('rsa.key')))).toBe('V=k: the certificate of this key is the 2nd of V=c: put it first.')
    expect(pair(own + rsa, of(certificate.keyFile))).toBeUndefined()
  })

  test('a certificate among authorities is named', () => {
    const [root, own] = [of(authority.certificateFile), of(certificate.certificateFile)]
    expect(authoritiesFault(root, placeOf('ca'))).toBeUndefined()
    expect(authoritiesFault(own, placeOf('ca'))).toBe(
      'V=ca: the 1st certificate is no authority, and what it signs is not accepted. Put the authority there that has signed it.',
    )
    expect(authoritiesFault(root + own, placeOf('ca'))).toContain('the 2nd certificate')
    const files = { certificate: certificate.certificateFile, key: certificate.keyFile }
    expect(readMaterial({ ...files, clientCa: authority.certificateFile }).ok).toBe(true)
    const read = readMaterial({ ...files, clientCa: other.certificateFile })
    expect(read.ok ? [] : read.faults).toEqual([expect.stringContaining('TLS_CLIENT_CA_FILE=')])
  })

  test('a key of a kind that only the client’s library reads is no fault', async () => {
    await must([
      'openssl',
      'genpkey',
      '-algorithm',
      'EC',
      '-pkeyopt',
      'ec_paramgen_curve:secp256k1',
      '-out',
      at('k1.pem'),
    ])
    expect(faultOf(at('k1.pem'), 'key')).toBeUndefined()
    expect(pair(of(certificate.certificateFile), of(at('k1.pem')))).toBeUndefined()
  })

  test('expire when they say', () => {
    const expected = Date.now() + 3 * DAY_MS
    expect(Math.abs((ownerNotAfterMs(of(certificate.certificateFile)) ?? 0) - expected)).toBeLessThan(600_000)
    const bundle = of(other.certificateFile) + of(certificate.certificateFile)
    expect(Math.abs((lastNotAfterMs(bundle) ?? 0) - expected)).toBeLessThan(600_000)
  })
})
