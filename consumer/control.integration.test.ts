import { afterEach, describe, expect, test } from 'bun:test'
import { Type } from '@sinclair/typebox'
import pino from 'pino'
import { encodeControl, type StreamControl } from '../shared/events/control.ts'
import { headerText, NO_HEADERS } from '../shared/events/headers.ts'
import { type OutgoingRecord, toRecord } from '../shared/events/record.ts'
import { CONTROL_TOPIC, inputTopic, streamTopics } from '../shared/events/topics.ts'
import type { RangeReader, TopicPartition } from '../shared/kafka/types.ts'
import { FakeKafka } from '../shared/testing/fake-kafka.ts'
import { type SimulatedTime, simulateTime } from '../shared/testing/simulated-time.ts'
import { until } from '../shared/testing/until.ts'
import { StreamPauses } from './control.ts'
import { defineHandler, type Handler } from './handlers/handler.ts'
import type { Pipeline, PipelineDeps } from './pipeline.ts'
import { type PipelineOverrides, startPipeline } from './testing/pipeline.ts'

const INPUT = 'kt.acme.events'
const RETRY = `${INPUT}.retry`
const OTHER = inputTopic('acme', 'others')
const LOOK_MS = 5

const PAUSED: StreamControl = { state: 'paused', by: 'alice', atMs: Date.UTC(2026, 0, 31), reason: 'rates are down' }
const RUNNING: StreamControl = { state: 'running', by: 'bob', atMs: Date.UTC(2026, 1, 1), reason: 'rates are up' }

const event = (id: string, key: string, type = 'plain', topic = INPUT): OutgoingRecord =>
  toRecord(
    {
      id,
      source: '/test',
      type,
      subject: key,
      datacontenttype: 'application/json',
      extensions: {},
      data: Buffer.from(JSON.stringify({ id })),
    },
    { topic, partition: 0, tenant: 'acme', receivedAtMs: Date.now() },
  )

const newKafka = (): FakeKafka => new FakeKafka().createTopic(CONTROL_TOPIC)

const write = (kafka: FakeKafka, control: StreamControl, stream = 'events') =>
  kafka.append(encodeControl('acme', stream, control))

const idsOf = (kafka: FakeKafka, topic: string) =>
  kafka.all(topic).map((record) => headerText(record.headers, 'ce_id') ?? '')

/** Log lines with these fields. */
function logged() {
  const lines: Record<string, unknown>[] = []
  const log = pino({ level: 'info' }, { write: (line) => lines.push(JSON.parse(line)) })
  const texts = (): string[] => lines.map(({ msg }) => String(msg))
  return { log, lines, texts }
}

const running: Pipeline[] = []

afterEach(async () => {
  for (const pipeline of running.splice(0)) await pipeline.stop()
})

async function stopIn(time: SimulatedTime): Promise<void> {
  const stopped = running.splice(0).map((pipeline) => pipeline.stop())
  await time.pass(5_000)
  await Promise.all(stopped)
}

function start(
  kafka: FakeKafka,
  handlers: readonly Handler[] = [],
  { bounds, ...overrides }: PipelineOverrides = {},
  places?: readonly TopicPartition[],
  changed?: (deps: PipelineDeps) => PipelineDeps,
) {
  for (const topic of streamTopics('acme', 'others')) kafka.createTopic(topic)
  const started = startPipeline(
    kafka,
    handlers,
    { ...overrides, bounds: { ...bounds, controlPauseMs: LOOK_MS } },
    places,
    changed,
  )
  running.push(started.pipeline)
  return started
}

const BOTH: readonly TopicPartition[] = [
  { topic: INPUT, partition: 0 },
  { topic: OTHER, partition: 0 },
]

const partitionOf = ({ pipeline }: { pipeline: Pipeline }, topic = INPUT) =>
  pipeline.partitions().find((one) => one.topic === topic)

const isPaused = (started: { pipeline: Pipeline }) => partitionOf(started)?.isPausedByOperator === true

const isReading = (started: { pipeline: Pipeline }, topic = INPUT) =>
  partitionOf(started, topic)?.state.kind === 'reading'

/** Waits until what was written to the control topic has been looked at. */
const heeded = (started: { pipeline: Pipeline }, paused: boolean) => until(() => isPaused(started) === paused)

/** Proves that the consumer has gone on, by an event of another stream. */
async function passedBy(kafka: FakeKafka, id: string): Promise<void> {
  kafka.append(event(id, 'k', 'plain', OTHER))
  await until(() => idsOf(kafka, `${OTHER}.processed`).includes(id))
}

/** A handler whose calls wait until they are let go; and their events' ids. */
function gated(type = 'gated') {
  const calls: string[] = []
  const gates = new Map<string, PromiseWithResolvers<void>>()
  const gateOf = (id: string) => {
    const gate = gates.get(id) ?? Promise.withResolvers<void>()
    gates.set(id, gate)
    return gate
  }
  const handler = defineHandler({
    type,
    version: '1',
    schema: Type.Object({ id: Type.String() }),
    async handle({ id }) {
      calls.push(id)
      await gateOf(id).promise
      return { data: {} }
    },
  })
  return { handler, calls, release: (id: string) => gateOf(id).resolve() }
}

describe('a paused stream', () => {
  test('is not fetched, and goes on where it was when it is resumed; other streams are not affected', async () => {
    const kafka = newKafka()
    const started = start(kafka, [], {}, BOTH)
    kafka.append(event('1', 'a'))
    await until(() => kafka.committedOffset(INPUT) === 1)
    write(kafka, PAUSED)
    await heeded(started, true)
    for (const id of ['2', '3', '4']) kafka.append(event(id, 'a'))
    await passedBy(kafka, 'x')
    expect(idsOf(kafka, `${INPUT}.processed`)).toEqual(['1'])
    expect([kafka.committedOffset(INPUT), started.pipeline.levels().open]).toEqual([1, 0])
    write(kafka, RUNNING)
    await until(() => kafka.committedOffset(INPUT) === 4)
    expect(idsOf(kafka, `${INPUT}.processed`)).toEqual(['1', '2', '3', '4'])
  })

  test('has what is running or decided finished and committed, and nothing begun that waits in memory', async () => {
    const kafka = newKafka()
    const { handler, calls, release } = gated()
    const started = start(kafka, [handler], { config: { MAX_CONCURRENT_HANDLERS: 2 } }, BOTH)
    // Two run, one waits for its key, one for a slot.
    const all: [string, string][] = [
      ['a1', 'a'],
      ['a2', 'a'],
      ['b1', 'b'],
      ['c1', 'c'],
    ]
    for (const [id, key] of all) kafka.append(event(id, key, 'gated'))
    await until(() => calls.length === 2 && started.pipeline.levels().open === 4)
    write(kafka, PAUSED)
    await heeded(started, true)
    for (const [id] of all) release(id)
    await until(() => idsOf(kafka, `${INPUT}.processed`).length === 2 && started.pipeline.levels().decided === 0)
    await passedBy(kafka, 'x')
    expect([calls, started.pipeline.levels().open]).toEqual([['a1', 'b1'], 2])
    write(kafka, RUNNING)
    await until(() => kafka.committedOffset(INPUT) === 4)
    expect(calls.toSorted()).toEqual(['a1', 'a2', 'b1', 'c1'])
    const ids = idsOf(kafka, `${INPUT}.processed`)
    expect(ids.toSorted()).toEqual(['a1', 'a2', 'b1', 'c1'])
    expect(ids.indexOf('a1')).toBeLessThan(ids.indexOf('a2'))
  })

  test('has no attempt of an event that waits in .retry, neither of one in memory nor of one in the log', async () => {
    const time = simulateTime(1)
    const kafka = newKafka()
    const attempts: string[] = []
    const failing = defineHandler({
      type: 'fails',
      version: '1',
      schema: Type.Object({ id: Type.String() }),
      handle: ({ id }, { attempt }) => {
        attempts.push(`${id} ${attempt}`)
        if (id === '1' && attempt <= 3) throw new Error('not yet')
        return { data: {} }
      },
    })
    const config = { QUICK_ATTEMPTS: 1, MAX_ATTEMPTS: 10, RETRY_FIRST_MS: 300, RETRY_MAX_MS: 300 }
    try {
      const started = start(kafka, [failing], { config })
      kafka.append(event('1', 'a', 'fails'))
      expect(await time.until(() => started.pipeline.levels().parkedBytes > 0, 1_000)).toBe(true)
      write(kafka, PAUSED)
      expect(await time.until(() => isPaused(started), 1_000)).toBe(true)
      kafka.append({ ...event('2', 'b', 'fails'), topic: RETRY, partition: 0 })
      const before = [...attempts]
      await time.pass(60_000)
      expect([attempts, idsOf(kafka, `${INPUT}.processed`)]).toEqual([before, []])
      write(kafka, RUNNING)
      expect(await time.until(() => idsOf(kafka, `${INPUT}.processed`).length === 2, 5_000)).toBe(true)
      expect(attempts.toSorted()).toEqual(['1 1', '1 2', '1 3', '1 4', '2 1'])
      await stopIn(time)
    } finally {
      time.end()
    }
  })

  test('that was paused before its partition was assigned is restored and stays paused', async () => {
    const kafka = newKafka()
    write(kafka, PAUSED)
    const started = start(kafka, [], {}, BOTH)
    for (const id of ['1', '2']) kafka.append(event(id, 'a'))
    await until(() => isReading(started) && isReading(started, OTHER))
    await passedBy(kafka, 'x')
    // Nothing of it is fetched, either.
    expect([idsOf(kafka, `${INPUT}.processed`), started.pipeline.levels().open]).toEqual([[], 0])
    write(kafka, RUNNING)
    await until(() => kafka.committedOffset(INPUT) === 2)
    expect(idsOf(kafka, `${INPUT}.processed`)).toEqual(['1', '2'])
  })

  test('whose partition is assigned later stays paused', async () => {
    const kafka = newKafka()
    write(kafka, PAUSED)
    const started = start(kafka, [], {}, [{ topic: OTHER, partition: 0 }])
    await passedBy(kafka, 'x')
    kafka.append(event('1', 'a'))
    started.group.assign([{ topic: INPUT, partition: 0 }])
    await until(() => isReading(started))
    await passedBy(kafka, 'y')
    expect([idsOf(kafka, `${INPUT}.processed`), isPaused(started)]).toEqual([[], true])
  })

  test('is handed over while it is paused, with records that wait in memory, and processed once by its next owner', async () => {
    const kafka = newKafka()
    const { handler, calls, release } = gated()
    const first = start(kafka, [handler], { config: { MAX_CONCURRENT_HANDLERS: 1 } }, BOTH)
    for (const id of ['1', '2', '3']) kafka.append(event(id, `k${id}`, 'gated'))
    await until(() => calls.length === 1 && first.pipeline.levels().open === 3)
    write(kafka, PAUSED)
    await heeded(first, true)
    for (const id of ['1', '2', '3']) release(id)
    await until(() => kafka.committedOffset(INPUT) === 1)
    await first.pipeline.stop()
    expect(calls).toEqual(['1'])
    const second = start(kafka, [handler], {}, BOTH)
    await until(() => isReading(second))
    await passedBy(kafka, 'x')
    expect(calls).toEqual(['1'])
    write(kafka, RUNNING)
    await until(() => kafka.committedOffset(INPUT) === 3)
    expect(calls.toSorted()).toEqual(['1', '2', '3'])
    expect(idsOf(kafka, `${INPUT}.processed`).toSorted()).toEqual(['1', '2', '3'])
  })

  test('is taken from a member and given back to it, and its keys with records in memory go on', async () => {
    const kafka = newKafka()
    const { handler, calls, release } = gated()
    const started = start(kafka, [handler], {}, BOTH)
    for (const id of ['1', '2']) kafka.append(event(id, 'a', 'gated'))
    await until(() => calls.length === 1 && started.pipeline.levels().open === 2)
    write(kafka, PAUSED)
    await heeded(started, true)
    for (const id of ['1', '2']) release(id)
    await until(() => kafka.committedOffset(INPUT) === 1)
    const [at] = BOTH as [TopicPartition]
    await started.group.revoke([at])
    started.group.assign([at])
    await until(() => isReading(started))
    write(kafka, RUNNING)
    await until(() => kafka.committedOffset(INPUT) === 2)
    expect([calls, idsOf(kafka, `${INPUT}.processed`)]).toEqual([
      ['1', '2'],
      ['1', '2'],
    ])
  })

  test('whose outcomes are refused commits them once they are taken again, and stays paused until it is resumed', async () => {
    const kafka = newKafka()
    let isRefused = true
    kafka.refuses = ({ topic }) =>
      isRefused && topic === `${INPUT}.processed` ? { reason: 'not allowed', tooLarge: false } : undefined
    const started = start(kafka, [], {}, BOTH)
    kafka.append(event('1', 'a'))
    await until(() => partitionOf(started)?.state.kind === 'paused')
    write(kafka, PAUSED)
    await heeded(started, true)
    isRefused = false
    await until(() => kafka.committedOffset(INPUT) === 1)
    expect([partitionOf(started)?.state.kind, isPaused(started)]).toEqual(['reading', true])
    kafka.append(event('2', 'a'))
    await passedBy(kafka, 'x')
    expect(idsOf(kafka, `${INPUT}.processed`)).toEqual(['1'])
    write(kafka, RUNNING)
    await until(() => kafka.committedOffset(INPUT) === 2)
  })

  test('that is resumed while its outcomes are refused stays paused for that', async () => {
    const kafka = newKafka()
    let isRefused = true
    kafka.refuses = ({ topic }) =>
      isRefused && topic === `${INPUT}.processed` ? { reason: 'not allowed', tooLarge: false } : undefined
    const started = start(kafka, [], {}, BOTH)
    kafka.append(event('1', 'a'))
    await until(() => partitionOf(started)?.state.kind === 'paused')
    write(kafka, PAUSED)
    await heeded(started, true)
    write(kafka, RUNNING)
    await heeded(started, false)
    kafka.append(event('2', 'a'))
    await passedBy(kafka, 'x')
    expect([partitionOf(started)?.state.kind, started.pipeline.levels().open]).toEqual(['paused', 0])
    isRefused = false
    await until(() => kafka.committedOffset(INPUT) === 2)
  })

  test('holds in memory what takes no room from others', async () => {
    const kafka = newKafka()
    const { handler, calls, release } = gated()
    const config = { MAX_CONCURRENT_HANDLERS: 1, MAX_HELD_BYTES: 10_000 }
    const started = start(kafka, [handler], { config }, BOTH)
    for (let id = 1; id <= 5; id++) kafka.append(event(String(id), `k${id}`, 'gated'))
    await until(() => calls.length === 1 && started.pipeline.levels().heldBytes > config.MAX_HELD_BYTES)
    write(kafka, PAUSED)
    await heeded(started, true)
    release('1')
    await passedBy(kafka, 'x')
    expect(started.pipeline.levels().heldBytes).toBeGreaterThan(config.MAX_HELD_BYTES)
  })
})

describe('the control topic', () => {
  test('that does not exist pauses nothing, and is read once it does', async () => {
    const time = simulateTime(1)
    const kafka = new FakeKafka()
    try {
      const started = start(kafka)
      kafka.append(event('1', 'a'))
      expect(await time.until(() => kafka.committedOffset(INPUT) === 1, 1_000)).toBe(true)
      kafka.createTopic(CONTROL_TOPIC)
      write(kafka, PAUSED)
      expect(await time.until(() => isPaused(started), 10_000)).toBe(true)
      await stopIn(time)
    } finally {
      time.end()
    }
  })

  test('that cannot be read at the start keeps partitions from being read, with the reason, until it can be', async () => {
    const kafka = newKafka()
    write(kafka, PAUSED)
    let isReadable = false
    const changed = (deps: PipelineDeps): PipelineDeps => {
      const read: RangeReader['read'] = (...given) =>
        isReadable ? deps.controlReader.read(...given) : Promise.reject(new Error('not allowed'))
      return { ...deps, controlReader: { ...deps.controlReader, read } }
    }
    const started = start(kafka, [], {}, BOTH, changed)
    for (const topic of [INPUT, OTHER]) kafka.append(event('1', 'a', 'plain', topic))
    await until(() => {
      const state = partitionOf(started)?.state
      return state?.kind === 'restoring' && state.fault?.includes('not allowed') === true
    })
    expect([...idsOf(kafka, `${INPUT}.processed`), ...idsOf(kafka, `${OTHER}.processed`)]).toEqual([])
    isReadable = true
    await until(() => kafka.committedOffset(OTHER) === 1 && isReading(started))
    await passedBy(kafka, 'x')
    expect([idsOf(kafka, `${INPUT}.processed`), isPaused(started)]).toEqual([[], true])
  })
})

describe('what is known of streams', () => {
  /** Reads a control topic that may have a fault. */
  function watched(kafka: FakeKafka) {
    const { log, lines, texts } = logged()
    const fault: { reason: string | undefined; looks: number } = { reason: undefined, looks: 0 }
    let reader = kafka.reader()
    const stopping = new AbortController()
    let changes = 0
    const pauses = new StreamPauses({
      reader: { topics: () => reader.topics() },
      controlReader: {
        read: (...given) => reader.read(...given),
        ends: (places) => {
          fault.looks++
          return fault.reason === undefined ? reader.ends(places) : Promise.reject(new Error(fault.reason))
        },
      },
      log,
      pauseMs: 1,
      onChanged: () => changes++,
    })
    const ended = pauses.run(stopping.signal)
    return {
      pauses,
      lines,
      texts,
      fault,
      changes: () => changes,
      /** The topic is deleted and made anew. */
      replace(other: FakeKafka) {
        reader = other.reader()
      },
      async looked() {
        const { looks } = fault
        await until(() => fault.looks > looks + 1)
      },
      async [Symbol.asyncDispose]() {
        stopping.abort()
        await ended
      },
    }
  }

  test('is the latest record of each, and that is logged with who and why', async () => {
    const kafka = newKafka()
    write(kafka, PAUSED)
    write(kafka, PAUSED, 'orders')
    write(kafka, RUNNING, 'orders')
    await using watch = watched(kafka)
    await watch.pauses.known()
    expect(watch.pauses.paused()).toEqual([{ tenant: 'acme', stream: 'events', control: PAUSED }])
    write(kafka, RUNNING)
    await until(() => !watch.pauses.isPaused(INPUT))
    expect(watch.lines.map(({ msg, tenant, stream, by, reason }) => ({ msg, tenant, stream, by, reason }))).toEqual([
      { msg: 'stream paused by an operator', tenant: 'acme', stream: 'events', by: 'alice', reason: 'rates are down' },
      { msg: 'stream resumed', tenant: 'acme', stream: 'events', by: 'bob', reason: 'rates are up' },
    ])
  })

  test('is that it runs, after a tombstone', async () => {
    const kafka = newKafka()
    write(kafka, PAUSED)
    await using watch = watched(kafka)
    await watch.pauses.known()
    kafka.append({ topic: CONTROL_TOPIC, partition: 0, key: 'acme/events', value: null, headers: NO_HEADERS })
    await until(() => !watch.pauses.isPaused(INPUT))
    expect(watch.texts()).toEqual(['stream paused by an operator', 'stream resumed'])
  })

  test('is not changed by malformed records, which are logged once', async () => {
    const kafka = newKafka()
    write(kafka, PAUSED)
    for (const value of ['{', '{"state":"running"}'])
      kafka.append({
        topic: CONTROL_TOPIC,
        partition: 0,
        key: 'acme/events',
        value: Buffer.from(value),
        headers: NO_HEADERS,
      })
    await using watch = watched(kafka)
    await watch.pauses.known()
    expect(watch.pauses.isPaused(INPUT)).toBe(true)
    write(kafka, PAUSED, 'orders')
    await until(() => watch.pauses.isPaused('kt.acme.orders'))
    const malformed = watch.lines.filter(({ msg }) => String(msg).startsWith('malformed'))
    expect(malformed.map(({ offsets }) => offsets)).toEqual([[1, 2]])
  })

  test('stays while the topic cannot be read, which is logged once, and is read again after that', async () => {
    const kafka = newKafka()
    write(kafka, PAUSED)
    await using watch = watched(kafka)
    await watch.pauses.known()
    watch.fault.reason = 'no leader'
    await watch.looked()
    await watch.looked()
    expect([watch.pauses.isPaused(INPUT), watch.pauses.fault]).toEqual([true, 'no leader'])
    write(kafka, RUNNING)
    watch.fault.reason = undefined
    await until(() => !watch.pauses.isPaused(INPUT) && watch.pauses.fault === undefined)
    expect(watch.texts()).toEqual([
      'stream paused by an operator',
      'the control topic cannot be read; streams stay as they are',
      'stream resumed',
      'the control topic can be read again',
    ])
  })

  test('is what the topic says that was made anew while it could not be read', async () => {
    const kafka = newKafka()
    write(kafka, PAUSED)
    await using watch = watched(kafka)
    await watch.pauses.known()
    watch.fault.reason = 'no such topic'
    await watch.looked()
    const other = newKafka()
    write(other, RUNNING)
    watch.replace(other)
    watch.fault.reason = undefined
    await until(() => watch.pauses.fault === undefined)
    expect(watch.pauses.isPaused(INPUT)).toBe(false)
  })

  test('is logged once as resumed, whatever is written after that', async () => {
    const kafka = newKafka()
    write(kafka, PAUSED)
    await using watch = watched(kafka)
    await watch.pauses.known()
    write(kafka, RUNNING)
    await until(() => !watch.pauses.isPaused(INPUT))
    write(kafka, { ...RUNNING, atMs: RUNNING.atMs + 1 })
    write(kafka, PAUSED, 'orders')
    await until(() => watch.pauses.isPaused('kt.acme.orders'))
    expect(watch.lines.map(({ msg, stream }) => [msg, stream])).toEqual([
      ['stream paused by an operator', 'events'],
      ['stream resumed', 'events'],
      ['stream paused by an operator', 'orders'],
    ])
  })

  test('stays where the topic vanishes, which is a fault', async () => {
    const kafka = newKafka()
    write(kafka, PAUSED)
    await using watch = watched(kafka)
    await watch.pauses.known()
    watch.replace(new FakeKafka())
    await until(() => watch.pauses.fault !== undefined)
    await watch.looked()
    expect([watch.pauses.isPaused(INPUT), watch.pauses.fault]).toEqual([true, `no partition 0 of ${CONTROL_TOPIC}`])
  })

  test('is not read again while nothing is written', async () => {
    const kafka = newKafka()
    write(kafka, PAUSED)
    await using watch = watched(kafka)
    await watch.pauses.known()
    await watch.looked()
    expect(watch.changes()).toBe(1)
  })
})
