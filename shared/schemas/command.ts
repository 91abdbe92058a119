/** `bun run schema COMMAND`: schemas, and what becomes of them. */

import { EXIT_UNAVAILABLE, EXIT_USAGE } from '../service/command-line.ts'
import { ConfigError, EXIT_BAD_CONFIG } from '../service/config.ts'
import { check } from './command/check.ts'
import {
  type Command,
  EXIT_FAILED,
  EXIT_UNREADABLE,
  FailedError,
  type Io,
  oneLine,
  UnavailableError,
  UsageError,
} from './command/command.ts'
import { diff } from './command/diff.ts'
import { infer } from './command/infer.ts'
import { register } from './command/register.ts'
import { types } from './command/types.ts'
import { UnreadableError } from './published.ts'
import { RegistryError } from './registry.ts'

const COMMANDS: Readonly<Record<string, Command>> = { check, diff, infer, register, types }

const HELP = `Schemas of events, as files in Git and in a schema registry.

Usage: bun run schema COMMAND

${Object.values(COMMANDS)
  .map(({ usage, summary }) => `  ${usage.padEnd(17)}  ${summary}`)
  .join('\n')}

bun run schema COMMAND --help explains a command.
`

/** @returns the exit code */
export async function schema(args: readonly string[], io: Io): Promise<number> {
  const [name, ...rest] = args
  if (name === '--help' || name === '-h') {
    io.out(HELP.trimEnd())
    return 0
  }
  const command = name === undefined || !Object.hasOwn(COMMANDS, name) ? undefined : COMMANDS[name]
  if (command === undefined) {
    io.say(
      oneLine(
        `${name === undefined ? 'COMMAND is missing' : `there is no command ${name}`}: see bun run schema --help`,
      ),
    )
    return EXIT_USAGE
  }
  if (rest.includes('--help') || rest.includes('-h')) {
    io.out(command.help.trimEnd())
    return 0
  }
  try {
    return await command.run(rest, io)
  } catch (error) {
    if (error instanceof UsageError) {
      io.say(oneLine(`${error.message}: see bun run schema ${name} --help`))
      return EXIT_USAGE
    }
    const code = EXIT_CODES.find(([kind]) => error instanceof kind)?.[1]
    if (code === undefined) throw error
    for (const line of (error as Error).message.split('\n')) io.say(oneLine(line))
    return code
  }
}

const EXIT_CODES = [
  [FailedError, EXIT_FAILED],
  [UnreadableError, EXIT_UNREADABLE],
  [RegistryError, EXIT_UNAVAILABLE],
  [UnavailableError, EXIT_UNAVAILABLE],
  [ConfigError, EXIT_BAD_CONFIG],
] as const

if (import.meta.main) {
  // Whoever reads the output has enough, as in `schema types DIR | head`.
  process.stdout.on('error', () => process.exit(0))
  const code = await schema(process.argv.slice(2), {
    out: (line) => void process.stdout.write(`${line}\n`),
    say: (line) => void process.stderr.write(`${line}\n`),
    env: process.env,
  })
  // Everything is written before the end. Open connections may not keep the process.
  process.stdout.write('', () => process.exit(code))
}
