/** A client as a user would write it, with openapi-typescript's types: ../../clients-openapi.ts compiles and runs it. */
import createClient from 'openapi-fetch'
import type { components, paths } from './api.ts'

const client = createClient<paths>({ baseUrl: process.argv[2] ?? '' })
const answers: { status: number; detail: unknown }[] = []
type Answer = Awaited<ReturnType<typeof client.POST<'/v1/events', { body: string }>>>

function take({ data, error, response }: Pick<Answer, 'data' | 'error' | 'response'>): void {
  const receipts = data !== undefined && 'receipts' in data ? data.receipts.map(({ id }) => id) : undefined
  answers.push({ status: response.status, detail: receipts ?? error?.errors?.map(({ pointer }) => pointer) ?? null })
}

take(await client.POST('/v1/events', { body: { type: 't', data: { x: 1 } } }))
take(await client.POST('/v1/events', { body: { type: 't', id: 'é', data: [1], priority: 3, urgent: true } }))
take(await client.POST('/v1/events', { body: { type: 't', subject: null, data: null } }))
take(
  await client.POST('/v1/events', {
    body: [
      { type: 't', id: '1' },
      { type: 't', id: '2', data: 'text' },
    ],
  }),
)
take(
  await client.POST('/v1/streams/{stream}/events', {
    params: { path: { stream: 'events' }, header: { 'X-Request-Id': 'mine' } },
    body: { type: 't', id: '3', time: '2026-01-31T23:59:59Z' },
  }),
)

const event: components['schemas']['CloudEvent'] = {
  specversion: '1.0',
  id: '4',
  source: '/shop',
  type: 't',
  data: { x: 1 },
  extension: 'e',
}
take(await client.POST('/v1/events', { headers: { 'content-type': 'application/cloudevents+json' }, body: event }))
take(
  await client.POST('/v1/events', {
    headers: { 'content-type': 'application/cloudevents-batch+json' },
    body: [event, { ...event, id: '5' }],
  }),
)

take(await client.POST('/v1/events', { body: { type: '' } }))
// @ts-expect-error: an event has a type
take(await client.POST('/v1/events', { body: { data: 1 } }))

console.log(JSON.stringify(answers))
