/** `bun run backup COMMAND`: what is in Kafka, in files. */

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
import { EXIT_UNREADABLE, type Io, UnavailableError, UnreadableError } from './command/command.ts'
import { list } from './command/list.ts'
import { isOfStorage, take } from './command/take.ts'
import { verify } from './command/verify.ts'
import { ManifestError } from './manifest.ts'

const commands = { take, verify, list }

/** `sysexits.h`: EX_IOERR. */
const EXIT_STORAGE = 74

const EXIT_CODES = [
  [FailedError, EXIT_FAILED],
  [UnreadableError, EXIT_UNREADABLE],
  [ManifestError, EXIT_UNREADABLE],
  [UnavailableError, EXIT_UNAVAILABLE],
  [ConfigError, EXIT_BAD_CONFIG],
] as const

const PROGRAM: Program<Io> = {
  name: 'bun run backup',
  commands,
  help: `Backups of what is in Kafka, as files.

Usage: bun run backup COMMAND

${commandList(commands)}

bun run backup COMMAND --help explains a command.
`,
  failed(error, io) {
    const code =
      EXIT_CODES.find(([kind]) => error instanceof kind)?.[1] ?? (isOfStorage(error) ? EXIT_STORAGE : undefined)
    if (code !== undefined) for (const line of (error as Error).message.split('\n')) io.say(oneLine(line))
    return code
  },
}

/** @returns the exit code */
export const backup = (args: readonly string[], io: Io): Promise<number> => runCommand(PROGRAM, args, io)

if (import.meta.main) await runProcess((output) => backup(process.argv.slice(2), { ...output, env: process.env }))
