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

/** The system cannot be had on this machine. */
export class UnavailableError extends Error {
  override readonly name = 'UnavailableError'
}
