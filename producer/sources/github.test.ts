import { describe, expect, test } from 'bun:test'
import { createHmac } from 'node:crypto'
import { gateway, SECRETS, testSigned } from '../testing/gateway.ts'

const [SECRET] = SECRETS
const sign = (body: string, secret: string) => ({
  'x-hub-signature-256': `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`,
})
const DELIVERY = { 'x-github-event': 'push', 'x-github-delivery': '72d3162e-cc78-11e3-81ab-4c9367dc0958' }
const PUSH =
  '{"ref":"refs/heads/main","repository":{"id":12345678901234567890,"full_name":"octo/hello","html_url":"https://github.com/octo/hello"}}'

describe('GitHub', () => {
  testSigned({
    declare: (secrets) => ({ kind: 'github', secrets }),
    headers: DELIVERY,
    body: PUSH,
    sign,
    isTimed: false,
  })

  // docs.github.com, "Validating webhook deliveries", "Testing the webhook payload validation".
  test('its documented signature is taken, though that body is no JSON', async () => {
    const { send, logged } = gateway({ gh: { kind: 'github', secrets: ["It's a Secret to Everybody"] } })
    const response = await send('gh', 'Hello, World!', {
      ...DELIVERY,
      'x-hub-signature-256': 'sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17',
    })
    expect([response.status, logged.some((line) => line['status'] === 401)]).toEqual([400, false])
  })

  test('the event is named by its headers, and its body is kept byte for byte', async () => {
    const { send, events } = gateway({ gh: { kind: 'github', secrets: [SECRET] } })
    const response = await send('gh', PUSH, { ...DELIVERY, ...sign(PUSH, SECRET) })
    expect(response.status).toBe(202)
    expect(await response.json()).toMatchObject({ receipts: [{ id: DELIVERY['x-github-delivery'], stream: 'hooks' }] })
    expect(events()).toEqual([
      {
        id: DELIVERY['x-github-delivery'],
        type: 'com.github.push',
        source: 'https://github.com/octo/hello',
        subject: 'octo/hello',
        key: 'octo/hello',
        datacontenttype: 'application/json',
        data: PUSH,
        form: undefined,
      },
    ])
  })

  test('as a form, its payload becomes the data, and the form is kept', async () => {
    const { send, events } = gateway({ gh: { kind: 'github', secrets: [SECRET] } })
    const form = `payload=${encodeURIComponent(PUSH)}`
    const headers = { ...DELIVERY, ...sign(form, SECRET), 'content-type': 'application/x-www-form-urlencoded' }
    expect((await send('gh', form, headers)).status).toBe(202)
    expect(events()).toMatchObject([{ type: 'com.github.push', data: PUSH, form }])
  })

  test('the ping that GitHub sends first is an event', async () => {
    const { send, events } = gateway({ gh: { kind: 'github', secrets: [SECRET] } })
    const ping = JSON.stringify({ zen: 'Keep it logically awesome.', hook_id: 1, organization: { login: 'octo' } })
    expect((await send('gh', ping, { ...DELIVERY, 'x-github-event': 'ping', ...sign(ping, SECRET) })).status).toBe(202)
    expect(events()).toMatchObject([{ type: 'com.github.ping', source: 'https://github.com', subject: 'octo' }])
  })
})
