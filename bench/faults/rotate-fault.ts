import { join } from 'node:path'
import type { TenantsFile } from '../../shared/http/tenants.ts'
import { permissionsOf, singleAcls } from '../../shared/kafka/acls.ts'
import { startKeycloak } from '../../shared/testing/keycloak.ts'
import { keyring } from '../../shared/testing/keyring.ts'
import { startSecuredKafka } from '../../shared/testing/secured-kafka.ts'
import type { Service } from '../../shared/testing/services.ts'
import { until } from '../../shared/testing/until.ts'
import { changeAuthority, showCertificate, used, write } from '../secured/changes.ts'
import { ALWAYS, SOMETIMES } from './kinds.ts'
import { PATIENT_MS, PLAIN, type Post, postOnce } from './load.ts'
import { DEFAULT_TIMES, type Fault, GROUP, type Prepared, STREAM, type Stage } from './stage.ts'

/** Credentials that are changed while they are used. */

/** A producer authenticates again this often. */
const REAUTH_MS = 3_000
/** After this time, no connection was authenticated with an old password. */
const TAKEN_MS = 2 * REAUTH_MS
/** How soon a change of the tenants file must be read. */
const READ_TIMEOUT_MS = 5_000
/** Refusals of requests that are wrong on purpose, and of those that come while Kafka is away. */
const EXPECTED: ReadonlySet<number> = new Set([400, 415, 422, 503])
/** The status of a request without an event, from who may send some. */
const NO_EVENT = 202
const EVENTS_PER_SECOND = 100
const AUDIENCE = 'kafkatrace'
const TENANT = 'default'
const SHOP = { id: 'shop', secret: 'of-a-test' }
/** Tokens are used for so long, of the minute that they are valid. */
const TOKEN_USED_MS = 2_000
const TENANT_KEY = join(import.meta.dir, '../../producer/tenant-key.ts')

export const ROTATE_FAULT: Fault = {
  name: 'rotate-credentials',
  what: 'under load, each credential is replaced: a password for Kafka, a client certificate, its authority, a tenant’s key, the key that signs tokens; nobody is refused who should not be',
  nodes: 1,
  prepare,
}

async function prepare(folder: string): Promise<Prepared> {
  const keycloak = await startKeycloak()
  const kafka = await startSecuredKafka({ users: ['producer', 'consumer'], reauthMs: REAUTH_MS }).catch(
    async (error: unknown) => {
      await keycloak.stop()
      throw error
    },
  )
  try {
    await keycloak.createClient({
      clientId: SHOP.id,
      secret: SHOP.secret,
      audience: [AUDIENCE],
      claims: { tenant: TENANT, roles: ['send'] },
    })
    for (const role of ['producer', 'consumer'] as const) {
      const permissions = permissionsOf(role, { groupId: GROUP, createTopics: false, tenants: [TENANT] })
      await kafka.allow(singleAcls(`User:${role}`, permissions))
    }
    const { made, entry } = keyring()
    const file: TenantsFile = { tenants: { [TENANT]: { streams: [STREAM], keys: [entry('shop-1')] } } }
    const tenantsFile = join(folder, 'tenants-and-keys.json')
    await Bun.write(tenantsFile, JSON.stringify(file, undefined, 2))
    const files = {
      producer: await kafka.variablesInFiles('producer', 'SCRAM-SHA-512', 'REAUTH'),
      consumer: await kafka.variablesInFiles('consumer', 'mTLS'),
    }
    return {
      kafka: kafka.cluster,
      env: {
        producer: {
          ...DEFAULT_TIMES.producer,
          ...files.producer,
          AUTH: 'jwt',
          TENANTS_FILE: tenantsFile,
          CREATE_TOPICS: 'off',
          JWT_ISSUER: keycloak.issuer,
          JWT_AUDIENCE: AUDIENCE,
          JWT_ROLES_CLAIM: 'roles',
        },
        consumer: { ...DEFAULT_TIMES.consumer, ...files.consumer },
      },
      play: (stage) => play(stage, { keycloak, kafka, files, folder, tenantsFile, firstKey: made.get('shop-1') ?? '' }),
      async stop(options) {
        await kafka.stop(options)
        await keycloak.stop()
      },
    }
  } catch (error) {
    await kafka.stop()
    await keycloak.stop()
    throw error
  }
}

/** What the fault changes, and where. */
interface Parts {
  keycloak: Awaited<ReturnType<typeof startKeycloak>>
  kafka: Awaited<ReturnType<typeof startSecuredKafka>>
  files: Record<'producer' | 'consumer', Record<string, string>>
  folder: string
  tenantsFile: string
  firstKey: string
}

async function play(stage: Stage, { keycloak, kafka, files, folder, tenantsFile, firstKey }: Parts): Promise<void> {
  const { producer, consumer } = stage
  let key = firstKey
  let token = { text: '', atMs: Number.NEGATIVE_INFINITY }
  const newToken = async (): Promise<string> => {
    const atMs = performance.now()
    if (atMs - token.atMs > TOKEN_USED_MS) token = { text: await keycloak.token(SHOP.id, SHOP.secret), atMs }
    return token.text
  }
  const loads = [() => key, newToken].map((credential) =>
    stage.load({
      eventsPerSecond: EVENTS_PER_SECOND,
      kinds: [{ ...PLAIN, weight: 40 }, SOMETIMES, { ...ALWAYS, weight: 0.1 }],
      timeoutMs: PATIENT_MS,
      post: postWith(credential),
    }),
  )
  const unavailable = (): number => loads.reduce((sum, { facts }) => sum + (facts.statuses[503] ?? 0), 0)
  for (let round = 1; round <= (stage.short ? 1 : 3); round++) {
    // Until the file is read, a producer that authenticates again is refused, and says 503. Only a second user avoids that.
    const before = unavailable()
    await used([producer], async () => {
      const password = `the-password-of-round-${round}`
      await kafka.setScramPassword('SCRAM-SHA-512', 'producer', password)
      await write(files.producer, 'KAFKA_SASL_PASSWORD_FILE', password)
    })
    await stage.pause(TAKEN_MS, TAKEN_MS)
    stage.did('password for Kafka replaced')
    await stage.recovered('password for Kafka replaced', 'ordinary')
    const after = unavailable()
    stage.did(`503 until the new password was used, for ${after - before} requests`)

    if (round === 1) {
      const certificate = await kafka.authority.issue('DNS:consumer')
      await used([consumer], () => showCertificate(files.consumer, certificate))
      stage.did('client certificate replaced')
      await stage.recovered('client certificate replaced', 'ordinary')

      await changeAuthority(kafka, 'consumer', files.consumer, folder, (change) => used([consumer], change))
      stage.did('authority replaced')
      await stage.recovered('authority replaced', 'ordinary')
    }

    const old = key
    const rolled = await readBy(producer, () => tenantKey(tenantsFile, 'roll', `shop-${round}`))
    const overlap = [await statusWith(producer.port, old), await statusWith(producer.port, rolled)]
    key = rolled
    await readBy(producer, () => tenantKey(tenantsFile, 'revoke', `shop-${round}`))
    const revoked = [await statusWith(producer.port, old), await statusWith(producer.port, rolled)]
    if (`${overlap}; ${revoked}` !== `${NO_EVENT},${NO_EVENT}; 401,${NO_EVENT}`)
      stage.wrong(`old key, new key: ${overlap} while both are valid, ${revoked} after the old one was revoked`)
    stage.did('tenant’s key replaced')
    await stage.recovered('tenant’s key replaced', 'ordinary')

    await keycloak.rotateKeys('keep')
    token.atMs = Number.NEGATIVE_INFINITY
    stage.did('key that signs tokens replaced')
    await stage.recovered('key that signs tokens replaced', 'ordinary')
    if (unavailable() > after)
      stage.wrong(`503 for ${unavailable() - after} requests while other credentials were replaced`)
  }
  // Connections that live on have shown nothing new.
  await kafka.cluster.leave(0)
  await kafka.cluster.restart(0)
  stage.did('broker restarted, so that all connections are new')
  await stage.recovered('broker restarted', 'session')
  await Promise.all(loads.map((load) => load.stop()))
  for (const { facts } of loads)
    for (const [status, text] of Object.entries(facts.refusals))
      if (!EXPECTED.has(Number(status)))
        stage.wrong(`${facts.statuses[Number(status)]} of ${facts.requests} requests: ${status}: ${text}`)
}

/** Requests with what is valid at the moment. */
const postWith =
  (credential: () => string | Promise<string>): Post =>
  async (url, headers, body, signal) =>
    postOnce(url, { ...headers, authorization: `Bearer ${await credential()}` }, body, signal)

/** @returns what the change does, once the service has read the tenants file after it */
async function readBy<Result>(service: Service, change: () => Promise<Result>): Promise<Result> {
  const READ = 'tenants were read again'
  const before = await service.linesWith(READ)
  const result = await change()
  await until(async () => (await service.linesWith(READ)) > before, {
    timeoutMs: READ_TIMEOUT_MS,
    what: 'the tenants file to be read again',
  })
  return result
}

/** @returns the status of a request that has no event, and so stores none */
async function statusWith(port: number, key: string): Promise<number> {
  const { status } = await fetch(`http://127.0.0.1:${port}/v1/streams/${STREAM}/events`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
    body: '[]',
  })
  return status
}

/** @returns what the command prints, as a key that it makes */
async function tenantKey(file: string, ...args: string[]): Promise<string> {
  const child = Bun.spawn([process.execPath, TENANT_KEY, ...args], {
    env: { ...process.env, TENANTS_FILE: file },
    stdout: 'pipe',
    stderr: 'pipe',
  })
  const [text, errors, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited])
  if (code !== 0) throw new Error(`tenant-key ${args.join(' ')} ended with ${code}: ${errors}`)
  return text.trim()
}
