import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { type ActRecord, ActsState, decodeAct, encodeAct, jobView } from './acts-log.ts'

const TIME = '2026-01-31T12:00:00.000Z'
const by = 'someone'

const job = (id: string, size = 10): ActRecord => ({
  act: 'job',
  id,
  time: TIME,
  by,
  action: 'redrive',
  filter: {},
  ratePerSecond: 1,
  from: [0, 5],
  to: [size, size + 5],
})

/** Everything that can be asked of a state. */
function picture(state: ActsState) {
  const letters = [0, 1].flatMap((partition) =>
    Array.from({ length: 20 }, (_, offset) => state.actOf({ partition, offset }) ?? null),
  )
  return { letters, jobs: [...state.jobs.values()].map(jobView), paused: state.paused ?? null }
}

function stateOf(records: readonly ActRecord[]): ActsState {
  const state = new ActsState()
  for (const record of records) state.take(record)
  return state
}

describe('the state', () => {
  test('says of each letter what was done to it, by whom and why', () => {
    const state = stateOf([
      job('j1'),
      { act: 'redrive', id: 'a1', time: TIME, by, reason: 'fixed', letters: [[0, 3, 1]], edit: { type: 'x' } },
      {
        act: 'discard',
        id: 'a2',
        time: TIME,
        by: 'other',
        letters: [
          [0, 4, 0],
          [1, 3, 0],
        ],
      },
      { act: 'redrive', id: 'a3', time: TIME, by, job: 'j1', letters: [[1, 9, 2]], positions: [4, 10] },
    ])
    expect(state.actOf({ partition: 0, offset: 3 })).toEqual({
      act: 'redrive',
      id: 'a1',
      time: TIME,
      by,
      reason: 'fixed',
      edited: true,
    })
    expect(state.actOf({ partition: 1, offset: 3 })).toEqual({ act: 'discard', id: 'a2', time: TIME, by: 'other' })
    expect(state.actOf({ partition: 1, offset: 9 })).toEqual({ act: 'redrive', id: 'a3', time: TIME, by, job: 'j1' })
    expect(state.actOf({ partition: 1, offset: 4 })).toBeUndefined()
    expect(state.actOf({ partition: 7, offset: 3 })).toBeUndefined()
  })

  test('says how far each job is, and how it ended first', () => {
    const begun = stateOf([job('j1')])
    expect([...begun.jobs.values()].map(jobView)).toMatchObject([
      { id: 'j1', state: 'running', acted: 0, looked: 0, of: 20 },
    ])
    const state = stateOf([
      job('j1'),
      {
        act: 'redrive',
        id: 'a1',
        time: TIME,
        by,
        job: 'j1',
        letters: [
          [0, 1, 1],
          [1, 6, 1],
        ],
        positions: [4, 8],
      },
      { act: 'redrive', id: 'a2', time: TIME, by, job: 'j1', letters: [], positions: [5, 8] },
      { act: 'job-end', id: 'e1', job: 'j1', time: TIME, by: 'other', state: 'cancelled', detail: 'enough' },
      { act: 'job-end', id: 'e2', job: 'j1', time: TIME, by, state: 'done' },
      { act: 'job-end', id: 'e3', job: 'unknown', time: TIME, by, state: 'done' },
    ])
    expect([...state.jobs.values()].map(jobView)).toMatchObject([
      { state: 'cancelled', acted: 2, looked: 8, of: 20, endedBy: 'other', detail: 'enough' },
    ])
    const done = stateOf([job('j1'), { act: 'job-end', id: 'e1', job: 'j1', time: TIME, by, state: 'done' }])
    expect([...done.jobs.values()].map(jobView)).toMatchObject([{ state: 'done', looked: 20 }])
  })

  test('is paused between a pause and what resumes it', () => {
    const pause: ActRecord = { act: 'pause', id: 'p', time: TIME, by, reason: 'r' }
    expect(stateOf([pause]).paused).toEqual(pause)
    expect(stateOf([pause, { act: 'resume', id: 'q', time: TIME, by }]).paused).toBeUndefined()
  })

  const letters = fc.array(fc.tuple(fc.nat(1), fc.nat(19), fc.nat(3)), { maxLength: 3 })
  const jobs = fc.constantFrom('j0', 'j1', 'j2')
  const act: fc.Arbitrary<ActRecord> = fc.oneof(
    jobs.map((id) => job(id)),
    fc.record({
      act: fc.constantFrom('redrive' as const, 'discard' as const),
      id: fc.uuid(),
      time: fc.constant(TIME),
      by: fc.constantFrom('x', 'y'),
      letters,
    }),
    fc.record({
      act: fc.constant('redrive' as const),
      id: fc.uuid(),
      time: fc.constant(TIME),
      by: fc.constant('x'),
      job: jobs,
      letters,
      positions: fc.tuple(fc.nat(10), fc.nat(15)),
    }),
    fc.record({
      act: fc.constant('job-end' as const),
      id: fc.uuid(),
      job: jobs,
      time: fc.constant(TIME),
      by: fc.constant('x'),
      state: fc.constantFrom('done' as const, 'cancelled' as const),
    }),
    fc.record({
      act: fc.constantFrom('pause' as const, 'resume' as const),
      id: fc.uuid(),
      time: fc.constant(TIME),
      by: fc.constant('x'),
    }),
  )

  test('is the same however often a record is in the log or is read', () => {
    fc.assert(
      fc.property(
        fc.array(act, { maxLength: 20 }),
        fc.array(fc.tuple(fc.nat(), fc.nat()), { maxLength: 10 }),
        (log, repeats) => {
          // A record may be written again after a fault, or be read after it was taken from the commit, each time later than the first.
          const repeated = [...log]
          for (const [which, where] of repeats) {
            const record = log[which % Math.max(1, log.length)]
            if (record === undefined) continue
            const first = repeated.findIndex(({ id }) => id === record.id)
            repeated.splice(first + 1 + (where % (repeated.length - first)), 0, record)
          }
          expect(picture(stateOf(repeated))).toEqual(picture(stateOf(log)))
        },
      ),
      { numRuns: 500 },
    )
  })

  test('is the same whether it is read from the log or was followed', () => {
    fc.assert(
      fc.property(fc.array(act, { maxLength: 20 }), (log) => {
        const read = log.map((one) => decodeAct(encodeAct(one))).filter((one) => one !== undefined)
        expect(read).toHaveLength(log.length)
        expect(picture(stateOf(read))).toEqual(picture(stateOf(log)))
      }),
    )
  })
})

test('a record that is no act is ignored', () => {
  const sound = { act: 'redrive', id: 'a', time: TIME, by, letters: [[0, 1, 1]] }
  const of = (value: unknown) => decodeAct(Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)))
  expect(of(sound)).toMatchObject({ id: 'a' })
  for (const value of [
    '',
    '{',
    'null',
    '7',
    '[]',
    '{}',
    { ...sound, act: 'delete' },
    { ...sound, letters: [[0, -1, 1]] },
    { ...sound, letters: [[0, 1]] },
    { ...sound, by: 7 },
    { ...sound, id: undefined },
    { ...job('j'), from: ['a'] },
    { ...job('j'), ratePerSecond: 0 },
  ])
    expect(of(value)).toBeUndefined()
  expect(decodeAct(null)).toBeUndefined()
  expect(decodeAct(Buffer.from([0xff, 0xfe]))).toBeUndefined()
})
