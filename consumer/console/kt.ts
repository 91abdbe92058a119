/** `bun run kt -- COMMAND`: the console on the command line. */
import { createInterface } from 'node:readline/promises'
import {
  commandList,
  EXIT_FAILED,
  EXIT_UNAVAILABLE,
  EXIT_USAGE,
  FailedError,
  type Output,
  oneLine,
  type Program,
  refuse,
  runCommand,
  runProcess,
} from '../../shared/service/command-line.ts'
import { connectionFault } from '../../shared/service/connection-fault.ts'
import { isTerminal } from '../../shared/service/terminal.ts'
import { messageOf } from '../../shared/service/thrown.ts'
import { ApiError, Client, UnreachableError } from './client.ts'
import { EXIT_INTERRUPTED, type Io, ProducerUnreachableError } from './kt/command.ts'
import { deadLetters } from './kt/dead-letters.ts'
import { find } from './kt/find.ts'
import { lag } from './kt/lag.ts'
import { pause, resume } from './kt/pause.ts'
import { schemas } from './kt/schemas.ts'
import { send } from './kt/send.ts'
import { tail } from './kt/tail.ts'
import { tryHandler } from './kt/try.ts'
import { KEY_TEXT } from './names.ts'

const commands = {
  find,
  tail,
  'dead-letters': deadLetters,
  send,
  lag,
  schemas,
  pause,
  resume,
  try: tryHandler,
}

const DEFAULT_URL = 'http://127.0.0.1:8081'
const DEFAULT_PRODUCER_URL = 'http://127.0.0.1:8080'

const HELP = `Looks up events, follows outcomes, and acts on dead letters and streams, through a console.

Usage: bun run kt -- COMMAND [--json]

${commandList(commands)}

bun run kt -- COMMAND --help explains a command.

Variables:
  KT_URL           where the console is; ${DEFAULT_URL} where not given
  KT_KEY           the API key, where the console asks for one; with AUTH=jwt also a token
  KT_TENANT        the tenant, for keys of operators of all tenants
  KT_PRODUCER_URL  where send finds the producer; ${DEFAULT_PRODUCER_URL} where not given
  NODE_EXTRA_CA_CERTS
                   a PEM file of further authorities, for https
  NO_COLOR         no colours on a terminal
`

/** @returns the exit code */
export const kt = (args: readonly string[], io: Io, urls: { console: string; producer: string }): Promise<number> => {
  const program: Program<Io> = {
    name: 'bun run kt --',
    help: HELP,
    commands,
    failed: (error) => failed(error, io, urls),
  }
  return runCommand(program, args, io)
}

function failed(error: unknown, io: Io, urls: { console: string; producer: string }): number | undefined {
  if (io.signal.aborted) return EXIT_INTERRUPTED
  if (error instanceof FailedError) {
    io.say(error.message)
    return EXIT_FAILED
  }
  if (error instanceof UnreachableError) {
    const [service, url, variable] =
      error instanceof ProducerUnreachableError
        ? ['producer', urls.producer, 'KT_PRODUCER_URL']
        : ['console', urls.console, 'KT_URL']
    const fault = connectionFault({ code: error.message }, { url })
    const isThere = fault !== undefined && fault.kind !== 'refused' && fault.kind !== 'unreachable'
    io.say(
      isThere
        ? `No answer from ${url}: ${fault.text}. ${variable} is the URL.`
        : `No answer from ${url}: ${error.message}. Is the ${service} running there? \`bun run dev\` starts one; ${variable} names another.`,
    )
    return EXIT_UNAVAILABLE
  }
  return error instanceof ApiError ? refused(error, io) : undefined
}

/** What to do about a refusal, where its own text does not say that for the command line. */
const ADVICE: Readonly<Partial<Record<ApiError['kind'], string>>> = {
  unauthenticated: 'Set KT_KEY to a key of the tenants file.',
  forbidden: 'Set KT_KEY to a key that may do this: reading needs the role read, acting operate, sending send.',
  'unknown-tenant': 'KT_TENANT names the tenant.',
}

function refused(error: ApiError, io: Io): number {
  const { kind, status, errors, retryAfterSeconds } = error
  io.say(
    [
      oneLine(error.message),
      ADVICE[kind],
      retryAfterSeconds === undefined ? undefined : `Try again in ${retryAfterSeconds} s.`,
    ]
      .filter((text) => text !== undefined)
      .join(' '),
  )
  for (const { pointer, detail } of errors) io.say(`  ${oneLine(`${pointer} ${detail}`)}`)
  if (kind === 'invalid-parameters' || kind === 'invalid-body') return EXIT_USAGE
  return status >= 500 ? EXIT_UNAVAILABLE : EXIT_FAILED
}

// ---- the process

async function* bytesOf(file: string): AsyncGenerator<Uint8Array> {
  const stream = file === '-' ? Bun.stdin.stream() : Bun.file(file).stream()
  try {
    yield* stream
  } catch (error) {
    throw new FailedError(`${file} cannot be read: ${messageOf(error)}`)
  }
}

/** An empty variable counts as one that is not set. */
const variable = (name: string): string | undefined => process.env[name] || undefined

async function main(output: Output): Promise<number> {
  const urls = {
    console: variable('KT_URL') ?? DEFAULT_URL,
    producer: variable('KT_PRODUCER_URL') ?? DEFAULT_PRODUCER_URL,
  }
  const key = variable('KT_KEY')
  for (const [name, url] of [
    ['KT_URL', urls.console],
    ['KT_PRODUCER_URL', urls.producer],
  ] as const)
    if (!/^https?:/.test(url) || !URL.canParse(url)) refuse(`${name}=${url} is no URL such as ${DEFAULT_URL}`, HELP)
  if (key !== undefined && !KEY_TEXT.test(key))
    refuse('KT_KEY does not look like a key (kt.ID.…) or a token: set it without quotes, spaces or “Bearer”', HELP)
  const interrupted = new AbortController()
  process.on('SIGINT', () => {
    if (interrupted.signal.aborted) process.exit(EXIT_INTERRUPTED)
    interrupted.abort()
  })
  const { signal } = interrupted
  const io: Io = {
    client: new Client({ url: urls.console, key, tenant: variable('KT_TENANT') }),
    producer: { url: urls.producer, key, fetch },
    ...output,
    overwrite: isTerminal() ? (line) => void process.stderr.write(`\r\x1b[2K${line}`) : undefined,
    ask: isTerminal(process.stdin) && isTerminal() ? (question) => asked(question, signal) : undefined,
    read: bytesOf,
    nowMs: Date.now,
    signal,
  }
  return kt(process.argv.slice(2), io, urls)
}

async function asked(question: string, signal: AbortSignal): Promise<string> {
  const lines = createInterface({ input: process.stdin, output: process.stderr })
  // With a terminal, it takes Ctrl-C for itself.
  lines.on('SIGINT', () => process.emit('SIGINT'))
  try {
    return await lines.question(question, { signal })
  } finally {
    lines.close()
  }
}

if (import.meta.main) await runProcess(main)
