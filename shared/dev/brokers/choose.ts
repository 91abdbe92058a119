import type { Broker } from './broker.ts'
import { startEmbedded } from './embedded.ts'
import { connectExternal } from './external.ts'
import { startKafka } from './kafka.ts'
import { dockerAnswers, startRedpanda } from './redpanda.ts'

/** A broker to start, or one that is already running. */
export type BrokerChoice =
  | { readonly kind: 'embedded' | 'redpanda' | 'kafka' }
  | { readonly kind: 'external'; readonly bootstrapServers: string }

/** The syntax of `--broker`, for help texts and error messages. */
export const brokerSyntax = 'embedded|redpanda|kafka|HOST:PORT[,HOST:PORT…]'

/** Parses `--broker`. @returns undefined when it is not valid */
export function parseBrokerChoice(text: string): BrokerChoice | undefined {
  switch (text) {
    case 'embedded':
    case 'redpanda':
    case 'kafka':
      return { kind: text }
    default:
      return text.split(',').every(isAddress) ? { kind: 'external', bootstrapServers: text } : undefined
  }
}

function isAddress(text: string): boolean {
  const match = /^(?:\[[0-9a-fA-F:.]+\]|[\w.-]+):(\d{1,5})$/.exec(text)
  const port = Number(match?.[1])
  return port >= 1 && port <= 65_535
}

/** Without `--broker`: KAFKA_BROKERS where set, Redpanda where Docker answers, else embedded. */
export async function defaultBrokerChoice(
  env: Readonly<Record<string, string | undefined>> = process.env,
  hasDocker: () => Promise<boolean> = dockerAnswers,
): Promise<{ readonly choice: BrokerChoice; readonly reason: string }> {
  const servers = env.KAFKA_BROKERS
  if (servers) return { choice: { kind: 'external', bootstrapServers: servers }, reason: 'KAFKA_BROKERS is set' }
  if (await hasDocker()) return { choice: { kind: 'redpanda' }, reason: 'Docker answers' }
  return { choice: { kind: 'embedded' }, reason: 'no KAFKA_BROKERS, and no Docker that answers' }
}

export interface StartOptions {
  readonly nodes?: 1 | 3
  readonly port?: number
  /** Where data is kept. Without it, data is deleted when the broker stops. */
  readonly directory?: string
  readonly say?: (progress: string) => void
}

/** Starts the chosen broker. `nodes`, `port` (of the first node; the others follow) and `directory` apply to Apache Kafka only. */
export function startBroker(choice: BrokerChoice, { port, ...options }: StartOptions = {}): Promise<Broker> {
  switch (choice.kind) {
    case 'embedded':
      return startEmbedded(options.say)
    case 'redpanda':
      return startRedpanda(options.say)
    case 'kafka':
      return startKafka({ ...options, ...(port === undefined ? {} : { ports: [port, port + 1, port + 2] }) })
    case 'external':
      return connectExternal(choice.bootstrapServers)
  }
}
