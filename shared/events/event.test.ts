import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import {
  attributeFault,
  EventBuilder,
  isAbsoluteUri,
  isMediaType,
  isTimestamp,
  isUriReference,
  MAX_ATTRIBUTE_LENGTH,
  parseMediaType,
} from './event.ts'

describe('a URI-reference (RFC 3986)', () => {
  test.each([
    'https://github.com/cloudevents',
    'mailto:cncf-wg-serverless@lists.cncf.io',
    'urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66',
    '/cloudevents/spec/pull/123',
    '1-555-123-4567',
    '//host/path',
    '//user:pw@host:80/p?q#f',
    '?query',
    '#fragment',
    './a:b',
    'a/b:c',
    'http://[2001:db8::7]/c=GB?objectClass?one',
    'http://[v1.fe:80]/',
    'file:///etc/hosts',
    'a%20b',
    'http://example.com:/',
  ])('%s is one', (value) => expect(isUriReference(value)).toBe(true))

  test.each([
    'a b',
    'ö',
    '1:2',
    ':x',
    '%zz',
    '%2',
    'a#b#c',
    'http://[::g]/',
    'http://[1.2.3.4]/',
    'http://[fe80::1%25eth0]/',
    'http://exa mple/',
    'http://host:port/',
    '<x>',
    'a\\b',
    '{x}',
    'a|b',
    'a"b',
    'a^b',
    'a`b',
    '\n',
    'a\n',
    '[',
  ])('%p is none', (value) => expect(isUriReference(value)).toBe(false))

  test('takes whatever a URL parser has normalised', () => {
    fc.assert(
      fc.property(fc.webUrl({ withFragments: true, withQueryParameters: true }), (url) => {
        expect(isUriReference(url)).toBe(true)
      }),
    )
  })

  test('takes no time to be found wrong, however it is made', () => {
    const n = MAX_ATTRIBUTE_LENGTH - 4
    const start = performance.now()
    for (const evil of [
      `//${'a'.repeat(n)}@@`,
      `${'/'.repeat(n)}\n`,
      `${'%20'.repeat(n / 3)}%`,
      `//${'a:'.repeat(n / 2)}@:x`,
    ])
      expect(attributeFault('source', evil)).toBeDefined()
    // With backtracking it takes minutes; even a busy machine needs less than a second.
    expect(performance.now() - start).toBeLessThan(1_000)
    expect(attributeFault('source', 'a'.repeat(MAX_ATTRIBUTE_LENGTH))).toBeUndefined()
    expect(attributeFault('source', 'a'.repeat(MAX_ATTRIBUTE_LENGTH + 1))).toContain('longer')
  })

  test('as an absolute URI has a scheme and no fragment', () => {
    expect(isAbsoluteUri('https://example.com/s?v=1')).toBe(true)
    expect(isAbsoluteUri('urn:x:y')).toBe(true)
    expect(isAbsoluteUri('https://example.com/s#f')).toBe(false)
    expect(isAbsoluteUri('/s')).toBe(false)
    expect(isAbsoluteUri('')).toBe(false)
  })
})

describe('a timestamp (RFC 3339)', () => {
  test.each([
    '2018-04-05T17:31:00Z',
    '2018-04-05t17:31:00z',
    '2018-04-05T17:31:00.123456789+05:30',
    '2020-02-29T00:00:00-00:00',
    '2000-02-29T00:00:00Z',
    '1990-12-31T23:59:60Z',
    '1990-12-31T15:59:60-08:00',
    '1990-12-31T15:59:60.5-08:00',
    '0000-01-01T00:00:00Z',
  ])('%s is one', (value) => expect(isTimestamp(value)).toBe(true))

  test.each([
    '',
    '2018-04-05',
    '2018-04-05T17:31Z',
    '2018-04-05 17:31:00Z',
    '2018-04-05T17:31:00',
    '2018-13-05T17:31:00Z',
    '2018-00-05T17:31:00Z',
    '2018-04-31T17:31:00Z',
    '2019-02-29T00:00:00Z',
    '1900-02-29T00:00:00Z',
    '2018-04-00T00:00:00Z',
    '2018-04-05T24:00:00Z',
    '2018-04-05T23:60:00Z',
    '2018-04-05T12:00:60Z',
    '2018-04-05T23:59:61Z',
    '2018-04-05T17:31:00.Z',
    '2018-04-05T17:31:00+24:00',
    '2018-04-05T17:31:00+0530',
    '+2018-04-05T17:31:00Z',
    '2018-04-05T17:31:00Z\n',
  ])('%p is none', (value) => expect(isTimestamp(value)).toBe(false))

  test('is what every Date writes', () => {
    fc.assert(
      fc.property(
        fc.date({ min: new Date('0000-01-01T00:00:00Z'), max: new Date('9999-12-31T23:59:59Z'), noInvalidDate: true }),
        (date) => {
          expect(isTimestamp(date.toISOString())).toBe(true)
        },
      ),
    )
  })
})

describe('a media type', () => {
  test.each(['application/json', 'text/plain;charset=utf-8', 'a/b; x="y;z" ; q=1', 'application/vnd.x+json'])(
    '%s is one',
    (value) => expect(isMediaType(value)).toBe(true),
  )
  test.each(['', 'json', 'a/', '/b', 'a/b;', 'a/b; x', 'a b/c', 'a/b; x="', 'a/b\n', 'ä/b', 'a/b;x=ü'])(
    '%p is none',
    (value) => expect(isMediaType(value)).toBe(false),
  )
  test('has its essence and charset read whatever their case', () => {
    expect(parseMediaType('Application/JSON; Charset="UTF-8"')).toEqual({
      essence: 'application/json',
      charset: 'utf-8',
    })
    expect(parseMediaType('text/plain;charset=iso-8859-1;x=y')).toEqual({
      essence: 'text/plain',
      charset: 'iso-8859-1',
    })
    expect(parseMediaType('TEXT/plain')).toEqual({ essence: 'text/plain', charset: undefined })
  })
})

describe('an attribute', () => {
  test('that is a string holds no control characters, noncharacters or lone surrogates', () => {
    for (const bad of [
      '\u0000',
      '\u001f',
      '\u007f',
      '\u0085',
      '\u009f',
      '\ufffe',
      '\uffff',
      '\ufdd0',
      '\u{1ffff}',
      '\ud800',
      '\udc00x',
    ])
      expect(attributeFault('subject', `a${bad}`)).toBeDefined()
    for (const good of ['é', '€', '\u{1f600}', '\u00a0', '\u{10fffd}', 'x'.repeat(10_000)])
      expect(attributeFault('subject', good)).toBeUndefined()
  })

  test('that the specification requires, or that is a key, is never empty', () => {
    for (const name of [
      'id',
      'source',
      'type',
      'subject',
      'dataschema',
      'time',
      'datacontenttype',
      'specversion',
      'partitionkey',
    ])
      expect(attributeFault(name, '')).toBeDefined()
    expect(attributeFault('comexample', '')).toBeUndefined()
  })

  test('has a name of a-z and 0-9, and is never called data', () => {
    for (const bad of ['', 'A', 'a_b', 'a-b', 'é', '__proto__', 'data', 'data_base64'])
      expect(attributeFault(bad, 'x')).toBeDefined()
    for (const good of ['a', '0', 'constructor', 'traceparent', 'averyveryverylongnameindeed'])
      expect(attributeFault(good, 'x')).toBeUndefined()
  })
})

describe('building an event', () => {
  test('names everything that is missing or wrong, all at once', () => {
    const builder = new EventBuilder()
    builder.set('specversion', '0.3')
    builder.set('time', 'yesterday')
    builder.set('id', 'a')
    builder.set('id', 'b')
    const result = builder.build(null)
    expect(result.ok ? [] : result.faults.map((fault) => fault.pointer)).toEqual([
      '/specversion',
      '/time',
      '/id',
      '/source',
      '/type',
    ])
  })

  test('keeps names such as "constructor" as plain extensions and touches no prototype', () => {
    const builder = new EventBuilder()
    for (const [name, value] of Object.entries({ specversion: '1.0', id: '1', source: '/s', type: 't' }))
      builder.set(name, value)
    expect(builder.has('constructor')).toBe(false)
    builder.set('constructor', 'x')
    builder.set('tostring', 'y')
    const result = builder.build(null)
    if (!result.ok) throw new Error('refused')
    expect(Object.entries(result.event.extensions)).toEqual([
      ['constructor', 'x'],
      ['tostring', 'y'],
    ])
    expect(Object.getPrototypeOf(result.event.extensions)).toBeNull()
  })
})
