/** Arguments of commands, with the same `--help` and usage errors in every command. */
import { type ParseArgsConfig, parseArgs } from 'node:util'

/** `sysexits.h`: EX_USAGE, EX_UNAVAILABLE. */
export const EXIT_USAGE = 64
export const EXIT_UNAVAILABLE = 69

/** Writes the fault and the help to standard error and ends the process with 64. */
export function refuse(fault: string, help: string): never {
  process.stderr.write(`${fault}\n\n${help}`)
  process.exit(EXIT_USAGE)
}

/**
 * Parses the process's arguments, or `config.args`. `--help` (`-h`) writes the help to standard output and ends the process with 0; arguments
 * that `config` does not allow end it with 64.
 */
export function parseCommandLine<const T extends ParseArgsConfig>(
  help: string,
  config: T,
): ReturnType<typeof parseArgs<T>> {
  const options = { ...config.options, help: { type: 'boolean', short: 'h' } } as const
  try {
    const parsed = parseArgs({ ...config, options })
    if ((parsed.values as { help?: boolean }).help !== true) return parsed as unknown as ReturnType<typeof parseArgs<T>>
  } catch (error) {
    refuse((error as Error).message, help)
  }
  process.stdout.write(help)
  process.exit(0)
}
