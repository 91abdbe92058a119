import { describe, expect, test } from 'bun:test'
import { Type } from '@sinclair/typebox'
import fc from 'fast-check'
import {
  ConfigError,
  choice,
  commonFaults,
  commonVariables,
  EXIT_BAD_CONFIG,
  expected,
  integer,
  loadConfig,
  secret,
} from './config.ts'

const schema = Type.Object({
  PORT: integer(8080, 0, 65_535, 'The port.'),
  RATIO: Type.Number({ default: 0.5, minimum: 0, description: 'A ratio.' }),
  MODE: choice(['on', 'off'], { default: 'on', description: 'A mode.' }),
  NAME: Type.String({ pattern: '^[a-z]+$', description: 'A name.' }),
  TOKEN: Type.Optional(Type.String({ description: 'A token.', pattern: '^t-', ...secret })),
})

const faultsOf = (load: () => unknown): readonly string[] => {
  try {
    load()
  } catch (error) {
    if (error instanceof ConfigError) return error.faults
    throw error
  }
  return []
}

describe('a configuration', () => {
  test('shows of a URL in a fault nothing that may be a secret', () => {
    const [fault] = faultsOf(() => loadConfig(schema, { NAME: 'https://user:s3cret@x.example/a?key=s3cret' }))
    expect(fault).toStartWith('NAME="https://(redacted)@x.example/a?(redacted)" is not')
  })

  test('shows no credential of the common variables in a fault', () => {
    const env = {
      KAFKA_BROKERS: 'localhost:9092',
      KAFKA_SECURITY_PROTOCOL: 'sasl_ssl',
      OTEL_EXPORTER_OTLP_ENDPOINT: 'htp://user:s3cret@collector:4318',
    }
    const faults = faultsOf(() => loadConfig(Type.Object(commonVariables), env, commonFaults))
    expect(faults.some((fault) => fault.startsWith('OTEL_EXPORTER_OTLP_ENDPOINT=(secret) is not'))).toBe(true)
    expect(faults.join()).not.toContain('s3cret')
    const unreadable = { KAFKA_BROKERS: 'localhost:9092', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://user:s3cret@[' }
    expect(faultsOf(() => loadConfig(Type.Object(commonVariables), unreadable, commonFaults))).toEqual([
      'OTEL_EXPORTER_OTLP_ENDPOINT=(secret) is not a URL.',
    ])
  })

  test('has its defaults where nothing is set, and takes what is', () => {
    expect(loadConfig(schema, { NAME: 'a' })).toEqual({ PORT: 8080, RATIO: 0.5, MODE: 'on', NAME: 'a' })
    expect(loadConfig(schema, { NAME: 'a', PORT: '1', RATIO: '2.25', MODE: 'off', TOKEN: 't-1' })).toEqual({
      PORT: 1,
      RATIO: 2.25,
      MODE: 'off',
      NAME: 'a',
      TOKEN: 't-1',
    })
  })

  test('is frozen, and holds nothing that was not declared', () => {
    const config = loadConfig(schema, { NAME: 'a', OTHER: 'b' })
    expect(Object.isFrozen(config)).toBe(true)
    expect(config).not.toHaveProperty('OTHER')
  })

  test('counts an empty value as not set', () => {
    expect(loadConfig(schema, { NAME: 'a', PORT: '', TOKEN: '' })).not.toHaveProperty('TOKEN')
    expect(faultsOf(() => loadConfig(schema, { NAME: '' }))).toEqual(['NAME is not set. A name.'])
  })

  test('names every fault at once, with what would be right and what it is for', () => {
    expect(faultsOf(() => loadConfig(schema, { PORT: '70000', RATIO: 'half', MODE: 'maybe', NAME: 'A1' }))).toEqual([
      'PORT="70000" is not a whole number from 0 to 65535. The port.',
      'RATIO="half" is not a number of at least 0. A ratio.',
      'MODE="maybe" is not one of on, off. A mode.',
      'NAME="A1" is not a string that matches ^[a-z]+$. A name.',
    ])
  })

  test('never shows a secret', () => {
    const faults = faultsOf(() => loadConfig(schema, { NAME: 'a', TOKEN: 'hunter2' }))
    expect(faults).toHaveLength(1)
    expect(faults.join()).toContain('TOKEN=(secret)')
    expect(faults.join()).not.toContain('hunter2')
  })

  test.each(['1e3', '0x10', ' 1', '1 ', '+1', '1.5', '1,000', 'NaN', 'Infinity', '-1'])(
    'does not take %j for a whole number of at least 0',
    (PORT) => {
      expect(faultsOf(() => loadConfig(schema, { NAME: 'a', PORT }))).toHaveLength(1)
    },
  )

  test('takes every whole number within its bounds', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 65_535 }), (port) => {
        expect(loadConfig(schema, { NAME: 'a', PORT: String(port) }).PORT).toBe(port)
      }),
    )
  })

  test('looks at variables together even when one of them is faulty or missing', () => {
    const cross = () => ['together they are wrong.']
    expect(faultsOf(() => loadConfig(schema, { NAME: 'a', PORT: 'x' }, cross))).toHaveLength(2)
    expect(faultsOf(() => loadConfig(schema, {}, cross))).toEqual([
      'NAME is not set. A name.',
      'together they are wrong.',
    ])
  })
})

test('what a variable takes is said in words', () => {
  expect(expected(Type.Integer())).toBe('a whole number')
  expect(expected(Type.String())).toBe('a string')
})

describe('the common variables', () => {
  const common = Type.Object(commonVariables)
  const load = (env: Record<string, string>) => loadConfig(common, { KAFKA_BROKERS: 'a:1', ...env }, commonFaults)

  test.each(['localhost:9092', '10.0.0.1:9092,b.example:1', '[::1]:9092', '[fe80::1]:1,a:2'])(
    'KAFKA_BROKERS may be %s',
    (brokers) => {
      expect(load({ KAFKA_BROKERS: brokers }).KAFKA_BROKERS).toBe(brokers)
    },
  )

  test.each(['localhost', 'a:', ':1', 'a:1,', 'a:1, b:1', 'http://a:1', 'a:123456'])(
    'KAFKA_BROKERS may not be %j',
    (brokers) => {
      expect(faultsOf(() => load({ KAFKA_BROKERS: brokers }))).toHaveLength(1)
    },
  )

  test('SASL needs a user and a password', () => {
    expect(faultsOf(() => load({ KAFKA_SECURITY_PROTOCOL: 'sasl_ssl' }))).toEqual([
      'KAFKA_SASL_USERNAME is not set, nor is KAFKA_SASL_USERNAME_FILE, and KAFKA_SECURITY_PROTOCOL is sasl_ssl.',
      'KAFKA_SASL_PASSWORD is not set, nor is KAFKA_SASL_PASSWORD_FILE, and KAFKA_SECURITY_PROTOCOL is sasl_ssl.',
    ])
    const complete = { KAFKA_SECURITY_PROTOCOL: 'sasl_ssl', KAFKA_SASL_USERNAME: 'u', KAFKA_SASL_PASSWORD: 'p' }
    expect(faultsOf(() => load(complete))).toEqual([])
  })

  test('a certificate and its key go together', () => {
    const ssl = { KAFKA_SECURITY_PROTOCOL: 'ssl' }
    const pem = (label: string) => `-----BEGIN ${label}-----\nMAA=\n-----END ${label}-----`
    const [certificate, key] = [
      { KAFKA_SSL_CERTIFICATE_PEM: pem('CERTIFICATE') },
      { KAFKA_SSL_KEY_PEM: pem('PRIVATE KEY') },
    ]
    expect(faultsOf(() => load({ ...ssl, ...certificate }))).toHaveLength(1)
    expect(faultsOf(() => load({ ...ssl, ...key }))).toHaveLength(1)
    expect(faultsOf(() => load({ ...ssl, ...certificate, ...key }))).toEqual([])
    expect(faultsOf(() => load({ ...ssl, ...certificate, ...key, KAFKA_SSL_KEY_PASSWORD: 'p' }))).toEqual([])
    expect(faultsOf(() => load({ ...ssl, KAFKA_SSL_KEY_PASSWORD: 'p' }))).toEqual([
      'KAFKA_SSL_KEY_PASSWORD is set, and no key is: neither KAFKA_SSL_KEY_FILE nor KAFKA_SSL_KEY_PEM.',
    ])
  })
})

test('a process with a wrong environment names the faults and exits 78', async () => {
  const program = `
    import { Type } from '@sinclair/typebox'
    import { integer, loadConfig, loadConfigOrExit } from ${JSON.stringify(`${import.meta.dir}/config.ts`)}
    const schema = Type.Object({ KT_A: integer(1, 0, 5, 'A.'), KT_B: integer(1, 0, 5, 'B.') })
    console.log(loadConfigOrExit((env) => loadConfig(schema, env)).KT_A)`
  const run = (env: Record<string, string>) =>
    Bun.spawnSync([process.execPath, '-e', program], { cwd: import.meta.dir, env: { ...process.env, ...env } })
  const wrong = run({ KT_A: '9', KT_B: 'x' })
  expect(wrong.exitCode).toBe(EXIT_BAD_CONFIG)
  expect(wrong.stderr.toString()).toBe(
    `the configuration has 2 faults:
  - KT_A="9" is not a whole number from 0 to 5. A.
  - KT_B="x" is not a whole number from 0 to 5. B.
All variables: docs/configuration.md
`,
  )
  expect(run({ KT_A: '3' }).stdout.toString()).toBe('3\n')
})
