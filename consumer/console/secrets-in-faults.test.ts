import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { readMaterial } from '../../shared/http/certificates.ts'
import { ConfigError } from '../../shared/service/config.ts'
import { loadConsole } from './config.ts'

/** Faults of the variables of a console, which has those of the other services that are about secrets. */
function faultsOf(env: Record<string, string>): readonly string[] {
  try {
    loadConsole({ KAFKA_BROKERS: 'a:1', ...env })
    return []
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return error.faults
  }
}

const TLS = { KAFKA_SECURITY_PROTOCOL: 'ssl' }
const SASL = { KAFKA_SECURITY_PROTOCOL: 'sasl_ssl' }
const LOGIN = { AUTH: 'jwt', OIDC_CLIENT_ID: 'page' }

const BASE64_LINE = fc
  .uint8Array({ minLength: 24, maxLength: 48 })
  .map((bytes) => Buffer.from(bytes).toString('base64'))
/** Nobody can tell such a secret from a path. */
const looksLikePath = (text: string): boolean => /^\.{1,2}\/[\w./-]*$/.test(text)

const SECRET = fc.oneof(
  fc
    .string({ minLength: 8, maxLength: 60 })
    .filter((text) => /[^\s"]{6}/.test(text) && !text.includes('\0') && !looksLikePath(text)),
  // As the folder in which the process runs is always there, only the rest shows that this is no path.
  fc.constantFrom('./  #0####', '../ü-secret!'),
  BASE64_LINE,
  // Bytes at random, in base64, begin with a slash or two now and then.
  fc.tuple(fc.constantFrom('/', '//'), BASE64_LINE).map((parts) => parts.join('')),
  // One that begins as DER does may pass for a key.
  BASE64_LINE.filter((line) => !line.startsWith('M')).map(
    (line) => `-----BEGIN PRIVATE KEY-----\n${line}\n-----END PRIVATE KEY-----\n`,
  ),
)

/** Of a secret, what is long enough not to stand in a fault by chance. */
const tellTales = (secret: string): string[] => secret.split(/[\s"\\]+/).filter((part) => part.length >= 6)

const isTold = (secret: string, faults: readonly string[]): boolean =>
  tellTales(secret).some(
    (part) => !part.includes('PRIVATE') && part !== '-----BEGIN' && faults.join('\n').includes(part),
  )

test.each<[variable: string, around: Record<string, string>]>([
  ['KAFKA_SASL_USERNAME_FILE', { ...SASL, KAFKA_SASL_PASSWORD: 'p' }],
  ['KAFKA_SASL_PASSWORD_FILE', { ...SASL, KAFKA_SASL_USERNAME: 'u' }],
  ['KAFKA_SSL_CA_FILE', TLS],
  ['KAFKA_SSL_CERTIFICATE_FILE', TLS],
  ['KAFKA_SSL_KEY_FILE', TLS],
  ['KAFKA_SSL_KEY_PASSWORD_FILE', TLS],
  ['KAFKA_SSL_KEY_PEM', TLS],
  ['KAFKA_OAUTH_CLIENT_SECRET_FILE', { ...SASL, KAFKA_SASL_MECHANISM: 'OAUTHBEARER' }],
  ['OIDC_CLIENT_SECRET_FILE', LOGIN],
  ['SESSION_SECRET_FILE', LOGIN],
])('the value of a secret is in no fault where it was put into %s', (variable, around) => {
  fc.assert(
    fc.property(SECRET, (secret) => {
      const faults = faultsOf({ ...around, [variable]: secret })
      expect(faults.some((fault) => fault.startsWith(variable))).toBe(true)
      expect(isTold(secret, faults)).toBe(false)
    }),
    { numRuns: 25 },
  )
})

test('nor where a listener’s key is', () => {
  fc.assert(
    fc.property(SECRET, (key) => {
      const read = readMaterial({ certificate: '/', key, clientCa: undefined })
      expect(read.ok ? [] : read.faults).toHaveLength(2)
      expect(isTold(key, read.ok ? [] : read.faults)).toBe(false)
    }),
    { numRuns: 25 },
  )
})

test('nor where the content of the tenants file is in place of its path', () => {
  const secrets = ['s3cret-of-a-webhook']
  const content = JSON.stringify({ tenants: { a: { sources: { github: { kind: 'github', secrets } } } } })
  expect(faultsOf({ TENANTS_FILE: content })).toEqual([
    'TENANTS_FILE is to name a file, and has JSON (not shown). Is this the content of the file?',
  ])
})

test('nor in an address', () => {
  fc.assert(
    fc.property(SECRET, (secret) => {
      const addresses = {
        KAFKA_BROKERS: `me:${secret}@host:9092`,
        JWT_ISSUER: `https://me:${secret}@issuer.example/`,
        PUBLIC_URL: `https://${secret}@host`,
      }
      const faults = faultsOf({ ...LOGIN, ...addresses })
      for (const name of Object.keys(addresses))
        expect(faults.find((fault) => fault.startsWith(name))).toContain('(redacted)@')
      expect(isTold(secret, faults)).toBe(false)
    }),
    { numRuns: 25 },
  )
})

test('it is asked whether a value in place of a path is the one of the other variable', () => {
  const env = {
    ...SASL,
    KAFKA_SASL_USERNAME: 'u',
    KAFKA_SASL_PASSWORD_FILE: 'MyS3cret',
    AUTH: 'off',
    NODE_ENV: 'development',
  }
  expect(faultsOf(env)).toEqual([
    'KAFKA_SASL_PASSWORD_FILE is to name a file, and what it has (not shown) names none in a folder that is there: ENOENT. Is this the value of KAFKA_SASL_PASSWORD?',
  ])
})
