import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { holds, type Invariant, judge, type Log, type LogRecord, type Verdict } from './judge.ts'
import { type Answer, type Entry, Ledger } from './ledger.ts'
import { createRandom } from './random.ts'

const TOPIC = 'kt.t.s'

/** A run in which all went well, to be broken: every event acknowledged, in the log once, and processed or dead. */
interface Run {
  entries: Entry[]
  log: { -readonly [K in keyof Log]: Log[K] extends string ? string : LogRecord[] }
}

const PARTITIONS = 3

const NOT_REDRIVEN = { generation: 0, redrivenFrom: undefined, edited: false }

/** Events of a few keys, some without, some dead, some sent twice, some never answered, one record that is no event. */
function goodRun(seed: number): Run {
  const random = createRandom(seed)
  const log: Run['log'] = { topic: TOPIC, input: [], retry: [], dlq: [], processed: [] }
  const entries: Entry[] = []
  const next = { input: [0, 0, 0], processed: [0, 0, 0], dlq: [0, 0, 0] }
  const append = (role: keyof typeof next, record: Omit<LogRecord, 'offset'>): LogRecord => {
    const offset = next[role][record.partition] ?? 0
    // Markers of transactions take offsets too.
    next[role][record.partition] = offset + random.integer(1, 2)
    const appended = { ...record, offset }
    log[role].push(appended)
    return appended
  }
  const outcomes: (() => void)[] = []
  for (let n = 0; n < 60; n++) {
    const key = random.chance(0.3) ? null : `key ${random.integer(0, 5)}`
    const partition = (key === null ? n : Number(key.slice(4))) % PARTITIONS
    const event = { source: '/s', id: `${n}` }
    const common = {
      partition,
      key,
      event,
      timestampMs: n,
      origin: undefined,
      receivedAt: undefined,
      ...NOT_REDRIVEN,
      passedThrough: true,
      value: `v${n}`,
      content: `c${n}`,
    }
    const answers: Answer[] = []
    const dead = random.chance(0.1)
    entries.push({ ...event, key, expected: dead ? 'dead' : 'processed', answers })
    if (random.chance(0.15)) {
      answers.push({ kind: 'refused', status: 422 })
      continue
    }
    const answered = random.chance(0.8)
    const stored = answered || random.chance(0.5)
    if (!answered) answers.push({ kind: 'unknown', reason: 'cut off' })
    if (!stored) continue
    const first = append('input', common)
    if (answered) answers.push({ kind: 'acknowledged', partition, offset: first.offset })
    if (random.chance(0.2)) {
      const copy = append('input', common)
      answers.push({ kind: 'acknowledged', partition, offset: copy.offset })
    }
    outcomes.push(
      () => void append(dead ? 'dlq' : 'processed', { ...common, origin: `${TOPIC}/${partition}/${first.offset}` }),
    )
  }
  const poison = append('input', {
    partition: 0,
    key: null,
    event: undefined,
    timestampMs: 0,
    origin: undefined,
    receivedAt: undefined,
    ...NOT_REDRIVEN,
    passedThrough: false,
    value: 'p',
    content: 'p',
  })
  outcomes.push(() => void append('dlq', { ...poison, origin: `${TOPIC}/0/${poison.offset}` }))
  for (const outcome of outcomes) outcome()
  return { entries, log }
}

const verdictOf = ({ entries, log }: Run): Verdict => judge(entries, log)

const broken = (run: Run): Invariant[] =>
  [...new Set(verdictOf(run).violations.map(({ invariant }) => invariant))].sort()

/** The figures that must be zero. */
const faults = ({ lost, doubled, outOfOrder, unwanted, altered }: Verdict) => ({
  lost,
  doubled,
  outOfOrder,
  unwanted,
  altered,
})
const none = { lost: 0, doubled: 0, outOfOrder: 0, unwanted: 0, altered: 0 }

const anySeed = fc.integer({ min: 0, max: 2 ** 31 })

test('a run in which all went well is in order, whatever it consists of', () => {
  fc.assert(
    fc.property(anySeed, (seed) => {
      const run = goodRun(seed)
      const verdict = verdictOf(run)
      expect(verdict.violations).toEqual([])
      expect(holds(verdict)).toBe(true)
      expect(faults(verdict)).toEqual(none)
      expect(verdict.acknowledged + verdict.unknown + verdict.refused).toBe(verdict.sent)
      expect(verdict.processed + verdict.dead).toBe(verdict.inLog)
      expect(verdict.foreign).toBe(1)
    }),
    { numRuns: 80 },
  )
})

/** Each way to break a run: what it does with one element that chance picks, and what the verdict must say. */
describe('the verdict turns red when', () => {
  const at = <T>(list: T[], seed: number, fits: (one: T) => boolean = () => true): T => {
    const fitting = list.filter(fits)
    const one = fitting[seed % fitting.length]
    if (one === undefined) throw new Error('the run has nothing that fits')
    return one
  }
  const remove = <T>(list: T[], one: T): void => void list.splice(list.indexOf(one), 1)
  const last = (records: readonly LogRecord[]): number => Math.max(...records.map(({ offset }) => offset)) + 1
  const acknowledged = ({ answers }: Entry): boolean => answers.some(({ kind }) => kind === 'acknowledged')
  const sameEvent = (record: LogRecord) => (other: LogRecord | Entry) => {
    const event = 'answers' in other ? other : other.event
    return event?.id === record.event?.id
  }

  const ways: [
    what: string,
    invariant: Invariant,
    figure: keyof typeof none,
    breakIt: (run: Run, seed: number) => void,
  ][] = [
    [
      'an acknowledged event is not in the log',
      'I1',
      'lost',
      ({ entries, log }, seed) => {
        const { id } = at(entries, seed, acknowledged)
        for (const role of ['input', 'processed', 'dlq'] as const)
          log[role] = log[role].filter(({ event }) => event?.id !== id)
      },
    ],
    [
      'an acknowledged event stands elsewhere than its receipt says',
      'I1',
      'lost',
      ({ entries }, seed) => {
        const { answers } = at(entries, seed, acknowledged)
        const index = answers.findIndex(({ kind }) => kind === 'acknowledged')
        answers[index] = { kind: 'acknowledged', partition: 0, offset: 9999 }
      },
    ],
    [
      'a receipt names no offset',
      'I1',
      'altered',
      ({ entries }, seed) => {
        const { answers } = at(entries, seed, acknowledged)
        answers[answers.findIndex(({ kind }) => kind === 'acknowledged')] = {
          kind: 'acknowledged',
          partition: 0,
          offset: -1,
        }
      },
    ],
    [
      'one of two receipts of an event has no record',
      'I1',
      'lost',
      ({ entries }, seed) =>
        void at(entries, seed, acknowledged).answers.push({ kind: 'acknowledged', partition: 2, offset: 8888 }),
    ],
    [
      'an event is processed twice',
      'I2',
      'doubled',
      ({ log }, seed) => void log.processed.push({ ...at(log.processed, seed), offset: last(log.processed) }),
    ],
    [
      'an event is dead twice',
      'I3',
      'doubled',
      ({ log }, seed) => void log.dlq.push({ ...at(log.dlq, seed), offset: last(log.dlq) }),
    ],
    [
      'an event is both processed and dead',
      'I3',
      'doubled',
      ({ log }, seed) => void log.dlq.push({ ...at(log.processed, seed), offset: last(log.dlq) }),
    ],
    [
      'an event in the log is neither processed nor dead',
      'I3',
      'lost',
      ({ log }, seed) => remove(log.processed, at(log.processed, seed)),
    ],
    [
      'a record that is no event has no dead letter',
      'I3',
      'lost',
      ({ log }) =>
        remove(
          log.dlq,
          at(log.dlq, 0, ({ event }) => event === undefined),
        ),
    ],
    [
      'an event that nobody stored is processed',
      'I3',
      'altered',
      ({ log }, seed) =>
        void log.processed.push({
          ...at(log.processed, seed),
          event: { source: '/s', id: 'nobody' },
          offset: last(log.processed),
        }),
    ],
    [
      'a dead letter is not byte for byte what was sent',
      'I3',
      'altered',
      ({ log }, seed) => {
        at(log.dlq, seed).content = 'other'
      },
    ],
    [
      'an event that passed through has other data',
      'I3',
      'altered',
      ({ log }, seed) => {
        at(log.processed, seed).value = 'other'
      },
    ],
    [
      'an event that should be processed is dead',
      'I3',
      'altered',
      ({ log }, seed) => {
        const record = at(log.processed, seed)
        remove(log.processed, record)
        log.dlq.push({ ...record, offset: last(log.dlq) })
      },
    ],
    [
      'an outcome is in another partition',
      'I3',
      'altered',
      ({ log }, seed) => {
        at(log.processed, seed).partition += PARTITIONS
      },
    ],
    [
      'a refused event is in the log',
      'I4',
      'unwanted',
      ({ entries, log }, seed) => {
        const record = at(log.input, seed, ({ event }) => event !== undefined)
        const { answers } = at(entries, 0, sameEvent(record))
        answers.splice(0, answers.length, { kind: 'refused', status: 503 })
      },
    ],
    [
      'an event is stored more often than it can have been',
      'I4',
      'unwanted',
      ({ log }, seed) =>
        void log.input.push({ ...at(log.input, seed, ({ event }) => event !== undefined), offset: last(log.input) }),
    ],
    [
      'an event is stored with another key',
      'I5',
      'altered',
      ({ entries }, seed) => {
        const entry = at(entries, seed, acknowledged)
        entries[entries.indexOf(entry)] = { ...entry, key: 'another' }
      },
    ],
  ]
  for (const [what, invariant, figure, breakIt] of ways)
    test(what, () => {
      fc.assert(
        fc.property(anySeed, fc.nat(1000), (seed, choice) => {
          const run = goodRun(seed)
          breakIt(run, choice)
          expect(broken(run)).toContain(invariant)
          expect(verdictOf(run)[figure]).toBeGreaterThan(0)
        }),
        // A run of sixty chances has, once in a while, nothing that could be broken so.
        { numRuns: 50, seed: 1 },
      )
    })

  test('two processed events of one key change places', () => {
    fc.assert(
      fc.property(anySeed, fc.nat(1000), (seed, choice) => {
        const run = goodRun(seed)
        const first = at(run.log.processed, choice, (record) =>
          run.log.processed.some(
            (other) => record.key !== null && other.key === record.key && other.offset > record.offset,
          ),
        )
        const second = at(run.log.processed, choice, (other) => other.key === first.key && other.offset > first.offset)
        const { offset } = first
        first.offset = second.offset
        second.offset = offset
        expect(broken(run)).toEqual(['I5'])
        expect(verdictOf(run).outOfOrder).toBeGreaterThan(0)
      }),
      { numRuns: 50 },
    )
  })

  test('one key is in two partitions', () => {
    const run = goodRun(1)
    const record = at(run.log.input, 0, ({ key }) => key !== null)
    run.log.input.push({ ...record, partition: record.partition + 1, offset: 500, event: { source: '/s', id: 'x' } })
    expect(
      verdictOf(run)
        .violations.map(({ what }) => what)
        .join(),
    ).toContain(`the key ${record.key} is in the partitions`)
  })
})

describe('what the verdict leaves open', () => {
  const record: LogRecord = {
    partition: 0,
    offset: 0,
    timestampMs: 0,
    key: null,
    event: { source: '/s', id: '1' },
    origin: undefined,
    receivedAt: undefined,
    ...NOT_REDRIVEN,
    passedThrough: true,
    value: 'v',
    content: 'c',
  }
  const empty: Log = { topic: TOPIC, input: [], retry: [], dlq: [], processed: [] }

  test('an event without an answer may be in the log, or not', () => {
    const ledger = new Ledger()
    ledger.send({ source: '/s', id: '1', key: null, expected: 'processed' })
    expect(holds(judge(ledger.entries(), empty))).toBe(true)
    expect(judge(ledger.entries(), { ...empty, input: [record], processed: [record] })).toMatchObject({
      unknown: 1,
      processed: 1,
      violations: [],
    })
  })

  test('a client may write a record of a request again, and it is told from one of another request', () => {
    const ledger = new Ledger()
    ledger.send({ source: '/s', id: '1', key: null, expected: 'processed' })
    const log = (...received: string[]) => ({
      ...empty,
      input: received.map((receivedAt, offset) => ({ ...record, receivedAt, offset })),
      processed: [record],
    })
    expect(judge(ledger.entries(), log('a', 'a'))).toMatchObject({ rewritten: 1, unwanted: 0, violations: [] })
    expect(judge(ledger.entries(), log('a', 'a', 'b'))).toMatchObject({ rewritten: 1, unwanted: 1 })
  })

  test('events without a key have no order', () => {
    const log = { ...empty, input: [record, { ...record, offset: 1, event: { source: '/s', id: '2' } }] }
    const processed = log.input.map((one, index) => ({ ...one, offset: 1 - index }))
    expect(judge([], { ...log, processed }).outOfOrder).toBe(0)
  })

  test('a dead event does not hold the order of its key', () => {
    const keyed = ['1', '2', '3'].map((id, offset) => ({ ...record, key: 'k', offset, event: { source: '/s', id } }))
    const [one, two, three] = keyed as [LogRecord, LogRecord, LogRecord]
    const log = {
      ...empty,
      input: keyed,
      dlq: [one],
      processed: [
        { ...two, offset: 0 },
        { ...three, offset: 1 },
      ],
    }
    expect(judge([], log).violations).toEqual([])
  })

  test('an event that was stored again has the place of its first record', () => {
    const [one, two] = ['1', '2'].map((id, offset) => ({
      ...record,
      key: 'k',
      offset,
      event: { source: '/s', id },
    })) as [LogRecord, LogRecord]
    const again = { ...one, offset: 2 }
    const log = { ...empty, input: [one, two, again] }
    expect(
      judge([], {
        ...log,
        processed: [
          { ...one, offset: 0 },
          { ...two, offset: 1 },
        ],
      }).violations,
    ).toEqual([])
    expect(
      judge([], {
        ...log,
        processed: [
          { ...two, offset: 0 },
          { ...one, offset: 1 },
        ],
      }).outOfOrder,
    ).toBe(1)
  })
})

describe('what was done to the topics themselves', () => {
  const record = (id: string, partition: number, offset: number): LogRecord => ({
    partition,
    offset,
    timestampMs: 0,
    key: 'k',
    event: { source: '/s', id },
    origin: undefined,
    receivedAt: undefined,
    ...NOT_REDRIVEN,
    passedThrough: true,
    value: id,
    content: id,
  })
  const acknowledged = (id: string, ...places: [partition: number, offset: number][]): Entry => ({
    source: '/s',
    id,
    key: 'k',
    expected: 'processed',
    answers: places.map(([partition, offset]) => ({ kind: 'acknowledged', partition, offset })),
  })
  const logOf = (input: LogRecord[], processed: LogRecord[]): Log => ({
    topic: TOPIC,
    input,
    retry: [],
    dlq: [],
    processed,
  })

  describe('partitions were added: each has an order and an outcome of its own', () => {
    const changes = { partitionsAdded: true }
    const entries = [acknowledged('1', [0, 0], [5, 0]), acknowledged('2', [0, 1])]
    const input = [record('1', 0, 0), record('2', 0, 1), record('1', 5, 0)]

    test('an event that came again in another partition has an outcome there too', () => {
      expect(judge(entries, logOf(input, input), changes).violations).toEqual([])
      expect(judge(entries, logOf(input, input)).doubled).toBe(1)
      expect(judge(entries, logOf(input, input.slice(0, 2)), changes)).toMatchObject({ undecided: 1, lost: 1 })
      expect(judge(entries, logOf(input, [...input, record('1', 5, 1)]), changes).doubled).toBe(1)
    })

    test('an outcome where the event is not, and a key that is out of order in one partition, are seen', () => {
      expect(judge(entries, logOf(input, [...input, record('2', 5, 1)]), changes).altered).toBe(1)
      const turned = [record('2', 0, 0), record('1', 0, 1), record('1', 5, 0)]
      expect(judge(entries, logOf(input, turned), changes).outOfOrder).toBe(1)
    })
  })

  describe('the oldest records are gone: what is left is judged', () => {
    const changes = { firstOffsets: [2] }
    const entries = [acknowledged('1', [0, 0]), acknowledged('2', [0, 1]), acknowledged('3', [0, 2])]
    const left = [record('3', 0, 2)]

    test('what is gone may have an outcome, or none', () => {
      const verdict = judge(entries, logOf(left, [record('1', 0, 0), record('3', 0, 1)]), changes)
      expect(verdict).toMatchObject({ acknowledged: 3, inLog: 1, processed: 1, violations: [] })
    })

    test('what is left must be there, and have one', () => {
      expect(judge(entries, logOf([], []), changes).lost).toBe(1)
      expect(judge(entries, logOf(left, []), changes)).toMatchObject({ lost: 1, undecided: 1 })
      expect(judge(entries, logOf(left, [...left, record('4', 0, 9)]), changes).altered).toBe(1)
    })
  })
})

describe('redriven events', () => {
  const record = (id: string, offset: number, changed: Partial<LogRecord> = {}): LogRecord => ({
    partition: 0,
    offset,
    timestampMs: 0,
    key: 'k',
    event: { source: '/s', id },
    origin: undefined,
    receivedAt: 'request',
    ...NOT_REDRIVEN,
    passedThrough: true,
    value: id,
    content: id,
    ...changed,
  })
  const redriven = (id: string, offset: number, letter: number, changed: Partial<LogRecord> = {}): LogRecord =>
    record(id, offset, { generation: 1, redrivenFrom: `${TOPIC}.dlq/0/${letter}`, ...changed })
  const entries = ['1', '2'].map(
    (id, offset): Entry => ({
      source: '/s',
      id,
      key: 'k',
      expected: 'dead',
      answers: [{ kind: 'acknowledged', partition: 0, offset }],
    }),
  )

  /** Two events are dead letters and are redriven; the second one twice, since it fails once more. */
  const good = (): Run['log'] => {
    const twice = { generation: 2, redrivenFrom: `${TOPIC}.dlq/0/2` }
    return {
      topic: TOPIC,
      input: [record('1', 0), record('2', 1), redriven('1', 2, 0), redriven('2', 3, 1), record('2', 4, twice)],
      retry: [],
      dlq: [record('1', 0), record('2', 1), redriven('2', 2, 1)],
      processed: [redriven('1', 0, 0), record('2', 1, twice)],
    }
  }
  const judged = (change: (log: Run['log']) => void): Verdict => {
    const log = good()
    change(log)
    return judge(entries, log)
  }
  const found = (change: (log: Run['log']) => void) => {
    const { violations, ...verdict } = judged(change)
    return [violations.map(({ invariant }) => invariant), faults(verdict as Verdict)]
  }
  const replace = (records: LogRecord[], at: number, changed: Partial<LogRecord>): void => {
    records[at] = { ...(records[at] as LogRecord), ...changed }
  }

  test('each generation has an outcome of its own, and none was stored by a client', () => {
    const verdict = judged(() => undefined)
    expect(verdict).toMatchObject({ acknowledged: 2, inLog: 5, redriven: 3, foreign: 0, processed: 2, dead: 3 })
    expect([verdict.rewritten, verdict.violations]).toEqual([0, []])
  })

  test('a generation that is in the log several times has one outcome', () => {
    const again = redriven('1', 5, 0)
    expect(found(({ input }) => void input.push(again))).toEqual([[], none])
    expect(
      found(({ input, processed }) => {
        input.push(again)
        processed.push({ ...again, offset: 9 })
      }),
    ).toEqual([['I2'], { ...none, doubled: 1 }])
  })

  test('a generation is lost without an outcome, and doubled with both', () => {
    expect(found(({ processed }) => void processed.pop())).toEqual([['I3'], { ...none, lost: 1 }])
    expect(found(({ dlq }) => void dlq.push(redriven('1', 3, 0)))).toEqual([['I3'], { ...none, doubled: 1 }])
  })

  test('the outcome of one generation is not that of another', () => {
    // The event that was sent should be dead, too.
    expect(found(({ processed }) => replace(processed, 0, NOT_REDRIVEN))).toEqual([
      ['I3', 'I3', 'I3'],
      { ...none, doubled: 1, lost: 1, altered: 1 },
    ])
  })

  test('a redrive of what is no dead letter of the generation before is unwanted', () => {
    for (const redrivenFrom of [undefined, `${TOPIC}.dlq/0/9`, `${TOPIC}/0/0`, `${TOPIC}.dlq/0/1`]) {
      const [invariants, figures] = found(({ input }) => replace(input, 2, { redrivenFrom }))
      expect([invariants, figures]).toEqual([['I4'], { ...none, unwanted: 1 }])
    }
    const skipped = { generation: 2, redrivenFrom: `${TOPIC}.dlq/0/0` }
    const [invariants] = found(({ input, processed }) => {
      replace(input, 2, skipped)
      replace(processed, 0, skipped)
    })
    expect(invariants).toEqual(['I4'])
  })

  test('a redriven event keeps its key and its partition', () => {
    expect(
      found(({ input, processed }) => {
        for (const records of [input, processed]) replace(records, records === input ? 2 : 0, { key: 'other' })
      }),
    ).toEqual([['I5'], { ...none, altered: 1 }])
    const [invariants] = found(({ input, processed }) => {
      for (const records of [input, processed]) replace(records, records === input ? 2 : 0, { partition: 1 })
    })
    // The key is then in two partitions, and out of order, too.
    expect(invariants).toEqual(['I5', 'I5', 'I5'])
  })

  test('a redriven event keeps its content unless it says that it was edited', () => {
    const edit = (edited: boolean) =>
      found(({ input, processed }) => {
        replace(input, 2, { content: 'other', value: 'other', edited })
        replace(processed, 0, { value: 'other' })
      })
    expect(edit(false)).toEqual([['I3'], { ...none, altered: 1 }])
    expect(edit(true)).toEqual([[], none])
  })

  test('a redriven event was received anew, and its outcome says so', () => {
    const receivedAt = '2'
    expect(
      found((log) => {
        log.input = log.input.map((one) => (one.generation === 2 ? { ...one, receivedAt } : one))
      }),
    ).toEqual([[], none])
    expect(found(({ dlq }) => replace(dlq, 2, { receivedAt }))).toEqual([['I3'], { ...none, altered: 1 }])
  })

  test('a dead letter has the headers of its redrive', () => {
    for (const changed of [{ redrivenFrom: undefined }, { edited: true }]) {
      const [invariants] = found(({ dlq }) => replace(dlq, 2, changed))
      expect(invariants).toEqual(['I3'])
    }
  })

  describe('of one key', () => {
    const turned = (log: Run['log'], generation: number): void => {
      const from = (id: string, offset: number) => `${TOPIC}.dlq/0/${generation === 1 ? offset : Number(id) + 1}`
      log.input = [record('1', 0), record('2', 1), redriven('2', 2, 1), redriven('1', 3, 0)]
      log.dlq = [record('1', 0), record('2', 1)]
      log.processed = [redriven('2', 0, 1), redriven('1', 1, 0)]
      if (generation === 1) return
      log.input.splice(2, 2, redriven('1', 2, 0), redriven('2', 3, 1))
      log.dlq.push(redriven('1', 2, 0), redriven('2', 3, 1))
      const again = (id: string, offset: number) =>
        record(id, offset, { generation: 2, redrivenFrom: from(id, offset) })
      log.input.push(again('2', 4), again('1', 5))
      log.processed = [again('2', 0), again('1', 1)]
    }

    test.each([1, 2])('generation %d keeps the order of its dead letters', (generation) => {
      expect(found((log) => turned(log, generation))).toEqual([['I5'], { ...none, outOfOrder: 1 }])
    })

    test('a repeat does not count in the order of redrives', () => {
      expect(found(({ input }) => void input.push(redriven('1', 5, 0)))).toEqual([[], none])
    })

    test('results come in the order of the input, also between generations', () => {
      const [invariants, figures] = found(({ processed }) => {
        replace(processed, 0, { offset: 1 })
        replace(processed, 1, { offset: 0 })
      })
      expect([invariants, figures]).toEqual([['I5'], { ...none, outOfOrder: 1 }])
    })
  })

  test('events of different keys, and of none, have no order among themselves', () => {
    for (const keys of [
      ['a', 'b'],
      [null, null],
    ] as const) {
      const [one, two] = keys
      const log: Log = {
        topic: TOPIC,
        input: [
          record('1', 0, { key: one }),
          record('2', 1, { key: two }),
          redriven('2', 2, 1, { key: two }),
          redriven('1', 3, 0, { key: one }),
        ],
        retry: [],
        dlq: [record('1', 0, { key: one }), record('2', 1, { key: two })],
        processed: [redriven('2', 0, 1, { key: two }), redriven('1', 1, 0, { key: one })],
      }
      expect(judge([], log).violations).toEqual([])
    }
  })
})

describe('the ledger', () => {
  test('counts an event as unknown until it is answered, each time anew', () => {
    const ledger = new Ledger()
    const event = { source: '/s', id: '1', key: 'k', expected: 'processed' as const }
    ledger.send(event)({ kind: 'refused', status: 503 })
    const answer = ledger.send(event)
    expect(ledger.size).toBe(1)
    expect(ledger.entries()[0]?.answers.map(({ kind }) => kind)).toEqual(['refused', 'unknown'])
    answer({ kind: 'acknowledged', partition: 1, offset: 2 })
    expect(ledger.entries()[0]?.answers.map(({ kind }) => kind)).toEqual(['refused', 'acknowledged'])
    expect(ledger.answers()).toEqual({ acknowledged: 1, unknown: 0, refused: 1 })
  })
})

describe('chance', () => {
  test('repeats itself for the same seed, and only for it', () => {
    const draw = (seed: number) => Array.from({ length: 50 }, createRandom(seed).next)
    expect(draw(7)).toEqual(draw(7))
    expect(draw(7)).not.toEqual(draw(8))
  })

  test('keeps to its bounds and reaches both of them', () => {
    const random = createRandom(1)
    const drawn = new Set(Array.from({ length: 500 }, () => random.integer(3, 6)))
    expect([...drawn].sort()).toEqual([3, 4, 5, 6])
  })

  test('a fork does not depend on what is drawn later', () => {
    const one = createRandom(1)
    const two = createRandom(1)
    const [a, b] = [one.fork(), two.fork()]
    one.next()
    expect(a.next()).toBe(b.next())
  })
})
