import { describe, expect, test } from 'bun:test'
import { createHash, createHmac } from 'node:crypto'
import { gateway, SECRETS, testSigned } from '../testing/gateway.ts'
import { twilio } from './twilio.ts'
import { Webhook } from './webhook.ts'

const [SECRET] = SECRETS
const FORM = { 'content-type': 'application/x-www-form-urlencoded' }
const URL_AT_TWILIO = 'https://hooks.example.com/v1/sources/it'
/** What the harness calls. */
const OWN = 'http://localhost/v1/sources/it'
const TOKEN = { 'i-twilio-idempotency-token': 'f9d0b26e-8a5f-4dd5-9d10-6a6e1c0f8d6c' }

const hmac = (secret: string, text: string) => ({
  'x-twilio-signature': createHmac('sha1', secret).update(text).digest('base64'),
})
/** Signs a form, of which no field is given twice. */
const signForm = (url: string, body: string, secret: string = SECRET) =>
  hmac(
    secret,
    [...new URLSearchParams(body)]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .reduce((text, [name, value]) => text + name + value, url),
  )

const ACCOUNT = 'AC0123456789abcdef0123456789abcdef'
const MESSAGE = 'SM0123456789abcdef0123456789abcdef'
const CALL = 'CA0123456789abcdef0123456789abcdef'
const formOf = (fields: Record<string, string>) => new URLSearchParams({ AccountSid: ACCOUNT, ...fields }).toString()
/** twilio.com/docs, "Twilio's request to your incoming message Webhook URL". */
const INCOMING = formOf({
  ToCountry: 'US',
  MessageSid: MESSAGE,
  SmsSid: MESSAGE,
  NumMedia: '0',
  SmsStatus: 'received',
  Body: 'Ahoy & "hi" ☎',
  To: '+18005551212',
  From: '+14158675310',
  ApiVersion: '2010-04-01',
})

const source = (options: Record<string, unknown> = {}) =>
  gateway({ it: { kind: 'twilio', secrets: [SECRET], url: OWN, ...options } }, { kinds: [twilio] })

interface Sending {
  options?: Record<string, unknown>
  headers?: Record<string, string>
  query?: string
}

async function sent(body: string, signature: Record<string, string>, { options, headers, query }: Sending = {}) {
  const { send, events, logged } = source(options)
  const response = await send('it', body, { ...FORM, ...TOKEN, ...signature, ...headers }, query)
  return { response, status: response.status, events: events(), logged }
}

const JSON_BODY = { 'content-type': 'application/json' }
const hashed = (body: string) => `?bodySHA256=${createHash('sha256').update(body).digest('hex')}`
/** Sends JSON as Twilio does. */
const sentJson = (body: string) =>
  sent(body, hmac(SECRET, OWN + hashed(body)), { query: hashed(body), headers: JSON_BODY })

describe('Twilio', () => {
  testSigned({
    declare: (secrets) => ({ kind: 'twilio', secrets, url: URL_AT_TWILIO }),
    headers: { ...FORM, ...TOKEN },
    body: INCOMING,
    sign: (body, secret) => signForm(URL_AT_TWILIO, body, secret),
    isTimed: false,
    status: 200,
  })

  describe('published signatures, with the token 12345', () => {
    // twilio.com/docs/usage/security, "Validating Signatures from Twilio".
    const CALLED = 'https://mycompany.com/myapp.php?foo=1&bar=2'
    const verdictOn = (url: string, body: string, signature: string, headers: Record<string, string> = FORM) =>
      twilio.verify(
        new Webhook(
          { url, headers: new Headers({ ...headers, 'x-twilio-signature': signature }) },
          Buffer.from(body),
          0,
          64,
        ),
        { secrets: ['12345'], url: CALLED.replace(/\?.*/, '') },
      )

    const DIGITS = 'Digits=1234&To=%2B18005551212&From=%2B12349013030&Caller=%2B12349013030&CallSid=CA1234567890ABCDE'

    test('of a form', () => {
      expect(verdictOn(CALLED, DIGITS, '0/KCTR6DLpKmkAf8muzZqo1nDgQ=')).toEqual({ ok: true })
      expect(verdictOn(CALLED, DIGITS.replace('1234', '1235'), '0/KCTR6DLpKmkAf8muzZqo1nDgQ=')).toMatchObject({
        reason: 'wrong',
      })
    })

    // github.com/twilio/twilio-node, spec/validation.spec.js.
    test('of JSON', () => {
      const url = `${CALLED}&bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620`
      const body = '{"property": "value", "boolean": true}'
      expect(verdictOn(url, body, 'a9nBmqA0ju/hNViExpshrM61xv4=', JSON_BODY)).toEqual({ ok: true })
      expect(verdictOn(url, `${body} `, 'a9nBmqA0ju/hNViExpshrM61xv4=', JSON_BODY)).toMatchObject({ reason: 'wrong' })
    })
  })

  test('an incoming message is answered with empty TwiML, and its form is kept', async () => {
    const { response, events } = await sent(INCOMING, signForm(OWN, INCOMING))
    expect([response.status, response.headers.get('content-type'), await response.text()]).toEqual([
      200,
      'text/xml',
      '<Response/>',
    ])
    expect(events).toMatchObject([
      {
        id: TOKEN['i-twilio-idempotency-token'],
        type: 'com.twilio.message.received',
        source: `https://api.twilio.com/2010-04-01/Accounts/${ACCOUNT}`,
        subject: MESSAGE,
        key: MESSAGE,
        datacontenttype: 'application/json',
        form: INCOMING,
      },
    ])
    expect(JSON.parse(events[0]?.data ?? '')).toMatchObject({ Body: 'Ahoy & "hi" ☎', From: '+14158675310' })
  })

  const CONFERENCE = 'CF0123456789abcdef0123456789abcdef'
  const ROOM = 'RM0123456789abcdef0123456789abcdef'
  test.each([
    ['message.delivered', MESSAGE, { MessageSid: MESSAGE, SmsStatus: 'delivered', MessageStatus: 'delivered' }],
    ['message.undelivered', MESSAGE, { MessageSid: MESSAGE, MessageStatus: 'undelivered', ErrorCode: '30003' }],
    ['call.ringing', CALL, { CallSid: CALL, CallStatus: 'ringing', Direction: 'inbound' }],
    ['call.completed', CALL, { CallSid: CALL, CallStatus: 'completed', CallDuration: '15', SequenceNumber: '2' }],
    ['recording.completed', CALL, { CallSid: CALL, RecordingSid: 'RE01', RecordingStatus: 'completed' }],
    ['transcription.completed', CALL, { CallSid: CALL, CallStatus: 'completed', TranscriptionStatus: 'completed' }],
    [
      'participant-join',
      CONFERENCE,
      { CallSid: CALL, ConferenceSid: CONFERENCE, StatusCallbackEvent: 'participant-join' },
    ],
    ['room-created', ROOM, { RoomSid: ROOM, RoomStatus: 'in-progress', StatusCallbackEvent: 'room-created' }],
    ['onMessageAdded', 'CH01', { EventType: 'onMessageAdded', ConversationSid: 'CH01', MessageSid: 'IM01' }],
    ['task.created', 'WT01', { EventType: 'task.created', TaskSid: 'WT01', TaskAge: '12345678901234567890' }],
    ['webhook', undefined, { Sid: 'NO01', Level: 'ERROR', PayloadType: 'application/json' }],
  ])('com.twilio.%s', async (type, subject, fields) => {
    const form = formOf(fields)
    const { status, events } = await sent(form, signForm(OWN, form))
    expect([status, events[0]?.type, events[0]?.subject]).toEqual([200, `com.twilio.${type}`, subject])
  })

  // twilio.com/docs/events, "Webhook Quickstart" and "Event types".
  const STREAMED = JSON.stringify([
    {
      specversion: '1.0',
      type: 'com.twilio.messaging.message.delivered',
      source: `/2010-04-01/Accounts/${ACCOUNT}/Messages/${MESSAGE}.json`,
      id: 'EZ0123456789abcdef0123456789abcdef',
      dataschema: 'https://events-schemas.twilio.com/Messaging.MessageStatus/7',
      datacontenttype: 'application/json',
      time: '2026-01-01T00:00:00.000Z',
      data: { messageSid: MESSAGE, messageStatus: 'DELIVERED', n: 0 },
    },
    {
      specversion: '1.0',
      type: 'com.twilio.conversations.message.added',
      source: 'AB00000000000000000000000001',
      id: 'NO00000000000000000000000001',
      data: { ConversationSid: 'CH01' },
    },
  ]).replace('"n":0', '"n":12345678901234567890')

  test('Event Streams: each CloudEvent is an event, with its data byte for byte', async () => {
    const { status, events } = await sentJson(STREAMED)
    expect(status).toBe(200)
    expect(events.sort((a, b) => a.id.localeCompare(b.id))).toMatchObject([
      {
        id: 'EZ0123456789abcdef0123456789abcdef',
        type: 'com.twilio.messaging.message.delivered',
        source: `/2010-04-01/Accounts/${ACCOUNT}/Messages/${MESSAGE}.json`,
        time: '2026-01-01T00:00:00.000Z',
        data: `{"messageSid":"${MESSAGE}","messageStatus":"DELIVERED","n":12345678901234567890}`,
      },
      {
        id: 'NO00000000000000000000000001',
        type: 'com.twilio.conversations.message.added',
        source: 'AB00000000000000000000000001',
        data: '{"ConversationSid":"CH01"}',
      },
    ])
  })

  test('JSON that is no list has its type in eventType', async () => {
    const body = '{"eventType":"COMMUNICATION_CREATED","data":{"conversationId":"CH01"}}'
    const { status, events } = await sentJson(body)
    expect([status, events[0]?.type, events[0]?.data]).toEqual([200, 'com.twilio.COMMUNICATION_CREATED', body])
  })

  test('JSON whose body is another one is refused, and one that no hash covers', async () => {
    const signature = hmac(SECRET, OWN + hashed(STREAMED))
    const changed = STREAMED.replace('DELIVERED', 'FAILED')
    for (const [body, query, headers] of [
      [changed, hashed(STREAMED), JSON_BODY],
      [changed, hashed(changed), JSON_BODY],
      // The signature of a JSON body, which covers no fields, for none of them and for others.
      ['', hashed(STREAMED), FORM],
      [INCOMING, hashed(STREAMED), FORM],
    ] as const)
      expect(await sent(body, signature, { query, headers })).toMatchObject({ status: 401, events: [] })
    for (const headers of [JSON_BODY, FORM, { 'content-type': '' }])
      expect(await sent(headers === FORM ? '' : STREAMED, hmac(SECRET, OWN), { headers })).toMatchObject({
        status: 401,
        events: [],
      })
  })

  describe('the URL that Twilio has called', () => {
    test.each<[string, string, Sending]>([
      ['as declared', URL_AT_TWILIO, {}],
      ['as declared, with a port', URL_AT_TWILIO, { options: { url: URL_AT_TWILIO.replace('.com', '.com:8443') } }],
      ['with a port that the declared one has not', URL_AT_TWILIO.replace('.com', '.com:443'), {}],
      ['as declared, with the query', `${URL_AT_TWILIO}?a=1&b=%20x`, { query: '?a=1&b=%20x' }],
      ['with an apostrophe', `${URL_AT_TWILIO}?a='1'`, { query: "?a='1'" }],
      ['as declared with a query', `${URL_AT_TWILIO}?a=1`, { options: { url: `${URL_AT_TWILIO}?a=1` }, query: '?a=1' }],
      [
        'as declared with a query that a proxy drops',
        `${URL_AT_TWILIO}?a=1`,
        { options: { url: `${URL_AT_TWILIO}?a=1` } },
      ],
      [
        'as declared, whatever a proxy says',
        URL_AT_TWILIO,
        { headers: { 'x-forwarded-proto': 'http', 'x-forwarded-host': 'inner' } },
      ],
      [
        'with a password',
        'https://me:pass@hooks.example.com/x',
        { options: { url: 'https://me:pass@hooks.example.com/x' } },
      ],
      [
        'without its connection overrides',
        `${URL_AT_TWILIO}?a=1`,
        { options: { url: `${URL_AT_TWILIO}#rc=2&rp=all` }, query: '?a=1' },
      ],
      [
        'with its connection overrides',
        `${URL_AT_TWILIO}?a=1#rc=2`,
        { options: { url: `${URL_AT_TWILIO}#rc=2` }, query: '?a=1' },
      ],
      [
        'of an IPv6 address',
        'http://[::1]:8080/v1/sources/it',
        { options: { url: 'http://[::1]:8080/v1/sources/it' } },
      ],
    ])('%s', async (_, url, sending) => {
      const declared = { ...sending, options: { url: URL_AT_TWILIO, ...sending.options } }
      expect(await sent(INCOMING, signForm(url, INCOMING), declared)).toMatchObject({ status: 200 })
    })

    test.each<[string, string, Sending]>([
      ['another host', 'https://elsewhere.example.com/v1/sources/it', {}],
      [
        'another host, which a proxy has',
        'https://elsewhere.example.com/v1/sources/it',
        { headers: { 'x-forwarded-proto': 'https', 'x-forwarded-host': 'elsewhere.example.com' } },
      ],
      ['another path', `${URL_AT_TWILIO}/2`, {}],
      ['another query', `${URL_AT_TWILIO}?a=1`, { query: '?a=2' }],
      ['no query', URL_AT_TWILIO, { query: '?a=2' }],
      ['another scheme', URL_AT_TWILIO.replace('https', 'http'), {}],
    ])('%s is refused', async (_, url, sending) => {
      const declared = { ...sending, options: { url: URL_AT_TWILIO } }
      expect(await sent(INCOMING, signForm(url, INCOMING), declared)).toMatchObject({ status: 401, events: [] })
    })

    test('a signature that was seen signs no other body, wherever its text is put', async () => {
      const form = 'AccountSid=AC01&Body=Ahoy&From=%2B1&MessageSid=SM01'
      const text = 'AccountSidAC01BodyAhoyFrom+1MessageSidSM01'
      const url = `${URL_AT_TWILIO}?team=a`
      const signature = signForm(url, form)
      const { app } = source({ url })
      expect(await sent(form, signature, { options: { url }, query: '?team=a' })).toMatchObject({ status: 200 })
      const forged = 'AccountSid=AC01&Body=forged&From=%2B1&MessageSid=SM02'
      for (const target of [
        `?team=a${text}#?bodySHA256=`,
        `?team=a${text}#&bodySHA256=`,
        `?team=a${text}&bodySHA256=${'0'.repeat(64)}`,
        `?bodySHA256=${'0'.repeat(64)}&team=a${text}`,
        `?team=a${text}`,
      ]) {
        const request = new Request('http://localhost/v1/sources/it', { method: 'POST', body: forged })
        // As a raw request has it: a URL object would drop or escape it.
        Object.defineProperty(request, 'url', { value: `http://localhost/v1/sources/it${target}` })
        for (const [name, value] of Object.entries({ ...FORM, ...TOKEN, ...signature }))
          request.headers.set(name, value)
        expect({ target, status: (await app.fetch(request)).status }).toEqual({ target, status: 401 })
      }
      // A sender of messages writes the text of one.
      const hash = createHash('sha256').update('[]').digest('hex')
      const written = signForm(url, `AccountSid=AC01&Body=x%26bodySHA256%3D${hash}%26&From=%2B1`)
      const query = `?team=aAccountSidAC01Bodyx&bodySHA256=${hash}&From+1`
      expect(await sent('[]', written, { options: { url }, query, headers: JSON_BODY })).toMatchObject({ status: 401 })
      // Names and values have nothing in between.
      for (const cut of [
        'AccountSid=AC01&BodyAhoyFrom%2B1MessageSidSM01=',
        'AccountSidAC01BodyAhoyFrom%2B1MessageSidSM01=',
      ])
        expect(await sent(cut, signature, { options: { url }, query: '?team=a' })).toMatchObject({ status: 401 })
    })

    test('the log names it, without a password and the query', async () => {
      const options = { url: 'https://me:pass@hooks.example.com/x?token=1' }
      const { logged } = await sent(INCOMING, signForm(OWN, INCOMING), { options })
      expect(logged.find((line) => line['status'] === 401)).toMatchObject({
        because: expect.stringMatching(/ is not https:\/\/hooks\.example\.com\/x$/),
      })
    })
  })

  test('a field that is given several times is signed once for each of its values', async () => {
    const form = 'MediaUrl=b&MediaUrl=a&AccountSid=AC01&MediaUrl=b'
    const { status, events } = await sent(form, hmac(SECRET, `${OWN}AccountSidAC01MediaUrlaMediaUrlb`))
    expect([status, events[0]?.data]).toEqual([200, '{"MediaUrl":["b","a","b"],"AccountSid":"AC01"}'])
  })

  test('without a token the hash of the signature, which is the same in each attempt, is the id', async () => {
    const { send, events } = source()
    const signature = signForm(OWN, INCOMING)
    for (let attempt = 0; attempt < 2; attempt++) await send('it', INCOMING, { ...FORM, ...signature })
    const hash = createHash('sha256').update(signature['x-twilio-signature']).digest('hex')
    expect(events().map(({ id }) => id)).toEqual([hash, hash])
  })

  test('two tokens, or one that is none, are refused', async () => {
    for (const [token, status] of [
      ['a, b', 422],
      ['a b', 422],
      ['"', 422],
      ['a'.repeat(20_000), 431],
    ] as const)
      expect(
        await sent(INCOMING, signForm(OWN, INCOMING), { headers: { 'i-twilio-idempotency-token': token } }),
      ).toMatchObject({ status, events: [] })
  })

  test('two signatures, an empty one, and a form that is no UTF-8 are refused', async () => {
    const signature = signForm(OWN, INCOMING)['x-twilio-signature']
    for (const given of [`${signature}, ${signature}`, ''])
      expect(await sent(INCOMING, { 'x-twilio-signature': given })).toMatchObject({ status: 401, events: [] })
    const { send, events } = source()
    const binary = Buffer.from([0x61, 0x3d, 0xff])
    expect((await send('it', binary, { ...FORM, ...TOKEN, ...hmac(SECRET, `${OWN}a\ufffd`) })).status).toBe(401)
    expect(events()).toEqual([])
  })

  test.each([
    ['nothing', 400, ''],
    ['no JSON', 400, '{"a":'],
    ['no events', 422, '[1,"x",null]'],
    ['an event without an id', 422, '[{"specversion":"1.0","type":"com.twilio.x","data":{}}]'],
    ['an id and a type that are no strings', 422, '[{"id":{},"type":[],"data":1}]'],
    ['too deep', 413, '['.repeat(500)],
  ])('%s is refused', async (_, status, body) => {
    expect(await sentJson(body)).toMatchObject({ status, events: [] })
  })
})
