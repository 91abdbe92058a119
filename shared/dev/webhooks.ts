import { createHash } from 'node:crypto'
import { sleep } from '../service/retry.ts'

/**
 * GitHub's example webhook payloads from `@octokit/webhooks-examples`: real input to try things out with.
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

/** Sends each event in its own request, a few at a time. */
export async function sendEvents(
  events: readonly PlainEvent[],
  url: string,
  progress: (done: number) => void,
): Promise<Sent> {
  const sent: Sent = { accepted: 0, refused: [] }
  const waiting = events.values()
  let done = 0
  const work = async (): Promise<void> => {
    // All workers share one iterator.
    for (const event of waiting) {
      const response = await fetch(url, {
        // A kept-open connection would delay the producer's shutdown.
        keepalive: false,
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(event),
      })
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
export async function sendSlowly(events: readonly PlainEvent[], url: string, signal: AbortSignal): Promise<void> {
  for (let sent = 0; !signal.aborted; sent++) {
    const event = events[sent % events.length]
    const isSpoiled = sent % SPOILED_EVERY === 1
    const body = { ...event, id: Bun.randomUUIDv7(), ...(isSpoiled && SPOILED) }
    await fetch(url, {
      keepalive: false,
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
      signal,
    }).catch(() => undefined)
    await sleep(SLOWLY_EVERY_MS, signal)
  }
}

/** A push that says nothing of what was pushed, and where. */
const SPOILED = { type: 'com.github.push', data: { pusher: 'nobody' } }
