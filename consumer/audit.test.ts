import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { headersOf } from '../shared/events/headers.ts'
import { siblingTopic, type TopicRole } from '../shared/events/topics.ts'
import { hashOf } from '../shared/kafka/identity-hash.ts'
import type { CommittedOffset, TopicPartition } from '../shared/kafka/types.ts'
import { encodeAhead } from './ahead.ts'
import { type AuditReader, audit, claimsOf, Events, noCounts, takeSnapshots, type Verdict } from './audit.ts'

const INPUT = 'kt.acme.events'
const AT = { topic: INPUT, partition: 0 }
const STEP_MS = 20 * 60_000

/** What is at an offset: a readable record, or undefined for a transaction marker or an aborted record. */
type Entry = { id: number; timestampMs: number } | undefined

/** Partitions of one stream, and their committed offsets. */
class World {
  readonly logs: Record<'input' | TopicRole, Entry[]> = { input: [], retry: [], dlq: [], processed: [] }
  readonly beginnings: Record<'input' | TopicRole, number> = { input: 0, retry: 0, dlq: 0, processed: 0 }
  committed: { input: number; retry: number } = { input: -1, retry: -1 }
  ahead: { input: number[]; retry: number[] } = { input: [], retry: [] }
  nowMs = 0

  append(role: 'input' | TopicRole, id: number | undefined): void {
    this.nowMs += STEP_MS
    this.logs[role].push(id === undefined ? undefined : { id, timestampMs: this.nowMs })
  }

  committedOffsets(partitions: readonly TopicPartition[]): CommittedOffset[] {
    return partitions.map((at) => {
      const role = at.topic === INPUT ? 'input' : 'retry'
      const offset = this.committed[role]
      return { ...at, offset, metadata: encodeAhead(offset, this.ahead[role]) }
    })
  }

  reader(): AuditReader {
    const roleOf = (topic: string): 'input' | TopicRole =>
      (['retry', 'dlq', 'processed'] as const).find((role) => siblingTopic(INPUT, role) === topic) ?? 'input'
    return {
      ends: async (partitions) =>
        partitions.map(({ topic }) => {
          const role = roleOf(topic)
          const end = this.logs[role].length
          return { beginning: this.beginnings[role], stable: end, end }
        }),
      readIdentities: async (ranges, identityOf, onRecord) => {
        for (const [range, { topic, from, to }] of ranges.entries()) {
          const role = roleOf(topic)
          for (let offset = Math.max(from, this.beginnings[role]); offset < to; offset++) {
            const entry = this.logs[role][offset]
            if (entry === undefined) continue
            const { id, timestampMs } = entry
            const headers = headersOf({ ce_specversion: '1.0', ce_id: String(id), ce_source: '/', ce_type: 't' })
            const record = { topic, partition: 0, offset, timestampMs, key: null, value: null, headers }
            onRecord({ range, offset, timestampMs, hash: hashOf(identityOf(record)) })
          }
        }
      },
    }
  }

  /** The readable records of a log, in order. */
  #there(role: 'input' | TopicRole, from = 0): { offset: number; id: number; timestampMs: number }[] {
    return this.logs[role].flatMap((entry, offset) =>
      entry === undefined || offset < Math.max(from, this.beginnings[role]) ? [] : [{ offset, ...entry }],
    )
  }

  /** The verdicts, derived from their definitions. */
  expected(from: number, to: number): Map<number, Verdict> {
    const inRange = this.#there('input', from).filter(({ offset }) => offset < to)
    const { input, retry } = { input: this.#start('input'), retry: this.#start('retry') }
    const outcomes = [...this.#there('processed').map(({ id }) => ({ id, kind: 'processed' as const }))].concat(
      this.#there('dlq').map(({ id }) => ({ id, kind: 'dead' as const })) as never,
    ) as { id: number; kind: 'processed' | 'dead' }[]
    const waiting = new Set(
      this.#there('retry', retry.offset)
        .filter(({ offset }) => !retry.ahead.includes(offset))
        .map(({ id }) => id),
    )
    const verdicts = new Map<number, Verdict>()
    for (const { id, offset } of inRange) {
      if (verdicts.has(id)) continue
      const own = outcomes.filter((one) => one.id === id)
      const done = offset < input.offset || (from <= input.offset && input.ahead.includes(offset))
      verdicts.set(
        id,
        own.length > 1
          ? 'doubled'
          : own.length === 1
            ? (own[0]?.kind ?? 'dead')
            : waiting.has(id)
              ? 'waiting'
              : !done
                ? 'pending'
                : this.#mayHaveBeenDeleted(id, to)
                  ? 'unknown'
                  : 'missing',
      )
    }
    return verdicts
  }

  #start(role: 'input' | 'retry'): { offset: number; ahead: number[] } {
    const offset = this.committed[role]
    const beginning = this.beginnings[role]
    if (offset >= beginning && offset <= this.logs[role].length) return { offset, ahead: this.ahead[role] }
    const wasThere = offset >= 0 && offset < beginning
    return { offset: beginning, ahead: wasThere ? this.ahead[role].filter((one) => one >= beginning) : [] }
  }

  #mayHaveBeenDeleted(id: number, to: number): boolean {
    const first = this.#there('input').find((one) => one.id === id && one.offset < to)
    return (['dlq', 'processed'] as const).some((role) => {
      if (this.beginnings[role] === 0) return false
      const [oldest] = this.#there(role)
      return oldest === undefined || (first?.timestampMs ?? 0) < oldest.timestampMs + 3_600_000
    })
  }
}

const id = fc.nat({ max: 12 })
const role = fc.constantFrom<TopicRole>('retry', 'dlq', 'processed')
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('input' as const), id }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('output' as const), role, id: fc.nat({ max: 14 }) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('nothing' as const),
      role: fc.oneof(role, fc.constant('input' as const)),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('commit' as const),
      role: fc.constantFrom('input' as const, 'retry' as const),
      // How far before the end; an offset beyond it belongs to a recreated topic.
      back: fc.integer({ min: -1, max: 4 }),
      ahead: fc.uniqueArray(fc.integer({ min: 1, max: 3 }), { maxLength: 3 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('delete' as const),
      role: fc.oneof(role, fc.constant('input' as const)),
      left: fc.nat({ max: 5 }),
    }),
  },
)

const play = (steps: readonly (typeof step extends fc.Arbitrary<infer S> ? S : never)[]): World => {
  const world = new World()
  for (const one of steps)
    switch (one.kind) {
      case 'input':
        world.append('input', one.id)
        break
      case 'output':
        world.append(one.role, one.id)
        break
      case 'nothing':
        world.append(one.role, undefined)
        break
      case 'commit':
        world.committed[one.role] = Math.max(0, world.logs[one.role].length - one.back)
        world.ahead[one.role] = one.ahead.map((further) => world.committed[one.role] + further).sort((a, b) => a - b)
        break
      case 'delete':
        world.beginnings[one.role] = Math.max(world.beginnings[one.role], world.logs[one.role].length - one.left)
    }
  return world
}

test('every event of a range has the verdict that its outcomes, .retry and the committed offsets give it', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 10, maxLength: 60, size: 'max' }),
      fc.nat({ max: 12 }),
      fc.nat({ max: 20 }),
      fc.constantFrom(1, 3, 1_000),
      fc.constantFrom(undefined, 0, 3),
      async (steps, begin, length, maxEvents, latest) => {
        const world = play(steps)
        const reader = world.reader()
        const [snapshot] = await takeSnapshots([AT], async (at) => world.committedOffsets(at), reader, 0)
        if (snapshot === undefined) throw new Error('no snapshot')
        const from = Math.max(begin, snapshot.ends.input.beginning)
        const to = Math.min(from + length, snapshot.ends.input.stable)
        const range = { snapshot, from, to }
        const [found] = await audit([range], reader, { maxEvents, maxNamed: 3 })
        const expected = world.expected(from, to)
        const counts = noCounts()
        for (const verdict of expected.values()) counts[verdict]++
        expect(found?.counts).toEqual(counts)
        // Outcomes that are not read may include a second one, or one of an event that is still in .retry.
        const options = { maxEvents, maxNamed: 3, ...(latest !== undefined && { latest }) }
        const [soon] = await audit([range], reader, options)
        const { processed, dead, waiting, doubled, ...others } = counts
        expect(soon?.counts).toMatchObject(others)
        expect(soon?.counts.doubled).toBeLessThanOrEqual(doubled)
        expect(soon?.missing).toEqual(found?.missing ?? [])
        for (const verdict of ['missing', 'doubled'] as const) {
          const offsets = [...expected].flatMap(([one, is]) =>
            is === verdict ? [world.logs.input.findIndex((entry, offset) => offset >= from && entry?.id === one)] : [],
          )
          expect(found?.[verdict]).toEqual(offsets.sort((a, b) => a - b).slice(0, 3))
        }
      },
    ),
    { numRuns: 100 },
  )
})

test('what has no outcome is not missing while a transaction holds its outputs back', async () => {
  const world = new World()
  world.append('input', 1)
  world.append('processed', 1)
  world.append('input', 2)
  world.committed.input = 2
  const reader = world.reader()
  const held: AuditReader = {
    ...reader,
    ends: async (partitions) =>
      (await reader.ends(partitions)).map((ends, index) =>
        partitions[index]?.topic === siblingTopic(INPUT, 'dlq') ? { ...ends, end: 5, stable: 0 } : ends,
      ),
  }
  const [snapshot] = await takeSnapshots([AT], async (at) => world.committedOffsets(at), held, 1)
  if (snapshot === undefined) throw new Error('no snapshot')
  expect(snapshot.heldBack).toEqual({ topic: siblingTopic(INPUT, 'dlq'), offset: 0 })
  const [found] = await audit([{ snapshot, from: 0, to: 2 }], held, { maxEvents: 10, maxNamed: 3 })
  expect(found?.counts).toMatchObject({ processed: 1, unknown: 1, missing: 0 })
})

test('an outcome that was written again behind a transaction that hung is seen once that has ended', async () => {
  const world = new World()
  world.append('input', 1)
  world.committed.input = 1
  // A hanging transaction, which is aborted in the end.
  world.append('processed', undefined)
  const reader = world.reader()
  let asked = 0
  const hanging: AuditReader = {
    ...reader,
    ends: async (partitions) => {
      const isProcessed = partitions.map(({ topic }) => topic === siblingTopic(INPUT, 'processed'))
      if (isProcessed.includes(true) && asked++ === 1) world.append('processed', 1)
      const ends = await reader.ends(partitions)
      return ends.map((one, index) => (isProcessed[index] && asked === 1 ? { ...one, stable: 0 } : one))
    },
  }
  const [snapshot] = await takeSnapshots([AT], async (at) => world.committedOffsets(at), hanging, 10_000)
  if (snapshot === undefined) throw new Error('no snapshot')
  expect(snapshot.heldBack).toBeUndefined()
  const [found] = await audit([{ snapshot, from: 0, to: 1 }], reader, { maxEvents: 10, maxNamed: 3 })
  expect(found?.counts).toMatchObject({ processed: 1, missing: 0 })
})

test('outcomes that are deleted while they are read leave what they may have been unknown', async () => {
  const world = new World()
  world.append('processed', 99)
  for (let hours = 0; hours < 6; hours++) world.append('retry', undefined)
  for (const one of [1, 2]) world.append('input', one)
  world.append('processed', 1)
  world.committed.input = 2
  const reader = world.reader()
  const [snapshot] = await takeSnapshots([AT], async (at) => world.committedOffsets(at), reader, 1)
  if (snapshot === undefined) throw new Error('no snapshot')
  const deleting: AuditReader = {
    ...reader,
    readIdentities: async (ranges, ...given) => {
      await reader.readIdentities(ranges, ...given)
      if (ranges[0]?.topic === siblingTopic(INPUT, 'processed')) world.beginnings.processed = 2
    },
  }
  const judged = async (by: AuditReader) =>
    (await audit([{ snapshot, from: 0, to: 2 }], by, { maxEvents: 10, maxNamed: 3 }))[0]?.counts
  expect(await judged(reader)).toMatchObject({ processed: 1, missing: 1 })
  expect(await judged(deleting)).toMatchObject({ processed: 1, unknown: 1, missing: 0 })
})

test('what repeats an open event, and is called done for that, is no missing event', () => {
  const committed = { ...AT, offset: 10, metadata: encodeAhead(10, [12]) }
  const events = new Events(10)
  const isClaimed = claimsOf(committed, 0)
  for (const offset of [10, 12]) events.add({ offset, timestampMs: 0, hash: hashOf('same') }, isClaimed(offset))
  const verdicts: Verdict[] = []
  events.each(Number.NEGATIVE_INFINITY, (verdict) => verdicts.push(verdict))
  expect(verdicts).toEqual(['pending'])
  // Without its first record, the duplicate cannot be distinguished from an event that is done.
  expect(claimsOf(committed, 11)(12)).toBe(false)
})

test('a hundred thousand events, and as many outcomes, are told apart', () => {
  const events = new Events(100_000)
  for (let one = 0; one < 100_000; one++) events.add({ offset: one, timestampMs: 0, hash: hashOf(String(one)) }, true)
  for (let one = 0; one < 100_000; one += 2) events.addFound(hashOf(String(one)), 'processed')
  expect(events.unresolved).toBe(50_000)
  let missing = 0
  events.each(Number.NEGATIVE_INFINITY, (verdict, offset) => {
    if (verdict === 'missing') missing += offset % 2
  })
  expect(missing).toBe(50_000)
})
