import type { Client, SchemaInfo, SchemaMetadata } from '@confluentinc/schemaregistry/dist/schemaregistry-client.js'
import { type Static, type TObject, type TSchema, Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { secret } from '../service/config.ts'
import { oneOf } from '../service/one-of.ts'
import { shownUrl } from '../service/redact.ts'
import { messageOf } from '../service/thrown.ts'
import { MODES, type Mode } from './modes.ts'

/** A schema registry with Confluent's API: Confluent's own, Apicurio's, Redpanda's. */

export interface RegistryTimeouts {
  /** Of one request to one of the addresses. */
  attemptMs: number
  /** Of a call: all addresses, or the only one twice. */
  callMs: number
}

const TIMEOUTS: RegistryTimeouts = { attemptMs: 5_000, callMs: 15_000 }
const RETRIES = 1
const RETRY_WAIT_MS = 200
/** Of an answer. The names of some 100,000 subjects fit. */
const MAX_ANSWER_BYTES = 8 * 1024 * 1024
/** Of what a registry says about a refusal. */
const MAX_SAID_CHARS = 300

export const registryVariables = {
  SCHEMA_REGISTRY_URL: Type.Optional(
    Type.String({
      pattern: '^https?://[^\\s,@]+(,https?://[^\\s,@]+)*$',
      form: 'a URL of http or https without user, or several, separated by commas',
      description:
        'A schema registry with Confluent’s API, such as http://registry:8081. Several addresses of it, separated by commas, are tried in turn. Without user and password in it.',
      ...secret,
    }),
  ),
  SCHEMA_REGISTRY_USERNAME: Type.Optional(Type.String({ description: 'With SCHEMA_REGISTRY_URL: the user.' })),
  SCHEMA_REGISTRY_PASSWORD: Type.Optional(
    Type.String({ description: 'With SCHEMA_REGISTRY_URL: the password.', ...secret }),
  ),
  SCHEMA_REGISTRY_TOKEN: Type.Optional(
    Type.String({ description: 'With SCHEMA_REGISTRY_URL: a bearer token, in place of user and password.', ...secret }),
  ),
}

export type RegistryConfig = Readonly<Static<TObject<typeof registryVariables>>>

/** Faults of the registry’s variables together. */
export function registryFaults(config: RegistryConfig): string[] {
  const {
    SCHEMA_REGISTRY_URL: url,
    SCHEMA_REGISTRY_USERNAME: user,
    SCHEMA_REGISTRY_PASSWORD: password,
    SCHEMA_REGISTRY_TOKEN: token,
  } = config
  const faults: string[] = []
  if (url !== undefined && !addressesOf(url).every((one) => URL.canParse(one)))
    faults.push('SCHEMA_REGISTRY_URL=(secret) is not a URL.')
  if (url === undefined && (user ?? password ?? token) !== undefined)
    faults.push('SCHEMA_REGISTRY_URL is not set, and credentials for it are.')
  if ((user === undefined) !== (password === undefined))
    faults.push('SCHEMA_REGISTRY_USERNAME and SCHEMA_REGISTRY_PASSWORD go together: set both or neither.')
  if (user !== undefined && token !== undefined)
    faults.push('SCHEMA_REGISTRY_TOKEN and SCHEMA_REGISTRY_USERNAME are two ways to authenticate: set one of them.')
  return faults
}

const addressesOf = (url: string): string[] => url.split(',')

/** The registry gave no answer, or refused. The message is one sentence without credentials. */
export class RegistryError extends Error {
  override readonly name = 'RegistryError'
  constructor(
    message: string,
    /** Whether the same call may succeed later. */
    readonly mayPass: boolean,
    /** Of HTTP; undefined where there was no answer that a registry gives. */
    readonly status?: number,
  ) {
    super(message)
  }
}

export type RegisteredSchema =
  /** `text` is JSON as the registry has it, which may have changed its white space. */
  | { ok: true; version: number; text: string }
  /** It is not there, or is none that can be used here. */
  | { ok: false; fault: string }

/** Every call asks the registry, within a bound; nothing is kept. All throw {@link RegistryError}. */
export interface Registry {
  /** Its addresses, for messages. */
  readonly name: string
  subjects(): Promise<string[]>
  /** In ascending order; none of a subject that is not there. */
  versions(subject: string): Promise<number[]>
  schemaOf(subject: string, version: number | 'latest'): Promise<RegisteredSchema>
  /** Adds a version, unless the subject has the schema already. @returns the version that it has */
  register(subject: string, text: string): Promise<number>
  /** The level of the subject, else that of the whole registry. */
  compatibilityOf(subject: string): Promise<Mode>
}

const SUBJECTS = Type.Array(Type.String())
const VERSIONS = Type.Array(Type.Integer({ minimum: 1 }))
const METADATA = Type.Object({
  version: Type.Integer({ minimum: 1 }),
  schema: Type.String(),
  schemaType: Type.Optional(Type.String()),
  references: Type.Optional(Type.Array(Type.Object({ subject: Type.String() }))),
})
const VERSION = Type.Integer({ minimum: 1 })
const LEVEL = oneOf(MODES)

/** @throws Error where the variables have no URL */
export function createRegistry(config: RegistryConfig, timeouts = TIMEOUTS): Registry {
  const { SCHEMA_REGISTRY_URL: url } = config
  if (url === undefined) throw new Error('SCHEMA_REGISTRY_URL is not set')
  const addresses = addressesOf(url).map((address) => address.replace(/\/+$/, ''))
  const headers = authorization(config)
  /** The one that answered last is the first. */
  let inTurn = addresses

  /** @param what the call does, as an infinitive @param params of each request’s query */
  async function call<S extends TSchema>(
    what: string,
    shape: S,
    ask: (client: Client) => Promise<unknown>,
    params: Readonly<Record<string, unknown>> = {},
  ): Promise<Static<S>> {
    // The package’s index also loads the SDKs of three clouds.
    const { SchemaRegistryClient } = await import('@confluentinc/schemaregistry/dist/schemaregistry-client.js')
    const signal = AbortSignal.timeout(timeouts.callMs)
    let fault: RegistryError | undefined
    for (const address of inTurn) {
      // A client of its own for each call: clients keep answers for good, and make a call wait for those before it. And for each address: given several, a
      // client also asks the others when the first says that it has no such subject.
      const client = new SchemaRegistryClient({
        baseURLs: [address],
        cacheCapacity: 1,
        maxRetries: addresses.length === 1 ? RETRIES : 0,
        retriesWaitMs: RETRY_WAIT_MS,
        createAxiosDefaults: {
          headers,
          params,
          timeout: timeouts.attemptMs,
          signal,
          maxContentLength: MAX_ANSWER_BYTES,
          // A redirect could take the credentials elsewhere.
          maxRedirects: 0,
        },
      })
      try {
        const answer = await ask(client)
        if (Value.Check(shape, answer)) {
          inTurn = [address, ...addresses.filter((one) => one !== address)]
          return answer
        }
        throw new RegistryError(
          `${shownUrl(address)} did not answer as a schema registry does when asked to ${what}: is the address right?`,
          false,
        )
      } catch (error) {
        fault = error instanceof RegistryError ? error : faultOf(error, what, shownUrl(address), timeouts)
        if (!fault.mayPass) throw fault
      }
    }
    throw fault
  }

  return {
    name: addresses.map(shownUrl).join(', '),
    subjects: () => call('list its subjects', SUBJECTS, (client) => client.getAllSubjects()),
    async versions(subject) {
      const found = await call(`list the versions of ${subject}`, VERSIONS, (client) =>
        // The client does not encode this one.
        unlessMissing(client.getAllVersions(encodeURIComponent(subject)), []),
      )
      return found.toSorted((one, other) => one - other)
    },
    async schemaOf(subject, version) {
      const found = await call(
        `give version ${version} of ${subject}`,
        Type.Union([METADATA, Type.Null()]),
        (client): Promise<SchemaMetadata | null> =>
          unlessMissing(
            version === 'latest'
              ? client.getLatestSchemaMetadata(subject)
              : client.getSchemaMetadata(subject, version, false),
            null,
          ),
      )
      if (found === null)
        return {
          ok: false,
          fault: version === 'latest' ? `${subject} has no version` : `${subject} has no version ${version}`,
        }
      const { schemaType = 'AVRO', references = [] } = found
      if (schemaType !== 'JSON')
        return { ok: false, fault: `version ${found.version} of ${subject} is of type ${schemaType}, and not JSON` }
      const [reference] = references
      if (reference !== undefined)
        return {
          ok: false,
          fault: `version ${found.version} of ${subject} refers to the subject ${reference.subject}: a schema must be whole, with its parts in $defs`,
        }
      return { ok: true, version: found.version, text: found.schema }
    },
    async register(subject, text) {
      const schema: SchemaInfo = { schemaType: 'JSON', schema: text }
      await call(`register a version of ${subject}`, Type.Object({}), (client) =>
        client.registerFullResponse(subject, schema, false),
      )
      // Not all registries answer with the version.
      return call(`find the version of ${subject}`, VERSION, (client) =>
        client.getVersion(subject, schema, false, false),
      )
    },
    compatibilityOf: (subject) =>
      call(
        `give the compatibility level of ${subject}`,
        LEVEL,
        async (client) => {
          const found = await unlessMissing(client.getCompatibility(subject), undefined)
          // Of a subject that is not there.
          return found ?? client.getDefaultCompatibility()
        },
        // Without it, Apicurio answers NONE for a subject without a level of its own, and Confluent 404.
        { defaultToGlobal: true },
      ),
  }
}

function authorization({
  SCHEMA_REGISTRY_USERNAME: user,
  SCHEMA_REGISTRY_PASSWORD: password,
  SCHEMA_REGISTRY_TOKEN: token,
}: RegistryConfig): Record<string, string> {
  // The client takes a token only for Confluent’s cloud, with the name of a cluster there.
  if (token !== undefined) return { authorization: `Bearer ${token}` }
  if (user === undefined) return {}
  return { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` }
}

/** Of a RestError of the client, whose class the package’s deep path does not export; undefined for others. */
const statusOf = (error: unknown): number | undefined => {
  const { status } = error as { status?: unknown }
  return typeof status === 'number' ? status : undefined
}

/** Whether the answer had a code as registries have them. */
const hasCode = (error: unknown): boolean => ((error as { errorCode?: number }).errorCode ?? 0) > 0

/** `instead` where the registry does not have it. */
async function unlessMissing<T, I>(asked: Promise<T>, instead: I): Promise<T | I> {
  try {
    return await asked
  } catch (error) {
    // Confluent: 40401 subject, 40402 version, 40408 level. A 404 of something else that listens there has no such code.
    if (statusOf(error) === 404 && hasCode(error)) return instead
    throw error
  }
}

/** How the network’s faults are called, by the code of Node’s errors. */
const NETWORK_FAULTS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there',
  ConnectionRefused: 'nothing listens there',
  ECONNRESET: 'the connection was closed',
  ENOTFOUND: 'there is no such host',
}

function networkFault(thrown: unknown, { attemptMs, callMs }: RegistryTimeouts): string {
  const { code = '' } = thrown as { code?: string }
  // A time-out of axios, and of the socket.
  if (code === 'ECONNABORTED' || code === 'ETIMEDOUT') return `no answer within ${attemptMs} ms`
  if (code === 'ERR_CANCELED') return `no answer within ${callMs} ms`
  return NETWORK_FAULTS[code] ?? said(thrown)
}

function faultOf(thrown: unknown, what: string, name: string, timeouts: RegistryTimeouts): RegistryError {
  const status = statusOf(thrown)
  if (status === undefined) {
    const { message = '' } = thrown as { message?: string }
    if (message.includes('maxContentLength'))
      return new RegistryError(
        `the answer of ${name} has more than ${MAX_ANSWER_BYTES} bytes when asked to ${what}`,
        false,
      )
    return new RegistryError(`${name} cannot be reached: ${networkFault(thrown, timeouts)}`, true)
  }
  if (status === 401)
    return new RegistryError(
      `${name} does not accept the credentials (401): check SCHEMA_REGISTRY_USERNAME and SCHEMA_REGISTRY_PASSWORD, or SCHEMA_REGISTRY_TOKEN`,
      false,
      status,
    )
  if (status === 403)
    return new RegistryError(`${name} does not allow these credentials to ${what} (403)`, false, status)
  // Without a code of a registry's own.
  if (status === 404 && !hasCode(thrown))
    return new RegistryError(
      `${name} did not ${what} (404): there is no registry at this address; is its path missing, such as /apis/ccompat/v7 of Apicurio’s?`,
      false,
      status,
    )
  const mayPass = status === 408 || status === 429 || status >= 500
  return new RegistryError(`${name} refused to ${what} (${status}): ${said(thrown)}`, mayPass, status)
}

/** On one line. */
const said = (thrown: unknown): string => messageOf(thrown, MAX_SAID_CHARS).replaceAll(/[\p{Cc}\s]+/gu, ' ')
