import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test'
import { Type } from '@sinclair/typebox'
import pino from 'pino'
import { headerText } from '../shared/events/headers.ts'
import { toRecord } from '../shared/events/record.ts'
import { inputTopic, siblingTopic, streamTopics, type TopicRole } from '../shared/events/topics.ts'
import { createRangeReader, readAll } from '../shared/kafka/range-reader.ts'
import type { RangeReader, RecordProducer } from '../shared/kafka/types.ts'
import { uniqueName } from '../shared/testing/brokers.ts'
import type { Action, Match } from '../shared/testing/kafka-proxy.ts'
import { type ProxiedKafka, startProxiedKafka } from '../shared/testing/proxied-kafka.ts'
import { startTestProducer } from '../shared/testing/record-producer.ts'
import { until } from '../shared/testing/until.ts'
import { type ConsumerConfig, loadConsumerConfig } from './config.ts'
import { defineHandler, type Handler } from './handlers/handler.ts'
import { Slots } from './lanes.ts'
import { startTestConsumer } from './testing/consumer.ts'

/**
 * Requests of a transaction that arrive late, or whose responses are lost, while its member loses the partition and it or another member gets
 * it. In all cases, each event has one outcome.
 */

setDefaultTimeout(180_000)

const SESSION_TIMEOUT_MS = 1_500
const TRANSACTION_TIMEOUT_MS = 8_000
/** A step may take 5 s, and some transactions have to time out at the broker. */
const PATIENCE = { timeoutMs: 40_000 }
const BATCH = 10
/** Cases mostly wait for time-outs, so several run at a time. */
const playing = new Slots(8)

let proxied: ProxiedKafka
let config: ConsumerConfig
let producer: RecordProducer
let reader: RangeReader

beforeAll(async () => {
  proxied = await startProxiedKafka({ 'group.min.session.timeout.ms': '500' })
  config = loadConsumerConfig({ KAFKA_BROKERS: proxied.brokers })
  const log = pino({ level: 'silent' })
  reader = createRangeReader({ config, clientId: 'tests', log })
  producer = startTestProducer(config, [])
  await until(() => producer.connection().state === 'connected', PATIENCE)
})

afterAll(async () => {
  await producer.close(1_000)
  await reader.close()
  await proxied.stop()
})

interface Line {
  level: number
  msg: string
}

/** A consumer that opens new clients after a fatal error, as the service does, and its log. */
function run(options: { tenant: string; group: string; instance: string; handlers: readonly Handler[] }) {
  const lines: Line[] = []
  const log = pino({ level: 'debug' }, { write: (line: string) => void lines.push(JSON.parse(line) as Line) })
  const open = (isReplacement: boolean) =>
    startTestConsumer({
      ...options,
      isReplacement,
      config,
      log,
      changed: { SESSION_TIMEOUT_MS, TRANSACTION_TIMEOUT_MS },
    })
  let stopping = false
  let current = open(false)
  const work = async (): Promise<void> => {
    for (let reason = await current.ended; reason !== undefined && !stopping; reason = await current.ended) {
      log.error({ reason }, 'new clients')
      current = open(true)
    }
  }
  const ended = work()
  const said = (msg: string): number => lines.filter((line) => line.msg === msg).length
  return {
    lines,
    said,
    /** Waits until it logs this, or one of these, again. */
    says(...msgs: string[]): Promise<void> {
      const before = msgs.map(said)
      return until(() => msgs.some((msg, index) => said(msg) > (before[index] as number)), {
        ...PATIENCE,
        what: `"${msgs.join('" or "')}"`,
      })
    },
    /** Delays or drops requests of its transactions, or their responses. */
    interfere: (at: 'request' | 'answer', api: Match['api'], action: Action) =>
      proxied.proxy.interfere(at, { api, client: `${options.instance}-t` }, action),
    /** Sees the requests of its membership and lets them pass. */
    watch: (api: Match['api']) => proxied.proxy.interfere('request', { api, client: options.instance }, { delayMs: 0 }),
    /**
     * Holds back its heartbeats and its later requests to the group until its session is over and it has lost its partitions.
     * @param meanwhile and until this has settled
     */
    async lose(meanwhile?: Promise<void>): Promise<void> {
      const lost = this.says('lost')
      const heartbeats = proxied.proxy.interfere('request', { api: 'Heartbeat', client: options.instance }, 'hold')
      await Promise.all([lost, meanwhile])
      heartbeats.end()
    },
    async stop() {
      stopping = true
      await current.pipeline.stop()
      await ended
    },
  }
}

type Member = ReturnType<typeof run>

/** A stream of one partition, the members of a group, and what was written. */
function stageOf(tenant: string) {
  const group = uniqueName('group')
  const topic = inputTopic(tenant, 'events')
  const members: Member[] = []
  const ids: string[] = []
  /** Whether events of the type `later`, which fail at first and wait in `.retry`, may succeed. */
  const later = Promise.withResolvers<void>()
  const handlers = [
    defineHandler({
      type: 'later',
      version: '1',
      schema: Type.Unknown(),
      async handle(_, { attempt }) {
        if (attempt <= 2) throw new Error('not yet')
        await later.promise
        return { data: { attempt } }
      },
    }),
  ]
  const idsIn = async (...roles: TopicRole[]): Promise<string[]> => {
    const found: string[] = []
    await readAll(
      reader,
      roles.map((role) => ({ topic: siblingTopic(topic, role), partition: 0 })),
      ({ headers }) => found.push(headerText(headers, 'ce_id') ?? ''),
    )
    return found.toSorted()
  }
  return {
    ids,
    members,
    later,
    idsIn,
    join(instance = uniqueName('member')): Member {
      const member = run({ tenant, group, instance, handlers })
      members.push(member)
      return member
    },
    async write(type = 'plain'): Promise<void> {
      const records = Array.from({ length: BATCH }, () => {
        const id = String(ids.length).padStart(4, '0')
        ids.push(id)
        return toRecord(
          { id, source: '/tests', type, subject: `key-${ids.length % 3}`, extensions: {}, data: Buffer.from('{}') },
          { topic, partition: 0, tenant, receivedAtMs: Date.now() },
        )
      })
      for (const result of await producer.produce(records)) if (result instanceof Error) throw result
    },
    /** Waits until each event has an outcome. New topics cannot always be read at once. */
    settled: () =>
      until(async () => (await idsIn('processed', 'dlq').catch(() => [])).length >= ids.length, {
        ...PATIENCE,
        what: `${ids.length} outcomes`,
      }),
  }
}

type Stage = ReturnType<typeof stageOf>

type Act = (stage: Stage, member: Member) => Promise<void>

/** Runs a case with a member that has processed its first events, and checks all outcomes. */
const play = async (act: Act): Promise<void> => playing.run(() => playOne(act))

async function playOne(act: Act): Promise<void> {
  const tenant = uniqueName('fencing')
  await proxied.kafka.createTopics(streamTopics(tenant, 'events'), 1)
  const stage = stageOf(tenant)
  try {
    const member = stage.join()
    await stage.write()
    await stage.settled()
    await act(stage, member)
    await stage.write()
    await stage.settled()
    await Promise.all(stage.members.map((one) => one.stop()))
    expect(await stage.idsIn('processed', 'dlq')).toEqual(stage.ids)
  } catch (error) {
    for (const { lines } of stage.members) for (const line of lines) process.stderr.write(`${JSON.stringify(line)}\n`)
    throw error
  } finally {
    await Promise.all(stage.members.map((one) => one.stop()))
  }
}

const has = (interference: { readonly met: number }) => until(() => interference.met > 0, PATIENCE)

/**
 * Log messages for a transaction that failed: a step of it, all of it, or its clients. If a connection was lost before, it is the transaction that ends
 * hanging ones for a restore.
 */
const FAILED = [
  'transaction step failed; retrying',
  'transaction aborted; retrying',
  'new clients',
  'bulk restore failed; restoring partitions one by one',
] as const

const STEPS = ['AddOffsetsToTxn', 'TxnOffsetCommit', 'Produce', 'EndTxn'] as const

for (const api of STEPS)
  test.concurrent(`${api} comes when its member has lost the partition and got it again`, () =>
    play(async (stage, member) => {
      const held = member.interfere('request', api, 'hold')
      await stage.write()
      await has(held)
      const assigned = member.says('assigned')
      await member.lose()
      await assigned
      held.end()
    }))

for (const api of ['AddOffsetsToTxn', 'TxnOffsetCommit'] as const)
  test.concurrent(`${api} cannot be sent until its member has lost the partition and got it again`, () =>
    play(async (stage, member) => {
      const cut = member.interfere('request', api, 'cut')
      const failed = member.says(...FAILED)
      await stage.write()
      await has(cut)
      const assigned = member.says('assigned')
      await member.lose()
      await assigned
      await failed
      cut.end()
    }))

for (const api of ['AddOffsetsToTxn', 'TxnOffsetCommit'] as const)
  test.concurrent(`${api} comes when another member has done its events meanwhile`, () =>
    play(async (stage, member) => {
      const other = stage.join()
      await has(other.watch('Heartbeat'))
      const held = member.interfere('request', api, 'hold')
      await stage.write()
      await has(held)
      await member.lose(other.says('reading').then(() => stage.settled()))
      held.end()
    }))

for (const api of ['Produce', 'EndTxn'] as const)
  test.concurrent(`${api} comes when another member waits for the offsets of its transaction`, () =>
    play(async (stage, member) => {
      const other = stage.join()
      await has(other.watch('Heartbeat'))
      const held = member.interfere('request', api, 'hold')
      await stage.write()
      await has(held)
      await member.lose(has(other.watch('OffsetFetch')))
      held.end()
    }))

test.concurrent('offsets come when their transaction was given up, and its member is still the same', () =>
  play(async (stage, member) => {
    const held = member.interfere('request', 'TxnOffsetCommit', 'hold')
    const failed = member.says(...FAILED)
    await stage.write()
    await has(held)
    await failed
    held.end()
  }))

test.concurrent('a commit comes when it has been asked for again', () =>
  play(async (stage, member) => {
    const held = member.interfere('request', 'EndTxn', 'hold')
    const failed = member.says(...FAILED)
    await stage.write()
    await has(held)
    await failed
    held.end()
  }))

for (const [how, what] of [
  ['cut', 'and its connection'],
  ['drop', 'and nothing else'],
] as const) {
  test.concurrent(`the answer to a commit is lost, ${what}`, () =>
    play(async (stage, member) => {
      const lost = member.interfere('answer', 'EndTxn', how)
      await stage.write()
      await has(lost)
      lost.end()
    }))

  test.concurrent(`the answer to a commit is lost, ${what}, while its member has lost the partition and got it again`, () =>
    play(async (stage, member) => {
      const lost = member.interfere('answer', 'EndTxn', how)
      await stage.write()
      await has(lost)
      const assigned = member.says('assigned')
      await member.lose()
      await assigned
      lost.end()
    }))

  test.concurrent(`the answer to an abort is lost, ${what}, after its member has lost the partition`, () =>
    play(async (stage, member) => {
      const held = member.interfere('request', 'TxnOffsetCommit', 'hold')
      await stage.write()
      await has(held)
      const assigned = member.says('assigned')
      await member.lose()
      await assigned
      const lost = member.interfere('answer', 'EndTxn', how)
      held.end()
      await has(lost)
      lost.end()
    }))
}

test.concurrent('offsets of .retry come when their member has lost the partition and got it again', () =>
  play(async (stage, member) => {
    await stage.write('later')
    await until(async () => (await stage.idsIn('retry')).length === BATCH, PATIENCE)
    const held = member.interfere('request', 'TxnOffsetCommit', 'hold')
    stage.later.resolve()
    await has(held)
    const assigned = member.says('assigned')
    await member.lose()
    await assigned
    held.end()
  }))

test.concurrent('what may be left open is being ended when its member has lost the partition and got it again', () =>
  play(async (stage, member) => {
    await member.stop()
    await stage.write()
    const instance = uniqueName('member')
    const held = proxied.proxy.interfere('request', { api: 'TxnOffsetCommit', client: `${instance}-t` }, 'hold')
    const next = stage.join(instance)
    await has(held)
    const assigned = next.says('assigned')
    await next.lose()
    await assigned
    held.end()
  }))
