import { expect, test } from 'bun:test'
import { ConfigError } from '../../shared/service/config.ts'
import { loadConsole } from './config.ts'

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
    { KAFKA_SSL_KEY_FILE: 'key.pem', AUTH: 'off', NODE_ENV: 'development' },
    ['KAFKA_SSL_CERTIFICATE_FILE and KAFKA_SSL_KEY_FILE go together: set both or neither.'],
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

test('a tenants file that cannot be read is a fault of the console', () => {
  expect(faults({ TENANTS_FILE: '/nowhere.json' })[0]).toStartWith('TENANTS_FILE=/nowhere.json cannot be read')
})

test('in development the console needs brokers only', () => {
  expect(faults({ AUTH: 'off', NODE_ENV: 'development', STREAMS: 'orders' })).toEqual([])
})
