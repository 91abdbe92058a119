import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { ownerNotAfterMs, pairFault, pemFault, type Wanted, withNewlines } from './pem.ts'

/** A DER element: its tag, its length in one octet or in the long form, and its content. */
function der(tag: number, ...content: (number | Buffer)[]): Buffer {
  const body = Buffer.concat(content.map((one) => (typeof one === 'number' ? Buffer.from([one]) : one)))
  const length = body.length < 0x80 ? [body.length] : [0x82, body.length >> 8, body.length & 0xff]
  return Buffer.concat([Buffer.from([tag, ...length]), body])
}
const integer = (value: number): Buffer => der(0x02, value)
const SEQUENCE = 0x30
const PKCS12 = der(SEQUENCE, integer(3), der(SEQUENCE, Buffer.alloc(300)))
const CERTIFICATE = der(SEQUENCE, der(SEQUENCE, integer(1)), Buffer.alloc(200))
const KEY = der(SEQUENCE, integer(0), der(SEQUENCE))
const JKS = Buffer.from('feedfeed00000002', 'hex')

const pem = (label: string, content = CERTIFICATE): string =>
  `-----BEGIN ${label}-----\n${content.toString('base64').replace(/.{64}/g, '$&\n')}\n-----END ${label}-----\n`

const file = (path: string) => ({ variable: 'KAFKA_SSL_X_FILE', file: path })
const faultOf = (given: string | Buffer, wanted: Wanted, path = '/tls/x') =>
  pemFault(Buffer.from(given as string), wanted, file(path))

describe('a keystore is named with the command that converts it', () => {
  test.each([
    ['authorities', '-nokeys', 'ca'],
    ['certificate', '-nokeys', 'crt'],
    ['key', '-nocerts -nodes', 'key'],
  ] as const)('for %s', (wanted, options, end) => {
    const extract = (from: string) => `openssl pkcs12 -in ${from} ${options} -out /tls/x.${end}.pem`
    expect(faultOf(JKS, wanted)).toBe(
      `KAFKA_SSL_X_FILE=/tls/x is a Java keystore, which is not read. Convert it: keytool -importkeystore -srckeystore /tls/x -destkeystore /tls/x.p12 -deststoretype PKCS12 && ${extract('/tls/x.p12')}`,
    )
    expect(faultOf(PKCS12, wanted)).toEndWith(`: ${extract('/tls/x')}`)
    expect(faultOf(PKCS12, wanted)).toContain('is a PKCS#12 keystore')
  })

  test('and DER, too', () => {
    expect(faultOf(CERTIFICATE, 'certificate')).toEndWith('openssl x509 -inform der -in /tls/x -out /tls/x.crt.pem')
    expect(faultOf(KEY, 'key')).toEndWith('openssl pkey -inform der -in /tls/x -out /tls/x.key.pem')
  })

  test('with a path as a shell takes it', () => {
    expect(faultOf(PKCS12, 'key', "/a b/it's")).toContain(`-in '/a b/it'\\''s' `)
  })
})

const BESIDE = 'has a PEM with something in the line of a -----BEGIN or -----END besides it'
const inOneLine = (text: string): string => text.trim().replaceAll(/(?<=[^-])\n(?=[^-])/g, '')

describe('a PEM', () => {
  test.each([
    ['a certificate', 'certificate', pem('CERTIFICATE')],
    [
      'several, with text between them',
      'authorities',
      `first\n${pem('CERTIFICATE')}second\n${pem('TRUSTED CERTIFICATE')}`,
    ],
    ['a key, after its certificate', 'key', pem('CERTIFICATE') + pem('PRIVATE KEY', KEY)],
    ['a key in a format of its own', 'key', pem('EC PRIVATE KEY', KEY)],
    [
      'an encrypted key in the old format of OpenSSL',
      'key',
      pem('RSA PRIVATE KEY', KEY).replace('\n', '\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n'),
    ],
    ['lines as Windows ends them', 'certificate', pem('CERTIFICATE').replaceAll('\n', '\r\n')],
    ['spaces at the ends of lines', 'certificate', pem('CERTIFICATE').replaceAll('\n', ' \n')],
    ['base64 in one line, and no newline at its end', 'key', inOneLine(pem('PRIVATE KEY', KEY))],
  ] as const)('may have %s', (_, wanted, text) => {
    expect(faultOf(text, wanted)).toBeUndefined()
  })

  test.each([
    ['key', pem('CERTIFICATE'), 'has a PEM block of the type CERTIFICATE, and a PRIVATE KEY belongs there.'],
    [
      'certificate',
      pem('PRIVATE KEY', KEY),
      'has a PEM block of the type PRIVATE KEY, and a CERTIFICATE belongs there.',
    ],
    ['authorities', pem('CERTIFICATE REQUEST'), 'has a PEM block of the type CERTIFICATE REQUEST, and a CERTIFICATE'],
    ['key', pem('OPENSSH PRIVATE KEY', KEY), 'has a PEM block of the type OPENSSH PRIVATE KEY, and a PRIVATE KEY'],
    ['certificate', 'hello', 'has no PEM block, and a CERTIFICATE belongs there.'],
    ['certificate', pem('CERTIFICATE').slice(0, -30), 'has no PEM block'],
    ['certificate', pem('CERTIFICATE', CERTIFICATE.subarray(0, 100)), 'is damaged'],
    ['authorities', pem('CERTIFICATE') + pem('CERTIFICATE', Buffer.from('text')), 'is damaged'],
    ['certificate', pem('CERTIFICATE').replace('\nMI', '\nMI\n\n'), 'is damaged'],
    ['authorities', pem('CERTIFICATE').replaceAll('\n', ' '), 'has a PEM whose lines were joined'],
    ['key', pem('PRIVATE KEY', KEY).replaceAll('\n', ''), 'has a PEM whose lines were joined'],
    ['key', pem('PRIVATE KEY', KEY).replaceAll('\n', '\r'), 'has a PEM whose lines were joined'],
    ['certificate', `"${pem('CERTIFICATE').trim()}"`, BESIDE],
    ['certificate', `'${pem('CERTIFICATE')}'`, BESIDE],
    ['authorities', pem('CERTIFICATE').trim() + pem('CERTIFICATE'), BESIDE],
    ['certificate', pem('CERTIFICATE').replaceAll(/^/gm, '  '), BESIDE],
  ] as const)('for %s may not have %j', (wanted, text, said) => {
    expect(faultOf(text, wanted)).toContain(`KAFKA_SSL_X_FILE=/tls/x ${said}`)
  })

  test('of a variable is named by the variable, and has newlines as CI systems write them', () => {
    const place = { variable: 'KAFKA_SSL_CA_PEM', file: undefined }
    expect(pemFault(Buffer.from('no'), 'authorities', place)).toBe(
      'KAFKA_SSL_CA_PEM has no PEM block, and a CERTIFICATE belongs there.',
    )
    const escaped = pem('CERTIFICATE').replaceAll('\n', '\\r\\n')
    expect(withNewlines(escaped)).toBe(pem('CERTIFICATE'))
    expect(withNewlines(pem('CERTIFICATE'))).toBe(pem('CERTIFICATE'))
  })

  test('whatever bytes there are, it is told what they are or nothing, and never is there an exception', () => {
    const wanted = fc.constantFrom<Wanted>('authorities', 'certificate', 'key')
    const start = fc.constantFrom(Buffer.alloc(0), JKS, PKCS12, CERTIFICATE, KEY, Buffer.from(pem('CERTIFICATE')))
    fc.assert(
      fc.property(wanted, start, fc.nat(400), fc.uint8Array({ maxLength: 40 }), (of, whole, length, rest) => {
        const bytes = Buffer.concat([whole.subarray(0, length), rest])
        const fault = pemFault(bytes, of, file('/f'))
        if (fault !== undefined) expect(fault).toStartWith('KAFKA_SSL_X_FILE=/f ')
        const text = bytes.toString('latin1')
        pairFault(
          { pem: text, place: file('/c') },
          { pem: text, place: file('/k') },
          { variable: 'P', value: undefined },
        )
        expect(ownerNotAfterMs(text)).toBeUndefined()
      }),
      { numRuns: 300 },
    )
  })
})
