import { describe, expect, test } from 'bun:test'
import { createHash, createHmac } from 'node:crypto'
import { gateway, SECRETS, testSigned } from '../testing/gateway.ts'
import { gitlab } from './gitlab.ts'

const [TOKEN] = SECRETS
const KEY = 'f5e5f430-f57b-4e6e-9fac-d9128cd7232f'
const DELIVERY = {
  'user-agent': 'GitLab/19.1.0',
  'x-gitlab-instance': 'https://gitlab.example.com',
  'x-gitlab-webhook-uuid': '02affd2d-2cba-4033-917d-ec22d5dc4b38',
  'x-gitlab-event': 'Push Hook',
  'x-gitlab-event-uuid': '13792a34-cac6-4fda-95a8-c58e00a3954e',
  'idempotency-key': KEY,
}
const PROJECT =
  '"project":{"id":9007199254740993,"web_url":"http://example.com/mike/diaspora","path_with_namespace":"mike/diaspora"}'
const PUSH = `{"object_kind":"push","event_name":"push","ref":"refs/heads/master","project_id":9007199254740993,${PROJECT}}`

const byToken = (_: string, secret: string) => ({ 'x-gitlab-token': secret })

/** A signing token as GitLab makes them: of 32 bytes. */
const signingToken = (secret: string): string => `whsec_${createHash('sha256').update(secret).digest('base64')}`

const SIGNING_TOKEN = signingToken(TOKEN)

function sign(body: string, secret: string, nowMs: number, id = KEY) {
  const time = Math.floor(nowMs / 1_000)
  const key = Buffer.from(secret.slice('whsec_'.length), 'base64')
  const signature = createHmac('sha256', key).update(`${id}.${time}.${body}`).digest('base64')
  return { 'webhook-id': id, 'webhook-timestamp': String(time), 'webhook-signature': `v1,${signature}` }
}

const source = (secrets: readonly string[] = [TOKEN]) =>
  gateway({ gl: { kind: 'gitlab', secrets } }, { kinds: [gitlab] })

describe('GitLab with a secret token', () => {
  testSigned({
    declare: (secrets) => ({ kind: 'gitlab', secrets }),
    headers: DELIVERY,
    body: PUSH,
    sign: byToken,
    isTimed: false,
    coversBody: false,
  })

  test('a token counts in its header field only, and once', async () => {
    const { send, events, logged } = source()
    for (const headers of [
      { authorization: `Bearer ${TOKEN}` },
      { 'x-gitlab-token': '' },
      { 'x-gitlab-token': `${TOKEN}, ${TOKEN}` },
      { 'x-gitlab-token': `${TOKEN}${'x'.repeat(4_000)}` },
    ])
      expect((await send('gl', PUSH, { ...DELIVERY, ...headers })).status).toBe(401)
    expect((await send('gl', PUSH, DELIVERY, `?access_token=${TOKEN}`)).status).toBe(401)
    expect(events()).toEqual([])
    expect(logged.filter((line) => line['status'] === 401).map((line) => line['reason'])).toEqual([
      'unsigned',
      'unsigned',
      'wrong',
      'wrong',
      'unsigned',
    ])
  })
})

describe('GitLab with a signing token', () => {
  testSigned({
    declare: (secrets) => ({ kind: 'gitlab', secrets: secrets.map(signingToken) }),
    headers: DELIVERY,
    body: PUSH,
    sign: (body, secret, nowMs) => sign(body, signingToken(secret), nowMs),
    isTimed: true,
  })

  test('one of several signatures is enough', async () => {
    const { send, clock } = source([SIGNING_TOKEN])
    const signed = sign(PUSH, SIGNING_TOKEN, clock.nowMs)
    const other = `v1,${'A'.repeat(43)}=`
    for (const signatures of [
      `${other} ${signed['webhook-signature']}`,
      `v1a,c29tZXRoaW5n ${signed['webhook-signature']} ${other}`,
    ]) {
      const headers = { ...DELIVERY, ...signed, 'webhook-signature': signatures }
      expect((await send('gl', PUSH, headers)).status).toBe(202)
    }
  })

  test('what is missing, repeated or of another form is refused', async () => {
    const { send, events, clock } = source([SIGNING_TOKEN])
    const signed = sign(PUSH, SIGNING_TOKEN, clock.nowMs)
    const { 'webhook-id': id, 'webhook-timestamp': time, 'webhook-signature': signature } = signed
    for (const change of [
      { 'webhook-id': '' },
      { 'webhook-id': `${id}, ${id}` },
      { 'webhook-id': `${id}x` },
      { 'webhook-timestamp': '' },
      { 'webhook-timestamp': `${time}, ${time}` },
      { 'webhook-timestamp': '1e9' },
      { 'webhook-timestamp': String(Number(time) + 1) },
      { 'webhook-signature': '' },
      { 'webhook-signature': `${signature}, ${signature}` },
      { 'webhook-signature': signature.slice('v1,'.length) },
      { 'webhook-signature': signature.replace('v1', 'v2') },
      { 'webhook-signature': 'v1,' },
      { 'webhook-signature': 'v1, '.repeat(1_000) },
    ])
      expect([change, (await send('gl', PUSH, { ...DELIVERY, ...signed, ...change })).status]).toEqual([change, 401])
    expect(events()).toEqual([])
  })

  test('a signing token is a key, and never a secret token', async () => {
    const { send, events } = source([SIGNING_TOKEN])
    expect((await send('gl', PUSH, { ...DELIVERY, 'x-gitlab-token': SIGNING_TOKEN })).status).toBe(401)
    expect(events()).toEqual([])
  })

  test('a signing token that is cut off, and so could be guessed, is no declaration', () => {
    for (const secret of ['whsec_==', SIGNING_TOKEN.slice(0, -1), `${SIGNING_TOKEN} `, 'whsec_of-my-own-making'])
      expect(() => source([secret])).toThrow('/secrets/0')
  })

  test('from a secret token to a signing token: both count, and a signature that is there has to be right', async () => {
    const { send, clock } = source([TOKEN, SIGNING_TOKEN])
    const signed = sign(PUSH, SIGNING_TOKEN, clock.nowMs)
    expect((await send('gl', PUSH, { ...DELIVERY, 'x-gitlab-token': TOKEN })).status).toBe(202)
    expect((await send('gl', PUSH, { ...DELIVERY, 'x-gitlab-token': TOKEN, ...signed })).status).toBe(202)
    expect((await send('gl', PUSH, { ...DELIVERY, ...signed })).status).toBe(202)
    const other = sign(PUSH, signingToken('of another'), clock.nowMs)
    expect((await send('gl', PUSH, { ...DELIVERY, 'x-gitlab-token': TOKEN, ...other })).status).toBe(401)
  })

  test('GitLab may sign with a token that is not declared, when the secret token is', async () => {
    const { send, clock } = source([TOKEN])
    const signed = sign(PUSH, SIGNING_TOKEN, clock.nowMs)
    expect((await send('gl', PUSH, { ...DELIVERY, 'x-gitlab-token': TOKEN, ...signed })).status).toBe(202)
    expect((await send('gl', PUSH, { ...DELIVERY, ...signed })).status).toBe(401)
  })
})

describe('events of GitLab', () => {
  test('a push is named by what was sent, and its body is kept byte for byte', async () => {
    const { send, events } = source()
    const response = await send('gl', PUSH, { ...DELIVERY, 'x-gitlab-token': TOKEN })
    expect(await response.json()).toMatchObject({ receipts: [{ id: KEY }] })
    expect(events()).toEqual([
      {
        id: KEY,
        type: 'com.gitlab.push',
        source: 'http://example.com/mike/diaspora',
        subject: 'mike/diaspora',
        key: 'mike/diaspora',
        datacontenttype: 'application/json',
        data: PUSH,
        form: undefined,
      },
    ])
  })

  // docs.gitlab.com, "Webhook events" and "System hooks".
  test.each([
    ['Tag Push Hook', `{"object_kind":"tag_push","event_name":"tag_push",${PROJECT}}`, 'tag_push', 'mike/diaspora'],
    [
      'Confidential Issue Hook',
      `{"object_kind":"issue","event_type":"confidential_issue",${PROJECT}}`,
      'issue',
      'mike/diaspora',
    ],
    ['Note Hook', `{"object_kind":"note",${PROJECT},"object_attributes":{"id":1243}}`, 'note', 'mike/diaspora'],
    [
      'Merge Request Hook',
      `{"object_kind":"merge_request","event_type":"merge_request",${PROJECT},"object_attributes":{"iid":1}}`,
      'merge_request',
      'mike/diaspora',
    ],
    ['Job Hook', `{"object_kind":"build","build_id":1977,${PROJECT}}`, 'build', 'mike/diaspora'],
    [
      'Pipeline Hook',
      `{"object_kind":"pipeline","object_attributes":{"id":31},${PROJECT}}`,
      'pipeline',
      'mike/diaspora',
    ],
    [
      'Member Hook',
      '{"group_name":"webhook-test","group_path":"webhook-test","group_id":100,"event_name":"user_add_to_group"}',
      'user_add_to_group',
      'webhook-test',
    ],
    [
      'Subgroup Hook',
      '{"event_name":"subgroup_create","path":"subgroup1","full_path":"group1/subgroup1","group_id":10}',
      'subgroup_create',
      'group1/subgroup1',
    ],
    ['System Hook', '{"event_name":"user_create","user_id":41,"username":"js"}', 'user_create', undefined],
    // "Example custom webhook template".
    ['Push Hook', '{"event":"push","project_name":"Example"}', 'push', undefined],
    ['Merge Request Hook', '["a custom template"]', 'merge_request', undefined],
  ])('%s: %s', async (event, body, type, subject) => {
    const { send, events } = source()
    const headers = { ...DELIVERY, 'x-gitlab-event': event, 'x-gitlab-token': TOKEN }
    expect((await send('gl', body, headers)).status).toBe(202)
    expect(events()).toMatchObject([
      {
        id: KEY,
        type: `com.gitlab.${type}`,
        source: body.includes('web_url') ? 'http://example.com/mike/diaspora' : 'https://gitlab.example.com',
        key: subject ?? null,
        data: body,
      },
    ])
  })

  test('"Resend Request" sends the same id, signed anew', async () => {
    const { send, events, clock } = source([SIGNING_TOKEN])
    for (const laterMs of [0, 3_600_000]) {
      clock.nowMs += laterMs
      const signed = sign(PUSH, SIGNING_TOKEN, clock.nowMs)
      expect((await send('gl', PUSH, { ...DELIVERY, ...signed })).status).toBe(202)
    }
    expect(events().map(({ id }) => id)).toEqual([KEY, KEY])
  })

  test('the id is the one that the signature covers', async () => {
    const { send, events, clock } = source([SIGNING_TOKEN])
    const headers = { ...DELIVERY, ...sign(PUSH, SIGNING_TOKEN, clock.nowMs), 'idempotency-key': 'of-somebody-else' }
    expect((await send('gl', PUSH, headers)).status).toBe(202)
    expect(events()).toMatchObject([{ id: KEY }])
  })

  test('the id of an event that other hooks share is no id', async () => {
    const { send, events } = source()
    const { 'idempotency-key': _, ...headers } = DELIVERY
    const response = await send('gl', PUSH, { ...headers, 'x-gitlab-token': TOKEN })
    expect(response.status).toBe(422)
    expect(await response.text()).toContain('/id')
    expect(events()).toEqual([])
  })

  test.each([
    ['no JSON', 'object_kind=push', {}],
    ['an empty body', '', {}],
    ['no event', '{}', { 'x-gitlab-event': '' }],
    ['an event of another type', '{"object_kind":{"a":1}}', { 'x-gitlab-event': '' }],
    ['a huge event', `{"object_kind":"${'x'.repeat(70_000)}"}`, {}],
    ['a huge id', PUSH, { 'idempotency-key': 'x'.repeat(70_000) }],
    ['control characters', '{"object_kind":"pu\\u0000sh"}', {}],
    ['nested too deeply', '['.repeat(5_000) + ']'.repeat(5_000), {}],
  ])('%s is refused', async (_, body, change) => {
    const { send, events, logged } = source()
    const { status } = await send('gl', body, { ...DELIVERY, 'x-gitlab-token': TOKEN, ...change })
    expect([status >= 400 && status < 500, status === 401]).toEqual([true, false])
    expect([events(), logged.filter((line) => line['err'] !== undefined)]).toEqual([[], []])
  })

  test('what CloudEvents does not allow is left out where it may be missing', async () => {
    const { send, events } = source()
    const body = '{"object_kind":"push","project":{"web_url":"no url","path_with_namespace":"\\u0000"}}'
    expect((await send('gl', body, { ...DELIVERY, 'x-gitlab-token': TOKEN })).status).toBe(202)
    expect(events()).toMatchObject([{ source: 'urn:kafkatrace:source:gl', key: null }])
  })
})
