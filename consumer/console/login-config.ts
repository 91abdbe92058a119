import { type Static, type TObject, Type } from '@sinclair/typebox'
import type { ClientAddress } from '../../shared/http/client-address.ts'
import { type jwtVariables, withoutTls } from '../../shared/http/jwt-config.ts'
import type { Problem } from '../../shared/http/problem.ts'
import type { Tenant } from '../../shared/http/tenants.ts'
import type { Tokens } from '../../shared/http/tokens.ts'
import { integer, secret } from '../../shared/service/config.ts'
import type { Logger } from '../../shared/service/logger.ts'
import { readSecretFile, SecretFileError } from '../../shared/service/secret-file.ts'
import type { Login } from './login.ts'
import type { LoginResult } from './metrics.ts'

/** Variables about people who log in, and what they make. */

/** Of a secret that anybody may guess at without being noticed. */
const MIN_SECRET_CHARS = 32

export const loginVariables = {
  OIDC_CLIENT_ID: Type.Optional(
    Type.String({
      minLength: 1,
      description:
        'With AUTH=jwt: the client by which people log in to the page at JWT_ISSUER. Without it, the page asks for keys alone. Register PUBLIC_URL/auth/callback as its redirect URI, and PUBLIC_URL/ as the one after a log-out.',
    }),
  ),
  OIDC_CLIENT_SECRET: Type.Optional(
    Type.String({ description: 'The client’s secret. Without it, the client is a public one.', ...secret }),
  ),
  OIDC_CLIENT_SECRET_FILE: Type.Optional(
    Type.String({ description: 'A file with the client’s secret, read at each use.' }),
  ),
  OIDC_SCOPE: Type.String({
    default: 'openid profile',
    pattern: '^openid( [!#-\\[\\]-~]+)*$',
    description:
      'What is asked for at a log-in. Some issuers give refresh tokens only with offline_access; without one, a session ends when its access token does.',
  }),
  PUBLIC_URL: Type.Optional(
    Type.String({
      pattern: '^https?://[^\\s/?#@]+[^\\s?#@]*$',
      form: 'a URL of http or https, without user, query and fragment',
      description: 'Where browsers reach the console, such as https://console.example.com. Needed with OIDC_CLIENT_ID.',
    }),
  ),
  SESSION_SECRET: Type.Optional(
    Type.String({
      description: `With OIDC_CLIENT_ID: what sessions are encrypted with, the same for all consoles; at least ${MIN_SECRET_CHARS} characters, such as of openssl rand -base64 32. Another one ends all sessions, as another JWT_ISSUER, JWT_AUDIENCE, OIDC_CLIENT_ID or PUBLIC_URL does.`,
      ...secret,
    }),
  ),
  SESSION_SECRET_FILE: Type.Optional(Type.String({ description: 'A file with the secret, read at the start.' })),
  SESSION_MAX_MINUTES: integer(480, 1, 10_080, 'How long after a log-in a session ends, whatever the issuer says.'),
  SESSION_CHECK_SECONDS: integer(
    300,
    1,
    3_600,
    'How often the issuer is asked whether a session still holds. Somebody who was disabled there gets in for at most this long.',
  ),
}

type LoginVariables = Static<TObject<typeof loginVariables>>
type JwtVariables = Static<TObject<typeof jwtVariables>>
type Given = LoginVariables & JwtVariables & { AUTH: string; NODE_ENV: string }

const NEED_CLIENT = [
  'OIDC_CLIENT_SECRET',
  'OIDC_CLIENT_SECRET_FILE',
  'SESSION_SECRET',
  'SESSION_SECRET_FILE',
  'PUBLIC_URL',
] as const

/** Faults of these variables together. */
export function loginFaults(config: Given): string[] {
  if (config.OIDC_CLIENT_ID === undefined)
    return NEED_CLIENT.flatMap((name) =>
      config[name] === undefined ? [] : [`${name} is set, and OIDC_CLIENT_ID is not.`],
    )
  // What else is needed with it is of no use then.
  if (config.AUTH !== 'jwt') return [`OIDC_CLIENT_ID is for AUTH=jwt, and AUTH is ${config.AUTH}.`]
  const faults: string[] = []
  if (config.PUBLIC_URL === undefined) faults.push('PUBLIC_URL is not set, and OIDC_CLIENT_ID is.')
  faults.push(...withoutTls(config, 'PUBLIC_URL'))
  // An ID token is for the client that has asked for it: it must not be an access token for this API, too.
  if (config.OIDC_CLIENT_ID === config.JWT_AUDIENCE)
    faults.push('OIDC_CLIENT_ID and JWT_AUDIENCE are the same: register the API and the client of the page separately.')
  for (const name of ['OIDC_CLIENT_SECRET', 'SESSION_SECRET'] as const)
    if (config[name] !== undefined && config[`${name}_FILE`] !== undefined)
      faults.push(`${name} and ${name}_FILE are both set: remove one.`)
  const secretFile = config.OIDC_CLIENT_SECRET_FILE
  if (secretFile !== undefined) faults.push(...read('OIDC_CLIENT_SECRET_FILE', secretFile).faults)
  return [...faults, ...sessionSecret(config).faults]
}

/** The text of a secret's file, or what is wrong with it. */
function read(name: `${string}_FILE`, path: string): { text: string; faults: string[] } {
  try {
    return { text: readSecretFile(name, path), faults: [] }
  } catch (error) {
    if (error instanceof SecretFileError) return { text: '', faults: [error.message] }
    throw error
  }
}

function sessionSecret({ SESSION_SECRET, SESSION_SECRET_FILE }: LoginVariables): { text: string; faults: string[] } {
  const name = SESSION_SECRET_FILE === undefined ? 'SESSION_SECRET' : 'SESSION_SECRET_FILE'
  const { text, faults } =
    SESSION_SECRET_FILE === undefined
      ? { text: SESSION_SECRET ?? '', faults: [] }
      : read('SESSION_SECRET_FILE', SESSION_SECRET_FILE)
  if (faults.length > 0) return { text, faults }
  if (text === '')
    return { text, faults: ['SESSION_SECRET is not set, nor is SESSION_SECRET_FILE, and OIDC_CLIENT_ID is.'] }
  return {
    text,
    faults: text.length < MIN_SECRET_CHARS ? [`${name} has fewer than ${MIN_SECRET_CHARS} characters.`] : [],
  }
}

export interface LoginDepsOf {
  tokens: Tokens | undefined
  tenants(): readonly Tenant[]
  log: Logger
  onLogin(result: LoginResult): void
  failed(problem: Problem, request: Request): Problem
  clientAddress?: ClientAddress
}

/** By what people log in; undefined where they cannot. */
export async function loginOf(
  config: Given,
  { tokens, tenants, log, onLogin, failed, clientAddress }: LoginDepsOf,
): Promise<Login | undefined> {
  const { OIDC_CLIENT_ID: clientId, JWT_ISSUER: issuer, JWT_AUDIENCE: audience, PUBLIC_URL } = config
  if (clientId === undefined || issuer === undefined || audience === undefined || tokens === undefined) return undefined
  // Only here: a console without log-ins does not load what they need.
  const [{ Login }, { Oidc }, { Sessions }] = await Promise.all([
    import('./login.ts'),
    import('./oidc.ts'),
    import('./sessions.ts'),
  ])
  const publicUrl = (PUBLIC_URL ?? '').replace(/\/$/, '')
  const oidc = new Oidc({
    issuer,
    clientId,
    clientSecret: clientSecretOf(config),
    scope: config.OIDC_SCOPE,
    audience,
    redirectUri: `${publicUrl}/auth/callback`,
    homeUri: `${publicUrl}/`,
    mayBeInsecure: issuer.startsWith('http:'),
  })
  const common = {
    sealingKey: { secret: sessionSecret(config).text, at: { issuer, audience, clientId, publicUrl } },
    place: { isSecure: publicUrl.startsWith('https:') },
    log,
    failed,
    nowMs: Date.now,
  }
  const sessions = new Sessions({
    ...common,
    oidc,
    tokens,
    tenants,
    maxMs: config.SESSION_MAX_MINUTES * 60_000,
    askEveryMs: config.SESSION_CHECK_SECONDS * 1_000,
  })
  return new Login({ ...common, oidc, sessions, publicUrl, onLogin, clientAddress })
}

function clientSecretOf({ OIDC_CLIENT_SECRET: given, OIDC_CLIENT_SECRET_FILE: file }: LoginVariables) {
  if (file !== undefined) return async () => readSecretFile('OIDC_CLIENT_SECRET_FILE', file)
  return given === undefined ? undefined : async () => given
}
