import { eventIdentity } from '../../shared/events/identity.ts'
import { type ForeignRecord, writeRecord } from '../../shared/testing/foreign-record.ts'
import type { Service } from '../../shared/testing/services.ts'
import { BROKER_FAULTS } from './broker-faults.ts'
import { FOLLOW_FAULT } from './follow-fault.ts'
import { HALF_DONE_FAULT } from './half-done.ts'
import type { Log, LogRecord } from './judge.ts'
import { ALWAYS, kind, SLOW, SOMETIMES } from './kinds.ts'
import { PATIENT_MS, PLAIN, STAR } from './load.ts'
import { PERMISSION_FAULT } from './permission-fault.ts'
import { REDRIVE_FAULT } from './redrive-fault.ts'
import { ROTATE_FAULT } from './rotate-fault.ts'
import { killAndRestart, restartBroker, SERVICE_FAULTS } from './service-faults.ts'
import { type Fault, GROUP, PARTITIONS, type Stage, WEBHOOK_SECRET } from './stage.ts'
import { TOPIC_FAULTS } from './topic-faults.ts'
import { forgetOpenTransaction, openPartitions, restartCoordinator } from './transaction-state.ts'

/** Every fault, by its name in `--fault` and in the tests. */

/** How often a process is killed in faults that kill repeatedly. */
const KILLS = 10
/** Of the fault `webhooks`, at least. */
const WEBHOOKS = 5_000
/** Some 3 % are signed with another secret. */
const SENT_WEBHOOKS = 1.06 * WEBHOOKS
const WEBHOOK_KILLS = 5
/** How often to check a consumer for an open transaction. */
const MAX_TRIES = 200

/**
 * Restarts the broker with the consumer dead, at a moment when the broker has committed the consumer's last transaction, in at least so many partitions, without
 * completing it. Freezes the consumer again and again until one of its transactions has completed and it is within another, rather than at its end, which would be
 * over at the second check.
 */
async function forgetCommit(stage: Stage, leastPartitions: number): Promise<void> {
  const kafka = stage.kafka()
  const transactionalId = `${GROUP}-${stage.consumer.name}`
  const isOpen = async () =>
    (await openPartitions(kafka, `${stage.topic}.processed`, PARTITIONS)).length >= leastPartitions
  for (let tries = 1; tries <= MAX_TRIES; tries++) {
    await stage.pause(300, 600)
    stage.consumer.freeze()
    if (
      (await isOpen()) &&
      (await isOpen()) &&
      (await forgetOpenTransaction(kafka.bootstrapServers, transactionalId, 'commit'))
    ) {
      await stage.consumer.kill()
      await restartCoordinator(kafka, transactionalId)
      stage.did('broker restarted')
      if (await isOpen()) return
      // The request to end it had already been sent.
      stage.consumer.start()
      await stage.consumer.ready()
    } else stage.consumer.thaw()
  }
  throw new Error(`no transaction was open behind another in ${MAX_TRIES} looks`)
}

export const FAULTS: readonly Fault[] = [
  {
    name: 'kill-producer',
    what: 'the producer is killed under load, again and again',
    async play(stage) {
      // Enough events that some are in every stage when the fault happens.
      const load = stage.load({ eventsPerSecond: 1_500 })
      for (let kills = 0; kills < 4; kills++) {
        await stage.pause(800, 2500)
        await killAndRestart(stage, stage.producer, 'producer')
        await stage.producer.ready()
      }
      await stage.pause(500, 1000)
      await load.stop()
    },
  },
  {
    name: 'webhooks',
    what: `more than ${WEBHOOKS} signed webhooks, each sent again until it is taken, while the producer is killed ${WEBHOOK_KILLS} times`,
    async play(stage) {
      const load = stage.load({ kinds: [STAR], webhookSecret: WEBHOOK_SECRET, eventsPerSecond: 600 })
      for (let kills = 0; kills < WEBHOOK_KILLS; kills++) {
        await stage.pause(300, 1_500)
        await killAndRestart(stage, stage.producer, 'producer')
        await stage.producer.ready()
      }
      for (let looks = 0; stage.ledger.size < SENT_WEBHOOKS; looks++) {
        if (looks === 1_200) throw new Error(`fewer than ${WEBHOOKS} webhooks were taken in time`)
        await stage.pause(50, 50)
      }
      await load.stop()
      const { statuses, refusals } = load.facts
      for (const status of Object.keys(statuses).map(Number))
        if (status >= 400 && status !== 401 && status !== 503)
          stage.wrong(`webhooks were answered ${status}: ${refusals[status]}`)
      if ((statuses[401] ?? 0) === 0) stage.wrong('no webhook with a wrong signature was refused')
    },
  },
  {
    name: 'kill-consumer',
    what: `the consumer is killed ${KILLS} times at random points of its work`,
    async play(stage) {
      const load = stage.load({
        kinds: [
          { ...PLAIN, weight: 60 },
          { ...SOMETIMES, weight: 4 },
          { ...SLOW, weight: 4 },
          { ...ALWAYS, weight: 0.3 },
        ],
        eventsPerSecond: 400,
      })
      for (let kills = 0; kills < KILLS; kills++) {
        // Sometimes before it has partitions, mostly in the middle of transactions.
        await stage.pause(150, 2200)
        await killAndRestart(stage, stage.consumer, 'consumer')
      }
      await stage.recovered('consumer started', 'session')
      await load.stop()
    },
  },
  {
    name: 'kill-broker',
    what: 'the broker is killed and comes back under load, twice',
    async play(stage) {
      const load = stage.load({ timeoutMs: PATIENT_MS })
      for (let kills = 0; kills < 2; kills++) {
        await stage.pause(500, 1500)
        await restartBroker(stage)
      }
      await stage.recovered('broker restarted', 'ordinary')
      await stage.pause(1500, 2500)
      await load.stop()
      const unanswered = load.facts.statuses[0] ?? 0
      if (unanswered > 0) stage.wrong(`${unanswered} requests were not answered in time, though the producer lived`)
    },
  },
  {
    name: 'forgotten-commit',
    what: 'the broker restarts and counts a transaction of the consumer as committed that it has never ended',
    // The broker must not abort it before it is made to forget it.
    env: { consumer: { TRANSACTION_TIMEOUT_MS: '60000' } },
    async play(stage) {
      const load = stage.load({ eventsPerSecond: 400 })
      await forgetCommit(stage, 1)
      stage.consumer.start()
      await stage.consumer.ready()
      await stage.recovered('consumer started', 'session')
      await stage.pause(1500, 2500)
      await load.stop()
    },
  },
  {
    name: 'forgotten-by-another',
    what: 'a transaction that the broker has never ended hangs in partitions of another consumer than the one that made it, which lives',
    env: { consumer: { TRANSACTION_TIMEOUT_MS: '60000' } },
    async play(stage) {
      const load = stage.load({ eventsPerSecond: 400 })
      const { consumer } = stage
      // Of any three of the four partitions, each of two consumers has at least one.
      await forgetCommit(stage, PARTITIONS / 2 + 1)
      const other = await stage.addConsumer()
      for (const one of [other, consumer]) one.start()
      await stage.recovered('consumers started', 'session')
      await stage.pause(1500, 2500)
      await load.stop()
    },
  },
  {
    name: 'broker-absent',
    what: 'both services start while there is no broker, take nothing, and begin when it comes',
    brokerFirst: false,
    async play(stage) {
      const { producer, consumer } = stage
      const load = stage.load({ eventsPerSecond: 100, wrong: 0 })
      await stage.pause(2500, 3500)
      for (const service of [producer, consumer]) {
        if (!service.running())
          stage.wrong(`${service.name} does not wait for the broker: ${await service.lastLines()}`)
        const live = await fetch(`http://127.0.0.1:${service.opsPort}/livez`)
        if (!live.ok) stage.wrong(`${service.name} is not live without a broker: ${live.status}`)
        if (await service.isReady()) stage.wrong(`${service.name} says that it is ready without a broker`)
      }
      if (load.facts.requests === 0) stage.wrong('no request was sent while there was no broker')
      if (Object.keys(load.facts.statuses).some((status) => Number(status) > 0))
        stage.wrong('the public port was open while there was no broker')
      await stage.startKafka()
      stage.did('broker started')
      await stage.recovered('broker started', 'ordinary')
      await Promise.all([producer.ready(), consumer.ready()])
      await stage.pause(1500, 2500)
      await load.stop()
    },
    check: (_, { acknowledged, sent }) =>
      acknowledged === sent ? [] : [`${acknowledged} of ${sent} were acknowledged in the end`],
  },
  {
    name: 'rebalance-storm',
    what: 'a second and a third consumer join, leave and crash, over and over',
    async play(stage) {
      const load = stage.load({ kinds: [{ ...PLAIN, weight: 6 }, SOMETIMES, SLOW], eventsPerSecond: 400 })
      const others = [await stage.addConsumer(), await stage.addConsumer()]
      for (let round = 0; round < 10; round++) {
        const one = others[round % 2] as Service
        if (!one.running()) {
          one.start()
          stage.did('consumer joined')
        } else if (stage.random.chance(0.5)) {
          await one.kill()
          stage.did('consumer killed')
        } else {
          const { code } = await stage.stop(one)
          stage.did('consumer left')
          if (code !== 0) stage.wrong(`${one.name} left with ${code}: ${await one.lastLines()}`)
        }
        await stage.pause(300, 2000)
      }
      await stage.recovered('consumers joined and left', 'session')
      await load.stop()
    },
  },
  {
    name: 'repeating-clients',
    what: 'clients give up after a few milliseconds and send the same ids again, and now and then though they were answered',
    async play(stage) {
      const load = stage.load({ timeoutMs: [1, 40], repeatedAnyway: 0.3, eventsPerSecond: 400 })
      await stage.pause(7000, 9000)
      await load.stop()
    },
    check: (_, { records, inLog }) =>
      records > inLog ? [] : ['no event was stored twice: the run has tested nothing'],
  },
  {
    name: 'poison',
    what: 'records that are no CloudEvents, written by another client, stand between events of the same partitions',
    async play(stage) {
      const load = stage.load()
      for (let batch = 0; batch < POISON_BATCHES; batch++) {
        await stage.pause(200, 700)
        for (let partition = 0; partition < 4; partition++)
          await writeRecord(
            stage.kafka().bootstrapServers,
            stage.topic,
            partition,
            POISONS[(batch + partition) % POISONS.length] as ForeignRecord,
          )
        stage.did('poison written')
      }
      await load.stop()
    },
    check: ({ dlq }, { foreign }) => {
      const expected = POISON_BATCHES * 4
      const found = dlq.filter(({ event }) => event === undefined).length
      return found === expected && foreign === expected
        ? []
        : [`${found} of ${expected} records of poison are dead letters, ${foreign} in the log`]
    },
  },
  {
    name: 'failing-handlers',
    what: 'handlers fail always, sometimes, slowly, without end, hopelessly and oddly, among events that succeed',
    env: { consumer: { MAX_CONCURRENT_HANDLERS: '32' } },
    async play(stage) {
      const load = stage.load({
        eventsPerSecond: 200,
        keys: 400,
        kinds: [
          { ...PLAIN, weight: 60 },
          { ...SOMETIMES, weight: 8 },
          { ...SLOW, weight: 8 },
          { ...ALWAYS, weight: 2 },
          kind('stuck', 'dead', 0.5, () => ({ failures: 0, workMs: 0 })),
          kind('hopeless', 'dead', 2, () => ({ failures: 0, workMs: 0 })),
          kind('odd', 'dead', 1, () => ({ failures: 0, workMs: 0 })),
        ],
      })
      await stage.pause(8000, 10_000)
      await load.stop()
    },
    check(log, { dead, retried }) {
      const wrong: string[] = []
      if (dead === 0 || retried === 0) wrong.push(`${dead} dead, ${retried} retried: the run has tested nothing`)
      const { waited, passed } = overtaken(log)
      // The last record of a partition has none behind it that could pass it.
      if (passed < waited * 0.8)
        wrong.push(`of ${waited} that waited for a retry only ${passed} were passed by events of other keys`)
      return wrong
    },
  },
  {
    name: 'graceful-stop',
    what: 'both services are stopped by SIGTERM under load and started again: each ends with 0 and nothing is lost',
    async play(stage) {
      const load = stage.load({ kinds: [{ ...PLAIN, weight: 6 }, SOMETIMES, SLOW] })
      for (let round = 0; round < 3; round++) {
        for (const service of [stage.producer, stage.consumer]) {
          await stage.pause(500, 1800)
          const { code, seconds } = await stage.stop(service)
          stage.did(`${service.name} stopped`)
          if (code !== 0)
            stage.wrong(
              `${service.name} ended with ${code} after ${seconds.toFixed(1)} s:\n${await service.lastLines()}`,
            )
          service.start()
        }
        await Promise.all([stage.producer.ready(), stage.consumer.ready()])
      }
      await stage.recovered('services started', 'ordinary')
      await load.stop()
    },
    // A gracefully stopped service tells the client what happened to its request.
    check: (_, { unknown }) => (unknown === 0 ? [] : [`of ${unknown} events nobody knows whether they are stored`]),
  },
  {
    name: 'everything',
    what: 'producer, two consumers and the broker are killed in any order, while handlers fail and clients are impatient',
    async play(stage) {
      const { random, producer, consumer } = stage
      const load = stage.load({
        kinds: [{ ...PLAIN, weight: 60 }, SOMETIMES, SLOW, { ...ALWAYS, weight: 0.3 }],
        eventsPerSecond: 400,
        timeoutMs: [20, 5000],
        repeatedAnyway: 0.05,
      })
      const other = await stage.addConsumer()
      other.start()
      // The broker takes seconds to come back, so this happens only once, in the middle.
      const brokerTurn = random.integer(3, KILLS - 4)
      for (let turn = 0; turn < KILLS; turn++) {
        await stage.pause(100, 1500)
        if (turn === brokerTurn) {
          const node = stage.anyNode()
          await stage.kafka().kill(node)
          stage.did('broker killed')
          await stage.kafka().restart(node)
        } else {
          const victim = random.pick([producer, consumer, other])
          await killAndRestart(stage, victim, victim.name)
        }
      }
      await stage.recovered('everything started', 'session')
      await load.stop()
    },
  },
  HALF_DONE_FAULT,
  ...BROKER_FAULTS,
  ...SERVICE_FAULTS,
  ...TOPIC_FAULTS,
  PERMISSION_FAULT,
  REDRIVE_FAULT,
  FOLLOW_FAULT,
  ROTATE_FAULT,
]

/** @throws Error for an unknown name */
export function faultNamed(name: string): Fault {
  const fault = FAULTS.find((one) => one.name === name)
  if (fault === undefined) throw new Error(`there is no fault "${name}"`)
  return fault
}

/** How many events that went through `.retry` were overtaken by a later one with another key in their partition. */
export function overtaken({ input, retry, dlq, processed }: Log): { waited: number; passed: number } {
  /** undefined for a record that is not an event. */
  const nameOf = ({ event, generation }: LogRecord): string | undefined =>
    event === undefined ? undefined : eventIdentity(event.source, event.id, generation)
  const settledAtMs = new Map([...dlq, ...processed].map((record) => [nameOf(record), record.timestampMs]))
  const waiting = new Set(retry.map(nameOf))
  let waited = 0
  let passed = 0
  const seen = new Set<string>()
  for (const record of input) {
    const name = nameOf(record)
    if (name === undefined || !waiting.has(name) || seen.has(name)) continue
    seen.add(name)
    const outcomeAtMs = settledAtMs.get(name)
    if (outcomeAtMs === undefined) continue
    waited++
    const passing = input.some(
      (other) =>
        other.partition === record.partition &&
        other.offset > record.offset &&
        other.event !== undefined &&
        (other.key === null || other.key !== record.key) &&
        (settledAtMs.get(nameOf(other)) ?? Number.POSITIVE_INFINITY) < outcomeAtMs,
    )
    if (passing) passed++
  }
  return { waited, passed }
}

const POISON_BATCHES = 8

/** Records that cannot be parsed as events. */
const POISONS: readonly [ForeignRecord, ...ForeignRecord[]] = [
  { value: Buffer.from('this is no event'), headers: [] },
  { value: Buffer.from([0xff, 0xfe, 0x00, 0x80, 0xc3]), headers: ['x=1'] },
  { value: Buffer.from('{"a":1}'), key: 'key-1', headers: ['ce_specversion=1.0', 'ce_id=1', 'ce_source=/poison'] },
  { value: Buffer.from('{}'), headers: ['ce_specversion=0.3', 'ce_id=2', 'ce_source=/poison', 'ce_type=t'] },
  { value: Buffer.from('{"specversion":"1.0"'), headers: ['content-type=application/cloudevents+json'] },
]
