import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type BoundChild, endBoundChild, isRunning, spawnBoundChild } from '../dev/bound-child.ts'
import { BrokerUnavailableError } from '../dev/brokers/broker.ts'
import { findJava } from '../dev/brokers/kafka-distribution.ts'
import { findFreePorts, releasePorts } from '../dev/brokers/ports.ts'
import { lastLines, makeWhole } from '../dev/run.ts'
import { cacheFolder } from '../kafka/native/cache.ts'
import { fetchArchive } from './fetch-archive.ts'

/** A real schema registry: Apicurio Registry in memory, which speaks Confluent's API. */

const VERSION = '3.0.9'
/** Maven itself cannot resolve it: its parent’s POM is not published. */
const ARCHIVE = {
  name: 'Apicurio Registry',
  path: `io/apicurio/apicurio-registry-app/${VERSION}/apicurio-registry-app-${VERSION}-all.tar.gz`,
  sha512:
    '1ed16d7284599c705a1ccbc551b307064990eb1f58c340e37eedc80716f24aba6216b85db35bc6c1651e44fdfd3598c4c6daa082f18e020e6b8f192036e609c0',
}
const JAR = `apicurio-registry-app-${VERSION}-runner.jar`

const HEAP_MB = 256
const START_TIMEOUT_MS = 120_000
const PROBE_TIMEOUT_MS = 2_000
const PROBE_PAUSE_MS = 50
const CALL_TIMEOUT_MS = 20_000

/** It keeps everything in memory: what was registered is gone when its process ends. */
export interface TestRegistry {
  /** Of Confluent's API, `http://127.0.0.1:PORT/apis/ccompat/v7`; the same after a restart. */
  readonly url: string
  /** The ID of its process. @throws Error while there is none */
  pid(): number
  /** Registers a version of a subject, as JSON Schema, which this registry knows by `$schema` or `properties` in it. @returns its number */
  register(subject: string, document: unknown): Promise<number>
  /** Registers a version with a body of the API: of any type, with references. */
  registerAs(subject: string, body: { schemaType: string; schema: string; references?: object[] }): Promise<number>
  /** Sets the level of compatibility of a subject that is there, or of all. */
  setCompatibility(level: string, subject?: string): Promise<void>
  /** Sends SIGKILL. Returns once the process is gone. */
  kill(): Promise<void>
  /** Starts it again after {@link kill}, on the same port, with nothing registered. Returns once it answers. */
  restart(): Promise<void>
  /** Sends SIGSTOP: it accepts connections and answers nothing. */
  freeze(): void
  /** Sends SIGCONT: it continues where it was. */
  thaw(): void
  /** Ends it for good. */
  stop(): Promise<void>
}

/** Starts a registry on a free port of loopback. Returns once it answers. It does not outlive this process. */
export async function startRegistry(): Promise<TestRegistry> {
  const [java, jar] = [await findJava('Apicurio Registry'), await provideRegistry()]
  const directory = await mkdtemp(join(tmpdir(), 'kafkatrace-registry-'))
  const [port = 0] = await findFreePorts(1)
  const url = `http://127.0.0.1:${port}/apis/ccompat/v7`
  const log = Bun.file(join(directory, 'registry.log'))
  let child: BoundChild | undefined
  const running = (): BoundChild => {
    if (child === undefined || !isRunning(child)) throw new Error('the registry is not running')
    return child
  }
  const start = async (): Promise<void> => {
    child = spawnBoundChild(
      [
        java,
        `-Xmx${HEAP_MB}m`,
        '-XX:+UseSerialGC',
        '-XX:TieredStopAtLevel=1',
        '-XX:-UsePerfData',
        // What it unpacks goes with the directory.
        `-Djava.io.tmpdir=${directory}`,
        '-jar',
        jar,
      ],
      {
        stdout: log,
        stderr: log,
        cwd: directory,
        env: { ...process.env, QUARKUS_HTTP_HOST: '127.0.0.1', QUARKUS_HTTP_PORT: String(port) },
        removeWhenOrphaned: directory,
      },
    )
    const deadline = performance.now() + START_TIMEOUT_MS
    while (isRunning(child) && performance.now() < deadline) {
      if (await answers(url)) return
      await Bun.sleep(PROBE_PAUSE_MS)
    }
    const why = isRunning(child) ? `does not answer after ${START_TIMEOUT_MS} ms` : 'ended'
    throw new BrokerUnavailableError(`the registry ${why}; its last lines:\n${lastLines(await log.text())}`)
  }
  const stop = async (): Promise<void> => {
    if (child !== undefined && isRunning(child)) await endBoundChild(child, 0)
    releasePorts([port])
    await rm(directory, { recursive: true, force: true })
  }
  try {
    await start()
  } catch (error) {
    await stop()
    throw error
  }
  const registerAs: TestRegistry['registerAs'] = async (subject, body) => {
    await call(`${url}/subjects/${encodeURIComponent(subject)}/versions`, 'POST', body)
    const found = await call(`${url}/subjects/${encodeURIComponent(subject)}`, 'POST', body)
    return (found as { version: number }).version
  }
  return {
    url,
    pid: () => running().pid,
    register: (subject, document) => registerAs(subject, { schemaType: 'JSON', schema: JSON.stringify(document) }),
    registerAs,
    async setCompatibility(level, subject) {
      const of = subject === undefined ? '' : `/${encodeURIComponent(subject)}`
      await call(`${url}/config${of}`, 'PUT', { compatibility: level })
    },
    async kill() {
      const killed = running()
      killed.kill('SIGKILL')
      await killed.exited
    },
    async restart() {
      if (child !== undefined && isRunning(child)) throw new Error('the registry is running: kill it first')
      await start()
    },
    freeze: () => running().kill('SIGSTOP'),
    thaw: () => running().kill('SIGCONT'),
    stop,
  }
}

const answers = (url: string): Promise<boolean> =>
  fetch(`${url}/subjects`, { signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) }).then(
    async (response) => response.ok && Array.isArray(await response.json()),
    () => false,
  )

async function call(url: string, method: string, body: unknown): Promise<unknown> {
  const response = await fetch(url, {
    method,
    headers: { 'content-type': 'application/vnd.schemaregistry.v1+json' },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
  })
  if (!response.ok) throw new Error(`${method} ${url}: ${response.status} ${await response.text()}`)
  return response.json()
}

/**
 * Finds the registry in the user's cache; downloads it from Maven Central when it is missing. @returns the path of its jar
 * @throws BrokerUnavailableError when Maven Central does not answer, or gives something else
 */
async function provideRegistry(): Promise<string> {
  const folder = join(cacheFolder(), `apicurio-registry-${VERSION}`)
  if (!existsSync(folder)) await makeWhole(folder, (unfinished) => fetchArchive(unfinished, ARCHIVE))
  return join(folder, JAR)
}
