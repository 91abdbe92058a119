import { type Static, type TObject, Type } from '@sinclair/typebox'
import { DEFAULT_TENANT } from '../events/topics.ts'
import { ConfigError, choice, type commonVariables, loadConfig } from '../service/config.ts'
import type { Logger } from '../service/logger.ts'
import { type Access, LiveAccess } from './access.ts'
import { type Authorise, authoriseByKey, authoriseNobody, onlyTenant } from './authorise.ts'
import { authoriseByToken } from './bearer.ts'
import { authoriseByCertificate } from './client-certificates.ts'
import { jwtFaults, jwtVariables } from './jwt-config.ts'
import { loadTenants, type Tenant, type Tenants } from './tenants.ts'
import type { Tokens } from './tokens.ts'

/** Variables about who may use a service. */
export const authVariables = {
  AUTH: choice(['on', 'jwt', 'off'], {
    default: 'on',
    description:
      'on: requests need a key from TENANTS_FILE. jwt: a key, or a token of JWT_ISSUER. off: every request is of the tenant "default", unless its Host or Origin may be of a website (403); only with NODE_ENV=development.',
  }),
  TENANTS_FILE: Type.Optional(
    Type.String({
      description:
        'The JSON file of tenants, their streams, quotas, hashed keys and sources of webhooks. It is read again when it changes (docs/operations.md). With AUTH=off it is not needed, and has the tenant "default" alone.',
    }),
  ),
  STREAMS: Type.Optional(
    Type.String({
      pattern: '^[a-z0-9][a-z0-9-]{0,62}(,[a-z0-9][a-z0-9-]{0,62})*$',
      description: 'With AUTH=off and without TENANTS_FILE: streams besides "events", separated by commas.',
    }),
  ),
  ...jwtVariables,
}

type AuthVariables = Static<TObject<typeof authVariables & Pick<typeof commonVariables, 'NODE_ENV'>>>

/** Faults of these variables together. */
export function authFaults(config: AuthVariables): string[] {
  const faults: string[] = []
  const fault = (when: boolean, text: string): void => {
    if (when) faults.push(text)
  }
  fault(
    config.AUTH === 'off' && config.NODE_ENV !== 'development',
    'AUTH=off is for development only: set NODE_ENV=development too, or AUTH=on.',
  )
  fault(
    config.AUTH !== 'off' && config.TENANTS_FILE === undefined,
    `TENANTS_FILE is not set, and AUTH is ${config.AUTH}.`,
  )
  fault(
    config.AUTH !== 'off' && config.STREAMS !== undefined,
    `STREAMS is for AUTH=off; with AUTH=${config.AUTH} the streams stand in TENANTS_FILE.`,
  )
  fault(
    config.AUTH === 'off' && config.TENANTS_FILE !== undefined && config.STREAMS !== undefined,
    'STREAMS and TENANTS_FILE are both set, and both name streams: remove one.',
  )
  return [...faults, ...jwtFaults(config)]
}

/**
 * A service's configuration, and the tenants of its file.
 * @param cross finds faults of several variables together
 * @throws ConfigError naming every fault of both
 */
export function loadWithTenants<S extends TObject>(
  schema: S,
  env: Readonly<Record<string, string | undefined>>,
  cross: (config: Static<S>, given: ReadonlySet<string>) => string[],
): { config: Readonly<Static<S>>; tenants: Tenants | undefined } {
  let tenants: Tenants | undefined
  const config = loadConfig(schema, env, (values, given) => {
    const faults = cross(values, given)
    const { AUTH, TENANTS_FILE } = values as AuthVariables
    if (TENANTS_FILE === undefined) return faults
    try {
      tenants = loadTenants(TENANTS_FILE)
      if (AUTH === 'off') faults.push(...faultsOfOnly(tenants.list, TENANTS_FILE))
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
      faults.push(...error.faults)
    }
    return faults
  })
  return { config, tenants }
}

/** With AUTH=off. */
function faultsOfOnly(list: readonly Tenant[], file: string): string[] {
  if (list.length === 1 && list[0]?.name === DEFAULT_TENANT) return []
  return [
    `TENANTS_FILE=${file}: AUTH is off, and all requests are of the tenant "${DEFAULT_TENANT}": declare that one, and no other.`,
  ]
}

/**
 * Who may do what: keys of the tenants file, with AUTH=jwt also tokens, or, with AUTH=off, everybody. Not started.
 * @param declared what the file said at the start
 * @param tokens with AUTH=jwt
 * @throws Error where there are no tenants, instead of letting everybody in
 */
export function accessOf(
  {
    AUTH,
    STREAMS,
    TENANTS_FILE,
    TLS_CLIENT_CA_FILE,
  }: Pick<AuthVariables, 'AUTH' | 'STREAMS' | 'TENANTS_FILE'> & {
    TLS_CLIENT_CA_FILE?: string
  },
  declared: Tenants | undefined,
  log: Pick<Logger, 'info' | 'warn'>,
  tokens?: Tokens,
): Access {
  if (AUTH === 'off')
    return new LiveAccess({
      file: TENANTS_FILE,
      tenants: declared ?? tenantsWithoutFile(STREAMS?.split(',')),
      authorise: authoriseNobody,
      faultsOf: (list) => faultsOfOnly(list, TENANTS_FILE ?? ''),
      log,
    })
  if (declared === undefined) throw new Error(`AUTH is ${AUTH}, and no tenants were read`)
  const bySecret: (tenants: Tenants) => Authorise = tokens === undefined ? authoriseByKey : authoriseByToken(tokens)
  const authorise = (tenants: Tenants): Authorise =>
    TLS_CLIENT_CA_FILE === undefined ? bySecret(tenants) : authoriseByCertificate(tenants, bySecret(tenants))
  return new LiveAccess({ file: TENANTS_FILE, tenants: declared, authorise, log })
}

const tenantsWithoutFile = (streams: readonly string[] | undefined): Tenants => ({
  list: [onlyTenant(streams)],
  credentials: new Map(),
  find: () => undefined,
  again: () => undefined,
  certified: () => [],
})
