import { describe, expect, test } from 'bun:test'
import { BlockList, isIP } from 'node:net'
import fc from 'fast-check'
import { clientAddress, networkOf, proxyFaults, siteOf } from './client-address.ts'

const from = (peer: string, trusted: string | undefined, forwarded?: string): string | undefined =>
  clientAddress(
    trusted,
    () => peer,
  )(new Request('http://x/', { headers: forwarded === undefined ? {} : { 'x-forwarded-for': forwarded } }))

describe('the address of a client', () => {
  test('is that of the connection, whatever the request says, where no proxy is trusted', () => {
    expect(from('192.0.2.1', undefined, '198.51.100.7')).toBe('192.0.2.1')
    expect(from('192.0.2.1', '10.0.0.0/8', '198.51.100.7')).toBe('192.0.2.1')
  })

  test('is the rightmost one that is no trusted proxy', () => {
    expect(from('10.0.0.1', '10.0.0.0/8', '198.51.100.7')).toBe('198.51.100.7')
    expect(from('10.0.0.1', '10.0.0.0/8', '203.0.113.9, 198.51.100.7, 10.2.3.4')).toBe('198.51.100.7')
    expect(from('10.0.0.1', '10.0.0.0/8, fd00::/8', '203.0.113.9, 2001:db8::7, fd00::1')).toBe('2001:db8::7')
  })

  test('is the outermost proxy where all are trusted, or the request names nobody', () => {
    expect(from('10.0.0.1', '10.0.0.0/8', '10.0.0.3, 10.0.0.2')).toBe('10.0.0.3')
    expect(from('10.0.0.1', '10.0.0.0/8')).toBe('10.0.0.1')
    expect(from('10.0.0.1', '10.0.0.0/8', '')).toBe('10.0.0.1')
  })

  test('is not looked for beyond what is no address', () => {
    for (const entry of [
      'unknown',
      '_hidden',
      '1.2.3',
      '1.2.3.4.5',
      '"1.2.3.4"',
      '',
      ' ',
      '::g',
      '1.2.3.4:port',
      '[::1',
      'fe80::1%',
    ])
      expect(from('10.0.0.1', '10.0.0.0/8', `203.0.113.9, ${entry}, 10.0.0.2`)).toBe('10.0.0.2')
  })

  test('is read with the port that some proxies add', () => {
    expect(from('10.0.0.1', '10.0.0.0/8', '198.51.100.7:4711')).toBe('198.51.100.7')
    expect(from('10.0.0.1', '10.0.0.0/8', '[2001:db8::7]:4711')).toBe('2001:db8::7')
    expect(from('10.0.0.1', '10.0.0.0/8', '[2001:db8::7]')).toBe('2001:db8::7')
  })

  test('is the same for IPv4 and for IPv4 that is mapped into IPv6', () => {
    expect(from('::ffff:10.0.0.1', '10.0.0.0/8', '::ffff:c633:6407')).toBe('198.51.100.7')
    expect(from('10.0.0.1', '::ffff:10.0.0.0/104', '198.51.100.7')).toBe('198.51.100.7')
  })

  test('is a whole network of IPv6 only where that was said', () => {
    expect(from('::1', '::1/128', 'fe80::1%eth0')).toBe('fe80::1%eth0')
    expect(from('fe80::1%eth0', 'fe80::/10', '198.51.100.7')).toBe('198.51.100.7')
    // ::/0 has IPv4's addresses as well.
    expect(from('192.0.2.1', '::/0', '198.51.100.7')).toBe('198.51.100.7')
    expect(from('2001:db8::1', '0.0.0.0/0', '198.51.100.7')).toBe('2001:db8::1')
  })
})

test('what is no network is named', () => {
  expect(proxyFaults({ TRUSTED_PROXIES: '10.0.0.0/8, 192.0.2.7,::1' })).toEqual([])
  for (const part of [
    '10.0.0.0/33',
    '::/129',
    '10.0.0/8',
    'proxy',
    '10.0.0.0/8/8',
    '10.0.0.0/',
    '10.0.0.0/-1',
    '',
    'fe80::1%eth0/64',
  ])
    expect(proxyFaults({ TRUSTED_PROXIES: `::1,${part}` })).toEqual([
      `TRUSTED_PROXIES has ${JSON.stringify(part)}, which is no network such as 10.0.0.0/8 or fd00::/8.`,
    ])
  expect(proxyFaults({ TRUSTED_PROXIES: '10.0.0.1/8' })).toEqual([
    'TRUSTED_PROXIES has "10.0.0.1/8", which has bits set behind its first 8.',
  ])
})

describe('whatever is sent', () => {
  const address = fc.oneof(fc.ipV4(), fc.ipV6())
  const entry = fc.oneof(
    address,
    fc.string({ maxLength: 20 }),
    fc.constantFrom('unknown', '', '[::1]:80', '1.2.3.4:80'),
  )
  const header = fc.array(entry, { maxLength: 6 }).map((entries) => entries.join(', '))
  /** What can be a field's value. */
  const sendable = header.filter((text) => /^[\t -~\x80-\xff]*$/.test(text))

  test('a client that is not trusted is who it is', () => {
    fc.assert(
      fc.property(fc.ipV4(), sendable, (peer, text) => {
        fc.pre(!peer.startsWith('10.'))
        expect(from(peer, '10.0.0.0/8,fd00::/8', text)).toBe(peer)
      }),
      { numRuns: 200 },
    )
  })

  test('what a client writes before its proxy’s entry changes nothing', () => {
    fc.assert(
      fc.property(sendable, fc.ipV4(), (text, client) => {
        fc.pre(!client.startsWith('10.'))
        expect(from('10.0.0.1', '10.0.0.0/8', `${text}, ${client}`)).toBe(client)
      }),
      { numRuns: 200 },
    )
  })

  test('it is an address', () => {
    fc.assert(
      fc.property(sendable, (text) => {
        expect(isIP((from('10.0.0.1', '0.0.0.0/0,::/0', text) ?? '').split('%')[0] ?? '')).not.toBe(0)
      }),
      { numRuns: 200 },
    )
  })

  test('networks have the addresses that Node finds in them', () => {
    const ipv4 = fc.record({
      family: fc.constant('ipv4' as const),
      parts: fc.array(fc.integer({ min: 0, max: 255 }), { minLength: 4, maxLength: 4 }),
      others: fc.array(fc.integer({ min: 0, max: 255 }), { minLength: 4, maxLength: 4 }),
      fixed: fc.integer({ min: 0, max: 4 }),
    })
    const ipv6 = fc.record({
      family: fc.constant('ipv6' as const),
      parts: fc.array(fc.integer({ min: 0, max: 65_535 }), { minLength: 8, maxLength: 8 }),
      others: fc.array(fc.integer({ min: 0, max: 65_535 }), { minLength: 8, maxLength: 8 }),
      fixed: fc.integer({ min: 0, max: 8 }),
    })
    fc.assert(
      fc.property(fc.oneof(ipv4, ipv6), fc.integer({ min: 0, max: 8 }), ({ family, parts, others, fixed }, shared) => {
        const text = (numbers: readonly number[]): string =>
          family === 'ipv4' ? numbers.join('.') : numbers.map((number) => number.toString(16)).join(':')
        const base = text(parts.map((part, at) => (at < fixed ? part : 0)))
        const length = fixed * (family === 'ipv4' ? 8 : 16)
        // The more parts it shares with the network, the likelier it is in it.
        const one = text(parts.map((part, at) => (at < shared ? part : (others[at] ?? 0))))
        const list = new BlockList()
        list.addSubnet(base, length, family)
        const isIn = from(one, `${base}/${length}`, '2001:db8::99') === '2001:db8::99'
        expect(isIn).toBe(list.check(one, family))
      }),
      { numRuns: 300 },
    )
  })
})

test.each([
  ['192.0.2.1', '192.0.2.1'],
  ['::ffff:192.0.2.1', '192.0.2.1'],
  ['::FFFF:192.0.2.1', '192.0.2.1'],
  ['::1', '0:0:0:0::/64'],
  ['2001:DB8::1', '2001:db8:0:0::/64'],
  ['2001:0db8:0000:0007:1:2:3:4', '2001:db8:0:7::/64'],
  ['fe80::1%eth0', 'fe80:0:0:0::/64'],
  ['64:ff9b:1::192.0.2.1', '64:ff9b:1:0::/64'],
  ['1:2:3:4:5:6:192.0.2.1', '1:2:3:4::/64'],
  ['64:ff9b::198.51.100.7', '198.51.100.7'],
  ['64:ff9b::c633:6407', '198.51.100.7'],
  ['64:ff9b::1:c633:6407', '64:ff9b:0:0::/64'],
])('the network of %s is %s', (address, network) => expect(networkOf(address)).toBe(network))

test.each([
  ['2001:db8:7:1::1', '2001:db8:7::/48'],
  ['2001:db8::', '2001:db8:0::/48'],
  ['198.51.100.7', undefined],
  ['::ffff:198.51.100.7', undefined],
  ['64:ff9b::c633:6407', undefined],
  ['unix', undefined],
])('the site of %s is %s', (address, site) => expect(siteOf(address)).toBe(site))

test('an IPv6 address has the network of its first 64 bits, however it is written', () => {
  const group = fc.nat(0xffff)
  fc.assert(
    fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), fc.nat(7), fc.nat(7), (groups, from, length) => {
      const network = `${groups
        .slice(0, 4)
        .map((one) => one.toString(16))
        .join(':')}::/64`
      const written = groups.map((one) => one.toString(16))
      expect(networkOf(written.join(':'))).toBe(network)
      // With zeros left out.
      const zeroed = groups.map((one, index) => (index >= from && index < from + length + 1 ? 0 : one))
      const short = zeroed.map((one) => one.toString(16))
      const text = `${short.slice(0, from).join(':')}::${short.slice(from + length + 1).join(':')}`
      expect(networkOf(text)).toBe(`${short.slice(0, 4).join(':')}::/64`)
    }),
  )
})
