import { afterAll, expect, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ConfigError } from '../../shared/service/config.ts'
import { loadConsole } from './config.ts'

const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-config-'))
afterAll(() => rmSync(folder, { recursive: true }))
const NOWHERE = join(folder, 'nowhere')
let files = 0
const KEY = '-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----'
function fileOf(content: unknown): string {
  const path = join(folder, String(++files))
  writeFileSync(path, typeof content === 'string' ? `${content}\n` : JSON.stringify(content))
  return path
}

function faults(env: Record<string, string>): readonly string[] {
  try {
    loadConsole({ KAFKA_BROKERS: 'x:1', ...env })
    return []
  } catch (error) {
    if (error instanceof ConfigError) return error.faults
    throw error
  }
}

test.each([
  [{}, ['TENANTS_FILE is not set, and AUTH is on.']],
  [{ AUTH: 'off' }, ['AUTH=off is for development only: set NODE_ENV=development too, or AUTH=on.']],
  [
    { STREAMS: 'orders' },
    [
      'TENANTS_FILE is not set, and AUTH is on.',
      'STREAMS is for AUTH=off; with AUTH=on the streams stand in TENANTS_FILE.',
    ],
  ],
  [
    { AUTH: 'off', NODE_ENV: 'development', TENANTS_FILE: 'x.json', STREAMS: 'late' },
    [
      'STREAMS and TENANTS_FILE are both set, and both name streams: remove one.',
      "TENANTS_FILE=x.json cannot be read: ENOENT: no such file or directory, open 'x.json'",
    ],
  ],
  [
    { KAFKA_SECURITY_PROTOCOL: 'ssl', KAFKA_SSL_KEY_FILE: fileOf(KEY), AUTH: 'off', NODE_ENV: 'development' },
    [
      'KAFKA_SSL_CERTIFICATE_FILE and KAFKA_SSL_KEY_FILE go together, as do KAFKA_SSL_CERTIFICATE_PEM and KAFKA_SSL_KEY_PEM: set both or neither.',
    ],
  ],
  [
    { AUTH: 'off', NODE_ENV: 'development', SCHEMAS_DIR: '/s', SCHEMA_REGISTRY_URL: 'http://r:8081' },
    ['SCHEMAS_DIR and SCHEMA_REGISTRY_URL are both set, and both have schemas: remove one.'],
  ],
  [
    { AUTH: 'off', NODE_ENV: 'development', SCHEMA_REGISTRY_TOKEN: 's3cret' },
    ['SCHEMA_REGISTRY_URL is not set, and credentials for it are.'],
  ],
] as [Record<string, string>, string[]][])('the console does not start with %j', (env, expected) => {
  expect(faults(env)).toEqual(expected)
})

test('a mistake is said once', () => {
  const issuer = { AUTH: 'jwt', JWT_ISSUER: 'localhost:8080/x', JWT_AUDIENCE: 'a', TENANTS_FILE: LOGIN.TENANTS_FILE }
  expect(faults(issuer)).toEqual([
    expect.stringContaining(
      'JWT_ISSUER="localhost:8080/x" is not a URL of http or https, without user, query and fragment.',
    ),
  ])
  expect(faults({ AUTH: 'jtw' })).toEqual([expect.stringContaining('AUTH="jtw" is not one of on, jwt, off.')])
  expect(faults({ OIDC_CLIENT_ID: 'page', TENANTS_FILE: LOGIN.TENANTS_FILE })).toEqual([
    'OIDC_CLIENT_ID is for AUTH=jwt, and AUTH is on.',
  ])
  expect(
    faults({ KAFKA_SECURITY_PROTOCOL: 'SASL_SSL', KAFKA_SASL_USERNAME: 'u', TENANTS_FILE: LOGIN.TENANTS_FILE }),
  ).toEqual([expect.stringContaining('KAFKA_SECURITY_PROTOCOL="SASL_SSL" is not one of plaintext')])
  expect(faults({ KAFKA_BROKERS: 'kafka://a:1, b:1', TENANTS_FILE: LOGIN.TENANTS_FILE })).toEqual([
    'KAFKA_BROKERS="kafka://a:1, b:1" is not host:port, separated by commas, without spaces or a scheme. Bootstrap brokers.',
  ])
})

const LOGIN = {
  AUTH: 'jwt',
  TENANTS_FILE: fileOf({ tenants: { acme: { streams: ['events'], keys: [] } } }),
  JWT_ISSUER: 'https://login.example.com/realms/shop',
  JWT_AUDIENCE: 'kafkatrace',
  OIDC_CLIENT_ID: 'console',
  PUBLIC_URL: 'https://console.example.com',
  SESSION_SECRET: 'a secret of more than thirty-two characters',
}

test.each([
  [{}, []],
  [{ NODE_ENV: 'development', PUBLIC_URL: 'http://127.0.0.1:8081', JWT_ISSUER: 'http://127.0.0.1:8080/r' }, []],
  [{ SESSION_SECRET: '', SESSION_SECRET_FILE: fileOf('a secret of more than thirty-two characters') }, []],
  [{ SESSION_SECRET: '' }, ['SESSION_SECRET is not set, nor is SESSION_SECRET_FILE, and OIDC_CLIENT_ID is.']],
  [{ SESSION_SECRET: 'a short s3cret' }, ['SESSION_SECRET has fewer than 32 characters.']],
  [
    { SESSION_SECRET_FILE: NOWHERE },
    [
      'SESSION_SECRET and SESSION_SECRET_FILE are both set: remove one.',
      `SESSION_SECRET_FILE=${NOWHERE} cannot be read: ENOENT`,
    ],
  ],
  [{ OIDC_CLIENT_SECRET_FILE: NOWHERE }, [`OIDC_CLIENT_SECRET_FILE=${NOWHERE} cannot be read: ENOENT`]],
  [{ PUBLIC_URL: '' }, ['PUBLIC_URL is not set, and OIDC_CLIENT_ID is.']],
  [
    { PUBLIC_URL: 'http://console.example.com' },
    [
      'PUBLIC_URL=http://console.example.com is without https: that is for development only, with NODE_ENV=development.',
    ],
  ],
  [
    { JWT_ISSUER: 'https://login.example.com/r/.well-known/openid-configuration' },
    [
      'JWT_ISSUER=https://login.example.com/r/.well-known/openid-configuration is the address of metadata: set the issuer, as it stands in tokens: often what is before /.well-known/.',
    ],
  ],
  [
    { JWT_ISSUER: 'http://login.example.com' },
    ['JWT_ISSUER=http://login.example.com is without https: that is for development only, with NODE_ENV=development.'],
  ],
  [
    { OIDC_CLIENT_ID: 'kafkatrace' },
    ['OIDC_CLIENT_ID and JWT_AUDIENCE are the same: register the API and the client of the page separately.'],
  ],
  [
    { OIDC_CLIENT_ID: '' },
    ['SESSION_SECRET is set, and OIDC_CLIENT_ID is not.', 'PUBLIC_URL is set, and OIDC_CLIENT_ID is not.'],
  ],
  [
    { JWT_ISSUER: '', JWT_AUDIENCE: '' },
    ['JWT_ISSUER is not set, and AUTH is jwt.', 'JWT_AUDIENCE is not set, and AUTH is jwt.'],
  ],
  [
    { AUTH: 'on' },
    [
      'JWT_ISSUER is for AUTH=jwt, and AUTH is on.',
      'JWT_AUDIENCE is for AUTH=jwt, and AUTH is on.',
      'OIDC_CLIENT_ID is for AUTH=jwt, and AUTH is on.',
    ],
  ],
  [
    { JWT_TENANT_CLAIM: 'https://example.com/tenant' },
    [
      'JWT_TENANT_CLAIM="https://example.com/tenant" is no name of a claim, nor a JSON pointer to one. Where the name itself has dots or slashes, write it as /https:~1~1example.com~1tenant.',
    ],
  ],
] as [Record<string, string>, string[]][])('with log-ins and %j, the faults are %j', (env, expected) => {
  expect(faults({ ...LOGIN, ...env })).toEqual(expected)
})

test('a tenants file that cannot be read is a fault of the console', () => {
  expect(faults({ TENANTS_FILE: '/nowhere.json' })[0]).toStartWith('TENANTS_FILE=/nowhere.json cannot be read')
})

test('in development the console needs brokers only', () => {
  expect(faults({ AUTH: 'off', NODE_ENV: 'development', STREAMS: 'orders' })).toEqual([])
})
