import { describe, expect, test } from 'bun:test'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Type } from '@sinclair/typebox'
import fc from 'fast-check'
import { ConfigError, commonFaults, commonVariables, loadConfig } from './config.ts'
import {
  extensionsOf,
  kafkaSecretFiles,
  readKafkaSecrets,
  readTokenSecrets,
  securityInWords,
} from './kafka-security.ts'

const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-secrets-'))
function fileOf(name: string, content: string): string {
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}

const load = (env: Record<string, string>) =>
  loadConfig(Type.Object(commonVariables), { KAFKA_BROKERS: 'a:1', ...env }, commonFaults)
function faultsOf(env: Record<string, string>): readonly string[] {
  try {
    load(env)
    return []
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return error.faults
  }
}

const SASL = { KAFKA_SECURITY_PROTOCOL: 'sasl_ssl' }
const OAUTH = {
  ...SASL,
  KAFKA_SASL_MECHANISM: 'OAUTHBEARER',
  KAFKA_OAUTH_TOKEN_URL: 'https://issuer.example/token',
  KAFKA_OAUTH_CLIENT_ID: 'me',
  KAFKA_OAUTH_CLIENT_SECRET: 'hidden',
}

describe('secrets in files', () => {
  test('a user and a password are read without one newline at their ends', () => {
    const config = load({
      ...SASL,
      KAFKA_SASL_USERNAME_FILE: fileOf('user', 'me\r\n'),
      KAFKA_SASL_PASSWORD_FILE: fileOf('password', ' of two lines\n\n'),
    })
    expect(readKafkaSecrets(config)).toMatchObject({
      faults: [],
      secrets: { username: 'me', password: ' of two lines\n' },
    })
    expect(kafkaSecretFiles(config)).toEqual([join(folder, 'user'), join(folder, 'password')])
  })

  test.each([
    ['is empty', fileOf('empty', '')],
    ['is empty', fileOf('newline', '\n')],
    ['cannot be read: ENOENT', join(folder, 'nowhere')],
    ['cannot be read: EISDIR', folder],
  ])('one that %s is a fault', (said, path) => {
    const env = { ...SASL, KAFKA_SASL_USERNAME: 'me', KAFKA_SASL_PASSWORD_FILE: path }
    expect(faultsOf(env)).toEqual([expect.stringContaining(`KAFKA_SASL_PASSWORD_FILE=${path} ${said}`)])
  })

  test('only those that are used are read and watched', () => {
    const config = load({})
    const nowhere = join(folder, 'nowhere')
    const unused = { ...config, KAFKA_SASL_PASSWORD_FILE: nowhere, KAFKA_SSL_CA_FILE: nowhere }
    expect(readKafkaSecrets(unused).faults).toEqual([])
    expect(kafkaSecretFiles(unused)).toEqual([])
  })

  test.each([
    ['KAFKA_SASL_USERNAME', 'KAFKA_SASL_USERNAME_FILE'],
    ['KAFKA_SASL_PASSWORD', 'KAFKA_SASL_PASSWORD_FILE'],
    ['KAFKA_OAUTH_CLIENT_SECRET', 'KAFKA_OAUTH_CLIENT_SECRET_FILE'],
    ['KAFKA_SSL_CA_PEM', 'KAFKA_SSL_CA_FILE'],
  ])('%s and %s exclude each other', (value, file) => {
    expect(faultsOf({ [value]: 'a', [file]: 'b' })).toContain(`${value} and ${file} are both set: remove one.`)
  })

  test('the password of a key, too, and not without a key', () => {
    const path = fileOf('key-password', 'of a key\n')
    const config = load({ KAFKA_SECURITY_PROTOCOL: 'ssl' })
    const withFile = { ...config, KAFKA_SSL_KEY_PASSWORD_FILE: path }
    expect(readKafkaSecrets(withFile)).toMatchObject({ faults: [], secrets: { keyPassword: 'of a key' } })
    expect(kafkaSecretFiles(withFile)).toEqual([path])
    expect(faultsOf({ KAFKA_SECURITY_PROTOCOL: 'ssl', KAFKA_SSL_KEY_PASSWORD_FILE: path })).toEqual([
      'KAFKA_SSL_KEY_PASSWORD_FILE is set, and no key is: neither KAFKA_SSL_KEY_FILE nor KAFKA_SSL_KEY_PEM.',
    ])
  })

  test('a PEM that is none is a fault, and is in no message', () => {
    const faults = faultsOf({ KAFKA_SECURITY_PROTOCOL: 'ssl', KAFKA_SSL_CA_PEM: 'hidden' })
    expect(faults).toEqual(['KAFKA_SSL_CA_PEM has no PEM block, and a CERTIFICATE belongs there.'])
    const joined = '-----BEGIN CERTIFICATE----- MAA= -----END CERTIFICATE-----'
    expect(faultsOf({ KAFKA_SECURITY_PROTOCOL: 'ssl', KAFKA_SSL_CA_PEM: joined })).toEqual([
      'KAFKA_SSL_CA_PEM has a PEM whose lines were joined: they have to stay lines, as in "$(cat FILE)" with its quotes.',
    ])
  })
})

describe('a variable that the protocol or the mechanism does not use is a fault', () => {
  const PASSWORD = { KAFKA_SASL_USERNAME: 'u', KAFKA_SASL_PASSWORD: 'p' }
  const NOT_SET = 'KAFKA_SECURITY_PROTOCOL is not set, so that it is plaintext.'

  test.each<[env: Record<string, string>, faults: string[]]>([
    [
      PASSWORD,
      [
        `KAFKA_SASL_USERNAME is for sasl_plaintext and sasl_ssl, and ${NOT_SET}`,
        `KAFKA_SASL_PASSWORD is for sasl_plaintext and sasl_ssl, and ${NOT_SET}`,
      ],
    ],
    [{ KAFKA_SASL_MECHANISM: 'PLAIN' }, [`KAFKA_SASL_MECHANISM is for sasl_plaintext and sasl_ssl, and ${NOT_SET}`]],
    [
      { KAFKA_SECURITY_PROTOCOL: 'ssl', KAFKA_SASL_PASSWORD_FILE: '/p' },
      ['KAFKA_SASL_PASSWORD_FILE is for sasl_plaintext and sasl_ssl, and KAFKA_SECURITY_PROTOCOL is ssl.'],
    ],
    [{ KAFKA_SSL_KEY_PASSWORD: 'p' }, [`KAFKA_SSL_KEY_PASSWORD is for ssl and sasl_ssl, and ${NOT_SET}`]],
    [{ KAFKA_SSL_KEY_FILE: '/k' }, [`KAFKA_SSL_KEY_FILE is for ssl and sasl_ssl, and ${NOT_SET}`]],
    [
      { KAFKA_SECURITY_PROTOCOL: 'sasl_plaintext', ...PASSWORD, KAFKA_SSL_CA_FILE: '/ca' },
      ['KAFKA_SSL_CA_FILE is for ssl and sasl_ssl, and KAFKA_SECURITY_PROTOCOL is sasl_plaintext.'],
    ],
    [
      { ...OAUTH, ...PASSWORD },
      [
        'KAFKA_SASL_USERNAME is for PLAIN and SCRAM, and KAFKA_SASL_MECHANISM is OAUTHBEARER.',
        'KAFKA_SASL_PASSWORD is for PLAIN and SCRAM, and KAFKA_SASL_MECHANISM is OAUTHBEARER.',
      ],
    ],
    [
      { ...SASL, ...PASSWORD, KAFKA_OAUTH_CLIENT_ID: 'me' },
      ['KAFKA_OAUTH_CLIENT_ID is for OAUTHBEARER, and KAFKA_SASL_MECHANISM is not set, so that it is SCRAM-SHA-512.'],
    ],
    [{ AWS_REGION: 'eu-central-1' }, []],
  ])('%j', (env, faults) => {
    expect(faultsOf(env)).toEqual(faults)
  })
})

test('the start line has the mechanism where there is one', () => {
  expect(securityInWords(load({}))).toEqual({ securityProtocol: 'plaintext' })
  expect(securityInWords(load(OAUTH))).toEqual({ securityProtocol: 'sasl_ssl', saslMechanism: 'OAUTHBEARER' })
})

describe('tokens', () => {
  test('need an endpoint, an id and a secret', () => {
    expect(faultsOf(OAUTH)).toEqual([])
    for (const name of ['KAFKA_OAUTH_TOKEN_URL', 'KAFKA_OAUTH_CLIENT_ID', 'KAFKA_OAUTH_CLIENT_SECRET'] as const) {
      const { [name]: _, ...env } = OAUTH
      const file = name === 'KAFKA_OAUTH_CLIENT_SECRET' ? ', nor is KAFKA_OAUTH_CLIENT_SECRET_FILE' : ''
      expect(faultsOf(env)).toEqual([`${name} is not set${file}, and KAFKA_SASL_MECHANISM is OAUTHBEARER.`])
    }
    expect(faultsOf({ ...SASL, KAFKA_SASL_MECHANISM: 'AWS_MSK_IAM' })).toEqual([
      'AWS_REGION is not set, and KAFKA_SASL_MECHANISM is AWS_MSK_IAM.',
    ])
    expect(faultsOf({ ...SASL, KAFKA_SASL_MECHANISM: 'AWS_MSK_IAM', AWS_REGION: 'eu-central-1' })).toEqual([])
  })

  test('go over connections that are encrypted, except in development', () => {
    const env = { ...OAUTH, KAFKA_SECURITY_PROTOCOL: 'sasl_plaintext', KAFKA_OAUTH_TOKEN_URL: 'http://issuer/token' }
    expect(faultsOf(env)).toEqual([
      expect.stringContaining('KAFKA_SECURITY_PROTOCOL=sasl_plaintext does not encrypt it'),
      expect.stringContaining('KAFKA_OAUTH_TOKEN_URL is not https'),
    ])
    expect(faultsOf({ ...env, NODE_ENV: 'development' })).toEqual([])
  })

  test('are asked for with what is in the files now', () => {
    const { KAFKA_OAUTH_CLIENT_SECRET: _, ...rest } = OAUTH
    const config = load({ ...rest, KAFKA_OAUTH_CLIENT_SECRET_FILE: fileOf('secret', 'one\n') })
    expect(readTokenSecrets(config)).toEqual({ clientSecret: 'one', authorities: undefined })
    fileOf('secret', 'two')
    expect(readTokenSecrets(config).clientSecret).toBe('two')
    expect(faultsOf({ ...OAUTH, KAFKA_OAUTH_CA_FILE: fileOf('ca', 'none') })).toEqual([
      expect.stringContaining('has no PEM block'),
    ])
  })

  test('have extensions by name', () => {
    const said = 'logicalCluster=lkc-1,identityPoolId=pool=1'
    expect(extensionsOf(load({ ...OAUTH, KAFKA_OAUTH_EXTENSIONS: said }).KAFKA_OAUTH_EXTENSIONS)).toEqual({
      logicalCluster: 'lkc-1',
      identityPoolId: 'pool=1',
    })
    expect(extensionsOf(undefined)).toEqual({})
    expect(faultsOf({ ...OAUTH, KAFKA_OAUTH_EXTENSIONS: 'auth=x' })).toEqual([
      expect.stringContaining('has auth, which is the token’s own'),
    ])
    for (const wrong of ['a', 'a=', '=b', 'a-b=c', 'a=b,', 'a=b c', 'a=\u0001', 'a=ü'])
      expect([wrong, faultsOf({ ...OAUTH, KAFKA_OAUTH_EXTENSIONS: wrong }).length]).toEqual([wrong, 1])
  })

  test('any extensions come out as they were put in', () => {
    const name = fc.stringMatching(/^[A-Za-z]{1,8}$/).filter((one) => one !== 'auth')
    const value = fc.stringMatching(/^[!-+\--~]{1,12}$/)
    fc.assert(
      fc.property(fc.dictionary(name, value, { minKeys: 1, maxKeys: 4 }), (given) => {
        const said = Object.entries(given).map(([one, text]) => `${one}=${text}`)
        const config = load({ ...OAUTH, KAFKA_OAUTH_EXTENSIONS: said.join(',') })
        expect(extensionsOf(config.KAFKA_OAUTH_EXTENSIONS)).toEqual({ ...given })
      }),
      { numRuns: 50 },
    )
  })
})
