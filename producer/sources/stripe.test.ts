import { describe, expect, test } from 'bun:test'
import { createHmac } from 'node:crypto'
import { gateway, SECRETS, testSigned } from '../testing/gateway.ts'
import { stripe } from './stripe.ts'

const [SECRET, OTHER] = SECRETS

const v1 = (time: number | string, body: string, secret: string): string =>
  `v1=${createHmac('sha256', secret).update(`${time}.${body}`).digest('hex')}`

function sign(body: string, secret: string, nowMs: number) {
  const time = Math.floor(nowMs / 1_000)
  return { 'stripe-signature': `t=${time},${v1(time, body, secret)},v0=${'0'.repeat(64)}` }
}

// docs.stripe.com, "The Event object", shortened.
const SNAPSHOT =
  '{"id":"evt_1NG8Du2eZvKYlo2CUI79vXWy","object":"event","api_version":"2019-02-19","created":1686089970,"data":{"object":{"id":"seti_1NG8Du2eZvKYlo2C9XMqbR0x","object":"setup_intent","created":1686089970}},"livemode":false,"pending_webhooks":0,"request":{"id":null,"idempotency_key":null},"type":"setup_intent.created"}'

// docs.stripe.com, "How events work", "Thin events".
const THIN =
  '{"id":"evt_abc123xyz","object":"v2.core.event","type":"v1.billing.meter.error_report_triggered","livemode":false,"created":"2024-09-17T06:20:52.246Z","related_object":{"id":"mtr_test_123456789","type":"billing.meter","url":"/v1/billing/meters/mtr_test_123456789"}}'

const source = (secrets: readonly string[] = [SECRET]) =>
  gateway({ st: { kind: 'stripe', secrets } }, { kinds: [stripe] })

describe('Stripe', () => {
  testSigned({
    declare: (secrets) => ({ kind: 'stripe', secrets }),
    body: SNAPSHOT,
    sign: (body, secret, nowMs) => {
      const time = Math.floor(nowMs / 1_000)
      return { 'stripe-signature': `t=${time},${v1(time, body, secret)}` }
    },
    isTimed: true,
  })

  test('while a secret is rolled at Stripe, one of its two signatures is enough, in any order', async () => {
    const { send, clock } = source()
    const time = Math.floor(clock.nowMs / 1_000)
    const [mine, other] = [v1(time, SNAPSHOT, SECRET), v1(time, SNAPSHOT, OTHER)]
    for (const header of [`t=${time},${mine},${other}`, `t=${time},${other},${mine}`, `${other},${mine},t=${time}`])
      expect((await send('st', SNAPSHOT, { 'stripe-signature': header })).status).toBe(202)
  })

  test('what is missing, repeated or of another form is refused', async () => {
    const { send, events, clock } = source()
    const time = Math.floor(clock.nowMs / 1_000)
    const signature = v1(time, SNAPSHOT, SECRET)
    const old = time - 3_600
    for (const header of [
      '',
      'bad_header',
      `t=${time}`,
      signature,
      `t=,${signature}`,
      `t=${time},v1=`,
      `t=${time},${signature.replace('v1', 'v0')}`,
      `t=${time},${signature.replace('v1', 'V1')}`,
      `t=${time},t=${time},${signature}`,
      `t=${old},t=${time},${signature}`,
      `t=${time},${signature}, t=${time},${signature}`,
      `t=${time}, ${signature}`,
      `t=${time}.0,${v1(`${time}.0`, SNAPSHOT, SECRET)}`,
      `t=-${time},${v1(`-${time}`, SNAPSHOT, SECRET)}`,
      `t=${time}e0,${v1(`${time}e0`, SNAPSHOT, SECRET)}`,
      `t=${time + 1},${signature}`,
      `t=${time},${'v1=00,'.repeat(1_000)}v1=00`,
      ','.repeat(5_000),
    ])
      expect([header, (await send('st', SNAPSHOT, { 'stripe-signature': header })).status]).toEqual([header, 401])
    expect(events()).toEqual([])
  })

  test('a snapshot event has the id, the type, the time and the object of its body, which is kept byte for byte', async () => {
    const { send, events, clock } = source()
    const response = await send('st', SNAPSHOT, sign(SNAPSHOT, SECRET, clock.nowMs))
    expect(await response.json()).toMatchObject({ receipts: [{ id: 'evt_1NG8Du2eZvKYlo2CUI79vXWy' }] })
    expect(events()).toEqual([
      {
        id: 'evt_1NG8Du2eZvKYlo2CUI79vXWy',
        type: 'com.stripe.setup_intent.created',
        source: 'https://api.stripe.com',
        subject: 'seti_1NG8Du2eZvKYlo2C9XMqbR0x',
        key: 'seti_1NG8Du2eZvKYlo2C9XMqbR0x',
        time: '2023-06-06T22:19:30.000Z',
        datacontenttype: 'application/json',
        data: SNAPSHOT,
        form: undefined,
      },
    ])
  })

  test('a thin event has those of its related object', async () => {
    const { send, events, clock } = source()
    expect((await send('st', THIN, sign(THIN, SECRET, clock.nowMs))).status).toBe(202)
    expect(events()).toMatchObject([
      {
        id: 'evt_abc123xyz',
        type: 'com.stripe.v1.billing.meter.error_report_triggered',
        source: 'https://api.stripe.com',
        subject: 'mtr_test_123456789',
        time: '2024-09-17T06:20:52.246Z',
        data: THIN,
      },
    ])
  })

  test.each([
    // An event of a connected account.
    [
      '{"id":"evt_1","object":"event","account":"acct_1032D82eZvKYlo2C","context":"acct_1032D82eZvKYlo2C","created":1686089970,"livemode":true,"type":"charge.succeeded","data":{"object":{"id":"ch_1","amount":12345678901234567890}}}',
      'charge.succeeded',
      'https://api.stripe.com/v1/accounts/acct_1032D82eZvKYlo2C',
      'ch_1',
    ],
    // A thin event of one.
    [
      '{"id":"evt_2","object":"v2.core.event","context":"acct_123","created":"2022-02-15T00:27:45.330Z","livemode":true,"type":"v1.billing.meter.no_meter_found"}',
      'v1.billing.meter.no_meter_found',
      'https://api.stripe.com/v1/accounts/acct_123',
      undefined,
    ],
    // An object without an id, and no context.
    [
      '{"id":"evt_3","object":"event","context":null,"created":1686089970,"livemode":true,"type":"balance.available","data":{"object":{"object":"balance"}}}',
      'balance.available',
      'https://api.stripe.com',
      undefined,
    ],
    // "v2.core.event_destination.ping", with which Stripe tests a destination.
    [
      '{"id":"evt_4","object":"v2.core.event","context":null,"created":"2026-09-18T19:56:56.947Z","livemode":false,"reason":null,"type":"v2.core.event_destination.ping","related_object":{"id":"ed_test_ping","type":"v2.core.event_destination","url":"/v2/core/event_destinations/ed_test_ping"}}',
      'v2.core.event_destination.ping',
      'https://api.stripe.com',
      'ed_test_ping',
    ],
  ])('%s', async (body, type, from, subject) => {
    const { send, events, clock } = source()
    expect((await send('st', body, sign(body, SECRET, clock.nowMs))).status).toBe(202)
    expect(events()).toMatchObject([{ type: `com.stripe.${type}`, source: from, key: subject ?? null, data: body }])
  })

  test('an attempt days later has the same id, and its own signature', async () => {
    const { send, events, clock } = source()
    const first = sign(SNAPSHOT, SECRET, clock.nowMs)
    expect((await send('st', SNAPSHOT, first)).status).toBe(202)
    clock.nowMs += 2 * 86_400_000
    expect((await send('st', SNAPSHOT, first)).status).toBe(401)
    expect((await send('st', SNAPSHOT, sign(SNAPSHOT, SECRET, clock.nowMs))).status).toBe(202)
    const [one, again] = events()
    expect([again?.id, again?.source, again?.time]).toEqual([one?.id, one?.source, one?.time])
    expect(events()).toHaveLength(2)
  })

  test('an id beyond 2^53 stays as it is', async () => {
    const { send, events, clock } = source()
    const body = '{"id":12345678901234567890,"type":"charge.succeeded","created":99999999999999999999}'
    expect((await send('st', body, sign(body, SECRET, clock.nowMs))).status).toBe(202)
    expect(events()).toMatchObject([{ id: '12345678901234567890', data: body }])
    expect(events()[0]?.time).toBeUndefined()
  })

  test.each([
    ['no JSON', '} I am not valid JSON; 123]['],
    ['an empty body', ''],
    ['an empty object', '{}'],
    ['no object', '[{"id":"evt_1","type":"charge.succeeded"}]'],
    ['no id', '{"type":"charge.succeeded"}'],
    ['an empty id', '{"id":"","type":"charge.succeeded"}'],
    ['an id of another type', '{"id":["evt_1"],"type":"charge.succeeded"}'],
    ['no type', '{"id":"evt_1"}'],
    ['a type of another type', '{"id":"evt_1","type":null}'],
    ['an id with control characters', '{"id":"evt_\\u0007","type":"charge.succeeded"}'],
    ['a huge id', `{"id":"${'x'.repeat(70_000)}","type":"charge.succeeded"}`],
    ['nested too deeply', `{"id":"evt_1","type":"a","data":${'['.repeat(5_000)}${']'.repeat(5_000)}}`],
  ])('%s is refused', async (_, body) => {
    const { send, events, logged, clock } = source()
    const { status } = await send('st', body, sign(body, SECRET, clock.nowMs))
    expect([status >= 400 && status < 500, status === 401]).toEqual([true, false])
    expect([events(), logged.filter((line) => line['err'] !== undefined)]).toEqual([[], []])
  })

  test('what CloudEvents does not allow is left out where it may be missing', async () => {
    const { send, events, clock } = source()
    const body = '{"id":"evt_1","type":"a","account":"no account","created":"soon","data":{"object":{"id":"\\u0000"}}}'
    expect((await send('st', body, sign(body, SECRET, clock.nowMs))).status).toBe(202)
    expect(events()).toMatchObject([{ source: 'urn:kafkatrace:source:st', key: null }])
    expect(events()[0]?.time).toBeUndefined()
  })
})
