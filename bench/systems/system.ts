import type { SystemFacts } from '../result.ts'

/**
 * A system that is measured: KafkaTrace, a peer, or a limit. Every HTTP system listens on `127.0.0.1:port` and answers `POST /v1/events`; what
 * the body is, is the workload's matter (plain JSON events, one or an array). It answers 202 when, and only when, every event is stored.
 */
export interface System {
  readonly facts: Omit<SystemFacts, 'versions' | 'unavailable'>
  /** Where its address is, for systems that have paths of their own. */
  readonly path?: string
  /**
   * Installs and builds what it needs, once; later calls find it done. Says what it is doing.
   * @returns versions of what it is made of, by name
   * @throws UnavailableError with the reason in a line
   */
  prepare(say: (progress: string) => void): Promise<Record<string, string>>
  /** Starts it and returns when it can take requests. The topic exists. */
  start(options: StartOptions): Promise<RunningSystem>
}

export interface StartOptions {
  /** `host:port`, comma-separated. */
  brokers: string
  /** The one topic that it writes to. */
  topic: string
  port: number
  /** For logs and scratch files; removed after the run. */
  directory: string
}

export interface RunningSystem {
  /** Where events go, whole. */
  url: string
  /** Its processes, by name; their children count too. */
  processes: { name: string; pid: number }[]
  /** Ends it, and returns when it is gone. */
  stop(): Promise<void>
}

/**
 * A limit that is no HTTP service: a program that writes records to a topic, or reads a filled one from its beginning to its end, as fast as this
 * machine can.
 */
export interface LimitTool {
  readonly facts: Omit<SystemFacts, 'versions' | 'unavailable'>
  /** produce: fills an empty topic with `records` records. drain: reads the `records` records that are in the topic. */
  readonly task: 'produce' | 'drain'
  /** produce: what it writes is valid input of KafkaTrace's consumer, each record an event with an id of its own. */
  readonly writesEvents?: boolean
  /** As of a System. */
  prepare(say: (progress: string) => void): Promise<Record<string, string>>
  /** @throws Error if it did not do all of it, with what it said */
  run(options: LimitOptions): Promise<LimitMeasurement>
}

export interface LimitOptions {
  /** `host:port`, comma-separated. */
  brokers: string
  topic: string
  records: number
  /** Of a record's value. */
  valueBytes: number
  /** For logs and scratch files; removed after the run. */
  directory: string
}

export interface LimitMeasurement {
  /** Records acknowledged, or read. */
  events: number
  /** From the first record to the last acknowledgement, or from the first record that was read to the last; start-up left out. */
  seconds: number
  /** User and system time of the whole program in the same time; with start-up where it cannot be told apart. */
  cpuSeconds: number
}
