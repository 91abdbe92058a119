import { describe, expect, test } from 'bun:test'
import { createHmac } from 'node:crypto'
import { gateway, SECRETS, testSigned } from '../testing/gateway.ts'
import { slack } from './slack.ts'

const [SECRET] = SECRETS

function sign(body: string, secret: string, nowMs: number) {
  const time = String(Math.floor(nowMs / 1_000))
  const signature = createHmac('sha256', secret).update(`v0:${time}:${body}`).digest('hex')
  return { 'x-slack-request-timestamp': time, 'x-slack-signature': `v0=${signature}` }
}

const FORM = { 'content-type': 'application/x-www-form-urlencoded' }

// docs.slack.dev, "The Events API", shortened.
const REACTION =
  '{"token":"z26uFbvR1xHJEdHE1OQiO6t8","team_id":"T123ABC456","api_app_id":"A123ABC456","event":{"type":"reaction_added","user":"U123ABC456","item":{"type":"message","channel":"C123ABC456","ts":"1464196127.000002"},"reaction":"slightly_smiling_face","event_ts":"1465244570.336841"},"type":"event_callback","event_id":"Ev123ABC456","event_context":"EC123ABC456","event_time":1234567890}'

// docs.slack.dev, "Verifying requests from Slack".
const COMMAND =
  'token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c'

const source = (secrets: readonly string[] = [SECRET]) =>
  gateway({ sl: { kind: 'slack', secrets } }, { kinds: [slack] })

/** Sends what Slack has signed. */
async function sent(body: string, headers: Readonly<Record<string, string>> = {}) {
  const it = source()
  const response = await it.send('sl', body, { ...headers, ...sign(body, SECRET, it.clock.nowMs) })
  return { ...it, response }
}

const interaction = (payload: string) => sent(`payload=${encodeURIComponent(payload)}`, FORM)

describe('Slack', () => {
  testSigned({
    declare: (secrets) => ({ kind: 'slack', secrets }),
    body: REACTION,
    sign,
    isTimed: true,
    status: 200,
  })

  test('its documented signature is taken, of a slash command', async () => {
    const { send, events, clock } = source(['8f742231b10e8888abcd99yyyzzz85a5'])
    clock.nowMs = 1_531_420_618_000
    const response = await send('sl', COMMAND, {
      ...FORM,
      'x-slack-request-timestamp': '1531420618',
      'x-slack-signature': 'v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503',
    })
    expect([response.status, await response.text()]).toEqual([200, ''])
    expect(events()).toMatchObject([
      {
        id: '398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c',
        type: 'com.slack.slash_command',
        source: 'https://app.slack.com/client/T1DC2JH3J',
        subject: 'G8PSS9T3V',
        form: COMMAND,
      },
    ])
    expect(JSON.parse(events()[0]?.data ?? '')).toMatchObject({ command: '/webhook-collect', text: '' })
  })

  test('what is missing, repeated or of another form is refused', async () => {
    const { send, events, clock, logged } = source()
    const signed = sign(REACTION, SECRET, clock.nowMs)
    const { 'x-slack-request-timestamp': time, 'x-slack-signature': signature } = signed
    const over = (text: string): string =>
      `v0=${createHmac('sha256', SECRET).update(`v0:${text}:${REACTION}`).digest('hex')}`
    for (const change of [
      { 'x-slack-request-timestamp': '' },
      { 'x-slack-request-timestamp': '', 'x-slack-signature': over('') },
      { 'x-slack-request-timestamp': '', 'x-slack-signature': over('undefined') },
      { 'x-slack-request-timestamp': `${time}, ${time}` },
      { 'x-slack-request-timestamp': `${time}, ${time}`, 'x-slack-signature': over(`${time}, ${time}`) },
      { 'x-slack-request-timestamp': `${time}.0`, 'x-slack-signature': over(`${time}.0`) },
      { 'x-slack-request-timestamp': 'now', 'x-slack-signature': over('now') },
      { 'x-slack-request-timestamp': String(Number(time) + 1) },
      { 'x-slack-signature': '' },
      { 'x-slack-signature': 'v0=' },
      { 'x-slack-signature': `${signature}, ${signature}` },
      { 'x-slack-signature': signature.slice('v0='.length) },
      { 'x-slack-signature': signature.replace('v0', 'v1') },
      { 'x-slack-signature': `v0=${'0'.repeat(6_000)}` },
    ])
      expect([change, (await send('sl', REACTION, { ...signed, ...change })).status]).toEqual([change, 401])
    expect(events()).toEqual([])
    const reasons = logged.filter((line) => line['status'] === 401).map((line) => line['reason'])
    expect(reasons.slice(0, 3)).toEqual(['unsigned', 'unsigned', 'unsigned'])
  })

  // docs.slack.dev, "url_verification event".
  test('its challenge is answered, and is no event', async () => {
    const body =
      '{"token":"Jhj5dZrVaK7ZwHHjRyZWjbDl","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P","type":"url_verification"}'
    const { response, events } = await sent(body)
    expect([response.status, response.headers.get('content-type'), await response.text()]).toEqual([
      200,
      'text/plain; charset=utf-8',
      '3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P',
    ])
    expect(response.headers.get('x-content-type-options')).toBe('nosniff')
    expect(events()).toEqual([])
  })

  test('a challenge that is not from Slack is not answered', async () => {
    const { send } = source()
    const body = '{"type":"url_verification","challenge":"<script>"}'
    const response = await send('sl', body)
    expect([response.status, (await response.text()).includes('script')]).toEqual([401, false])
  })

  test('an event is named by its callback, and the answer is empty', async () => {
    const { response, events } = await sent(REACTION)
    expect([response.status, await response.text()]).toEqual([200, ''])
    expect(events()).toEqual([
      {
        id: 'Ev123ABC456',
        type: 'com.slack.reaction_added',
        source: 'https://app.slack.com/client/T123ABC456',
        subject: 'C123ABC456',
        key: 'C123ABC456',
        time: '2009-02-13T23:31:30.000Z',
        datacontenttype: 'application/json',
        data: REACTION,
        form: undefined,
      },
    ])
  })

  const callback = (event: string): string =>
    `{"team_id":"T1","api_app_id":"A1","type":"event_callback","event_id":"Ev1","event_time":1515449522,"event":${event}}`

  test.each([
    ['{"type":"message","channel":"C024BE91L","user":"U2147483697","text":"Hello"}', 'message', 'C024BE91L'],
    ['{"type":"message","subtype":"message_changed","hidden":true,"channel":"C2","ts":"1.2"}', 'message', 'C2'],
    ['{"type":"app_mention","user":"U061F7AUR","channel":"C0LAN2Q65"}', 'app_mention', 'C0LAN2Q65'],
    ['{"type":"channel_created","channel":{"id":"C024BE91L","name":"fun"}}', 'channel_created', 'C024BE91L'],
    ['{"type":"file_shared","channel_id":"D0L4B9P0Q","file_id":"F2147483862"}', 'file_shared', 'D0L4B9P0Q'],
    ['{"type":"team_join","user":{"id":"U1"}}', 'team_join', 'T1'],
  ])('an event %s', async (event, type, subject) => {
    const { response, events } = await sent(callback(event))
    expect(response.status).toBe(200)
    expect(events()).toMatchObject([
      { id: 'Ev1', type: `com.slack.${type}`, subject, time: '2018-01-08T22:12:02.000Z', data: callback(event) },
    ])
  })

  // docs.slack.dev, "app_rate_limited event".
  test('a limit of the rate has an id for its app, its workspace and its minute', async () => {
    const body =
      '{"token":"Jhj5dZrVaK7ZwHHjRyZWjbDl","type":"app_rate_limited","team_id":"T123456","minute_rate_limited":1518467820,"api_app_id":"A123456"}'
    const { response, events } = await sent(body)
    expect(response.status).toBe(200)
    expect(events()).toMatchObject([
      {
        id: 'app_rate_limited:A123456:T123456:1518467820',
        type: 'com.slack.app_rate_limited',
        subject: 'T123456',
        time: '2018-02-12T20:37:00.000Z',
      },
    ])
  })

  // docs.slack.dev, "Interaction payloads".
  test.each([
    [
      '{"type":"block_actions","team":{"id":"T9TK3CUKW","domain":"example"},"user":{"id":"UA8RXUSPL"},"api_app_id":"AABA1ABCD","container":{"type":"message_attachment","channel_id":"CBR2V3XEX"},"trigger_id":"12321423423.333649436676.d8c1bb837935619ccad0f624c448ffb3","channel":{"id":"CBR2V3XEX","name":"review-updates"},"actions":[{"action_id":"WaXA","value":"click_me_123"}]}',
      'block_actions',
      '12321423423.333649436676.d8c1bb837935619ccad0f624c448ffb3',
      'CBR2V3XEX',
    ],
    [
      '{"type":"shortcut","token":"X","action_ts":"1581106241.371594","team":{"id":"TXXXXXXXX"},"user":{"id":"UXXXXXXXXX"},"callback_id":"shortcut_create_task","trigger_id":"944799105734.773906753841.38b5894552bdd4a780554ee59d1f3638"}',
      'shortcut',
      '944799105734.773906753841.38b5894552bdd4a780554ee59d1f3638',
      'TXXXXXXXX',
    ],
    [
      '{"type":"message_action","callback_id":"chirp_message","trigger_id":"13345224609.8534564800.6f8ab1f53e13d0cd15f96106292d5536","team":{"id":"T0MJRM1A7"},"channel":{"id":"D0LFFBKLZ","name":"cats"},"user":{"id":"U0D15K92L"},"message":{"type":"message","text":"World"}}',
      'message_action',
      '13345224609.8534564800.6f8ab1f53e13d0cd15f96106292d5536',
      'D0LFFBKLZ',
    ],
    [
      '{"type":"view_submission","team":{"id":"T1"},"user":{"id":"U1"},"trigger_id":"1.2.3","view":{"id":"VNHU13V36","type":"modal","state":{"values":{}}}}',
      'view_submission',
      '1.2.3',
      'T1',
    ],
    // Of an app that is installed for a whole organization.
    ['{"type":"block_actions","team":null,"trigger_id":"4.5.6"}', 'block_actions', '4.5.6', undefined],
  ])('an interaction %s', async (payload, type, id, subject) => {
    const { response, events } = await interaction(payload)
    expect([response.status, await response.text()]).toEqual([200, ''])
    expect(events()).toMatchObject([{ id, type: `com.slack.${type}`, key: subject ?? null, data: payload }])
    expect(events()[0]?.form).toStartWith('payload=')
  })

  test('an interaction that has no id is named by its bytes', async () => {
    const closed = (view: string): string =>
      `{"type":"view_closed","team":{"id":"T1"},"user":{"id":"U1"},"view":{"id":"${view}"},"is_cleared":false}`
    const ids: (string | undefined)[] = []
    for (const view of ['V1', 'V2', 'V1']) {
      const { response, events } = await interaction(closed(view))
      expect(response.status).toBe(200)
      expect(events()).toMatchObject([{ type: 'com.slack.view_closed' }])
      ids.push(events()[0]?.id)
    }
    expect([ids[0]?.length, ids[0] === ids[2], ids[0] === ids[1]]).toEqual([64, true, false])
  })

  test('what Slack asks about the certificate of a command is no event', async () => {
    const { response, events } = await sent('token=xyzz0WbapA4vBCDEFasx0q6G&ssl_check=1', FORM)
    expect([response.status, await response.text(), events()]).toEqual([200, '', []])
  })

  test('an attempt after a failure has the same id, and its own signature', async () => {
    const { send, events, clock } = source()
    await send('sl', REACTION, sign(REACTION, SECRET, clock.nowMs))
    for (const [retry, laterMs] of [
      ['1', 0],
      ['2', 60_000],
      ['3', 300_000],
    ] as const) {
      clock.nowMs += laterMs
      const headers = { 'x-slack-retry-num': retry, 'x-slack-retry-reason': 'http_timeout' }
      const response = await send('sl', REACTION, { ...headers, ...sign(REACTION, SECRET, clock.nowMs) })
      expect(response.status).toBe(200)
    }
    expect(events().map(({ id, time }) => `${id} ${time}`)).toEqual(
      Array.from({ length: 4 }, () => 'Ev123ABC456 2009-02-13T23:31:30.000Z'),
    )
  })

  test('an id beyond 2^53 stays as it is', async () => {
    const { events } = await sent(
      '{"type":"event_callback","event_id":12345678901234567890,"event":{"type":"message"}}',
    )
    expect(events()).toMatchObject([{ id: '12345678901234567890' }])
  })

  test.each([
    ['no JSON', 'hello', {}],
    ['an empty body', '', {}],
    ['an empty object', '{}', {}],
    ['no object', '["event_callback"]', {}],
    ['an event without an id', '{"type":"event_callback","trigger_id":"1","event":{"type":"message"}}', {}],
    ['an event with an empty id', '{"type":"event_callback","event_id":"","event":{"type":"message"}}', {}],
    ['an event without a type', '{"type":"event_callback","event_id":"Ev1","event":{}}', {}],
    ['an event of another type', '{"type":"event_callback","event_id":"Ev1","event":"message"}', {}],
    ['an id of another type', '{"type":"event_callback","event_id":{},"event":{"type":"message"}}', {}],
    ['a huge id', `{"type":"event_callback","event_id":"${'x'.repeat(70_000)}","event":{"type":"message"}}`, {}],
    ['a type of another type', '{"type":{"a":1}}', {}],
    ['a challenge that is missing', '{"type":"url_verification"}', {}],
    ['a challenge of another type', '{"type":"url_verification","challenge":{"a":1}}', {}],
    ['a limit without a minute', '{"type":"app_rate_limited","team_id":"T1","api_app_id":"A1"}', {}],
    ['a form of nothing', '', FORM],
    ['a form of something else', 'a=1&b=2', FORM],
    ['a command that is given twice', 'command=%2Fa&command=%2Fb&trigger_id=1', FORM],
    ['a payload that is no JSON', 'payload=hello', FORM],
    ['a payload that is given twice', 'payload=%7B%22type%22%3A%22a%22%7D&payload=%7B%7D', FORM],
    ['a payload with a field beside it', 'payload=%7B%22type%22%3A%22a%22%7D&trigger_id=1', FORM],
    ['nested too deeply', `{"type":"event_callback","event":${'['.repeat(5_000)}${']'.repeat(5_000)}}`, {}],
  ])('%s is refused', async (_, body, headers) => {
    const { response, events, logged } = await sent(body, headers)
    expect([response.status >= 400 && response.status < 500, response.status === 401]).toEqual([true, false])
    expect([events(), logged.filter((line) => line['err'] !== undefined)]).toEqual([[], []])
  })

  test('a form that is no UTF-8 is refused', async () => {
    const { send, events, clock } = source()
    const time = String(Math.floor(clock.nowMs / 1_000))
    const body = Buffer.from([0x61, 0x3d, 0xff])
    const signature = createHmac('sha256', SECRET).update(`v0:${time}:`).update(body).digest('hex')
    const headers = { ...FORM, 'x-slack-request-timestamp': time, 'x-slack-signature': `v0=${signature}` }
    expect((await send('sl', body, headers)).status).toBe(400)
    expect(events()).toEqual([])
  })
})
