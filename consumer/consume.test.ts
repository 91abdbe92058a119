import { describe, expect, test } from 'bun:test'
import { Type } from '@sinclair/typebox'
import { headersOf, SCHEMA, TRACEPARENT, withHeaders } from '../shared/events/headers.ts'
import type { IncomingRecord, PlainEvent } from '../shared/events/record.ts'
import { hashOf } from '../shared/kafka/identity-hash.ts'
import { schemaUrn } from '../shared/schemas/identity.ts'
import { redactor } from '../shared/service/redact.ts'
import type { ConsumerConfig } from './config.ts'
import { type ConsumeDeps, consume, Job, type Outcome, type PartitionView } from './consume.ts'
import { decode } from './decode.ts'
import { Deduplication } from './dedupe.ts'
import { createContextStart, createEnricher } from './enrich.ts'
import type { EventTrace } from './event-trace.ts'
import { defineHandler, type Handling, handlerIndex } from './handlers/handler.ts'
import { plainOf, written } from './testing/passing.ts'
import { testConfig } from './testing/pipeline.ts'

const INPUT = 'kt.acme.events'
const NOW_MS = Date.parse('2026-01-01T00:00:10Z')
const RECEIVED_MS = NOW_MS - 2_000
const IDENTITY = '/s\n1'

const record: IncomingRecord = {
  topic: INPUT,
  partition: 3,
  offset: 7,
  timestampMs: NOW_MS - 1_000,
  key: Buffer.from('k'),
  value: Buffer.from('{}'),
  headers: headersOf({
    ce_specversion: '1.0',
    ce_id: '1',
    ce_source: '/s',
    ce_type: 'type',
    ce_time: '2026-01-01T00:00:00Z',
    [TRACEPARENT]: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
    'kt-received-at': String(RECEIVED_MS),
  }),
}

const PLAIN = plainOf(record)
const plain: IncomingRecord = { ...record, plain: PLAIN }

/** A record that must not be decoded. */
class Unread implements IncomingRecord {
  readonly topic = record.topic
  readonly partition = record.partition
  readonly offset = record.offset
  readonly timestampMs = record.timestampMs

  constructor(readonly plain: PlainEvent | undefined = PLAIN) {}

  get key(): Buffer {
    throw new Error('its key is read')
  }

  get value(): Buffer {
    throw new Error('its value is read')
  }

  get headers(): IncomingRecord['headers'] {
    throw new Error('its headers are read')
  }
}

interface Changed {
  role?: 'input' | 'retry'
  isSampled?: boolean
  partition?: Partial<PartitionView>
  config?: Partial<ConsumerConfig>
  deps?: Partial<ConsumeDeps>
}

function outcomeOf(of: IncomingRecord, { role = 'input', isSampled = false, partition, config, deps }: Changed = {}) {
  const job = new Job(of, role)
  if (isSampled) job.trace = { isSampled } as EventTrace
  return consume(
    job,
    {
      topic: INPUT,
      processedTopic: `${INPUT}.processed`,
      tenant: 'acme',
      stream: 'events',
      dedupe: new Deduplication(10),
      waitingRecords: 0,
      waits: () => false,
      signal: new AbortController().signal,
      ...partition,
    },
    {
      enrich: createEnricher({ nowMs: () => NOW_MS }),
      contextStart: createContextStart(() => NOW_MS),
      handlerOf: handlerIndex([]),
      config: testConfig({ UNHANDLED: 'pass', ...config }),
      redact: redactor(),
      nowMs: () => NOW_MS,
      onQuickRetry: () => undefined,
      ...deps,
    },
  )
}

/** `passed`, or the kind of the outcome of a record that was decoded. */
const kindOf = async (outcome: Outcome | Promise<Outcome>): Promise<string> => {
  const settled = await outcome
  return settled.kind === 'processed' && 'passed' in settled.output ? 'passed' : settled.kind
}

const handler = defineHandler({ type: 'type', version: '1', schema: Type.Unknown(), handle: () => ({ data: 1 }) })

describe('an event of which enough is known', () => {
  test('is passed on undecoded, at once, and with the same result as if it was decoded', () => {
    const unread = new Unread()
    const outcome = outcomeOf(unread)
    expect(outcome).toEqual({
      kind: 'processed',
      output: {
        topic: `${INPUT}.processed`,
        passed: unread,
        tenant: 'acme',
        contextStart: `{"tenant":"acme","stream":"events","processedAtMs":${NOW_MS}`,
        contextEnd: '',
      },
    })
    const passed = outcomeOf(plain)
    if (passed instanceof Promise || passed.kind !== 'processed' || !('passed' in passed.output))
      throw new Error('it is not passed on')
    expect(outcomeOf(record)).toEqual({ kind: 'processed', output: written(passed.output) })
  })

  test.each<[string, string, Changed]>([
    ['nothing is against it', 'passed', {}],
    ['its type has a handler', 'passed', { deps: { handlerOf: handlerIndex([handler]) } }],
    ['another type has one', 'passed', { deps: { handlerOf: handlerIndex([{ ...handler, type: 'other' }]) } }],
    ['it comes from .retry', 'processed', { role: 'retry' }],
    ['its outcome has a trace of its own', 'processed', { isSampled: true }],
    ['an event waits in .retry', 'processed', { partition: { waitingRecords: 1 } }],
    ['one of its key does', 'retry', { partition: { waitingRecords: 1, waits: (key) => key === 'k' } }],
    ['events without a handler are dead letters', 'dead', { config: { UNHANDLED: 'dead-letter' } }],
    ['events without a handler are held', 'retry', { config: { UNHANDLED: 'hold' } }],
    ['attributes are looked up', 'processed', { deps: { contextStart: undefined } }],
    ['its partition was revoked', 'abandoned', { partition: { signal: AbortSignal.abort() } }],
  ])('if %s: %s', async (_, kind, changed) => {
    expect(await kindOf(outcomeOf(plain, changed))).toBe(kind)
    if (kind === 'passed' && changed.deps?.handlerOf?.(PLAIN?.type ?? '') === undefined)
      expect(await kindOf(outcomeOf(new Unread(), changed))).toBe(kind)
  })

  test('is decoded for a handler only as far as it reads, and at once if the handler answers at once', () => {
    class OnlyValue extends Unread {
      override get value(): Buffer {
        return Buffer.from('{"a":1}')
      }
    }
    const seen: unknown[] = []
    const deps = {
      handlerOf: handlerIndex([{ ...handler, handle: (data: unknown) => ({ type: 'made', data: seen.push(data) }) }]),
    }
    const outcome = outcomeOf(new OnlyValue(), { deps })
    if (outcome instanceof Promise || outcome.kind !== 'processed') throw new Error('it is not processed at once')
    expect(outcome.output).toMatchObject({ contextEnd: ',"handler":"type@1"', result: { type: 'made', data: '1' } })
    expect(seen).toEqual([{ a: 1 }])
  })

  test('is for a handler what it is when it is decoded', async () => {
    const seen: unknown[] = []
    const deps = {
      handlerOf: handlerIndex([
        {
          ...handler,
          handle(data: unknown, handling: Handling) {
            const { event, context, attempt } = handling
            seen.push({ data, event: { ...event }, context, attempt, same: handling.event === event })
            return { data: null }
          },
        },
      ]),
    }
    const outcomes = [await outcomeOf(plain, { deps }), await outcomeOf(record, { deps })]
    expect(outcomes.map(({ kind }) => kind)).toEqual(['processed', 'processed'])
    expect(seen[0]).toEqual(seen[1])
    expect(seen[0]).toMatchObject({ attempt: 1, same: true, context: { handler: 'type@1', processedAtMs: NOW_MS } })
  })

  test('is decoded when nothing is known of it', async () => {
    expect(await kindOf(outcomeOf(record))).toBe('processed')
    expect(await kindOf(outcomeOf({ ...record, headers: headersOf({ ce_id: '1' }) }))).toBe('dead')
  })

  test('is a dead letter when our own code fails', async () => {
    const contextStart = () => {
      throw new TypeError('nobody has thought of it')
    }
    const outcome = await outcomeOf(plain, { deps: { contextStart } })
    expect(outcome).toMatchObject({ kind: 'dead', failure: { reason: 'internal error' } })
  })
})

describe('an event of a version of its schema', () => {
  const upcasters = [{ from: 2, to: 3, up: () => 'raised' }]
  const takes3 = defineHandler({ ...handler, takes: 3, upcasters, handle: (data) => ({ data }) })
  const deps = { handlerOf: handlerIndex([takes3]) }
  /** Decoded, and with enough known of it not to be. */
  const both = (version: number): [IncomingRecord, IncomingRecord] => {
    const of = { ...record, headers: withHeaders(record.headers, { [SCHEMA]: `acme.events-type/${version}` }) }
    return [of, { ...of, plain: plainOf(of) }]
  }
  const message = 'its data are of version 4 of their schema, and type@1 takes 3: deploy a handler that takes 4'
  const config = { RETRY_MAX_MS: 1_000, NEWER_SCHEMA_TIMEOUT_MS: 60_000 }

  test.each([
    ['older', 2, '"raised"'],
    ['its handler’s', 3, '{}'],
  ])('that is %s is handled, with the same result on either way', (_, version, data) => {
    const [decoded, passed] = both(version).map((of) => outcomeOf(of, { deps }))
    if (passed instanceof Promise || passed?.kind !== 'processed' || !('passed' in passed.output))
      throw new Error('it is not passed on')
    expect(passed.output.result?.data).toBe(data)
    const output = written(passed.output)
    expect(decoded).toEqual({ kind: 'processed', output })
    const context = JSON.parse(String(output.headers.values[output.headers.names.indexOf('kt-context')]))
    expect(context.schema).toEqual(version === 3 ? undefined : { subject: 'acme.events-type', version, takes: 3 })
  })

  test('without an upcaster is a dead letter, after no attempt', () => {
    for (const of of both(1))
      expect(outcomeOf(of, { deps })).toMatchObject({
        kind: 'dead',
        failure: { reason: 'no upcaster', message: expect.stringContaining('no upcaster from 1') },
        output: { topic: `${INPUT}.dlq`, headers: { names: expect.arrayContaining([SCHEMA]) } },
      })
  })

  test('that is newer goes to .retry, after no attempt, and is not a duplicate of itself there', () => {
    for (const of of both(4)) {
      const dedupe = new Deduplication(10)
      const outcome = outcomeOf(of, { deps, config, partition: { dedupe } })
      expect(outcome).toMatchObject({ kind: 'retry', failure: { reason: 'newer schema', message } })
      if (outcome instanceof Promise || outcome.kind !== 'retry') throw new Error('it does not go to .retry')
      const { names, values } = outcome.output.headers
      const headers = Object.fromEntries(names.map((name, index) => [name, values[index]]))
      expect(headers).toMatchObject({
        [SCHEMA]: 'acme.events-type/4',
        'kt-attempt': '0',
        'kt-not-before': String(NOW_MS + 1_000),
      })
      expect(outcomeOf(of, { role: 'retry', deps, config, partition: { dedupe } })).toMatchObject({ kind: 'later' })
    }
  })

  /** Of a newer version, in `.retry` for so long. */
  const waiting = (waitedMs: number): IncomingRecord => ({
    ...record,
    topic: `${INPUT}.retry`,
    timestampMs: NOW_MS - waitedMs,
    headers: withHeaders(record.headers, { [SCHEMA]: 'acme.events-type/4' }),
  })

  test.each([
    ['the first time of many', 0, NOW_MS + 1_000],
    ['the last time, which is short', 59_900, NOW_MS + 100],
  ])('that is newer stays in .retry: %s', (_, waitedMs, notBeforeMs) => {
    expect(outcomeOf(waiting(waitedMs), { role: 'retry', deps, config })).toMatchObject({
      kind: 'later',
      past: { attempts: 0, notBeforeMs },
      failure: { reason: 'newer schema', message },
    })
  })

  test('that is newer is a dead letter when it has waited for too long', () => {
    expect(outcomeOf(waiting(60_003), { role: 'retry', deps, config })).toMatchObject({
      kind: 'dead',
      failure: {
        reason: 'newer schema',
        message: `${message}; it has waited for one for 60003 ms, and may for 60000 ms`,
      },
    })
    expect(outcomeOf(waiting(60_000), { role: 'retry', deps, config })).toMatchObject({ kind: 'dead' })
  })

  test('that is newer waits for its turn behind its key first', () => {
    for (const of of both(4))
      expect(outcomeOf(of, { deps, partition: { waitingRecords: 1, waits: () => true } })).toMatchObject({
        kind: 'retry',
        failure: { reason: 'waits behind its key' },
      })
  })

  /** Decoded, and with enough known of it not to be. */
  const naming = (dataschema: string, more: Record<string, string> = {}): [IncomingRecord, IncomingRecord] => {
    const of = { ...record, headers: withHeaders(record.headers, { ce_dataschema: dataschema, ...more }) }
    return [of, { ...of, plain: plainOf(of) }]
  }

  test('that was not checked is the one that it names in dataschema, on either way', () => {
    const [older, newer] = [2, 4].map((version) => naming(schemaUrn('acme.events-type', version)))
    const [decoded, passed] = older?.map((of) => outcomeOf(of, { deps })) ?? []
    if (passed instanceof Promise || passed?.kind !== 'processed' || !('passed' in passed.output))
      throw new Error('it is not passed on')
    expect(passed.output.result?.data).toBe('"raised"')
    expect(passed.output.contextEnd).toContain('"schema":{"subject":"acme.events-type","version":2,"takes":3}')
    expect(decoded).toEqual({ kind: 'processed', output: written(passed.output) })
    for (const of of newer ?? [])
      expect(outcomeOf(of, { deps, config })).toMatchObject({
        kind: 'retry',
        failure: { reason: 'newer schema', message },
      })
  })

  test('that is in structured mode is named in its event, not in a header', async () => {
    const structured = (dataschema?: string): IncomingRecord => ({
      ...record,
      headers: headersOf({
        'content-type': 'application/cloudevents+json',
        ce_dataschema: schemaUrn('acme.events-type', 1),
      }),
      value: Buffer.from(
        JSON.stringify({ specversion: '1.0', id: '1', source: '/s', type: 'type', data: {}, dataschema }),
      ),
    })
    const newer = structured(schemaUrn('acme.events-type', 4))
    expect(outcomeOf(newer, { deps })).toMatchObject({ kind: 'retry', failure: { reason: 'newer schema' } })
    expect(await kindOf(outcomeOf(structured(), { deps }))).toBe('processed')
  })

  test('is the one that it was checked by, whatever its dataschema names; another dataschema names none', async () => {
    for (const of of naming(schemaUrn('acme.events-type', 4), { [SCHEMA]: 'acme.events-type/3' }))
      expect(outcomeOf(of, { deps })).toMatchObject({ kind: 'processed' })
    for (const of of naming('https://example.com/order/4'))
      expect(outcomeOf(of, { deps })).toMatchObject({ kind: 'processed' })
  })

  test('that no header says, or none that can be read, is taken as it is', async () => {
    for (const value of ['acme.events-type/x', 'acme.events-type', '/4', null]) {
      const of = { ...record, headers: withHeaders(record.headers, { [SCHEMA]: value }) }
      expect(await kindOf(outcomeOf(of, { deps }))).toBe('processed')
    }
    expect(await kindOf(outcomeOf(plain, { deps }))).toBe('passed')
  })
})

describe('an event that comes again', () => {
  const first = { passed: plain, decoded: record }
  const again = [
    ['passed', 'passed'],
    ['passed', 'decoded'],
    ['decoded', 'passed'],
  ] as const

  test.each(again)('is a duplicate: first it is %s, then it would be %s', async (one, other) => {
    const dedupe = new Deduplication(10)
    expect(await kindOf(outcomeOf(first[one], { partition: { dedupe } }))).toBe(one === 'passed' ? one : 'processed')
    // Whoever decides it otherwise finishes it when it is settled.
    if (one === 'passed') expect(dedupe.isDone(IDENTITY)).toBe(true)
    else dedupe.finish(IDENTITY, false)
    expect(outcomeOf(first[other], { partition: { dedupe } })).toEqual({ kind: 'duplicate', ofDead: false })
    expect(dedupe.size).toBe(1)
  })

  test('is a duplicate of the dead letter that it became', () => {
    const dedupe = new Deduplication(10)
    dedupe.addDone(hashOf(IDENTITY), true)
    expect(outcomeOf(plain, { partition: { dedupe } })).toEqual({ kind: 'duplicate', ofDead: true })
    expect(dedupe.isDead(IDENTITY)).toBe(true)
  })

  test('is a duplicate while the first is being processed', () => {
    const dedupe = new Deduplication(10)
    expect(dedupe.claim(IDENTITY)).toBe(true)
    expect(outcomeOf(plain, { partition: { dedupe } })).toEqual({ kind: 'duplicate', ofDead: false })
    expect(dedupe.isDone(IDENTITY)).toBe(false)
  })

  test('is none of one whose partition was revoked before', async () => {
    const dedupe = new Deduplication(10)
    expect(await kindOf(outcomeOf(plain, { partition: { dedupe, signal: AbortSignal.abort() } }))).toBe('abandoned')
    expect(await kindOf(outcomeOf(plain, { partition: { dedupe } }))).toBe('passed')
  })
})

describe('when its producer received an event', () => {
  test('is known without decoding it', () => {
    expect(new Job(new Unread(), 'input').receivedAtMs).toBe(RECEIVED_MS)
    const unknown = { type: 'type', receivedAtMs: undefined, identityHash: hashOf(IDENTITY) }
    expect(new Job(new Unread(unknown), 'input').receivedAtMs).toBeUndefined()
  })

  test('is the same of one that is decoded, and unknown of what is no event', () => {
    for (const one of [record, plain]) {
      const job = new Job(one, 'input')
      expect(job.decoded).toEqual(decode(record))
      expect(job.receivedAtMs).toBe(RECEIVED_MS)
    }
    expect(new Job({ ...record, headers: headersOf({}) }, 'input').receivedAtMs).toBeUndefined()
  })
})

test('a key is read once, and only when it is asked for', () => {
  let reads = 0
  const counted = (key: Buffer | null): IncomingRecord => ({
    ...record,
    get key() {
      reads++
      return key
    },
  })
  const [keyed, keyless] = [new Job(counted(Buffer.from('k')), 'input'), new Job(counted(null), 'input')]
  expect(reads).toBe(0)
  expect([keyed.key, keyed.key, keyless.key, keyless.key]).toEqual(['k', 'k', undefined, undefined])
  expect(reads).toBe(2)
})
