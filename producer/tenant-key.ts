/** `bun run tenant-key COMMAND`: API keys, in a tenants file. */

import { writeSync } from 'node:fs'
import {
  commandList,
  EXIT_FAILED,
  FailedError,
  oneLine,
  type Program,
  runCommand,
  runProcess,
} from '../shared/service/command-line.ts'
import { ConfigError, EXIT_BAD_CONFIG } from '../shared/service/config.ts'
import type { Io } from './tenant-key/command.ts'
import { list } from './tenant-key/list.ts'
import { make } from './tenant-key/make.ts'
import { revoke } from './tenant-key/revoke.ts'
import { roll } from './tenant-key/roll.ts'

const commands = { make, list, roll, revoke }

const PROGRAM: Program<Io> = {
  name: 'bun run tenant-key',
  commands,
  help: `API keys of tenants and operators, in the tenants file.

Usage: bun run tenant-key COMMAND

${commandList(commands)}

bun run tenant-key COMMAND --help explains a command.

The file is replaced as a whole, and only where it is as it was read; what else is in it stays as it is, character by character.

Exit code: 0; 1 when it is not possible, which the message explains, and nothing was changed unless it says so; 64 for wrong arguments; 78 for a file with faults.
`,
  failed(error, io) {
    const code = error instanceof FailedError ? EXIT_FAILED : error instanceof ConfigError ? EXIT_BAD_CONFIG : undefined
    if (code !== undefined) for (const line of (error as Error).message.split('\n')) io.say(oneLine(line))
    return code
  },
}

/** @returns the exit code */
export const tenantKey = (args: readonly string[], io: Io): Promise<number> => runCommand(PROGRAM, args, io)

/** The stream of standard output tells of no failure where that is a file. */
function give(line: string): void {
  const bytes = Buffer.from(`${line}\n`)
  const written = writeSync(process.stdout.fd, bytes)
  if (written < bytes.length) throw new Error(`only ${written} of ${bytes.length} bytes were taken`)
}

if (import.meta.main)
  await runProcess((output) => tenantKey(process.argv.slice(2), { ...output, env: process.env, nowMs: Date.now, give }))
