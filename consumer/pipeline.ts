import type { Span } from '@opentelemetry/api'
import { headerText, TRACEPARENT, TRACESTATE } from '../shared/headers.ts'
import {
  type CommittedOffset,
  type GroupConsumer,
  HeldBackError,
  type IncomingRecord,
  type OutgoingRecord,
  type RangeReader,
  type TopicPartition,
  type Transactor,
} from '../shared/kafka/types.ts'
import type { Logger } from '../shared/logger.ts'
import { CONNECT_BACKOFF, delayMs, sleep } from '../shared/retry.ts'
import { parseTraceparent } from '../shared/telemetry.ts'
import { parseTopic } from '../shared/topics.ts'
import { contextOf, type Tracing } from '../shared/tracing.ts'
import { MAX_AHEAD_OFFSETS } from './ahead.ts'
import { type ConsumeDeps, consume, type Job, jobOf, type Outcome } from './consume.ts'
import { deadLetter } from './dead-letter.ts'
import { Gate, Lanes } from './lanes.ts'
import type { ConsumerMetrics } from './metrics.ts'
import { type Item, Partition, Source } from './partition.ts'
import { isDoneAgain, rebuild } from './rebuild.ts'
import type { Failure } from './retry.ts'

/** Bounds of everything that is held between fetch and commit. */
export interface PipelineLimits {
  maxConcurrentHandlers: number
  /** Records of one partition that are fetched and not decided; then it is paused. */
  maxOpenRecords: number
  /** Bytes of input records between fetch and commit; then nothing more is fetched. */
  maxHeldBytes: number
  /** Bytes of records that wait in memory for their retry; then `.retry` is paused. */
  maxParkedBytes: number
  /** Records in one partition of `.retry`; then its input is paused until they are fewer. */
  maxRetryBacklogRecords: number
  maxTransactionRecords: number
  dedupeWindowRecords: number
  /** How long partitions that are being given up may take to finish. */
  revokeTimeoutMs: number
}

export interface PipelineDeps extends ConsumeDeps {
  group: GroupConsumer
  transactor: Transactor
  reader: RangeReader
  /** The streams' own topics that are read. */
  topics: RegExp
  metrics: ConsumerMetrics
  /** undefined: no spans. */
  tracing: Tracing | undefined
  limits: PipelineLimits
  log: Logger
}

/** Records fetched in one call. */
const FETCH_MAX_RECORDS = 1_000

/**
 * Outcomes that are committed without waiting for others. Fewer wait a little: a transaction costs the broker the same whether it has ten outcomes or
 * a thousand, and transactions without a pause between them would take the broker's time from those who send.
 */
const WORTH_A_TRANSACTION_RECORDS = 500
const GATHER_MS = 4

/** How long one fetch waits for the first record. */
const FETCH_WAIT_MS = 100

/** How long fetching may stand still for lack of room before partitions are paused, so that polling can go on. */
const FULL_PATIENCE_MS = 500

/** What a record takes beside its value: headers, key and our own objects, roughly, until its outcome is committed. */
const RECORD_OVERHEAD_BYTES = 4_096

/**
 * The flow of records: fetch, decide (consume.ts) with one key in order and different keys beside each other, commit outcomes and offsets in
 * one transaction. Decided records gather while a transaction is on its way and go into the next one together.
 */
export class Pipeline {
  readonly #partitions = new Map<string, Partition>()
  readonly #sources = new Map<string, Source>()
  readonly #lanes = new Lanes()
  readonly #gate: Gate
  #decided: Item[] = []
  #heldBytes = { input: 0, retry: 0 }
  #stopping = false
  #paused = false
  #wakeCommit: (() => void) | undefined
  #wakeFetch: (() => void) | undefined
  readonly #stopped = new AbortController()
  #fetching: Promise<void> = Promise.resolve()

  constructor(readonly deps: PipelineDeps) {
    this.#gate = new Gate(deps.limits.maxConcurrentHandlers)
  }

  /**
   * Joins the group and works until {@link stop}.
   * @returns why it cannot go on; undefined after stop
   */
  async run(): Promise<string | undefined> {
    const { group, transactor } = this.deps
    await transactor.start()
    if (!this.#stopping) {
      group.start(this.deps.topics, {
        assigned: (given) => this.#assigned(given),
        revoked: (taken, lost) => this.#revoked(taken, lost),
      })
      this.#fetching = this.#fetch()
    }
    const failure = await this.#commit()
    if (failure !== undefined) await this.#end()
    return failure
  }

  /** Stops fetching, finishes or gives up what is in hand within the limit, commits, and leaves the group. */
  async stop(): Promise<void> {
    if (this.#stopping) return
    await this.#end()
  }

  async #end(): Promise<void> {
    this.#stopping = true
    this.#wakeFetch?.()
    await this.#fetching
    await this.deps.group.close()
    this.#stopped.abort()
    this.#wakeCommit?.()
    await this.deps.transactor.close()
    await this.deps.reader.close()
  }

  /** How many partitions are assigned, and those that are not read yet, each with the reason where there is one. */
  state(): { assigned: number; preparing: string[] } {
    const preparing = [...this.#partitions.values()]
      .filter((one) => one.sources === undefined)
      .map((one) => (one.fault === undefined ? named(one) : `${named(one)} (${one.fault})`))
    return { assigned: this.#partitions.size, preparing }
  }

  /** Records that are held in memory, by what they wait for. */
  levels(): {
    open: number
    decided: number
    handlers: number
    parkedBytes: number
    heldBytes: number
    waiting: number
  } {
    let open = 0
    let waiting = 0
    for (const source of this.#sources.values()) open += source.open
    for (const partition of this.#partitions.values()) waiting += partition.waitingRecords
    const { input, retry } = this.#heldBytes
    return {
      open,
      decided: this.#decided.length,
      handlers: this.#gate.inside,
      parkedBytes: retry,
      heldBytes: input,
      waiting,
    }
  }

  /** What is read at the moment, for lag: the next offset to commit, and when the oldest record that is not committed was written. */
  progress(): { topic: string; partition: number; committed: number; oldestMs: number | undefined }[] {
    return [...this.#sources.values()].map((source) => ({
      topic: source.topic,
      partition: source.partition,
      committed: source.commit().offset,
      oldestMs: source.oldest?.timestampMs,
    }))
  }

  // ---- assignment

  #assigned(given: TopicPartition[]): void {
    this.deps.metrics.rebalances.inc({ kind: 'assigned' })
    for (const { topic, partition } of given) {
      const names = parseTopic(topic)
      if (names === undefined) continue
      const owned = new Partition(topic, partition, names.tenant, names.stream, this.deps.limits.dedupeWindowRecords)
      this.#partitions.set(named(owned), owned)
      void this.#prepare(owned)
    }
    this.deps.log.info({ partitions: given.map(named) }, 'assigned')
  }

  /** Rebuilds what is known of the partition, however long Kafka takes to tell, and begins to read it. */
  async #prepare(partition: Partition): Promise<void> {
    const { group, reader, log, metrics } = this.deps
    for (let attempt = 1; !partition.ending.signal.aborted; attempt++) {
      const begun = performance.now()
      try {
        const committed = await rebuild(partition, group, reader)
        if (partition.ending.signal.aborted) return
        const input = new Source(partition, 'input', committed.input)
        const retry = new Source(partition, 'retry', committed.retry)
        partition.sources = { input, retry }
        for (const source of [input, retry]) this.#sources.set(named(source), source)
        group.startReading([committed.input, committed.retry])
        const seconds = (performance.now() - begun) / 1000
        metrics.rebuildSeconds.observe(seconds)
        log.info(
          {
            partition: named(partition),
            known: partition.dedupe.size,
            waiting: partition.waitingRecords,
            seconds: Number(seconds.toFixed(3)),
          },
          'reading',
        )
        return
      } catch (error) {
        if (partition.ending.signal.aborted) return
        partition.fault = error instanceof Error ? error.message : String(error)
        log.warn({ partition: named(partition), reason: partition.fault }, 'cannot prepare yet; trying again')
        if (error instanceof HeldBackError) await this.#release(error, partition)
        await sleep(delayMs(CONNECT_BACKOFF, attempt), partition.ending.signal)
      }
    }
  }

  /** A transaction that holds the partition back is aborted, should it be one of ours that nobody else will end. */
  async #release(held: HeldBackError, partition: Partition): Promise<void> {
    const { group, reader, transactor, log } = this.deps
    const what = held.offset === undefined ? 'committed offset' : 'records'
    try {
      if (!(await isDoneAgain(held, partition, group, reader))) {
        log.error(
          { held: named(held.at), offset: held.offset },
          'a transaction is left open that holds outcomes of committed offsets; see the runbook of KafkaTracePartitionsNotRead',
        )
        return
      }
      const result = await transactor.release(held.at, what)
      log.warn(
        { held: named(held.at), offset: held.offset, what, result: result.kind },
        'aborted what a transaction of ours may have left open',
      )
    } catch (error) {
      log.warn({ held: named(held.at), err: error }, 'could not be released')
    }
  }

  async #revoked(taken: TopicPartition[], lost: boolean): Promise<TopicPartition[]> {
    this.deps.metrics.rebalances.inc({ kind: lost ? 'lost' : 'revoked' })
    const ending = taken.flatMap((one) => this.#partitions.get(named(one)) ?? [])
    if (!lost) await Promise.all(ending.map((one) => one.drain(this.deps.limits.revokeTimeoutMs)))
    for (const partition of ending) {
      for (const source of [partition.sources?.input, partition.sources?.retry]) {
        if (source === undefined) continue
        this.#sources.delete(named(source))
        this.#heldBytes[source.role] -= source.heldBytes
        source.heldBytes = 0
        this.deps.metrics.forget(source)
      }
      partition.drop()
      this.#partitions.delete(named(partition))
    }
    this.#decided = this.#decided.filter((item) => item.source.owner.sources !== undefined)
    this.deps.log.info({ partitions: taken.map(named), lost }, lost ? 'lost' : 'given up')
    return ending.flatMap((one) => one.read)
  }

  /** Counts the bytes that are held for a source. */
  #hold(source: Source, bytes: number): void {
    source.heldBytes += bytes
    this.#heldBytes[source.role] += bytes
  }

  // ---- fetch

  async #fetch(): Promise<void> {
    const { group } = this.deps
    while (!this.#stopping) {
      if (this.#full() && !this.#paused) {
        await this.#room()
        // Rebalances are served by polling: when nothing moves, partitions are paused and polling goes on without records.
        if (this.#full()) this.#pauseAll(true)
        continue
      }
      if (this.#paused && !this.#full()) this.#pauseAll(false)
      for (const record of await group.consume(FETCH_MAX_RECORDS, FETCH_WAIT_MS)) this.#take(record)
    }
  }

  #full(): boolean {
    const { maxTransactionRecords, maxHeldBytes } = this.deps.limits
    return this.#decided.length >= 2 * maxTransactionRecords || this.#heldBytes.input >= maxHeldBytes
  }

  #room(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, FULL_PATIENCE_MS)
      this.#wakeFetch = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  #pauseAll(paused: boolean): void {
    this.#paused = paused
    const { group, metrics } = this.deps
    const others = [...this.#sources.values()].filter((source) => !source.paused)
    if (others.length === 0) return
    if (paused) group.pause(others)
    else group.resume(others)
    metrics.pauses.inc({ reason: 'memory' }, paused ? 1 : 0)
  }

  /** Pauses a partition whose records wait, so that they do not take the room of others. */
  #balance(source: Source): void {
    const { limits, group, metrics } = this.deps
    const { owner } = source
    const reason =
      source.open >= limits.maxOpenRecords || source.span >= MAX_AHEAD_OFFSETS
        ? 'open'
        : source.role === 'input'
          ? owner.waitingRecords >= limits.maxRetryBacklogRecords && 'retry-backlog'
          : this.#heldBytes.retry >= limits.maxParkedBytes && 'parked'
    if (reason !== false && !source.paused) {
      source.paused = true
      if (!this.#paused) group.pause([source])
      metrics.pauses.inc({ reason })
    } else if (
      source.paused &&
      reason === false &&
      source.open <= limits.maxOpenRecords / 2 &&
      source.span < MAX_AHEAD_OFFSETS / 2
    ) {
      source.paused = false
      if (!this.#paused) group.resume([source])
    }
  }

  #take(record: IncomingRecord): void {
    const source = this.#sources.get(named(record))
    if (source === undefined || source.owner.ending.signal.aborted) return
    const place = source.add(record)
    if (place === undefined) return
    const { owner, role } = source
    const job = jobOf(record, { input: owner.topic, role, tenant: owner.tenant, stream: owner.stream })
    const heldBytes = (record.value?.length ?? 0) + RECORD_OVERHEAD_BYTES
    const item: Item = { job, source, heldBytes, outcome: undefined, place, span: this.#span(job) }
    source.open++
    this.#hold(source, heldBytes)
    this.deps.metrics.fetched(item)
    this.#lanes.submit(job.key === undefined ? undefined : `${named(source)}\n${job.key}`, () => this.#decide(item))
    this.#balance(source)
  }

  #span({ record, input, tenant, decoded }: Job): Span | undefined {
    const { tracing } = this.deps
    if (tracing === undefined) return undefined
    const { headers, topic, partition, offset } = record
    const parent = parseTraceparent(headerText(headers, TRACEPARENT), headerText(headers, TRACESTATE))
    if (parent === undefined) return undefined
    return tracing.begin(`process ${input}`, 'consumer', parent, {
      'messaging.system': 'kafka',
      'messaging.operation.type': 'process',
      'messaging.destination.name': topic,
      'messaging.destination.partition.id': String(partition),
      'messaging.kafka.offset': offset,
      'kafkatrace.tenant': tenant,
      ...(decoded.ok && { 'cloudevents.event_id': decoded.event.id, 'cloudevents.event_type': decoded.event.type }),
    })
  }

  #ended({ span }: Item, outcome: Outcome['kind'] | undefined): void {
    if (span === undefined || outcome === undefined) return
    span.setAttribute('kafkatrace.outcome', outcome)
    this.deps.tracing?.end(span, outcome === 'dead' ? 'failed' : 'ok')
  }

  // ---- decide

  #decide(item: Item): Promise<void> | undefined {
    const { owner } = item.source
    if (owner.ending.signal.aborted) return undefined
    if (item.job.past.notBeforeMs > this.deps.nowMs()) return this.#decideLater(item)
    const outcome = this.#consume(item)
    if (outcome instanceof Promise) return outcome.then((later) => this.#settled(item, later))
    return this.#settled(item, outcome)
  }

  async #decideLater(item: Item): Promise<void> {
    await sleep(item.job.past.notBeforeMs - this.deps.nowMs(), item.source.owner.ending.signal)
    await this.#decide(item)
  }

  #consume(item: Item): Outcome | Promise<Outcome> {
    const { owner } = item.source
    owner.running++
    const outcome = this.#gate.run(() => consume(item.job, owner, this.deps))
    if (!(outcome instanceof Promise)) {
      owner.running--
      return outcome
    }
    // consume() turns what handlers throw into outcomes; anything else is a fault of ours that must not take the partition along.
    return outcome.finally(() => owner.running--)
  }

  #settled(item: Item, outcome: Outcome): Promise<void> | undefined {
    const { owner, role } = item.source
    const { decoded, key } = item.job
    if (owner.sources === undefined) return undefined
    this.deps.metrics.decided(outcome)
    switch (outcome.kind) {
      case 'abandoned':
        this.#ended(item, 'abandoned')
        owner.settle()
        return undefined
      case 'later':
        this.deps.log.info(
          { ...traits(item), attempts: outcome.past.attempts, ...outcome.failure },
          'is tried again later',
        )
        item.job.past = outcome.past
        item.span?.addEvent('is tried again later', { reason: outcome.failure.reason })
        owner.settle()
        return this.#decide(item)
      case 'retry':
        this.deps.log.info({ ...traits(item), ...outcome.failure }, 'goes to .retry')
        owner.addWaiting(key)
        break
      case 'dead':
        this.deps.log.warn({ ...traits(item), ...outcome.failure }, 'dead letter')
        owner.dedupe.finish(decoded.identity)
        break
      case 'processed':
        owner.dedupe.finish(decoded.identity)
        goOnBehind(item, outcome.output)
        break
      case 'duplicate':
        break
    }
    if (role === 'retry') owner.removeWaiting(key)
    item.outcome = outcome
    item.source.open--
    owner.uncommitted++
    this.#decided.push(item)
    this.#balance(item.source)
    if (role === 'retry' && owner.sources.input.paused) this.#balance(owner.sources.input)
    this.#wakeCommit?.()
    return undefined
  }

  // ---- commit

  async #commit(): Promise<string | undefined> {
    const { transactor, limits, log, metrics } = this.deps
    while (!this.#stopped.signal.aborted) {
      if (this.#decided.length === 0) {
        await new Promise<void>((resolve) => {
          this.#wakeCommit = resolve
        })
        this.#wakeCommit = undefined
        continue
      }
      if (this.#decided.length < WORTH_A_TRANSACTION_RECORDS) await sleep(GATHER_MS, this.#stopped.signal)
      const items = this.#decided.splice(0, limits.maxTransactionRecords)
      for (let attempt = 1; ; attempt++) {
        const ours = items.filter((item) => item.source.owner.sources !== undefined)
        if (ours.length === 0) break
        const begun = performance.now()
        const writing = ours.filter((item) => item.outcome?.kind !== 'duplicate')
        const outputs = writing.flatMap((item) => outputOf(item.outcome) ?? [])
        const result = await transactor.commit(outputs, offsetsOf(ours))
        metrics.transactions.inc({ result: result.kind })
        metrics.commitSeconds.observe((performance.now() - begun) / 1000)
        if (result.kind === 'committed') {
          this.#committed(ours)
          break
        }
        if (result.kind === 'fatal') return result.reason
        if (this.#stopped.signal.aborted) break
        log.warn(
          { reason: result.reason, records: ours.length, attempt },
          'a transaction was aborted and is tried again',
        )
        for (const [index, reason] of result.refused) refuse(writing[index], reason)
        if (result.refused.size === 0) await sleep(delayMs(CONNECT_BACKOFF, attempt), this.#stopped.signal)
      }
    }
    return undefined
  }

  #committed(items: readonly Item[]): void {
    const nowMs = this.deps.nowMs()
    for (const item of items) {
      const { source } = item
      source.owner.uncommitted--
      source.owner.settle()
      this.deps.metrics.committed(item, nowMs)
      this.#ended(item, item.outcome?.kind)
      // What was given up meanwhile has given everything back.
      if (source.owner.sources === undefined) continue
      this.#hold(source, -item.heldBytes)
      // What had too many records beyond the committed offset may go on.
      if (source.paused) this.#balance(source)
    }
    this.#wakeFetch?.()
    this.#wakeFetch = undefined
  }
}

const named = ({ topic, partition }: TopicPartition): string => `${topic}/${partition}`

/** What a log line says of a record: where it is and whose, never what is in it. */
function traits({ job: { record, decoded } }: Item): Record<string, unknown> {
  const { topic, partition, offset } = record
  const traceId = parseTraceparent(headerText(record.headers, TRACEPARENT))?.traceId
  return {
    topic,
    partition,
    offset,
    ...(decoded.ok ? { eventId: decoded.event.id, type: decoded.event.type } : {}),
    ...(traceId === undefined ? {} : { traceId }),
  }
}

/** A result belongs to the trace behind the span that made it. */
function goOnBehind({ span }: Item, output: OutgoingRecord): void {
  if (span === undefined) return
  const { names, values } = output.headers
  output.headers = { names, values: values.with(names.indexOf(TRACEPARENT), contextOf(span, undefined).traceparent) }
}

const outputOf = (outcome: Item['outcome']): OutgoingRecord | undefined =>
  outcome === undefined || outcome.kind === 'duplicate' ? undefined : outcome.output

/**
 * The offsets that go with these outcomes. Every source that is touched is named, moved or not: the offsets are what makes the broker check
 * that the partition is still ours.
 */
function offsetsOf(items: readonly Item[]): CommittedOffset[] {
  const touched = new Set<Source>()
  for (const item of items) {
    item.place.taken = true
    touched.add(item.source)
  }
  return [...touched].map((source) => source.commit())
}

const withoutValue = ({ topic, partition, offset, timestampMs, key, headers }: IncomingRecord): IncomingRecord => ({
  topic,
  partition,
  offset,
  timestampMs,
  key,
  headers,
  value: null,
})

/**
 * The broker will never take this output. A result that is too large makes its event a dead letter; a dead letter or a retry that is too large
 * with our headers leaves its bytes where `kt-origin` says.
 */
function refuse(item: Item | undefined, message: string): void {
  if (item === undefined) return
  const { record, input, past, key, decoded } = item.job
  const { owner } = item.source
  const failure: Failure = { reason: 'result too large', message }
  const kept = item.outcome?.kind === 'processed' ? record : withoutValue(record)
  // It does not wait in .retry after all, and its key's later events need not wait behind it.
  if (item.outcome?.kind === 'retry') {
    owner.removeWaiting(key)
    owner.dedupe.finish(decoded.identity)
  }
  item.outcome = { kind: 'dead', output: deadLetter(kept, input, past, failure), failure }
}
