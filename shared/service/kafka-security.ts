import { type Static, type TObject, Type } from '@sinclair/typebox'
import { oneOf } from './one-of.ts'
import { type Place, pairFault, pemFault, type Wanted, withNewlines } from './pem.ts'
import { readNamedFile, readSecretFile, SecretFileError } from './secret-file.ts'

/** The variables about what Kafka's clients authenticate with, and what they stand for. */

const text = (description: string, extra: object = {}) => Type.Optional(Type.String({ description, ...extra }))
const hidden = { secret: true } as const

export const kafkaSecurityVariables = {
  KAFKA_SECURITY_PROTOCOL: oneOf(['plaintext', 'ssl', 'sasl_plaintext', 'sasl_ssl'], {
    default: 'plaintext',
    description: 'The security protocol of the connections to the brokers.',
  }),
  KAFKA_SASL_MECHANISM: oneOf(['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512', 'OAUTHBEARER', 'AWS_MSK_IAM'], {
    default: 'SCRAM-SHA-512',
    description:
      'With sasl_plaintext and sasl_ssl: the mechanism. OAUTHBEARER gets its tokens from KAFKA_OAUTH_TOKEN_URL, AWS_MSK_IAM makes them of the AWS credentials that the AWS SDK finds.',
  }),
  KAFKA_SASL_USERNAME: text('With PLAIN and SCRAM: the user.'),
  KAFKA_SASL_USERNAME_FILE: text('A file with the user, in place of KAFKA_SASL_USERNAME. Read again when it changes.'),
  KAFKA_SASL_PASSWORD: text('With PLAIN and SCRAM: the password.', hidden),
  KAFKA_SASL_PASSWORD_FILE: text(
    'A file with the password, in place of KAFKA_SASL_PASSWORD. Read again when it changes.',
  ),
  KAFKA_SSL_CA_FILE: text(
    'With ssl and sasl_ssl: a PEM file of trusted CA certificates; without it, the system’s. Read again when it changes.',
  ),
  KAFKA_SSL_CA_PEM: text('The same certificates, in place of the file.'),
  KAFKA_SSL_CERTIFICATE_FILE: text(
    'With ssl and sasl_ssl: this client’s certificate, PEM, then those of intermediate authorities. Read again when it changes.',
  ),
  KAFKA_SSL_CERTIFICATE_PEM: text('The same certificate, in place of the file.'),
  KAFKA_SSL_KEY_FILE: text('With ssl and sasl_ssl: this client’s key, PEM. Read again when it changes.'),
  KAFKA_SSL_KEY_PEM: text('The same key, in place of the file.', hidden),
  KAFKA_SSL_KEY_PASSWORD: text('The password of the client’s key, if it has one.', hidden),
  KAFKA_SSL_KEY_PASSWORD_FILE: text(
    'A file with that password, in place of KAFKA_SSL_KEY_PASSWORD. Read again when it changes.',
  ),
  KAFKA_OAUTH_TOKEN_URL: text('With OAUTHBEARER: the issuer’s token endpoint, https.', {
    pattern: '^https?://[^\\s]+$',
    form: 'a URL of http or https',
    ...hidden,
  }),
  KAFKA_OAUTH_CLIENT_ID: text('With OAUTHBEARER: the client’s id at the issuer.'),
  KAFKA_OAUTH_CLIENT_SECRET: text('With OAUTHBEARER: the client’s secret.', hidden),
  KAFKA_OAUTH_CLIENT_SECRET_FILE: text(
    'A file with the client’s secret, in place of KAFKA_OAUTH_CLIENT_SECRET. Read for each token.',
  ),
  KAFKA_OAUTH_SCOPE: text('With OAUTHBEARER: the scopes to ask for, separated by spaces.'),
  KAFKA_OAUTH_EXTENSIONS: text(
    'With OAUTHBEARER: SASL extensions (RFC 7628), such as logicalCluster=lkc-1,identityPoolId=pool-1.',
    {
      pattern: '^[A-Za-z]+=[!-+\\--~]+(,[A-Za-z]+=[!-+\\--~]+)*$',
      form: 'NAME=VALUE, separated by commas, without spaces',
    },
  ),
  KAFKA_OAUTH_CA_FILE: text(
    'With OAUTHBEARER: a PEM file of CA certificates that the token endpoint’s may be signed by; without it, the runtime’s. Read for each token.',
  ),
  AWS_REGION: text('With AWS_MSK_IAM: the region of the cluster.', { pattern: '^[a-z0-9-]+$' }),
}

export type KafkaSecurityConfig = Readonly<Static<TObject<typeof kafkaSecurityVariables>>>

/** What clients authenticate with: PEMs, a user and a password. */
export interface KafkaSecrets {
  authorities: string | undefined
  certificate: string | undefined
  key: string | undefined
  keyPassword: string | undefined
  username: string | undefined
  password: string | undefined
}

const PEMS = {
  authorities: ['KAFKA_SSL_CA_FILE', 'KAFKA_SSL_CA_PEM'],
  certificate: ['KAFKA_SSL_CERTIFICATE_FILE', 'KAFKA_SSL_CERTIFICATE_PEM'],
  key: ['KAFKA_SSL_KEY_FILE', 'KAFKA_SSL_KEY_PEM'],
} as const satisfies Record<Wanted, readonly [file: string, value: string]>

const KEY_PASSWORD = ['KAFKA_SSL_KEY_PASSWORD', 'KAFKA_SSL_KEY_PASSWORD_FILE'] as const

/** Values that may stand in a file. */
const FILES = [
  ['KAFKA_SASL_USERNAME', 'KAFKA_SASL_USERNAME_FILE'],
  ['KAFKA_SASL_PASSWORD', 'KAFKA_SASL_PASSWORD_FILE'],
  ['KAFKA_OAUTH_CLIENT_SECRET', 'KAFKA_OAUTH_CLIENT_SECRET_FILE'],
  KEY_PASSWORD,
] as const

const hasTls = ({ KAFKA_SECURITY_PROTOCOL: protocol }: KafkaSecurityConfig): boolean => protocol.endsWith('ssl')
const hasSasl = ({ KAFKA_SECURITY_PROTOCOL: protocol }: KafkaSecurityConfig): boolean => protocol.startsWith('sasl_')

/** Whether clients authenticate with tokens, not with a user and a password. */
export const usesTokens = (config: KafkaSecurityConfig): boolean =>
  hasSasl(config) && ['OAUTHBEARER', 'AWS_MSK_IAM'].includes(config.KAFKA_SASL_MECHANISM)

/** How clients connect, for a log. */
export const securityInWords = (config: KafkaSecurityConfig): { securityProtocol: string; saslMechanism?: string } => ({
  securityProtocol: config.KAFKA_SECURITY_PROTOCOL,
  ...(hasSasl(config) && { saslMechanism: config.KAFKA_SASL_MECHANISM }),
})

/** Whether clients authenticate with a user and a password. */
export const usesPassword = (config: KafkaSecurityConfig): boolean => hasSasl(config) && !usesTokens(config)

/** The files that the clients' secrets come from. */
export function kafkaSecretFiles(config: KafkaSecurityConfig): string[] {
  const names = [
    ...(hasTls(config) ? [...Object.values(PEMS).map(([file]) => file), 'KAFKA_SSL_KEY_PASSWORD_FILE' as const] : []),
    ...(usesPassword(config) ? (['KAFKA_SASL_USERNAME_FILE', 'KAFKA_SASL_PASSWORD_FILE'] as const) : []),
  ]
  return names.flatMap((name) => config[name] ?? [])
}

/**
 * Reads what clients authenticate with.
 * @returns with every fault; then the secrets are not to be used. Doubts are about what can be meant as it is
 */
export function readKafkaSecrets(config: KafkaSecurityConfig): {
  secrets: KafkaSecrets
  faults: string[]
  doubts: string[]
} {
  const faults: string[] = []
  const doubts: string[] = []
  const attempt = <T>(read: () => T): T | undefined => {
    try {
      return read()
    } catch (error) {
      if (!(error instanceof SecretFileError)) throw error
      faults.push(error.message)
      return undefined
    }
  }
  const places = new Map<Wanted, Place>()
  const pem = (wanted: Wanted): string | undefined => {
    if (!hasTls(config)) return undefined
    const [file, value] = PEMS[wanted]
    const [path, given] = [config[file], config[value]]
    if (path === undefined && given === undefined) return undefined
    const place = path === undefined ? { variable: value, file: undefined } : { variable: file, file: path }
    places.set(wanted, place)
    const bytes =
      path === undefined ? Buffer.from(withNewlines(given as string)) : attempt(() => readNamedFile(file, path, value))
    if (bytes === undefined) return undefined
    const fault = pemFault(bytes, wanted, place)
    if (fault !== undefined) faults.push(fault)
    return fault === undefined ? bytes.toString('utf8') : undefined
  }
  const value = (isUsed: boolean, [name, file]: (typeof FILES)[number]): string | undefined => {
    const path = config[file]
    if (!isUsed || path === undefined) return config[name]
    const text = attempt(() => readSecretFile(file, path))
    if (text !== undefined && text !== text.trim())
      doubts.push(`${file}=${path} has white space at its beginning or its end, which is used as a part of it`)
    return text
  }
  const secrets: KafkaSecrets = {
    authorities: pem('authorities'),
    certificate: pem('certificate'),
    key: pem('key'),
    keyPassword: value(hasTls(config), KEY_PASSWORD),
    username: value(usesPassword(config), ['KAFKA_SASL_USERNAME', 'KAFKA_SASL_USERNAME_FILE']),
    password: value(usesPassword(config), ['KAFKA_SASL_PASSWORD', 'KAFKA_SASL_PASSWORD_FILE']),
  }
  const { certificate, key, keyPassword } = secrets
  if (certificate !== undefined && key !== undefined) {
    const fault = pairFault(
      { pem: certificate, place: places.get('certificate') as Place },
      { pem: key, place: places.get('key') as Place },
      {
        variable: KEY_PASSWORD.find((name) => config[name] !== undefined) ?? KEY_PASSWORD[0],
        value: keyPassword,
      },
    )
    if (fault !== undefined) faults.push(fault)
  }
  return { secrets, faults, doubts }
}

/** What tokens are asked for with, read anew. @throws SecretFileError */
export function readTokenSecrets(config: KafkaSecurityConfig): {
  clientSecret: string
  authorities: string | undefined
} {
  const { KAFKA_OAUTH_CLIENT_SECRET_FILE: file, KAFKA_OAUTH_CA_FILE: caFile } = config
  const clientSecret =
    file === undefined
      ? (config.KAFKA_OAUTH_CLIENT_SECRET ?? '')
      : readSecretFile('KAFKA_OAUTH_CLIENT_SECRET_FILE', file)
  if (caFile === undefined) return { clientSecret, authorities: undefined }
  const bytes = readNamedFile('KAFKA_OAUTH_CA_FILE', caFile)
  const fault = pemFault(bytes, 'authorities', { variable: 'KAFKA_OAUTH_CA_FILE', file: caFile })
  if (fault !== undefined) throw new SecretFileError(fault)
  return { clientSecret, authorities: bytes.toString('utf8') }
}

/** RFC 7628, section 3.1; by name. */
export const extensionsOf = (given: string | undefined): Record<string, string> =>
  Object.fromEntries(
    (given === undefined ? [] : given.split(',')).map((pair) => {
      const at = pair.indexOf('=')
      return [pair.slice(0, at), pair.slice(at + 1)]
    }),
  )

/** Variables that nothing would be done with. Whoever sets a password does not mean that clients connect without one. */
function unusedFaults(config: KafkaSecurityConfig, given: ReadonlySet<string>): string[] {
  const is = (name: 'KAFKA_SECURITY_PROTOCOL' | 'KAFKA_SASL_MECHANISM'): string =>
    given.has(name) ? `${name} is ${config[name]}` : `${name} is not set, so that it is ${config[name]}`
  const unused = (name: string): { isFor: string; but: string } | undefined => {
    if (name.startsWith('KAFKA_SSL_'))
      return hasTls(config) ? undefined : { isFor: 'ssl and sasl_ssl', but: is('KAFKA_SECURITY_PROTOCOL') }
    const isOfTokens = name.startsWith('KAFKA_OAUTH_')
    if (!isOfTokens && !name.startsWith('KAFKA_SASL_')) return undefined
    if (!hasSasl(config)) return { isFor: 'sasl_plaintext and sasl_ssl', but: is('KAFKA_SECURITY_PROTOCOL') }
    if (name === 'KAFKA_SASL_MECHANISM') return undefined
    if (isOfTokens ? config.KAFKA_SASL_MECHANISM === 'OAUTHBEARER' : usesPassword(config)) return undefined
    return { isFor: isOfTokens ? 'OAUTHBEARER' : 'PLAIN and SCRAM', but: is('KAFKA_SASL_MECHANISM') }
  }
  return [...given].flatMap((name) => {
    const found = unused(name)
    return found === undefined ? [] : [`${name} is for ${found.isFor}, and ${found.but}.`]
  })
}

/**
 * Faults of these variables together, and of the files that they name.
 * @param given the variables that are set
 * @param isDevelopment allows what others on the network could read
 */
export function kafkaSecurityFaults(
  config: KafkaSecurityConfig,
  given: ReadonlySet<string>,
  isDevelopment: boolean,
): string[] {
  const faults = unusedFaults(config, given)
  const fault = (when: boolean, said: string): void => {
    if (when) faults.push(said)
  }
  for (const [name, file] of [...FILES, ...Object.values(PEMS).map(([file, value]) => [value, file] as const)])
    fault(config[name] !== undefined && config[file] !== undefined, `${name} and ${file} are both set: remove one.`)
  if (usesPassword(config))
    for (const [name, file] of FILES.slice(0, 2))
      fault(
        config[name] === undefined && config[file] === undefined,
        `${name} is not set, nor is ${file}, and KAFKA_SECURITY_PROTOCOL is ${config.KAFKA_SECURITY_PROTOCOL}.`,
      )
  if (usesTokens(config)) faults.push(...tokenFaults(config, isDevelopment))
  const has = (wanted: Wanted): boolean => PEMS[wanted].some((name) => config[name] !== undefined)
  fault(
    hasTls(config) && has('certificate') !== has('key'),
    'KAFKA_SSL_CERTIFICATE_FILE and KAFKA_SSL_KEY_FILE go together, as do KAFKA_SSL_CERTIFICATE_PEM and KAFKA_SSL_KEY_PEM: set both or neither.',
  )
  for (const name of KEY_PASSWORD)
    fault(
      hasTls(config) && config[name] !== undefined && !has('key'),
      `${name} is set, and no key is: neither KAFKA_SSL_KEY_FILE nor KAFKA_SSL_KEY_PEM.`,
    )
  faults.push(...readKafkaSecrets(config).faults)
  return faults
}

function tokenFaults(config: KafkaSecurityConfig, isDevelopment: boolean): string[] {
  const { KAFKA_SASL_MECHANISM: mechanism, KAFKA_OAUTH_TOKEN_URL: url } = config
  const faults: string[] = []
  // Whoever reads a token can use it until it expires (RFC 6750, section 5.2).
  if (!hasTls(config) && !isDevelopment)
    faults.push(
      `KAFKA_SASL_MECHANISM=${mechanism} sends a token, and KAFKA_SECURITY_PROTOCOL=${config.KAFKA_SECURITY_PROTOCOL} does not encrypt it: use sasl_ssl.`,
    )
  const missing = (name: string, file?: string): void => {
    faults.push(
      `${name} is not set${file === undefined ? '' : `, nor is ${file}`}, and KAFKA_SASL_MECHANISM is ${mechanism}.`,
    )
  }
  if (mechanism === 'AWS_MSK_IAM') {
    if (config.AWS_REGION === undefined) missing('AWS_REGION')
    return faults
  }
  if (url === undefined) missing('KAFKA_OAUTH_TOKEN_URL')
  else if (!URL.canParse(url)) faults.push('KAFKA_OAUTH_TOKEN_URL=(secret) is not a URL.')
  else if (!url.startsWith('https:') && !isDevelopment)
    faults.push('KAFKA_OAUTH_TOKEN_URL is not https, and the client’s secret is sent there (RFC 6749, section 2.3.1).')
  if (config.KAFKA_OAUTH_CLIENT_ID === undefined) missing('KAFKA_OAUTH_CLIENT_ID')
  if (config.KAFKA_OAUTH_CLIENT_SECRET === undefined && config.KAFKA_OAUTH_CLIENT_SECRET_FILE === undefined)
    missing('KAFKA_OAUTH_CLIENT_SECRET', 'KAFKA_OAUTH_CLIENT_SECRET_FILE')
  if ('auth' in extensionsOf(config.KAFKA_OAUTH_EXTENSIONS))
    faults.push('KAFKA_OAUTH_EXTENSIONS has auth, which is the token’s own (RFC 7628, section 3.1).')
  try {
    readTokenSecrets(config)
  } catch (error) {
    if (!(error instanceof SecretFileError)) throw error
    faults.push(error.message)
  }
  return faults
}
