import { describe, expect, test } from 'bun:test'
import { Webhook } from 'standardwebhooks'
import { type Declaration, gateway, SECRETS, testSigned } from '../testing/gateway.ts'

const whsec = (secret: string): string => `whsec_${Buffer.from(secret).toString('base64')}`
const [OLD, FRESH] = SECRETS.map(whsec) as [string, string]

const ID = 'msg_2KWPBgLlAfxdpx2AI54pPJ85f4W'
const secondsOf = (ms: number): string => String(Math.floor(ms / 1_000))

/** By the specification's own library. */
const signatureOf = (body: string, secret: string, nowMs: number, id = ID): string =>
  new Webhook(secret).sign(id, new Date(nowMs), body)

const signed = (body: string, nowMs: number, { id = ID, prefix = 'webhook', secret = OLD } = {}) => ({
  [`${prefix}-id`]: id,
  [`${prefix}-timestamp`]: secondsOf(nowMs),
  [`${prefix}-signature`]: signatureOf(body, secret, nowMs, id),
})

const source = (more: Partial<Declaration> = {}) =>
  gateway({ it: { kind: 'standard', secrets: [OLD], ...more } as Declaration })

/** The specification's example of a payload. */
const CONTACT =
  '{"type":"contact.created","timestamp":"2022-11-03T20:26:10.344522Z","data":{"id":"1f81eb52-5198-4599-803e-771906343485"}}'

describe('Standard Webhooks', () => {
  testSigned({
    declare: (secrets) => ({ kind: 'standard', secrets: secrets.map(whsec) }),
    headers: { 'webhook-id': ID },
    body: CONTACT,
    sign: (body, secret, nowMs) => ({
      'webhook-timestamp': secondsOf(nowMs),
      'webhook-signature': signatureOf(body, whsec(secret), nowMs),
    }),
    isTimed: true,
  })

  // The test of `sign` in each of the specification's libraries, and docs.svix.com, "How to Verify Webhooks".
  test.each(['webhook', 'svix'])('the published signature is taken, under the names %s-…', async (prefix) => {
    const { send, events, clock } = source({ secrets: ['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'] })
    clock.nowMs = 1_614_265_330_000
    const response = await send('it', '{"test": 2432232314}', {
      [`${prefix}-id`]: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
      [`${prefix}-timestamp`]: '1614265330',
      [`${prefix}-signature`]: 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
    })
    expect(response.status).toBe(202)
    expect(events()).toMatchObject([{ id: 'msg_p5jXN8AQM9LWM0D4loKWxJek', data: '{"test": 2432232314}' }])
  })

  test('the event has the message id, the time and the type of the payload, whose bytes are kept', async () => {
    const { send, events, clock } = source()
    expect((await send('it', CONTACT, signed(CONTACT, clock.nowMs))).status).toBe(202)
    expect(events()).toEqual([
      {
        id: ID,
        type: 'com.standardwebhooks.contact.created',
        source: 'urn:kafkatrace:source:it',
        subject: '1f81eb52-5198-4599-803e-771906343485',
        key: '1f81eb52-5198-4599-803e-771906343485',
        time: '2022-11-03T20:26:10.344522Z',
        datacontenttype: 'application/json',
        data: CONTACT,
        form: undefined,
      },
    ])
  })

  // Shapes as the senders document them.
  test.each([
    [
      'Clerk',
      '{"data":{"id":"user_29w83sxmDNGwOuEthce5gg56FcC","object":"user","created_at":1654012591514},"instance_id":"ins_123","object":"event","timestamp":1654012591835,"type":"user.created"}',
      { type: 'com.standardwebhooks.user.created', subject: 'user_29w83sxmDNGwOuEthce5gg56FcC' },
    ],
    [
      'Resend',
      '{"type":"email.sent","created_at":"2024-02-22T23:41:12.126Z","data":{"created_at":"2024-02-22T23:41:11.894719+00:00","email_id":"56761188-7520-42d8-8898-ff6fc54ce618","to":["delivered@resend.dev"]}}',
      { type: 'com.standardwebhooks.email.sent', time: '2024-02-22T23:41:12.126Z' },
    ],
    [
      'OpenAI',
      '{"object":"event","id":"evt_685343a1381c819085d44c354e1b330e","type":"response.completed","created_at":1750287018,"data":{"id":"resp_abc123"}}',
      { type: 'com.standardwebhooks.response.completed', subject: 'resp_abc123' },
    ],
    [
      'Replicate, which has no type',
      '{"id":"ufawqhfynnddngldkgtslldrkq","created_at":"2022-04-26T22:13:06.224088Z","status":"starting","input":{"text":"Alice"},"output":null}',
      { type: 'com.standardwebhooks.webhook', time: '2022-04-26T22:13:06.224088Z' },
    ],
  ])('an event of %s', async (_, body, expected) => {
    const { send, events, clock } = source()
    expect((await send('it', body, signed(body, clock.nowMs))).status).toBe(202)
    const [event] = events()
    expect(event).toMatchObject({ id: ID, data: body, ...expected })
    if (!('time' in expected)) expect(event).not.toHaveProperty('time')
  })

  test('an id beyond 2^53 is the subject as it is written, and a declaration can take another one', async () => {
    const body = '{"type":"a.b","data":{"id":12345678901234567890,"email_id":"e-1"}}'
    for (const [subject, expected] of [
      [undefined, '12345678901234567890'],
      ['/data/email_id', 'e-1'],
    ]) {
      const { send, events, clock } = source(subject === undefined ? {} : { subject })
      expect((await send('it', body, signed(body, clock.nowMs))).status).toBe(202)
      expect(events()).toMatchObject([{ subject: expected, key: expected }])
    }
  })

  test('sent again with a new time and signature, it is the same event', async () => {
    const { send, events, clock } = source()
    for (const afterMs of [0, 5_000, 305_000]) {
      clock.nowMs += afterMs
      expect((await send('it', CONTACT, signed(CONTACT, clock.nowMs))).status).toBe(202)
    }
    expect(new Set(events().map(({ source, id }) => `${source} ${id}`)).size).toBe(1)
    expect(events()).toHaveLength(3)
  })

  test('while the sender replaces its secret, one of its signatures is enough', async () => {
    const { send, clock } = source()
    const [fresh, old] = [FRESH, OLD].map((secret) => signatureOf(CONTACT, secret, clock.nowMs))
    const asymmetric = 'v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=='
    for (const [signatures, status] of [
      [`${fresh} ${old}`, 202],
      [`${asymmetric} ${old}`, 202],
      [fresh, 401],
      [asymmetric, 401],
    ] as const) {
      const headers = { ...signed(CONTACT, clock.nowMs), 'webhook-signature': signatures as string }
      expect((await send('it', CONTACT, headers)).status).toBe(status)
    }
  })

  test('what is no list of signatures, or no time, is refused, and so is a header field that is given twice', async () => {
    const { send, events, logged, clock } = source()
    const whole = signed(CONTACT, clock.nowMs)
    const [id, time, signature] = ['id', 'timestamp', 'signature'].map((name) => whole[`webhook-${name}`] as string)
    const cases: [Record<string, string>, string][] = [
      [{ 'webhook-id': '' }, 'unsigned'],
      [{ 'webhook-timestamp': '' }, 'unsigned'],
      [{ 'webhook-signature': '' }, 'unsigned'],
      [{ 'webhook-id': `${id}, ${id}` }, 'wrong'],
      [{ 'webhook-timestamp': `${time}, ${time}` }, 'wrong'],
      [{ 'webhook-timestamp': `${time}.0` }, 'wrong'],
      [{ 'webhook-signature': `${signature}, ${signature}` }, 'wrong'],
      [{ 'webhook-signature': `x ${signature}` }, 'wrong'],
      [{ 'webhook-signature': (signature as string).slice('v1,'.length) }, 'wrong'],
      [{ 'webhook-signature': (signature as string).replace('v1,', 'v2,') }, 'wrong'],
      [{ 'webhook-signature': 'v1,' }, 'wrong'],
    ]
    for (const [change, reason] of cases) {
      logged.length = 0
      expect((await send('it', CONTACT, { ...whole, ...change })).status).toBe(401)
      expect(logged.find((line) => line['status'] === 401)).toMatchObject({ reason })
    }
    expect(events()).toEqual([])
  })

  test('fields of both names are not mixed', async () => {
    const { send, events, clock } = source()
    const headers = {
      ...signed(CONTACT, clock.nowMs, { prefix: 'svix' }),
      'webhook-id': 'another',
      'webhook-timestamp': secondsOf(clock.nowMs),
    }
    expect((await send('it', CONTACT, { ...headers, 'webhook-signature': 'v1,AAAA' })).status).toBe(401)
    expect((await send('it', CONTACT, headers)).status).toBe(202)
    expect(events()).toMatchObject([{ id: ID }])
  })

  test.each([
    ['no JSON', 'hello', false],
    ['nothing', '', false],
    ['another type of type', '{"type":{"a":1},"data":[]}', true],
    ['a type that CloudEvents does not allow', '{"type":"a\\u0000b"}', false],
    ['a type that is too long', `{"type":"${'a'.repeat(20_000)}"}`, false],
    ['a member given twice', '{"type":"a","type":"b"}', false],
    ['an array', '[1]', true],
    ['deep nesting', '['.repeat(10_000), false],
  ] as const)('a signed body with %s is no failure', async (_, body, isTaken) => {
    const { send, events, logged, clock } = source()
    const { status } = await send('it', body, signed(body, clock.nowMs))
    if (isTaken) expect([status, events().length]).toEqual([202, 1])
    else expect([status >= 400 && status < 500, events()]).toEqual([true, []])
    expect(logged.filter((line) => Number(line['level']) >= 50)).toEqual([])
  })

  test('huge header fields are refused', async () => {
    const { send, events, clock } = source()
    const headers = { ...signed(CONTACT, clock.nowMs), 'webhook-signature': 'v1,AAAA '.repeat(20_000) }
    const { status } = await send('it', CONTACT, headers)
    expect([status >= 400 && status < 500, events()]).toEqual([true, []])
  })

  test.each([
    'a-secret-that-is-no-base64-at-all',
    Buffer.from(SECRETS[0]).toString('base64'),
    'whsec_',
    'whsec_c2hvcnQ=',
    `whsec_${'A'.repeat(33)}`,
    `${OLD} `,
    'whpk_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',
  ])('%p is no secret for a declaration', (secret) => {
    const declared = () => source({ secrets: [secret] })
    expect(declared).toThrow('/sources/it/secrets/0')
    let text = ''
    try {
      declared()
    } catch (error) {
      text = String(error)
    }
    if (secret.length > 10) expect(text).not.toContain(secret)
  })
})
