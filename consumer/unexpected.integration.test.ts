import { expect, test } from 'bun:test'
import { Type } from '@sinclair/typebox'
import { headerText } from '../shared/events/headers.ts'
import { toRecord } from '../shared/events/record.ts'
import { streamTopics } from '../shared/events/topics.ts'
import { FakeKafka } from '../shared/testing/fake-kafka.ts'
import { until } from '../shared/testing/until.ts'
import { defineHandler } from './handlers/handler.ts'
import type { PipelineDeps } from './pipeline.ts'
import { startPipeline } from './testing/pipeline.ts'

/** Unexpected errors in any part of the pipeline: the event becomes a dead letter, or the clients are replaced; nothing waits indefinitely. */

const INPUT = 'kt.acme.events'
const IDS = ['plain', 'handled', 'fails', 'refused', 'undecodable']

/** One of each kind, all of one key, so that an event that hangs blocks the others. */
const records = IDS.map((type) => {
  const record = toRecord(
    {
      id: type,
      source: '/test',
      type,
      subject: 'key',
      datacontenttype: 'application/json',
      extensions: {},
      data: Buffer.from('{}'),
    },
    { topic: INPUT, partition: 0, tenant: 'acme', receivedAtMs: Date.now() },
  )
  if (type !== 'undecodable') return record
  const { names, values } = record.headers
  return { ...record, headers: { names: [...names, 'ce_id'], values: [...values, 'twice'] } }
})

const handlers = [
  defineHandler({ type: 'handled', version: '1', schema: Type.Unknown(), handle: async () => ({ data: 1 }) }),
  defineHandler({
    type: 'fails',
    version: '1',
    schema: Type.Unknown(),
    handle(_, { attempt }) {
      if (attempt < 4) throw new Error('not yet')
      return { data: 1 }
    },
  }),
  defineHandler({ type: 'refused', version: '1', schema: Type.String(), handle: () => ({ data: 1 }) }),
]

/** Functions of the pipeline's dependencies that may throw, by path. */
const PLACES: Readonly<Record<string, readonly string[]>> = {
  '': ['enrich', 'contextStart', 'handlerOf', 'redact', 'nowMs'],
  log: ['debug', 'info', 'warn', 'error'],
  metrics: ['fetched', 'decided', 'committed', 'restored'],
  'metrics.transactions': ['inc'],
  'metrics.commitSeconds': ['observe'],
  'metrics.rebalances': ['inc'],
  'metrics.doubled': ['inc'],
  group: ['start', 'committed', 'startReading', 'membership', 'consume', 'connection'],
  transactor: ['start', 'refresh', 'commit', 'release', 'disconnects', 'connection'],
  reader: ['ends', 'readIdentities', 'topics'],
}

/** Those that may reject as well. */
const ASYNCHRONOUS = /^(?:group\.(?:committed|consume)|transactor\.(?:refresh|commit|release)|reader\.\w+)$/

const failing = (call: (...given: unknown[]) => unknown, at: number, rejects: boolean) => {
  let calls = 0
  return (...given: unknown[]): unknown => {
    if (++calls < at) return call(...given)
    if (calls > at) return call(...given)
    const error = new TypeError('nobody has thought of it')
    if (rejects) return Promise.reject(error)
    throw error
  }
}

type Functions = Record<string, (...given: unknown[]) => unknown>

/** The same dependencies, with one function that fails once. */
function failingAt<T extends object>(of: T, path: readonly string[], at: number, rejects: boolean): T {
  const [name = '', ...rest] = path
  const inner = (of as unknown as Record<string, object>)[name] as object
  const changed =
    rest.length > 0
      ? failingAt(inner, rest, at, rejects)
      : failing((...given) => ((of as unknown as Functions)[name] as Functions[string])(...given), at, rejects)
  return new Proxy(of, {
    get: (target, property) => {
      if (property === name) return changed
      const value: unknown = Reflect.get(target, property)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

const cases = Object.entries(PLACES).flatMap(([of, names]) =>
  names.flatMap((name) =>
    [1, 2, 3, 5, 8].flatMap((at) =>
      (ASYNCHRONOUS.test(of === '' ? name : `${of}.${name}`) ? [false, true] : [false]).map((rejects) => ({
        path: [...(of === '' ? [] : of.split('.')), name],
        at,
        rejects,
      })),
    ),
  ),
)

const kept: unknown[] = []

/** All cases run at once, on a machine that may have other work. */
const HANG_MS = 50_000

async function playedWith({ path, at, rejects }: (typeof cases)[number]): Promise<string | undefined> {
  const kafka = new FakeKafka()
  for (const topic of streamTopics('acme', 'events')) kafka.createTopic(topic)
  for (const record of records) kafka.append(record)
  let ended = false
  const begin = (changed?: (deps: PipelineDeps) => PipelineDeps) => {
    const started = startPipeline(
      kafka,
      handlers,
      { config: { RETRY_FIRST_MS: 5, RETRY_MAX_MS: 10 } },
      undefined,
      changed,
    )
    started.ended.then(
      () => {
        ended = true
      },
      (error: unknown) => kept.push(error),
    )
    return started.pipeline
  }
  let pipeline = begin((deps) => failingAt(deps, path, at, rejects))
  const outcomes = () => [...kafka.all(`${INPUT}.processed`), ...kafka.all(`${INPUT}.dlq`)]
  const isDone = () => kafka.committedOffset(INPUT) === IDS.length && outcomes().length >= IDS.length
  try {
    await until(() => isDone() || ended, { timeoutMs: HANG_MS }).catch(() => undefined)
    if (!isDone() && !ended) return 'hangs'
    if (ended) {
      pipeline = begin()
      await until(isDone, { timeoutMs: HANG_MS, what: 'new clients' })
    }
    const ids = outcomes().map(({ headers }) => headerText(headers, 'ce_type'))
    return ids.toSorted().join() === IDS.toSorted().join() ? undefined : `outcomes of ${ids.join()}`
  } finally {
    // An error that comes only now is too late to affect the events.
    await pipeline.stop().catch(() => undefined)
  }
}

test('whatever throws once, each event has one outcome, with these clients or with new ones', async () => {
  const results = await Promise.all(
    cases.map(async (one) => {
      const fault = await playedWith(one).catch((error: Error) => error.message)
      return fault === undefined
        ? []
        : [`${one.path.join('.')} ${one.at} ${one.rejects ? 'rejects' : 'throws'}: ${fault}`]
    }),
  )
  expect(results.flat()).toEqual([])
  expect(kept).toEqual([])
}, 120_000)
