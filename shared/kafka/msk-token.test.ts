import { expect, test } from 'bun:test'
import { settled } from '../testing/settled.ts'
import { mskToken } from './msk-token.ts'
import { TokenError } from './token.ts'

const NOW_MS = Date.parse('2026-01-02T03:04:05.678Z')
const SIGNED_AT_MS = Date.parse('2026-01-02T03:04:05Z')
/** Those of the tests of AWS's own signer. */
const CREDENTIALS = {
  accessKeyId: 'testAccessKeyId',
  secretAccessKey: 'testSecretAccessKey',
  sessionToken: 'testSessionToken',
}

const urlOf = (token: string): URL => new URL(Buffer.from(token, 'base64url').toString())

test('a token is the URL of a signed request, as AWS’s own signer has it', async () => {
  const { value, expiresAtMs, extensions } = await mskToken('us-east-1', () => Promise.resolve(CREDENTIALS), NOW_MS)
  const url = urlOf(value)
  expect(url.origin + url.pathname).toBe('https://kafka.us-east-1.amazonaws.com/')
  const { 'User-Agent': agent, ...signed } = Object.fromEntries(url.searchParams)
  expect(agent).toStartWith('kafkatrace/')
  expect(signed).toEqual(VECTOR)
  expect(expiresAtMs).toBe(SIGNED_AT_MS + 900_000)
  expect(extensions).toEqual({})
  expect(value).not.toContain('=')
})

/** What aws-msk-iam-sasl-signer-js 1.0.3 makes of these credentials at that time. */
const VECTOR = {
  Action: 'kafka-cluster:Connect',
  'X-Amz-Algorithm': 'AWS4-HMAC-SHA256',
  'X-Amz-Credential': 'testAccessKeyId/20260102/us-east-1/kafka-cluster/aws4_request',
  'X-Amz-Date': '20260102T030405Z',
  'X-Amz-Expires': '900',
  'X-Amz-Security-Token': 'testSessionToken',
  'X-Amz-SignedHeaders': 'host',
  'X-Amz-Signature': 'd2540a766b449ba7e2ec41ffa16ea97acfe6e5964d9f98ee76f7e085900518ce',
}

test('a token lasts no longer than what it is made of', async () => {
  const expiration = new Date(NOW_MS + 10_000)
  const made = await mskToken('eu-central-1', () => Promise.resolve({ ...CREDENTIALS, expiration }), NOW_MS)
  expect(urlOf(made.value).searchParams.get('X-Amz-Expires')).toBe('10')
  expect(made.expiresAtMs).toBe(SIGNED_AT_MS + 10_000)
})

test('credentials without a session have none in their token', async () => {
  const { sessionToken: _, ...user } = CREDENTIALS
  const { value } = await mskToken('us-west-1', () => Promise.resolve(user), NOW_MS)
  expect(urlOf(value).searchParams.has('X-Amz-Security-Token')).toBe(false)
})

test('without credentials there is a reason', async () => {
  const made = mskToken('us-east-1', () => Promise.reject(new Error('Could not load credentials from any providers')))
  expect(await settled(made)).toThrow(TokenError)
  expect(await settled(made)).toThrow('no AWS credentials: Could not load credentials')
})
