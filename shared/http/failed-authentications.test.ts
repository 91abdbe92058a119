import { expect, test } from 'bun:test'
import { authoriseByKey } from './authorise.ts'
import { countingFailures, FailedAuthentications, MAX_FAILURES, MAX_SITE_FAILURES } from './failed-authentications.ts'
import type { AuthenticationFailure } from './problem.ts'
import { makeKey, tenantsOf } from './tenants.ts'

const [right, other, old, early] = [makeKey('right'), makeKey('other'), makeKey('old'), makeKey('early')]
const tenants = tenantsOf({
  tenants: {
    shop: {
      streams: ['events'],
      keys: [
        { id: 'right', sha256: right.sha256 },
        { id: 'old', sha256: old.sha256, expiresAt: '2026-01-01T00:00:00Z' },
        { id: 'early', sha256: early.sha256, notBefore: '2028-01-01T00:00:00Z' },
      ],
    },
    till: { streams: ['events'], keys: [] },
  },
})
const WANTED = { role: 'send', tenant: undefined, stream: 'events' } as const
const NOW_MS = Date.parse('2026-11-30T12:00:00Z')

function guarded() {
  const clock = { nowMs: 0, address: '192.0.2.1' as string | undefined }
  const counted: Partial<Record<AuthenticationFailure, number>> = {}
  const logged: unknown[] = []
  const failures = new FailedAuthentications({
    count: (failure) => {
      counted[failure] = (counted[failure] ?? 0) + 1
    },
    log: { info: (fields: unknown) => void logged.push(fields), debug: () => undefined },
    nowMs: () => clock.nowMs,
  })
  const authorise = countingFailures(
    authoriseByKey(tenants, () => NOW_MS),
    failures,
    () => clock.address,
  )
  /** The status and, with 429, after how many seconds to try again. */
  const asked = async (key: string | undefined, wanted: Parameters<typeof authorise>[1] = WANTED, method = 'POST') => {
    const headers: Record<string, string> = key === undefined ? {} : { 'x-api-key': key }
    const authorised = await authorise(new Request('http://localhost/', { method, headers }), wanted)
    if (authorised.ok) return 'ok'
    const { kind, retryAfterSeconds } = authorised.problem
    return retryAfterSeconds === undefined ? kind : `${kind} ${retryAfterSeconds}`
  }
  return { clock, counted, logged, failures, asked }
}

test('each failure is counted by its reason, and what is not about the key is not', async () => {
  const { asked, counted } = guarded()
  await asked(undefined)
  await asked(other.key)
  await asked(`${right.key},${other.key}`)
  await asked(old.key)
  await asked(early.key)
  await asked(right.key, { ...WANTED, tenant: 'till' })
  const all = { missing: 1, unknown: 1, several: 1, expired: 1, not_yet_valid: 1, wrong_tenant: 1 }
  expect(counted).toEqual(all)
  await asked(right.key)
  await asked(right.key, { ...WANTED, role: 'read' })
  await asked(right.key, { ...WANTED, stream: 'none' })
  // The handshake of webhooks needs no key, but a right one if any.
  await asked(undefined, WANTED, 'OPTIONS')
  expect(counted).toEqual(all)
  await asked(other.key, WANTED, 'OPTIONS')
  expect(counted).toEqual({ ...all, unknown: 2 })
})

test('after too many failures of an address within a minute, more are answered 429, and a right key is not', async () => {
  const { asked, clock, counted, logged } = guarded()
  clock.nowMs = 10_000
  for (let time = 0; time < MAX_FAILURES; time++) expect(await asked(other.key)).toBe('unauthenticated')
  clock.nowMs += 20_500
  for (let time = 0; time < 3; time++) {
    expect(await asked(other.key)).toBe('too-many-failures 40')
    expect(await asked(undefined)).toBe('too-many-failures 40')
    expect(await asked(right.key)).toBe('ok')
  }
  expect(logged).toEqual([{ address: '192.0.2.1', failures: MAX_FAILURES }])
  expect(counted.unknown).toBe(MAX_FAILURES + 3)
  clock.address = '192.0.2.2'
  expect(await asked(other.key)).toBe('unauthenticated')
  clock.address = undefined
  for (let time = 0; time < 2 * MAX_FAILURES; time++) expect(await asked(other.key)).toBe('unauthenticated')
  clock.address = '192.0.2.1'
  expect(await asked(other.key)).toBe('too-many-failures 40')
  clock.nowMs = 10_000 + 59_999
  expect(await asked(other.key)).toBe('too-many-failures 1')
  clock.nowMs = 10_000 + 60_000
  expect(await asked(other.key)).toBe('unauthenticated')
})

test('an IPv6 network is one address', async () => {
  const { asked, clock } = guarded()
  for (let host = 0; host < MAX_FAILURES; host++) {
    clock.address = `2001:db8:0:7::${host.toString(16)}`
    await asked(other.key)
  }
  clock.address = '2001:db8:0:7:ffff:ffff:ffff:ffff'
  expect(await asked(other.key)).toStartWith('too-many-failures')
  clock.address = '2001:db8:0:8::1'
  expect(await asked(other.key)).toBe('unauthenticated')
})

test('IPv6 networks of one site are limited together, and do not have others forgotten', async () => {
  const { asked, clock, failures, logged } = guarded()
  for (let time = 0; time <= MAX_FAILURES; time++) await asked(other.key)
  for (let network = 0; network < 10_500; network++) {
    clock.address = `2001:db8:7:${network.toString(16)}::1`
    const answer = await asked(other.key)
    expect(answer).toBe(network < MAX_SITE_FAILURES ? 'unauthenticated' : 'too-many-failures 60')
  }
  expect(failures.size).toBe(MAX_SITE_FAILURES + 2)
  expect(logged).toEqual([
    { address: '192.0.2.1', failures: MAX_FAILURES },
    { address: '2001:db8:7::/48', failures: MAX_SITE_FAILURES },
  ])
  expect(await asked(right.key)).toBe('ok')
  clock.address = '2001:db8:8::1'
  expect(await asked(other.key)).toBe('unauthenticated')
  clock.address = '192.0.2.1'
  expect(await asked(other.key)).toBe('too-many-failures 60')
})

test('one IPv6 network at its limit does not use up that of its site', async () => {
  const { asked, clock } = guarded()
  clock.address = '2001:db8:7:1::1'
  for (let time = 0; time < 2 * MAX_SITE_FAILURES; time++) await asked(other.key)
  clock.address = '2001:db8:7:2::1'
  expect(await asked(other.key)).toBe('unauthenticated')
})

test('what is remembered is bounded, and forgotten after its minute', () => {
  const { clock, failures } = guarded()
  const fail = (address: string) => failures.failed({ kind: 'unauthenticated', detail: '' }, 'missing', address)
  for (let one = 0; one < 10_100; one++) fail(`10.0.${one >> 8}.${one & 255}`)
  expect(failures.size).toBe(10_000)
  clock.nowMs = 60_000
  fail('192.0.2.1')
  expect(failures.size).toBe(1)
})

test('a decision that has to be waited for is counted, too', async () => {
  const counted: string[] = []
  const failures = new FailedAuthentications({
    count: (failure) => counted.push(failure),
    log: { info: () => undefined, debug: () => undefined },
    nowMs: () => 0,
  })
  const decide = authoriseByKey(tenants)
  const authorise = countingFailures(
    async (request, wanted) => decide(request, wanted),
    failures,
    () => '::1',
  )
  expect(await authorise(new Request('http://localhost/'), WANTED)).toMatchObject({ ok: false })
  expect(counted).toEqual(['missing'])
})
