import { STRUCTURED } from '../events/event.ts'
import { CONTENT_TYPE, headersOf, TRANSACTION, withHeaders } from '../events/headers.ts'
import {
  type IncomingRecord,
  type OutgoingRecord,
  type PassedRecord,
  type PlainEvent,
  queuedBytes,
} from '../events/record.ts'
import { hashOf } from '../kafka/identity-hash.ts'
import { RELEASE_SUFFIX, RELEASED } from '../kafka/transactor.ts'
import {
  type CommittedOffset,
  type Connection,
  type Delivery,
  type GroupConsumer,
  type GroupListener,
  HangingTransactionError,
  type Membership,
  NOT_THERE,
  type OutputFault,
  type PartitionEnds,
  type ProduceError,
  partitionName,
  type RangeReader,
  type RecordFilter,
  type RecordProducer,
  type ReleaseResult,
  type TopicAdmin,
  type TopicPartition,
  type TopicSettings,
  type TransactionResult,
  type Transactor,
} from '../kafka/types.ts'
import { sleep } from '../service/retry.ts'
import { FakeCoordinator, FakeLog, type Mark, type MarkFate, type Owner } from './fake-broker.ts'

/** A step that a transactor is about to take, or whose response it is about to receive. */
export interface Step {
  transactionalId: string
  name: 'offsets' | 'outputs' | 'end' | 'answer'
  kind: 'commit' | 'abort' | 'release'
}

/** How a step fails; undefined: it succeeds. */
export type StepFault = { kind: 'aborted'; reason: string; passing: boolean } | { kind: 'fatal'; reason: string }

/** How a client passes records on. Whoever reads with it knows the rules (consumer/testing/passing.ts). */
export interface FakePassing {
  /** What a member is told of a record's event; undefined: it has to decode it. */
  plainOf(record: IncomingRecord): PlainEvent | undefined
  /** The record that a transactor writes for one that is passed on. */
  written(output: PassedRecord): OutgoingRecord
}

/** A service's process. Once it is killed, nothing it was doing continues, and its clients get no more answers. */
export interface FakeProcess {
  killed: boolean
}

/** A group member that a test controls. */
export interface FakeMember extends GroupConsumer {
  /** Assigns partitions to it. */
  assign(partitions: TopicPartition[]): void
  /** Revokes partitions from it; resolves when they are revoked. With `lost`, its membership has already ended. */
  revoke(partitions: TopicPartition[], lost?: boolean): Promise<void>
  /** Its session times out at the broker. The member does not notice until `revoke`. */
  expire(): void
  /** The partitions that it believes are assigned to it. */
  owned(): TopicPartition[]
}

/** How often to check whether a pending offset has been committed or aborted. */
const PENDING_PAUSE_MS = 20

/** The longest that a fetch waits for records. */
const FETCH_PAUSE_MS = 10

/**
 * Kafka in memory, for unit tests of both services: topics, one consumer group with generations, and transactions with markers that may be
 * late or forgotten. It has no network protocol; what depends on that is tested on a real broker.
 */
export class FakeKafka {
  readonly #topics = new Map<string, FakeLog[]>()
  /** For each process that was cut off from the leaders: end offsets and committed offsets at that moment. */
  readonly #stale = new Map<
    FakeProcess,
    {
      ends?: ReadonlyMap<FakeLog, PartitionEnds> | undefined
      committed?: ReadonlyMap<string, CommittedOffset> | undefined
    }
  >()
  readonly #coordinator = new FakeCoordinator((mark) => this.#fateOf(mark))
  /** The members that the group knows, by ID, with their partitions. */
  readonly #members = new Map<string, ReadonlyMap<string, TopicPartition>>()
  #generation = 0
  #joined = 0
  #arrived: (() => void)[] = []
  /** Every committed transaction, in order. */
  readonly transactions: { outputs: readonly OutgoingRecord[]; offsets: readonly CommittedOffset[] }[] = []
  /** Results of the next transactions, instead of being committed. */
  readonly transactionFaults: Exclude<TransactionResult, { kind: 'committed' }>[] = []
  /** Errors for the next produced records. */
  readonly produceFaults: ProduceError[] = []
  /** While set, acknowledgements and new transactions wait until it resolves. */
  hold: Promise<void> | undefined
  connection: Connection = { state: 'connected' }
  /** Whether the consumers are members of the group now. */
  isMember = true
  /** The transactors' count of lost connections. Each forgotten marker adds one. */
  disconnects = 0
  nowMs: () => number = Date.now
  /** Called before every step of a transaction. */
  onStep: (step: Step) => Promise<StepFault | undefined> = async () => undefined
  /** Called for every marker. */
  onMark: (mark: Mark) => MarkFate = () => 'written'
  /** Why an output is refused; undefined: it is accepted. */
  refuses: (output: OutgoingRecord) => OutputFault | undefined = () => undefined
  /** `max.message.bytes` by topic, counting values only. All that one transaction writes to one partition is one batch. */
  readonly batchLimits = new Map<string, number>()
  /** Topic settings that the producer sees; none unless set. */
  readonly settings = new Map<string, TopicSettings>()
  /** undefined: members are told nothing of a record's event. */
  passing: FakePassing | undefined
  /** How long brokers take to respond. */
  latency: () => Promise<void> = async () => undefined

  createTopic(topic: string, partitions = 1): this {
    if (!this.#topics.has(topic))
      this.#topics.set(
        topic,
        Array.from({ length: partitions }, (_, partition) => new FakeLog(topic, partition)),
      )
    return this
  }

  /** A partition's committed records; empty when the partition does not exist. */
  records(topic: string, partition = 0): readonly IncomingRecord[] {
    const log = this.#topics.get(topic)?.[partition]
    return log?.read(0, log.end, 'committed') ?? []
  }

  /** All committed records of a topic, partition after partition. */
  all(topic: string): readonly IncomingRecord[] {
    return (this.#topics.get(topic) ?? []).flatMap(({ partition }) => this.records(topic, partition))
  }

  /** @throws Error when the partition does not exist */
  log({ topic, partition }: TopicPartition): FakeLog {
    const log = this.#topics.get(topic)?.[partition]
    if (log === undefined) throw new Error(`no partition ${partition} of ${topic}`)
    return log
  }

  committedOffset(topic: string, partition = 0): number {
    return this.committed({ topic, partition }).offset
  }

  committed(at: TopicPartition): CommittedOffset {
    return this.#coordinator.committed(at)
  }

  /** Whether an open transaction is about to change the committed offset. */
  isPending(at: TopicPartition): boolean {
    return this.#coordinator.isPending(at)
  }

  /** Commits without a transaction and without being a member, as an administrator's tool does. */
  setOffset(offset: CommittedOffset): void {
    this.#coordinator.commit(offset)
  }

  /** Deletes a partition's records before an offset. */
  deleteRecords(at: TopicPartition, before: number): void {
    this.log(at).beginning = before
  }

  /** Appends a record, as any client could. */
  append(record: OutgoingRecord): Delivery {
    const partition = record.partition ?? partitionOf(record.key, this.#topics.get(record.topic)?.length ?? 1)
    const { topic, offset, timestampMs } = this.log({ topic: record.topic, partition }).append(record, this.nowMs())
    this.#wake()
    return { topic, partition, offset, timestampMs }
  }

  /** Aborts transactions that have been open this long, and fences their clients. */
  timeOutTransactions(afterMs: number): void {
    this.#coordinator.timeOutAll(afterMs)
    this.#wake()
  }

  #wake(): void {
    for (const wake of this.#arrived.splice(0)) wake()
  }

  #fateOf(mark: Mark): MarkFate {
    const fate = this.onMark(mark)
    if (fate === 'forgotten') this.disconnects++
    if (fate instanceof Promise) return fate.finally(() => queueMicrotask(() => this.#wake()))
    return fate
  }

  producer(
    limits: { maxRecords: number; maxBytes: number } = { maxRecords: 1_000, maxBytes: 1_000_000 },
  ): RecordProducer {
    const queue = { records: 0, bytes: 0, ...limits }
    return {
      start: () => undefined,
      connection: () => this.connection,
      blocked: (topic) => {
        if (this.connection.state !== 'connected')
          return this.connection.state === 'connecting' ? this.connection.reason : 'the connection is closed'
        return this.#topics.has(topic) ? undefined : NOT_THERE(topic)
      },
      watch: () => undefined,
      making: () => 0,
      unacknowledged: () => undefined,
      partitionCount: (topic) => this.#topics.get(topic)?.length,
      settings: (topic) => this.settings.get(topic) ?? { maxMessageBytes: undefined, isCompacted: false },
      produce: (records) =>
        Promise.all(
          records.map(async (record) => {
            const fault = this.produceFaults.shift()
            if (fault !== undefined) return fault
            queue.records++
            queue.bytes += queuedBytes(record)
            await this.hold
            queue.records--
            queue.bytes -= queuedBytes(record)
            return this.append(record)
          }),
        ),
      queue: () => ({ ...queue }),
      close: async () => undefined,
    }
  }

  /** A group member whose partitions the test assigns. */
  group(process: FakeProcess = { killed: false }): FakeMember {
    let listener: GroupListener | undefined
    /** From the member's point of view. */
    let memberId: string | undefined
    let isClosed = false
    const owned = new Map<string, TopicPartition>()
    const reading = new Map<string, { log: FakeLog; next: number; paused: boolean }>()

    const join = (): void => {
      memberId = `member-${++this.#joined}`
      this.#members.set(memberId, owned)
      this.#generation++
    }
    const leave = (): void => {
      if (memberId !== undefined && this.#members.delete(memberId)) this.#generation++
    }
    let handingOver: Promise<void> = Promise.resolve()
    const revoke = (partitions: TopicPartition[], lost = false): Promise<void> => {
      const done = handOver(partitions, lost)
      handingOver = done.catch(() => undefined)
      return done
    }
    const handOver = async (partitions: TopicPartition[], lost: boolean): Promise<void> => {
      if (lost) {
        leave()
        memberId = undefined
      } else this.#generation++
      for (const one of (await alive(process, listener?.revoked(partitions, lost))) ?? [])
        reading.delete(partitionName(one))
      for (const one of partitions) owned.delete(partitionName(one))
      if (!lost || isClosed) return
      join()
      listener?.assigned([])
    }
    const ready = (maxRecords: number): IncomingRecord[] => {
      const taken: IncomingRecord[] = []
      for (const cursor of reading.values()) {
        if (cursor.paused) continue
        const { log } = cursor
        if (cursor.next < log.beginning || cursor.next > log.end) {
          cursor.paused = true
          listener?.outOfRange(log)
          continue
        }
        const found = log.read(cursor.next, log.stable, 'committed').slice(0, maxRecords - taken.length)
        const last = found.at(-1)
        if (last !== undefined) cursor.next = last.offset + 1
        for (const record of found) taken.push({ ...record, plain: this.passing?.plainOf(record) })
      }
      return taken
    }
    const setPaused = (partitions: readonly TopicPartition[], paused: boolean): void => {
      for (const one of partitions) {
        const cursor = reading.get(partitionName(one))
        if (cursor !== undefined) cursor.paused = paused
      }
    }
    return {
      start: (_pattern, to, mayJoin) => {
        void mayJoin.then(() => {
          if (isClosed) return
          listener = to
          join()
          if (owned.size > 0) to.assigned([...owned.values()])
        })
      },
      connection: () => this.connection,
      membership: () => {
        // A fenced member still reports its last generation.
        if (!this.isMember || memberId === undefined) return undefined
        return membershipOf(memberId, this.#generation)
      },
      refusal: () => undefined,
      owned: () => [...owned.values()],
      assign: (partitions) => {
        // Joining needs the current coordinator: a stale one could not write it to the log.
        const stale = this.#stale.get(process)
        if (stale !== undefined) stale.committed = undefined
        for (const one of partitions) owned.set(partitionName(one), one)
        if (memberId === undefined && listener !== undefined) join()
        else this.#generation++
        listener?.assigned(partitions)
      },
      revoke,
      expire: leave,
      committed: async (partitions, timeoutMs) => {
        const deadlineMs = performance.now() + timeoutMs
        await alive(process, this.latency())
        const stale = this.#stale.get(process)?.committed
        if (stale !== undefined)
          return partitions.map((at) => stale.get(partitionName(at)) ?? { ...at, offset: -1, metadata: '' })
        while (partitions.some((one) => this.isPending(one))) {
          const [first] = partitions
          if (first !== undefined && performance.now() >= deadlineMs)
            throw new HangingTransactionError(first, undefined)
          await alive(process, sleep(PENDING_PAUSE_MS))
        }
        const rows = partitions.map((one) => this.committed(one))
        await alive(process, this.latency())
        return rows
      },
      startReading: (partitions) => {
        for (const { topic, partition, offset } of partitions) {
          const log = this.log({ topic, partition })
          const next = offset < 0 ? log.beginning : offset
          reading.set(partitionName(log), { log, next, paused: false })
        }
        this.#wake()
      },
      stopReading: async (partitions) => {
        await handingOver
        for (const one of partitions) reading.delete(partitionName(one))
      },
      poll: async (maxRecords, waitMs) => {
        const at = ready(maxRecords)
        if (at.length > 0) return at
        const waiting = new AbortController()
        this.#arrived.push(() => waiting.abort())
        // A consumer that stops waits for its fetch to return, and every test stops one.
        await alive(process, sleep(Math.min(waitMs, FETCH_PAUSE_MS), waiting.signal))
        return ready(maxRecords)
      },
      pause: (partitions) => setPaused(partitions, true),
      resume: (partitions) => {
        setPaused(partitions, false)
        this.#wake()
      },
      close: async () => {
        isClosed = true
        await revoke([...owned.values()])
        leave()
        memberId = undefined
      },
    }
  }

  transactor(transactionalId = 'fake', process: FakeProcess = { killed: false }): Transactor {
    const owner = this.#coordinator.owner(transactionalId)
    /** Set once transactions are initialised. */
    let epoch: number | undefined
    let turn: Promise<unknown> = Promise.resolve()
    const life = `${transactionalId}:${++this.#joined}`
    let transactions = 0

    const inTurn = <R>(run: () => Promise<R>): Promise<R> => {
      const mine = turn.then(run)
      turn = mine
      return mine
    }
    /** @returns why the client cannot take the step, or undefined */
    const step = async (name: Step['name'], kind: Step['kind']): Promise<StepFault | undefined> => {
      const fault = await alive(process, this.onStep({ transactionalId, name, kind }))
      if (fault !== undefined) return fault
      return owner.epoch === epoch ? undefined : FENCED
    }
    const abort = async (
      fault: StepFault,
      failed: ReadonlyMap<number, OutputFault> = new Map(),
    ): Promise<Exclude<TransactionResult, { kind: 'committed' }>> => {
      if (fault.kind === 'fatal') return fault
      const notAborted = await step('end', 'abort')
      if (notAborted?.kind === 'fatal') return notAborted
      this.#end(owner, 'abort')
      return { kind: 'aborted', reason: fault.reason, failed, passing: fault.passing }
    }
    /** Adds offsets to the transaction. The first ones begin it, once the previous transaction has ended. */
    const addOffsets = async (
      offsets: readonly CommittedOffset[],
      membership: Membership,
      kind: Step['kind'],
    ): Promise<StepFault | undefined> => {
      const fault = (await begin('offsets', kind)) ?? undefined
      if (fault !== undefined) return fault
      owner.touched.add(undefined)
      if (!this.#isCurrent(membership)) return { kind: 'aborted', reason: 'the membership is over', passing: true }
      this.#coordinator.add(owner, offsets)
      return undefined
    }
    const begin = async (name: Step['name'], kind: Step['kind']): Promise<StepFault | undefined> => {
      const fault = await step(name, kind)
      if (fault !== undefined) return fault
      while (owner.ending !== undefined) await alive(process, owner.ending)
      if (owner.epoch !== epoch) return FENCED
      owner.openedMs ??= performance.now()
      return undefined
    }
    /** @returns what a transaction ends with before it begins, or undefined */
    const givenResult = async (): Promise<TransactionResult | undefined> => {
      await this.hold
      const given = this.transactionFaults.shift()
      if (given !== undefined || epoch !== undefined) return given
      return { kind: 'aborted', reason: 'not connected', failed: new Map(), passing: true }
    }
    const writeAndCommit = async (
      outputs: readonly OutgoingRecord[],
      offsets: readonly CommittedOffset[],
    ): Promise<TransactionResult> => {
      const name = { [TRANSACTION]: `${life}-${++transactions}` }
      const failed = new Map<number, OutputFault>()
      const batches = Map.groupBy(outputs, ({ topic, partition }) => `${topic}/${partition}`)
      for (const [index, output] of outputs.entries()) {
        const batch = batches.get(`${output.topic}/${output.partition}`) ?? []
        const bytes = batch.reduce((sum, { value }) => sum + (value?.length ?? 0), 0)
        const isTooLarge = bytes > (this.batchLimits.get(output.topic) ?? Number.POSITIVE_INFINITY)
        const refused = isTooLarge ? { reason: 'too large', tooLarge: true } : this.refuses(output)
        if (refused !== undefined) failed.set(index, refused)
        if (refused !== undefined) continue
        const log = this.log({ topic: output.topic, partition: output.partition ?? 0 })
        owner.touched.add(log)
        log.append({ ...output, headers: withHeaders(output.headers, name) }, this.nowMs(), owner.producer)
      }
      if (failed.size > 0) return abort({ kind: 'aborted', reason: 'refused', passing: false }, failed)
      const notEnded = await step('end', 'commit')
      if (notEnded !== undefined) return abort(notEnded)
      this.transactions.push({ outputs, offsets })
      this.#end(owner, 'commit')
      const unanswered = await alive(process, this.onStep({ transactionalId, name: 'answer', kind: 'commit' }))
      return unanswered?.kind === 'fatal' ? unanswered : { kind: 'committed' }
    }
    return {
      transactionalId,
      start: async () => {
        await alive(process, this.latency())
        epoch = await alive(process, this.#coordinator.initialise(transactionalId))
        this.#wake()
      },
      connection: () => this.connection,
      disconnects: () => this.disconnects,
      refresh: () => alive(process, this.latency()),
      commit: (decided, offsets, membership, lost) =>
        inTurn(async () => {
          const outputs = decided.map((one) => ('passed' in one ? this.#written(one) : one))
          const given = await givenResult()
          if (given !== undefined) return given
          const notSent = await addOffsets(offsets, membership, 'commit')
          if (notSent !== undefined) return abort(notSent)
          if (lost.aborted) return abort(LOST)
          const notWritten = await step('outputs', 'commit')
          if (notWritten !== undefined) return abort(notWritten)
          return writeAndCommit(outputs, offsets)
        }),
      write: (outputs) =>
        inTurn(async () => {
          const given = await givenResult()
          if (given !== undefined) return given
          const notWritten = await begin('outputs', 'commit')
          return notWritten === undefined ? writeAndCommit(outputs, []) : abort(notWritten)
        }),
      release: (held, ...[what, membership]) =>
        inTurn(async (): Promise<ReleaseResult> => {
          if (epoch === undefined) return { kind: 'not released', reason: 'not connected' }
          const isOffset = what === 'committed offset'
          const offsets = held.map((at) => ({ ...at, offset: 0, metadata: RELEASED }))
          const fault =
            what === 'committed offset'
              ? await addOffsets(offsets, membership, 'release')
              : await begin('outputs', 'release')
          const transaction = isOffset ? undefined : `${life}-${++transactions}${RELEASE_SUFFIX}`
          if (fault === undefined && transaction !== undefined)
            for (const at of held) {
              const log = this.log(at)
              owner.touched.add(log)
              const headers = headersOf({ [TRANSACTION]: transaction })
              log.append({ ...at, key: null, value: null, headers }, this.nowMs(), owner.producer)
            }
          const result = await abort(fault ?? { kind: 'aborted', reason: '', passing: true })
          if (result.kind === 'fatal') return result
          return fault === undefined
            ? { kind: 'released', transaction }
            : { kind: 'not released', reason: fault.reason }
        }),
      close: async () => {
        epoch = undefined
      },
    }
  }

  #written(output: PassedRecord): OutgoingRecord {
    if (this.passing === undefined) throw new Error('a record is passed on of whose event nothing was told')
    return this.passing.written(output)
  }

  #end(owner: Owner, kind: Mark['kind']): void {
    this.#coordinator.end(owner, kind)
    this.#wake()
  }

  #isCurrent(membership: Membership): boolean {
    return [...this.#members.keys()].some((id) => membership.equals(membershipOf(id, this.#generation)))
  }

  reader(process: FakeProcess = { killed: false }): RangeReader {
    const reading =
      (isolation: 'committed' | 'uncommitted'): RangeReader['read'] =>
      async (ranges, onRecord, { filter, signal, onProgress } = {}) => {
        await alive(process, this.latency())
        signal?.throwIfAborted()
        let passed = 0
        for (const { topic, partition, from, to } of ranges) {
          const log = this.log({ topic, partition })
          const { stable, end } = this.#endsFor(process, log)
          if (isolation === 'committed' && Math.min(to, log.end) > Math.min(stable, end))
            throw new Error(`${partitionName(log)}: nothing could be read behind ${Math.min(stable, end)}`)
          for (const record of log.read(from, to, isolation))
            if (filter === undefined || mayMatch(record, filter)) onRecord(record)
          passed += Math.max(0, to - from)
          await onProgress?.(passed)
          signal?.throwIfAborted()
        }
        await alive(process, this.latency())
      }
    const read = reading('committed')
    return {
      unreachable: () => undefined,
      topics: async () => new Map([...this.#topics].map(([name, logs]) => [name, logs.length])),
      partitionCount: async (topic) => this.#topics.get(topic)?.length ?? 0,
      offsetsAt: async (partitions, timestampMs) =>
        partitions.map(
          (at) =>
            this.log(at)
              .read(0, this.log(at).end, 'uncommitted')
              .find((record) => record.timestampMs >= timestampMs)?.offset,
        ),
      committed: async (partitions) => {
        await alive(process, this.latency())
        const rows = partitions.map((one) => this.committed(one))
        await alive(process, this.latency())
        return rows
      },
      topicIds: async (topics) => new Map(topics.map((topic) => [topic, topic])),
      ends: async (partitions) => {
        await alive(process, this.latency())
        const ends = partitions.map((at) => this.#endsFor(process, this.log(at)))
        await alive(process, this.latency())
        return ends
      },
      lookUp: async () => {
        await alive(process, this.latency())
        const stale = this.#stale.get(process)
        if (stale !== undefined) stale.ends = undefined
      },
      read,
      readUncommitted: reading('uncommitted'),
      readIdentities: async (ranges, identityOf, onRecord) => {
        for (const [range, given] of ranges.entries())
          await read([given], (record) => {
            const { offset, timestampMs } = record
            onRecord({ range, offset, timestampMs, hash: hashOf(identityOf(record)) })
          })
      },
      follow: async (from, onRecords, signal) => {
        const cursors = from.map((at) => ({ log: this.log(at), next: at.offset }))
        while (!signal.aborted) {
          const records: IncomingRecord[] = []
          for (const cursor of cursors) {
            const { log, next } = cursor
            if (next < log.beginning || next > log.end) throw new Error(`${partitionName(log)}: no offset ${next}`)
            records.push(...log.read(next, log.stable, 'committed'))
            cursor.next = Math.max(next, log.stable)
          }
          if (records.length > 0) onRecords(records)
          const { promise: woken, resolve } = Promise.withResolvers<void>()
          this.#arrived.push(resolve)
          signal.addEventListener('abort', () => resolve(), { once: true })
          if (!signal.aborted) await alive(process, woken)
        }
      },
      group: async () => {
        await alive(process, this.latency())
        const members = [...this.#members].map(([memberId, owned]) => ({
          memberId,
          clientId: 'fake',
          host: '127.0.0.1',
          partitions: [...owned.values()],
        }))
        return { state: members.length > 0 ? 'Stable' : 'Empty', members }
      },
      close: async () => undefined,
    }
  }

  /** For so long, or until it looks up the new leaders, a process asks brokers that no longer lead. */
  cutOff(process: FakeProcess, ms: number): void {
    const logs = [...this.#topics.values()].flat()
    const ends = new Map(logs.map((log) => [log, log.ends()]))
    const committed = new Map(logs.map((log) => [partitionName(log), this.committed(log)]))
    const stale = { ends, committed }
    this.#stale.set(process, stale)
    setTimeout(() => {
      if (this.#stale.get(process) === stale) this.#stale.delete(process)
    }, ms)
  }

  #endsFor(process: FakeProcess, log: FakeLog): PartitionEnds {
    return this.#stale.get(process)?.ends?.get(log) ?? log.ends()
  }

  admin(): TopicAdmin {
    return {
      ensureGroups: async (groups, { partitions }) =>
        groups.map((topics) => {
          for (const topic of topics) this.createTopic(topic, partitions)
          return undefined
        }),
      settings: async (topics) => new Map(topics.map((topic) => [topic, {}])),
      close: async () => undefined,
    }
  }
}

const FENCED: StepFault = { kind: 'fatal', reason: 'fenced' }
const LOST: StepFault = { kind: 'aborted', reason: 'a partition of it is lost', passing: true }

const membershipOf = (memberId: string, generation: number): Membership =>
  Buffer.from(`${memberId} in ${generation}`) as Membership

/** As native/shim/filter.cc decides. */
function mayMatch({ key, headers: { names, values } }: IncomingRecord, filter: RecordFilter): boolean {
  const bytes = values.map((value) => (value === null ? undefined : Buffer.from(value)))
  const hasHeader = (name: string, holds: (value: Buffer) => boolean): boolean =>
    bytes.some((value, index) => names[index] === name && value !== undefined && holds(value))
  if (hasHeader(CONTENT_TYPE, (value) => STRUCTURED.test(value.toString()))) return true
  if (filter.key !== undefined && key?.equals(filter.key) !== true) return false
  return filter.headers.every(({ name, value, how }) =>
    hasHeader(name, (of) => (how === 'equals' ? of.equals(Buffer.from(value)) : of.includes(value))),
  )
}

/** A killed process waits forever. */
async function alive<T>(process: FakeProcess, promise: Promise<T> | undefined): Promise<T> {
  const result = (await promise) as T
  if (process.killed) await new Promise<never>(() => undefined)
  return result
}

// Any hash will do: that ours matches Java's is tested where it is implemented.
const partitionOf = (key: Buffer | string | null, partitions: number): number =>
  key === null ? 0 : [...Buffer.from(key)].reduce((sum, byte) => (sum * 31 + byte) >>> 0, 0) % partitions
