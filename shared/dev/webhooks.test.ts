import { afterEach, describe, expect, test } from 'bun:test'
import { createHmac } from 'node:crypto'
import { sendWebhooks, webhookEvents } from './webhooks.ts'

describe('GitHub’s webhook payloads', () => {
  test('are some 300 events with ids of their own, which are the same each time', async () => {
    const events = await webhookEvents()
    expect(events.length).toBeGreaterThan(250)
    expect(new Set(events.map(({ id }) => id)).size).toBe(events.length)
    expect(await webhookEvents()).toEqual(events)
  })

  test('have GitHub’s event in their type and the repository as subject, where there is one', async () => {
    const events = await webhookEvents()
    const push = events.find(({ type }) => type === 'com.github.push')
    expect(push).toMatchObject({ data: { repository: { full_name: push?.subject } } })
    expect(push?.subject).toContain('/')
    expect(events.some((event) => !('subject' in event))).toBe(true)
  })
})

describe('sending', () => {
  let server: ReturnType<typeof Bun.serve> | undefined
  afterEach(() => server?.stop(true))

  test('sends each event once, signed as GitHub signs, and says which were refused and why', async () => {
    const received: string[] = []
    const listening = Bun.serve({
      port: 0,
      hostname: '127.0.0.1',
      async fetch(request) {
        const body = await request.text()
        const { headers } = request
        const id = headers.get('x-github-delivery')
        const signature = `sha256=${createHmac('sha256', 'secret').update(body).digest('hex')}`
        const isSigned = headers.get('x-hub-signature-256') === signature
        received.push(`${headers.get('content-type')} ${headers.get('x-github-event')} ${id} ${body} ${isSigned}`)
        return id === '3' ? new Response('not today', { status: 422 }) : new Response('{}', { status: 202 })
      },
    })
    server = listening
    const events = Array.from({ length: 20 }, (_, id) => ({
      id: String(id),
      type: 'com.github.push',
      source: 's',
      data: id,
    }))
    const progress: number[] = []
    const sent = await sendWebhooks(events, { url: listening.url.href, secret: 'secret' }, (done) =>
      progress.push(done),
    )
    expect(received.sort()).toEqual(events.map(({ id }) => `application/json push ${id} ${id} true`).sort())
    expect(sent).toEqual({
      accepted: 19,
      refused: [{ id: '3', type: 'com.github.push', status: 422, detail: 'not today' }],
    })
    expect(progress).toEqual(events.map((_, index) => index + 1))
  })
})
