import { Type } from '@sinclair/typebox'
import type { Fields } from './fields.ts'
import { defineKind, Secrets } from './kind.ts'
import { holdsSecret, sha256 } from './signature.ts'

/**
 * Prometheus Alertmanager's webhook, and Grafana's, which has the same shape. It has no id. Its retries are the same bytes, but so are the repeats of an alert
 * that still fires, and a dead man's switch is made of these. So the id is the body's hash, and which `group_interval` it came in: a notification is retried
 * for no longer, and repeated no sooner. These intervals begin at the oldest alert's start, as Alertmanager's do, so that few retries come in the next one.
 * Sources: prometheus.io, "Alerting", "Configuration", `<webhook_config>` and `<route>`; grafana.com, "Webhook notifier".
 */
export const alertmanager = defineKind({
  name: 'alertmanager',
  // What Alertmanager waits at the least: `notify.MinTimeout`, or `group_interval` if that is longer.
  timeoutMs: 10_000,
  options: {
    secrets: Secrets,
    /** The route's `group_interval`. */
    groupIntervalSeconds: Type.Integer({ minimum: 1, default: 300 }),
  },
  verify: (webhook, { secrets }) => holdsSecret(webhook, secrets),
  identify(webhook, { groupIntervalSeconds }) {
    const { json } = webhook
    const status = json.text('/status')
    const starts = timesOf(json, 'startsAt')
    const sinceMs = webhook.receivedAtMs - Date.parse(starts[0] ?? '1970-01-01T00:00:00Z')
    const interval = Math.floor(sinceMs / (groupIntervalSeconds * 1_000))
    return {
      id: `${sha256(webhook.body)}-${interval}`,
      type: status === 'firing' || status === 'resolved' ? `io.prometheus.alertmanager.${status}` : undefined,
      source: json.text('/externalURL'),
      subject: json.text('/groupKey'),
      time: status === 'resolved' ? timesOf(json, 'endsAt').at(-1) : starts.at(-1),
    }
  },
})

/** When the alerts began or ended, from the oldest on. */
const timesOf = (json: Fields, member: 'startsAt' | 'endsAt'): string[] =>
  Array.from({ length: json.count('/alerts') }, (_, index) => json.text(`/alerts/${index}/${member}`) ?? '')
    .filter((time) => !Number.isNaN(Date.parse(time)))
    .sort((one, other) => Date.parse(one) - Date.parse(other))
