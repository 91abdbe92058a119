import { defineKind, HeaderName, Secrets } from './kind.ts'
import { holdsSecret } from './signature.ts'

/**
 * Amazon EventBridge, by an API destination whose connection has an API key, or Basic with the secret as its password. `id` is the event's own.
 * Sources: EventBridge User Guide, "API destinations as targets", "Connections" and "Event structure reference".
 */
export const awsEventbridge = defineKind({
  name: 'aws-eventbridge',
  timeoutMs: 5_000,
  options: { secrets: Secrets, header: { ...HeaderName, default: 'x-api-key' } },
  verify: (webhook, { secrets, header }) => holdsSecret(webhook, secrets, header.toLowerCase()),
  identify({ json }) {
    const event = json.text('/detail-type')
    return {
      id: json.text('/id'),
      type: event === undefined ? undefined : `com.amazonaws.events.${event}`,
      source: json.text('/source'),
      subject: json.text('/resources/0'),
      time: json.text('/time'),
    }
  },
})
