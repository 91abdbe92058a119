import { decodeControl, type StreamControl } from '../shared/events/control.ts'
import type { IncomingRecord } from '../shared/events/record.ts'
import { CONTROL_TOPIC, inputTopic } from '../shared/events/topics.ts'
import type { PartitionEnds, RangeReader } from '../shared/kafka/types.ts'
import type { Logger } from '../shared/service/logger.ts'
import { CONNECT_BACKOFF, delayMs, sleep, within } from '../shared/service/retry.ts'
import { messageOf } from '../shared/service/thrown.ts'

/** Which streams an operator has paused, as the control topic says. */

const AT = { topic: CONTROL_TOPIC, partition: 0 }

/** How often topics are listed while there is no control topic. */
const ABSENT_PAUSE_MS = 5_000

/** How long one attempt to restore partitions waits for the first answer. */
const KNOWN_TIMEOUT_MS = 5_000

export interface ControlledStream {
  tenant: string
  stream: string
  control: StreamControl
}

/** By the streams' own topics. */
export type Controls = ReadonlyMap<string, ControlledStream>

/** The latest record of each stream counts. @param onMalformed is given the offset of each record that is ignored */
export function foldControls(records: Iterable<IncomingRecord>, onMalformed: (offset: number) => void): Controls {
  const controls = new Map<string, ControlledStream>()
  for (const record of records) {
    const decoded = decodeControl(record)
    if (decoded === undefined) {
      onMalformed(record.offset)
      continue
    }
    const { tenant, stream, control } = decoded
    if (control === undefined) controls.delete(inputTopic(tenant, stream))
    else controls.set(inputTopic(tenant, stream), { tenant, stream, control })
  }
  return controls
}

export interface StreamPausesDeps {
  /** Lists the topics. */
  reader: Pick<RangeReader, 'topics'>
  /** One of its own, since reads wait for each other. */
  controlReader: Pick<RangeReader, 'ends' | 'read'>
  log: Logger
  /** Between two looks at the control topic. */
  pauseMs: number
  onChanged(): void
}

/** Keeps up with the control topic. If it cannot be read, what was last known stays. */
export class StreamPauses {
  #controls: Controls | undefined
  /** Resolves after the first look, whether or not the topic could be read. */
  readonly #looked = Promise.withResolvers<void>()
  /** Once there was a control topic, its absence is a fault. */
  #exists = false
  /** The topic's ends when it was last read. */
  #ends: PartitionEnds | undefined
  /** Malformed records before this offset are logged. */
  #logged = 0
  #fault: string | undefined

  constructor(readonly deps: StreamPausesDeps) {}

  async run(signal: AbortSignal): Promise<void> {
    for (let attempt = 0; !signal.aborted; ) {
      try {
        await this.#look()
        attempt = 0
        if (this.#fault !== undefined)
          this.deps.log.info({ topic: CONTROL_TOPIC }, 'the control topic can be read again')
        this.#fault = undefined
      } catch (error) {
        if (signal.aborted) return
        attempt++
        this.#failed(messageOf(error))
      }
      this.#looked.resolve()
      const pauseMs = this.#exists ? this.deps.pauseMs : ABSENT_PAUSE_MS
      await sleep(attempt === 0 ? pauseMs : delayMs(CONNECT_BACKOFF, attempt), signal)
    }
  }

  /** Resolves once it is known which streams are paused. @throws Error with the reason, when that cannot be read or takes too long */
  async known(): Promise<void> {
    if (this.#controls !== undefined) return
    await within(KNOWN_TIMEOUT_MS, this.#looked.promise, `${UNKNOWN}: no answer`)
    if (this.#fault !== undefined) throw new Error(`${UNKNOWN}: ${this.#fault}`)
  }

  /** @param topic the stream's own */
  isPaused(topic: string): boolean {
    return this.#controls?.get(topic)?.control.state === 'paused'
  }

  paused(): ControlledStream[] {
    return [...(this.#controls?.values() ?? [])].filter(({ control }) => control.state === 'paused')
  }

  /** Why the control topic cannot be read now. */
  get fault(): string | undefined {
    return this.#fault
  }

  async #look(): Promise<void> {
    const { reader, controlReader } = this.deps
    // Asking for the ends of a topic that does not exist would create it on brokers that create topics on demand.
    this.#exists ||= (await reader.topics()).has(CONTROL_TOPIC)
    if (!this.#exists) {
      if (this.#controls === undefined) this.#learn(new Map())
      return
    }
    const [ends] = (await controlReader.ends([AT])) as [PartitionEnds]
    if (ends.beginning === this.#ends?.beginning && ends.stable === this.#ends.stable) return
    // From its beginning, which takes milliseconds: an operator writes few records, and the topic may have been made anew.
    const records: IncomingRecord[] = []
    await controlReader.read([{ ...AT, from: ends.beginning, to: ends.stable }], (record) => records.push(record))
    const malformed: number[] = []
    this.#learn(foldControls(records, (offset) => malformed.push(offset)))
    this.#ends = ends
    const fresh = malformed.filter((offset) => offset >= this.#logged)
    if (fresh.length > 0)
      this.deps.log.warn({ topic: CONTROL_TOPIC, offsets: fresh }, 'malformed records in the control topic are ignored')
    this.#logged = ends.stable
  }

  #failed(reason: string): void {
    if (this.#fault === undefined)
      this.deps.log.warn({ topic: CONTROL_TOPIC, reason }, 'the control topic cannot be read; streams stay as they are')
    this.#fault = reason
    this.#ends = undefined
  }

  #learn(controls: Controls): void {
    const { log, onChanged } = this.deps
    const before = this.#controls
    this.#controls = controls
    for (const [topic, { tenant, stream, control }] of controls) {
      const earlier = before?.get(topic)?.control
      const { state, by, atMs, reason } = control
      if (state === 'paused' && (earlier?.state !== 'paused' || earlier.atMs !== atMs))
        log.info({ tenant, stream, by, reason, at: new Date(atMs).toISOString() }, 'stream paused by an operator')
    }
    for (const [topic, { tenant, stream, control }] of before ?? []) {
      const now = controls.get(topic)?.control
      if (control.state === 'paused' && now?.state !== 'paused')
        log.info({ tenant, stream, by: now?.by, reason: now?.reason }, 'stream resumed')
    }
    onChanged()
  }
}

const UNKNOWN = `it is not known whether the stream is paused; ${CONTROL_TOPIC} cannot be read`
