import { createHmac } from 'node:crypto'
import type { Declaration } from './gateway.ts'

/** A webhook of each kind of source, signed as its sender signs it, except of aws-sns, for which Amazon's key is needed. */

const SECRET = 'a-secret-of-some-length'
/** Standard Webhooks' secrets are base64. */
const STANDARD_SECRET = `whsec_${Buffer.from('a-secret-of-thirty-two-bytes-now').toString('base64')}`

export interface Example {
  declaration: Declaration
  /** @param unique part of its id, or of its events' ids, which are different each time by default */
  request(nowMs: number, unique?: () => string): { body: string; headers: Record<string, string> }
  /** Of senders that sign: the headers of another body's signature. */
  sign?(body: Buffer, headers: Readonly<Record<string, string>>): Record<string, string>
  /** Of its event, or events. */
  type: string
}

const JSON_TYPE = { 'content-type': 'application/json' }
const FORM_TYPE = { 'content-type': 'application/x-www-form-urlencoded' }
const BEARER = { authorization: `Bearer ${SECRET}` }

const hmac = (
  algorithm: 'sha1' | 'sha256',
  encoding: 'hex' | 'base64',
  text: string | Buffer,
  secret: string | Buffer = SECRET,
) => createHmac(algorithm, secret).update(text).digest(encoding)

const seconds = (nowMs: number): string => String(Math.floor(nowMs / 1_000))

const randomId = (): string => crypto.randomUUID()

/** Where the webhooks of {@link EXAMPLES} are said to be received. Only Twilio signs it. */
export const PUBLIC_URL = 'https://hooks.example.com/v1/sources/twilio'

/** Those that sign, as yet without their signature. */
const UNSIGNED: Readonly<Record<string, Example>> = {
  alertmanager: {
    declaration: { kind: 'alertmanager', secrets: [SECRET] },
    type: 'io.prometheus.alertmanager.firing',
    request: (nowMs, unique = randomId) => ({
      headers: { ...JSON_TYPE, ...BEARER },
      body: JSON.stringify({
        version: '4',
        groupKey: `{}:{alertname="DiskFull",run="${unique()}"}`,
        truncatedAlerts: 0,
        status: 'firing',
        receiver: 'kafkatrace',
        groupLabels: { alertname: 'DiskFull' },
        commonLabels: { alertname: 'DiskFull', severity: 'page' },
        commonAnnotations: {},
        externalURL: 'http://alertmanager.example.com:9093',
        alerts: [
          {
            status: 'firing',
            labels: { alertname: 'DiskFull', instance: 'db-1' },
            annotations: {},
            startsAt: new Date(nowMs).toISOString(),
            endsAt: '0001-01-01T00:00:00Z',
            generatorURL: 'http://prometheus.example.com/graph',
            fingerprint: 'c0a1f7d2b3e4958a',
          },
        ],
      }),
    }),
  },
  'aws-eventbridge': {
    declaration: { kind: 'aws-eventbridge', secrets: [SECRET] },
    type: 'com.amazonaws.events.EC2 Instance State-change Notification',
    request: (nowMs, unique = randomId) => ({
      headers: { ...JSON_TYPE, 'x-api-key': SECRET },
      body: JSON.stringify({
        version: '0',
        id: unique(),
        'detail-type': 'EC2 Instance State-change Notification',
        source: 'aws.ec2',
        account: '111122223333',
        time: new Date(nowMs).toISOString(),
        region: 'us-east-1',
        resources: ['arn:aws:ec2:us-east-1:111122223333:instance/i-1234567890abcdef0'],
        detail: { 'instance-id': 'i-1234567890abcdef0', state: 'stopped' },
      }),
    }),
  },
  cdevents: {
    declaration: { kind: 'cdevents', secrets: [SECRET] },
    type: 'dev.cdevents.pipelinerun.finished.0.2.0',
    request(nowMs, unique = randomId) {
      const id = unique()
      const context = {
        version: '0.4.1',
        id,
        source: '/ci/tekton',
        type: 'dev.cdevents.pipelinerun.finished.0.2.0',
        timestamp: new Date(nowMs).toISOString(),
      }
      const subject = { id: '/run/42', type: 'pipelineRun', content: { outcome: 'success', pipelineName: 'build' } }
      const attributes = { 'ce-specversion': '1.0', 'ce-id': id, 'ce-source': context.source, 'ce-type': context.type }
      return { headers: { ...JSON_TYPE, ...BEARER, ...attributes }, body: JSON.stringify({ context, subject }) }
    },
  },
  generic: {
    declaration: {
      kind: 'generic',
      secrets: [SECRET],
      signature: { header: 'X-Signature', algorithm: 'sha256', encoding: 'hex' },
      fields: { id: '{header:X-Delivery}', type: 'com.example.{/event}' },
    },
    type: 'com.example.opened',
    request(_, unique = randomId) {
      const body = '{"event":"opened","door":7}'
      return {
        headers: { ...JSON_TYPE, 'x-delivery': unique() },
        body,
      }
    },
    sign: (body) => ({ 'x-signature': hmac('sha256', 'hex', body) }),
  },
  github: {
    declaration: { kind: 'github', secrets: [SECRET] },
    type: 'com.github.star',
    request(_, unique = randomId) {
      const body =
        '{"action":"created","repository":{"full_name":"octo/hello","html_url":"https://github.com/octo/hello"}}'
      return {
        headers: {
          ...JSON_TYPE,
          'x-github-event': 'star',
          'x-github-delivery': unique(),
        },
        body,
      }
    },
    sign: (body) => ({ 'x-hub-signature-256': `sha256=${hmac('sha256', 'hex', body)}` }),
  },
  gitlab: {
    declaration: { kind: 'gitlab', secrets: [SECRET] },
    type: 'com.gitlab.push',
    request: (_, unique = randomId) => ({
      headers: {
        ...JSON_TYPE,
        'x-gitlab-event': 'Push Hook',
        'x-gitlab-token': SECRET,
        'idempotency-key': unique(),
      },
      body: '{"object_kind":"push","project":{"path_with_namespace":"mike/diaspora","web_url":"https://gitlab.example.com/mike/diaspora"}}',
    }),
  },
  'otel-logs': {
    declaration: { kind: 'otel-logs', secrets: [SECRET] },
    type: 'io.opentelemetry.logs',
    request: (nowMs, unique = randomId) => ({
      headers: { 'content-type': 'application/x-ndjson', ...BEARER },
      body: ['started', 'ready']
        .map((text) => ({
          resourceLogs: [
            {
              resource: { attributes: [{ key: 'service.name', value: { stringValue: 'shop' } }] },
              scopeLogs: [
                { logRecords: [{ timeUnixNano: `${nowMs}000001`, body: { stringValue: `${text} ${unique()}` } }] },
              ],
            },
          ],
        }))
        .map((line) => `${JSON.stringify(line)}\n`)
        .join(''),
    }),
  },
  segment: {
    declaration: { kind: 'segment', secrets: [SECRET] },
    type: 'com.segment.track',
    request(nowMs, unique = randomId) {
      const body = JSON.stringify({
        type: 'track',
        messageId: unique(),
        userId: 'user-1',
        event: 'Signed Up',
        timestamp: new Date(nowMs).toISOString(),
      })
      return { headers: { ...JSON_TYPE }, body }
    },
    sign: (body) => ({ 'x-signature': hmac('sha1', 'hex', body) }),
  },
  shopify: {
    declaration: { kind: 'shopify', secrets: [SECRET] },
    type: 'com.shopify.orders.create',
    request(nowMs, unique = randomId) {
      const body = '{"id":820982911946154508,"admin_graphql_api_id":"gid://shopify/Order/820982911946154508"}'
      return {
        headers: {
          ...JSON_TYPE,
          'x-shopify-topic': 'orders/create',
          'x-shopify-shop-domain': 'example.myshopify.com',
          'x-shopify-webhook-id': unique(),
          'x-shopify-triggered-at': new Date(nowMs).toISOString(),
        },
        body,
      }
    },
    sign: (body) => ({ 'x-shopify-hmac-sha256': hmac('sha256', 'base64', body) }),
  },
  slack: {
    declaration: { kind: 'slack', secrets: [SECRET] },
    type: 'com.slack.block_actions',
    request(nowMs, unique = randomId) {
      const payload = { type: 'block_actions', trigger_id: unique(), team: { id: 'T9TK3CUKW' }, channel: { id: 'C1' } }
      const body = new URLSearchParams({ payload: JSON.stringify(payload) }).toString()
      return { headers: { ...FORM_TYPE, 'x-slack-request-timestamp': seconds(nowMs) }, body }
    },
    sign(body, headers) {
      const signed = Buffer.concat([Buffer.from(`v0:${headers['x-slack-request-timestamp']}:`), body])
      return { 'x-slack-signature': `v0=${hmac('sha256', 'hex', signed)}` }
    },
  },
  standard: {
    declaration: { kind: 'standard', secrets: [STANDARD_SECRET] },
    type: 'com.standardwebhooks.contact.created',
    request(nowMs, unique = randomId) {
      const id = `msg_${unique()}`
      const body = JSON.stringify({
        type: 'contact.created',
        timestamp: new Date(nowMs).toISOString(),
        data: { id: '1' },
      })
      return { headers: { ...JSON_TYPE, 'webhook-id': id, 'webhook-timestamp': seconds(nowMs) }, body }
    },
    sign(body, headers) {
      const key = Buffer.from(STANDARD_SECRET.slice('whsec_'.length), 'base64')
      const signed = Buffer.concat([Buffer.from(`${headers['webhook-id']}.${headers['webhook-timestamp']}.`), body])
      return { 'webhook-signature': `v1,${hmac('sha256', 'base64', signed, key)}` }
    },
  },
  stripe: {
    declaration: { kind: 'stripe', secrets: [SECRET] },
    type: 'com.stripe.charge.succeeded',
    request(nowMs, unique = randomId) {
      const body = JSON.stringify({
        id: `evt_${unique()}`,
        object: 'event',
        type: 'charge.succeeded',
        created: Number(seconds(nowMs)),
        data: { object: { id: 'ch_1', object: 'charge' } },
      })
      return { headers: { ...JSON_TYPE, 'stripe-signature': `t=${seconds(nowMs)}` }, body }
    },
    sign(body, headers) {
      const [, time = ''] = /^t=(\d+)/.exec(headers['stripe-signature'] ?? '') ?? []
      const signature = hmac('sha256', 'hex', Buffer.concat([Buffer.from(`${time}.`), body]))
      return { 'stripe-signature': `t=${time},v1=${signature}` }
    },
  },
  twilio: {
    declaration: { kind: 'twilio', secrets: [SECRET], url: PUBLIC_URL },
    type: 'com.twilio.message.received',
    request(_, unique = randomId) {
      const form = {
        AccountSid: 'AC1',
        Body: 'a b & c',
        From: '+14155550100',
        MessageSid: unique(),
        SmsStatus: 'received',
      }
      return {
        headers: { ...FORM_TYPE, 'i-twilio-idempotency-token': unique() },
        body: new URLSearchParams(form).toString(),
      }
    },
    sign(body) {
      const fields = [...new URLSearchParams(body.toString())].sort(([a], [b]) => (a < b ? -1 : 1))
      return { 'x-twilio-signature': hmac('sha1', 'base64', PUBLIC_URL + fields.flat().join('')) }
    },
  },
}

export const EXAMPLES: Readonly<Record<string, Example>> = Object.fromEntries(
  Object.entries(UNSIGNED).map(([name, example]) => {
    const request: Example['request'] = (nowMs, unique) => {
      const { body, headers } = example.request(nowMs, unique)
      return { body, headers: { ...headers, ...example.sign?.(Buffer.from(body), headers) } }
    }
    return [name, { ...example, request }]
  }),
)
