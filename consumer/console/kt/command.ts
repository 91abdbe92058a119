import { type ParseArgsConfig, parseArgs } from 'node:util'
import { isTime } from '../../../shared/events/event.ts'
import { type Client, UnreachableError } from '../client.ts'

/** What every command of `kt` has, and what it gets. */

export interface Command {
  /** In the list of commands. */
  usage: string
  summary: string
  help: string
  /** @returns the exit code. @throws UsageError, FailedError, ApiError, UnreachableError, and anything once the signal is aborted */
  run(args: string[], io: Io): Promise<number>
}

/** The world around a command, so that tests can give it another. */
export interface Io {
  client: Client
  /** Where the producer is, for what sends events. */
  producer: { url: string; key: string | undefined; fetch(url: string, init: RequestInit): Promise<Response> }
  /** A line of standard output. */
  out(line: string): void
  /** A line of standard error. */
  say(line: string): void
  /** Replaces the last line of a terminal's standard error; undefined where it is none. */
  overwrite: ((line: string) => void) | undefined
  /** The answer to a question; undefined where nobody can be asked. */
  ask: ((question: string) => Promise<string>) | undefined
  /** Of a file; of standard input for `-`. @throws FailedError */
  read(file: string): AsyncIterable<Uint8Array>
  nowMs(): number
  /** Aborted by Ctrl-C. */
  signal: AbortSignal
}

/** Wrong arguments. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** It was not possible; the message says why, and what to do. */
export class FailedError extends Error {
  override readonly name = 'FailedError'
}

/** The producer, and not the console, gave no answer. */
export class ProducerUnreachableError extends UnreachableError {}

export const EXIT_FAILED = 1
/** 128 and SIGINT. */
export const EXIT_INTERRUPTED = 130

/** Options of every command. */
const COMMON = { json: { type: 'boolean', default: false } } as const

/** @throws UsageError */
export function argumentsOf<const O extends NonNullable<ParseArgsConfig['options']>>(args: string[], options: O) {
  try {
    return parseArgs({ args, allowPositionals: true, strict: true, options: { ...COMMON, ...options } })
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

/** The only positional argument. @throws UsageError */
export function only(what: string, positionals: readonly string[]): string {
  const [one, ...more] = positionals
  if (one === undefined) throw new UsageError(`${what} is missing`)
  if (more.length > 0) throw new UsageError(`one ${what} at a time, and not ${more.join(', ')} too`)
  return one
}

const UNIT_MS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** A time of RFC 3339 as it is, and a duration before now as the time that it means. @throws UsageError */
export function timeOf(option: string, text: string | undefined, nowMs: number): string | undefined {
  if (text === undefined) return undefined
  const [, count, unit = ''] = /^(\d{1,9})([smhd])$/.exec(text) ?? []
  if (count !== undefined) return new Date(Math.max(0, nowMs - Number(count) * (UNIT_MS[unit] ?? 0))).toISOString()
  if (isTime(text)) return text
  throw new UsageError(
    `${option} ${text}: neither a time such as 2026-01-31T12:00:00Z nor a duration before now such as 15m, 2h or 1d`,
  )
}

/** PARTITION/OFFSET. @throws UsageError */
export function placeOf(option: string, text: string): { partition: number; offset: number } {
  const [, partition, offset] = /^(\d{1,7})\/(\d{1,15})$/.exec(text) ?? []
  if (partition === undefined || offset === undefined)
    throw new UsageError(`${option} ${text}: not PARTITION/OFFSET, such as 3/1207`)
  return { partition: Number(partition), offset: Number(offset) }
}

/** @throws UsageError for another word */
export function wordOf<T extends string>(option: string, text: string | undefined, words: readonly T[]): T | undefined {
  if (text === undefined || (words as readonly string[]).includes(text)) return text as T | undefined
  throw new UsageError(`${option} ${text}: not one of ${words.join(', ')}`)
}

/** Text of at most so many bytes. @throws FailedError */
export async function readText(file: string, maxBytes: number, io: Pick<Io, 'read'>): Promise<string> {
  const parts: Uint8Array[] = []
  let bytes = 0
  for await (const part of io.read(file)) {
    bytes += part.length
    if (bytes > maxBytes) throw new FailedError(`${file} has more than ${maxBytes} bytes`)
    parts.push(part)
  }
  return Buffer.concat(parts).toString('utf8')
}
