import type { Fields } from './fields.ts'
import { defineKind, Secrets, timeOf } from './kind.ts'
import { sha256, signedBy, timely, unsigned } from './signature.ts'
import type { Webhook } from './webhook.ts'

/** Where a payload has its channel. */
const CHANNELS = [
  '/event/channel',
  '/event/channel/id',
  '/event/channel_id',
  '/event/item/channel',
  '/channel/id',
  '/channel_id',
]

/**
 * Slack: callbacks of the Events API as JSON, interactions as a form with a `payload`, and slash commands as a form of fields. `event_id` is the same in every
 * attempt; interactions and commands are sent once.
 * Sources: docs.slack.dev, "Verifying requests from Slack", "The Events API", "url_verification event", "app_rate_limited event", "Handling user interaction",
 * "Interaction payloads" and "Slash commands".
 */
export const slack = defineKind({
  name: 'slack',
  timeoutMs: 3_000,
  options: { secrets: Secrets },
  verify(webhook, { secrets }) {
    const time = webhook.header('x-slack-request-timestamp')
    if (time === undefined) return unsigned('X-Slack-Request-Timestamp is missing')
    const verdict = signedBy(
      'X-Slack-Signature',
      webhook.header('x-slack-signature'),
      { algorithm: 'sha256', encoding: 'hex', secrets, parts: [`v0:${time}:`, webhook.body] },
      'v0=',
    )
    return verdict.ok ? timely(time, webhook.receivedAtMs) : verdict
  },
  identify(webhook) {
    const { json } = webhook
    if (challengeOf(json) !== undefined || isCertificateCheck(webhook)) return undefined
    const team = json.text('/team_id') ?? json.text('/team/id')
    const type = typeOf(webhook)
    return {
      id: idOf(webhook),
      type: type === undefined ? undefined : `com.slack.${type}`,
      source: team === undefined ? 'https://slack.com' : `https://app.slack.com/client/${team}`,
      subject: CHANNELS.map((pointer) => json.text(pointer)).find((channel) => channel !== undefined) ?? team,
      time: timeOf(json.text('/event_time') ?? json.text('/minute_rate_limited')),
    }
  },
  // Slack shows a body to its user, or looks in it for what to do.
  respond({ json }) {
    const challenge = challengeOf(json)
    if (challenge === undefined) return { status: 200 }
    return { status: 200, headers: { 'content-type': 'text/plain; charset=utf-8' }, body: challenge }
  },
})

const challengeOf = (json: Fields): string | undefined =>
  json.text('/type') === 'url_verification' ? json.text('/challenge') : undefined

/** Slack looks at the certificate of a slash command's URL now and then. */
const isCertificateCheck = ({ isForm, json }: Webhook): boolean => isForm && json.text('/ssl_check') === '1'

function typeOf({ isForm, json }: Webhook): string | undefined {
  if (isForm && json.text('/command') !== undefined) return 'slash_command'
  const type = json.text('/type')
  return type === 'event_callback' ? json.text('/event/type') : type
}

function idOf({ body, json }: Webhook): string | undefined {
  switch (json.text('/type')) {
    case 'event_callback':
      return json.text('/event_id')
    case 'app_rate_limited': {
      const names = ['/api_app_id', '/team_id', '/minute_rate_limited'].map((pointer) => json.text(pointer))
      return names.includes(undefined) ? undefined : ['app_rate_limited', ...names].join(':')
    }
    // Without its challenge.
    case 'url_verification':
      return undefined
    default:
      // Some interactions, such as view_closed, have no id at all.
      return json.text('/trigger_id') ?? sha256(body)
  }
}
