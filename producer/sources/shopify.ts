import { defineKind, Secrets } from './kind.ts'
import { signedBy } from './signature.ts'

/**
 * Shopify: webhooks of an app, signed with its client secret, and those of a shop's settings, signed with the secret that is shown there.
 * `X-Shopify-Webhook-Id` is the delivery's, and the same in each attempt; `X-Shopify-Event-Id` is shared by the deliveries, of other topics too, that
 * follow from one action, so that it would drop some of them.
 * Sources: shopify.dev, "Webhooks delivery structure" and "Verify webhook deliveries".
 */
export const shopify = defineKind({
  name: 'shopify',
  timeoutMs: 5_000,
  options: { secrets: Secrets },
  verify: (webhook, { secrets }) =>
    signedBy('X-Shopify-Hmac-SHA256', webhook.header('x-shopify-hmac-sha256'), {
      algorithm: 'sha256',
      encoding: 'base64',
      secrets,
      parts: [webhook.body],
    }),
  identify(webhook) {
    const topic = webhook.word('x-shopify-topic')
    const shop = webhook.word('x-shopify-shop-domain')
    const { json } = webhook
    return {
      id: webhook.word('x-shopify-webhook-id'),
      type: topic === undefined ? undefined : `com.shopify.${topic.replaceAll('/', '.')}`,
      source: shop === undefined ? undefined : `https://${shop}`,
      subject: json.text('/admin_graphql_api_id') ?? json.text('/id'),
      time: webhook.header('x-shopify-triggered-at'),
    }
  },
})
