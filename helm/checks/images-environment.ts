/** What a deployment tells the services by environment variables, against the schemas that the services check it with. */
import { consumerVariables, loadConsumerConfig } from '../../consumer/config.ts'
import { loadProducerConfig, producerVariables } from '../../producer/config.ts'
import { ConfigError } from '../../shared/service/config.ts'

export type Service = 'producer' | 'consumer'

const services = {
  producer: { known: producerVariables.properties, load: loadProducerConfig },
  consumer: { known: consumerVariables.properties, load: loadConsumerConfig },
} as const

/** One text for each name that the service does not know: a slip of the pen that it would silently ignore. */
export function unknownVariables(service: Service, names: readonly string[]): string[] {
  return names.filter((name) => !(name in services[service].known)).map((name) => `${service} has no variable ${name}`)
}

/** What the service's own loader says of such an environment, a text a fault. */
export function valueFaults(service: Service, environment: Readonly<Record<string, string>>): string[] {
  try {
    services[service].load(environment)
    return []
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return error.faults.map((fault) => `${service}: ${fault}`)
  }
}

/** How long the service may take to stop, in ms, in such an environment that has no faults. */
export const drainTimeoutMs = (service: Service, environment: Readonly<Record<string, string>>): number =>
  services[service].load(environment).DRAIN_TIMEOUT_MS

/** The ports that the service listens on in such an environment. */
export function portsOf(service: Service, environment: Readonly<Record<string, string>>): number[] {
  const config: Readonly<Record<string, unknown>> = services[service].load(environment)
  return ['PORT', 'OPS_PORT'].flatMap((name) => (typeof config[name] === 'number' ? [config[name]] : []))
}
