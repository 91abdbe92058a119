import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { redactor, shownUrl } from './redact.ts'

const redact = redactor()

describe('credentials in a message', () => {
  test.each([
    ['GET https://x/y?access_token=abc123&page=2 failed', 'GET https://x/y?access_token=(redacted)&page=2 failed'],
    ['token=s3cr3t', 'token=(redacted)'],
    ['{"password":"a b c","user":"bob"}', '{"password":(redacted),"user":"bob"}'],
    ["password: 'open sesame' is wrong", 'password: (redacted) is wrong'],
    ['Authorization: Bearer abc.def-ghi rejected', 'Authorization: (redacted) rejected'],
    ['sent Bearer 0123456789abcdef', 'sent Bearer (redacted)'],
    ['X-API-Key: k_12345', 'X-API-Key: (redacted)'],
    ['AWS_SECRET_ACCESS_KEY=wJalr/K7', 'AWS_SECRET_ACCESS_KEY=(redacted)'],
    ['connect postgres://app:pa55@db:5432/x', 'connect postgres://(redacted)@db:5432/x'],
    ['GET https://t0ken@host/x', 'GET https://(redacted)@host/x'],
    ['jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln is old', 'jwt (redacted) is old'],
    ['-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n', '(redacted)\n'],
    ['-----BEGIN RSA PRIVATE KEY-----\nMIIE, cut', '(redacted)'],
  ])('%p', (given, left) => {
    expect(redact(given)).toBe(left)
  })

  test.each([
    'attempt 3 of 5 failed: status 503',
    'no token was given',
    'the password is wrong',
    'https://example.com:8080/path?page=2',
    'mailto:bob@example.com',
  ])('%p is left as it is', (text) => {
    expect(redact(text)).toBe(text)
  })

  test('what the configuration names is left out, too', () => {
    expect(redactor('cust-\\d+')('no such CUST-17, cust-x')).toBe('no such (redacted), cust-x')
  })

  test('what is left is not changed by another look', () => {
    fc.assert(
      fc.property(
        fc.string({
          unit: fc.constantFrom('token', '=', ':', '"', ' ', 'a', '&', '//', '@', 'Bearer '),
          maxLength: 60,
        }),
        (text) => {
          const left = redact(text)
          expect(redact(left)).toBe(left)
        },
      ),
    )
  })

  test('a long text is done before the test is given up', () => {
    for (const part of ['a', '-', 'token', 'token:', 'eyJ', '//:', '"', '=', 'Bearer ', '-----BEGIN '])
      expect(redact(part.repeat(10_000)).length).toBeLessThanOrEqual(part.length * 10_000 * 4)
  })
})

describe('a URL in a text', () => {
  test.each([
    ['https://x.example/keys', 'https://x.example/keys'],
    ['http://127.0.0.1:1', 'http://127.0.0.1:1'],
    ['https://x.example/keys?api_key=s3cret&v=1', 'https://x.example/keys?(redacted)'],
    ['https://x.example#s3cret', 'https://x.example?(redacted)'],
    ['https://user:s3cret@x.example/a@b', 'https://(redacted)@x.example/a@b'],
    ['https://s3cret@x.example?s3cret', 'https://(redacted)@x.example?(redacted)'],
    ['https://user:s3/cret@x.example', 'https://(redacted)'],
  ])('%s is shown as %s', (url, shown) => {
    expect(shownUrl(url)).toBe(shown)
  })
})
