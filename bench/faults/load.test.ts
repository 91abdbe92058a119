import { afterEach, describe, expect, test } from 'bun:test'
import { until } from '../../shared/testing/until.ts'
import { Ledger } from './ledger.ts'
import { answersOf, type Form, type LoadOptions, PLAIN, prepare, type Sent, startLoad } from './load.ts'
import { createRandom } from './random.ts'

const receipt = (partition: number, offset: number) => ({ id: 'x', stream: 's', partition, offset, time: 't' })

describe('what an answer says of each event', () => {
  test('202: all stand where their receipts say', () => {
    const text = JSON.stringify({ receipts: [receipt(1, 2), receipt(3, 4)] })
    expect(answersOf(202, text, 2)).toEqual([
      { kind: 'acknowledged', partition: 1, offset: 2 },
      { kind: 'acknowledged', partition: 3, offset: 4 },
    ])
  })

  test('202 with another number of receipts says nothing', () => {
    expect(answersOf(202, JSON.stringify({ receipts: [receipt(1, 2)] }), 2).map(({ kind }) => kind)).toEqual([
      'unknown',
      'unknown',
    ])
  })

  test('4xx: none is stored', () => {
    expect(answersOf(422, '', 2)).toEqual(Array(2).fill({ kind: 'refused', status: 422 }))
  })

  test('503: what its outcome says, for all or for each', () => {
    const problem = { status: 503, outcome: 'not stored' }
    expect(answersOf(503, JSON.stringify(problem), 1)).toEqual([{ kind: 'refused', status: 503 }])
    expect(answersOf(503, JSON.stringify({ ...problem, outcome: 'unknown' }), 1)).toMatchObject([{ kind: 'unknown' }])
    const events = [{ outcome: 'stored', receipt: receipt(0, 7) }, { outcome: 'not stored' }, { outcome: 'unknown' }]
    expect(
      answersOf(503, JSON.stringify({ ...problem, outcome: 'unknown', events }), 3).map(({ kind }) => kind),
    ).toEqual(['acknowledged', 'refused', 'unknown'])
  })

  test('500, or anything unheard of: nothing is known', () => {
    expect(answersOf(500, '{}', 1)).toMatchObject([{ kind: 'unknown' }])
  })

  const lines = [
    { line: 1, receipt: receipt(0, 1) },
    { line: 2, problem: { status: 422 } },
    { line: 3, problem: { status: 503, outcome: 'unknown' } },
  ].map((line) => `${JSON.stringify(line)}\n`)

  test('a stream that was cut off: its whole lines count, the rest is unknown', () => {
    const text = `${lines.join('')}{"line":4,"rec`
    expect(answersOf(200, text, 4, 'cut off').map(({ kind }) => kind)).toEqual([
      'acknowledged',
      'refused',
      'unknown',
      'unknown',
    ])
  })

  test('a stream that was ended by the service: lines without an answer were not read', () => {
    const text = `${lines.join('')}{"problem":{"status":503}}\n{"summary":{"complete":false}}\n`
    expect(answersOf(200, text, 4).map(({ kind }) => kind)).toEqual(['acknowledged', 'refused', 'unknown', 'refused'])
  })
})

describe('a request', () => {
  const event: Sent = {
    id: '1',
    source: '/s',
    type: 't',
    subject: 'schlüssel % "1"',
    time: '2026-01-01T00:00:00Z',
    data: { a: 'ä' },
  }

  test('in binary mode has its attributes as headers, percent-encoded as the HTTP binding says', () => {
    const { headers, body } = prepare('binary', [event])
    expect(headers['ce-subject']).toBe('schl%C3%BCssel%20%25%20%221%22')
    expect(headers['ce-id']).toBe('1')
    expect(headers['ce-data']).toBeUndefined()
    expect(body).toBe('{"a":"ä"}')
  })

  test('in every form carries the same events', () => {
    const parsed = (form: Form): Record<string, unknown>[] => {
      const text = prepare(form, [event]).body as string
      if (form === 'ndjson')
        return text
          .trimEnd()
          .split('\n')
          .map((line) => JSON.parse(line))
      const json: unknown = JSON.parse(text)
      return (Array.isArray(json) ? json : [json]) as Record<string, unknown>[]
    }
    for (const form of ['structured', 'batch', 'plain', 'plain list', 'ndjson'] as const)
      expect(parsed(form)).toMatchObject([{ id: '1', source: '/s', subject: event.subject, data: event.data } as never])
  })
})

describe('a load', () => {
  let server: ReturnType<typeof Bun.serve> | undefined
  afterEach(() => server?.stop(true))

  const start = (fetch: (request: Request) => Response | Promise<Response>, changes: Partial<LoadOptions> = {}) => {
    server = Bun.serve({ port: 0, hostname: '127.0.0.1', fetch })
    const ledger = new Ledger()
    const load = startLoad({
      url: `http://127.0.0.1:${server.port}`,
      stream: 's',
      ledger,
      random: createRandom(5),
      name: 'l',
      eventsPerSecond: 500,
      kinds: [PLAIN],
      keys: 10,
      keyless: 0.2,
      wrong: 0,
      repeatedAnyway: 0,
      timeoutMs: [1000, 1000],
      ...changes,
    })
    return { load, ledger }
  }

  test('writes every event into the ledger before it can arrive', async () => {
    let arrived = 0
    const { load, ledger } = start(async (request) => {
      const text = await request.text()
      arrived++
      expect(ledger.size).toBeGreaterThan(0)
      return new Response(text.length > 0 ? 'no' : 'nothing', { status: 400 })
    })
    await until(() => arrived >= 5)
    await load.stop()
    expect(load.facts).toMatchObject({ requests: arrived, repeated: 0, statuses: { 400: arrived } })
    for (const { answers } of ledger.entries()) expect(answers).toEqual([{ kind: 'refused', status: 400 }])
  })

  test('sends the same ids again after 503 and after a time-out, and notes every answer', async () => {
    const seen = new Map<string, number>()
    const { load, ledger } = start(
      async (request) => {
        const { id } = (await request.json()) as { id: string }
        const times = (seen.get(id) ?? 0) + 1
        seen.set(id, times)
        if (times === 1) return Response.json({ status: 503, outcome: 'not stored' }, { status: 503 })
        if (times === 2) await new Promise((resolve) => request.signal.addEventListener('abort', resolve))
        return Response.json({ receipts: [receipt(0, Number(id.slice(2)))] }, { status: 202 })
      },
      { timeoutMs: [500, 500], random: { ...createRandom(5), pick: (() => 'plain') as never, chance: () => false } },
    )
    await until(() => seen.size >= 3)
    await load.stop()
    const entries = ledger.entries()
    expect(entries.length).toBe(seen.size)
    for (const { answers } of entries)
      expect(answers.map(({ kind }) => kind)).toEqual(['refused', 'unknown', 'acknowledged'])
    expect(load.facts.repeated).toBe(2 * entries.length)
  })

  test('knows that nothing was sent when nobody listens', async () => {
    const { load, ledger } = start(() => new Response())
    await server?.stop(true)
    await until(() => (load.facts.statuses[0] ?? 0) > 3)
    expect(ledger.entries().flatMap(({ answers }) => answers)).toContainEqual({ kind: 'refused', status: 0 })
    for (const answer of ledger.entries().flatMap(({ answers }) => answers))
      expect(answer.kind).not.toBe('acknowledged')
  })
})
