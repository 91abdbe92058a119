/** `bun run schema COMMAND`: schemas, and what becomes of them. */

import {
  commandList,
  EXIT_UNAVAILABLE,
  failing,
  type Program,
  runCommand,
  runProcess,
} from '../service/command-line.ts'
import { ConfigError, EXIT_BAD_CONFIG } from '../service/config.ts'
import { check } from './command/check.ts'
import type { Io } from './command/command.ts'
import { diff } from './command/diff.ts'
import { infer } from './command/infer.ts'
import { register } from './command/register.ts'
import { types } from './command/types.ts'
import { RegistryError } from './registry.ts'

const commands = { check, diff, infer, register, types }

const PROGRAM: Program<Io> = {
  name: 'bun run schema',
  commands,
  help: `Schemas of events, as files in Git and in a schema registry.

Usage: bun run schema COMMAND

${commandList(commands)}

bun run schema COMMAND --help explains a command.
`,
  failed: failing([
    [RegistryError, EXIT_UNAVAILABLE],
    [ConfigError, EXIT_BAD_CONFIG],
  ]),
}

/** @returns the exit code */
export const schema = (args: readonly string[], io: Io): Promise<number> => runCommand(PROGRAM, args, io)

if (import.meta.main) await runProcess((output) => schema(process.argv.slice(2), { ...output, env: process.env }))
