import type { Fields } from './fields.ts'
import { defineKind, Secrets } from './kind.ts'
import { signedBy, wrong } from './signature.ts'

/**
 * Segment: the destinations "Webhooks" and "Webhooks (Actions)".
 * Sources: segment.com/docs, "Webhooks Destination", "Webhooks (Actions) Destination" and "Spec: Common fields".
 */
export const segment = defineKind({
  name: 'segment',
  timeoutMs: 5_000,
  options: { secrets: Secrets },
  verify(webhook, { secrets }) {
    const verdict = signedBy('X-Signature', webhook.header('x-signature'), {
      algorithm: 'sha1',
      encoding: 'hex',
      secrets,
      parts: [webhook.body],
    })
    if (verdict.ok || verdict.reason !== 'wrong' || webhook.body[0] !== BRACKET) return verdict
    return wrong('it is a batch, of which Segment signs only the first event: batching has to be off')
  },
  identify({ json }) {
    const type = json.text('/type')
    return {
      id: json.text('/messageId') ?? (type === 'delete' ? deletionOf(json) : undefined),
      type: type !== undefined && /^[a-z]+$/.test(type) ? `com.segment.${type}` : undefined,
      subject: json.text('/userId') ?? json.text('/anonymousId'),
      time: json.text('/timestamp'),
    }
  },
})

const BRACKET = 0x5b

/** What a request to delete a user has instead of a messageId. */
function deletionOf(json: Fields): string | undefined {
  const userId = json.text('/userId')
  const timestamp = json.text('/timestamp')
  return userId === undefined || timestamp === undefined ? undefined : `delete ${userId} ${timestamp}`
}
