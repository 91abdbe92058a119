import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type KafkaCluster, startKafka } from '../../shared/kafka/brokers/kafka.ts'
import { findFreePorts } from '../../shared/kafka/brokers/ports.ts'
import { holds, judge, type Log, type Verdict } from './judge.ts'
import { Ledger } from './ledger.ts'
import { type Load, type LoadOptions, PLAIN, startLoad } from './load.ts'
import { createService, type Service } from './processes.ts'
import { createRandom, type Random } from './random.ts'
import { formatReport, type RunFacts } from './report.ts'
import { kcatCommand, scanStream } from './scan.ts'

/**
 * Where a fault is played: a Kafka of its own, since the consumer reads every stream that there is; a producer; consumers; a ledger; and a
 * seed that decides when what happens.
 */

export interface Fault {
  name: string
  /** What is done and what must come of it, in a sentence. */
  what: string
  /** Variables of the services beside those of every run. */
  env?: { producer?: Record<string, string>; consumer?: Record<string, string> }
  /** false: the fault starts the broker itself, after the services. */
  brokerFirst?: boolean
  play(stage: Stage): Promise<void>
  /** What must be so in the end beside the guarantees: what is not, in words. */
  check?(log: Log, verdict: Verdict): string[]
}

export interface Stage {
  readonly random: Random
  readonly ledger: Ledger
  readonly producer: Service
  readonly consumer: Service
  readonly topic: string
  kafka(): KafkaCluster
  /** With `brokerFirst: false`: starts it where the services look for it. */
  startKafka(): Promise<void>
  /** One more consumer, not started: of the same group unless its variables say otherwise. */
  addConsumer(env?: Record<string, string>): Promise<Service>
  /** Begins to send. What is not said is that of an ordinary client. */
  load(options?: Partial<LoadOptions>): Load
  /** Waits for some time, by chance between the two; how long a fault is left alone is what makes it this fault. */
  pause(leastMs: number, mostMs: number): Promise<void>
  /** Notes in the report that this was done. */
  did(what: string): void
  /** Notes something that must not be. */
  wrong(what: string): void
}

export interface RunResult {
  verdict: Verdict
  facts: RunFacts
  /** All that was not as it must be: violations are counted in the verdict, everything else is in words here. */
  wrong: string[]
  ok: boolean
}

const STREAM = 'events'
const TOPIC = `kt.default.${STREAM}`
export const PARTITIONS = 4
export const GROUP = 'faults'
/** How long outcomes may take to be there once the load has ended. */
const SETTLE_TIMEOUT_MS = 60_000
const SETTLE_PAUSE_MS = 250

/** A crashed member and its transaction are found dead soon, so that a run with many crashes takes seconds. */
const KAFKA_SETTINGS = { 'group.min.session.timeout.ms': '500' }
const CONSUMER_ENV = {
  GROUP_ID: GROUP,
  SESSION_TIMEOUT_MS: '1500',
  TRANSACTION_TIMEOUT_MS: '5000',
  HANDLERS_MODULE: join(import.meta.dir, 'handlers.ts'),
  QUICK_ATTEMPTS: '2',
  QUICK_RETRY_FIRST_MS: '10',
  QUICK_RETRY_MAX_MS: '50',
  MAX_ATTEMPTS: '5',
  RETRY_FIRST_MS: '100',
  RETRY_MAX_MS: '500',
  HANDLER_TIMEOUT_MS: '500',
}
const PRODUCER_ENV = {
  AUTH: 'off',
  TOPIC_PARTITIONS: String(PARTITIONS),
  DELIVERY_TIMEOUT_MS: '3000',
  REQUEST_TIMEOUT_MS: '10000',
}

/** The seed of a run: FAULT_SEED, else chance. */
export function seedOf(env: Readonly<Record<string, string | undefined>> = process.env): number {
  const given = env['FAULT_SEED']
  if (given === undefined || given === '') return Math.floor(Math.random() * 2 ** 31)
  if (!/^\d{1,10}$/.test(given)) throw new Error(`FAULT_SEED=${given} is not a whole number`)
  return Number(given)
}

/** Plays a fault and judges it. Nothing that it started outlives it. */
export async function runFault(fault: Fault, seed: number, say: (progress: string) => void): Promise<RunResult> {
  kcatCommand()
  say(`${fault.name}: ${fault.what}; FAULT_SEED=${seed}`)
  const begunMs = performance.now()
  const random = createRandom(seed)
  const directory = await mkdtemp(join(tmpdir(), 'kafkatrace-faults-'))
  const done: Record<string, number> = {}
  const wrong: string[] = []
  const loads: Load[] = []
  const ledger = new Ledger()
  const services: Service[] = []
  let cluster: KafkaCluster | undefined
  try {
    const [port = 0] = await findFreePorts(1)
    const start = async (): Promise<void> => {
      cluster = await startKafka({ ports: [port], settings: KAFKA_SETTINGS })
    }
    if (fault.brokerFirst !== false) {
      await start()
      await kafkaOf(cluster).createTopics([TOPIC, `${TOPIC}.retry`, `${TOPIC}.dlq`, `${TOPIC}.processed`], PARTITIONS)
    }
    const brokers = { KAFKA_BROKERS: `127.0.0.1:${port}` }
    const addService = async (kind: 'producer' | 'consumer', name: string, env: Record<string, string>) => {
      const service = await createService(kind, name, { ...brokers, ...env, ...fault.env?.[kind] }, directory)
      services.push(service)
      return service
    }
    const addConsumer = async (env: Record<string, string> = {}) => {
      const name = `consumer-${services.length}`
      return await addService('consumer', name, { ...CONSUMER_ENV, INSTANCE_ID: name, ...env })
    }
    const producer = await addService('producer', 'producer', PRODUCER_ENV)
    const consumer = await addConsumer()
    for (const service of services) service.start()
    if (fault.brokerFirst !== false) await Promise.all(services.map((service) => service.ready()))

    await fault.play({
      random,
      ledger,
      producer,
      consumer,
      topic: TOPIC,
      kafka: () => kafkaOf(cluster),
      startKafka: start,
      addConsumer,
      load(options) {
        const load = startLoad({
          url: `http://127.0.0.1:${producer.port}`,
          stream: STREAM,
          ledger,
          random: random.fork(),
          name: `${seed}-${loads.length}`,
          eventsPerSecond: 500,
          kinds: [PLAIN],
          keys: 200,
          keyless: 0.25,
          wrong: 0.03,
          repeatedAnyway: 0.02,
          timeoutMs: [8_000, 10_000],
          ...options,
        })
        loads.push(load)
        return load
      },
      pause: (leastMs, mostMs) => Bun.sleep(random.integer(leastMs, mostMs)),
      did(what) {
        done[what] = (done[what] ?? 0) + 1
      },
      wrong: (what) => void wrong.push(what),
    })

    await Promise.all(loads.map((load) => load.stop()))
    const bootstrap = kafkaOf(cluster).bootstrapServers
    await settle(bootstrap, ledger)
    for (const service of services.filter((one) => one.running())) {
      const { exitCode, seconds } = await service.terminate()
      if (exitCode !== 0)
        wrong.push(
          `${service.name} ended with ${exitCode} after ${seconds.toFixed(1)} s; it logged:\n${await service.lastLines()}`,
        )
    }
    const log = await scanStream(bootstrap, TOPIC)
    const verdict = judge(ledger.entries(), log)
    wrong.push(...(fault.check?.(log, verdict) ?? []))
    const facts: RunFacts = {
      fault: fault.name,
      seed,
      seconds: (performance.now() - begunMs) / 1000,
      requests: sum(loads.map((load) => load.facts.requests)),
      repeated: sum(loads.map((load) => load.facts.repeated)),
      answers: ledger.answers(),
      done,
    }
    const ok = holds(verdict) && wrong.length === 0
    if (!ok) {
      for (const service of services) wrong.push(`the last lines of ${service.name}:\n${await service.lastLines()}`)
    }
    say(formatReport(facts, verdict, process.stdout.isTTY === true && process.env['NO_COLOR'] === undefined))
    for (const what of wrong) say(`  wrong: ${what}`)
    return { verdict, facts, wrong, ok }
  } finally {
    await Promise.all(loads.map((load) => load.stop()))
    for (const service of services) if (service.running()) await service.kill()
    await cluster?.stop()
    if (wrong.length === 0) await rm(directory, { recursive: true, force: true })
    else say(`  all that the services logged: ${directory}`)
  }
}

/** Waits until every event in the log has an outcome. What has none after that long has none: the judge says so. */
async function settle(brokers: string, ledger: Ledger): Promise<void> {
  const deadline = performance.now() + SETTLE_TIMEOUT_MS
  while (performance.now() < deadline) {
    // A broker that has just come back may not answer a scan yet.
    const log = await scanStream(brokers, TOPIC).catch(() => undefined)
    const verdict = log === undefined ? undefined : judge(ledger.entries(), log)
    if (verdict !== undefined && verdict.processed + verdict.dead >= verdict.inLog) return
    await Bun.sleep(SETTLE_PAUSE_MS)
  }
}

function kafkaOf(cluster: KafkaCluster | undefined): KafkaCluster {
  if (cluster === undefined) throw new Error('there is no broker yet')
  return cluster
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0)
