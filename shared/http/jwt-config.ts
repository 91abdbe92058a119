import { type Static, type TObject, Type } from '@sinclair/typebox'
import { pointerTo } from '../events/json-pointer.ts'
import { integer } from '../service/config.ts'
import type { Logger } from '../service/logger.ts'
import { shownUrl } from '../service/redact.ts'
import { claimPath } from './claims.ts'
import type { IssuerKeys } from './issuer.ts'
import type { Tokens } from './tokens.ts'

/** Variables about tokens, beside keys. */

const URL_PATTERN = '^https?://[^\\s/?#@]+[^\\s?#@]*$'

export const jwtVariables = {
  JWT_ISSUER: Type.Optional(
    Type.String({
      pattern: URL_PATTERN,
      form: 'a URL of http or https, without user, query and fragment',
      description:
        'With AUTH=jwt: the issuer of tokens, exactly as their claim iss has it, such as https://login.example.com/realms/shop. Its metadata is read at /.well-known/openid-configuration below it.',
    }),
  ),
  JWT_AUDIENCE: Type.Optional(
    Type.String({ minLength: 1, description: 'With AUTH=jwt: what the claim aud of tokens has to name: this API.' }),
  ),
  JWT_JWKS_URL: Type.Optional(
    Type.String({
      pattern: '^https?://[^\\s/?#@]+[^\\s#@]*$',
      form: 'a URL of http or https, without user and fragment',
      description: 'Where the issuer’s keys are. Without it, where its metadata says.',
    }),
  ),
  JWT_TENANT_CLAIM: Type.String({
    default: 'tenant',
    description:
      'The claim that names the tenant; "*" in it stands for all tenants. A dot leads into an object; a name that has dots is written as a JSON pointer.',
  }),
  JWT_STREAMS_CLAIM: Type.Optional(
    Type.String({
      description:
        'The claim that names the streams; "*" in it stands for all. Tokens without the claim are then refused. Without this variable, tokens are for all streams of their tenant.',
    }),
  ),
  JWT_ROLES_CLAIM: Type.String({
    default: 'roles',
    description: 'The claim that names the roles: send, read, operate. In Keycloak: realm_access.roles.',
  }),
  JWT_ROLES_PREFIX: Type.String({
    default: '',
    description: 'What the roles of this service begin with among others of that claim, such as kafkatrace-.',
  }),
  JWT_CLOCK_SKEW_SECONDS: integer(
    30,
    0,
    300,
    'How far the issuer’s clock may be off: tokens are valid for so much longer, and earlier.',
  ),
}

type JwtVariables = Static<TObject<typeof jwtVariables>>
type Given = JwtVariables & { AUTH: string; NODE_ENV: string }

/** Faults of these variables together. */
export function jwtFaults(config: Given): string[] {
  const faults: string[] = []
  const isOn = config.AUTH === 'jwt'
  for (const name of ['JWT_ISSUER', 'JWT_AUDIENCE'] as const) {
    if (isOn && config[name] === undefined) faults.push(`${name} is not set, and AUTH is jwt.`)
    if (!isOn && config[name] !== undefined) faults.push(`${name} is for AUTH=jwt, and AUTH is ${config.AUTH}.`)
  }
  for (const name of ['JWT_ISSUER', 'JWT_JWKS_URL'] as const) faults.push(...withoutTls(config, name))
  if (config.JWT_ISSUER?.includes('/.well-known/') === true)
    faults.push(
      `JWT_ISSUER=${config.JWT_ISSUER} is the address of metadata: set the issuer, as it stands in tokens: often what is before /.well-known/.`,
    )
  for (const name of ['JWT_TENANT_CLAIM', 'JWT_STREAMS_CLAIM', 'JWT_ROLES_CLAIM'] as const) {
    const claim = config[name]
    if (claim !== undefined && claimPath(claim) === undefined)
      faults.push(
        `${name}=${JSON.stringify(claim)} is no name of a claim, nor a JSON pointer to one. Where the name itself has dots or slashes, write it as ${pointerTo(claim)}.`,
      )
  }
  return faults
}

/** Of a URL that has to be one of https, because whoever could change what comes from there could let in anybody. */
export function withoutTls<N extends string>(
  config: { NODE_ENV: string } & { [name in N]?: string | undefined },
  name: N,
): string[] {
  const url = config[name]
  return url?.startsWith('http:') === true && config.NODE_ENV !== 'development'
    ? [`${name}=${shownUrl(url)} is without https: that is for development only, with NODE_ENV=development.`]
    : []
}

export interface Jwt {
  keys: IssuerKeys
  tokens: Tokens
}

/** What verifies tokens, with AUTH=jwt; undefined without it. Its keys are not started. */
export async function jwtOf(
  config: JwtVariables & { AUTH: string },
  log: Pick<Logger, 'info' | 'warn'>,
): Promise<Jwt | undefined> {
  const { JWT_ISSUER: issuer, JWT_AUDIENCE: audience } = config
  if (config.AUTH !== 'jwt' || issuer === undefined || audience === undefined) return undefined
  // Only here: a service without tokens does not load what verifies them.
  const [{ IssuerKeys }, { Tokens }] = await Promise.all([import('./issuer.ts'), import('./tokens.ts')])
  const keys = new IssuerKeys({ issuer, jwksUrl: config.JWT_JWKS_URL, log })
  const pathOf = (claim: string) => claimPath(claim) ?? []
  const names = {
    tenant: pathOf(config.JWT_TENANT_CLAIM),
    streams: config.JWT_STREAMS_CLAIM === undefined ? undefined : pathOf(config.JWT_STREAMS_CLAIM),
    roles: pathOf(config.JWT_ROLES_CLAIM),
    rolesPrefix: config.JWT_ROLES_PREFIX,
  }
  const tokens = new Tokens({ keys, issuer, audience, clockSkewSeconds: config.JWT_CLOCK_SKEW_SECONDS, names })
  return { keys, tokens }
}
