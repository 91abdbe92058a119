import { type Static, type TObject, Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { kafkaSecurityFaults, kafkaSecurityVariables } from './kafka-security.ts'
import { oneOf } from './one-of.ts'
import { redactor } from './redact.ts'

/**
 * Configuration comes from environment variables only. A service declares its variables once, as a TypeBox object with a property for each; that schema gives
 * the type, the check, the defaults and the printed reference.
 */

/** `sysexits.h`: EX_CONFIG. */
export const EXIT_BAD_CONFIG = 78

/** An invalid environment, with every fault. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  constructor(readonly faults: readonly string[]) {
    super(
      `the configuration has ${faults.length} fault${faults.length === 1 ? '' : 's'}:\n${faults.map((f) => `  - ${f}`).join('\n')}`,
    )
  }
}

/** A variable whose value is never printed. */
export const secret = { secret: true } as const

/** The parts of a variable's schema that are used here. */
export interface Variable {
  description?: string
  default?: unknown
  secret?: boolean
  type?: string
  anyOf?: { const?: unknown }[]
  minimum?: number
  maximum?: number
  pattern?: string
  /** What matches the pattern, in words. */
  form?: string
}

/**
 * Reads the schema's variables from `env` into a frozen object. An empty value counts as not set.
 * @param cross finds faults of several variables together; also called when a variable without a default is missing, which it must not read. The second argument
 *   has the names of the variables that are set
 * @throws ConfigError naming every fault
 */
export function loadConfig<S extends TObject>(
  schema: S,
  env: Readonly<Record<string, string | undefined>>,
  cross: (config: Static<S>, given: ReadonlySet<string>) => string[] = () => [],
): Readonly<Static<S>> {
  const faults: string[] = []
  const values: Record<string, unknown> = {}
  const given = new Set<string>()
  const malformed = new Set<string>()
  for (const [name, property] of Object.entries(schema.properties)) {
    const variable: Variable = property
    const raw = env[name]
    // An invalid variable keeps its default here, so that one run finds the faults of all variables.
    if (variable.default !== undefined) values[name] = variable.default
    if (raw === undefined || raw === '') {
      if (variable.default === undefined && schema.required?.includes(name) === true)
        faults.push(`${name} is not set. ${variable.description ?? ''}`.trimEnd())
      continue
    }
    given.add(name)
    // Only decimal notation: "1e3" or "0x10" in an environment is more likely a mistake.
    const numeric = variable.type === 'integer' || variable.type === 'number'
    const value = numeric && /^-?\d+(\.\d+)?$/.test(raw) ? Number(raw) : raw
    if (Value.Check(property, value)) values[name] = value
    else {
      malformed.add(name)
      faults.push(
        `${name}=${variable.secret === true ? '(secret)' : shown(raw)} is not ${expected(variable)}. ${variable.description ?? ''}`.trimEnd(),
      )
    }
  }
  // What is said of a malformed variable besides is of its default.
  const isOfValues = (fault: string): boolean =>
    !(fault.match(/\b[A-Z][A-Z0-9_]+\b/g) ?? []).some((name) => malformed.has(name))
  faults.push(...cross(values as Static<S>, given).filter(isOfValues))
  if (faults.length > 0) throw new ConfigError(faults)
  return Object.freeze(values as Static<S>)
}

const redact = redactor()

/** A value in a fault, without a user, a password and a query. A password may have any characters, so that only the last @ tells where the host begins. */
const shown = (value: string): string =>
  JSON.stringify(
    redact(value.replace(/^((?:[a-z][a-z0-9+.-]*:)?\/\/)?.*@/is, '$1(redacted)@')).replace(
      /(:\/\/.*?)[?#].*$/s,
      '$1?(redacted)',
    ),
  )

/** The values of a variable, in words: "a whole number from 1 to 10". */
export function expected(schema: Variable): string {
  if (schema.anyOf !== undefined) return `one of ${schema.anyOf.map((one) => String(one.const)).join(', ')}`
  if (schema.type === 'integer' || schema.type === 'number') {
    const kind = schema.type === 'integer' ? 'a whole number' : 'a number'
    if (schema.minimum !== undefined && schema.maximum !== undefined)
      return `${kind} from ${schema.minimum} to ${schema.maximum}`
    return schema.minimum === undefined ? kind : `${kind} of at least ${schema.minimum}`
  }
  if (schema.form !== undefined) return schema.form
  return schema.pattern === undefined ? 'a string' : `a string that matches ${schema.pattern}`
}

/** A variable with fixed values. */
export const choice = <const T extends string>(words: readonly T[], options: { default: T; description: string }) =>
  oneOf(words, options)

export const integer = (fallback: number, minimum: number, maximum: number, description: string) =>
  Type.Integer({ default: fallback, minimum, maximum, description })

const optionalText = (description: string, extra: object = {}) => Type.Optional(Type.String({ description, ...extra }))

/** `GROUP_ID`, for consumers and for what reads their positions. */
export const groupVariable = Type.String({
  default: 'kafkatrace',
  pattern: '^[A-Za-z0-9._-]{1,200}$',
  description:
    'The consumer group. All consumers of a cluster need the same one: outcome topics belong to a stream, not to a group, and a second group that runs beside the first writes a second outcome for every new event.',
})

/** Variables of both services. */
export const commonVariables = {
  NODE_ENV: choice(['production', 'development'], {
    default: 'production',
    description:
      'development allows AUTH=off, and tokens for Kafka over connections that are not encrypted; it changes nothing else.',
  }),
  LOG_LEVEL: choice(['fatal', 'error', 'warn', 'info', 'debug', 'trace'], {
    default: 'info',
    description: 'The lowest level that is logged.',
  }),
  LOG_FORMAT: choice(['auto', 'json', 'pretty'], {
    default: 'auto',
    description: 'auto: pretty on a terminal, JSON elsewhere.',
  }),
  OPS_HOST: Type.String({
    default: '::',
    description: 'The address that the operations port listens on; ::, all of IPv6 and IPv4.',
  }),
  DRAIN_TIMEOUT_MS: integer(
    15_000,
    100,
    600_000,
    'How long a stopping process may take to finish work in flight, in ms.',
  ),
  KAFKA_BROKERS: Type.String({
    pattern: '^(\\[[0-9a-fA-F:.]+\\]|[^,:@\\s]+):\\d{1,5}(,(\\[[0-9a-fA-F:.]+\\]|[^,:@\\s]+):\\d{1,5})*$',
    form: 'host:port, separated by commas, without spaces or a scheme',
    description: 'Bootstrap brokers.',
  }),
  ...kafkaSecurityVariables,
  OTEL_EXPORTER_OTLP_ENDPOINT: optionalText(
    'The OTLP/HTTP endpoint for spans, such as http://collector:4318. Without it, there are no spans.',
    { pattern: '^https?://[^\\s]+$', form: 'a URL of http or https', ...secret },
  ),
  OTEL_TRACES_SAMPLER_ARG: Type.Number({
    default: 0.1,
    minimum: 0,
    maximum: 1,
    description:
      'The fraction of traces that is sampled, of those that start here. A trace that a client started follows the client’s flag. What fails is sent in any case.',
  }),
}

/** KAFKA_BROKERS, which has no default, may be missing while faults are looked for. */
type Common = Omit<Static<TObject<typeof commonVariables>>, 'KAFKA_BROKERS'>

/** Faults of the common variables together. @param given the variables that are set */
export function commonFaults(config: Common, given: ReadonlySet<string>): string[] {
  const faults = kafkaSecurityFaults(config, given, config.NODE_ENV === 'development')
  if (config.OTEL_EXPORTER_OTLP_ENDPOINT !== undefined && !URL.canParse(config.OTEL_EXPORTER_OTLP_ENDPOINT))
    faults.push('OTEL_EXPORTER_OTLP_ENDPOINT=(secret) is not a URL.')
  return faults
}

export type CommonConfig = Readonly<Static<TObject<typeof commonVariables>>>

/** Loads a service's configuration, or prints every fault and ends the process with {@link EXIT_BAD_CONFIG}. */
export function loadConfigOrExit<C>(load: (env: Readonly<Record<string, string | undefined>>) => C): C {
  try {
    return load(process.env)
  } catch (error) {
    return exitWith(error)
  }
}

/** Ends the process with {@link EXIT_BAD_CONFIG} after printing a {@link ConfigError}; throws everything else. */
export function exitWith(error: unknown): never {
  if (!(error instanceof ConfigError)) throw error
  process.stderr.write(`${error.message}\nAll variables: docs/configuration.md\n`)
  process.exit(EXIT_BAD_CONFIG)
}
