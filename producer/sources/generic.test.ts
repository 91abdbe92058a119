import { describe, expect, test } from 'bun:test'
import { createHash, createHmac } from 'node:crypto'
import { gateway, SECRETS, testSigned } from '../testing/gateway.ts'

const [SECRET] = SECRETS
type Algorithm = 'sha1' | 'sha256' | 'sha512'
type Encoding = 'hex' | 'base64' | 'base64url'
const hmac = (text: string, secret: string, algorithm: Algorithm = 'sha256', encoding: Encoding = 'hex'): string =>
  createHmac(algorithm, secret).update(text).digest(encoding)

// The declarations are those of docs/sources/generic.md.
const LINEAR = {
  kind: 'generic',
  signature: { header: 'Linear-Signature', algorithm: 'sha256', encoding: 'hex' },
  fields: {
    id: '{header:Linear-Delivery}',
    type: 'com.linear.{/type}.{/action}',
    source: 'https://linear.app',
    time: '{/createdAt}',
  },
  subject: '/data/id',
}
const ISSUE = JSON.stringify({
  action: 'update',
  type: 'Issue',
  createdAt: '2026-01-23T12:53:18.084Z',
  data: { id: '539068e2-ae88-4d09-bd75-22eb4a59612f', title: 'Broken', number: 1 },
  url: 'https://linear.app/acme/issue/ACM-12',
  organizationId: '3d0a2f4b-1ea6-4a0e-a2ea-c0b1b0d3b1f7',
  webhookTimestamp: 1769172798084,
  webhookId: '000042e3-d123-4980-b49f-8e140eef9329',
})
const DELIVERY = { 'linear-delivery': '234d1a4e-b617-4388-90fe-adc3633d6b72', 'linear-event': 'Issue' }

const ZENDESK = {
  kind: 'generic',
  signature: { header: 'X-Zendesk-Webhook-Signature', algorithm: 'sha256', encoding: 'base64' },
  timestamp: { header: 'X-Zendesk-Webhook-Signature-Timestamp', signed: '{timestamp}{body}' },
  fields: { id: '{/id}', type: 'com.zendesk.{/type}', time: '{/time}' },
  subject: '/subject',
}
const TICKET = JSON.stringify({
  account_id: 12514403,
  detail: { id: '6596848315901', status: 'OPEN' },
  event: {},
  id: 'cbe4028c-7239-495d-b020-f22348516046',
  subject: 'zen:ticket:6596848315901',
  time: '2026-01-23T12:53:18Z',
  type: 'zen:event-type:ticket.created',
  zendesk_event_version: '2022-11-06',
})
const signZendesk = (body: string, secret: string, nowMs: number) => {
  const time = `${new Date(nowMs).toISOString().slice(0, 19)}Z`
  return {
    'x-zendesk-webhook-signature': hmac(time + body, secret, 'sha256', 'base64'),
    'x-zendesk-webhook-signature-timestamp': time,
  }
}

const TYPEFORM = {
  kind: 'generic',
  signature: { header: 'Typeform-Signature', algorithm: 'sha256', encoding: 'base64', prefix: 'sha256=' },
  fields: { id: '{/event_id}', type: 'com.typeform.{/event_type}', time: '{/form_response/submitted_at}' },
  subject: '/form_response/form_id',
}
const RESPONSE = JSON.stringify({
  event_id: 'LtWXD3crgy',
  event_type: 'form_response',
  form_response: {
    form_id: 'lT4Z3j',
    token: 'a3a12ec67a1365927098a606107fac15',
    submitted_at: '2026-01-18T18:17:02Z',
    answers: [{ type: 'number', number: 1, field: { id: 'DlXFaesGBpoF', type: 'number' } }],
  },
})

const TIMED = {
  kind: 'generic',
  signature: { header: 'X-Signature', algorithm: 'sha512', encoding: 'base64url', prefix: 'v1=' },
  timestamp: { header: 'X-Timestamp', signed: 'v1:{body}:{timestamp}' },
  fields: { type: 'com.example.thing' },
}
const signTimed = (body: string, secret: string, nowMs: number, time = String(Math.floor(nowMs / 1_000))) => ({
  'x-signature': `v1=${hmac(`v1:${body}:${time}`, secret, 'sha512', 'base64url')}`,
  'x-timestamp': time,
})

describe('a sender like Linear: hex, of the body alone', () => {
  testSigned({
    declare: (secrets) => ({ ...LINEAR, secrets }),
    headers: DELIVERY,
    body: ISSUE,
    sign: (body, secret) => ({ 'linear-signature': hmac(body, secret) }),
    isTimed: false,
    status: 200,
  })

  test('attributes are made of the body and of header fields', async () => {
    const { send, events } = gateway({ linear: { ...LINEAR, secrets: [SECRET] } })
    expect((await send('linear', ISSUE, { ...DELIVERY, 'linear-signature': hmac(ISSUE, SECRET) })).status).toBe(200)
    expect(events()).toEqual([
      {
        id: '234d1a4e-b617-4388-90fe-adc3633d6b72',
        type: 'com.linear.Issue.update',
        source: 'https://linear.app',
        subject: '539068e2-ae88-4d09-bd75-22eb4a59612f',
        key: '539068e2-ae88-4d09-bd75-22eb4a59612f',
        time: '2026-01-23T12:53:18.084Z',
        datacontenttype: 'application/json',
        data: ISSUE,
        form: undefined,
      },
    ])
  })
})

describe('a sender like Zendesk: base64, of an RFC 3339 time and the body', () => {
  testSigned({
    declare: (secrets) => ({ ...ZENDESK, secrets }),
    body: TICKET,
    sign: signZendesk,
    isTimed: true,
    status: 200,
  })

  test('its events', async () => {
    const { send, events, clock } = gateway({ zd: { ...ZENDESK, secrets: [SECRET] } })
    expect((await send('zd', TICKET, signZendesk(TICKET, SECRET, clock.nowMs))).status).toBe(200)
    expect(events()).toMatchObject([
      {
        id: 'cbe4028c-7239-495d-b020-f22348516046',
        type: 'com.zendesk.zen:event-type:ticket.created',
        source: 'urn:kafkatrace:source:zd',
        subject: 'zen:ticket:6596848315901',
        time: '2026-01-23T12:53:18Z',
        data: TICKET,
      },
    ])
  })
})

describe('a sender like Typeform: base64 with a prefix', () => {
  testSigned({
    declare: (secrets) => ({ ...TYPEFORM, secrets }),
    body: RESPONSE,
    sign: (body, secret) => ({ 'typeform-signature': `sha256=${hmac(body, secret, 'sha256', 'base64')}` }),
    isTimed: false,
    status: 200,
  })

  test('its events', async () => {
    const { send, events } = gateway({ tf: { ...TYPEFORM, secrets: [SECRET] } })
    const signature = { 'typeform-signature': `sha256=${hmac(RESPONSE, SECRET, 'sha256', 'base64')}` }
    expect((await send('tf', RESPONSE, signature)).status).toBe(200)
    expect(events()).toMatchObject([
      { id: 'LtWXD3crgy', type: 'com.typeform.form_response', subject: 'lT4Z3j', time: '2026-01-18T18:17:02Z' },
    ])
  })
})

describe('a sender with a Unix time', () => {
  testSigned({
    declare: (secrets) => ({ ...TIMED, secrets }),
    body: ISSUE,
    sign: signTimed,
    isTimed: true,
    status: 200,
  })

  test('milliseconds are taken as well, and the tolerance is the declaration’s', async () => {
    const { send, events, clock } = gateway({
      strict: { ...TIMED, timestamp: { ...TIMED.timestamp, toleranceSeconds: 10 }, secrets: [SECRET] },
    })
    const signed = (offMs: number) => signTimed(ISSUE, SECRET, 0, String(clock.nowMs + offMs))
    for (const [off, status] of [
      [0, 200],
      [-9_000, 200],
      [-12_000, 401],
      [12_000, 401],
    ] as const)
      expect((await send('strict', ISSUE, signed(off))).status).toBe(status)
    expect(events().length).toBe(2)
  })

  test('a time that is none, missing, empty, given twice or not the signed one is refused', async () => {
    const { send, events, logged, clock } = gateway({ it: { ...TIMED, secrets: [SECRET] } })
    const seconds = String(Math.floor(clock.nowMs / 1_000))
    const good = signTimed(ISSUE, SECRET, clock.nowMs)
    for (const [headers, reason] of [
      [signTimed(ISSUE, SECRET, 0, 'now'), 'wrong'],
      [signTimed(ISSUE, SECRET, 0, `${seconds}.5`), 'wrong'],
      [signTimed(ISSUE, SECRET, 0, `-${seconds}`), 'wrong'],
      [signTimed(ISSUE, SECRET, 0, '0'), 'stale'],
      [signTimed(ISSUE, SECRET, 0, `${seconds}, ${seconds}`), 'wrong'],
      [signTimed(ISSUE, SECRET, 0, '2026-02-30T00:00:00Z'), 'wrong'],
      [{ 'x-signature': good['x-signature'] }, 'unsigned'],
      [{ ...good, 'x-timestamp': '' }, 'unsigned'],
      [{ ...good, 'x-timestamp': String(Number(seconds) + 1) }, 'wrong'],
      [{ 'x-timestamp': good['x-timestamp'] }, 'unsigned'],
      [{ ...good, 'x-signature': '' }, 'unsigned'],
      [{ ...good, 'x-signature': 'v1=' }, 'wrong'],
      [{ ...good, 'x-signature': good['x-signature'].slice(3) }, 'wrong'],
      [{ ...good, 'x-signature': `${good['x-signature']}, ${good['x-signature']}` }, 'wrong'],
      [{ ...good, 'x-signature': `v1=${'x'.repeat(10_000)}` }, 'wrong'],
    ] as const) {
      logged.length = 0
      expect((await send('it', ISSUE, headers)).status).toBe(401)
      expect(logged.find((line) => line['status'] === 401)).toMatchObject({ reason })
    }
    expect(events()).toEqual([])
  })
})

// RFC 2202, section 3, and RFC 4231, section 4.2: test case 1. The key is 20 bytes 0x0b.
describe('the published HMACs', () => {
  const VECTORS: [Algorithm, string][] = [
    ['sha1', 'b617318655057264e28bc0b6fb378c8ef146be00'],
    ['sha256', 'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7'],
    [
      'sha512',
      '87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854',
    ],
  ]
  for (const [algorithm, digest] of VECTORS)
    for (const encoding of ['hex', 'base64', 'base64url'] as const)
      test(`${algorithm} in ${encoding} is taken, though its text is no JSON`, async () => {
        const signature = { header: 'X-Signature', algorithm, encoding }
        const it = gateway({
          it: { kind: 'generic', secrets: ['\x0b'.repeat(20)], signature, fields: { type: 'com.example.thing' } },
        })
        const given = Buffer.from(digest, 'hex').toString(encoding)
        expect((await it.send('it', 'Hi There', { 'x-signature': given })).status).toBe(400)
        expect((await it.send('it', 'Hi there', { 'x-signature': given })).status).toBe(401)
        expect(it.events()).toEqual([])
      })
})

describe('fields', () => {
  const declared = (fields: object) => ({
    it: { kind: 'generic', secrets: [SECRET], signature: LINEAR.signature, fields },
  })
  const signed = (body: string) => ({ 'linear-signature': hmac(body, SECRET) })

  test('without an id it is the hash of the body, which is the same when it comes again', async () => {
    const { send, events } = gateway(declared({ type: 'com.example.thing' }))
    for (const body of ['{"a":1}', '{"a":1}', '{"a":1} ']) await send('it', body, signed(body))
    const id = (body: string) => createHash('sha256').update(body).digest('hex')
    expect(
      events()
        .map((event) => event.id)
        .toSorted(),
    ).toEqual([id('{"a":1}'), id('{"a":1}'), id('{"a":1} ')].toSorted())
  })

  test('an id that is a number beyond 2^53 stays as it is written', async () => {
    const { send, events } = gateway(declared({ id: '{/account/id}-{/n}', type: '{/a~1b}', source: 'urn:x:{/n}' }))
    const body = '{"account":{"id":12345678901234567891},"n":12345678901234567892,"a/b":"t"}'
    expect((await send('it', body, signed(body))).status).toBe(200)
    expect(events()).toMatchObject([
      { id: '12345678901234567891-12345678901234567892', type: 't', source: 'urn:x:12345678901234567892' },
    ])
  })

  test('an id or a type that is not there is refused; a source and a time are left out', async () => {
    const { send, events } = gateway(
      declared({ id: '{/id}', type: 'com.example.{header:X-Event}', source: 'urn:x:{/source}', time: '{/time}' }),
    )
    const post = async (body: string, headers: Record<string, string> = { 'x-event': 'e' }) =>
      (await send('it', body, { ...signed(body), ...headers })).status
    for (const body of [
      '{}',
      '{"id":""}',
      '{"id":null}',
      '{"id":{}}',
      '{"id":[1]}',
      '[]',
      '7',
      `{"id":"${'x'.repeat(20_000)}"}`,
    ])
      expect(await post(body)).toBe(422)
    for (const body of ['', 'x', '{"id":', '{"id":1,"id":2}', '\xff']) expect(await post(body)).toBe(400)
    expect(await post('{"id":"i"}', {})).toBe(422)
    expect(await post('{"id":"i"}', { 'x-event': '' })).toBe(422)
    expect(await post(`${'['.repeat(1_000)}${']'.repeat(1_000)}`)).toBe(413)
    expect(events()).toEqual([])
    expect(await post('{"id":"i","time":"today","source":{}}')).toBe(200)
    expect(events()).toMatchObject([{ id: 'i', type: 'com.example.e', source: 'urn:kafkatrace:source:it' }])
    expect(events()[0]).not.toHaveProperty('time')
  })

  test('what a body has is not read as a place', async () => {
    const { send, events } = gateway(declared({ id: '{/id}', type: 't' }))
    const body = '{"id":"{/secret}$& $1","secret":"s"}'
    expect((await send('it', body, signed(body))).status).toBe(200)
    expect(events()).toMatchObject([{ id: '{/secret}$& $1' }])
  })
})

test('declarations that could not be safe or right are faults', () => {
  const good = { ...ZENDESK, secrets: [SECRET] }
  gateway({ it: good })
  for (const bad of [
    { secrets: [] },
    { secrets: ['short'] },
    { signature: undefined },
    { signature: { ...ZENDESK.signature, algorithm: 'md5' } },
    { signature: { ...ZENDESK.signature, encoding: 'utf8' } },
    { signature: { ...ZENDESK.signature, header: '' } },
    { signature: { ...ZENDESK.signature, more: 1 } },
    { timestamp: { ...ZENDESK.timestamp, signed: '{body}' } },
    { timestamp: { ...ZENDESK.timestamp, signed: '{timestamp}' } },
    { timestamp: { ...ZENDESK.timestamp, signed: '{timestamp}.{body}.{id}' } },
    { timestamp: { header: 'X-Time' } },
    { timestamp: { ...ZENDESK.timestamp, toleranceSeconds: 0 } },
    { fields: {} },
    { fields: { type: '' } },
    { fields: { type: '{type}' } },
    { fields: { type: '{/type' } },
    { fields: { type: '{header:}' } },
    { fields: { type: 't', subject: '{/s}' } },
  ])
    expect(() => gateway({ it: { ...good, ...bad } })).toThrow()
})
