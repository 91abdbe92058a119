import { expect, test } from 'bun:test'
import { connectionFault } from './connection-fault.ts'

const faultOf = (code: unknown, url = 'https://a.example', authoritiesIn?: string) =>
  connectionFault({ code }, { url, authoritiesIn })

test.each([
  ['ERR_TLS_CERT_ALTNAME_INVALID', 'name', true, /^wrong host name: .*take a name of the certificate/],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'authority', true, /^unknown authority: .*NODE_EXTRA_CA_CERTS/],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', 'authority', true, /^unknown authority: /],
  ['SELF_SIGNED_CERT_IN_CHAIN', 'authority', true, /^unknown authority: /],
  ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'authority', true, /^unknown authority: /],
  ['CERT_HAS_EXPIRED', 'expired', true, /has expired or is not valid yet; renew it/],
  ['ConnectionRefused', 'refused', true, /^connection refused/],
  ['ENOTFOUND', 'unreachable', true, /^unknown host name/],
  // The runtime has this code also where a connection fails after the request has arrived.
  ['EPROTO', 'tls', false, /http:\/\/, or it wants a client certificate/],
  ['ECONNRESET', 'closed', false, /^it closed the connection \(ECONNRESET\)$/],
] as const)('%s is said in words, with the code', (code, kind, isBeforeRequest, words) => {
  const fault = faultOf(code)
  expect(fault).toMatchObject({ kind, isBeforeRequest })
  expect(fault?.text).toMatch(words)
  expect(fault?.text).toEndWith(` (${code})`)
})

test('what helps depends on the place', () => {
  expect(faultOf('ECONNRESET', 'http://a.example')?.text).toContain('it may speak TLS at this port')
  expect(faultOf('DEPTH_ZERO_SELF_SIGNED_CERT', undefined, 'KAFKA_OAUTH_CA_FILE')?.text).toContain(
    'the PEM file that KAFKA_OAUTH_CA_FILE names',
  )
})

test('other errors are left to others', () => {
  expect([faultOf('EPIPE'), faultOf(7), faultOf(undefined)]).toEqual([undefined, undefined, undefined])
  expect(connectionFault(undefined, { url: 'https://a.example' })).toBeUndefined()
})
