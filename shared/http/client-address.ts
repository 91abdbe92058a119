import { isIP } from 'node:net'
import { Type } from '@sinclair/typebox'

/** Which address a request comes from, where proxies are between. */

export const proxyVariables = {
  TRUSTED_PROXIES: Type.Optional(
    Type.String({
      description:
        'Networks of the proxies before this service, as CIDR separated by commas, such as 10.0.0.0/8,fd00::/8. Of a request from one of them, X-Forwarded-For says which client it is of; from others it is not believed. Without it, from nobody.',
    }),
  ),
}

/** A range of addresses, IPv4 ones as mapped into IPv6 (RFC 4291, section 2.5.5.2). */
interface Network {
  prefix: bigint
  /** How many bits the rest of an address has. */
  freeBits: bigint
}

const ADDRESS_BITS = 128
const IPV4_BITS = 32
const IPV4_PREFIX = 0xffffn << 32n

const ZONE = /%[\w.-]+$/

/** The bits of an address; undefined: it is none. A zone (RFC 4007) is no part of it. */
function bitsOf(text: string): bigint | undefined {
  const zone = ZONE.exec(text)?.[0] ?? ''
  const address = text.slice(0, text.length - zone.length)
  const version = zone !== '' && isIP(address) !== 6 ? 0 : isIP(address)
  if (version === 4) return IPV4_PREFIX | partsOf(address.split('.'), 8n, 10)
  if (version !== 6) return undefined
  // The last 32 bits may be written as in IPv4.
  const dotted = /(?<=:)\d+\.\d+\.\d+\.\d+$/.exec(address)?.[0]
  const low = dotted === undefined ? undefined : partsOf(dotted.split('.'), 8n, 10)
  const groups =
    dotted === undefined || low === undefined
      ? address
      : `${address.slice(0, -dotted.length)}${(low >> 16n).toString(16)}:${(low & 0xffffn).toString(16)}`
  const [head = '', tail] = groups.split('::')
  const [first, last] = [head, tail ?? ''].map((half) => (half === '' ? [] : half.split(':')))
  const between = tail === undefined ? 0 : ADDRESS_BITS / 16 - (first?.length ?? 0) - (last?.length ?? 0)
  return partsOf([...(first ?? []), ...Array<string>(between).fill('0'), ...(last ?? [])], 16n, 16)
}

const partsOf = (parts: readonly string[], bits: bigint, radix: number): bigint =>
  parts.reduce((sum, part) => (sum << bits) | BigInt(Number.parseInt(part, radix)), 0n)

const isIpv4 = (bits: bigint): boolean => bits >> 32n === IPV4_PREFIX >> 32n

/** The networks of TRUSTED_PROXIES, and each part of it that is none. */
export function networksOf(text: string | undefined): { networks: Network[]; faults: string[] } {
  const networks: Network[] = []
  const faults: string[] = []
  for (const part of text?.split(',').map((one) => one.trim()) ?? []) {
    const [address = '', length, ...more] = part.split('/')
    const bits = address.includes('%') ? undefined : bitsOf(address)
    const most = isIP(address) === 4 ? IPV4_BITS : ADDRESS_BITS
    const fixed = length === undefined ? most : /^\d{1,3}$/.test(length) ? Number(length) : Number.NaN
    if (bits === undefined || more.length > 0 || !(fixed <= most)) {
      faults.push(`TRUSTED_PROXIES has ${JSON.stringify(part)}, which is no network such as 10.0.0.0/8 or fd00::/8.`)
      continue
    }
    const freeBits = BigInt(most - fixed)
    const prefix = bits >> freeBits
    if (prefix << freeBits !== bits)
      faults.push(`TRUSTED_PROXIES has ${JSON.stringify(part)}, which has bits set behind its first ${fixed}.`)
    else networks.push({ prefix, freeBits })
  }
  return { networks, faults }
}

/** Faults of TRUSTED_PROXIES. */
export const proxyFaults = ({ TRUSTED_PROXIES }: { TRUSTED_PROXIES?: string }): string[] =>
  networksOf(TRUSTED_PROXIES).faults

/** RFC 4291 and RFC 5952, with the port that some proxies add. */
const WITH_PORT = /^(?:\[([^\]]*)\]|([\d.]+))(?::\d{1,5})?$/

/** An address as it stands in X-Forwarded-For; undefined: it is none. */
function addressIn(entry: string): string | undefined {
  const found = WITH_PORT.exec(entry)
  const address = found === null ? entry : (found[1] ?? found[2] ?? '')
  return bitsOf(address) === undefined ? undefined : address
}

/** As it is compared and shown: IPv4 as such also where it came mapped into IPv6. */
function plain(address: string): string {
  const bits = bitsOf(address)
  return bits === undefined || !isIpv4(bits) ? address : dotted(bits)
}

/** The last 32 bits, as IPv4 is written. */
const dotted = (bits: bigint): string => [24n, 16n, 8n, 0n].map((shift) => String((bits >> shift) & 0xffn)).join('.')

/** The address of a request's client; undefined once its connection is closed. */
export type ClientAddress = (request: Request) => string | undefined

/**
 * The address of the connection's other end, or where that is a trusted proxy, the rightmost one in X-Forwarded-For that is not. What stands to the left of it
 * was sent by nobody who is trusted; what is no address ends the search, too: then it is the proxy that passed it on. `Forwarded` (RFC 7239) is not read, since
 * a proxy that sets one of the two passes on the other as the client sent it.
 * @param peer the address of the connection's other end
 */
export function clientAddress(
  trusted: string | undefined,
  peer: (request: Request) => string | undefined,
): ClientAddress {
  const { networks } = networksOf(trusted)
  const isTrusted = (address: string): boolean => {
    const bits = bitsOf(address)
    return bits !== undefined && networks.some(({ prefix, freeBits }) => bits >> freeBits === prefix)
  }
  return (request) => {
    let address = peer(request)
    if (address === undefined) return undefined
    const entries = networks.length === 0 ? [] : (request.headers.get('x-forwarded-for')?.split(',') ?? [])
    while (isTrusted(address)) {
      const entry = entries.pop()?.trim()
      const before = entry === undefined ? undefined : addressIn(entry)
      if (before === undefined) break
      address = before
    }
    return plain(address)
  }
}

/** The first 96 bits of IPv6 addresses that a translator gives to IPv4 ones (RFC 6052, section 2.1). */
const NAT64 = 0x64_ff9bn << 64n

const standsForIpv4 = (bits: bigint): boolean => isIpv4(bits) || bits >> 32n === NAT64

/** What one subscriber has: an IPv4 address, or an IPv6 network of 64 bits (RFC 6177). */
export function networkOf(address: string): string {
  const bits = bitsOf(address)
  if (bits === undefined) return address
  return standsForIpv4(bits) ? dotted(bits) : prefixOf(bits, 64n)
}

/** The most that one subscriber has of IPv6: a network of 48 bits. undefined: it stands for IPv4. */
export function siteOf(address: string): string | undefined {
  const bits = bitsOf(address)
  return bits === undefined || standsForIpv4(bits) ? undefined : prefixOf(bits, 48n)
}

function prefixOf(bits: bigint, length: bigint): string {
  const groups: string[] = []
  for (let shift = 112n; shift >= 128n - length; shift -= 16n) groups.push(((bits >> shift) & 0xffffn).toString(16))
  return `${groups.join(':')}::/${length}`
}
