import { type Static, type TObject, Type } from '@sinclair/typebox'
import { ConfigError, choice, type commonVariables, loadConfig } from '../service/config.ts'
import { type Authorise, authoriseByKey, authoriseNobody } from './authorise.ts'
import { loadTenants, type Tenant, type Tenants } from './tenants.ts'

/** Variables about who may use a service. */
export const authVariables = {
  AUTH: choice(['on', 'off'], {
    default: 'on',
    description:
      'on: requests need a key from TENANTS_FILE. off: every request is of the tenant "default"; only with NODE_ENV=development.',
  }),
  TENANTS_FILE: Type.Optional(
    Type.String({ description: 'With AUTH=on: the JSON file of tenants, their streams, quotas and hashed keys.' }),
  ),
  STREAMS: Type.Optional(
    Type.String({
      pattern: '^[a-z0-9][a-z0-9-]{0,62}(,[a-z0-9][a-z0-9-]{0,62})*$',
      description: 'With AUTH=off: streams besides "events", separated by commas.',
    }),
  ),
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
  fault(config.AUTH === 'on' && config.TENANTS_FILE === undefined, 'TENANTS_FILE is not set, and AUTH is on.')
  fault(
    config.AUTH === 'off' && config.TENANTS_FILE !== undefined,
    'TENANTS_FILE is set, and AUTH=off does not read it: remove one.',
  )
  fault(
    config.AUTH === 'on' && config.STREAMS !== undefined,
    'STREAMS is for AUTH=off; with AUTH=on the streams stand in TENANTS_FILE.',
  )
  return faults
}

/**
 * A service's configuration, and with AUTH=on the tenants of its file.
 * @param cross finds faults of several variables together
 * @throws ConfigError naming every fault of both
 */
export function loadWithTenants<S extends TObject>(
  schema: S,
  env: Readonly<Record<string, string | undefined>>,
  cross: (config: Static<S>) => string[],
): { config: Readonly<Static<S>>; tenants: Tenants | undefined } {
  let tenants: Tenants | undefined
  const config = loadConfig(schema, env, (given) => {
    const faults = cross(given)
    const { AUTH, TENANTS_FILE } = given as AuthVariables
    if (AUTH === 'off' || TENANTS_FILE === undefined) return faults
    try {
      tenants = loadTenants(TENANTS_FILE)
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
      faults.push(...error.faults)
    }
    return faults
  })
  return { config, tenants }
}

/**
 * Who may do what: keys of the tenants file, or, with AUTH=off, all.
 * @throws Error where AUTH=on has no tenants, instead of letting everybody in
 */
export function accessOf(
  { AUTH, STREAMS }: Pick<AuthVariables, 'AUTH' | 'STREAMS'>,
  declared: Tenants | undefined,
): { authorise: Authorise; tenants: readonly Tenant[] } {
  if (declared !== undefined) return { authorise: authoriseByKey(declared), tenants: declared.list }
  if (AUTH !== 'off') throw new Error('AUTH is on, and no tenants were read')
  const { authorise, tenant } = authoriseNobody(STREAMS?.split(',') ?? [])
  return { authorise, tenants: [tenant] }
}
