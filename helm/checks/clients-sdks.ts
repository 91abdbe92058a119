import { join } from 'node:path'
import { provideBuilt, runTool } from '../../shared/dev/built.ts'
import type { HeaderValue } from '../../shared/events/headers.ts'
import { fromRecord, type IncomingRecord } from '../../shared/events/record.ts'
import { type Check, type Outcome, outcome, run } from './check.ts'
import {
  type ClientEvent,
  type ClientMode,
  clientEvent,
  differences,
  eventsOf,
  MARK,
  readFromHeaders,
} from './clients-cases.ts'
import { PLATFORM, provideNpm, SOURCES } from './clients-npm.ts'
import { type ClientService, RESULT, startClientService } from './clients-service.ts'
import { provideJava } from './java.ts'

/** CloudEvents' own SDKs send events in every mode, and read the stored records and their results. */

const PROGRAM_TIMEOUT_MS = 60_000

interface Sdk {
  name: string
  /** How its HTTP client encodes characters outside ASCII. Latin-1: as Latin-1, or the client refuses them. */
  headers: 'UTF-8' | 'Latin-1'
  /** How it treats events without data. Refused: it neither reads them from records nor sends them in binary mode. */
  noData: 'taken' | 'refused'
  /** Installs and compiles it. @returns a program that reads {@link Orders} and writes {@link Answers} */
  prepare(say: (progress: string) => void): Promise<[string, ...string[]]>
}

interface Orders {
  url: string
  sends: { mode: ClientMode; events: ClientEvent[] }[]
  records: { headers: [name: string, base64: string][]; value: string | null }[]
}

type Sent = { status: number; body: string } | { error: string }

interface Answers {
  sends: Sent[]
  records: (ClientEvent | { error: string })[]
}

const javascript: Sdk = {
  name: 'JavaScript',
  headers: 'Latin-1',
  noData: 'refused',
  async prepare(say) {
    const installed = await provideNpm('javascript', () => say('installing the SDK for JavaScript'))
    return ['node', join(SOURCES, 'javascript/client.mjs'), installed]
  },
}

const python: Sdk = {
  name: 'Python',
  headers: 'Latin-1',
  noData: 'taken',
  async prepare(say) {
    const requirements = join(SOURCES, 'python/requirements.txt')
    const installed = await provideBuilt({
      name: 'client-python',
      files: [requirements],
      made: [PLATFORM],
      async build(into) {
        say('installing the SDK for Python')
        const command = ['python3', '-m', 'pip', 'install', '--quiet', '--target', into, '-r', requirements] as const
        await runTool(command, into, 'install it with: apt-get install python3-pip')
      },
    })
    return ['env', `PYTHONPATH=${installed}`, 'python3', '-B', join(SOURCES, 'python/client.py')]
  },
}

const go: Sdk = {
  name: 'Go',
  headers: 'UTF-8',
  noData: 'taken',
  async prepare(say) {
    const folder = join(SOURCES, 'go')
    const advice = 'install it with: apt-get install golang-go, or from go.dev'
    const built = await provideBuilt({
      name: 'client-go',
      files: ['go.mod', 'go.sum', 'main.go'].map((file) => join(folder, file)),
      made: [(await runTool(['go', 'version'], folder, advice)).trim()],
      async build(into) {
        say('compiling the SDK for Go, up to a minute, once')
        await runTool(['go', 'build', '-trimpath', '-o', join(into, 'client'), '.'], folder, advice)
      },
    })
    return [join(built, 'client')]
  },
}

const java: Sdk = {
  name: 'Java',
  headers: 'UTF-8',
  noData: 'taken',
  // Its HTTP client writes headers in this encoding, which otherwise depends on the environment.
  prepare: (say) => provideJava(join(SOURCES, 'java'), 'Client', ['-Dfile.encoding=UTF-8'], say),
}

const SDKS: readonly Sdk[] = [javascript, python, go, java]

async function answersOf(command: [string, ...string[]], orders: Orders): Promise<Answers> {
  const { exitCode, output, errors } = await run(command, {
    input: JSON.stringify(orders),
    timeoutMs: PROGRAM_TIMEOUT_MS,
  })
  if (exitCode !== 0) throw new Error(`${command.join(' ')} ended with ${exitCode}:\n${errors.slice(-2_000)}`)
  return JSON.parse(output) as Answers
}

/** The expected result of an event: what is stored, or the status; undefined when the client does not send it. */
type Expected = ClientEvent | 400 | 422 | undefined

function expectationOf(sdk: Sdk, mode: ClientMode, index: number, event: ClientEvent): Expected {
  if (mode !== 'binary') return event
  if (event.data === null && sdk.noData === 'refused') return undefined
  if (sdk.headers === 'Latin-1' && /[^\p{ASCII}]/u.test(event.id)) return /[^\0-\xff]/.test(event.id) ? undefined : 422
  return readFromHeaders(event, index)
}

function sendFault(expected: Expected, sent: Sent, found: ClientEvent | undefined): string | undefined {
  if (expected === undefined)
    return 'error' in sent ? undefined : `was answered ${sent.status}, and the client should have refused`
  if ('error' in sent) return `the client says ${sent.error}`
  const status = typeof expected === 'number' ? expected : 202
  if (sent.status !== status) return `was answered ${sent.status} in place of ${status}: ${sent.body}`
  if (typeof expected === 'number') return found === undefined ? undefined : `was answered ${expected}, and stored`
  if (found === undefined) return 'was answered 202, and is not in the log'
  return differences(expected, found).join('; ') || undefined
}

/** Sends every case in every mode. */
async function sendAll(sdk: Sdk, command: [string, ...string[]], service: ClientService): Promise<Outcome> {
  const singly = (['binary', 'structured'] as const).flatMap((mode) =>
    eventsOf(mode).map((event, index) => ({ mode, index, events: [event] })),
  )
  const orders = [...singly, { mode: 'batch' as const, index: 0, events: eventsOf('batch') }]
  const { sends } = await answersOf(command, {
    url: service.url,
    sends: orders.map(({ mode, events }) => ({ mode, events })),
    records: [],
  })
  const stored = new Map(
    service.stored().map((record) => {
      const event = eventOf(record)
      return [event.extensions[MARK], event]
    }),
  )
  const faults: string[] = []
  let looked = 0
  for (const [at, { mode, index, events }] of orders.entries())
    for (const [offset, event] of events.entries()) {
      looked++
      const expected = expectationOf(sdk, mode, index + offset, event)
      const fault = sendFault(expected, sends[at] ?? { error: 'nothing' }, stored.get(event.extensions[MARK]))
      if (fault !== undefined) faults.push(`${mode}, ${JSON.stringify(event.id).slice(0, 40)}: ${fault}`)
    }
  return outcome(looked, faults)
}

/** Reads every record that is in the log by now, and every result. */
async function readAll(sdk: Sdk, command: [string, ...string[]], service: ClientService): Promise<Outcome> {
  const records = [...service.stored(), ...(await service.processed())]
  const readable = records.filter(({ value }) => value !== null || sdk.noData === 'taken')
  const found = await answersOf(command, {
    url: service.url,
    sends: [],
    records: readable.map(({ headers, value }) => ({
      headers: headers.names.map((name, at) => [name, bytesOf(headers.values[at] ?? null).toString('base64')]),
      value: value?.toString('base64') ?? null,
    })),
  })
  const faults: string[] = []
  for (const [at, record] of readable.entries()) {
    const expected = eventOf(record)
    const event = found.records[at] ?? { error: 'nothing' }
    const fault = 'error' in event ? `the SDK says ${event.error}` : differences(expected, event).join('; ')
    if (fault !== '') faults.push(`${record.topic}, ${JSON.stringify(expected.id).slice(0, 40)}: ${fault}`)
  }
  if (!records.some(({ value }) => value?.toString() === JSON.stringify(RESULT)))
    faults.push('no record is the result of a handler')
  return outcome(readable.length, faults)
}

const bytesOf = (value: HeaderValue): Buffer =>
  typeof value === 'string' ? Buffer.from(value) : (value ?? Buffer.alloc(0))

function eventOf(record: IncomingRecord): ClientEvent {
  const read = fromRecord(record)
  if (!read.ok) throw new Error(read.reason)
  return clientEvent(read.event)
}

export const sdkChecks: readonly Check[] = SDKS.map((sdk) => ({
  name: `SDK for ${sdk.name}: sends and reads CloudEvents`,
  counts: 'events and records',
  async run(say) {
    const command = await sdk.prepare(say)
    const service = startClientService()
    try {
      say('sending')
      const sent = await sendAll(sdk, command, service)
      say('reading')
      const read = await readAll(sdk, command, service)
      return { passed: sent.passed + read.passed, faults: [...sent.faults, ...read.faults] }
    } finally {
      service.stop()
    }
  },
}))
