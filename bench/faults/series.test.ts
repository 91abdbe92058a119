import { expect, test } from 'bun:test'
import { judge } from './judge.ts'
import { playSeries, type RunOutcome, type SeriesOptions, seriesTable } from './series.ts'
import type { Fault, RunResult } from './stage.ts'

const fault = (name: string): Fault => ({ name, what: '', play: async () => {} })

function result(fault: string, seed: number, wrong: string[], seconds: number | undefined): RunResult {
  const verdict = judge([], { topic: 't', input: [], retry: [], dlq: [], processed: [] })
  return {
    verdict: wrong.length === 0 ? verdict : { ...verdict, lost: 2 },
    facts: {
      fault,
      nodes: 3,
      seed,
      seconds: 1,
      requests: 1,
      repeated: 0,
      answers: { acknowledged: 0, unknown: 0, refused: 0 },
      done: {},
      rounds: [{ what: 'broker thawed', seconds, limitSeconds: 30 }],
      stops: [2],
    },
    wrong,
    ok: wrong.length === 0,
  }
}

const played: string[] = []
const said: string[] = []
/** How many runs there were when they were told of. */
const told: number[] = []
const series = (changes: Partial<SeriesOptions>): Promise<RunOutcome[]> => {
  played.length = 0
  said.length = 0
  told.length = 0
  return playSeries({
    faults: [fault('a'), fault('b')],
    runs: 2,
    nodes: 3,
    firstSeed: 10,
    minutes: 1,
    async play({ name }, seed) {
      played.push(`${name} ${seed}`)
      return result(name, seed, [], 1)
    },
    say: (text) => void said.push(text),
    onRun: async (outcomes) => {
      told.push(outcomes.length)
    },
    nowMs: () => 0,
    ...changes,
  })
}

test('plays every fault by turns, each run with a seed of its own', async () => {
  const outcomes = await series({})
  expect(played).toEqual(['a 10', 'b 11', 'a 12', 'b 13'])
  expect(outcomes.every(({ ok }) => ok)).toBe(true)
  expect(told).toEqual([1, 2, 3, 4])
})

test('goes on after a run that broke, and after one that could not be judged, and lists both with their seeds', async () => {
  const outcomes = await series({
    async play({ name }, seed) {
      if (seed === 11) throw new Error('no broker\nand more')
      return result(name, seed, seed === 12 ? ['never committed'] : [], seed === 12 ? undefined : 1.25)
    },
  })
  expect(outcomes.map(({ ok }) => ok)).toEqual([true, false, false, true])
  expect(seriesTable(outcomes).split('\n')).toEqual([
    expect.stringContaining('| fault | nodes | runs | rounds | held |'),
    expect.stringContaining('| --- | --- |'),
    '| a | 3 | 2 | 2 | 1 | 2 | 0 | 0 | never | 2.0 s |',
    '| b | 3 | 2 | 1 | 1 | 0 | 0 | 0 | 1.3 s | 2.0 s |',
    '',
    'Did not hold:',
    '',
    '- `--fault b --nodes 3 --seed 11`: could not be judged: no broker',
    '- `--fault a --nodes 3 --seed 12`: never committed',
    '',
  ])
})

test('begins no run after its time, and says how many are left out', async () => {
  let ms = 0
  const outcomes = await series({ nowMs: () => (ms += 25_000) })
  expect(outcomes.length).toBe(2)
  expect(said.at(-1)).toContain('2 of 4 runs are left out')
})
