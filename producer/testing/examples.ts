import { createHmac } from 'node:crypto'
import type { Declaration } from './gateway.ts'

/** A webhook of each kind of source, signed as its sender signs it, except of aws-sns, for which Amazon's key is needed. */

const SECRET = 'a-secret-of-some-length'
/** Standard Webhooks' secrets are base64. */
const STANDARD_SECRET = `whsec_${Buffer.from('a-secret-of-thirty-two-bytes-now').toString('base64')}`

export interface Example {
  declaration: Declaration
  request(nowMs: number): { body: string; headers: Record<string, string> }
  /** Of its event, or events. */
  type: string
}

const JSON_TYPE = { 'content-type': 'application/json' }
const FORM_TYPE = { 'content-type': 'application/x-www-form-urlencoded' }
const BEARER = { authorization: `Bearer ${SECRET}` }

const hmac = (
  algorithm: 'sha1' | 'sha256',
  encoding: 'hex' | 'base64',
  text: string,
  secret: string | Buffer = SECRET,
) => createHmac(algorithm, secret).update(text).digest(encoding)

const seconds = (nowMs: number): string => String(Math.floor(nowMs / 1_000))

/** An id of its own for each run. */
const unique = (): string => crypto.randomUUID()

/** Where the webhooks of {@link EXAMPLES} are said to be received. Only Twilio signs it. */
export const PUBLIC_URL = 'https://hooks.example.com/v1/sources/twilio'

export const EXAMPLES: Readonly<Record<string, Example>> = {
  alertmanager: {
    declaration: { kind: 'alertmanager', secrets: [SECRET] },
    type: 'io.prometheus.alertmanager.firing',
    request: (nowMs) => ({
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
    request: (nowMs) => ({
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
    request(nowMs) {
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
    request() {
      const body = '{"event":"opened","door":7}'
      return {
        headers: { ...JSON_TYPE, 'x-delivery': unique(), 'x-signature': hmac('sha256', 'hex', body) },
        body,
      }
    },
  },
  github: {
    declaration: { kind: 'github', secrets: [SECRET] },
    type: 'com.github.star',
    request() {
      const body =
        '{"action":"created","repository":{"full_name":"octo/hello","html_url":"https://github.com/octo/hello"}}'
      return {
        headers: {
          ...JSON_TYPE,
          'x-github-event': 'star',
          'x-github-delivery': unique(),
          'x-hub-signature-256': `sha256=${hmac('sha256', 'hex', body)}`,
        },
        body,
      }
    },
  },
  gitlab: {
    declaration: { kind: 'gitlab', secrets: [SECRET] },
    type: 'com.gitlab.push',
    request: () => ({
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
    request: (nowMs) => ({
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
    request(nowMs) {
      const body = JSON.stringify({
        type: 'track',
        messageId: unique(),
        userId: 'user-1',
        event: 'Signed Up',
        timestamp: new Date(nowMs).toISOString(),
      })
      return { headers: { ...JSON_TYPE, 'x-signature': hmac('sha1', 'hex', body) }, body }
    },
  },
  shopify: {
    declaration: { kind: 'shopify', secrets: [SECRET] },
    type: 'com.shopify.orders.create',
    request(nowMs) {
      const body = '{"id":820982911946154508,"admin_graphql_api_id":"gid://shopify/Order/820982911946154508"}'
      return {
        headers: {
          ...JSON_TYPE,
          'x-shopify-topic': 'orders/create',
          'x-shopify-shop-domain': 'example.myshopify.com',
          'x-shopify-webhook-id': unique(),
          'x-shopify-triggered-at': new Date(nowMs).toISOString(),
          'x-shopify-hmac-sha256': hmac('sha256', 'base64', body),
        },
        body,
      }
    },
  },
  slack: {
    declaration: { kind: 'slack', secrets: [SECRET] },
    type: 'com.slack.block_actions',
    request(nowMs) {
      const payload = { type: 'block_actions', trigger_id: unique(), team: { id: 'T9TK3CUKW' }, channel: { id: 'C1' } }
      const body = new URLSearchParams({ payload: JSON.stringify(payload) }).toString()
      const signature = hmac('sha256', 'hex', `v0:${seconds(nowMs)}:${body}`)
      return {
        headers: {
          ...FORM_TYPE,
          'x-slack-request-timestamp': seconds(nowMs),
          'x-slack-signature': `v0=${signature}`,
        },
        body,
      }
    },
  },
  standard: {
    declaration: { kind: 'standard', secrets: [STANDARD_SECRET] },
    type: 'com.standardwebhooks.contact.created',
    request(nowMs) {
      const id = `msg_${unique()}`
      const body = JSON.stringify({
        type: 'contact.created',
        timestamp: new Date(nowMs).toISOString(),
        data: { id: '1' },
      })
      const key = Buffer.from(STANDARD_SECRET.slice('whsec_'.length), 'base64')
      const signature = hmac('sha256', 'base64', `${id}.${seconds(nowMs)}.${body}`, key)
      return {
        headers: {
          ...JSON_TYPE,
          'webhook-id': id,
          'webhook-timestamp': seconds(nowMs),
          'webhook-signature': `v1,${signature}`,
        },
        body,
      }
    },
  },
  stripe: {
    declaration: { kind: 'stripe', secrets: [SECRET] },
    type: 'com.stripe.charge.succeeded',
    request(nowMs) {
      const body = JSON.stringify({
        id: `evt_${unique()}`,
        object: 'event',
        type: 'charge.succeeded',
        created: Number(seconds(nowMs)),
        data: { object: { id: 'ch_1', object: 'charge' } },
      })
      const signature = hmac('sha256', 'hex', `${seconds(nowMs)}.${body}`)
      return { headers: { ...JSON_TYPE, 'stripe-signature': `t=${seconds(nowMs)},v1=${signature}` }, body }
    },
  },
  twilio: {
    declaration: { kind: 'twilio', secrets: [SECRET], url: PUBLIC_URL },
    type: 'com.twilio.message.received',
    request() {
      const form = {
        AccountSid: 'AC1',
        Body: 'a b & c',
        From: '+14155550100',
        MessageSid: unique(),
        SmsStatus: 'received',
      }
      const names = (Object.keys(form) as (keyof typeof form)[]).sort()
      const signed = PUBLIC_URL + names.map((name) => name + form[name]).join('')
      return {
        headers: {
          ...FORM_TYPE,
          'i-twilio-idempotency-token': unique(),
          'x-twilio-signature': hmac('sha1', 'base64', signed),
        },
        body: new URLSearchParams(form).toString(),
      }
    },
  },
}
