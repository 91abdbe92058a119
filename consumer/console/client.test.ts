import { expect, test } from 'bun:test'
import { Value } from '@sinclair/typebox/value'
import { simulateTime } from '../../shared/testing/simulated-time.ts'
import { ApiError, Client, type ClientOptions, type Followed, linesOf, UnreachableError } from './client.ts'
import { readQuery } from './parameters.ts'
import type { RouteDeps } from './route.ts'
import { routes } from './routes.ts'

// TypeBox checks no schema made with Type.Unsafe by itself.
type Fetch = NonNullable<ClientOptions['fetch']>

const clientOf = (fetch: Fetch, more: Partial<ClientOptions> = {}): Client =>
  new Client({ url: 'http://console.test/base/', fetch, ...more })

const problem = (status: number, kind: string, more: object = {}, headers: Record<string, string> = {}): Response =>
  new Response(
    JSON.stringify({ type: `urn:kafkatrace:problem:${kind}`, title: 'T', status, detail: 'What happened.', ...more }),
    {
      status,
      headers: { 'content-type': 'application/problem+json', ...headers },
    },
  )

/** A body in parts; `open` leaves it open, `cut` breaks it off. */
function bodyOf(
  parts: readonly (string | Uint8Array)[],
  end: 'closed' | 'open' | 'cut' = 'closed',
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder()
  let next = 0
  return new ReadableStream({
    pull(controller) {
      const part = parts[next++]
      if (part !== undefined) controller.enqueue(typeof part === 'string' ? encoder.encode(part) : part)
      else if (end === 'closed') controller.close()
      else if (end === 'cut') controller.error(new Error('ECONNRESET'))
      else return new Promise<void>(() => undefined)
      return undefined
    },
  })
}

async function caught(work: Promise<unknown>): Promise<unknown> {
  try {
    await work
  } catch (error) {
    return error
  }
  throw new Error('it did not fail')
}

// ---- requests

test('every request is one that the console’s table of routes allows', async () => {
  const asked: { url: string; method: string; body: unknown }[] = []
  const client = clientOf(async (url, { method = 'GET', body }) => {
    asked.push({ url, method, body: body === undefined ? undefined : JSON.parse(String(body)) })
    return new Response(url.includes('/outcomes') ? ': nothing\n\n' : '{"result":{},"receipts":[{}]}')
  })
  const at = { partition: 1, offset: 2 }
  const filter = { type: 'order.*', from: '2026-01-01T00:00:00Z' }
  const ending = new AbortController()
  await client.access()
  await client.streams()
  await client.send('s', { type: 'greeting', data: {} })
  await client.find('s', {
    id: 'a/b',
    source: '/shop',
    key: '',
    from: '2026-01-01T00:00:00Z',
    to: '2026-01-02T00:00:00Z',
    format: 'text',
  })
  await client.find('s', at)
  await client.find('s', { traceId: '4bf92f3577b34da6a3ce929d0e0e4736' })
  await client.outcome('s', 'a', { wait: 5, source: '/shop', key: 'k', generation: 1 })
  const all = { outcome: 'dead', type: 't*', source: '/s', subject: 'u', id: 'i', key: 'k', reason: 'r' } as const
  for await (const _ of client.follow('s', all, { signal: ending.signal, onCut: () => ending.abort() }));
  await client.browse('s', {
    topic: 'dlq',
    order: 'oldest',
    limit: 5,
    ...at,
    header: ['a:b', 'c:d'],
    where: ['/a=1'],
    ...filter,
  })
  await client.letterGroups('s', { ...filter, reason: 'r', handler: 'h', state: 'all' })
  await client.letter('s', at, 'text')
  await client.redrive('s', at, { reason: 'r', edit: { patch: [{ op: 'remove', path: '/a' }] } })
  await client.discard('s', at, 'r')
  await client.dryRun('s', { action: 'redrive', filter })
  await client.startJob('s', { action: 'discard', filter, ratePerSecond: 5, reason: 'r' })
  await client.jobs('s')
  await client.job('s', 'j')
  await client.cancelJob('s', 'j', 'r')
  await client.acts('s', 5)
  await client.status('s')
  await client.history('s', 60)
  await client.schemas('s', 5)
  await client.schema('s', 'order.placed', 2)
  await client.pause('s', 'r')
  await client.resume('s')

  const config = {} as RouteDeps['config']
  const table = routes({ config } as RouteDeps)
  const matched = asked.map(({ url, method, body }) => {
    const { pathname } = new URL(url)
    const found = table.find(
      (route) =>
        route.method.toUpperCase() === method &&
        new RegExp(`^/base${route.path.replaceAll(/\{\w+\}/g, '[^/]+')}$`).test(pathname),
    )
    if (found === undefined) throw new Error(`no route for ${method} ${pathname}`)
    const whole = new URL(url)
    for (const [name, { default: fallback }] of Object.entries(found.query.properties))
      if (fallback !== undefined && !whole.searchParams.has(name)) whole.searchParams.set(name, String(fallback))
    readQuery(found.query, whole.href)
    if (found.body !== undefined)
      expect([found.name, ...Value.Errors(found.body, Value.Default(found.body, body))]).toEqual([found.name])
    return found.name
  })
  // Each route has its method.
  expect(new Set(matched)).toEqual(new Set(table.map(({ name }) => name)))
})

test.each([
  ['find', (client: Client) => client.find('a/b', { id: 'c?/d' }), 'a%2Fb/events/c%3F%2Fd'],
  ['outcome', (client: Client) => client.outcome('a/b', 'c?/d'), 'a%2Fb/events/c%3F%2Fd/outcome'],
  ['job', (client: Client) => client.job('a/b', 'c?/d'), 'a%2Fb/jobs/c%3F%2Fd'],
  ['schema', (client: Client) => client.schema('a/b', 'c?/d', 2), 'a%2Fb/schemas/c%3F%2Fd/2'],
  ['cancelJob', (client: Client) => client.cancelJob('a/b', 'c?/d'), 'a%2Fb/jobs/c%3F%2Fd/cancel'],
])('names with slashes stay names in the path of %s', async (_, ask, path) => {
  let asked = ''
  await ask(
    clientOf(async (url) => {
      asked = url
      return new Response('{"result":{}}')
    }),
  )
  expect(asked).toBe(`http://console.test/base/v1/streams/${path}`)
})

test('the key and the tenant go with every request', async () => {
  let seen: { url: string; authorization: string | null } | undefined
  const fetch: Fetch = async (url, { headers }) => {
    seen = { url, authorization: new Headers(headers).get('authorization') }
    return new Response('{"streams":[]}')
  }
  await clientOf(fetch, { key: 'k1', tenant: 'acme' }).streams()
  expect(seen).toEqual({ url: 'http://console.test/base/v1/streams?tenant=acme', authorization: 'Bearer k1' })
})

test('numbers of data keep their digits', async () => {
  const client = clientOf(
    async () => new Response('{"letter":{"data":{"json":{"n":12345678901234567890,"m":1.50,"k":3}}}}'),
  )
  expect(JSON.stringify(await client.letter('s', { partition: 0, offset: 0 }))).toContain(
    '{"n":12345678901234567890,"m":1.50,"k":3}',
  )
})

// ---- refusals

test('a problem document becomes an error with its kind, status, detail, faults and wait', async () => {
  const errors = [{ pointer: '/query/from', detail: 'is not a time' }]
  const client = clientOf(async () => problem(503, 'overloaded', { errors }, { 'retry-after': '7' }))
  const error = (await caught(client.streams())) as ApiError
  expect(error).toBeInstanceOf(ApiError)
  expect(error).toMatchObject({
    kind: 'overloaded',
    status: 503,
    message: 'What happened.',
    errors,
    retryAfterSeconds: 7,
  })
})

test('a refusal that is no problem document is an error, too', async () => {
  const client = clientOf(async () => new Response('<h1>Bad gateway</h1>', { status: 502 }))
  expect(await caught(client.streams())).toMatchObject({ name: 'ApiError', kind: 'other', status: 502 })
})

test('no connection is another error than a refusal', async () => {
  const client = clientOf(() => Promise.reject(new Error('ECONNREFUSED')))
  expect(await caught(client.streams())).toBeInstanceOf(UnreachableError)
})

// ---- progress

test('a search tells its progress until its result, wherever the lines are split', async () => {
  const lines =
    '{"progress":{"searched":5,"of":9,"seconds":0.2}}\n{"progress":{"searched":9,"of":9,"seconds":0.4}}\n{"result":{"events":[],"complete":true}}\n'
  for (const size of [1, 7, 1_000]) {
    const parts = lines.match(new RegExp(`[^]{1,${size}}`, 'g')) ?? []
    const told: number[] = []
    const client = clientOf(async () => new Response(bodyOf(parts)))
    const found = await client.find('s', { id: 'a' }, { onProgress: ({ searched }) => told.push(searched) })
    expect([told, found.complete]).toEqual([[5, 9], true])
  }
})

test('characters of several bytes stay whole, wherever the bytes are split', async () => {
  const line = '{"id":"é€😀"}'
  const bytes = Buffer.from(`${line}\n${line}\n${line}`)
  for (const size of [1, 2, 3, 5]) {
    const parts = Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
      bytes.subarray(index * size, (index + 1) * size),
    )
    expect(await Array.fromAsync(linesOf(new Response(bodyOf(parts))))).toEqual([line, line, line])
  }
})

test('a problem after progress is an error, and so is an answer that ends without a result', async () => {
  const progress = '{"progress":{"searched":5,"of":9,"seconds":0.2}}\n'
  const told = `{"problem":{"type":"urn:kafkatrace:problem:event-not-found","title":"T","status":404,"detail":"nothing"}}\n`
  expect(
    await caught(clientOf(async () => new Response(bodyOf([progress, told]))).find('s', { id: 'a' })),
  ).toMatchObject({ kind: 'event-not-found', status: 404 })
  for (const end of ['closed', 'cut'] as const)
    expect(
      await caught(clientOf(async () => new Response(bodyOf([progress], end))).find('s', { id: 'a' })),
    ).toBeInstanceOf(UnreachableError)
})

// ---- following

const outcome = (offset: number): string =>
  `event: outcome\nid: p${offset + 1}\ndata: ${JSON.stringify({ id: `e${offset}`, partition: 0, offset })}\n\n`
const begin = (position: string): string => `retry: 1000\n: outcomes of acme/s\nid: ${position}\n\n`

interface Run {
  /** Last-Event-ID of each connection. */
  since: (string | null)[]
  got: Followed[]
  cuts: { reason: string; waitMs: number }[]
  positions: string[]
  error?: unknown
}

/** Follows through these answers, in simulated time, until so many outcomes came or the follower ended. */
async function followed(
  answers: readonly (() => Response | Promise<Response>)[],
  count: number,
  since?: string,
): Promise<Run> {
  const time = simulateTime(1)
  const run: Run = { since: [], got: [], cuts: [], positions: [] }
  const ending = new AbortController()
  const client = clientOf(async (_, { headers }) => {
    run.since.push(new Headers(headers).get('last-event-id'))
    const answer = answers[run.since.length - 1]
    if (answer !== undefined) return answer()
    ending.abort()
    throw new Error('ended')
  })
  let isOver = false
  const following = (async () => {
    const options = {
      since,
      signal: ending.signal,
      onCut: (reason: string, waitMs: number) => void run.cuts.push({ reason, waitMs }),
      onPosition: (position: string) => void run.positions.push(position),
    }
    try {
      for await (const one of client.follow('s', {}, options)) {
        run.got.push(one)
        if (run.got.length === count) break
      }
    } catch (error) {
      run.error = error
    }
    isOver = true
  })()
  try {
    expect(await time.until(() => isOver, 600_000)).toBe(true)
    await following
  } finally {
    time.end()
  }
  return run
}

const ids = ({ got }: Run): (string | undefined)[] => got.map(({ outcome: { id } }) => id)

test('a follower that was cut goes on after the last whole outcome: none is lost or doubled', async () => {
  const [whole, half] = [outcome(0), outcome(1)]
  const run = await followed(
    [
      // The second outcome broke off in its data.
      () => new Response(bodyOf([begin('p0'), whole, half.slice(0, -8)], 'cut')),
      () => new Response(bodyOf([begin('p1'), half, outcome(2)], 'open')),
    ],
    3,
  )
  expect(run.since).toEqual([null, 'p1'])
  expect(ids(run)).toEqual(['e0', 'e1', 'e2'])
  expect(run.got.at(-1)?.position).toBe('p3')
})

test('positions without an outcome count, too: a follower whose filter matches nothing resumes from the last', async () => {
  const run = await followed(
    [
      () => new Response(bodyOf([begin('p4'), ': nothing new\nid: p9\n\n'], 'cut')),
      () => new Response(bodyOf([outcome(9)], 'open')),
    ],
    1,
    'p2',
  )
  expect(run.since).toEqual(['p2', 'p9'])
  expect(run.positions).toEqual(['p4', 'p9', 'p10'])
})

test('an end event is told with its reason, and the follower goes on', async () => {
  const end = 'event: end\ndata: {"reason":"behind","detail":"too slow","advice":"again"}\n\n'
  const run = await followed(
    [
      () => new Response(bodyOf([begin('p0'), outcome(0), end])),
      () => new Response(bodyOf([begin('p1'), outcome(1)], 'open')),
    ],
    2,
  )
  expect(run.cuts.map(({ reason }) => reason)).toEqual(['too slow'])
  expect([run.since, ids(run)]).toEqual([
    [null, 'p1'],
    ['e0', 'e1'],
  ])
})

test('a follower waits longer each time, and as long as Retry-After says', async () => {
  const none = () => Promise.reject(new Error('ECONNREFUSED'))
  const run = await followed(
    [
      none,
      none,
      none,
      none,
      () => problem(503, 'overloaded', {}, { 'retry-after': '10' }),
      () => new Response(bodyOf([begin('p0'), outcome(0)], 'open')),
    ],
    1,
  )
  const waits = run.cuts.map(({ waitMs }) => waitMs)
  expect(waits).toHaveLength(5)
  for (const [index, waitMs] of waits.slice(0, 4).entries()) {
    expect(waitMs).toBeGreaterThanOrEqual(250 * 2 ** index)
    expect(waitMs).toBeLessThanOrEqual(500 * 2 ** index)
  }
  expect(waits[4]).toBeGreaterThanOrEqual(10_000)
  expect(ids(run)).toEqual(['e0'])
})

test('a connection that only greets does not reset the back-off', async () => {
  const greets = () => new Response(bodyOf([begin('p0')]))
  const run = await followed([greets, greets, greets, greets, greets], 1)
  expect(run.cuts.at(-1)?.waitMs).toBeGreaterThanOrEqual(4_000)
})

test('a connection that is silent, or never answers, is dropped and resumed', async () => {
  const run = await followed(
    [
      () => new Response(bodyOf([begin('p0'), outcome(0)], 'open')),
      () => new Promise<Response>(() => undefined),
      () => new Response(bodyOf([outcome(1)], 'open')),
    ],
    2,
  )
  expect([run.since, ids(run)]).toEqual([
    [null, 'p1', 'p1'],
    ['e0', 'e1'],
  ])
  expect(run.cuts.map(({ reason }) => reason)).toEqual(['nothing came within 30000 ms', 'no answer within 30000 ms'])
})

test('a refusal that trying again does not change ends the follower', async () => {
  const run = await followed([() => problem(409, 'unknown-position')], 1, 'p0')
  expect(run.error).toMatchObject({ kind: 'unknown-position', status: 409 })
  expect(run.since).toHaveLength(1)
})
