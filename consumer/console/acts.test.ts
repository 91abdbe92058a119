import { afterEach, describe, expect, spyOn, test } from 'bun:test'
import pino from 'pino'
import { NO_HEADERS } from '../../shared/events/headers.ts'
import { createLogger } from '../../shared/service/logger.ts'
import { turn } from '../../shared/service/retry.ts'
import { FakeKafka } from '../../shared/testing/fake-kafka.ts'
import { problemOf } from '../../shared/testing/problem.ts'
import { simulateTime } from '../../shared/testing/simulated-time.ts'
import { until } from '../../shared/testing/until.ts'
import { budgetOf, consoleOn, outgoing } from '../testing/console.ts'
import { Acts, type ActsDeps, type Decision } from './acts.ts'
import { type ActRecord, ActsState } from './acts-log.ts'
import { actOnOne, demandFewJobs, Jobs, type JobsDeps } from './jobs.ts'
import { Readers } from './readers.ts'

const INPUT = 'kt.acme.events'
const DLQ = `${INPUT}.dlq`
const ACTS = `${INPUT}.acts`

const ending: (() => void)[] = []
afterEach(() => {
  for (const end of ending.splice(0)) end()
})

/** One console, of several on the same Kafka. */
function consoleIn(kafka: FakeKafka, partitions = 1) {
  const parts = consoleOn(kafka, { partitions })
  const stopping = new AbortController()
  const deps: JobsDeps = {
    acts: parts.acts,
    readers: parts.readers,
    log: pino({ level: 'silent' }),
    nowMs: () => 1_000,
    signal: stopping.signal,
    isDeclared: () => true,
    onActed: () => undefined,
    onFault: () => undefined,
  }
  const stop = (): void => {
    stopping.abort()
    parts.end()
  }
  ending.push(stop)
  return { ...parts, deps, jobs: new Jobs(deps), stop, own: parts.acts.of(parts.stream) }
}

const deadLetters = (kafka: FakeKafka, count: number, partitions = 1): void => {
  for (let index = 0; index < count; index++)
    kafka.append(
      outgoing({
        topic: DLQ,
        partition: index % partitions,
        id: `e${index}`,
        headers: { 'kt-error': '{"reason":"handler failed","message":"no"}', 'kt-origin': `${INPUT}/0/${index}` },
      }),
    )
}

const fatal = { kind: 'fatal', reason: 'no answer' } as const
const TIME = new Date(1_000).toISOString()
const actOnFirst = async (state: ActsState): Promise<Decision<boolean>> =>
  state.actOf({ partition: 0, offset: 0 }) !== undefined
    ? { records: [], acts: [], result: false }
    : {
        records: [{ topic: INPUT, partition: 0, key: 'k', value: Buffer.from('x'), headers: NO_HEADERS }],
        acts: [{ act: 'redrive', id: Bun.randomUUIDv7(), time: TIME, by: 'x', letters: [[0, 0, 1]] }],
        result: true,
      }

describe('an act', () => {
  test('is written once with its record, however many ask for it at the same time', async () => {
    const kafka = new FakeKafka()
    const { own } = consoleIn(kafka)
    const results = await Promise.all(Array.from({ length: 10 }, () => own.perform(actOnFirst)))
    expect(results.filter(Boolean)).toHaveLength(1)
    expect(kafka.records(INPUT)).toHaveLength(1)
    expect(kafka.records(ACTS)).toHaveLength(1)
  })

  test('is done once also with a client that is open already', async () => {
    const kafka = new FakeKafka()
    const { own } = consoleIn(kafka)
    await own.perform(async () => ({ records: [outgoing()], acts: [], result: undefined }))
    const results = await Promise.all(Array.from({ length: 10 }, () => own.perform(actOnFirst)))
    expect(results.filter(Boolean)).toHaveLength(1)
    expect(kafka.records(INPUT)).toHaveLength(2)
    expect(kafka.records(ACTS)).toHaveLength(1)
  })

  test('counts at once, also while it cannot be read yet', async () => {
    const kafka = new FakeKafka()
    const { own, readers } = consoleIn(kafka)
    await own.perform(async () => ({ records: [outgoing()], acts: [], result: undefined }))
    const ends = await readers.meta.ends([{ topic: ACTS, partition: 0 }])
    spyOn(readers.meta, 'ends').mockResolvedValue(ends)
    expect(await own.perform(actOnFirst)).toBe(true)
    expect(await own.perform(actOnFirst)).toBe(false)
  })

  test('takes effect once with several consoles, each of which is fenced by the other', async () => {
    const kafka = new FakeKafka()
    const [a, b] = [consoleIn(kafka), consoleIn(kafka)]
    for (let offset = 0; offset < 5; offset++) {
      const act = async (state: ActsState): Promise<Decision<boolean>> =>
        state.actOf({ partition: 0, offset }) !== undefined
          ? { records: [], acts: [], result: false }
          : {
              records: [outgoing()],
              acts: [{ act: 'redrive', id: Bun.randomUUIDv7(), time: TIME, by: 'x', letters: [[0, offset, 1]] }],
              result: true,
            }
      const results = await Promise.all([a.own.perform(act), b.own.perform(act)])
      expect(results.filter(Boolean)).toHaveLength(1)
    }
    expect(kafka.records(INPUT)).toHaveLength(5)
    // Each goes on by itself after it was fenced.
    for (const [index, one] of [a, b, a, b].entries())
      expect(
        await one.own.perform(async () => ({
          records: [outgoing()],
          acts: [{ act: 'redrive', id: Bun.randomUUIDv7(), time: TIME, by: 'x', letters: [[0, 5 + index, 1]] }],
          result: true,
        })),
      ).toBe(true)
    expect(kafka.records(INPUT)).toHaveLength(9)
    expect((await a.own.current()).actOf({ partition: 0, offset: 4 })).toEqual(
      (await b.own.current()).actOf({ partition: 0, offset: 4 }),
    )
  })

  test('whose commit is not answered is looked for before it is done again', async () => {
    const kafka = new FakeKafka()
    const { own } = consoleIn(kafka)
    let lost = 0
    kafka.onStep = async ({ name }) =>
      name === 'answer' && lost++ === 0 ? { kind: 'fatal', reason: 'no answer' } : undefined
    // It is found done.
    expect(await own.perform(actOnFirst)).toBe(false)
    expect(kafka.records(INPUT)).toHaveLength(1)
  })

  test('whose commit is never answered has an unknown outcome', async () => {
    const kafka = new FakeKafka()
    const { own } = consoleIn(kafka)
    kafka.onStep = async ({ name }) => (name === 'answer' ? { kind: 'fatal', reason: 'no answer' } : undefined)
    const always = async (): Promise<Decision<void>> => ({ records: [outgoing()], acts: [], result: undefined })
    const time = simulateTime(1)
    try {
      const problem = problemOf(() => own.perform(always))
      await time.pass(60_000)
      expect(await problem).toMatchObject({ kind: 'kafka-unavailable', outcome: 'unknown' })
    } finally {
      time.end()
    }
  })

  test('whose transaction is aborted is done again, and has its effect once', async () => {
    const kafka = new FakeKafka()
    const { own } = consoleIn(kafka)
    kafka.transactionFaults.push({ kind: 'aborted', reason: 'coordinator moved', failed: new Map(), passing: true })
    expect(await own.perform(actOnFirst)).toBe(true)
    expect(kafka.records(INPUT)).toHaveLength(1)
  })

  test('with a record that the broker refuses has no effect, and says so', async () => {
    const kafka = new FakeKafka()
    const { own } = consoleIn(kafka)
    kafka.refuses = ({ topic }) => (topic === INPUT ? { reason: 'too large', tooLarge: true } : undefined)
    expect((await problemOf(() => own.perform(actOnFirst))).kind).toBe('event-too-large')
    kafka.refuses = ({ topic }) => (topic === INPUT ? { reason: 'not allowed', tooLarge: false } : undefined)
    expect(await problemOf(() => own.perform(actOnFirst))).toMatchObject({
      kind: 'kafka-unavailable',
      outcome: 'not stored',
    })
    expect(kafka.records(ACTS)).toEqual([])
    kafka.refuses = () => undefined
    expect(await own.perform(actOnFirst)).toBe(true)
  })

  test('that is read before its commit is answered counts once', async () => {
    const kafka = new FakeKafka()
    const { own, deps, stream } = consoleIn(kafka)
    const job = {
      act: 'job',
      id: 'j',
      time: TIME,
      by: 'x',
      action: 'redrive',
      filter: {},
      ratePerSecond: 1,
      from: [0],
      to: [9],
    } as const
    await own.perform(async () => ({
      records: [],
      acts: [{ ...job, from: [...job.from], to: [...job.to] }],
      result: undefined,
    }))
    kafka.onStep = async ({ name }) => {
      if (name === 'answer') await own.current()
      return undefined
    }
    await own.perform(async () => ({
      records: [],
      acts: [{ act: 'redrive', id: 'a', time: TIME, by: 'x', job: 'j', letters: [[0, 1, 1]], positions: [2] }],
      result: undefined,
    }))
    expect((await deps.acts.of(stream).current()).jobs.get('j')).toMatchObject({ acted: 1, positions: [2] })
  })

  test('of a console that stops is not begun', async () => {
    const kafka = new FakeKafka()
    const { own, stop } = consoleIn(kafka)
    stop()
    expect(await problemOf(() => own.perform(actOnFirst))).toMatchObject({
      kind: 'kafka-unavailable',
      outcome: 'not stored',
    })
    expect(kafka.records(INPUT)).toEqual([])
  })
})

describe('the list of acts', () => {
  test('has the newest first, without edits of a stream with masks', async () => {
    const kafka = new FakeKafka()
    const { own, reader } = consoleIn(kafka)
    expect(await own.list(5, [], reader, budgetOf())).toEqual({ acts: [], complete: true })
    for (let index = 0; index < 4; index++)
      await own.perform(async () => ({
        records: [],
        acts: [
          {
            act: 'redrive',
            id: `a${index}`,
            time: TIME,
            by: 'x',
            letters: [[0, index, 1]],
            edit: { data: { ssn: 's3cret' } },
          },
        ],
        result: undefined,
      }))
    const { acts, complete } = await own.list(3, [], reader, budgetOf())
    expect(acts.map(({ id }) => id)).toEqual(['a3', 'a2', 'a1'])
    expect(complete).toBe(false)
    expect(JSON.stringify(acts)).toContain('s3cret')
    expect(JSON.stringify(await own.list(3, ['/ssn'], reader, budgetOf()))).not.toContain('s3cret')
    expect((await own.list(9, [], reader, budgetOf())).complete).toBe(true)
  })
})

describe('one letter', () => {
  test('has its edit in the list of acts', async () => {
    const kafka = new FakeKafka()
    const { stream, deps, own, reader } = consoleIn(kafka)
    deadLetters(kafka, 1)
    const [letter] = kafka.records(DLQ)
    if (letter === undefined) throw new Error('there is none')
    const edit = { patch: [{ op: 'replace' as const, path: '/n', value: 2 }] }
    const { act } = await actOnOne(
      'redrive',
      stream,
      letter,
      { by: 'alice', reason: 'why', caller: 'acme' },
      edit,
      deps,
    )
    expect(act).toMatchObject({ by: 'alice', reason: 'why', edited: true })
    expect(kafka.records(INPUT).map(({ value }) => String(value))).toEqual(['{"n":2}'])
    expect((await own.list(5, [], reader, budgetOf())).acts).toMatchObject([{ by: 'alice', reason: 'why', edit }])
  })

  test('is acted on once: what was done first stays', async () => {
    const kafka = new FakeKafka()
    const { stream, deps, own } = consoleIn(kafka)
    deadLetters(kafka, 1)
    const [letter] = kafka.records(DLQ)
    if (letter === undefined) throw new Error('there is none')
    const act = (action: 'redrive' | 'discard') =>
      actOnOne(action, stream, letter, { by: 'x', reason: 'r', caller: 'acme' }, undefined, deps)
    const first = await act('discard')
    expect(first).toMatchObject({ done: true, act: { act: 'discard', by: 'x', reason: 'r' } })
    expect(await act('redrive')).toEqual({ ...first, done: false })
    expect(await act('discard')).toEqual({ ...first, done: false })
    expect(kafka.records(INPUT)).toEqual([])
    expect((await own.current()).actOf(letter)).toMatchObject({ act: 'discard', reason: 'r' })
  })
})

describe('a job', () => {
  const start = async (
    of: ReturnType<typeof consoleIn>,
    more: { to?: number[]; filter?: object; rate?: number; action?: 'redrive' | 'discard'; reason?: string } = {},
  ) => {
    const { to = [10], filter = {}, rate = 10_000, action = 'redrive', reason = 'why' } = more
    const id = Bun.randomUUIDv7()
    const job = { time: TIME, by: 'alice', reason, action, filter, ratePerSecond: rate, from: to.map(() => 0), to }
    await of.own.perform(async () => ({
      records: [],
      acts: [{ act: 'job', id, ...job }],
      result: undefined,
    }))
    of.jobs.run(of.stream, id)
    return id
  }
  const ended = async ({ own }: ReturnType<typeof consoleIn>, id: string) => {
    await until(async () => (await own.current()).jobs.get(id)?.end !== undefined)
    return (await own.current()).jobs.get(id)
  }
  const redriven = (kafka: FakeKafka, partitions = 1): string[] =>
    Array.from({ length: partitions }, (_, partition) => kafka.records(INPUT, partition)).flatMap((records) =>
      records.map(({ headers }) => String(headers.values[headers.names.indexOf('ce_id')])),
    )

  test('acts on each open letter that its filter matches, once, and ends', async () => {
    const kafka = new FakeKafka()
    const one = consoleIn(kafka, 2)
    deadLetters(kafka, 10, 2)
    const [letter] = kafka.records(DLQ)
    if (letter === undefined) throw new Error('there is none')
    await actOnOne('discard', one.stream, letter, { by: 'x', reason: 'r', caller: 'acme' }, undefined, one.deps)
    const id = await start(one, { to: [5, 4] })
    expect(await ended(one, id)).toMatchObject({ acted: 8, end: { state: 'done' } })
    expect(redriven(kafka, 2).sort()).toEqual(['e1', 'e2', 'e3', 'e4', 'e5', 'e6', 'e7', 'e8'])
    const again = await start(one, { to: [5, 5] })
    expect(await ended(one, again)).toMatchObject({ acted: 1 })
  })

  test('with a filter leaves the other letters open', async () => {
    const kafka = new FakeKafka()
    const one = consoleIn(kafka)
    deadLetters(kafka, 10)
    expect(await ended(one, await start(one, { filter: { id: 'e7' } }))).toMatchObject({ acted: 1 })
    expect(redriven(kafka)).toEqual(['e7'])
  })

  test.each([{ handler: 'b' }, { handler: 'b@1' }, { type: 'order.*' }])(
    'with %j acts on what matches it in full',
    async (filter) => {
      const kafka = new FakeKafka()
      const one = consoleIn(kafka)
      const letter = (id: string, handler: string, type: string): void => {
        const error = JSON.stringify({ reason: 'handler failed', message: 'no', handler })
        kafka.append(outgoing({ topic: DLQ, id, type, headers: { 'kt-error': error } }))
      }
      letter('other', 'a@1', 'my.order.placed')
      letter('wanted', 'b@1', 'order.placed')
      expect(await ended(one, await start(one, { to: [2], filter }))).toMatchObject({ acted: 1 })
      expect(redriven(kafka)).toEqual(['wanted'])
    },
  )

  test('acts in the name of who started it, and for the same reason', async () => {
    const kafka = new FakeKafka()
    const one = consoleIn(kafka)
    deadLetters(kafka, 1)
    const job = await start(one, { to: [1], action: 'discard', reason: 'why' })
    await ended(one, job)
    const acted = { act: 'discard', by: 'alice', reason: 'why', job }
    expect((await one.own.current()).actOf({ partition: 0, offset: 0 })).toMatchObject(acted)
  })

  test('keeps to its rate', async () => {
    const kafka = new FakeKafka()
    const one = consoleIn(kafka)
    deadLetters(kafka, 50)
    const time = simulateTime(1)
    try {
      const begunMs = Date.now()
      await start(one, { to: [50], rate: 20 })
      for (const [count, leastMs] of [
        [30, 900],
        [50, 1_900],
      ] as const) {
        expect(await time.until(() => redriven(kafka).length >= count, 10_000)).toBe(true)
        expect(Date.now() - begunMs).toBeGreaterThan(leastMs)
      }
    } finally {
      time.end()
    }
  })

  test('goes on after a fault', async () => {
    const kafka = new FakeKafka()
    const one = consoleIn(kafka)
    deadLetters(kafka, 3)
    let faults = 0
    one.deps.onFault = () => void faults++
    spyOn(one.readers, 'use').mockRejectedValueOnce(new Error('no leader'))
    const time = simulateTime(1)
    try {
      await start(one, { to: [3] })
      expect(await time.until(() => one.jobs.running === 0, 10_000)).toBe(true)
      expect(redriven(kafka)).toEqual(['e0', 'e1', 'e2'])
      expect(faults).toBe(1)
    } finally {
      time.end()
    }
  })

  test('leaves out what the broker refuses as too large, which stays open', async () => {
    const kafka = new FakeKafka()
    const one = consoleIn(kafka, 2)
    deadLetters(kafka, 10, 2)
    kafka.latency = turn
    kafka.refuses = ({ headers }) =>
      headers.values.includes('e5') ? { reason: 'too large', tooLarge: true } : undefined
    expect(await ended(one, await start(one, { to: [5, 5] }))).toMatchObject({ acted: 9, end: { state: 'done' } })
    expect(redriven(kafka, 2).sort()).toEqual(['e0', 'e1', 'e2', 'e3', 'e4', 'e6', 'e7', 'e8', 'e9'])
    expect((await one.own.current()).actOf({ partition: 1, offset: 2 })).toBeUndefined()
  })

  test('goes on in another console after a restart in the middle, and acts on no letter twice', async () => {
    const kafka = new FakeKafka()
    const first = consoleIn(kafka)
    deadLetters(kafka, 40)
    const id = await start(first, { to: [40], rate: 20 })
    await until(() => redriven(kafka).length === 20)
    first.stop()
    const second = consoleIn(kafka)
    await second.jobs.resume(second.stream)
    expect(await ended(second, id)).toMatchObject({ acted: 40, end: { state: 'done' } })
    expect(redriven(kafka)).toEqual(Array.from({ length: 40 }, (_, index) => `e${index}`))
  })

  test('that is cancelled acts on nothing more', async () => {
    const kafka = new FakeKafka()
    const one = consoleIn(kafka)
    deadLetters(kafka, 40)
    const id = await start(one, { to: [40], rate: 5 })
    await until(() => redriven(kafka).length > 0)
    await one.own.perform(async () => ({
      records: [],
      acts: [{ act: 'job-end', id: 'end', job: id, time: TIME, by: 'x', state: 'cancelled' }],
      result: undefined,
    }))
    const before = redriven(kafka).length
    await until(() => one.jobs.running === 0)
    expect(redriven(kafka)).toHaveLength(before)
  })

  test('that is cancelled while it looks acts on nothing', async () => {
    const kafka = new FakeKafka()
    const one = consoleIn(kafka)
    deadLetters(kafka, 3)
    const use = one.readers.use.bind(one.readers)
    spyOn(one.readers, 'use').mockImplementationOnce(async (signal, work) => {
      const found = await use(signal, work)
      const [job = ''] = (await one.own.current()).jobs.keys()
      await one.own.perform(async () => ({
        records: [],
        acts: [{ act: 'job-end', id: 'end', job, time: TIME, by: 'x', state: 'cancelled' }],
        result: undefined,
      }))
      return found
    })
    const id = await start(one, { to: [3] })
    await until(() => one.jobs.running === 0)
    expect(redriven(kafka)).toEqual([])
    expect((await one.own.current()).jobs.get(id)).toMatchObject({ acted: 0, end: { state: 'cancelled' } })
  })

  test('passes over letters whose original is gone, which stay open', async () => {
    const kafka = new FakeKafka()
    const one = consoleIn(kafka)
    kafka.append(
      outgoing({
        topic: DLQ,
        value: null,
        headers: { 'kt-error': '{"reason":"result too large","message":"x"}', 'kt-origin': `${INPUT}/0/99` },
      }),
    )
    deadLetters(kafka, 2)
    expect(await ended(one, await start(one, { to: [3] }))).toMatchObject({ acted: 2 })
    expect((await one.own.current()).actOf({ partition: 0, offset: 0 })).toBeUndefined()
  })

  test('stays with the console that runs it: another one that looks for it waits, and goes on once that is gone', async () => {
    const kafka = new FakeKafka()
    const [a, b] = [consoleIn(kafka), consoleIn(kafka)]
    deadLetters(kafka, 40)
    const by: string[] = []
    for (const [name, one] of Object.entries({ a, b })) one.deps.onActed = () => void by.push(name)
    const time = simulateTime(1)
    try {
      void start(a, { to: [40], rate: 1 })
      const isAt = (count: number) => time.until(() => redriven(kafka).length >= count, 120_000)
      expect(await isAt(3)).toBe(true)
      // Each may take it from the other once; then one has it.
      void b.jobs.resume(b.stream)
      expect(await isAt(6)).toBe(true)
      const from = by.length
      expect(await isAt(18)).toBe(true)
      const [owner] = by.slice(from)
      expect(by.slice(from).every((one) => one === owner)).toBe(true)
      const gone = owner === 'a' ? a : b
      gone.stop()
      expect(await isAt(40)).toBe(true)
      expect(new Set(redriven(kafka)).size).toBe(40)
    } finally {
      time.end()
    }
  })

  test('whose stream is not declared any more stops, and goes on once it is again', async () => {
    const kafka = new FakeKafka()
    const one = consoleIn(kafka)
    deadLetters(kafka, 60)
    let isDeclared = true
    one.deps.isDeclared = () => isDeclared
    const time = simulateTime(1)
    try {
      void start(one, { to: [60], rate: 2 })
      expect(await time.until(() => redriven(kafka).length >= 3, 60_000)).toBe(true)
      isDeclared = false
      expect(await time.until(() => one.jobs.running === 0, 10_000)).toBe(true)
      const done = redriven(kafka).length
      await time.pass(10_000)
      expect(redriven(kafka)).toHaveLength(done)
      isDeclared = true
      void one.jobs.resume(one.stream)
      expect(await time.until(() => redriven(kafka).length === 60, 120_000)).toBe(true)
    } finally {
      time.end()
    }
  })

  test('of two consoles acts on each letter once', async () => {
    const kafka = new FakeKafka()
    const [a, b] = [consoleIn(kafka), consoleIn(kafka)]
    deadLetters(kafka, 30)
    const id = await start(a, { to: [30], rate: 15 })
    await b.jobs.resume(b.stream)
    await until(async () => (await a.own.current()).jobs.get(id)?.end !== undefined, { timeoutMs: 15_000 })
    expect(redriven(kafka)).toHaveLength(30)
    expect(new Set(redriven(kafka)).size).toBe(30)
  }, 20_000)
})

const STREAM = { tenant: 't', name: 's', input: 'kt.t.s' }

const JOB: ActRecord = {
  act: 'job',
  id: 'job',
  time: TIME,
  by: 'someone',
  action: 'redrive',
  filter: {},
  ratePerSecond: 1,
  from: [0],
  to: [9],
}

const actsOn = (kafka: FakeKafka, open = (id: string) => kafka.transactor(id)): Acts =>
  new Acts({
    readers: new Readers(() => kafka.reader(), 4),
    openTransactor: open,
    transactionalId: () => 'console',
    ensureTopic: async () => undefined,
    log: createLogger('console', { LOG_LEVEL: 'fatal', LOG_FORMAT: 'json' }),
    signal: new AbortController().signal,
  })

test('a transaction of acts that a restarted broker has forgotten to end does not stop the next one', async () => {
  const kafka = new FakeKafka().createTopic('kt.t.s.acts')
  const acts = actsOn(kafka)
  const perform = async (act: ActRecord) => {
    await acts.of(STREAM).perform(async () => ({ records: [], acts: [act], result: undefined }))
    await acts.close()
  }
  const time = simulateTime(1)
  let isDone = false
  const running = (async () => {
    kafka.onMark = () => 'forgotten'
    await perform(JOB)
    kafka.onMark = () => 'written'
    await perform({ ...JOB, id: 'next' })
    // What the client before held to be done was not.
    for (const each of [acts, actsOn(kafka)])
      expect([...(await each.of(STREAM).current()).jobs.keys()]).toEqual(['next'])
  })().finally(() => {
    isDone = true
  })
  try {
    expect(await time.until(() => isDone, 60_000)).toBe(true)
    await running
  } finally {
    time.end()
  }
})

test('nor do two consoles hold each other up that both try to end it', async () => {
  const seeds = Array.from({ length: 20 }, (_, index) => index + 1)
  for (const seed of seeds) {
    const kafka = new FakeKafka().createTopic('kt.t.s.acts')
    const consoles = [actsOn(kafka), actsOn(kafka)]
    const time = simulateTime(seed)
    const perform = (acts: Acts, id: string) =>
      acts.of(STREAM).perform(async () => ({ records: [], acts: [{ ...JOB, id }], result: undefined }))
    try {
      kafka.onMark = () => 'forgotten'
      let isDone = false
      void perform(consoles[0] as Acts, 'forgotten').finally(() => {
        isDone = true
      })
      expect(await time.until(() => isDone, 10_000)).toBe(true)
      await Promise.all(consoles.map((acts) => acts.close()))
      kafka.onMark = () => 'written'
      const done: string[] = []
      for (const [index, acts] of consoles.entries()) {
        void perform(acts, `next ${index}`).then(() => done.push(`next ${index}`))
        await time.pass(500 * time.random())
      }
      expect([seed, await time.until(() => done.length === 2, 10_000)]).toEqual([seed, true])
    } finally {
      time.end()
    }
  }
})

describe('a transaction of redrives whose end a restarted broker forgets', () => {
  const ends = ['committed', 'committed, not answered', 'aborted', 'left by a client that died'] as const
  const places = [ACTS, `${INPUT}/0`, `${INPUT}/1`]
  const subsets = Array.from({ length: 2 ** places.length }, (_, bits) => places.filter((_, bit) => (bits >> bit) & 1))
  const nexts = ['nothing', 'a redrive', 'a discard', 'another act'] as const
  const letters = [0, 1].map((partition) => ({ partition, offset: 0 }))
  const actOf = (act: 'redrive' | 'discard', which: typeof letters): ActRecord => ({
    act,
    id: Bun.randomUUIDv7(),
    time: TIME,
    by: 'x',
    letters: which.map(({ partition, offset }) => [partition, offset, 1]),
  })

  for (const end of ends)
    for (const next of nexts)
      test(`${end}, then ${next}: what the acts say is in the stream, and nothing else, and nothing is held back`, async () => {
        for (const forgotten of subsets) {
          const kafka = new FakeKafka()
          const { own } = consoleIn(kafka, 2)
          // Clients are told of lost connections by statistics, which may be late.
          if (end === 'aborted') Object.defineProperty(kafka, 'disconnects', { get: () => 0, set: () => undefined })
          const act = (kind: 'redrive' | 'discard', which: typeof letters) =>
            own.perform(async (state) => {
              const open = which.filter((letter) => state.actOf(letter) === undefined)
              const records = open.map(({ partition, offset }) =>
                outgoing({ partition, headers: { 'kt-redriven-from': `${DLQ}/${partition}/${offset}` } }),
              )
              const isRedrive = kind === 'redrive'
              return {
                records: isRedrive ? records : [],
                acts: open.length === 0 ? [] : [actOf(kind, open)],
                result: undefined,
              }
            })
          const time = simulateTime(1)
          const done = async (work: Promise<unknown>): Promise<void> => {
            let isDone = false
            const settled = work.finally(() => {
              isDone = true
            })
            expect(await time.until(() => isDone, 60_000)).toBe(true)
            await settled
          }
          try {
            let isFirst = true
            kafka.onStep = async (step) => {
              const isEnd = step.kind === 'commit' && step.name === 'end'
              if (!isFirst || !(isEnd || step.name === 'answer')) return undefined
              if (step.name === 'answer' || end !== 'committed, not answered') isFirst = false
              if (step.name === 'answer') return end === 'committed, not answered' ? fatal : undefined
              if (end === 'aborted') return { kind: 'aborted', reason: 'a fault', passing: true }
              return end === 'left by a client that died' ? fatal : undefined
            }
            const ended = new Set<string>()
            kafka.onMark = ({ at }) => {
              const name = at?.topic === ACTS ? ACTS : `${at?.topic}/${at?.partition}`
              if (ended.has(name)) return 'written'
              ended.add(name)
              return forgotten.includes(name) ? 'forgotten' : 'written'
            }
            await done(act('redrive', letters))
            if (next === 'a redrive') await done(act('redrive', letters.slice(0, 1)))
            if (next === 'a discard') await done(act('discard', letters))
            if (next === 'another act')
              await done(own.perform(async () => ({ records: [], acts: [JOB], result: undefined })))
            // The client is idle meanwhile.
            await time.pass(70_000)
            const state = await own.current()
            for (const letter of letters) {
              const { partition } = letter
              const log = kafka.log({ topic: INPUT, partition })
              const seen = kafka.records(INPUT, partition).length
              const said = [forgotten, partition, state.actOf(letter)?.act]
              expect([...said, log.end - log.stable]).toEqual([...said, 0])
              const atLeast = state.actOf(letter)?.act === 'redrive' ? 1 : 0
              // Twice only where the broker has committed a redrive without its act, or the commit of a redrive was completed by writing it again.
              const isCommit = end.startsWith('committed')
              const mayRepeat = isCommit && (forgotten.includes(ACTS) || forgotten.includes(`${INPUT}/${partition}`))
              expect([...said, seen >= atLeast, seen <= atLeast + (mayRepeat ? 1 : 0)]).toEqual([...said, true, true])
            }
          } finally {
            time.end()
          }
        }
      })
})

test('acts that are read before their commit is answered count once', async () => {
  const kafka = new FakeKafka().createTopic('kt.t.s.acts')
  const acts: Acts = actsOn(kafka, (id) => {
    const transactor = kafka.transactor(id)
    return {
      ...transactor,
      async write(outputs) {
        const written = await transactor.write(outputs)
        await acts.of(STREAM).current()
        return written
      },
    }
  })
  const stream = acts.of(STREAM)
  const perform = (act: ActRecord) => stream.perform(async () => ({ records: [], acts: [act], result: undefined }))
  await perform(JOB)
  await perform({
    act: 'redrive',
    id: '1',
    time: TIME,
    by: 'someone',
    job: 'job',
    letters: [[0, 3, 1]],
    positions: [4],
  })
  expect((await stream.current()).jobs.get('job')).toMatchObject({ acted: 1, positions: [4] })
  await acts.close()
})

test('acts that wait for Kafka have a bound', async () => {
  const stuck = Promise.withResolvers<void>()
  const ending = new AbortController()
  const acts = new Acts({
    ensureTopic: () => stuck.promise,
    log: { warn: () => undefined },
    signal: ending.signal,
  } as unknown as ActsDeps)
  const act = () =>
    acts
      .of(STREAM)
      .perform(async () => ({ records: [], acts: [], result: 'done' }))
      .catch(({ problem }) => problem.kind as string)
  const answers = Array.from({ length: 150 }, act)
  expect(await Promise.race(answers.slice(100))).toBe('overloaded')
  ending.abort()
  stuck.reject(new Error('no broker'))
  const kinds = await Promise.all(answers)
  expect(kinds.filter((kind) => kind === 'overloaded')).toHaveLength(50)
  expect(kinds.filter((kind) => kind === 'kafka-unavailable')).toHaveLength(100)
})

test('acts that had their turn no longer count as waiting', async () => {
  const acts = actsOn(new FakeKafka().createTopic('kt.t.s.acts'))
  const perform = () => acts.of(STREAM).perform(async () => ({ records: [], acts: [], result: 'done' }))
  for (let index = 0; index < 150; index++) expect(await perform()).toBe('done')
  await acts.close()
})

test('so many jobs of a stream run, and others are refused until one ends', () => {
  const state = new ActsState()
  const common = { time: '2026-01-01T00:00:00Z', by: 'a' }
  const job = (id: string): ActRecord => ({
    act: 'job',
    id,
    ...common,
    action: 'redrive',
    filter: {},
    ratePerSecond: 1,
    from: [],
    to: [],
  })
  for (let index = 0; index < 10; index++) {
    demandFewJobs(state)
    state.take(job(String(index)))
  }
  expect(() => demandFewJobs(state)).toThrow('at most 10')
  state.take({ act: 'job-end', id: 'e', job: '3', ...common, state: 'cancelled' })
  demandFewJobs(state)
})
