import { expect, test } from 'bun:test'
import { Acts, type ActsDeps } from './acts.ts'
import { type ActRecord, ActsState } from './acts-log.ts'
import { demandFewJobs } from './jobs.ts'

const STREAM = { tenant: 't', name: 's', input: 'kt.t.s' }

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
