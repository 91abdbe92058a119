import { afterAll, expect, spyOn, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { simulateTime } from '../../shared/testing/simulated-time.ts'
import type { Job } from './acts-log.ts'
import { Client } from './client.ts'
import type { Outcome } from './follow.ts'
import type { Io } from './kt/command.ts'
import { kt } from './kt.ts'
import type { LetterGroups } from './letters.ts'
import type { Found, GenerationView } from './life.ts'
import type { StreamSchemas } from './schemas.ts'
import type { StreamStatus } from './status.ts'
import type { RecordView } from './view.ts'

// On a terminal, too, what is compared has no colours.
const noColor = process.env['NO_COLOR']
process.env['NO_COLOR'] = '1'
afterAll(() => {
  if (noColor === undefined) delete process.env['NO_COLOR']
  else process.env['NO_COLOR'] = noColor
})

// ---- a console and a producer that are not there

const NOW_MS = Date.parse('2026-11-29T12:00:00Z')

interface Asked {
  method: string
  path: string
  query: Record<string, string>
  body: unknown
}

type Answers = Readonly<Record<string, (asked: Asked, init: RequestInit) => unknown>>

interface Ran {
  code: number
  out: string[]
  err: string[]
  asked: Asked[]
}

interface World extends Partial<Pick<Io, 'ask'>> {
  /** By method and path; a Response, or what it has as JSON. */
  console?: Answers
  producer?: (body: string, init: RequestInit) => Response | Promise<Response>
  files?: Readonly<Record<string, string>>
  interrupt?: AbortSignal
}

async function run(args: readonly string[], world: World = {}): Promise<Ran> {
  const ran: Ran = { code: -1, out: [], err: [], asked: [] }
  const io: Io = {
    client: new Client({
      url: 'http://console.test',
      fetch: async (url, init) => {
        const { pathname, searchParams } = new URL(url)
        const { method = 'GET', body } = init
        const asked = {
          method,
          path: pathname,
          query: Object.fromEntries(searchParams),
          body: body === undefined ? undefined : JSON.parse(String(body)),
        }
        ran.asked.push(asked)
        const answer = world.console?.[`${method} ${pathname}`]
        if (answer === undefined) throw Object.assign(new Error('advice'), { code: 'ECONNREFUSED' })
        const answered = await answer(asked, init)
        return answered instanceof Response ? answered : Response.json(answered)
      },
    }),
    producer: {
      url: 'http://producer.test/',
      key: 'k1',
      fetch: async (_, init) => {
        if (world.producer === undefined) throw Object.assign(new Error('advice'), { code: 'ECONNREFUSED' })
        return world.producer(String(init.body), init)
      },
    },
    out: (line) => void ran.out.push(line),
    say: (line) => void ran.err.push(line),
    overwrite: undefined,
    ask: world.ask,
    async *read(file) {
      yield Buffer.from(world.files?.[file] ?? '')
    },
    nowMs: () => NOW_MS,
    signal: world.interrupt ?? new AbortController().signal,
  }
  ran.code = await kt(args, io, { console: 'http://console.test', producer: 'http://producer.test' })
  return ran
}

const found = (result: Found) => (): Response =>
  new Response(`{"progress":{"searched":10,"of":20,"seconds":0.1}}\n${JSON.stringify({ result })}\n`)

const problem =
  (status: number, kind: string, more: object = {}) =>
  (): Response =>
    new Response(
      JSON.stringify({ type: `urn:kafkatrace:problem:${kind}`, title: 'T', status, detail: 'What happened.', ...more }),
      { status, headers: { 'content-type': 'application/problem+json' } },
    )

// ---- an event's life

const TOPIC = 'kt.acme.orders'

const record = (
  role: RecordView['role'],
  offset: number,
  time: string,
  more: Partial<RecordView> = {},
): RecordView => ({
  role,
  topic: role === 'input' ? TOPIC : `${TOPIC}.${role}`,
  partition: 1,
  offset,
  time,
  key: 's-1',
  event: { id: 'o-2', source: '/shop', type: 'order.placed', subject: 's-1', extensions: {} },
  generation: 0,
  headers: [],
  bytes: 12,
  ...more,
})

const DEAD: GenerationView = {
  generation: 0,
  state: 'dead',
  record: record('input', 27, '2026-11-29T10:00:00.012Z', {
    receivedAt: '2026-11-29T10:00:00.010Z',
    data: { format: 'text', text: '{"total":12}' },
    schema: { subject: 'acme.orders-order.placed', version: 2 },
  }),
  places: [
    record('input', 27, '2026-11-29T10:00:00.012Z'),
    record('retry', 4, '2026-11-29T10:00:01.200Z'),
    record('dlq', 0, '2026-11-29T10:00:09.500Z'),
  ],
  repeats: [record('input', 31, '2026-11-29T10:00:03.000Z')],
  attempts: [
    { attempt: 1, time: '2026-11-29T10:00:00.100Z', reason: 'handler failed', message: 'rates: 503' },
    { attempt: 2, time: '2026-11-29T10:00:09.480Z', reason: 'handler failed', message: 'rates: 503\u001b[2J' },
  ],
  outcome: record('dlq', 0, '2026-11-29T10:00:09.500Z', {
    error: { reason: 'out of attempts', message: '2 attempts, the last: rates: 503', handler: 'order.placed@1' },
  }),
  act: {
    act: 'redrive',
    id: 'a1',
    time: '2026-11-29T11:30:00.000Z',
    by: 'ops-1',
    reason: 'rates are back',
    edited: true,
  },
}

const { outcome: _outcome, act: _act, ...UNDONE } = DEAD
const WAITING: GenerationView = { ...UNDONE, state: 'waiting' }

const REDRIVEN: GenerationView = {
  generation: 1,
  state: 'processed',
  record: record('input', 40, '2026-11-29T11:30:00.020Z', {
    generation: 1,
    redrivenFrom: `${TOPIC}.dlq/1/0`,
    edited: true,
  }),
  places: [record('input', 40, '2026-11-29T11:30:00.020Z'), record('processed', 39, '2026-11-29T11:30:00.060Z')],
  repeats: [],
  attempts: [],
  outcome: record('processed', 39, '2026-11-29T11:30:00.060Z', {
    handler: 'order.placed@1',
    event: { id: 'o-2', source: '/shop', type: 'order.priced', extensions: {} },
    data: { format: 'text', text: '{"eur":11}' },
  }),
}

const lifeOf = (...generations: GenerationView[]): Found => ({
  events: [
    {
      tenant: 'acme',
      stream: 'orders',
      id: 'o-2',
      source: '/shop',
      type: 'order.placed',
      subject: 's-1',
      traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
      state: generations.at(-1)?.state ?? 'unknown',
      generations,
    },
  ],
  complete: false,
  searched: [{ topic: TOPIC, partition: 1, wanted: { from: 0, to: 41 }, searched: { from: 27, to: 41 } }],
  seconds: 0.021,
})

const FIND = 'GET /v1/streams/orders/events/o-2'

test('a life is a timeline: receipt, places, failed attempts, end, act and redrive, with times since the receipt', async () => {
  const { code, out } = await run(['find', 'o-2', '--stream', 'orders'], {
    console: { [FIND]: found(lifeOf(DEAD, REDRIVEN)) },
  })
  expect(code).toBe(0)
  expect(`\n${out.join('\n')}\n`).toBe(`
o-2 in acme/orders: processed
  type     order.placed
  source   /shop
  subject  s-1
  key      s-1
  trace    4bf92f3577b34da6a3ce929d0e0e4736
  schema   acme.orders-order.placed, version 2

as it came in
  2026-11-29T10:00:00.010Z               received
  2026-11-29T10:00:00.012Z        +2 ms  stored     kt.acme.orders/1/27
  2026-11-29T10:00:00.100Z       +90 ms  attempt 1  handler failed: rates: 503
  2026-11-29T10:00:01.200Z       +1.2 s  to retry   kt.acme.orders.retry/1/4
  2026-11-29T10:00:03.000Z       +3.0 s  repeated   kt.acme.orders/1/31, without effect
  2026-11-29T10:00:09.480Z       +9.5 s  attempt 2  handler failed: rates: 503 [2J
  2026-11-29T10:00:09.500Z       +9.5 s  dead       kt.acme.orders.dlq/1/0: out of attempts: 2 attempts, the last: rates: 503 (order.placed@1)
  2026-11-29T11:30:00.000Z  +1 h 30 min  redriven   by ops-1, edited: rates are back

redrive 1
  2026-11-29T11:30:00.020Z  +1 h 30 min  stored     kt.acme.orders/1/40, from kt.acme.orders.dlq/1/0, edited
  2026-11-29T11:30:00.060Z  +1 h 30 min  processed  kt.acme.orders.processed/1/39 by order.placed@1 → order.priced

found in 0.021 s; older records of kt.acme.orders were not searched for repeats
`)
})

test.each([
  ['pending', {}, 'no consumer has committed it yet'],
  ['unknown', {}, 'it is committed, and no outcome was found: it may have been deleted by retention'],
  ['waiting', {}, 'it is in .retry, for its next attempt'],
  [
    'waiting',
    { waiting: { reason: 'handler failed', message: 'rates: 503' } },
    'it is in .retry, for its next attempt: handler failed: rates: 503',
  ],
  [
    'waiting',
    { attempts: [], waiting: { reason: 'newer schema', message: 'deploy a handler that takes 4' } },
    'it is in .retry: newer schema: deploy a handler that takes 4',
  ],
] as const)('an event that is %s is said to be, and why: %j', async (state, more, text) => {
  const { out } = await run(['find', 'o-2', '--stream', 'orders'], {
    console: { [FIND]: found(lifeOf({ ...UNDONE, state, ...(more as Partial<GenerationView>) })) },
  })
  expect(out).toContain(`  ${state}: ${text}`)
})

test('find asks by id, receipt or trace, and gives times before now as times', async () => {
  const at = (path: string): Answers => ({ [`GET /v1/streams/events/events${path}`]: found(lifeOf(DEAD)) })
  const byId = await run(['find', 'a/b', '--source', '/shop', '--key', '', '--from', '2h'], { console: at('/a%2Fb') })
  expect(byId.asked[0]?.query).toEqual({ source: '/shop', key: '', from: '2026-11-29T10:00:00.000Z' })
  const byReceipt = await run(['find', '--receipt', '3/1207'], { console: at('') })
  expect(byReceipt.asked[0]?.query).toEqual({ partition: '3', offset: '1207' })
  const byTrace = await run(['find', '--trace', '4BF92F3577B34DA6A3CE929D0E0E4736'], { console: at('') })
  expect(byTrace.asked[0]?.query).toEqual({ traceId: '4bf92f3577b34da6a3ce929d0e0e4736' })
})

// ---- arguments and refusals

test.each([
  [[], 'COMMAND is missing'],
  [['frob'], 'there is no command frob'],
  [['find'], 'one of ID, --receipt and --trace is needed'],
  [['find', 'a', '--trace', 'b'], 'one of ID, --receipt and --trace is needed'],
  [['find', 'a', 'b'], 'one ID at a time, and not b too'],
  [['find', 'a', '--frob'], "Unknown option '--frob'"],
  [['find', 'a', '--from', 'yesterday'], '--from yesterday: neither a time'],
  [['find', '--receipt', '3'], '--receipt 3: not PARTITION/OFFSET'],
  [['find', '--receipt', '3/4', '--key', 'k'], '--source and --key go with an ID'],
  [['tail'], 'STREAM is missing'],
  [['tail', 's', '--outcome', 'gone'], '--outcome gone: not one of processed, dead'],
  [['pause', 's'], '--reason is missing'],
  [['lag', 'a', 'b'], 'one STREAM at a time'],
  [['schemas'], 'STREAM is missing'],
  [['schemas', 'a', '--most', '0'], '--most 0: not a number from 1'],
  [['try', 'a'], '--handlers is missing'],
  [['dead-letters', 's', '--redrive', '--discard'], 'one of --redrive and --discard'],
  [['dead-letters', 's', '--discard', '--yes'], '--reason is missing'],
  [['dead-letters', 's', '--redrive', '--rate', '0', '--yes'], '--rate 0: not a number above 0'],
  [['dead-letters', 's', '--redrive', '--state', 'all', '--yes'], '--state does not go with --redrive'],
  [['dead-letters', 's', '--redrive'], 'there is no terminal to ask on'],
  [['dead-letters', 's', '--yes'], '--yes does not go without --redrive or --discard'],
  [['dead-letters', 's', '--jobs', '--type', 't'], '--type does not go with --jobs'],
  [['dead-letters', 's', '--cancel', 'j1', '--redrive'], '--redrive does not go with --cancel'],
  [['dead-letters', 's', '--cancel', 'j1', '--type', 't'], '--type does not go with --cancel'],
  [['dead-letters', 's', '--letter', '1/2', '--type', 't'], '--type does not go with --letter'],
  [['dead-letters', 's', '--letter', '1/2', '--edit', 'f'], '--edit goes with --redrive'],
  [['dead-letters', 's', '--edit', 'f', '--redrive', '--yes'], '--edit changes one event'],
  [['toString'], 'there is no command toString'],
])('%p: wrong arguments are named in a line that says where the help is, and nothing is asked', async (args, fault) => {
  const { code, out, err, asked } = await run(args)
  expect([code, out, asked]).toEqual([64, [], []])
  expect(err[0]).toStartWith(fault)
  expect(err).toEqual([expect.stringMatching(/^[^\n]*: see bun run kt -- (?:[\w-]+ )?--help$/)])
})

test.each([['find'], ['tail'], ['dead-letters'], ['send'], ['lag'], ['schemas'], ['pause'], ['resume'], ['try']])(
  '%s has a help, and so has the list of commands',
  async (command) => {
    expect(await run([command, '--help'])).toMatchObject({ code: 0, err: [] })
    expect((await run([command, '--help'])).out.join('\n')).toContain(`Usage: bun run kt -- ${command} `)
    expect((await run(['--help'])).out.join('\n')).toContain(`\n  ${command} `)
  },
)

test('a refusal says what to do, and nothing is on standard output', async () => {
  const asking = (answer: () => Response): Promise<Ran> =>
    run(['lag', 's'], { console: { 'GET /v1/streams/s/status': answer } })
  expect(await asking(problem(401, 'unauthenticated'))).toMatchObject({
    code: 1,
    out: [],
    err: ['What happened. Set KT_KEY to a key of the tenants file.'],
  })
  expect(await asking(problem(404, 'unknown-stream'))).toMatchObject({ code: 1, err: ['What happened.'] })
  expect(await asking(problem(503, 'kafka-unavailable'))).toMatchObject({ code: 69 })
  const errors = [{ pointer: '/query/x', detail: 'is no parameter' }]
  expect(await asking(problem(400, 'invalid-parameters', { errors }))).toMatchObject({
    code: 64,
    err: ['What happened.', '  /query/x is no parameter'],
  })
})

test('what the console finds wrong with a body is a wrong argument', async () => {
  const errors = [{ pointer: '/reason', detail: 'is too long' }]
  const ran = await run(['pause', 'orders', '--reason', 'r'], {
    console: { 'POST /v1/streams/orders/pause': problem(422, 'invalid-body', { errors }) },
  })
  expect(ran).toMatchObject({ code: 64, out: [], err: ['What happened.', '  /reason is too long'] })
})

test('Ctrl-C ends a search, before its answer and during it', async () => {
  const ask = (answer: (stop: () => Error) => unknown): Promise<Ran> => {
    const interrupt = new AbortController()
    const stop = (): Error => {
      interrupt.abort()
      return interrupt.signal.reason
    }
    return run(['find', 'o-2', '--stream', 'orders'], {
      console: { [FIND]: () => answer(stop) },
      interrupt: interrupt.signal,
    })
  }
  const interrupted = { code: 130, out: [], err: [] }
  expect(await ask((stop) => Promise.reject(stop()))).toMatchObject(interrupted)
  const breaksOff = (stop: () => Error): Response =>
    new Response(
      new ReadableStream({
        pull(controller) {
          controller.enqueue(new TextEncoder().encode('{"progress":{"searched":1,"of":2,"seconds":0.1}}\n'))
          controller.error(stop())
        },
      }),
    )
  expect(await ask(breaksOff)).toMatchObject(interrupted)
})

test('a service that does not answer is named, with how to start it and the variable that names another', async () => {
  expect(await run(['lag'])).toMatchObject({
    code: 69,
    err: [
      'No answer from http://console.test: ECONNREFUSED. Is the console running there? `bun run dev` starts one; KT_URL names another.',
    ],
  })
  expect(await run(['send', 'f'], { files: { f: '{"type":"a"}' } })).toMatchObject({
    code: 69,
    err: [
      'No answer from http://producer.test: ECONNREFUSED. Is the producer running there? `bun run dev` starts one; KT_PRODUCER_URL names another.',
    ],
  })
})

test.each([
  ['ERR_TLS_CERT_ALTNAME_INVALID', 'wrong host name: '],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'NODE_EXTRA_CA_CERTS'],
  ['ECONNRESET', 'the URL begins with https://'],
])('of a service that fails with %s, it is said what helps, and only that', async (code, words) => {
  const gone = () => Promise.reject(Object.assign(new Error('advice'), { code }))
  const ran = await run(['lag'], { console: { 'GET /v1/streams': gone, 'GET /v1/access': gone } })
  const sent = await run(['send', 'f'], { files: { f: '{"type":"a"}' }, producer: gone })
  for (const [variable, { err }] of [
    ['KT_URL', ran],
    ['KT_PRODUCER_URL', sent],
  ] as const) {
    expect(err.join()).toContain(words)
    expect(err.join()).toEndWith(`(${code}). ${variable} is the URL.`)
    expect(err.join().includes('NODE_EXTRA_CA_CERTS')).toBe(code.includes('VERIFY'))
  }
})

// ---- tail

const outcome = (offset: number, more: Partial<Outcome> = {}): Outcome => ({
  outcome: 'processed',
  tenant: 'acme',
  stream: 'orders',
  id: `o-${offset}`,
  source: '/shop',
  type: 'order.priced',
  generation: 0,
  partition: 1,
  offset,
  time: '2026-11-29T10:00:09.500Z',
  handler: 'order.placed@1',
  ...more,
})

/** Server-sent events of these outcomes, the first position before them. */
const events = (...outcomes: Outcome[]): string =>
  `: hello\nid: p0\n\n${outcomes.map((one, index) => `event: outcome\nid: p${index + 1}\ndata: ${JSON.stringify(one)}\n\n`).join('')}`

test('tail prints an outcome a line, and at the end where to go on', async () => {
  const dead = outcome(3, {
    outcome: 'dead',
    generation: 1,
    failedAttempts: 5,
    error: { reason: 'out of attempts', message: 'rates: 503' },
  })
  const interrupt = new AbortController()
  let connections = 0
  const answer = (): unknown => {
    if (++connections === 1) return new Response(events(outcome(2), dead))
    interrupt.abort()
    return new Response('')
  }
  const { code, out, err, asked } = await run(['tail', 'orders', '--type', 'order.*', '--since', 'p-1'], {
    console: { 'GET /v1/streams/orders/outcomes': answer },
    interrupt: interrupt.signal,
  })
  expect(code).toBe(0)
  expect(asked[0]?.query).toEqual({ type: 'order.*' })
  expect(out).toEqual([
    '2026-11-29T10:00:09.500Z  processed  order.priced  o-2  1/2  by order.placed@1',
    '2026-11-29T10:00:09.500Z  dead       order.priced  o-3  1/3  redrive 1  out of attempts: rates: 503  after 5 failed attempts',
  ])
  expect(err.at(-1)).toBe('to go on from here: --since p2')
})

test('tail ends at once where no console answers, and waits where one did', async () => {
  expect(await run(['tail', 'orders'])).toMatchObject({ code: 69, out: [] })
  const interrupt = new AbortController()
  let connections = 0
  const ran = await run(['tail', 'orders'], {
    console: {
      'GET /v1/streams/orders/outcomes': () => {
        if (++connections === 1) return new Response(events())
        interrupt.abort()
        throw new Error('gone')
      },
    },
    interrupt: interrupt.signal,
  })
  expect([ran.code, connections, ran.err[0]]).toEqual([
    0,
    2,
    expect.stringMatching(/^the connection ended; connecting again in/),
  ])
})

// ---- dead letters

const GROUPS: LetterGroups = {
  groups: [
    {
      reason: 'out of attempts',
      type: 'order.placed',
      handler: 'order.placed@1',
      state: 'open',
      count: 1_204,
      firstTime: '2026-11-29T10:00:00.000Z',
      lastTime: '2026-11-29T10:04:10.000Z',
      newest: { partition: 3, offset: 77, id: 'o-9' },
      message: '5 attempts, the last: rates: 503',
      counts: [100, 0, 4, 700, 400],
    },
    {
      reason: 'undecodable',
      state: 'open',
      count: 1,
      firstTime: '2026-11-29T10:02:00.000Z',
      lastTime: '2026-11-29T10:02:00.000Z',
      newest: { partition: 0, offset: 4 },
      message: 'no ce_id',
      counts: [0, 0, 1, 0, 0],
    },
  ],
  letters: 1_205,
  buckets: [0, 1, 2, 3, 4].map((minute) => `2026-11-29T10:0${minute}:00.000Z`),
  bucketSeconds: 60,
  complete: true,
  searched: [],
}

test('groups of dead letters are a table, with their counts over time and the newest message', async () => {
  const { code, out, asked } = await run(['dead-letters', 'orders', '--failure', 'out of attempts', '--from', '1d'], {
    console: { 'GET /v1/streams/orders/dead-letters': () => GROUPS },
  })
  expect(code).toBe(0)
  expect(asked[0]?.query).toEqual({ reason: 'out of attempts', from: '2026-11-28T12:00:00.000Z' })
  expect(`\n${out.join('\n')}\n`).toBe(`
COUNT  STATE  REASON           TYPE          HANDLER         LAST                      NEWEST  OVER TIME
1,204  open   out of attempts  order.placed  order.placed@1  2026-11-29T10:04:10.000Z  3/77    ▂▁▂█▅
       5 attempts, the last: rates: 503
    1  open   undecodable      no event                      2026-11-29T10:02:00.000Z  0/4     ▁▁█▁▁
       no ce_id

1,205 letters. Each bar is 1 min, the first from 2026-11-29T10:00:00.000Z on.
`)
})

const job = (more: Partial<Job> = {}): Job => ({
  id: 'j1',
  action: 'redrive',
  state: 'running',
  filter: { type: 'order.*' },
  ratePerSecond: 100,
  by: 'ops-1',
  time: '2026-11-29T11:30:00.000Z',
  acted: 0,
  looked: 0,
  of: 500,
  ...more,
})

const JOBS = 'POST /v1/streams/orders/jobs'

/** Of a stream with so many open letters that match. */
const jobConsole = (matches: number, looks: readonly unknown[], complete = true): Answers => {
  let look = 0
  return {
    [JOBS]: ({ body }) =>
      (body as { dryRun?: boolean }).dryRun === true ? { matches, complete, searched: [] } : job(),
    'GET /v1/streams/orders/jobs/j1': () => {
      const answer = looks[Math.min(look++, looks.length - 1)]
      return typeof answer === 'function' ? answer() : answer
    },
  }
}

const bodiesOf = ({ asked }: Ran): unknown[] => asked.filter(({ method }) => method === 'POST').map(({ body }) => body)

test('a redrive counts first, asks, and then tells until the job has ended, through outages of the console', async () => {
  const asked: string[] = []
  const looks = [
    job({ acted: 5, looked: 100 }),
    problem(503, 'draining'),
    job({ state: 'done', acted: 12, looked: 500 }),
  ]
  const ran = await run(
    ['dead-letters', 'orders', '--redrive', '--type', 'order.*', '--rate', '50', '--reason', 'rates are back'],
    {
      console: jobConsole(12, looks),
      ask: async (question) => {
        asked.push(question)
        return '12'
      },
    },
  )
  expect(asked).toEqual(['redrive 12? 12 or y to confirm: '])
  const wanted = { action: 'redrive', filter: { type: 'order.*' } }
  expect(bodiesOf(ran)).toEqual([
    { ...wanted, dryRun: true },
    { ...wanted, ratePerSecond: 50, reason: 'rates are back' },
  ])
  expect(ran).toMatchObject({
    code: 0,
    out: ['job j1 is done: 12 letters redriven'],
    err: ['12 open letters of orders match'],
  })
})

test('another answer than yes or the count does nothing, and neither does a filter that nothing matches', async () => {
  for (const answer of ['', 'n', '11', 'yes please']) {
    const ran = await run(['dead-letters', 'orders', '--redrive'], {
      console: jobConsole(12, []),
      ask: async () => answer,
    })
    expect([ran.code, bodiesOf(ran).length]).toEqual([1, 1])
  }
  const none = await run(['dead-letters', 'orders', '--redrive', '--yes'], { console: jobConsole(0, []) })
  expect([none.code, none.out, bodiesOf(none).length]).toEqual([0, [], 1])
})

test.each([0, 12])('a count of %i that did not see all letters is the least that there are', async (matches) => {
  const asked: string[] = []
  const answering = (answer: string): Promise<Ran> =>
    run(['dead-letters', 'orders', '--redrive'], {
      console: jobConsole(matches, [job({ state: 'done', acted: 700, looked: 500 })], false),
      ask: async (question) => {
        asked.push(question)
        return answer
      },
    })
  expect(await answering('n')).toMatchObject({
    code: 1,
    out: [],
    err: [`at least ${matches} open letters of orders match`, 'nothing was done'],
  })
  const ran = await answering('y')
  expect(ran).toMatchObject({ code: 0, out: ['job j1 is done: 700 letters redriven'] })
  expect(bodiesOf(ran)).toHaveLength(2)
  const question = `redrive at least ${matches}? ${matches} or y to confirm: `
  expect(asked).toEqual([question, question])
})

test('with --no-wait, a job is started and not looked at', async () => {
  const ran = await run(['dead-letters', 'orders', '--redrive', '--yes', '--no-wait'], { console: jobConsole(12, []) })
  expect([ran.code, ran.asked.map(({ method }) => method)]).toEqual([0, ['POST', 'POST']])
  expect(ran.out).toEqual(['job j1 is started. Cancel it with: bun run kt -- dead-letters orders --cancel j1'])
})

test('a job is cancelled with a reason, and its state is shown', async () => {
  const ran = await run(['dead-letters', 'orders', '--cancel', 'j1', '--reason', 'wrong filter'], {
    console: {
      'POST /v1/streams/orders/jobs/j1/cancel': () => job({ state: 'cancelled', acted: 3, detail: 'wrong filter' }),
    },
  })
  expect([ran.code, bodiesOf(ran)]).toEqual([0, [{ reason: 'wrong filter' }]])
  expect(ran.out).toEqual(['job j1 is cancelled: 3 letters redriven (wrong filter)'])
})

const CANCEL = 'The job goes on. Cancel it with: bun run kt -- dead-letters orders --cancel j1'

test('a job that the console does not know any more is not looked at again', async () => {
  const looks = [problem(404, 'unknown-job')]
  const ran = await run(['dead-letters', 'orders', '--redrive', '--yes'], { console: jobConsole(12, looks) })
  expect(ran).toMatchObject({ code: 1, out: [], err: ['12 open letters of orders match', CANCEL, 'What happened.'] })
  expect(ran.asked.filter(({ method }) => method === 'GET')).toHaveLength(1)
})

test('a job whose console never answers again is waited for some minutes', async () => {
  const time = simulateTime(1)
  const gone = () => Promise.reject(Object.assign(new Error('advice'), { code: 'ECONNREFUSED' }))
  let ran: Ran | undefined
  void run(['dead-letters', 'orders', '--redrive', '--yes'], { console: jobConsole(12, [job(), gone]) }).then(
    (done) => {
      ran = done
    },
  )
  try {
    expect(await time.until(() => ran !== undefined, 60_000)).toBe(false)
    expect(await time.until(() => ran !== undefined, 240_000)).toBe(true)
    expect([ran?.code, ran?.out, ran?.err.slice(1, -1)]).toEqual([69, [], [CANCEL]])
    expect(ran?.err.at(-1)).toStartWith('No answer from http://console.test: ECONNREFUSED.')
  } finally {
    time.end()
  }
})

test('Ctrl-C leaves the job running, and says how to cancel it', async () => {
  const interrupt = new AbortController()
  const looks = [
    () => {
      interrupt.abort()
      return job()
    },
  ]
  const ran = await run(['dead-letters', 'orders', '--redrive', '--yes'], {
    console: jobConsole(12, looks),
    interrupt: interrupt.signal,
  })
  expect(ran.code).toBe(130)
  expect(ran.err.at(-1)).toBe(CANCEL)
  expect(ran.asked.some(({ path }) => path.endsWith('/cancel'))).toBe(false)
})

test('a job that was cancelled by someone else is no success', async () => {
  const looks = [job({ state: 'cancelled', acted: 3, detail: 'wrong filter' })]
  const ran = await run(['dead-letters', 'orders', '--redrive', '--yes', '--json'], { console: jobConsole(12, looks) })
  expect(ran.code).toBe(1)
  expect(ran.out.map((line) => JSON.parse(line))).toEqual([looks[0]])
})

test('one letter is redriven with an edit whose numbers keep their digits', async () => {
  const act = { act: 'redrive', id: 'a', time: '2026-11-29T11:30:00.000Z', by: 'ops-1', edited: true }
  let body = ''
  const ran = await run(['dead-letters', 'orders', '--letter', '3/77', '--redrive', '--edit', 'edit.json'], {
    console: {
      'POST /v1/streams/orders/dead-letters/3/77/redrive': (_, init) => {
        body = String(init.body)
        return { done: true, act }
      },
    },
    files: { 'edit.json': '{"data":{"n":12345678901234567890}}' },
  })
  expect([ran.code, body]).toEqual([0, '{"edit":{"data":{"n":12345678901234567890}}}'])
  expect(ran.out).toEqual(['redriven by ops-1 at 2026-11-29T11:30:00.000Z, edited'])
})

test('a letter that was acted on before is left as it is, and that is said', async () => {
  const act = { act: 'discard', id: 'a', time: '2026-11-29T11:30:00.000Z', by: 'ops-1', job: 'j1', reason: 'test data' }
  const ran = await run(['dead-letters', 'orders', '--letter', '3/77', '--redrive'], {
    console: { 'POST /v1/streams/orders/dead-letters/3/77/redrive': () => ({ done: false, act }) },
  })
  expect([ran.code, ran.out]).toEqual([
    0,
    ['It was acted on before: discarded by ops-1 at 2026-11-29T11:30:00.000Z, job j1: test data'],
  ])
})

test('one letter in full has its error, its attempts and its data', async () => {
  const { code, out } = await run(['dead-letters', 'orders', '--letter', '1/0'], {
    console: {
      'GET /v1/streams/orders/dead-letters/1/0': () => ({
        state: 'open',
        letter: {
          ...DEAD.outcome,
          attempts: DEAD.attempts.slice(0, 1),
          origin: `${TOPIC}/1/27`,
          data: { format: 'json', json: { total: 12 } },
        },
      }),
    },
  })
  expect(code).toBe(0)
  expect(`\n${out.join('\n')}\n`).toBe(`
kt.acme.orders.dlq/1/0: open
  id         o-2
  type       order.placed
  source     /shop
  subject    s-1
  key        s-1
  put aside  2026-11-29T10:00:09.500Z
  error      out of attempts: 2 attempts, the last: rates: 503
  handler    order.placed@1
  original   kt.acme.orders/1/27

failed attempts
  2026-11-29T10:00:00.100Z  1  handler failed: rates: 503

data, 12 bytes
  {
    "total": 12
  }
`)
})

// ---- status

const status = (more: Partial<StreamStatus> = {}): StreamStatus => ({
  tenant: 'acme',
  stream: 'orders',
  group: { id: 'kafkatrace', state: 'Stable' },
  consumers: [{ clientId: 'consumer-1', host: '10.0.0.7', partitions: [0] }],
  lag: 1_250,
  waiting: 3,
  duplicates: 1_234,
  rates: { seconds: 60, in: 812.5, done: 640 },
  partitions: [
    { partition: 0, state: 'reading', consumer: 'consumer-1', committed: 8_001, end: 9_251, lag: 1_250, waiting: 3 },
    { partition: 1, state: 'not assigned', committed: -1, end: 0, lag: 0, waiting: 0 },
  ],
  ...more,
})

test('lag shows all streams as a table, and one stream with its partitions', async () => {
  const paused = { by: 'ops-1', time: '2026-11-29T11:00:00.000Z', reason: 'rates are down' }
  const all = await run(['lag'], {
    console: {
      'GET /v1/streams': () => ({ streams: ['orders', 'audit'].map((stream) => ({ tenant: 'acme', stream })) }),
      'GET /v1/streams/orders/status': () => status(),
      'GET /v1/streams/audit/status': () => status({ stream: 'audit', paused }),
    },
  })
  expect(`\n${all.out.join('\n')}\n`).toBe(`
STREAM  STATE      LAG  WAITING   IN/S  DONE/S  CONSUMERS
orders  running  1,250        3  812.5     640          1
audit   paused   1,250        3  812.5     640          1  by ops-1 since 2026-11-29T11:00:00.000Z: rates are down
`)
  const fault = { partition: 0, state: 'paused' as const, reason: 'denied', consumer: 'consumer-1' }
  const unwell = await run(['lag', 'orders'], {
    console: {
      'GET /v1/streams/orders/status': () =>
        status({
          consumers: [{ clientId: 'consumer-1', host: 'h', partitions: [0], ready: false, faults: ['kafka: closed'] }],
          partitions: [{ ...fault, committed: 1, end: 2, lag: 1, waiting: 0 }],
        }),
    },
  })
  expect(unwell.out.slice(3)).toEqual([
    'consumer-1 is not ready: kafka: closed',
    '',
    'PARTITION  STATE   COMMITTED  END  LAG  WAITING  CONSUMER',
    '        0  paused          1    2    1        0  consumer-1  denied',
  ])
  const one = await run(['lag', 'orders'], { console: { 'GET /v1/streams/orders/status': () => status() } })
  expect(`\n${one.out.join('\n')}\n`).toBe(`
acme/orders: running
lag 1,250, waiting 3, in 812.5/s, done 640/s, duplicates 1,234
group kafkatrace: Stable, 1 member

PARTITION  STATE         COMMITTED    END    LAG  WAITING  CONSUMER
        0  reading           8,001  9,251  1,250        3  consumer-1
        1  not assigned          –      0      0        0
`)
})

test('a rate that the console cannot tell yet is asked for again', async () => {
  let looks = 0
  const { out } = await run(['lag', 'orders', '--json'], {
    console: {
      'GET /v1/streams/orders/status': () =>
        status({ rates: { seconds: 60, in: 1, ...(++looks > 1 ? { done: 5 } : {}) } }),
    },
  })
  expect(JSON.parse(out.join(''))).toMatchObject({ rates: { done: 5 } })
})

// ---- schemas

const sentBy = (source: string, events: number, newest = '2026-11-29T11:59:58.000Z') => ({ source, events, newest })

const SCHEMAS: StreamSchemas = {
  tenant: 'acme',
  stream: 'orders',
  checks: { check: 'enforce', otherTypes: 'accept', whileUnknown: 'refuse' },
  known: 'all',
  types: [
    {
      type: 'order.paid',
      subject: 'acme.orders-order.paid',
      schema: 'known',
      versions: [
        { version: 2, draft: '2020-12' },
        { version: 1, draft: '2020-12' },
      ],
      document: {},
    },
    {
      type: 'order.placed',
      subject: 'acme.orders-order.placed',
      schema: 'known',
      versions: [
        {
          version: 2,
          draft: '2020-12',
          use: { ...sentBy('', 1_200), senders: [sentBy('/shop', 1_000), sentBy('/app\u001b[2J', 200)] },
        },
        {
          version: 1,
          draft: 'draft-07',
          use: {
            ...sentBy('', 21),
            senders: ['/a', '/b', '/c', '/d', '/e', '/f'].map((source) => sentBy(source, 3)),
            others: { senders: 2, events: 3, newest: '2026-11-29T11:00:00.000Z' },
          },
        },
      ],
      document: { title: 'An order' },
      without: { ...sentBy('', 3), senders: [sentBy('/import', 3)] },
    },
    {
      type: 'note',
      subject: 'acme.orders-note',
      schema: 'none',
      versions: [],
      without: { ...sentBy('', 1), senders: [sentBy('/notes', 1)] },
      otherwise: { ...sentBy('', 1), senders: [sentBy('/notes', 1)] },
    },
  ],
  read: {
    records: 1_228,
    from: '2026-11-29T10:00:00.000Z',
    to: '2026-11-29T11:59:58.000Z',
    complete: false,
    withoutType: 2,
    ofOtherTypes: 0,
  },
}
const LIST = 'GET /v1/streams/orders/schemas'

test('schemas shows a line for each version that is sent, and for each latest one', async () => {
  const { code, out, asked } = await run(['schemas', 'orders', '--most', '2000'], {
    console: { [LIST]: () => SCHEMAS },
  })
  expect([code, asked[0]?.query]).toEqual([0, { most: '2000' }])
  expect(`\n${out.join('\n')}\n`).toBe(`
acme/orders: check enforce, other types accept, while unknown refuse

TYPE          LATEST  VERSION  EVENTS  NEWEST                    SENDERS
order.paid         2  2             0
order.placed       2  2         1,200  2026-11-29T11:59:58.000Z  /shop 1,000, /app [2J 200
order.placed       2  1            21  2026-11-29T11:59:58.000Z  /a 3, /b 3, /c 3, /d 3, /e 3, 3 more 6
order.placed       2  none          3  2026-11-29T11:59:58.000Z  /import 3
note               –  none          1  2026-11-29T11:59:58.000Z  /notes 1
note               –  other         1  2026-11-29T11:59:58.000Z  /notes 1

counted the newest 1,228 records, from 2026-11-29T10:00:00.000Z to 2026-11-29T11:59:58.000Z; 2 do not say their type in a header
`)
})

test('schemas says what is not known, and that there is nothing', async () => {
  const { from: _, to: __, ...read } = { ...SCHEMAS.read, records: 0, complete: true, withoutType: 0 }
  const lines = async (more: Partial<StreamSchemas>): Promise<string> =>
    (await run(['schemas', 'orders'], { console: { [LIST]: () => ({ ...SCHEMAS, ...more }) } })).out.join('\n')
  const [note = expect.unreachable()] = SCHEMAS.types.slice(2)
  const away = await lines({ known: 'none', detail: 'Not now.', types: [{ ...note, schema: 'unknown' }] })
  expect(away).toContain('while unknown refuse\nNot now.\n')
  expect(away).toMatch(/note +\? +none/)
  const [paid = expect.unreachable()] = SCHEMAS.types
  expect(await lines({ types: [{ ...paid, unusable: 3 }] })).toMatch(/order\.paid +2, not 3 +2 +0/)
  const { checks: _checks, ...unchecked } = SCHEMAS
  const none = (await run(['schemas', 'orders'], { console: { [LIST]: () => ({ ...unchecked, types: [], read }) } }))
    .out
  expect(none).toEqual([
    'acme/orders: events are not checked',
    '',
    'No type has a schema, and no event was read.',
    '',
    'the stream has no records',
  ])
})

test('pause and resume send their reason, and show the status', async () => {
  const paused = { by: 'ops-1', time: '2026-11-29T11:00:00.000Z', reason: 'rates are down' }
  const ran = await run(['pause', 'orders', '--reason', 'rates are down'], {
    console: { 'POST /v1/streams/orders/pause': () => status({ paused }) },
  })
  expect(bodiesOf(ran)).toEqual([{ reason: 'rates are down' }])
  expect(ran.out[0]).toBe('acme/orders: paused by ops-1 since 2026-11-29T11:00:00.000Z: rates are down')
  const resumed = await run(['resume', 'orders'], { console: { 'POST /v1/streams/orders/resume': () => status() } })
  expect([resumed.code, bodiesOf(resumed)]).toEqual([0, [{}]])
})

// ---- send

const receipt = (line: number, more: object = {}) => ({
  line,
  receipt: { id: `o-${line}`, stream: 'orders', partition: 1, offset: line, time: '2026-11-29T12:00:00.000Z', ...more },
})

const answered = (...lines: object[]): Response =>
  new Response([...lines, { summary: {} }].map((line) => `${JSON.stringify(line)}\n`).join(''))

test('an event, an array and lines are sent alike, and their numbers keep their digits', async () => {
  const sent: string[] = []
  const files = {
    one: '{\n "type": "a",\n "data": 12345678901234567890\n}\n',
    array: '[{"type":"a"},{"type":"b"}]',
    lines: '{"type":"a"}\n{"type":"b"}\n',
  }
  for (const file of Object.keys(files)) {
    const ran = await run(['send', file, '--stream', 'orders'], {
      files,
      producer: (body, { headers }) => {
        expect(new Headers(headers).get('authorization')).toBe('Bearer k1')
        sent.push(body)
        return answered(receipt(1))
      },
    })
    expect(ran).toMatchObject({
      code: 0,
      out: ['1  o-1  orders/1/1  2026-11-29T12:00:00.000Z'],
      err: ['1 event stored'],
    })
  }
  expect(sent).toEqual([
    '{"type":"a","data":12345678901234567890}\n',
    '{"type":"a"}\n{"type":"b"}\n',
    '{"type":"a"}\n{"type":"b"}\n',
  ])
})

test('a problem names its line in the file, also after the first request', async () => {
  const line = JSON.stringify({ type: 'a', data: 'x'.repeat(600_000) })
  const errors = [{ pointer: '/type', detail: 'must not be empty' }]
  const refused = { line: 1, problem: { title: 'T', status: 422, detail: 'An event is invalid.', errors } }
  let requests = 0
  const ran = await run(['send', 'f'], {
    files: { f: `${line}\n${line}\n${line}` },
    producer: () => (++requests === 2 ? answered(refused) : answered(receipt(1))),
  })
  expect(ran.code).toBe(1)
  expect(ran.err).toEqual(['line 2: An event is invalid.\n  /type must not be empty', '2 events stored, 1 not'])
})

test('a file without events, or with something else, is named', async () => {
  expect(await run(['send', 'empty'])).toMatchObject({ code: 1, err: ['empty has no events'] })
  const other = await run(['send', 'other'], { files: { other: 'import' } })
  expect([other.code, other.err.join()]).toEqual([
    1,
    expect.stringMatching(/^other is neither one JSON event, nor an array/),
  ])
})

test('with --wait, nothing is sent while the console does not answer', async () => {
  let requests = 0
  const producer = () => {
    requests++
    return answered(receipt(1))
  }
  const ran = await run(['send', 'f', '--wait'], { files: { f: '{"type":"a"}' }, producer })
  expect([ran.code, requests]).toEqual([69, 0])
})

test('an answer that breaks off is told as such: what has no receipt may be stored', async () => {
  const ran = await run(['send', 'f'], { files: { f: '{"type":"a"}' }, producer: () => new Response('') })
  expect(ran.code).toBe(69)
  expect(ran.err.join()).toContain('what has no receipt may be stored')
})

test('with --wait, outcomes are followed from before the sending on, until each is known', async () => {
  const since: (string | null)[] = []
  const ran = await run(['send', 'f', '--stream', 'orders', '--wait'], {
    files: { f: '{"type":"a"}\n{"type":"b"}\n' },
    producer: () => answered(receipt(1), receipt(2)),
    console: {
      'GET /v1/streams/orders/outcomes': (_, { headers }) => {
        since.push(new Headers(headers).get('last-event-id'))
        const dead = outcome(2, { outcome: 'dead', error: { reason: 'invalid data', message: 'not JSON' } })
        // The first is of another partition: another event with that id.
        return new Response(since.length === 1 ? events() : events(outcome(1, { partition: 0 }), outcome(1), dead))
      },
    },
  })
  expect(since).toEqual([null, 'p0'])
  expect(ran.out.slice(2)).toEqual([
    '1  2026-11-29T10:00:09.500Z  processed  order.priced  o-1  1/1  by order.placed@1',
    '2  2026-11-29T10:00:09.500Z  dead       order.priced  o-2  1/2  invalid data: not JSON',
  ])
  expect([ran.code, ran.err.at(-1)]).toEqual([1, '2 events stored; 1 dead'])
})

test.each([
  [401, 'unauthenticated', 1, 'What happened. Set KT_KEY to a key of the tenants file.'],
  [403, 'forbidden', 1, expect.stringMatching(/^What happened. Set KT_KEY to a key that may do this/)],
  [503, 'overloaded', 69, 'What happened.'],
])('a producer that answers %i to events is a refusal', async (status, kind, code, text) => {
  const ran = await run(['send', 'f'], { files: { f: '{"type":"a"}' }, producer: problem(status, kind) })
  expect(ran).toMatchObject({ code, out: [], err: [text] })
})

test.each([
  [
    'dead',
    [DEAD],
    '1  2026-11-29T10:00:09.500Z  dead       order.placed  o-1  1/0  out of attempts: 2 attempts, the last: rates: 503',
    [1, '1 event stored; 1 dead'],
  ],
  [
    'processed',
    [{ ...REDRIVEN, generation: 0 }],
    '1  2026-11-29T11:30:00.060Z  processed  order.priced  o-1  1/39  by order.placed@1',
    [0, '1 event stored'],
  ],
  [
    'processed since it was redriven',
    [DEAD, { ...REDRIVEN, outcome: { ...(REDRIVEN.outcome as RecordView), generation: 1 } }],
    '1  2026-11-29T11:30:00.060Z  processed  order.priced  o-1  1/39  redrive 1  by order.placed@1',
    [0, '1 event stored'],
  ],
] as const)(
  'with --wait, an event that was sent before and is %s is looked up, though others’ outcomes come without a pause',
  async (_, generations, line, end) => {
    const time = simulateTime(1)
    const busy = () => {
      const stream = new TransformStream<Uint8Array, Uint8Array>()
      const writer = stream.writable.getWriter()
      const write = (text: string) => void writer.write(new TextEncoder().encode(text)).catch(() => undefined)
      write(events())
      let offset = 100
      const more = setInterval(() => write(events(outcome(offset++))), 1_000)
      writer.closed.catch(() => clearInterval(more))
      return new Response(stream.readable)
    }
    let ran: Ran | undefined
    void run(['send', 'f', '--stream', 'orders', '--wait'], {
      files: { f: '{"type":"a","id":"o-1"}\n' },
      producer: () => answered(receipt(1)),
      console: {
        'GET /v1/streams/orders/outcomes': busy,
        'GET /v1/streams/orders/events': found(lifeOf(...generations)),
      },
    }).then((done) => {
      ran = done
    })
    try {
      expect(await time.until(() => ran !== undefined, 60_000)).toBe(true)
      expect(ran?.out.at(-1)).toBe(line)
      expect([ran?.code, ran?.err.at(-1)]).toEqual([...end])
    } finally {
      time.end()
    }
  },
)

// ---- try

const directory = mkdtempSync(join(tmpdir(), 'kafkatrace-kt-'))
afterAll(() => rmSync(directory, { recursive: true }))

const HANDLERS = join(directory, 'handlers.ts')
writeFileSync(
  HANDLERS,
  `import { defineHandler, TerminalError, Type } from 'kafkatrace'
export const handlers = [
  defineHandler({
    type: 'order.placed',
    version: '2',
    schema: Type.Object({ total: Type.Number() }),
    handle({ total }, { event, context }) {
      if (total > 100) throw new TerminalError('too much')
      return { type: 'order.priced', data: { eur: total - 1, stream: context.stream, source: event.source } }
    },
  }),
]
`,
)

const tried = (record: Partial<RecordView>): Promise<Ran> =>
  run(['try', 'o-2', '--handlers', HANDLERS, '--stream', 'orders'], {
    console: { [FIND]: found(lifeOf({ ...DEAD, record: { ...(DEAD.record as RecordView), ...record } })) },
  })

test('a handler is tried with the recorded event, and its result is shown beside the outcome', async () => {
  const { code, out, asked } = await tried({})
  expect(code).toBe(0)
  expect(asked[0]?.query).toEqual({ format: 'text' })
  expect(`\n${out.join('\n')}\n`).toBe(`
tried on this machine: processed
  handler  order.placed@2
  type     order.priced
  {
    "eur": 11,
    "stream": "orders",
    "source": "/shop"
  }

recorded: dead at 2026-11-29T10:00:09.500Z
  handler  order.placed@1
  error    out of attempts: 2 attempts, the last: rates: 503
`)
})

test('an attempt that fails is shown as the consumer would take it', async () => {
  const { code, out } = await tried({ data: { format: 'text', text: '{"total":101}' } })
  expect([code, out[0], out[2]]).toEqual([1, 'tried on this machine: dead', '  error    handler failed: too much'])
  const invalid = await tried({ data: { format: 'text', text: '{"total":"x"}' } })
  expect(invalid.out[2]).toContain('invalid data: not what order.placed takes: /total')
})

test('an event is tried in the version that it says, as the consumer would take it', async () => {
  const file = join(directory, 'versions.ts')
  writeFileSync(
    file,
    `import { defineHandler, Type } from 'kafkatrace'
export const handlers = [
  defineHandler({
    type: 'order.placed',
    version: '2',
    schema: Type.Object({ cents: Type.Number() }),
    takes: 2,
    upcasters: [{ from: 1, to: 2, up: ({ total }) => ({ cents: total * 100 }) }],
    handle: (data) => ({ data }),
  }),
]
`,
  )
  const record = DEAD.record as RecordView
  const of = (version: number) => [
    ...record.headers,
    { name: 'kt-schema', value: `acme.orders-order.placed/${version}` },
  ]
  const triedIn = (version: number): Promise<Ran> =>
    run(['try', 'o-2', '--handlers', file, '--stream', 'orders'], {
      console: { [FIND]: found(lifeOf({ ...DEAD, record: { ...record, headers: of(version) } })) },
    })
  const raised = await triedIn(1)
  expect([raised.code, raised.out.join('\n')]).toEqual([0, expect.stringContaining('"cents": 1200') as never])
  const newer = await triedIn(3)
  expect([newer.code, newer.out[0], newer.out[2]]).toEqual([
    1,
    'tried on this machine: not handled; the event would wait for a newer handler',
    '  error    newer schema: its data are of version 3 of their schema, and order.placed@2 takes 2: deploy a handler that takes 3',
  ])
})

test('data that are masked, or not all there, are not tried', async () => {
  const masked = await tried({ data: { format: 'masked', detail: 'masked' } })
  expect(masked).toMatchObject({ code: 1, out: [] })
  expect(masked.err.join()).toContain('are masked (`redact` in the tenants file)')
  expect((await tried({ truncated: true })).err.join()).toContain('only the beginning')
})

test('an event whose type the file does not take is said to pass through', async () => {
  const { code, err } = await tried({ event: { id: 'o-2', source: '/shop', type: 'order.paid', extensions: {} } })
  expect([code, err.join()]).toEqual([1, `no handler in ${HANDLERS} takes order.paid: such an event passes through`])
})

test('what handlers print, while they are loaded and called, is not on standard output', async () => {
  const file = join(directory, 'printing.ts')
  const methods = ['log', 'info', 'debug', 'dir', 'dirxml', 'table', 'group', 'count', 'write'] as const
  const prints = (what: string): string =>
    [...methods.map((method) => `console.${method}`), 'process.stdout.write']
      .map((call) => `${call}('${what} by ${call}')`)
      .join('\n')
  writeFileSync(
    file,
    `import { defineHandler, Type } from 'kafkatrace'
${prints('loaded')}
export const handlers = [
  defineHandler({
    type: 'order.placed',
    version: '1',
    schema: Type.Object({}),
    handle() {
      ${prints('called')}
      return { data: 1 }
    },
  }),
]
`,
  )
  let printed = ''
  const nothing = methods.map((method) => spyOn(console, method).mockImplementation((): never => undefined as never))
  const output = spyOn(process.stdout, 'write').mockImplementation(() => true)
  const errors = spyOn(process.stderr, 'write').mockImplementation((text) => {
    printed += text
    return true
  })
  const spies = [...nothing, output, errors]
  try {
    const { code, out } = await run(['try', 'o-2', '--handlers', file, '--stream', 'orders', '--json'], {
      console: { [FIND]: found(lifeOf(DEAD)) },
    })
    const calls = [...nothing, output].flatMap(({ mock }) => mock.calls)
    expect([code, calls]).toEqual([0, []])
    expect(out.map((line) => JSON.parse(line).handler)).toEqual(['order.placed@1'])
    for (const call of [...methods.map((method) => `console.${method}`), 'process.stdout.write'])
      for (const what of ['loaded', 'called']) expect(printed).toContain(`${what} by ${call}`)
    console.log('after')
    process.stdout.write('after')
    expect([...nothing, output].flatMap(({ mock }) => mock.calls)).toEqual([['after'], ['after']])
  } finally {
    for (const spy of spies) spy.mockRestore()
  }
})

// ---- a terminal

const ESCAPES = '\u001b[2J\u009b2J'

/** What the console or the service itself makes, and no record or person. */
const OWN = /^(tenant|stream|topic|role|state|format|action|act|outcome|buckets|receivedAt|time|\w+Time)$/

/** With escape sequences in each text that may be anyone's. */
function hostile<T>(value: T, name = ''): T {
  if (typeof value === 'string') return (OWN.test(name) ? value : `${value}${ESCAPES}`) as T
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map((one) => hostile(one, name)) as T
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, hostile(one, key)])) as T
}

const HOSTILE_ACT = hostile({
  act: 'redrive' as const,
  id: 'a',
  time: '2026-11-29T11:30:00.000Z',
  by: 'o',
  job: 'j',
  reason: 'r',
})

const letter = (data: RecordView['data']) =>
  hostile({
    state: 'redriven',
    act: HOSTILE_ACT,
    letter: { ...DEAD.outcome, attempts: DEAD.attempts, origin: 'o', data },
  })

/** A life whose event a handler takes. */
const triable = (type: string): Found => {
  const event = { id: 'o-2', source: `/shop${ESCAPES}`, type, extensions: {} }
  const taken = { ...(REDRIVEN.record as RecordView), event, data: { format: 'text' as const, text: '{"total":12}' } }
  return lifeOf({ ...hostile(REDRIVEN), record: taken })
}

const { event: _event, ...NO_EVENT } = DEAD.record as RecordView

const LETTER = 'GET /v1/streams/orders/dead-letters/1/0'
const DEAD_LETTERS = ['dead-letters', 'orders']
const TRY = ['try', 'o-2', '--handlers', HANDLERS, '--stream', 'orders']
const STATUS = 'GET /v1/streams/orders/status'
const UNWELL = hostile(
  status({
    paused: { by: 'o', time: '2026-11-29T11:00:00.000Z', reason: 'r' },
    consumers: [{ clientId: 'c', host: 'h', partitions: [0], ready: false, faults: ['kafka: closed'] }],
    partitions: [
      { partition: 0, state: 'paused', reason: 'r', consumer: 'c', committed: 1, end: 2, lag: 1, waiting: 0 },
    ],
  }),
)

test.each<[what: string, args: string[], world: World]>([
  ['groups of letters', DEAD_LETTERS, { console: { 'GET /v1/streams/orders/dead-letters': () => hostile(GROUPS) } }],
  ...[
    { format: 'json' as const, json: { total: 'x' } },
    { format: 'text' as const, text: 'a\nb' },
    { format: 'masked' as const, detail: 'masked' },
  ].map((data): [string, string[], World] => [
    `a letter with data as ${data.format}`,
    [...DEAD_LETTERS, '--letter', '1/0'],
    { console: { [LETTER]: () => letter(data) } },
  ]),
  [
    'an act',
    [...DEAD_LETTERS, '--letter', '1/0', '--redrive'],
    { console: { 'POST /v1/streams/orders/dead-letters/1/0/redrive': () => ({ done: false, act: HOSTILE_ACT }) } },
  ],
  [
    'jobs',
    [...DEAD_LETTERS, '--jobs'],
    { console: { 'GET /v1/streams/orders/jobs': () => ({ jobs: [hostile(job({ reason: 'r', detail: 'd' }))] }) } },
  ],
  [
    'the end of a job',
    [...DEAD_LETTERS, '--cancel', 'j1'],
    { console: { 'POST /v1/streams/orders/jobs/j1/cancel': () => hostile(job({ state: 'done', detail: 'd' })) } },
  ],
  [
    'a life',
    ['find', 'o-2', '--stream', 'orders'],
    { console: { [FIND]: found(hostile(lifeOf(DEAD, { ...REDRIVEN, act: HOSTILE_ACT }))) } },
  ],
  [
    'why an event waits',
    ['find', 'o-2', '--stream', 'orders'],
    { console: { [FIND]: found(hostile(lifeOf({ ...WAITING, waiting: { reason: 'r', message: 'm' } }))) } },
  ],
  ['an attempt', TRY, { console: { [FIND]: found(triable('order.placed')) } }],
  ['an event that no handler takes', TRY, { console: { [FIND]: found(triable(`order.paid${ESCAPES}`)) } }],
  [
    'what is no event',
    TRY,
    { console: { [FIND]: found(lifeOf({ ...DEAD, record: hostile({ ...NO_EVENT, undecodable: 'no ce_id' }) })) } },
  ],
  ['the status of a stream', ['lag', 'orders'], { console: { [STATUS]: () => UNWELL } }],
  [
    'the status of all streams',
    ['lag'],
    {
      console: {
        'GET /v1/streams': () => ({ streams: [{ tenant: 'acme', stream: 'orders' }] }),
        [STATUS]: () => UNWELL,
      },
    },
  ],
  ['schemas', ['schemas', 'orders'], { console: { [LIST]: () => hostile(SCHEMAS) } }],
  [
    'a refusal',
    ['lag', 'orders'],
    { console: { [STATUS]: problem(400, 'x', hostile({ detail: 'd', errors: [{ pointer: '/p', detail: 'e' }] })) } },
  ],
  [
    'a receipt',
    ['send', 'f'],
    { files: { f: '{"type":"a"}' }, producer: () => answered(receipt(1, { id: `o${ESCAPES}` })) },
  ],
  [
    'an event that is refused',
    ['send', 'f'],
    {
      files: { f: '{"type":"a"}' },
      producer: () =>
        answered({ line: 1, problem: hostile({ detail: 'd', errors: [{ pointer: '/p', detail: 'e' }] }) }),
    },
  ],
])('%s: nothing that is shown moves a terminal’s cursor', async (_, args, world) => {
  const { out, err } = await run(args, world)
  const shown = [...out, ...err].join('\n')
  expect(shown).toContain('[2J')
  expect(shown.split('\n').filter((line) => /\p{Cc}/u.test(line))).toEqual([])
})

test('an outcome that is followed does not move a terminal’s cursor either', async () => {
  const interrupt = new AbortController()
  let connections = 0
  const dead = outcome(3, { outcome: 'dead', error: { reason: 'out of attempts', message: 'rates: 503' } })
  const { out } = await run(['tail', 'orders'], {
    console: {
      'GET /v1/streams/orders/outcomes': () => {
        if (++connections === 1) return new Response(events(hostile(outcome(2)), hostile(dead)))
        interrupt.abort()
        return new Response('')
      },
    },
    interrupt: interrupt.signal,
  })
  expect(out.map((line) => line.includes('[2J'))).toEqual([true, true])
  expect(out.filter((line) => /\p{Cc}/u.test(line))).toEqual([])
})

test('--json gives what the console gave, and nothing else', async () => {
  const life = lifeOf(DEAD)
  const { out } = await run(['find', 'o-2', '--stream', 'orders', '--json'], { console: { [FIND]: found(life) } })
  expect(out.map((line) => JSON.parse(line))).toEqual([life])
})
