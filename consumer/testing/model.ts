import { Type } from '@sinclair/typebox'
import pino from 'pino'
import {
  GENERATION,
  type HeaderValue,
  headersOf,
  headerText,
  ORIGIN,
  REDRIVEN_FROM,
  TRANSACTION,
  withHeaders,
} from '../../shared/events/headers.ts'
import { generationOf } from '../../shared/events/identity.ts'
import { type IncomingRecord, type OutgoingRecord, toRecord } from '../../shared/events/record.ts'
import { siblingTopic, streamTopics, type TopicRole } from '../../shared/events/topics.ts'
import { RELEASE_SUFFIX } from '../../shared/kafka/transactor.ts'
import type { TopicPartition } from '../../shared/kafka/types.ts'
import { partitionName } from '../../shared/kafka/types.ts'
import { sleep } from '../../shared/service/retry.ts'
import type { Mark, MarkFate } from '../../shared/testing/fake-broker.ts'
import {
  FakeKafka,
  type FakeMember,
  type FakeProcess,
  type Step,
  type StepFault,
} from '../../shared/testing/fake-kafka.ts'
import type { SimulatedTime } from '../../shared/testing/simulated-time.ts'
import { originOf } from '../decode.ts'
import { defineHandler, TerminalError } from '../handlers/handler.ts'
import { recoveryIds } from '../hanging.ts'
import { createMetrics } from '../metrics.ts'
import { Pipeline } from '../pipeline.ts'
import { originalHeaders } from '../retry.ts'
import { SOMETIMES_PASSING } from './passing.ts'
import { testDeps } from './pipeline.ts'

/** Consumers on a model of Kafka, steps that happen to them, and a check of the outcomes. */

export const PARTITIONS = 2
export const PROCESSES = 2
/** Keys are assigned to partitions in turn. */
export const KEYS = 4

const INPUT = 'kt.acme.events'
const GROUP = 'group'
const SOURCE = '/model'
const SESSION_TIMEOUT_MS = 6_000
const TRANSACTION_TIMEOUT_MS = 10_000

/** How often the group assigns partitions. */
const GROUP_PAUSE_MS = 50

/** The longest that a broker takes to answer without a fault. */
const LATENCY_MS = 4

/** How long it may take until everything is done, after the last step. */
const CALM_TIMEOUT_MS = 240_000

/** How an event's handler behaves, by the event's type. */
export const EVENT_TYPES = ['plain', 'handled', 'slow', 'fails once', 'fails thrice', 'terminal', 'hopeless'] as const
export type EventType = (typeof EVENT_TYPES)[number]

const typeName = (type: EventType): string => type.replaceAll(' ', '.')

export type Output = Exclude<TopicRole, 'retry'> | 'retry'

/** What happens. Indices of processes, partitions and keys are taken modulo their number. */
export type Happening =
  | { kind: 'event'; type: EventType; key: number | undefined }
  /** A client sends an earlier event again. */
  | { kind: 'repeat'; event: number }
  /** A dead letter is redriven, possibly once more; with another type, its handler may succeed. */
  | { kind: 'redrive'; letter: number; type: EventType | undefined }
  | { kind: 'poison'; key: number }
  | { kind: 'time'; ms: number }
  /** The group assigns a partition to a process; to none when undefined. */
  | { kind: 'give'; partition: number; to: number | undefined }
  /** A process does not reach the group until its session is over, and learns of that later. */
  | { kind: 'expire'; process: number; learnsAfterMs: number }
  /** SIGKILL, and a new process later. */
  | { kind: 'kill'; process: number; backAfterMs: number }
  | { kind: 'disconnect' }
  /** A process reads from former leaders, and learns of that later. */
  | { kind: 'stale'; process: number; ms: number }
  /** The next such step of a process. */
  | { kind: 'step'; process: number; name: Step['name']; of: Step['kind']; fate: StepFate }
  /** The markers of a process's next transaction. */
  | { kind: 'marks'; process: number; offsets: MarkKind; outputs: MarkKind }
  /** A topic's partition accepts no records for a while. */
  | { kind: 'refuse'; partition: number; role: Output; ms: number; tooLarge: boolean }

export type StepFate =
  | { kind: 'late'; ms: number }
  | { kind: 'abort'; passing: boolean }
  /** A fatal error of the client; if only the response is lost, the transaction took effect. */
  | { kind: 'fatal' }

export type MarkKind = 'written' | 'forgotten' | 'late'

/** How late a late marker is. */
const LATE_MARK_MS = 9_000

/** How long a pipeline may take to stop. */
const STOP_TIMEOUT_MS = 10_000

interface Life {
  process: FakeProcess
  pipeline: Pipeline
  member: FakeMember
  metrics: ReturnType<typeof createMetrics>
}

export class Model {
  readonly kafka = new FakeKafka()
  readonly #processes: ModelProcess[]
  /** The process that a partition is to be assigned to. */
  readonly #wanted: (number | undefined)[] = [0, 0]
  /** The process that it is assigned to, as the group knows. */
  readonly #holders = new Map<number, FakeMember>()
  readonly #moving = new Set<number>()
  readonly #steps: Extract<Happening, { kind: 'step' }>[] = []
  readonly #marks: Extract<Happening, { kind: 'marks' }>[] = []
  readonly #written: OutgoingRecord[] = []
  #events = 0
  #ended = false

  constructor(readonly time: SimulatedTime) {
    const { kafka } = this
    for (const topic of streamTopics('acme', 'events')) kafka.createTopic(topic, PARTITIONS)
    kafka.passing = SOMETIMES_PASSING
    kafka.latency = () => sleep(time.random() * LATENCY_MS)
    kafka.onStep = (step) => this.#step(step)
    kafka.onMark = (mark) => this.#fateOf(mark)
    this.#processes = Array.from({ length: PROCESSES }, (_, index) => new ModelProcess(this, index))
    for (const one of this.#processes) one.start()
    void this.#group()
  }

  /** Fatal errors of clients, and logged errors. */
  get reasons(): readonly string[] {
    return this.#processes.flatMap(({ reasons }) => reasons)
  }

  async happen(happening: Happening): Promise<void> {
    const { kafka, time } = this
    switch (happening.kind) {
      case 'event':
        return this.#write(this.#event(happening.type, happening.key))
      case 'repeat': {
        const again = this.#written[happening.event % Math.max(1, this.#written.length)]
        if (again !== undefined) kafka.append(again)
        return
      }
      case 'redrive':
        return this.#redrive(happening.letter, happening.type)
      case 'poison':
        return this.#write({
          topic: INPUT,
          partition: happening.key % PARTITIONS,
          key: keyName(happening.key),
          value: Buffer.from(String(this.#events++)),
          headers: headersOf({ ce_id: 'no event' }),
        })
      case 'time':
        return time.pass(happening.ms)
      case 'give':
        this.#wanted[happening.partition % PARTITIONS] =
          happening.to === undefined ? undefined : happening.to % PROCESSES
        return
      case 'expire':
        return this.#process(happening.process).expire(happening.learnsAfterMs)
      case 'kill':
        return this.#process(happening.process).kill(happening.backAfterMs)
      case 'disconnect':
        kafka.disconnects++
        return
      case 'stale':
        return this.#process(happening.process).cutOff(happening.ms)
      case 'step':
        this.#steps.push(happening)
        return
      case 'marks':
        this.#marks.push(happening)
        return
      case 'refuse': {
        const { role, partition, ms, tooLarge } = happening
        const topic = siblingTopic(INPUT, role)
        const before = kafka.refuses
        kafka.refuses = (output) =>
          output.topic === topic && output.partition === partition % PARTITIONS && (!tooLarge || output.value !== null)
            ? { reason: 'refused', tooLarge }
            : before(output)
        setTimeout(() => {
          kafka.refuses = () => undefined
        }, ms)
        return
      }
    }
  }

  /** Ends all faults, assigns everything to one process, and waits until everything is done. @returns the violations */
  async judge(): Promise<string[]> {
    this.#steps.length = 0
    this.#marks.length = 0
    this.kafka.refuses = () => undefined
    this.#wanted.fill(0)
    const isDone = await this.time.until(() => this.#unfinished().length === 0, CALM_TIMEOUT_MS)
    const faults = isDone ? [] : [`after ${CALM_TIMEOUT_MS / 1_000} s: ${this.#unfinished().join('; ')}`]
    faults.push(...this.#outcomeFaults(), ...this.#orderFaults())
    for (const one of this.#processes) {
      const repaired = await one.repaired()
      if (repaired > 0 && !this.#isRecoveryBrokenOff()) faults.push(`${repaired} records were repaired`)
    }
    const { reasons } = this
    faults.push(...reasons.filter((reason) => STATE_FAULT.test(reason)))
    this.#ended = true
    let areStopped = false
    void Promise.all(this.#processes.map((one) => one.stop())).then(() => {
      areStopped = true
    })
    if (!(await this.time.until(() => areStopped, STOP_TIMEOUT_MS))) faults.push('a pipeline does not stop')
    return faults
  }

  // ---- events

  #event(type: EventType, key: number | undefined): OutgoingRecord {
    const id = String(this.#events++)
    const at = key === undefined ? Number(id) : key
    const event = {
      id,
      source: SOURCE,
      type: typeName(type),
      ...(key === undefined ? {} : { subject: keyName(key) }),
      datacontenttype: 'application/json',
      extensions: {},
      data: Buffer.from('{}'),
    }
    const place = { topic: INPUT, partition: at % PARTITIONS, tenant: 'acme', receivedAtMs: Date.now() }
    const record = toRecord(event, place)
    return { ...record, key: key === undefined ? null : keyName(key) }
  }

  #redrive(letter: number, type: EventType | undefined): void {
    const letters = this.#logs('dlq').flatMap(({ topic, partition }) => this.kafka.records(topic, partition))
    const dead = letters[letter % Math.max(1, letters.length)]
    if (dead === undefined) return
    const names: string[] = []
    const values: HeaderValue[] = []
    const headers = originalHeaders(dead)
    for (const [index, name] of headers.names.entries()) {
      if (name === GENERATION || name === REDRIVEN_FROM) continue
      names.push(name)
      values.push(name === 'ce_type' && type !== undefined ? typeName(type) : (headers.values[index] ?? null))
    }
    const more = { [GENERATION]: String(generationOf(dead.headers) + 1), [REDRIVEN_FROM]: originOf(dead) }
    const { partition, key, value } = dead
    this.#write({ topic: INPUT, partition, key, value, headers: withHeaders({ names, values }, more) })
  }

  #write(record: OutgoingRecord): void {
    this.#written.push(record)
    this.kafka.append(record)
  }

  /** Whether outcomes were written again by a transaction that was aborted: then their events may be processed again instead. */
  #isRecoveryBrokenOff(): boolean {
    const ids = this.#processes.flatMap(({ transactionalId }) => recoveryIds(transactionalId))
    return (['processed', 'dlq', 'retry'] as const)
      .flatMap((role) => this.#logs(role))
      .some((at) => {
        const log = this.kafka.log(at)
        const committed = new Set(log.read(0, log.end, 'committed'))
        return log.read(0, log.end, 'uncommitted').some((record) => {
          const name = headerText(record.headers, TRANSACTION) ?? ''
          return !committed.has(record) && !name.endsWith(RELEASE_SUFFIX) && ids.some((id) => name.startsWith(`${id}:`))
        })
      })
  }

  // ---- the group

  #process(index: number): ModelProcess {
    return this.#processes[index % PROCESSES] as ModelProcess
  }

  /** Assigns partitions, once their previous owners have revoked them. */
  async #group(): Promise<void> {
    while (!this.#ended) {
      for (let partition = 0; partition < PARTITIONS; partition++) this.#move(partition)
      this.kafka.timeOutTransactions(TRANSACTION_TIMEOUT_MS)
      await sleep(GROUP_PAUSE_MS)
    }
  }

  #move(partition: number): void {
    const wanted = this.#wanted[partition]
    const to = wanted === undefined ? undefined : this.#process(wanted).assignable()
    const at = { topic: INPUT, partition }
    let holder = this.#holders.get(partition)
    if (holder !== undefined && !holder.owned().some((one) => partitionName(one) === partitionName(at))) {
      this.#holders.delete(partition)
      holder = undefined
    }
    if (holder === to || this.#moving.has(partition)) return
    if (holder !== undefined) {
      const from = holder
      this.#moving.add(partition)
      void from.revoke([at]).then(() => this.forget(from, [at]))
    } else if (to !== undefined) {
      this.#holders.set(partition, to)
      to.assign([at])
    }
  }

  /** A member loses partitions. */
  forget(member: FakeMember, given: readonly TopicPartition[]): void {
    for (const { partition } of given)
      if (this.#holders.get(partition) === member) {
        this.#holders.delete(partition)
        this.#moving.delete(partition)
      }
  }

  // ---- transactions

  async #step(step: Step): Promise<StepFault | undefined> {
    await this.kafka.latency()
    const index = this.#steps.findIndex(
      ({ process, name, of }) =>
        step.transactionalId.startsWith(this.#process(process).transactionalId) &&
        step.name === name &&
        (name === 'answer' || step.kind === of),
    )
    const [given] = index === -1 ? [] : this.#steps.splice(index, 1)
    switch (given?.fate.kind) {
      case undefined:
        return undefined
      case 'late':
        await sleep(given.fate.ms)
        return undefined
      case 'abort':
        return { kind: 'aborted', reason: 'a test', passing: given.fate.passing }
      case 'fatal':
        return { kind: 'fatal', reason: 'a test' }
    }
  }

  #fateOf({ transactionalId, at }: Mark): MarkFate {
    const given = this.#marks.find(({ process }) => transactionalId.startsWith(this.#process(process).transactionalId))
    if (given === undefined) return 'written'
    // All markers of a transaction are requested at once.
    queueMicrotask(() => {
      const index = this.#marks.indexOf(given)
      if (index !== -1) this.#marks.splice(index, 1)
    })
    const fate = at === undefined ? given.offsets : given.outputs
    return fate === 'late' ? sleep(LATE_MARK_MS) : fate
  }

  // ---- judgement

  #logs(role: TopicRole | 'input'): { topic: string; partition: number }[] {
    const topic = role === 'input' ? INPUT : siblingTopic(INPUT, role)
    return Array.from({ length: PARTITIONS }, (_, partition) => ({ topic, partition }))
  }

  /** What is not done yet. */
  #unfinished(): string[] {
    const { kafka } = this
    const found: string[] = []
    for (const role of ['input', 'retry'] as const)
      for (const at of this.#logs(role)) {
        const last = kafka.records(at.topic, at.partition).at(-1)?.offset ?? -1
        const { offset } = kafka.committed(at)
        if (last >= 0 && offset <= last)
          found.push(`${partitionName(at)} is committed to ${offset}, and goes to ${last}`)
      }
    for (const role of ['retry', 'dlq', 'processed'] as const)
      for (const at of this.#logs(role)) {
        const { stable, end } = kafka.log(at).ends()
        if (stable < end) found.push(`${partitionName(at)} is open from ${stable} on`)
      }
    for (const at of [...this.#logs('input'), ...this.#logs('retry')])
      if (kafka.isPending(at)) found.push(`the offset of ${partitionName(at)} is pending`)
    for (const one of this.#processes) found.push(...one.unfinished())
    return found
  }

  #outcomeFaults(): string[] {
    const { kafka } = this
    const outcomes = new Map<string, string[]>()
    for (const role of ['processed', 'dlq'] as const)
      for (const at of this.#logs(role))
        for (const record of kafka.records(at.topic, at.partition)) {
          const name = nameOf(record)
          const where = `${role}/${record.partition}/${record.offset}`
          const found = outcomes.get(name)
          if (found === undefined) outcomes.set(name, [where])
          else found.push(where)
        }
    const faults: string[] = []
    for (const at of this.#logs('input'))
      for (const record of kafka.records(at.topic, at.partition))
        if (!outcomes.has(nameOf(record)))
          faults.push(`${nameOf(record)} of ${partitionName(at)}/${record.offset} is lost`)
    for (const [name, where] of outcomes)
      if (where.length > 1) faults.push(`${name} is doubled: ${where.join(' and ')}`)
    return faults
  }

  #orderFaults(): string[] {
    const { kafka } = this
    const faults: string[] = []
    for (const at of this.#logs('input')) {
      const place = new Map<string, number>()
      for (const record of kafka.records(at.topic, at.partition))
        if (!place.has(nameOf(record))) place.set(nameOf(record), record.offset)
      const last = new Map<string, IncomingRecord>()
      for (const record of kafka.records(siblingTopic(INPUT, 'processed'), at.partition)) {
        const key = record.key?.toString()
        if (key === undefined) continue
        const before = last.get(key)
        last.set(key, record)
        if (before !== undefined && (place.get(nameOf(before)) ?? 0) > (place.get(nameOf(record)) ?? 0))
          faults.push(`${nameOf(record)} of ${key} comes after ${nameOf(before)}`)
      }
    }
    return faults
  }
}

const keyName = (key: number): string => `key-${key % KEYS}`

/** An event's id and generation, or the place of a record that is not an event. */
const nameOf = (record: IncomingRecord): string => {
  const id = headerText(record.headers, 'ce_source') === undefined ? undefined : headerText(record.headers, 'ce_id')
  if (id !== undefined) return `event ${id}, generation ${generationOf(record.headers)}`
  const { topic, partition, offset } = record
  return `record ${headerText(record.headers, ORIGIN) ?? `${topic}/${partition}/${offset}`}`
}

/** A consumer that opens new clients after a fatal error, as the service does. */
class ModelProcess {
  readonly reasons: string[] = []
  readonly transactionalId: string
  #life: Life | undefined
  readonly #lives: Life[] = []
  /** Its session is over, and it has not noticed. */
  #isZombie = false
  #isStopped = false

  constructor(
    readonly model: Model,
    readonly index: number,
  ) {
    this.transactionalId = `${GROUP}-${index}`
  }

  start(): void {
    void this.#work({ killed: false })
  }

  async #work(process: FakeProcess): Promise<void> {
    for (let isReplacement = false; !process.killed && !this.#isStopped; isReplacement = true) {
      const life = this.#open(process, isReplacement)
      const reason = await life.pipeline.run()
      if (process.killed || reason === undefined) return
      this.reasons.push(reason)
      await sleep(100)
    }
  }

  #open(process: FakeProcess, isReplacement: boolean): Life {
    const { kafka } = this.model
    const metrics = createMetrics()
    const member = kafka.group(process)
    const note = (line: string): void => {
      const { level, msg, reason } = JSON.parse(line) as { level: number; msg: string; reason?: string }
      if (level >= ERROR_LEVEL || STATE_FAULT.test(line)) this.reasons.push(`${msg}: ${reason ?? line}`)
    }
    const pipeline = new Pipeline(
      testDeps(
        {
          group: member,
          transactor: kafka.transactor(this.transactionalId, process),
          reader: kafka.reader(process),
          auditReader: kafka.reader(process),
          controlReader: kafka.reader(process),
          async openTransactor(transactionalId) {
            const opened = kafka.transactor(transactionalId, process)
            await opened.start()
            return opened
          },
        },
        {
          metrics,
          log: pino({ level: 'debug' }, { write: note }),
          handlers: HANDLERS,
          config: CONFIG,
          bounds: { auditShare: 0.05, auditPauseMs: 500 },
          isReplacement,
        },
      ),
    )
    this.#isZombie = false
    this.#life = { process, pipeline, member, metrics }
    this.#lives.push(this.#life)
    return this.#life
  }

  /** Its member, if partitions may be assigned to it. */
  assignable(): FakeMember | undefined {
    const { process, member, pipeline } = this.#life ?? {}
    if (process?.killed !== false || this.#isZombie || this.#isStopped) return undefined
    return pipeline?.membership() === 'not a member' && member?.membership() === undefined ? undefined : member
  }

  expire(learnsAfterMs: number): void {
    const life = this.#life
    if (life === undefined || this.#isZombie || life.process.killed || life.member.membership() === undefined) return
    this.#isZombie = true
    const { member } = life
    member.expire()
    this.model.forget(member, member.owned())
    setTimeout(async () => {
      if (this.#life !== life || life.process.killed) return
      await member.revoke(member.owned(), true)
      if (this.#life === life) this.#isZombie = false
    }, learnsAfterMs)
  }

  cutOff(ms: number): void {
    const { process } = this.#life ?? {}
    if (process !== undefined) this.model.kafka.cutOff(process, ms)
  }

  kill(backAfterMs: number): void {
    const life = this.#life
    if (life === undefined || life.process.killed || this.#isStopped) return
    life.process.killed = true
    setTimeout(() => {
      life.member.expire()
      this.model.forget(life.member, life.member.owned())
    }, SESSION_TIMEOUT_MS)
    setTimeout(() => this.start(), backAfterMs)
  }

  unfinished(): string[] {
    const { process, pipeline } = this.#life ?? {}
    if (pipeline === undefined || process?.killed !== false) return [`process ${this.index} is not there`]
    const found: string[] = []
    for (const [what, count] of Object.entries(pipeline.levels())) if (count !== 0) found.push(`${what}: ${count}`)
    for (const [reason, count] of pipeline.waitingByReason())
      if (count !== 0) found.push(`waiting, ${reason}: ${count}`)
    for (const { name, state } of pipeline.partitions())
      if (state.kind !== 'reading') found.push(`${name} is ${JSON.stringify(state)}`)
    if (this.index === 0 && pipeline.partitions().length < PARTITIONS) found.push('partitions are not assigned')
    return found
  }

  async repaired(): Promise<number> {
    let sum = 0
    for (const { metrics } of this.#lives) for (const { value } of (await metrics.repaired.get()).values) sum += value
    return sum
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    await this.#life?.pipeline.stop()
  }
}

/** pino's number of the level. */
const ERROR_LEVEL = 50

const CONFIG = {
  SESSION_TIMEOUT_MS,
  TRANSACTION_TIMEOUT_MS,
  DRAIN_TIMEOUT_MS: 6_000,
  HANDLER_TIMEOUT_MS: 5_000,
  MAX_CONCURRENT_HANDLERS: 4,
  MAX_OPEN_RECORDS: 8,
  MAX_HELD_BYTES: 20 * 5_000,
  MAX_PARKED_BYTES: 6 * 5_000,
  MAX_RETRY_BACKLOG_RECORDS: 5,
  MAX_TRANSACTION_RECORDS: 5,
  QUICK_RETRY_FIRST_MS: 5,
  QUICK_RETRY_MAX_MS: 10,
  RETRY_FIRST_MS: 200,
  RETRY_MAX_MS: 400,
}

const handlerOf = (type: EventType, handle: (attempt: number) => Promise<void> | void) =>
  defineHandler({
    type: typeName(type),
    version: '1',
    schema: Type.Unknown(),
    async handle(_, { attempt }) {
      await handle(attempt)
      return { data: {} }
    },
  })

const failUntil = (last: number) => (attempt: number) => {
  if (attempt < last) throw new Error(`attempt ${attempt}`)
}

const HANDLERS = [
  handlerOf('handled', () => sleep(2)),
  handlerOf('slow', () => sleep(800)),
  handlerOf('fails once', failUntil(2)),
  handlerOf('fails thrice', failUntil(4)),
  handlerOf('hopeless', failUntil(99)),
  handlerOf('terminal', () => {
    throw new TerminalError('never')
  }),
]

/** The messages of a StateError, and of a pipeline that one has ended. */
const STATE_FAULT = /fewer than no|and cannot be|fetching failed|committing failed/
