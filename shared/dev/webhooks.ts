import { createHash, createHmac } from 'node:crypto'
import { sleep } from '../service/retry.ts'

/**
 * GitHub's example webhook payloads from `@octokit/webhooks-examples`: real input to try things out with, sent as GitHub sends it.
 */

/** An event in the producer's plain form. */
export interface PlainEvent {
  id: string
  type: string
  source: string
  subject?: string
  data: unknown
}

interface Webhook {
  /** GitHub's name of the event, such as `pull_request`. */
  name: string
  examples: { repository?: { full_name?: string } }[]
}

/**
 * Every example as an event of type `com.github.<name>`. IDs are hashes of the content, so that sending them again sends the
 * same events.
 */
export async function webhookEvents(): Promise<PlainEvent[]> {
  const { default: webhooks } = (await import('@octokit/webhooks-examples/api.github.com/index.json')) as {
    default: unknown
  }
  const seen = new Set<string>()
  return (webhooks as Webhook[]).flatMap(({ name, examples }) =>
    examples.flatMap((data) => {
      const id = createHash('sha256').update(name).update(JSON.stringify(data)).digest('hex').slice(0, 32)
      // The collection has some examples twice.
      if (seen.has(id)) return []
      seen.add(id)
      const subject = data.repository?.full_name
      return {
        id,
        type: `com.github.${name}`,
        source: 'https://github.com',
        ...(subject === undefined ? {} : { subject }),
        data,
      }
    }),
  )
}

/** Requests at a time. */
const CONCURRENT_REQUESTS = 8

/** The result of sending. */
export interface Sent {
  accepted: number
  refused: { id: string; type: string; status: number; detail: string }[]
}

/** Where a source of webhooks is, and the secret that it shares with its sender. */
export interface WebhookSource {
  url: string
  secret: string
}

/** Delivers an event as GitHub does. Source: docs.github.com, "Webhook events and payloads", "Delivery headers". */
function deliver({ id, type, data }: PlainEvent, { url, secret }: WebhookSource, signal?: AbortSignal) {
  const body = JSON.stringify(data)
  return fetch(url, {
    // A kept-open connection would delay the producer's shutdown.
    keepalive: false,
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'x-github-event': type.slice('com.github.'.length),
      'x-github-delivery': id,
      'x-hub-signature-256': `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`,
    },
    body,
    ...(signal === undefined ? {} : { signal }),
  })
}

/** Sends each event as a webhook, a few at a time. */
export async function sendWebhooks(
  events: readonly PlainEvent[],
  source: WebhookSource,
  progress: (done: number) => void,
): Promise<Sent> {
  const sent: Sent = { accepted: 0, refused: [] }
  const waiting = events.values()
  let done = 0
  const work = async (): Promise<void> => {
    // All workers share one iterator.
    for (const event of waiting) {
      const response = await deliver(event, source)
      const body = await response.text()
      if (response.status === 202) sent.accepted++
      else sent.refused.push({ id: event.id, type: event.type, status: response.status, detail: body.slice(0, 300) })
      progress(++done)
    }
  }
  await Promise.all(Array.from({ length: CONCURRENT_REQUESTS }, work))
  return sent
}

const SLOWLY_EVERY_MS = 1_000

/** Every so many events, one has no data that its handler takes. */
const SPOILED_EVERY = 8

/** Sends the events again and again, as new ones, one each second, until the signal is aborted. Some are spoiled. Refusals are not told. */
export async function sendSlowly(
  events: readonly PlainEvent[],
  source: WebhookSource,
  signal: AbortSignal,
): Promise<void> {
  for (let sent = 0; !signal.aborted; sent++) {
    const event = events[sent % events.length] as PlainEvent
    const isSpoiled = sent % SPOILED_EVERY === 1
    const again = { ...event, id: Bun.randomUUIDv7(), ...(isSpoiled && SPOILED) }
    await deliver(again, source, signal).catch(() => undefined)
    await sleep(SLOWLY_EVERY_MS, signal)
  }
}

/** A push that says nothing of what was pushed, and where. */
const SPOILED = { type: 'com.github.push', data: { pusher: 'nobody' } }
