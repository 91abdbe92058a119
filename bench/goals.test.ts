import { describe, expect, test } from 'bun:test'
import { changingRuns, exampleLatency, exampleProcess, exampleResult } from './example-result.ts'
import { type Judged, judgeGoals } from './goals.ts'
import {
  type Followed,
  type Lookups,
  type PageUse,
  parseResult,
  type Restart,
  type Result,
  type Run,
} from './result.ts'

const GOOD = exampleResult()

function goal(result: Result, name: string): Judged {
  const judged = judgeGoals(result).find((one) => one.goal === name)
  if (judged === undefined) throw new Error(`there is no goal ${name}`)
  return judged
}

/** Of all repetitions of KafkaTrace in a workload. */
const ours = (workload: string, change: (run: Run) => Run | undefined, step?: number): Result =>
  changingRuns(GOOD, { workload, system: 'kafkatrace', ...(step !== undefined && { step }) }, change)

const withoutRunsOf = (system: string): Result => changingRuns(GOOD, { system }, () => undefined)

const atRate = (run: Run, factor: number): Run => ({
  ...run,
  requests: Math.round(run.requests * factor),
  requestsPerSecond: run.requestsPerSecond * factor,
  eventsPerSecond: run.eventsPerSecond * factor,
  ...(run.eventsPerCpuSecond !== undefined && { eventsPerCpuSecond: run.eventsPerCpuSecond * factor }),
})

test('the example of the tests is a result, and reaches every goal', () => {
  expect(() => parseResult(JSON.parse(JSON.stringify(GOOD)), 'example')).not.toThrow()
  expect(judgeGoals(GOOD).filter(({ verdict }) => verdict !== 'met')).toEqual([])
})

test('goals have names of their own', () => {
  const names = judgeGoals(GOOD).map((one) => one.goal)
  expect(new Set(names).size).toBe(names.length)
})

test('every goal of an empty result is not measured, and says why', () => {
  for (const { verdict, why = '' } of judgeGoals({ ...GOOD, runs: [] })) {
    expect(verdict).toBe('not measured')
    expect(why).not.toBe('')
  }
})

describe('any goal', () => {
  test('is missed when KafkaTrace lost an event in its workload, whatever its numbers are', () => {
    const scan = { acknowledged: 100, inLog: 99, lost: 1 }
    const result = changingRuns(GOOD, { workload: 'ndjson', repetition: 2 }, (run) => ({ ...run, scan }))
    expect(goal(result, 'ndjson')).toMatchObject({
      verdict: 'missed',
      why: 'events were lost, have not one outcome, or are out of order, in 1 run',
    })
    expect(goal(result, 'batch-100').verdict).toBe('met')
  })

  test('takes nothing from void runs', () => {
    const voided = ours('ndjson', (run) =>
      run.repetition === 1 ? { ...atRate(run, 0.01), void: 'the generator was late' } : run,
    )
    expect(goal(voided, 'ndjson').verdict).toBe('met')
    const allVoid = ours('ndjson', (run) => ({ ...run, void: 'the generator was late' }))
    expect(goal(allVoid, 'ndjson')).toMatchObject({
      verdict: 'not measured',
      measured: '–',
      why: 'no run of KafkaTrace in ndjson counts: the generator was late',
    })
  })
})

describe('single events, by Bun’s echo', () => {
  test('are compared by requests for a CPU-second of the service’s processes', () => {
    const dearer = ours('single-1kb', (run) => ({
      ...run,
      processes: run.processes.map((one) => ({
        ...one,
        cpuSeconds: one.cpuSeconds * (one.role === 'service' ? 1.1 : 9),
      })),
    }))
    expect(goal(GOOD, 'single-1kb-echo').measured).toStartWith('64 %')
    expect(goal(dearer, 'single-1kb-echo')).toMatchObject({
      verdict: 'missed',
      measured: expect.stringMatching(/^58 %/),
    })
  })

  test('what is just too little is not said to be enough', () => {
    const factor = 0.5999 / (24 / 37)
    const result = ours('single-1kb', (run) => atRate(run, factor))
    expect(goal(result, 'single-1kb-echo')).toMatchObject({
      verdict: 'missed',
      measured: expect.stringMatching(/^59 %/),
    })
  })
})

describe('single events, by peers', () => {
  test('are judged by the peer that comes nearest; all of them are shown', () => {
    const { measured, verdict } = goal(GOOD, 'single-1kb-peers-cpu')
    expect(verdict).toBe('met')
    expect(measured).toMatch(/^2\.\d\d× .*Hono.*; .*Fastify.*FastAPI/)
    const faster = changingRuns(GOOD, { system: 'hono-platformatic' }, (run) => atRate(run, 1.3))
    expect(goal(faster, 'single-1kb-peers-cpu').verdict).toBe('missed')
    expect(goal(faster, 'single-1kb-peers-rate').verdict).toBe('met')
  })

  test('pair repetitions: a machine that is slow for both for a while changes nothing', () => {
    const slow = changingRuns(GOOD, { workload: 'single-1kb', repetition: 3 }, (run) => atRate(run, 0.2))
    expect(goal(slow, 'single-1kb-peers-cpu').measured).toBe(goal(GOOD, 'single-1kb-peers-cpu').measured)
  })

  test('cannot be compared where no repetition counts of both', () => {
    const apart = changingRuns(GOOD, { workload: 'single-1kb' }, (run) =>
      (run.system === 'go-franz') === run.repetition < 3 ? run : undefined,
    )
    expect(goal(apart, 'single-1kb-franz-cpu')).toMatchObject({
      verdict: 'not measured',
      why: 'no repetition of single-1kb counts of both KafkaTrace and Go: net/http + franz-go',
    })
  })

  test('franz-go has goals of its own', () => {
    const faster = changingRuns(GOOD, { system: 'go-franz' }, (run) => atRate(run, 1.3))
    expect(goal(faster, 'single-1kb-peers-cpu').verdict).toBe('met')
    expect(goal(faster, 'single-1kb-franz-cpu').verdict).toBe('missed')
    expect(goal(faster, 'single-1kb-franz-rate').verdict).toBe('missed')
    expect(goal(withoutRunsOf('go-franz'), 'single-1kb-franz-cpu').verdict).toBe('not measured')
  })

  test('a peer with weaker guarantees is shown, and not judged by', () => {
    const faster = changingRuns(GOOD, { system: 'hono-platformatic' }, (run) => atRate(run, 10))
    const weaker = {
      ...faster,
      systems: faster.systems.map((one) => ({ ...one, sameGuarantees: one.name !== 'hono-platformatic' })),
    }
    const { verdict, measured } = goal(weaker, 'single-1kb-peers-cpu')
    expect(verdict).toBe('met')
    expect(measured).toContain('Hono + @platformatic/kafka, weaker guarantees')
  })

  test('a peer that could not be had is named', () => {
    expect(goal(GOOD, 'single-1kb-peers-cpu').why).toBe('without Strimzi Kafka Bridge')
  })

  test('nothing is met while a peer is missing without a reason, since it could have been nearer', () => {
    expect(goal(withoutRunsOf('fastify-kafkajs'), 'single-1kb-peers-cpu')).toMatchObject({
      verdict: 'not measured',
      why: expect.stringContaining('Node: Fastify + KafkaJS was not run in single-1kb'),
    })
  })

  test('but what is missed without it is missed', () => {
    const slow = changingRuns(withoutRunsOf('fastify-kafkajs'), { system: 'kafkatrace' }, (run) => atRate(run, 0.5))
    expect(goal(slow, 'single-1kb-peers-cpu').verdict).toBe('missed')
  })
})

describe('batches and NDJSON', () => {
  test('are judged by the C loop with the same records; the Java tool is shown beside', () => {
    expect(goal(GOOD, 'batch-1000').measured).toMatch(/^67 % \(.*\); of kafka-producer-perf-test 80 %/)
    const slower = ours('batch-1000', (run) => atRate(run, 0.85))
    expect(goal(slower, 'batch-1000').verdict).toBe('missed')
    expect(goal(withoutRunsOf('kafka-producer-perf-test'), 'batch-1000').verdict).toBe('met')
    expect(goal(withoutRunsOf('librdkafka-produce'), 'batch-1000').verdict).toBe('not measured')
  })
})

describe('1,000 events a second', () => {
  const slowTail = (clock: 'toAnswer' | 'toCommitted', quantile: 'p95Ms' | 'p99Ms', value: number) =>
    ours('steady-1000', (run) => ({ ...run, [clock]: { ...exampleLatency(1), [quantile]: value } }))

  test('are judged by p95 and by p99, each', () => {
    expect(goal(slowTail('toAnswer', 'p95Ms', 5.01), 'steady-1000-answer').verdict).toBe('missed')
    expect(goal(slowTail('toAnswer', 'p99Ms', 10.01), 'steady-1000-answer').verdict).toBe('missed')
    expect(goal(slowTail('toAnswer', 'p99Ms', 10), 'steady-1000-answer').verdict).toBe('met')
    expect(goal(slowTail('toCommitted', 'p95Ms', 20.01), 'steady-1000-outcome').verdict).toBe('missed')
    expect(goal(slowTail('toCommitted', 'p99Ms', 50.01), 'steady-1000-outcome').verdict).toBe('missed')
  })

  test('may have no error in any repetition', () => {
    const one = changingRuns(GOOD, { workload: 'steady-1000', repetition: 3 }, (run) => ({
      ...run,
      errors: { timeout: 1 },
    }))
    expect(goal(one, 'steady-1000-answer')).toMatchObject({
      verdict: 'missed',
      measured: expect.stringContaining('1 error'),
    })
  })

  test('have a bound for the outcome only where the echo shows a fast machine', () => {
    const slow = ours('steady-1000', (run) => ({
      ...run,
      toCommitted: { ...exampleLatency(1), p95Ms: 21, p99Ms: 34 },
    }))
    const atEcho = (result: Result, requestsPerSecond: number) =>
      changingRuns(result, { workload: 'single-1kb', system: 'bun-echo' }, (run) => ({ ...run, requestsPerSecond }))
    expect(goal(atEcho(slow, 40_000), 'steady-1000-outcome')).toMatchObject({
      verdict: 'missed',
      why: 'Bun’s echo made 40,000 requests a second',
    })
    expect(goal(atEcho(slow, 39_999), 'steady-1000-outcome')).toMatchObject({
      verdict: 'not measured',
      why: 'p95 21 ms, p99 34 ms, no errors; Bun’s echo made 39,999 requests a second',
    })
    expect(goal(atEcho(GOOD, 20_000), 'steady-1000-outcome').verdict).toBe('met')
    const failing = changingRuns(slow, { workload: 'steady-1000' }, (run) => ({ ...run, errors: { timeout: 1 } }))
    expect(goal(atEcho(failing, 20_000), 'steady-1000-outcome').verdict).toBe('missed')
  })

  test('bound the memory of each service at its highest, in the worst repetition', () => {
    const large = changingRuns(GOOD, { workload: 'steady-1000', repetition: 2 }, (run) => ({
      ...run,
      processes: run.processes.map((one) =>
        one.name === 'consumer' ? { ...one, residentMaxBytes: 150_000_001 } : one,
      ),
    }))
    expect(goal(large, 'memory-consumer').verdict).toBe('missed')
    expect(goal(large, 'memory-producer').verdict).toBe('met')
  })
})

describe('75 % of saturation', () => {
  const scan = { acknowledged: 10, inLog: 10, lost: 0, withoutOutcome: 0, doubled: 0 }

  test('has a bound for its p99; other steps are not judged', () => {
    const slow = (step: number) =>
      ours('ladder', (run) => ({ ...run, toCommitted: { ...exampleLatency(1), p99Ms: 100.1 } }), step)
    expect(goal(slow(0.75), 'ladder-75').verdict).toBe('missed')
    expect(goal(slow(0.9), 'ladder-75').verdict).toBe('met')
  })

  test('loses and doubles nothing, and says so', () => {
    for (const [wrong, said] of [
      [{ lost: 1 }, '3 lost, 0 doubled'],
      [{ withoutOutcome: 1 }, '3 lost, 0 doubled'],
      [{ doubled: 1 }, '0 lost, 3 doubled'],
    ] as const) {
      const result = ours('ladder', (run) => ({ ...run, scan: { ...scan, ...wrong } }), 0.75)
      expect(goal(result, 'ladder-75')).toMatchObject({ verdict: 'missed', measured: expect.stringContaining(said) })
    }
    expect(goal(GOOD, 'ladder-75').measured).toEndWith('no errors, 0 lost, 0 doubled')
  })

  test('is not measured where outcomes were not scanned', () => {
    const unscanned = ours('ladder', (run) => ({ ...run, scan: { acknowledged: 1, inLog: 1, lost: 0 } }), 0.75)
    expect(goal(unscanned, 'ladder-75').verdict).toBe('not measured')
  })
})

describe('the consumer', () => {
  test('keeps up when it commits nearly all that is acknowledged', () => {
    const behind = ours('end-to-end', (run) => ({ ...run, eventsPerSecond: run.requestsPerSecond * 0.94 }))
    expect(goal(behind, 'end-to-end')).toMatchObject({ verdict: 'missed', measured: expect.stringMatching(/^9[34] %/) })
  })

  test('works off a backlog as fast as Kafka Streams, and half as fast as franz-go', () => {
    const faster = changingRuns(GOOD, { system: 'drain-streams', workload: 'drain' }, (run) => atRate(run, 1.3))
    expect(goal(faster, 'drain-streams').verdict).toBe('missed')
    expect(goal(faster, 'drain-streams-cpu').verdict).toBe('missed')
    expect(goal(faster, 'drain-franz').verdict).toBe('met')
    expect(goal(faster, 'drain-handler-streams').verdict).toBe('met')
    const go = changingRuns(GOOD, { system: 'drain-franz' }, (run) => atRate(run, 1.3))
    expect(goal(go, 'drain-franz').verdict).toBe('missed')
    const handled = ours('drain-handler', (run) => atRate(run, 0.5))
    expect(goal(handled, 'drain-handler-streams').verdict).toBe('missed')
  })

  test('does not slow down with more partitions', () => {
    expect(
      goal(
        ours('drain-24', (run) => atRate(run, 0.8)),
        'drain-partitions',
      ).verdict,
    ).toBe('missed')
  })

  test('keeps its memory while it drains a backlog, and gives it back', () => {
    const large = ours('drain-million', (run) => ({
      ...run,
      processes: run.processes.map((one) => ({ ...one, residentMaxBytes: 301e6 })),
    }))
    expect(goal(large, 'drain-memory')).toMatchObject({
      verdict: 'missed',
      measured: expect.stringContaining('301 MB'),
    })
    expect(goal(large, 'drain-memory-after').verdict).toBe('met')
    const kept = ours('drain-million', (run) => ({ ...run, residentAfterBytes: 181e6 }))
    expect(goal(kept, 'drain-memory-after')).toMatchObject({ verdict: 'missed', measured: '181 MB' })
  })

  test('runs handlers that wait together, and keeps every key in order', () => {
    expect(goal(GOOD, 'drain-waits').measured).toEndWith('of 1,280, every key in order')
    const alone = ours('drain-waits', (run) => ({ ...run, eventsPerSecond: 1_151 }))
    expect(goal(alone, 'drain-waits')).toMatchObject({ verdict: 'missed', measured: expect.stringMatching(/^89 %/) })
    const mixed = ours('drain-waits', (run) => ({
      ...run,
      scan: { acknowledged: 1, inLog: 1, lost: 0, outOfOrder: 1 },
    }))
    expect(goal(mixed, 'drain-waits')).toMatchObject({
      verdict: 'missed',
      measured: expect.stringContaining('3 keys out of order'),
    })
    const unscanned = ours('drain-waits', ({ scan, ...run }) => run)
    expect(goal(unscanned, 'drain-waits').verdict).toBe('not measured')
  })

  test('restarts with full windows in seconds, and in little more memory than an idle one', () => {
    const restarted = (change: Partial<Restart>) =>
      ours('drain-restart', (run) => ({ ...run, ...(run.restart && { restart: { ...run.restart, ...change } }) }))
    expect(goal(GOOD, 'restart-time').measured).toContain('600,000 outcomes')
    expect(goal(restarted({ toReadingSeconds: 3.01 }), 'restart-time').verdict).toBe('missed')
    expect(goal(restarted({ idleResidentBytes: 80e6, residentBytes: 181e6 }), 'restart-memory')).toMatchObject({
      verdict: 'missed',
      measured: '101 MB over 80 MB',
    })
  })
})

describe('overload', () => {
  test('stores nearly as much as at saturation', () => {
    expect(
      goal(
        ours('overload', (run) => atRate(run, 0.9)),
        'overload-goodput',
      ).verdict,
    ).toBe('missed')
  })

  test('refuses soon, and with 503 only', () => {
    const late = ours('overload', (run) => ({ ...run, toRefusal: { ...exampleLatency(1), p99Ms: 101 } }))
    expect(goal(late, 'overload-refusals').verdict).toBe('missed')
    const cut = ours('overload', (run) => ({ ...run, errors: { ...run.errors, connection: 2 } }))
    expect(goal(cut, 'overload-refusals')).toMatchObject({
      verdict: 'missed',
      measured: expect.stringContaining('6 other failures (connection)'),
    })
  })

  test('that refused nothing was none', () => {
    const none = ours('overload', ({ toRefusal, ...run }) => ({ ...run, errors: {} }))
    expect(goal(none, 'overload-refusals')).toMatchObject({
      verdict: 'not measured',
      why: 'nothing was refused: the load was not too much',
    })
  })

  test('leaves memory flat in every repetition', () => {
    const grows = changingRuns(GOOD, { workload: 'overload', repetition: 1 }, (run) => ({
      ...run,
      processes: run.processes.map((one) => ({ ...one, residentLateBytes: one.residentEarlyBytes + 17 * 2 ** 20 })),
    }))
    expect(goal(grows, 'overload-memory').verdict).toBe('missed')
    const shrinks = ours('overload', (run) => ({
      ...run,
      processes: run.processes.map((one) => ({
        ...one,
        residentLateBytes: one.residentEarlyBytes - run.repetition * 2e6,
      })),
    }))
    expect(goal(shrinks, 'overload-memory')).toMatchObject({ verdict: 'met', measured: '-4 MB (-6 to -2)' })
  })
})

describe('the console', () => {
  const lookedUp = (change: (lookups: Lookups) => Partial<Lookups>): Result =>
    ours('console-lookup', (run) => ({
      ...run,
      ...(run.lookups && { lookups: { ...run.lookups, ...change(run.lookups) } }),
    }))
  const followed = (change: Partial<Followed>, repetition = 2): Result =>
    changingRuns(GOOD, { workload: 'console-followed', repetition }, (run) => ({
      ...run,
      ...(run.followed && { followed: { ...run.followed, ...change } }),
    }))

  test('has a page that is painted soon, is small, and holds no more after ten minutes', () => {
    const shown = (change: Partial<PageUse>): Result =>
      ours('console-page', (run) => ({ ...run, ...(run.page && { page: { ...run.page, ...change } }) }))
    const painted = (p95Ms: number) => shown({ firstPaint: { ...exampleLatency(100), p95Ms } })
    expect(goal(painted(1_000), 'console-page-paint').verdict).toBe('met')
    expect(goal(painted(1_001), 'console-page-paint').verdict).toBe('missed')
    expect(goal(shown({ compressedBytes: 150_000 }), 'console-page-size')).toMatchObject({
      verdict: 'met',
      measured: '150.0 KB',
    })
    expect(goal(shown({ compressedBytes: 150_001 }), 'console-page-size').verdict).toBe('missed')
    const heap = (...thirds: number[]) =>
      thirds.flatMap((megabytes) => Array.from({ length: 13 }, () => megabytes * 1e6))
    expect(goal(shown({ heapBytes: heap(4, 10, 11) }), 'console-page-heap').verdict).toBe('met')
    expect(goal(shown({ heapBytes: heap(4, 10, 11.1) }), 'console-page-heap').verdict).toBe('missed')
    expect(goal(shown({ shown: 603_999 }), 'console-page-heap')).toMatchObject({
      verdict: 'missed',
      measured: '1.00×, at most 12.0 MB, 1 not counted',
    })
  })

  test('finds nearly every event soon when it is told where to look', () => {
    for (const kind of ['uuid', 'key'] as const) {
      const slow = (p95Ms: number) => lookedUp((lookups) => ({ [kind]: { ...lookups[kind], p95Ms } }))
      expect(goal(slow(200), `console-${kind}`)).toMatchObject({ verdict: 'met', measured: 'p95 200 ms, no errors' })
      expect(goal(slow(201), `console-${kind}`).verdict).toBe('missed')
      expect(
        goal(
          lookedUp((all) => ({ [kind]: { ...all[kind], maxMs: 900 } })),
          `console-${kind}`,
        ).verdict,
      ).toBe('met')
    }
  })

  test('reads the whole log in seconds, each time', () => {
    for (const kind of ['id', 'absent'] as const) {
      const slow = lookedUp((lookups) => ({ [kind]: { ...lookups[kind], p95Ms: 1, maxMs: 10_001 } }))
      expect(goal(slow, `console-${kind}`).verdict).toBe('missed')
    }
  })

  test('may not answer wrongly', () => {
    const wrong = ours('console-lookup', (run) => ({ ...run, errors: { 'wrong answer': 1 } }))
    expect(goal(wrong, 'console-uuid')).toMatchObject({
      verdict: 'missed',
      measured: expect.stringContaining('1 error'),
    })
  })

  test('sends every outcome to every follower once, within a second in every repetition', () => {
    expect(goal(followed({ delay: { ...exampleLatency(8), maxMs: 1_001 } }), 'console-followers').verdict).toBe(
      'missed',
    )
    expect(goal(followed({ missing: 2 }), 'console-followers')).toMatchObject({
      verdict: 'missed',
      measured: expect.stringContaining('2 missing, 0 doubled'),
    })
    expect(goal(followed({ excess: 1 }), 'console-followers').verdict).toBe('missed')
  })

  test('does not change the consumer by more than its runs differ without followers', () => {
    const consumerAt = (result: Result, workload: string, cpuSeconds: readonly number[]): Result =>
      changingRuns(result, { workload }, (run) => ({
        ...run,
        events: 10_000,
        processes: [exampleProcess('consumer', cpuSeconds[run.repetition - 1] ?? 0, 100)],
      }))
    const judged = (without: readonly number[], now: readonly number[]) =>
      goal(
        consumerAt(consumerAt(GOOD, 'console-unfollowed', without), 'console-followed', now),
        'console-followers-cpu',
      )
    expect(judged([4, 4.5, 5], [5.4, 5.5, 9]).verdict).toBe('met')
    expect(judged([4, 4.5, 5], [5.4, 5.6, 5.6])).toMatchObject({
      verdict: 'missed',
      measured: '560 ms for 1,000 events (540–560); without 450 ms for 1,000 events (400–500)',
    })
    expect(judged([4, 4, 4], [4.1, 4.1, 4.1]).verdict).toBe('met')
    expect(judged([4, 4, 4], [4.2, 4.2, 4.2]).verdict).toBe('missed')
    expect(judged([4, 4, 4], [1, 1, 1]).verdict).toBe('met')
  })

  test('does not slow the consumer down, and outcomes do not come later', () => {
    const slower = ours('console-followed', (run) => atRate(run, 0.9))
    expect(goal(slower, 'console-followers-rate').verdict).toBe('missed')
    expect(
      goal(
        ours('console-followed', (run) => atRate(run, 1.2)),
        'console-followers-rate',
      ).verdict,
    ).toBe('met')
    const later = ours('console-followed', (run) => ({ ...run, toCommitted: { ...exampleLatency(8) } }))
    expect(goal(later, 'console-followers-outcome').verdict).toBe('missed')
  })

  test('is not compared with a single run', () => {
    const single = changingRuns(GOOD, { workload: 'console-unfollowed' }, (run) =>
      run.repetition > 1 ? undefined : run,
    )
    expect(goal(single, 'console-followers-cpu')).toMatchObject({
      verdict: 'not measured',
      why: expect.stringContaining('one run says nothing about the noise'),
    })
  })

  test('keeps its memory, in look-ups and with followers', () => {
    for (const workload of ['console-lookup', 'console-followed']) {
      const large = ours(workload, (run) => ({
        ...run,
        processes: run.processes.map((one) => (one.name === 'console' ? { ...one, residentMaxBytes: 201e6 } : one)),
      }))
      expect(goal(large, `${workload}-memory`)).toMatchObject({
        verdict: 'missed',
        measured: expect.stringContaining('201 MB'),
      })
    }
  })
})
