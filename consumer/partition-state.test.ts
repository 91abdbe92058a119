import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { NO_HEADERS } from '../shared/events/headers.ts'
import type { IncomingRecord } from '../shared/events/record.ts'
import { decodeAhead } from './ahead.ts'
import { Job } from './consume.ts'
import {
  Held,
  type Item,
  Partition,
  type PartitionState,
  type RecordState,
  type Source,
  StateError,
} from './partition-state.ts'

const TOPIC = 'kt.acme.events'

const newPartition = (number: number, all: Held): Partition =>
  new Partition(TOPIC, number, 'acme', 'events', 1_000, all)

/** A partition without a past. */
function read(partition: Partition, input = { offset: 0, done: new Set<number>() }): Record<Source['role'], Source> {
  const [inputAt, retryAt] = partition.both
  return partition.read({
    input: { ...inputAt, ...input, missing: [] },
    retry: { ...retryAt, offset: 0, done: new Set(), missing: [] },
    waiting: [],
    unknown: 0,
    skipped: 0,
    fresh: undefined,
    foreign: false,
    doubtful: false,
  })
}

/** Takes a record, as a fetch does; undefined when it needs no work. */
function hold(source: Source, offset: number, heldBytes: number): Item | undefined {
  const { topic, partition, role, owner } = source
  const record: IncomingRecord = {
    topic,
    partition,
    offset,
    timestampMs: 0,
    key: null,
    value: null,
    headers: NO_HEADERS,
  }
  const place = source.add(record)
  if (place === undefined) return undefined
  const job = new Job(record, role)
  const item: Item = { job, source, heldBytes, outcome: undefined, refused: undefined, place }
  owner.hold(item)
  return item
}

describe('the states of a partition', () => {
  const STATES: Record<PartitionState['kind'], PartitionState> = {
    restoring: { kind: 'restoring', fault: undefined },
    reading: { kind: 'reading' },
    paused: { kind: 'paused', cause: 'unwritable', reason: 'the topic is gone' },
    draining: { kind: 'draining' },
    revoked: { kind: 'revoked' },
  }
  const KINDS = Object.keys(STATES) as PartitionState['kind'][]

  test('it is given up once and for good, is restored once, and is paused only while it is read', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...KINDS), { maxLength: 8 }), (steps) => {
        const partition = newPartition(0, new Held())
        for (const step of steps) {
          const before = partition.state.kind
          const possible =
            before !== 'revoked' &&
            (step === 'revoked' ||
              (before === 'draining' ? false : step === 'draining') ||
              (before === 'restoring' && (step === 'restoring' || step === 'reading')) ||
              (before === 'reading' && step === 'paused') ||
              (before === 'paused' && (step === 'paused' || step === 'reading')))
          if (possible) partition.enter(STATES[step])
          else expect(() => partition.enter(STATES[step])).toThrow(StateError)
          expect(partition.state.kind).toBe(possible ? step : before)
          expect(partition.isOurs).toBe(partition.state.kind !== 'revoked')
          expect(partition.isOpen).toBe(partition.state.kind === 'reading' || partition.state.kind === 'paused')
        }
      }),
    )
  })

  test('what drains begins nothing more, and is drained when its last record is committed', async () => {
    const partition = newPartition(0, new Held())
    const item = hold(read(partition).input, 0, 10) ?? expect.unreachable('a new record')
    partition.running++
    const drained = partition.drain(60_000)
    expect(partition.ending.signal.aborted).toBe(true)
    expect(partition.signal.aborted).toBe(false)
    partition.running--
    for (const state of ['decided', 'in transaction', 'committed'] as const) {
      partition.move(item, state)
      partition.settle()
      expect(await Promise.race([drained.then(() => 'drained'), Promise.resolve('not yet')])).toBe('not yet')
    }
    await drained
    expect(partition.signal.aborted).toBe(false)
  })
})

test('an event waits in .retry once, and its key until the last of them is done', () => {
  const partition = newPartition(0, new Held())
  for (const identity of ['1', '2', '1']) partition.addWaiting(identity, 'k')
  partition.addWaiting('3', undefined)
  expect(partition.waitingRecords).toBe(3)
  partition.removeWaiting('unknown', 'k')
  partition.removeWaiting('1', 'k')
  partition.removeWaiting('1', 'k')
  partition.removeWaiting('3', undefined)
  expect([partition.waitingRecords, partition.waits('k')]).toEqual([1, true])
  partition.removeWaiting('2', 'k')
  expect([partition.waitingRecords, partition.waits('k')]).toEqual([0, false])
})

describe('the states of records', () => {
  type Step =
    | { kind: 'fetch'; partition: number; role: Source['role']; gap: number; bytes: number }
    | { kind: 'move'; item: number; to: RecordState }
    | { kind: 'revoke'; partition: number }
    | { kind: 'pause'; partition: number }

  const partitionNumber = fc.integer({ min: 0, max: 1 })
  const step: fc.Arbitrary<Step> = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        kind: fc.constant('fetch' as const),
        partition: partitionNumber,
        role: fc.constantFrom('input' as const, 'retry' as const),
        // -1: the record was delivered before.
        gap: fc.integer({ min: -1, max: 2 }),
        bytes: fc.integer({ min: 0, max: 1_000 }),
      }),
    },
    {
      weight: 20,
      arbitrary: fc.record({
        kind: fc.constant('move' as const),
        item: fc.nat(),
        to: fc.constantFrom<RecordState>('open', 'decided', 'in transaction', 'committed'),
      }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('revoke' as const), partition: partitionNumber }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('pause' as const), partition: partitionNumber }) },
  )

  const POSSIBLE: Record<RecordState, readonly RecordState[]> = {
    open: ['decided'],
    decided: ['in transaction'],
    'in transaction': ['decided', 'committed'],
    committed: [],
  }
  const IN_HAND = ['open', 'decided', 'in transaction'] as const

  /** What must be held, computed from the records. */
  const heldBy = (items: readonly Item[]) => ({
    records: Object.fromEntries(
      IN_HAND.map((state) => [state, items.filter((one) => one.place.state === state).length]),
    ),
    bytes: Object.fromEntries(
      (['input', 'retry'] as const).map((role) => [
        role,
        items
          .filter((one) => one.source.role === role && one.place.state !== 'committed')
          .reduce((sum, { heldBytes }) => sum + heldBytes, 0),
      ]),
    ),
  })

  function pauseOrResume(partition: Partition | undefined): void {
    if (partition?.state.kind === 'reading') partition.enter({ kind: 'paused', cause: 'unwritable', reason: '' })
    else if (partition?.state.kind === 'paused') partition.enter({ kind: 'reading' })
  }

  test('whatever becomes of them, counters say what is in hand, and a commit skips none and repeats none', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const all = new Held()
        const partitions = [newPartition(0, all), newPartition(1, all)]
        const sources = partitions.map((one) => read(one))
        const items: Item[] = []
        for (const one of steps) {
          if (one.kind === 'revoke') partitions[one.partition]?.revoke()
          else if (one.kind === 'pause') pauseOrResume(partitions[one.partition])
          else if (one.kind === 'fetch') {
            const source = sources[one.partition]?.[one.role] ?? expect.unreachable('two partitions')
            if (!source.owner.isOurs) continue
            const item = hold(source, source.next + one.gap, one.bytes)
            expect(item !== undefined).toBe(one.gap >= 0)
            if (item !== undefined) items.push(item)
          } else {
            const item = items[one.item % Math.max(1, items.length)]
            if (item === undefined) continue
            const { owner } = item.source
            const before = item.place.state
            if (POSSIBLE[before].includes(one.to)) {
              // As the committer takes them and puts them back.
              if (one.to === 'in transaction' && owner.isOurs) owner.decided.splice(owner.decided.indexOf(item), 1)
              owner.move(item, one.to)
              if (before === 'in transaction' && one.to === 'decided' && owner.isOurs) owner.decided.unshift(item)
            } else {
              expect(() => owner.move(item, one.to)).toThrow(StateError)
              expect(item.place.state).toBe(before)
            }
          }
          const ours = items.filter(({ source }) => source.owner.isOurs)
          const { records, bytes } = all
          expect({ records, bytes } as unknown).toEqual(heldBy(ours))
          const unpaused = ours.filter(({ source }) => source.owner.state.kind !== 'paused')
          expect(all.unpaused as unknown).toEqual(heldBy(unpaused).bytes)
          if (items.length > 0) expect(all.byTenant.get('acme')).toEqual(all.unpaused)
        }
        for (const partition of partitions.filter((one) => one.isOurs)) {
          const own = items.filter(({ source }) => source.owner === partition)
          expect(new Set(partition.decided)).toEqual(new Set(own.filter(({ place }) => place.state === 'decided')))
          expect({ records: partition.held.records, bytes: partition.held.bytes } as unknown).toEqual(heldBy(own))
        }
        for (const source of sources.flatMap((one) => [one.input, one.retry]).filter(({ owner }) => owner.isOurs)) {
          const own = items.filter((one) => one.source === source)
          const taken = own.filter(({ place }) => place.state === 'committed' || place.state === 'in transaction')
          const left = own.filter((one) => !taken.includes(one))
          expect(source.open).toBe(own.filter(({ place }) => place.state === 'open').length)
          expect(source.uncommitted).toBe(own.filter(({ place }) => place.state !== 'committed').length)
          const { offset, metadata } = source.commit()
          expect(offset).toBe(left[0]?.place.offset ?? source.next)
          const ahead = taken.map(({ place }) => place.offset).filter((at) => at > offset)
          expect([...decodeAhead(offset, metadata)]).toEqual(ahead)
          // The next owner processes the rest, and nothing twice.
          const next = read(newPartition(source.partition, new Held()), {
            offset,
            done: decodeAhead(offset, metadata),
          }).input
          const again = own.filter(({ place }) => next.add(place) !== undefined)
          expect(again).toEqual(left)
        }
      }),
      { numRuns: 150 },
    )
  })

  test('a record that an earlier owner has done is done also when everything before it is committed, and it was not fetched yet', () => {
    const { input } = read(newPartition(0, new Held()), { offset: 10, done: new Set([12, 14]) })
    for (const offset of [10, 11]) {
      const item = hold(input, offset, 1)
      if (item === undefined) throw new Error(`${offset} is not to be done`)
      input.owner.move(item, 'decided')
      input.owner.move(item, 'in transaction')
    }
    const { offset, metadata } = input.commit()
    expect(offset).toBe(12)
    expect([...decodeAhead(offset, metadata)]).toEqual([12, 14])
  })

  test('fewer than nothing is never held', () => {
    const held = new Held()
    expect(() => held.add('open', -1)).toThrow(StateError)
    expect(() => held.addBytes('retry', -1)).toThrow(StateError)
  })
})
