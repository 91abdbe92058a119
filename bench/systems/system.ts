import type { SystemFacts } from '../result.ts'
import type { DrainHandler } from '../workloads.ts'

/**
 * A measured system: KafkaTrace, a peer, or a limit. Every HTTP system listens on `127.0.0.1:port` and answers `POST /v1/events`; the workload
 * decides what the body is (plain JSON events, one or an array). It answers 202 if, and only if, every event is stored.
 */
export interface System {
  readonly facts: Omit<SystemFacts, 'versions' | 'unavailable'>
  /** Where its address is, for systems that have paths of their own. */
  readonly path?: string
  /**
   * Installs and builds what it needs. Later calls do nothing. Reports its progress.
   * @returns versions of its components, by name
   * @throws UnavailableError with the reason in one line
   */
  prepare(say: (progress: string) => void): Promise<Record<string, string>>
  /** Starts it and returns when it accepts requests. The topic exists. */
  start(options: StartOptions): Promise<RunningSystem>
}

export interface StartOptions {
  /** `host:port`, comma-separated. */
  brokers: string
  /** The topic that it writes to. */
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
  /** Stops it and returns when it is gone. */
  stop(): Promise<void>
}

/** A consumer that copies the records of a filled topic to another one, exactly once, until it is stopped. It is measured by what it commits. */
export interface Drain extends Pick<System, 'facts' | 'prepare'> {
  /** Both topics exist. */
  drain(options: DrainOptions): Promise<RunningDrain>
}

export interface DrainOptions extends Omit<StartOptions, 'port'> {
  /** The topic of the outcomes. */
  output: string
  handler: DrainHandler
}

export type RunningDrain = Pick<RunningSystem, 'processes' | 'stop'>

/** A limit without HTTP: a program that writes records to a topic as fast as this machine allows. */
export interface LimitTool {
  readonly facts: Omit<SystemFacts, 'versions' | 'unavailable'>
  /** What it writes is valid input of KafkaTrace's consumer, each record an event with an id of its own. */
  readonly writesEvents?: boolean
  /** As of a System. */
  prepare(say: (progress: string) => void): Promise<Record<string, string>>
  /** @throws Error with its output, when it did not do all of it */
  run(options: LimitOptions): Promise<LimitMeasurement>
}

export interface LimitOptions {
  /** `host:port`, comma-separated. */
  brokers: string
  topic: string
  records: number
  /** Size in bytes of a record's value. */
  valueBytes: number
  /** For logs and scratch files; removed after the run. */
  directory: string
}

export interface LimitMeasurement {
  /** Records acknowledged. */
  events: number
  /** From the first record to the last acknowledgement, without start-up. */
  seconds: number
  /** User and system time of the program in that time, including start-up where it cannot be separated. */
  cpuSeconds: number
}
