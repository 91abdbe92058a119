import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type KafkaCluster, type KafkaOptions, startKafka } from '../../shared/dev/brokers/kafka.ts'
import { findFreePorts, releasePorts } from '../../shared/dev/brokers/ports.ts'
import { type KafkaProxy, startKafkaProxy } from '../../shared/testing/kafka-proxy.ts'
import { kcatCommand } from '../../shared/testing/kcat.ts'
import type { ServiceKind } from '../../shared/testing/service-process.ts'
import { createService, type Ending, type Service, STOP_LIMIT_SECONDS } from '../../shared/testing/services.ts'
import { type Changes, holds, judge, type Log, type Verdict } from './judge.ts'
import { Ledger } from './ledger.ts'
import { type Load, type LoadOptions, PLAIN, startLoad } from './load.ts'
import { createNetwork, type TestNetwork } from './network.ts'
import { createRandom, type Random } from './random.ts'
import { formatReport, type Round, type RunFacts } from './report.ts'
import { scanStream } from './scan.ts'
import { lookFromOutside, type Watch, watchCommits } from './watch.ts'

/**
 * The set-up of a fault: its own Kafka, since the consumer reads every stream; a producer; consumers; a ledger; an outside
 * observer; and a seed that decides when things happen.
 */

export type NodeCount = 1 | 3

/** Brokers of its own that a fault needs, and what services need to know of them. */
export interface Prepared {
  kafka: KafkaCluster
  /** Variables of the services, the address of the brokers among them. */
  env: Readonly<Record<'producer' | 'consumer', Record<string, string>>>
  play(stage: Stage): Promise<void>
  stop(options: { keepDirectory: boolean }): Promise<void>
}

interface Described {
  name: string
  /** What is done, and the expected result, in one sentence. */
  what: string
  /** The number of nodes that it needs; any number if not given. */
  nodes?: NodeCount
  /** Variables of the services, besides those of every run. */
  env?: Partial<Record<ServiceKind, Record<string, string>>>
  /** Users of the brokers that the services authenticate as, with their initial ACLs. */
  users?: KafkaOptions['users']
  permit?(kafka: KafkaCluster): Promise<void>
  /** Every node has its own address, and its connections can be cut. */
  network?: true
  /** Everybody reaches the brokers through a proxy that can hold back their messages. */
  proxy?: true
  /** false: the fault starts the broker itself, after the services. */
  brokerFirst?: boolean
  /** Additional conditions at the end, besides the guarantees. Returns what does not hold, in words. */
  check?(log: Log, verdict: Verdict): string[]
}

/** A fault that needs more than an ordinary Kafka prepares it, in a folder that is removed after the run, and is played with that. */
export type Fault = Described &
  (
    | { play(stage: Stage): Promise<void> }
    | { prepare(folder: string): Promise<Prepared>; network?: never; proxy?: never }
  )

/** The limit for the first commit after something is back. */
const COMMIT_LIMITS_SECONDS = {
  /** A broker, an ACL or a topic is back. */
  ordinary: 30,
  /** A member is gone, and the group notices when its session times out. */
  session: 60,
} as const

/** The services' defaults, to which the duration of faults relates. */
export const DEFAULT_TIMES = {
  consumer: { SESSION_TIMEOUT_MS: '10000', TRANSACTION_TIMEOUT_MS: '10000' },
  producer: { DELIVERY_TIMEOUT_MS: '10000', REQUEST_TIMEOUT_MS: '30000' },
} as const

export interface Stage {
  readonly random: Random
  readonly ledger: Ledger
  readonly producer: Service
  readonly consumer: Service
  readonly topic: string
  /** Fewer rounds and shorter faults, for tests. */
  readonly short: boolean
  kafka(): KafkaCluster
  /** With `network`. */
  network(): TestNetwork
  /** With `proxy`. */
  proxy(): KafkaProxy
  /** With `brokerFirst: false`: starts it where the services look for it. */
  startKafka(): Promise<void>
  /** A random node. */
  anyNode(): number
  /** One more consumer, not started, by default in the same group. */
  addConsumer(env?: Record<string, string>): Promise<Service>
  /** One more producer, not started, on the port of the first, which needs `REUSE_PORT=on`. */
  addProducer(): Promise<Service>
  /** A console, not started. */
  addConsole(): Promise<Service>
  /** Starts to send. Options default to those of an ordinary client. */
  load(options?: Partial<LoadOptions>): Load
  /** Waits for a random time between the two. Only for how long a fault lasts. */
  pause(leastMs: number, mostMs: number): Promise<void>
  /**
   * Call when everything is back: waits until an event is acknowledged and then every partition with undecided events is committed, and notes how
   * long that took. Exceeding the limit is a fault. If it never happens, the run is aborted. Needs a running load.
   */
  recovered(what: string, limit: keyof typeof COMMIT_LIMITS_SECONDS): Promise<void>
  /** Sends SIGTERM. The service must end within the limit, whatever is unavailable. */
  stop(service: Service): Promise<Ending>
  /** Judges everything so far and forgets it, so that what follows is judged separately. The load must have stopped. */
  judgeSoFar(): Promise<void>
  /** The log, once every event in it has an outcome. @throws Error when that takes too long */
  settled(): Promise<Log>
  /** Tells the judge that the fault changed the topics themselves. */
  changed(changes: Changes): void
  /** Counts an action in the report. */
  did(what: string): void
  /** Reports a fault, in words. */
  wrong(what: string): void
}

export interface RunOptions {
  seed: number
  /** One, unless the fault needs another number. */
  nodes?: NodeCount
  short?: boolean
  /** Keeps the brokers' data when the run failed. */
  keepData?: boolean
}

export interface RunResult {
  verdict: Verdict
  facts: RunFacts
  /** Everything that was wrong: violations are counted in the verdict, the rest is here in words. */
  wrong: string[]
  ok: boolean
}

export const STREAM = 'events'
const TOPIC = `kt.default.${STREAM}`
/** The four topics of a stream. */
export const TOPICS = [TOPIC, `${TOPIC}.retry`, `${TOPIC}.dlq`, `${TOPIC}.processed`]
export const PARTITIONS = 4
export const GROUP = 'faults'
/** How long outcomes may take once the load has ended. */
const SETTLE_TIMEOUT_MS = 60_000
/** The same, where the fault goes on with the log. */
const SETTLED_TIMEOUT_MS = 180_000
const SETTLE_PAUSE_MS = 250
/** Without a commit for this long, there will be none. */
const NEVER_SECONDS = 120
const ANSWER_PAUSE_MS = 10

/** Dead members and their transactions are detected soon, so that a run with many crashes takes seconds. */
const KAFKA_SETTINGS = {
  'group.min.session.timeout.ms': '500',
  // As in production: a metadata request does not create topics.
  'auto.create.topics.enable': 'false',
}
const CONSUMER_ENV = {
  GROUP_ID: GROUP,
  SESSION_TIMEOUT_MS: '1500',
  TRANSACTION_TIMEOUT_MS: '5000',
  HANDLERS_MODULE: join(import.meta.dir, '../../consumer/testing/faulty-handlers.ts'),
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

/** The secret of the source "github". */
export const WEBHOOK_SECRET = 'the-secret-of-the-fault-runs'

const TENANTS = {
  tenants: {
    default: {
      streams: [STREAM],
      keys: [],
      sources: { github: { kind: 'github', stream: STREAM, secrets: [WEBHOOK_SECRET] } },
    },
  },
}

const CONSOLE_ENV = {
  AUTH: 'off',
  GROUP_ID: GROUP,
  TRANSACTION_TIMEOUT_MS: '5000',
}

/** The seed of a run: FAULT_SEED, else random. */
export function seedOf(env: Readonly<Record<string, string | undefined>> = process.env): number {
  const given = env['FAULT_SEED']
  if (given === undefined || given === '') return Math.floor(Math.random() * 2 ** 31)
  if (!/^\d{1,10}$/.test(given)) throw new Error(`FAULT_SEED=${given} is not a whole number`)
  return Number(given)
}

/** Runs a fault and judges it. Nothing that it started outlives it. */
export async function runFault(fault: Fault, options: RunOptions, say: (progress: string) => void): Promise<RunResult> {
  kcatCommand()
  const run = new Run(fault, options, await mkdtemp(join(tmpdir(), 'kafkatrace-faults-')), say)
  say(`${fault.name}: ${fault.what}; nodes ${run.nodes}, FAULT_SEED=${options.seed}`)
  try {
    await run.begin()
    await run.play()
    const result = await run.conclude()
    const colour = process.stdout.isTTY === true && process.env['NO_COLOR'] === undefined
    say(formatReport(result.facts, result.verdict, result.wrong.length, colour))
    for (const what of result.wrong) say(`  wrong: ${what}`)
    return result
  } catch (error) {
    run.wrong((error as Error).message)
    throw error
  } finally {
    await run.end()
  }
}

class Run implements Stage {
  readonly random: Random
  readonly ledger = new Ledger()
  readonly topic = TOPIC
  readonly short: boolean
  readonly nodes: NodeCount
  readonly #fault: Fault
  readonly #options: RunOptions
  readonly #directory: string
  readonly #say: (progress: string) => void
  readonly #begunMs = performance.now()
  readonly #services: Service[] = []
  /** Consumers of the judged group. */
  readonly #consumers: Service[] = []
  readonly #loads: Load[] = []
  readonly #done: Record<string, number> = {}
  readonly #wrong: string[] = []
  readonly #rounds: Round[] = []
  readonly #stops: number[] = []
  readonly #ports: number[] = []
  #changes: Changes = {}
  #verdict: Verdict | undefined
  #answers = { acknowledged: 0, unknown: 0, refused: 0 }
  #cluster: KafkaCluster | undefined
  #prepared: Prepared | undefined
  #network: TestNetwork | undefined
  #proxy: KafkaProxy | undefined
  #watch: Watch | undefined

  constructor(fault: Fault, options: RunOptions, directory: string, say: (progress: string) => void) {
    this.#fault = fault
    this.#options = options
    this.#directory = directory
    this.#say = say
    this.nodes = options.nodes ?? fault.nodes ?? 1
    if (fault.nodes !== undefined && this.nodes !== fault.nodes)
      throw new Error(`${fault.name} is played on ${fault.nodes} nodes only`)
    this.short = options.short ?? false
    this.random = createRandom(options.seed)
  }

  get producer(): Service {
    return this.#services[0] ?? missing('producer')
  }

  get consumer(): Service {
    return this.#consumers[0] ?? missing('consumer')
  }

  kafka(): KafkaCluster {
    return this.#cluster ?? missing('broker')
  }

  network(): TestNetwork {
    return this.#network ?? missing('network of its own')
  }

  proxy(): KafkaProxy {
    return this.#proxy ?? missing('proxy')
  }

  async begin(): Promise<void> {
    const { brokerFirst = true, network = false, proxy = false } = this.#fault
    this.#ports.push(...(await findFreePorts(this.nodes)))
    if (network) this.#network = await createNetwork(this.nodes)
    if (proxy) this.#proxy = await startKafkaProxy(this.#ports)
    if (brokerFirst) {
      await this.startKafka()
      await this.kafka().createTopics(TOPICS, PARTITIONS)
      await this.#fault.permit?.(this.kafka())
    }
    await this.#addProducer('producer')
    await this.addConsumer()
    for (const service of this.#services) service.start()
    if (brokerFirst) await Promise.all(this.#services.map((service) => service.ready()))
    this.#watch = watchCommits({
      look: lookFromOutside(() => this.#cluster?.bootstrapServers.split(',') ?? [], GROUP, TOPIC),
      // A frozen process does not answer, and its partitions are reassigned once its session is over.
      consumers: () => this.#consumers.filter((one) => !one.frozen()),
      wrong: (what) => this.wrong(what),
    })
  }

  /** Runs the fault. If that fails half-way, restores everything, so that the run can still be judged. */
  async play(): Promise<void> {
    try {
      await ('play' in this.#fault ? this.#fault : (this.#prepared ?? missing('preparation'))).play(this)
    } catch (error) {
      this.wrong(`broken off: ${(error as Error).message}`)
      await this.#network?.healAll()
      await this.#cluster?.restore()
      for (const service of this.#services) if (service.running()) service.thaw()
      for (const service of [this.producer, this.consumer]) if (!service.running()) service.start()
    }
    await Promise.all(this.#loads.map((load) => load.stop()))
    const givenUp = sum(this.#loads.map((load) => load.facts.givenUp))
    if (givenUp > 0) this.wrong(`requests that were never answered for good: ${givenUp}`)
  }

  async conclude(): Promise<RunResult> {
    await this.#settle()
    await this.#watch?.stop()
    for (const service of this.#services.filter((one) => one.running())) {
      const { code, seconds } = await this.stop(service)
      if (code !== 0)
        this.wrong(
          `${service.name} ended with ${code} after ${seconds.toFixed(1)} s; it logged:\n${await service.lastLines()}`,
        )
    }
    const { log, verdict } = await this.#judge()
    for (const what of this.#fault.check?.(log, verdict) ?? []) this.wrong(what)
    const facts: RunFacts = {
      fault: this.#fault.name,
      nodes: this.nodes,
      seed: this.#options.seed,
      seconds: (performance.now() - this.#begunMs) / 1000,
      requests: sum(this.#loads.map((load) => load.facts.requests)),
      repeated: sum(this.#loads.map((load) => load.facts.repeated)),
      answers: this.#answers,
      done: this.#done,
      rounds: this.#rounds,
      stops: this.#stops,
    }
    if (!holds(verdict))
      await Bun.write(join(this.#directory, 'violations.json'), JSON.stringify(verdict.violations, undefined, 2))
    const ok = holds(verdict) && this.#wrong.length === 0
    if (!ok)
      for (const service of this.#services)
        this.wrong(`the last lines of ${service.name}:\n${await service.lastLines()}`)
    return { verdict, facts, wrong: this.#wrong, ok }
  }

  /** Stops everything that was started for the run. */
  async end(): Promise<void> {
    const red = this.#wrong.length > 0
    const keepDirectory = red && this.#options.keepData === true
    await Promise.all(this.#loads.map((load) => load.stop()))
    await this.#watch?.stop()
    for (const service of this.#services) {
      if (service.running()) await service.kill()
      service.releasePorts()
    }
    await (this.#prepared ?? this.#cluster)?.stop({ keepDirectory })
    await this.#network?.stop()
    await this.#proxy?.stop()
    releasePorts(this.#ports)
    if (keepDirectory && this.#cluster !== undefined) this.#say(`  the brokers’ data: ${this.#cluster.directory}`)
    if (red) this.#say(`  all that the services logged: ${this.#directory}`)
    else await rm(this.#directory, { recursive: true, force: true })
  }

  async startKafka(): Promise<void> {
    if ('prepare' in this.#fault) {
      this.#prepared = await this.#fault.prepare(this.#directory)
      this.#cluster = this.#prepared.kafka
      return
    }
    const { users } = this.#fault
    this.#cluster = await startKafka({
      nodes: this.nodes,
      ports: this.#ports,
      settings: KAFKA_SETTINGS,
      ...(this.#proxy === undefined ? {} : { advertisedPorts: this.#proxy.ports }),
      ...(this.#network === undefined ? {} : { places: this.#network.places }),
      ...(users === undefined ? {} : { users }),
    })
  }

  anyNode(): number {
    return this.nodes === 1 ? 0 : this.random.integer(0, this.nodes - 1)
  }

  async addConsumer(env: Record<string, string> = {}): Promise<Service> {
    const name = `consumer-${this.#services.length}`
    const service = await this.#addService('consumer', name, { ...CONSUMER_ENV, INSTANCE_ID: name, ...env })
    if ((env['GROUP_ID'] ?? GROUP) === GROUP) this.#consumers.push(service)
    return service
  }

  addProducer(): Promise<Service> {
    return this.#addProducer(`producer-${this.#services.length}`, this.producer.port)
  }

  async #addProducer(name: string, sharedPort?: number): Promise<Service> {
    const TENANTS_FILE = join(this.#directory, 'tenants.json')
    await Bun.write(TENANTS_FILE, JSON.stringify(TENANTS))
    return this.#addService('producer', name, { ...PRODUCER_ENV, TENANTS_FILE }, sharedPort)
  }

  addConsole(): Promise<Service> {
    return this.#addService('console', `console-${this.#services.length}`, CONSOLE_ENV)
  }

  async #addService(
    kind: ServiceKind,
    name: string,
    env: Record<string, string>,
    sharedPort?: number,
  ): Promise<Service> {
    const { users, env: own } = this.#fault
    const servers = users === undefined ? this.#cluster?.bootstrapServers : this.kafka().userServers
    const brokers = { KAFKA_BROKERS: servers ?? this.#ports.map((port) => `127.0.0.1:${port}`).join(',') }
    const prepared = kind === 'console' ? undefined : this.#prepared?.env[kind]
    const service = await createService(
      kind,
      name,
      { ...brokers, ...env, ...own?.[kind], ...prepared },
      this.#directory,
      sharedPort,
    )
    this.#services.push(service)
    return service
  }

  load(options: Partial<LoadOptions> = {}): Load {
    const load = startLoad({
      url: `http://127.0.0.1:${this.producer.port}`,
      stream: STREAM,
      ledger: this.ledger,
      random: this.random.fork(),
      name: `${this.#options.seed}-${this.#loads.length}`,
      eventsPerSecond: 500,
      kinds: [PLAIN],
      keys: 200,
      keyless: 0.25,
      wrong: 0.03,
      repeatedAnyway: 0.02,
      timeoutMs: [8_000, 10_000],
      ...options,
    })
    this.#loads.push(load)
    return load
  }

  pause(leastMs: number, mostMs: number): Promise<void> {
    return Bun.sleep(this.random.integer(leastMs, mostMs))
  }

  async recovered(what: string, limit: keyof typeof COMMIT_LIMITS_SECONDS): Promise<void> {
    const limitSeconds = COMMIT_LIMITS_SECONDS[limit]
    const sinceMs = performance.now()
    const elapsedMs = () => performance.now() - sinceMs
    try {
      await this.#nextAcknowledgement()
      const waiting = (await this.#watch?.nextCommit(NEVER_SECONDS * 1_000 - elapsedMs())) ?? missing('watch')
      if (waiting.length > 0)
        throw new Error(`no commit within ${NEVER_SECONDS} s in the partitions ${waiting.join(', ')}`)
    } catch (error) {
      this.#rounds.push({ what, seconds: undefined, limitSeconds })
      const running = this.#services.filter((one) => one.running())
      const states = await Promise.all(running.map(async (one) => `${one.name}: ${(await one.unready()) ?? 'ready'}`))
      throw new Error([`${what}: ${(error as Error).message}`, ...states].join('\n'))
    }
    const seconds = elapsedMs() / 1_000
    this.#rounds.push({ what, seconds, limitSeconds })
    this.#say(`  ${what}: committed after ${seconds.toFixed(1)} s`)
    if (seconds > limitSeconds)
      this.wrong(`${what}: ${seconds.toFixed(1)} s to the next commit of every partition; at most ${limitSeconds} s`)
  }

  /** Resolves when a request is answered with 202. */
  async #nextAcknowledgement(): Promise<void> {
    const answered = () => sum(this.#loads.map(({ facts }) => facts.statuses[202] ?? 0))
    const [before, deadline] = [answered(), performance.now() + NEVER_SECONDS * 1_000]
    while (answered() === before) {
      if (performance.now() > deadline) throw new Error(`no event was acknowledged within ${NEVER_SECONDS} s`)
      await Bun.sleep(ANSWER_PAUSE_MS)
    }
  }

  async stop(service: Service): Promise<Ending> {
    const ended = await service.terminate()
    this.#stops.push(ended.seconds)
    if (ended.seconds > STOP_LIMIT_SECONDS)
      this.wrong(
        `${service.name} took ${ended.seconds.toFixed(1)} s to end after SIGTERM, of ${STOP_LIMIT_SECONDS} s at most`,
      )
    return ended
  }

  changed(changes: Changes): void {
    this.#changes = { ...this.#changes, ...changes }
  }

  did(what: string): void {
    this.#done[what] = (this.#done[what] ?? 0) + 1
  }

  wrong(what: string): void {
    this.#wrong.push(what)
  }

  async judgeSoFar(): Promise<void> {
    await this.#settle()
    await this.#judge()
    this.ledger.clear()
  }

  async settled(): Promise<Log> {
    return (await this.#settle(SETTLED_TIMEOUT_MS)) ?? missing('outcome of every event')
  }

  /** Judges the ledger, and adds the verdict to the earlier ones. */
  async #judge(): Promise<{ log: Log; verdict: Verdict }> {
    const log = await scanStream(this.kafka().bootstrapServers, TOPIC)
    const verdict = together(this.#verdict, judge(this.ledger.entries(), log, this.#changes))
    this.#verdict = verdict
    const { acknowledged, unknown, refused } = this.ledger.answers()
    this.#answers = {
      acknowledged: this.#answers.acknowledged + acknowledged,
      unknown: this.#answers.unknown + unknown,
      refused: this.#answers.refused + refused,
    }
    return { log, verdict }
  }

  /** Waits until every event in the log has an outcome, up to a limit. The judge reports events without one. */
  async #settle(timeoutMs = SETTLE_TIMEOUT_MS): Promise<Log | undefined> {
    const deadline = performance.now() + timeoutMs
    while (performance.now() < deadline) {
      // A broker that has just come back may not answer a scan yet.
      const log = await scanStream(this.kafka().bootstrapServers, TOPIC).catch(() => undefined)
      if (log !== undefined && judge(this.ledger.entries(), log, this.#changes).undecided === 0) return log
      await Bun.sleep(SETTLE_PAUSE_MS)
    }
    return undefined
  }
}

/** Adds two verdicts of the same run. */
function together(before: Verdict | undefined, { violations, ...figures }: Verdict): Verdict {
  const sums = { ...figures }
  for (const name of Object.keys(figures) as (keyof typeof figures)[]) sums[name] += before?.[name] ?? 0
  return { ...sums, violations: [...(before?.violations ?? []), ...violations] }
}

function missing(what: string): never {
  throw new Error(`there is no ${what}`)
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0)
