/** Arguments of commands, with the same `--help` and usage errors in every command. */
import { type ParseArgsConfig, parseArgs } from 'node:util'

/** Refused, or not as it should be. */
export const EXIT_FAILED = 1
/** It cannot be told, since something cannot be read. */
export const EXIT_UNREADABLE = 2
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

// ---- programs of several commands

/** What a command writes to. */
export interface Output {
  /** A line of standard output. */
  out(line: string): void
  /** A line of standard error. */
  say(line: string): void
}

export interface Command<World extends Output> {
  /** In the list of commands. */
  usage: string
  summary: string
  help: string
  /** @returns the exit code. @throws UsageError, and what its program knows */
  run(args: string[], world: World): Promise<number>
}

export interface Program<World extends Output> {
  /** As it is typed, such as `bun run schema`. */
  name: string
  help: string
  commands: Readonly<Record<string, Command<World>>>
  /** Says what became of a command that threw. @returns the exit code; undefined where the error is not the program's */
  failed(error: unknown, world: World): number | undefined
}

/** Wrong arguments. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** It was not possible; the message says why, and what to do. */
export class FailedError extends Error {
  override readonly name = 'FailedError'
}

/** What the command works on cannot be read. */
export class UnreadableError extends Error {
  override readonly name = 'UnreadableError'
}

/** Kafka does not answer, or refuses. */
export class UnavailableError extends Error {
  override readonly name = 'UnavailableError'
}

type Kind = abstract new (...given: never[]) => Error

const KNOWN: readonly (readonly [Kind, number])[] = [
  [FailedError, EXIT_FAILED],
  [UnreadableError, EXIT_UNREADABLE],
  [UnavailableError, EXIT_UNAVAILABLE],
]

/**
 * What a program says of errors: their message, line by line.
 * @param more kinds of errors beside those of this module, with their exit codes
 */
export const failing =
  (more: readonly (readonly [Kind, number])[]): Program<Output>['failed'] =>
  (error, { say }) => {
    const code = [...KNOWN, ...more].find(([kind]) => error instanceof kind)?.[1]
    if (code !== undefined) for (const line of (error as Error).message.split('\n')) say(oneLine(line))
    return code
  }

/** The commands of a program, for its help. */
export function commandList(commands: Readonly<Record<string, { usage: string; summary: string }>>): string {
  const all = Object.values(commands)
  const width = Math.max(...all.map(({ usage }) => usage.length))
  return all.map(({ usage, summary }) => `  ${usage.padEnd(width)}  ${summary}`).join('\n')
}

/** Runs the command that the arguments begin with. @returns the exit code */
export async function runCommand<World extends Output>(
  { name: program, help, commands, failed }: Program<World>,
  args: readonly string[],
  world: World,
): Promise<number> {
  const [name, ...rest] = args
  if (name === '--help' || name === '-h') {
    world.out(help.trimEnd())
    return 0
  }
  const refused = (fault: string, helper: string): number => {
    world.say(oneLine(`${fault}: see ${helper} --help`))
    return EXIT_USAGE
  }
  const command = name === undefined || !Object.hasOwn(commands, name) ? undefined : commands[name]
  if (command === undefined)
    return refused(name === undefined ? 'COMMAND is missing' : `there is no command ${name}`, program)
  if (rest.includes('--help') || rest.includes('-h')) {
    world.out(command.help.trimEnd())
    return 0
  }
  try {
    return await command.run(rest, world)
  } catch (error) {
    const code = failed(error, world)
    if (code !== undefined) return code
    if (error instanceof UsageError) return refused(error.message, `${program} ${name}`)
    throw error
  }
}

/** Runs a program of several commands as this process, which ends with the exit code. */
export async function runProcess(main: (output: Output) => Promise<number>): Promise<void> {
  // Whoever reads the output has enough, as in `schema types DIR | head`.
  process.stdout.on('error', () => process.exit(0))
  const code = await main({
    out: (line) => void process.stdout.write(`${line}\n`),
    say: (line) => void process.stderr.write(`${line}\n`),
  })
  // Everything is written before the end. Open connections may not keep the process.
  process.stdout.write('', () => process.exit(code))
}

/** A command's arguments. @throws UsageError */
export function argumentsOf<const O extends NonNullable<ParseArgsConfig['options']>>(args: string[], options: O) {
  try {
    return parseArgs({ args, allowPositionals: true, strict: true, options })
  } catch (error) {
    // What follows is about arguments that begin with a hyphen.
    throw new UsageError((error as Error).message.replace(/\.?(?:\n| To specify ).*/s, ''))
  }
}

/** The only positional argument. @throws UsageError */
export function only(what: string, positionals: readonly string[]): string {
  const [one, ...more] = positionals
  if (one === undefined) throw new UsageError(`${what} is missing`)
  if (more.length > 0) throw new UsageError(`one ${what} at a time, and not ${more.join(', ')} too`)
  return one
}

/** On one line, without what would move a terminal's cursor. */
export const oneLine = (text: string): string => text.replaceAll(/[\p{Cc}\u2028\u2029]+/gu, ' ')
