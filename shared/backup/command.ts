/** `bun run backup COMMAND`: what is in Kafka, in files. */

import {
  commandList,
  EXIT_UNREADABLE,
  failing,
  oneLine,
  type Program,
  runCommand,
  runProcess,
} from '../service/command-line.ts'
import { ConfigError, EXIT_BAD_CONFIG } from '../service/config.ts'
import type { Io } from './command/command.ts'
import { list } from './command/list.ts'
import { isOfStorage, take } from './command/take.ts'
import { verify } from './command/verify.ts'
import { ManifestError } from './manifest.ts'

const commands = { take, verify, list }

/** `sysexits.h`: EX_IOERR. */
const EXIT_STORAGE = 74

const known = failing([
  [ManifestError, EXIT_UNREADABLE],
  [ConfigError, EXIT_BAD_CONFIG],
])

const PROGRAM: Program<Io> = {
  name: 'bun run backup',
  commands,
  help: `Backups of what is in Kafka, as files.

Usage: bun run backup COMMAND

${commandList(commands)}

bun run backup COMMAND --help explains a command.
`,
  failed(error, io) {
    const code = known(error, io)
    if (code !== undefined || !isOfStorage(error)) return code
    io.say(oneLine((error as Error).message))
    return EXIT_STORAGE
  },
}

/** @returns the exit code */
export const backup = (args: readonly string[], io: Io): Promise<number> => runCommand(PROGRAM, args, io)

if (import.meta.main) await runProcess((output) => backup(process.argv.slice(2), { ...output, env: process.env }))
