import { describe, expect, test } from 'bun:test'
import { createHmac } from 'node:crypto'
import fc from 'fast-check'
import { ProduceError } from '../shared/kafka/types.ts'
import { until } from '../shared/testing/until.ts'
import { github as githubKind } from './sources/github.ts'
import { defineKind, type Identity, type SourceKind } from './sources/kind.ts'
import { OK, unsigned } from './sources/signature.ts'
import type { Webhook } from './sources/webhook.ts'
import { type GatewayOptions, gateway, SECRETS } from './testing/gateway.ts'
import { REFUSED_AFTER_MS } from './webhooks.ts'

const [SECRET] = SECRETS
const hmac = (body: string | Uint8Array, secret: string = SECRET): string =>
  `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`
const delivery = (body: string | Uint8Array, id = 'd-1') => ({
  'x-github-event': 'push',
  'x-github-delivery': id,
  'x-hub-signature-256': hmac(body),
})
const BODY = '{"repository":{"full_name":"octo/hello","id":9007199254740993}}'
const GITHUB = { kind: 'github', secrets: [SECRET] }

const github = (options?: GatewayOptions, more: object = {}) => gateway({ gh: { ...GITHUB, ...more } }, options)

/** A kind that takes everything, and whose parts a test replaces. */
const open = (parts: Partial<SourceKind> = {}): SourceKind =>
  defineKind({
    name: 'open',
    timeoutMs: 10_000,
    options: {},
    verify: () => OK,
    identify: (webhook) => ({ id: webhook.json.text('/id'), type: 'com.example.thing' }),
    ...parts,
  })
const opened = (parts: Partial<SourceKind>, options: GatewayOptions = {}) =>
  gateway({ it: { kind: 'open' } }, { ...options, kinds: [open(parts)] })

/** The count of a result in the metrics. */
async function counted({ metrics }: ReturnType<typeof gateway>, labels: string): Promise<number> {
  const text = await metrics.registry.metrics()
  const line = text.split('\n').find((one) => one.startsWith(`kafkatrace_producer_webhooks_total{${labels}}`))
  return Number(line?.split(' ')[1])
}
const of = (result: string, source = 'gh', tenant = 'acme') =>
  `tenant="${tenant}",source="${source}",result="${result}"`

test('sources come and go with the tenants file, with their counts', async () => {
  const it = github()
  const status = async (source: string, secret: string = SECRET): Promise<number> => {
    const headers = { ...delivery(BODY, crypto.randomUUID()), 'x-hub-signature-256': hmac(BODY, secret) }
    return (await it.send(source, BODY, headers)).status
  }
  expect([await status('gh'), await status('other')]).toEqual([202, 401])
  it.declare({ gh: { ...GITHUB, secrets: [SECRETS[1]] }, other: GITHUB })
  expect(await counted(it, of('taken', 'other'))).toBe(0)
  expect([await status('gh'), await status('gh', SECRETS[1]), await status('other')]).toEqual([401, 202, 202])
  it.declare({ gh: { ...GITHUB, secrets: [SECRETS[1]] } })
  expect(await status('other')).toBe(401)
  expect([
    await counted(it, of('taken')),
    await counted(it, of('wrong')),
    await counted(it, of('taken', 'other')),
  ]).toEqual([2, 1, 1])
})

describe('what is not verified', () => {
  const answerTo = async (it: ReturnType<typeof gateway>, source: string) => {
    const begun = performance.now()
    const response = await it.send(source, BODY, { ...delivery(BODY), 'x-hub-signature-256': hmac('another') })
    const { requestId: _, ...document } = (await response.json()) as Record<string, unknown>
    const headers = Object.fromEntries([...response.headers].filter(([name]) => name !== 'x-request-id'))
    return { ms: performance.now() - begun, answer: { status: response.status, headers, document } }
  }

  test('is answered alike, and after the same time, whether the source exists or the signature is wrong', async () => {
    const it = github({ refusedAfterMs: REFUSED_AFTER_MS })
    const times: Record<string, number[]> = { gh: [], nobody: [] }
    for (let round = 0; round < 5; round++)
      for (const source of ['gh', 'nobody']) times[source]?.push((await answerTo(it, source)).ms)
    expect((await answerTo(it, 'gh')).answer).toEqual((await answerTo(it, 'nobody')).answer)
    // Sooner, it would have been told by the work.
    for (const all of Object.values(times)) expect(Math.min(...all)).toBeGreaterThanOrEqual(45)
    expect(it.events()).toEqual([])
  })

  test('is in the log with its reason, and counted', async () => {
    const it = github()
    await answerTo(it, 'gh')
    await answerTo(it, 'nobody')
    await it.send('gh', BODY)
    const refused = it.logged.filter((line) => line['status'] === 401)
    expect(refused.map(({ source, reason, because }) => [source, reason, because])).toEqual([
      ['gh', 'wrong', 'X-Hub-Signature-256 fits none of the secrets'],
      [undefined, 'wrong', 'no source "nobody" is declared'],
      ['gh', 'unsigned', 'X-Hub-Signature-256 is missing'],
    ])
    expect([await counted(it, of('wrong')), await counted(it, of('unsigned'))]).toEqual([1, 1])
    expect(await counted(it, of('wrong', '', ''))).toBe(1)
    expect(await counted(it, of('taken'))).toBe(0)
    expect(JSON.stringify(it.logged)).not.toContain(SECRET)
  })

  test('of one source keeps no webhooks of another out, however much it announces and however slow it is', async () => {
    const limits = { MAX_IN_FLIGHT_REQUESTS: 20, MAX_IN_FLIGHT_BYTES: 8 * 1024 * 1024 }
    const it = gateway({ gh: GITHUB, other: GITHUB }, { config: limits })
    const slow = Array.from({ length: 20 }, () => {
      const body = new ReadableStream({ start: (to) => to.enqueue(new TextEncoder().encode('{')) })
      return it.app.request('/v1/sources/gh', { method: 'POST', body, headers: { 'content-length': '4000000' } })
    })
    await until(() => it.gate.level.requests >= 10, { what: 'the slow ones to be inside' })
    expect((await it.send('other', BODY, delivery(BODY))).status).toBe(202)
    expect(it.gate.level.bytes).toBeLessThan(1_000_000)
    void Promise.allSettled(slow)
  })

  test('costs its tenant no quota, and holds at most half of the room', async () => {
    const it = github({
      tenant: { quota: { eventsPerSecond: 1, burstEvents: 1 } },
      refusedAfterMs: REFUSED_AFTER_MS,
      config: { MAX_IN_FLIGHT_REQUESTS: 4 },
    })
    const forged = Array.from({ length: 4 }, () => answerTo(it, 'gh'))
    expect((await Promise.all(forged)).map(({ answer }) => answer.status).sort()).toEqual([401, 401, 503, 503])
    expect((await it.send('gh', BODY, delivery(BODY))).status).toBe(202)
    const over = await it.send('gh', BODY, delivery(BODY))
    expect(await over.json()).toMatchObject({ status: 503, type: 'urn:kafkatrace:problem:webhook-over-quota' })
    expect(it.gate.level).toEqual({ requests: 0, bytes: 0 })
  })

  test('is refused, too, when its kind throws, with what it throws in the log', async () => {
    const it = opened({
      verify() {
        throw new TypeError('undefined is not an object')
      },
    })
    expect((await it.send('it', '{"id":"1"}')).status).toBe(401)
    expect(it.logged.find(({ level }) => level === 50)).toMatchObject({ msg: 'the kind open failed to verify' })
    expect(it.events()).toEqual([])
  })

  test.each([[undefined], [{}], [{ ok: 'yes' }], [{ ok: false, reason: 'whatever' }]])(
    'is refused when its kind returns %p, which is no verdict',
    async (verdict) => {
      const it = opened({ verify: () => verdict as never })
      expect([(await it.send('it', '{"id":"1"}')).status, it.events()]).toEqual([401, []])
    },
  )

  test('is answered 503 when the kind cannot say, or not in time', async () => {
    const cannot = opened({ verify: () => ({ ok: false, reason: 'unavailable', detail: 'no certificate' }) })
    const response = await cannot.send('it', '{"id":"1"}')
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '1'])
    // Who sends is not told why.
    expect(await response.text()).not.toContain('certificate')
    expect(cannot.logged).toContainEqual(
      expect.objectContaining({ level: 40, because: 'no certificate', source: 'it' }),
    )
    const never = opened({ timeoutMs: 100, verify: () => new Promise(() => {}) })
    expect((await never.send('it', '{"id":"1"}')).status).toBe(503)
    expect([cannot.events(), never.events()]).toEqual([[], []])
  })
})

describe('what is verified', () => {
  test('holds its tenant’s room, and the tenant may be switched off', async () => {
    const it = github({ tenant: { enabled: false } })
    const response = await it.send('gh', BODY, delivery(BODY))
    expect([response.status, it.events()]).toEqual([403, []])
  })

  test('has its source on its record', async () => {
    const it = gateway({ one: GITHUB, two: GITHUB })
    for (const name of ['one', 'two']) await it.send(name, BODY, delivery(BODY))
    expect(it.origins().sort()).toEqual(['one', 'two'])
  })

  test('takes its subject from where the declaration says, whatever the number', async () => {
    const it = github({}, { subject: '/repository/id' })
    expect((await it.send('gh', BODY, delivery(BODY))).status).toBe(202)
    expect(it.events()).toMatchObject([{ subject: '9007199254740993', key: '9007199254740993', data: BODY }])
    const none = github({}, { subject: '/nothing' })
    await none.send('gh', BODY, delivery(BODY))
    expect(none.events()).toMatchObject([{ key: null }])
  })

  test('without an id is answered 422 with the fault, and is not stored', async () => {
    const it = github()
    const { 'x-github-delivery': _, ...headers } = delivery(BODY)
    const response = await it.send('gh', BODY, headers)
    expect(response.status).toBe(422)
    expect(await response.json()).toMatchObject({ errors: [{ pointer: '/id', detail: 'is required' }] })
    expect([it.events(), await counted(it, of('refused'))]).toEqual([[], 1])
  })

  test('is stored without an optional attribute that cannot be one', async () => {
    const identify = (): Identity => ({
      id: '1',
      type: 't',
      source: 'no uri',
      subject: 'line\nfeed',
      time: 'yesterday',
    })
    const it = opened({ identify })
    expect((await it.send('it', '{}')).status).toBe(202)
    const [event] = it.events()
    expect(event).toMatchObject({ source: 'urn:kafkatrace:source:it', key: null })
    expect([event?.subject, event?.time]).toEqual([undefined, undefined])
  })

  test.each([
    ['no JSON', 'not JSON', 400],
    ['nothing', '', 400],
    ['no UTF-8', Buffer.from([0x7b, 0xff, 0x7d]), 400],
    ['nested too deeply', `${'['.repeat(65)}${']'.repeat(65)}`, 413],
  ] as const)('but has a body of %s is refused', async (_, body, status) => {
    const it = github()
    expect((await it.send('gh', body, delivery(body))).status).toBe(status)
    expect(it.events()).toEqual([])
  })

  test('may be compressed: signed is what was compressed', async () => {
    const it = github()
    const gzip = Bun.gzipSync(Buffer.from(BODY))
    expect((await it.send('gh', gzip, { ...delivery(BODY), 'content-encoding': 'gzip' })).status).toBe(202)
    expect(it.events()).toMatchObject([{ data: BODY }])
  })

  test('is refused by its kind’s failure to read it, without a 500', async () => {
    const it = opened({
      identify() {
        throw new TypeError('undefined is not an object')
      },
    })
    expect((await it.send('it', '{}')).status).toBe(422)
    expect(it.logged.find(({ level }) => level === 50)).toMatchObject({
      msg: 'the kind open failed to identify a webhook',
    })
  })

  test('whose kind gives numbers for strings is refused, and not by a 500', async () => {
    const it = opened({ identify: () => ({ id: 7, type: 't', subject: 8 }) as never })
    const response = await it.send('it', '{}')
    expect([response.status, await response.json()]).toMatchObject([422, { errors: [{ pointer: '/id' }] }])
  })

  test('may have several events, which are stored together or not at all', async () => {
    const identify = ({ json }: Webhook): Identity[] =>
      Array.from({ length: json.count('/all') }, (_, index) => ({
        id: json.text(`/all/${index}/id`),
        type: 't',
        data: json.json(`/all/${index}`),
      }))
    const it = opened({ identify })
    expect((await it.send('it', '{"all":[{"id":"1"},{"id":2}]}')).status).toBe(202)
    expect(it.events().map(({ id, data }) => [id, data])).toEqual([
      ['1', '{"id":"1"}'],
      ['2', '{"id":2}'],
    ])
    const wrong = await it.send('it', '{"all":[{"id":"3"},{}]}')
    expect([wrong.status, await wrong.json()]).toMatchObject([422, { errors: [{ pointer: '/1/id' }] }])
    expect(it.events()).toHaveLength(2)
  })
})

describe('forms', () => {
  const form = (text: string) => {
    const it = opened({ identify: () => ({ id: '1', type: 't' }) })
    const sent = it.send('it', text, { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' })
    return sent.then(({ status }) => ({ status, event: it.events()[0] }))
  }

  test('become JSON, and are kept beside it as they came', async () => {
    const { event } = await form('From=%2B49&Body=a+b%26&Media=1&Media=2&__proto__=x&empty')
    expect(event?.form).toBe('From=%2B49&Body=a+b%26&Media=1&Media=2&__proto__=x&empty')
    expect(event?.data).toBe('{"From":"+49","Body":"a b&","Media":["1","2"],"__proto__":"x","empty":""}')
  })

  test('that are only a payload become its content, byte for byte', async () => {
    const { event } = await form(`payload=${encodeURIComponent('{"n": 9007199254740993}')}`)
    expect(event?.data).toBe('{"n": 9007199254740993}')
    expect((await form('payload=1&payload=2')).event?.data).toBe('{"payload":["1","2"]}')
    expect((await form('payload=no+JSON')).status).toBe(400)
  })

  test('with very many fields are refused before any is read', async () => {
    const begun = performance.now()
    expect((await form('a&'.repeat(2_000_000))).status).toBe(413)
    expect(performance.now() - begun).toBeLessThan(1_000)
  })

  test('any form has the fields that URLSearchParams reads', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' })), { maxLength: 8 }),
        async (pairs) => {
          const text = new URLSearchParams([...pairs, ['last', '1']]).toString()
          const { event } = await form(text)
          const parsed = new URLSearchParams(text)
          const read = JSON.parse(event?.data ?? '') as Record<string, string | string[]>
          for (const name of new Set(parsed.keys())) {
            const value = Object.getOwnPropertyDescriptor(read, name)?.value as string | string[]
            expect([value].flat()).toEqual(parsed.getAll(name))
          }
          expect(event?.form).toBe(text)
        },
      ),
      { numRuns: 50 },
    )
  })
})

describe('trouble', () => {
  test('Kafka that does not acknowledge in the sender’s time: 503, and it is counted when it is stored after all', async () => {
    const it = opened({ timeoutMs: 250 })
    const hold = Promise.withResolvers<void>()
    it.kafka.hold = hold.promise
    const begun = performance.now()
    const response = await it.send('it', '{"id":"1"}')
    expect(performance.now() - begun).toBeLessThan(1_500)
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '1'])
    expect(await response.json()).toMatchObject({ outcome: 'unknown' })
    // Until then its bytes are in memory.
    expect(it.gate.level.requests).toBe(1)
    hold.resolve()
    await until(() => it.gate.level.requests === 0, { what: 'the request to end' })
    expect(it.events()).toHaveLength(1)
    expect(await counted(it, of('unavailable', 'it'))).toBe(1)
    expect(await it.metrics.registry.metrics()).toContain(
      'kafkatrace_producer_events_total{tenant="acme",stream="hooks",outcome="stored"} 1',
    )
  })

  test('the log says since when webhooks were answered 503, how many, and when they are taken again', async () => {
    const it = github()
    it.kafka.connection = { state: 'connecting', reason: 'gone' }
    for (let times = 0; times < 3; times++) expect((await it.send('gh', BODY, delivery(BODY))).status).toBe(503)
    it.kafka.connection = { state: 'connected' }
    for (let times = 0; times < 2; times++) await it.send('gh', BODY, delivery(BODY))
    const told = it.logged.filter(({ level }) => level === 40)
    expect(told).toMatchObject([
      { source: 'gh', msg: 'webhooks are answered 503 from now on: their sender may not send them again' },
      { source: 'gh', since: new Date(it.clock.nowMs).toISOString(), webhooks: 3, msg: 'webhooks are taken again' },
    ])
  })

  test('Kafka that refuses: 503 with what became of it', async () => {
    const it = opened({})
    it.kafka.produceFaults.push(new ProduceError('unavailable', 'not stored', 'not now'))
    const response = await it.send('it', '{"id":"1"}')
    expect([response.status, it.events()]).toEqual([503, []])
  })

  test('a service that is full, or stopping: 503 with Retry-After', async () => {
    const it = github({ config: { MAX_IN_FLIGHT_REQUESTS: 1 } })
    await it.gate.shut()
    const response = await it.send('gh', BODY, delivery(BODY))
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '1'])
  })
})

describe('the answer', () => {
  test('is as the kind has it, once the events are stored', async () => {
    const respond = () => ({ status: 200, headers: { 'content-type': 'text/xml' }, body: '<Response/>' })
    const it = opened({ respond })
    const response = await it.send('it', '{"id":"1"}')
    expect([response.status, response.headers.get('content-type'), await response.text()]).toEqual([
      200,
      'text/xml',
      '<Response/>',
    ])
    expect(it.events()).toHaveLength(1)
  })

  test('is given, too, where there is no event; without one of the kind it is 200', async () => {
    const challenge: Partial<SourceKind> = { identify: () => undefined }
    const it = opened({ ...challenge, respond: ({ json }) => ({ status: 200, body: json.text('/challenge') ?? '' }) })
    expect(await (await it.send('it', '{"challenge":"abc"}')).text()).toBe('abc')
    const plain = opened(challenge)
    expect((await plain.send('it', '{}')).status).toBe(200)
    expect([it.events(), plain.events()]).toEqual([[], []])
  })

  test.each([
    ['fails', () => Promise.reject(new Error('no'))],
    ['has a status that is none', () => ({ status: 7 })],
    ['is nothing', () => undefined as never],
  ])('has the receipts when the kind’s own %s: the events are stored', async (_, respond) => {
    const it = opened({ respond })
    const response = await it.send('it', '{"id":"1"}')
    expect([response.status, it.events().length]).toEqual([202, 1])
  })

  test('to another method is 405, and nothing but POST has an effect', async () => {
    const it = github()
    const response = await it.app.request('/v1/sources/gh')
    expect([response.status, response.headers.get('allow')]).toEqual([405, 'POST'])
  })
})

test('whatever is sent, no answer is a 5xx, and nothing is stored unsigned', async () => {
  const signedToo = defineKind({
    name: 'open',
    timeoutMs: 1_000,
    options: {},
    verify: (webhook) => (webhook.header('x-ok') === undefined ? unsigned('no x-ok') : OK),
    identify: ({ json, headers }) => ({ id: json.text('/id'), type: headers.get('x-type') ?? undefined }),
  })
  const it = gateway({ gh: GITHUB, it: { kind: 'open' } }, { kinds: [signedToo, githubKind] })
  const token = fc.string({ maxLength: 40 }).map((text) => text.replace(/[^\x21-\x7e]/g, ''))
  const request = fc.record({
    source: fc.constantFrom('gh', 'it', 'nobody'),
    body: fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc.json().map((text) => Buffer.from(text)),
    ),
    headers: fc.dictionary(
      fc.constantFrom('content-type', 'x-github-event', 'x-github-delivery', 'x-hub-signature-256', 'x-ok', 'x-type'),
      token,
    ),
    isSigned: fc.boolean(),
  })
  await fc.assert(
    // Several at a time, since one that is refused is answered later.
    fc.asyncProperty(fc.array(request, { minLength: 20, maxLength: 20 }), async (requests) => {
      const before = it.events().length
      const statuses = await Promise.all(
        requests.map(async ({ source, body, headers, isSigned }) => {
          const signature = isSigned ? { 'x-hub-signature-256': hmac(body) } : {}
          const { status } = await it.send(source, body, { ...headers, ...signature })
          expect(status).toBeLessThan(500)
          const isVerified = source === 'gh' ? isSigned : source === 'it' && (headers['x-ok'] ?? '') !== ''
          expect(status === 401).toBe(!isVerified)
          return status
        }),
      )
      expect(it.events().length - before).toBe(statuses.filter((status) => status < 300).length)
    }),
    { numRuns: 20 },
  )
}, 30_000)
