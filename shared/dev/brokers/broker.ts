/** A broker as the project uses it: its address, topic creation, and stop. */
export interface Broker {
  readonly name: 'embedded' | 'kafka' | 'redpanda' | 'external'
  /** `host:port`, comma-separated, one a node: the value of librdkafka's `bootstrap.servers`. */
  readonly bootstrapServers: string
  /** One line for people: version, where the data is, what it is for. */
  readonly description: string
  /** Creates missing topics and returns once they can be written to. Leaves existing topics alone. */
  createTopics(names: readonly string[], partitions: number): Promise<void>
  /** Stops what was started for it and returns once it is gone. A broker that we did not start keeps running. */
  stop(): Promise<void>
}

/** The broker is not available on this machine. The message is one line that says what to do. */
export class BrokerUnavailableError extends Error {
  override readonly name = 'BrokerUnavailableError'
}
