import { connect } from 'node:net'
import process from 'node:process'
import { FAULT_TYPE } from '../../consumer/testing/faulty-handlers.ts'
import {
  alterTopic,
  commitOffsets,
  deleteRecords,
  deleteTopics,
  listOffsets,
} from '../../shared/dev/brokers/wire-admin.ts'
import { controlKey, type StreamControl } from '../../shared/events/control.ts'
import { CONTROL_TOPIC, inputTopic, siblingTopic, streamTopics } from '../../shared/events/topics.ts'
import { writeRecord } from '../../shared/testing/foreign-record.ts'
import { openTransaction } from '../../shared/testing/open-transaction.ts'
import { until } from '../../shared/testing/until.ts'
import type { Check } from './check.ts'
import {
  CHECKED_TYPE,
  CONSOLE_JOBS,
  CONSOLE_LETTERS,
  CONSOLE_OUTCOMES,
  holdsWithin,
  MONITORING_GROUP,
  OPERATOR_KEY,
  OWN_KEY,
  type Rig,
  startRig,
} from './monitoring-rig.ts'
import { alerts } from './monitoring-rules.ts'
import { scaledRules } from './monitoring-scale.ts'
import type { FiringAlert } from './prometheus.ts'
import { tool } from './tools.ts'

/** Makes every alert fire by a fault of the real services, with windows of seconds. */

const LOAD_PER_SECOND = 70
const RESOLVE_TIMEOUT_MS = 240_000
const MAX_BATCH_EVENTS = 200
const DELIVERY_TIMEOUT_MS = 1_000
/** Together seven eighths of the producer's default limit for bodies in memory, 64 MiB. */
const STALLED_BODIES = 14
const STALLED_BODY_BYTES = 4 * 2 ** 20
const SLOW_WORK_MS = 90_000
/** At one a second, more than the fault lasts. */
const JOB_LETTERS = 300
const CONSOLE_CLIENTS = 20
const SLOW_FOLLOWERS = 10
/** Together they fill the kernel's buffers of a connection, some megabytes, within the fault's time. */
const LARGE_SUBJECT_CHARS = 16_000
const WIRE_TIMEOUT_MS = 10_000
/** An alert that fires again has not resolved. */
const QUIET_MS = 5_000

export interface Fault {
  readonly name: string
  /** Alerts that must fire, and resolve afterwards. Others may fire too. */
  readonly fires: readonly string[]
  readonly timeoutMs: number
  /** Starts the fault, which lasts until `end`. Repeated work stops when the signal is aborted. */
  begin(rig: Rig, signal: AbortSignal): Promise<void>
  end(rig: Rig): Promise<void>
}

const events = (kind: string, count: number, workMs = 0): object[] =>
  Array.from({ length: count }, () => ({ type: FAULT_TYPE + kind, data: { failures: 0, workMs } }))

async function sendInBatches(rig: Rig, all: readonly object[]): Promise<void> {
  for (let from = 0; from < all.length; from += 100) await rig.send(all.slice(from, from + 100))
}

const servicesOf = ({ producer, consumer, console }: Rig) => [producer, consumer, console]

const nothing = async (): Promise<void> => {}

export const faults: readonly Fault[] = [
  // First, since the background check takes longer the more records there are.
  {
    name: 'a second outcome that somebody else writes',
    fires: ['KafkaTraceEventsDoubled'],
    // The consumer spends one hundredth of its time on this check.
    timeoutMs: 300_000,
    async begin({ kafka }) {
      const topic = inputTopic('default', 'events')
      const record = {
        value: Buffer.from('{}'),
        headers: ['ce_specversion=1.0', 'ce_id=twice', 'ce_source=/doubled', 'ce_type=dev.kafkatrace.plain'],
      }
      for (const name of [topic, siblingTopic(topic, 'processed')])
        await writeRecord(kafka.bootstrapServers, name, 1, record)
    },
    end: nothing,
  },
  {
    name: 'Kafka that answers in fits and starts',
    fires: ['KafkaTraceProducerSlow', 'KafkaTraceLatencyBudgetBurnsFast', 'KafkaTraceLatencyBudgetBurnsSlowly'],
    timeoutMs: 60_000,
    begin: async ({ kafka }, signal) => void repeated(signal, 50, () => suspended(kafka.pid(0), 600)),
    end: () => Bun.sleep(1_000),
  },
  {
    name: 'Kafka that is silent for longer than a delivery may take, again and again',
    fires: ['KafkaTraceProduceErrors'],
    timeoutMs: 60_000,
    begin: async ({ kafka }, signal) =>
      void repeated(signal, 1_000, () => suspended(kafka.pid(0), 2.5 * DELIVERY_TIMEOUT_MS)),
    end: () => Bun.sleep(2.5 * DELIVERY_TIMEOUT_MS),
  },
  {
    name: 'webhooks with another secret than their source',
    fires: ['KafkaTraceWebhooksRefused'],
    timeoutMs: 60_000,
    begin: async (rig, signal) => void repeated(signal, 200, () => rig.webhook(false)),
    end: (rig) => rig.webhook(true),
  },
  {
    name: 'events that are not as their schema wants them any more',
    fires: ['KafkaTraceEventsNotAsTheirSchema'],
    timeoutMs: 60_000,
    async begin(rig, signal) {
      await rig.send({ type: CHECKED_TYPE, data: { total: 1 } })
      void repeated(signal, 200, () => rig.send({ type: CHECKED_TYPE, data: {} }))
    },
    end: nothing,
  },
  {
    name: 'a folder of schemas with a fault',
    fires: ['KafkaTraceSchemasNotCurrent'],
    timeoutMs: 60_000,
    begin: (rig) => rig.schema(false),
    end: (rig) => rig.schema(true),
  },
  {
    name: 'a tenants file with a fault',
    fires: ['KafkaTraceTenantsFileNotCurrent'],
    timeoutMs: 60_000,
    begin: (rig) => rig.tenants('wrong'),
    end: (rig) => rig.tenants('right'),
  },
  {
    name: 'a key that expires in two days',
    fires: ['KafkaTraceKeyExpires'],
    timeoutMs: 90_000,
    begin: (rig) => rig.tenants('with a key that expires'),
    end: (rig) => rig.tenants('right'),
  },
  {
    name: 'somebody with a key that there is not',
    fires: ['KafkaTraceAuthenticationFailures'],
    timeoutMs: 60_000,
    begin: async (rig, signal) => void repeated(signal, 20, () => rig.stranger()),
    end: nothing,
  },
  {
    name: 'an issuer of tokens that does not answer',
    fires: ['KafkaTraceTokenKeysNotCurrent'],
    timeoutMs: 60_000,
    // Keys are read for such tokens every ten seconds.
    begin: async (rig, signal) => void repeated(signal, 1_000, () => rig.issuer(false)),
    end: (rig) => rig.issuer(true),
  },
  {
    name: 'a client certificate that expires soon',
    fires: ['KafkaTraceCertificateExpires'],
    timeoutMs: 60_000,
    begin: (rig) => rig.certificate('short'),
    end: (rig) => rig.certificate('lasting'),
  },
  {
    name: 'a client certificate that brokers do not trust',
    fires: ['KafkaTraceCredentialsNotCurrent'],
    timeoutMs: 60_000,
    begin: (rig) => rig.certificate('unknown'),
    end: (rig) => rig.certificate('lasting'),
  },
  {
    name: 'Kafka killed',
    fires: [
      'KafkaTraceKafkaUnreachable',
      'KafkaTraceAvailabilityBudgetBurnsFast',
      'KafkaTraceAvailabilityBudgetBurnsSlowly',
      'KafkaTraceTenantBudgetBurnsFast',
      'KafkaTraceProbesFail',
      'KafkaTraceProbeBudgetBurnsFast',
      'KafkaTraceProbeBudgetBurnsSlowly',
      'KafkaTraceConsoleNotReady',
      'KafkaTraceConsoleErrors',
      'KafkaTraceConsoleJobFaults',
    ],
    timeoutMs: 90_000,
    async begin(rig, signal) {
      // So slow a job that it is under way when Kafka ends.
      await sendInBatches(rig, events('hopeless', JOB_LETTERS))
      const isDead = async (): Promise<boolean> => {
        const [dead] = await rig.query('sum(kafkatrace_consumer_outcomes_total{outcome="dead"})')
        return Number(dead?.value[1]) >= JOB_LETTERS
      }
      await until(isDead, { timeoutMs: 60_000, what: 'dead letters' })
      await rig.ask(CONSOLE_JOBS, { action: 'discard', filter: {}, ratePerSecond: 1, reason: 'a test' })
      await rig.kafka.kill(0)
      for (let client = 0; client < CONSOLE_CLIENTS; client++)
        void repeated(signal, 500, () => rig.ask(CONSOLE_LETTERS))
    },
    async end({ kafka, producer, console }) {
      await kafka.restart(0)
      // Until then it refuses everything, for this reason only.
      await Promise.all([producer.ready(), console.ready()])
    },
  },
  {
    name: 'bodies that come but for their end',
    fires: ['KafkaTraceProducerNearLimit'],
    timeoutMs: 40_000,
    async begin({ producer }, signal) {
      for (let client = 0; client < STALLED_BODIES; client++) {
        const socket = connect(producer.port, '127.0.0.1')
        socket.on('error', () => undefined)
        socket.write(
          `POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n${OWN_KEY}\r\ncontent-length: ${STALLED_BODY_BYTES}\r\n\r\n${' '.repeat(STALLED_BODY_BYTES - 1)}`,
        )
        signal.addEventListener('abort', () => socket.destroy())
      }
    },
    end: nothing,
  },
  {
    name: 'all services killed',
    fires: ['KafkaTraceProducerAbsent', 'KafkaTraceConsumerAbsent', 'KafkaTraceConsoleAbsent'],
    timeoutMs: 30_000,
    begin: async (rig) => void (await Promise.all(servicesOf(rig).map((service) => service.kill()))),
    async end(rig) {
      for (const service of servicesOf(rig)) service.start()
      await Promise.all(servicesOf(rig).map((service) => service.ready()))
    },
  },
  {
    name: 'followers of outcomes that do not read',
    fires: ['KafkaTraceConsoleFollowersCut'],
    timeoutMs: 60_000,
    async begin(rig, signal) {
      for (let client = 0; client < SLOW_FOLLOWERS; client++) {
        const socket = connect(rig.console.port, '127.0.0.1').pause()
        socket.on('error', () => undefined)
        socket.write(`GET ${CONSOLE_OUTCOMES} HTTP/1.1\r\nhost: x\r\n${OPERATOR_KEY}\r\n\r\n`)
        signal.addEventListener('abort', () => socket.destroy())
      }
      // An outcome has the attributes of its event, not its data.
      const large = { type: 'plain', subject: 'x'.repeat(LARGE_SUBJECT_CHARS) }
      void repeated(signal, 30, () => rig.send(large))
    },
    end: nothing,
  },
  {
    name: 'a transaction of somebody else that does not end',
    fires: ['KafkaTracePartitionsNotRead'],
    timeoutMs: 60_000,
    async begin({ kafka, consumer }, signal) {
      const held = await openTransaction(
        kafka.bootstrapServers,
        siblingTopic(inputTopic('default', 'events'), 'processed'),
        0,
      )
      // When that fails, the consumer stays unready and says why.
      signal.addEventListener('abort', () => void held.abort().catch(() => undefined))
      // A running consumer need not read its outcomes again.
      await consumer.terminate()
      consumer.start()
    },
    end: ({ consumer }) => consumer.ready(),
  },
  {
    name: 'offsets that somebody else commits, and records that are deleted unread',
    fires: ['KafkaTraceRecordsRepaired', 'KafkaTraceRecordsSkipped'],
    timeoutMs: 60_000,
    async begin({ kafka, consumer }) {
      const topic = inputTopic('default', 'events')
      await consumer.terminate()
      // Events that arrive in the meantime have no outcome.
      await Bun.sleep(2_000)
      const [unread = 0, ...others] = await listOffsets(
        kafka.bootstrapServers,
        WIRE_TIMEOUT_MS,
        topic,
        [0, 1, 2, 3],
        'end',
      )
      await deleteRecords(kafka.bootstrapServers, WIRE_TIMEOUT_MS, topic, 0, unread)
      const falsified = new Map(others.map((end, index) => [index + 1, end]))
      await commitOffsets(kafka.bootstrapServers, WIRE_TIMEOUT_MS, MONITORING_GROUP, topic, falsified)
      consumer.start()
    },
    end: ({ consumer }) => consumer.ready(),
  },
  {
    name: 'one stream whose outcomes Kafka refuses',
    fires: ['KafkaTracePartitionsPaused'],
    timeoutMs: 60_000,
    async begin({ kafka }) {
      await kafka.createTopics(streamTopics('default', REFUSED_STREAM), REFUSED_PARTITIONS)
      await limitRefused(kafka, '300')
      // A broker applies a new limit after a moment.
      const isRefused = () =>
        writeRecord(kafka.bootstrapServers, siblingTopic(inputTopic('default', REFUSED_STREAM), 'dlq'), 0, {
          value: Buffer.alloc(400, 'x'),
          headers: [],
        }).then(
          () => false,
          () => true,
        )
      await until(isRefused, { timeoutMs: WIRE_TIMEOUT_MS, what: 'the limit to be heeded' })
      for (let partition = 0; partition < REFUSED_PARTITIONS; partition++)
        await writeRecord(kafka.bootstrapServers, inputTopic('default', REFUSED_STREAM), partition, {
          value: Buffer.from('{}'),
          headers: [
            ...['ce_specversion=1.0', `ce_id=${partition}`, 'ce_source=/refused', 'ce_type=dev.kafkatrace.plain'],
            'content-type=application/json',
          ],
        })
    },
    async end({ kafka, query }) {
      const [processed] = await query(
        'sum(increase(kafkatrace_consumer_events_total{stream="events",outcome="processed"}[5s]))',
      )
      // It recovers within half a minute, so nothing fires at the end.
      await limitRefused(kafka, undefined)
      if (!(Number(processed?.value[1]) > 0)) throw new Error('the other streams do not go on')
    },
  },
  {
    name: 'one stream that an operator pauses',
    fires: ['KafkaTraceStreamPaused'],
    timeoutMs: 150_000,
    async begin({ kafka }) {
      await kafka.createTopics(streamTopics('default', PAUSED_STREAM), 2)
      await kafka.createTopics([CONTROL_TOPIC], 1)
      await control(kafka, 'paused')
    },
    async end({ kafka, query }) {
      const [processed] = await query(
        'sum(increase(kafkatrace_consumer_events_total{stream="events",outcome="processed"}[5s]))',
      )
      await control(kafka, 'running')
      if (!(Number(processed?.value[1]) > 0)) throw new Error('the other streams do not go on')
    },
  },
  {
    name: 'a stream whose topics are deleted',
    fires: ['KafkaTraceStreamsBlocked'],
    timeoutMs: 60_000,
    begin: ({ kafka }) =>
      deleteTopics(kafka.bootstrapServers, WIRE_TIMEOUT_MS, streamTopics('default', DELETED_STREAM)),
    async end({ kafka, producer, consumer }) {
      await kafka.createTopics(streamTopics('default', DELETED_STREAM), 2)
      await Promise.all([producer.ready(), consumer.ready()])
    },
  },
  {
    name: 'two processes of one name',
    fires: ['KafkaTraceClientsReplaced'],
    timeoutMs: 60_000,
    begin: async ({ twin }) => twin.start(),
    async end({ twin, consumer }) {
      await twin.terminate()
      await consumer.ready()
    },
  },
  {
    name: 'Kafka that hangs',
    fires: ['KafkaTraceCommitsStalled', 'KafkaTraceNothingRead'],
    timeoutMs: 90_000,
    async begin(rig) {
      // They are decided when Kafka no longer answers.
      await sendInBatches(rig, events('slow', 40, 3_000))
      await Bun.sleep(1_000)
      process.kill(rig.kafka.pid(0), 'SIGSTOP')
    },
    async end({ kafka, producer, consumer }) {
      process.kill(kafka.pid(0), 'SIGCONT')
      await Promise.all([producer.ready(), consumer.ready()])
    },
  },
  {
    name: 'events that no handler can handle',
    fires: ['KafkaTraceDeadLetters', 'KafkaTraceRetryBacklog'],
    timeoutMs: 60_000,
    async begin(rig, signal) {
      await sendInBatches(rig, events('always', 1_400))
      void repeated(signal, 500, () => rig.send(events('hopeless', 5)))
    },
    end: nothing,
  },
  {
    name: 'handlers that throw where nobody catches',
    fires: ['KafkaTraceUncaughtErrors'],
    timeoutMs: 60_000,
    async begin(rig, signal) {
      void repeated(signal, 500, () => rig.send(events('stray', 5)))
    },
    end: nothing,
  },
  // What these do takes long to get over: the faults after it do not need the consumer, or have another rig.
  {
    name: 'handlers that hang until memory is full',
    fires: [
      'KafkaTraceConsumerFull',
      'KafkaTraceConsumerStalled',
      'KafkaTraceConsumerFallsBehind',
      'KafkaTraceConsumerLate',
      'KafkaTraceOutcomeBudgetBurnsFast',
      'KafkaTraceOutcomeBudgetBurnsSlowly',
    ],
    timeoutMs: SLOW_WORK_MS + 10_000,
    async begin(rig) {
      // These leave memory for few others. Requests that find no room are sent again when the first of these have ended.
      await sendInBatches(rig, events('slow', 480, SLOW_WORK_MS))
      await sendInBatches(rig, events('slow', 40, SLOW_WORK_MS / 3))
    },
    end: nothing,
  },
  {
    name: 'members of the group that come and go',
    fires: ['KafkaTraceRebalances'],
    timeoutMs: 60_000,
    async begin({ second, third }, signal) {
      // The others learn of it with their heartbeats, and one member that joins and leaves could fall into step with two of those. With two such members, one
      // changes between any two heartbeats.
      for (const member of [second, third])
        void repeated(signal, 0, async () => {
          member.start()
          await member.ready().catch(() => undefined)
          await member.terminate()
        })
    },
    end: nothing,
  },
  {
    name: 'a thread that is busy with costly requests',
    fires: ['KafkaTraceProducerOverloaded'],
    timeoutMs: 60_000,
    async begin(rig, signal) {
      // Checked to the end, where the last event is invalid: it uses CPU and no Kafka. None is so large that it has to wait.
      const attributes = Object.fromEntries(Array.from({ length: 100 }, (_, number) => [`a${number}`, 1]))
      const costly = [...events('odd', 50).map((event) => ({ ...event, ...attributes })), { type: '' }]
      for (let client = 0; client < 100; client++) void repeated(signal, 0, () => rig.send(costly))
    },
    end: nothing,
  },
  {
    name: 'one producer without Kafka',
    fires: ['KafkaTraceProducerCutOff'],
    timeoutMs: 60_000,
    begin: async ({ cutOff }) => cutOff.start(),
    end: async ({ cutOff }) => void (await cutOff.terminate()),
  },
  {
    name: 'a prober with a wrong key',
    fires: ['KafkaTraceProbesRefused'],
    timeoutMs: 60_000,
    begin: (rig) => rig.proberKey(false),
    end: (rig) => rig.proberKey(true),
  },
  {
    name: 'a prober that ends',
    fires: ['KafkaTraceProbesMissing'],
    timeoutMs: 60_000,
    begin: (rig) => rig.prober(false),
    end: (rig) => rig.prober(true),
  },
]

const DELETED_STREAM = 'deleted'
const PAUSED_STREAM = 'halted'
const REFUSED_STREAM = 'refused'
const REFUSED_PARTITIONS = 2

/** Limits the size of the topic with the stream's outcomes. */
async function limitRefused({ bootstrapServers }: Rig['kafka'], bytes: string | undefined): Promise<void> {
  for (const role of ['processed', 'dlq'] as const)
    await alterTopic(
      bootstrapServers,
      WIRE_TIMEOUT_MS,
      siblingTopic(inputTopic('default', REFUSED_STREAM), role),
      'max.message.bytes',
      bytes,
    )
}

/** Pauses or resumes the stream. */
const control = ({ bootstrapServers }: Rig['kafka'], state: StreamControl['state']): Promise<void> =>
  writeRecord(bootstrapServers, CONTROL_TOPIC, 0, {
    key: controlKey('default', PAUSED_STREAM),
    value: Buffer.from(JSON.stringify({ state, by: 'a check', atMs: Date.now(), reason: 'to see' })),
    headers: [],
  })

async function suspended(pid: number, forMs: number): Promise<void> {
  process.kill(pid, 'SIGSTOP')
  await Bun.sleep(forMs)
  process.kill(pid, 'SIGCONT')
}

async function repeated(signal: AbortSignal, pauseMs: number, what: () => Promise<unknown>): Promise<void> {
  while (!signal.aborted) {
    await what()
    if (pauseMs > 0) await Bun.sleep(pauseMs)
  }
}

interface Seen {
  fired: Map<string, string>
  resolved: Set<string>
}

const seconds = (sinceMs: number): string => `${((performance.now() - sinceMs) / 1_000).toFixed(0)} s`

/** Keeps one fault until its alerts fire. Whether they resolve is checked after all faults, since most of that is waiting. */
async function suffer(rig: Rig, fault: Fault, seen: Seen, say: (progress: string) => void): Promise<void> {
  say(`${fault.name}: waiting for ${fault.fires.join(', ')}`)
  const over = new AbortController()
  const begunMs = performance.now()
  await fault.begin(rig, over.signal)
  await holdsWithin(fault.timeoutMs, async () => {
    for (const { alert, summary } of await rig.firing()) {
      if (!fault.fires.includes(alert) || seen.fired.has(alert)) continue
      seen.fired.set(alert, summary)
      say(`${alert} fires after ${seconds(begunMs)}: ${summary}`)
    }
    return fault.fires.every((alert) => seen.fired.has(alert))
  })
  over.abort()
  await fault.end(rig)
}

/** Waits until nothing has fired for a while. */
async function recover(rig: Rig, seen: Seen, say: (progress: string) => void): Promise<void> {
  const endedMs = performance.now()
  let last: FiringAlert[] = []
  let quietSinceMs = endedMs
  await holdsWithin(RESOLVE_TIMEOUT_MS, async () => {
    last = await rig.firing()
    if (last.length > 0) quietSinceMs = performance.now()
    return performance.now() - quietSinceMs >= QUIET_MS
  })
  for (const alert of seen.fired.keys()) if (!last.some((one) => one.alert === alert)) seen.resolved.add(alert)
  say(
    `${last.length === 0 ? 'nothing fires' : `still firing: ${last.map((one) => one.alert).join(', ')}`} after ${seconds(endedMs)}`,
  )
}

/** Reports alerts that no fault fired, or that did not resolve. */
export function faultsOfRun(
  names: readonly string[],
  plan: readonly Pick<Fault, 'name' | 'fires'>[],
  seen: Seen,
): string[] {
  return names.flatMap((alert) => {
    const by = plan.find(({ fires }) => fires.includes(alert))
    if (by === undefined) return [`${alert}: no fault of the run is meant to make it fire`]
    const summary = seen.fired.get(alert)
    if (summary === undefined) return [`${alert}: did not fire by "${by.name}"`]
    if (!/\d/.test(summary)) return [`${alert}: its summary tells no figure: ${summary}`]
    return seen.resolved.has(alert) ? [] : [`${alert}: did not resolve after all faults were over`]
  })
}

/** Most of a fault is waiting, so that several rigs are used at the same time. */
const RIGS = 2

/**
 * Plays faults on a rig of their own.
 * @param next the next fault that no rig has played; undefined when there is none
 * @returns what was seen, and why faults could not be played
 */
async function played(
  next: () => Fault | undefined,
  say: (progress: string) => void,
): Promise<Seen & { broken: string[] }> {
  const rig = await startRig({
    rules: scaledRules,
    streams: [DELETED_STREAM],
    producerEnv: {
      MAX_BATCH_EVENTS: String(MAX_BATCH_EVENTS),
      DELIVERY_TIMEOUT_MS: String(DELIVERY_TIMEOUT_MS),
    },
    consumerEnv: {
      SESSION_TIMEOUT_MS: '6000',
      TRANSACTION_TIMEOUT_MS: '20000',
      HANDLER_TIMEOUT_MS: String(SLOW_WORK_MS * 2),
      MAX_CONCURRENT_HANDLERS: '1000',
      MAX_HELD_BYTES: String(2 * 2 ** 20),
      QUICK_ATTEMPTS: '1',
      MAX_ATTEMPTS: '2',
      RETRY_FIRST_MS: '25000',
    },
    consoleEnv: { FOLLOWER_MAX_BYTES: String(64 * 1024) },
    say,
  })
  const seen = { fired: new Map<string, string>(), resolved: new Set<string>(), broken: [] as string[] }
  const play = (fault: Fault): Promise<void> =>
    suffer(rig, fault, seen, say).catch((error: Error) => void seen.broken.push(`${fault.name}: ${error.message}`))
  const endLoad = rig.load(LOAD_PER_SECOND)
  const own: Fault[] = []
  try {
    for (let fault = next(); fault !== undefined; fault = next()) {
      own.push(fault)
      await play(fault)
    }
    // On a busy machine, a fault of seconds can fall between two scrapes.
    for (const fault of own) if (!fault.fires.every((alert) => seen.fired.has(alert))) await play(fault)
    await recover(rig, seen, say)
  } finally {
    endLoad()
    await rig.stop()
  }
  return seen
}

const alertsFire: Check = {
  name: 'live: every alert fires by a real fault, and resolves',
  counts: 'alerts',
  async run(say) {
    const names = (await alerts()).map(({ alert }) => alert)
    // Once for all: it may have to be installed.
    await tool('prometheus', say)
    const left = [...faults]
    const seen = await Promise.all(Array.from({ length: RIGS }, () => played(() => left.shift(), say)))
    const found = faultsOfRun(names, faults, {
      fired: new Map(seen.flatMap(({ fired }) => [...fired])),
      resolved: seen.map(({ resolved }) => resolved).reduce((all, some) => all.union(some)),
    })
    return { passed: names.length - found.length, faults: [...seen.flatMap(({ broken }) => broken), ...found] }
  },
}

export const faultChecks: readonly Check[] = [alertsFire]
