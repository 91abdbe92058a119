import { defineKind, Secrets } from './kind.ts'
import { signedBy } from './signature.ts'

/**
 * GitHub, as JSON or as a form. `X-GitHub-Delivery` is the same when a delivery is sent again.
 * Sources: docs.github.com, "Webhook events and payloads" and "Validating webhook deliveries".
 */
export const github = defineKind({
  name: 'github',
  timeoutMs: 10_000,
  options: { secrets: Secrets },
  verify: (webhook, { secrets }) =>
    signedBy(
      'X-Hub-Signature-256',
      webhook.header('x-hub-signature-256'),
      { algorithm: 'sha256', encoding: 'hex', secrets, parts: [webhook.body] },
      'sha256=',
    ),
  identify(webhook) {
    const event = webhook.word('x-github-event')
    const { json } = webhook
    const url = json.text('/repository/html_url') ?? json.text('/organization/url') ?? json.text('/enterprise/html_url')
    return {
      id: webhook.word('x-github-delivery'),
      type: event === undefined ? undefined : `com.github.${event}`,
      source: url ?? 'https://github.com',
      subject: json.text('/repository/full_name') ?? json.text('/organization/login'),
    }
  },
})
