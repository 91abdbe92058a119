/** What the project asks of a broker, whichever it is: where it listens, a way to have topics, and an end. */
export interface Broker {
  readonly name: 'embedded' | 'kafka' | 'redpanda' | 'external'
  /** `host:port`, comma-separated, one a node: the value of librdkafka's `bootstrap.servers`. */
  readonly bootstrapServers: string
  /** What a person should know of it in a line: its version, where it keeps data, what it is good for. */
  readonly description: string
  /** Creates the topics that are not there yet and returns once they can be written to; existing topics are left as they are. */
  createTopics(names: readonly string[], partitions: number): Promise<void>
  /** Ends what was started for it, and returns once it is gone. A broker that we did not start is left running. */
  stop(): Promise<void>
}

/** The broker cannot be had on this machine. The message is one line that says what to do about it. */
export class BrokerUnavailableError extends Error {
  override readonly name = 'BrokerUnavailableError'
}
