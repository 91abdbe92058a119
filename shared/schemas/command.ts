/** `bun run schema COMMAND`: schemas, and what becomes of them. */

import {
  commandList,
  EXIT_FAILED,
  EXIT_UNAVAILABLE,
  FailedError,
  oneLine,
  type Program,
  runCommand,
  runProcess,
} from '../service/command-line.ts'
import { ConfigError, EXIT_BAD_CONFIG } from '../service/config.ts'
import { check } from './command/check.ts'
import { EXIT_UNREADABLE, type Io, UnavailableError } from './command/command.ts'
import { diff } from './command/diff.ts'
import { infer } from './command/infer.ts'
import { register } from './command/register.ts'
import { types } from './command/types.ts'
import { UnreadableError } from './published.ts'
import { RegistryError } from './registry.ts'

const commands = { check, diff, infer, register, types }

const EXIT_CODES = [
  [FailedError, EXIT_FAILED],
  [UnreadableError, EXIT_UNREADABLE],
  [RegistryError, EXIT_UNAVAILABLE],
  [UnavailableError, EXIT_UNAVAILABLE],
  [ConfigError, EXIT_BAD_CONFIG],
] as const

const PROGRAM: Program<Io> = {
  name: 'bun run schema',
  commands,
  help: `Schemas of events, as files in Git and in a schema registry.

Usage: bun run schema COMMAND

${commandList(commands)}

bun run schema COMMAND --help explains a command.
`,
  failed(error, io) {
    const code = EXIT_CODES.find(([kind]) => error instanceof kind)?.[1]
    if (code !== undefined) for (const line of (error as Error).message.split('\n')) io.say(oneLine(line))
    return code
  },
}

/** @returns the exit code */
export const schema = (args: readonly string[], io: Io): Promise<number> => runCommand(PROGRAM, args, io)

if (import.meta.main) await runProcess((output) => schema(process.argv.slice(2), { ...output, env: process.env }))
