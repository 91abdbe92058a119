/** Checks a deployment's environment variables against the services' own schemas. */
import { consumerVariables, loadConsumerConfig } from '../../consumer/config.ts'
import { consoleVariables } from '../../consumer/console/config.ts'
import { loadProducerConfig, producerVariables } from '../../producer/config.ts'
import { authFaults } from '../../shared/http/access-config.ts'
import { ConfigError, commonFaults, loadConfig } from '../../shared/service/config.ts'

export type Service = 'producer' | 'consumer' | 'console'

type Environment = Readonly<Record<string, string | undefined>>

const services = {
  producer: { known: producerVariables.properties, load: loadProducerConfig },
  consumer: { known: consumerVariables.properties, load: loadConsumerConfig },
  console: {
    known: consoleVariables.properties,
    // Without the tenants, whose file is not here.
    load: (env: Environment) =>
      loadConfig(consoleVariables, env, (config, given) => [...commonFaults(config, given), ...authFaults(config)]),
  },
} as const

/** One fault for each name that the service does not know, and so would silently ignore. */
export function unknownVariables(service: Service, names: readonly string[]): string[] {
  return names.filter((name) => !(name in services[service].known)).map((name) => `${service} has no variable ${name}`)
}

/** Files that variables name are where the service runs, not here. */
const isOfFileElsewhere = (fault: string): boolean =>
  /^[A-Z_]+_FILE(?:=\S+ cannot be read: ENOENT$| is to name a file, .*: ENOENT\. )/.test(fault)

/** Faults that the service's own loader finds in this environment. */
export function valueFaults(service: Service, environment: Readonly<Record<string, string>>): string[] {
  try {
    services[service].load(environment)
    return []
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return error.faults.filter((fault) => !isOfFileElsewhere(fault)).map((fault) => `${service}: ${fault}`)
  }
}

/** The service's drain time-out, in ms, in an environment without faults. */
export const drainTimeoutMs = (service: Service, environment: Readonly<Record<string, string>>): number =>
  services[service].load(environment).DRAIN_TIMEOUT_MS

/** The ports that the service listens on in this environment. */
export function portsOf(service: Service, environment: Readonly<Record<string, string>>): number[] {
  const config: Readonly<Record<string, unknown>> = services[service].load(environment)
  return ['PORT', 'OPS_PORT'].flatMap((name) => (typeof config[name] === 'number' ? [config[name]] : []))
}
