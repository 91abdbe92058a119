import { Type } from '@sinclair/typebox'
import { defineKind } from './kind.ts'
import { isSigned, timely, unsigned, wrong } from './signature.ts'
import type { Webhook } from './webhook.ts'

/** `whsec_` and at least 24 bytes in base64; Supabase shows it with the version before it. */
const Secret = Type.String({
  description: 'a secret of Standard Webhooks: whsec_ and at least 24 bytes in base64',
  pattern: '^(?:v1,)?whsec_(?=[A-Za-z0-9+/]{32})(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$',
})

const SIGNATURE = /^[a-z0-9]+,[A-Za-z0-9+/]+={0,2}$/
const SYMMETRIC = 'v1,'

/** Svix has its own names of the header fields, unless its customer pays for others. */
const prefixOf = (webhook: Webhook): string => (webhook.header('webhook-signature') === undefined ? 'svix' : 'webhook')

/**
 * Standard Webhooks, which Svix, Clerk, Resend, OpenAI and others send. `webhook-id` is the same when a message is sent again; its time is not.
 * Sources: github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md, version 1.0.0; docs.svix.com, "Verifying Webhooks Manually" and
 * "Retry Schedule".
 */
export const standard = defineKind({
  name: 'standard',
  timeoutMs: 15_000,
  options: { secrets: Type.Array(Secret, { minItems: 1, maxItems: 2, uniqueItems: true }) },
  verify(webhook, { secrets }) {
    const prefix = prefixOf(webhook)
    const [id, time, given] = ['id', 'timestamp', 'signature'].map((name) => webhook.header(`${prefix}-${name}`))
    if (id === undefined || time === undefined || given === undefined)
      return unsigned('webhook-id, webhook-timestamp or webhook-signature is missing')
    const signatures = given.split(' ')
    if (!signatures.every((one) => SIGNATURE.test(one)))
      return wrong(`${prefix}-signature is no list of signatures, such as v1,BASE64`)
    const signed = isSigned(
      signatures.filter((one) => one.startsWith(SYMMETRIC)).map((one) => one.slice(SYMMETRIC.length)),
      {
        algorithm: 'sha256',
        encoding: 'base64',
        secrets: secrets.map((secret) => Buffer.from(secret.slice(secret.indexOf('_') + 1), 'base64')),
        parts: [`${id}.${time}.`, webhook.body],
      },
    )
    return signed ? timely(time, webhook.receivedAtMs) : wrong(`${prefix}-signature fits none of the secrets`)
  },
  identify(webhook) {
    const { json } = webhook
    return {
      id: webhook.header(`${prefixOf(webhook)}-id`),
      type: `com.standardwebhooks.${json.text('/type') || 'webhook'}`,
      // Resend names its time differently.
      time: json.text('/timestamp') ?? json.text('/created_at'),
      subject: json.text('/data/id'),
    }
  },
})
