import type { ParseArgsConfig } from 'node:util'
import { isTime } from '../../../shared/events/event.ts'
import {
  type Command as CommandOf,
  FailedError,
  type Output,
  argumentsOf as parsedArguments,
  UsageError,
} from '../../../shared/service/command-line.ts'
import { durationMs } from '../../../shared/service/time.ts'
import { type Client, UnreachableError } from '../client.ts'

/** What every command of `kt` has, and what it gets. */

/** @throws UsageError, FailedError, ApiError, UnreachableError, and anything once the signal is aborted */
export type Command = CommandOf<Io>

/** The world around a command, so that tests can give it another. */
export interface Io extends Output {
  client: Client
  /** Where the producer is, for what sends events. */
  producer: { url: string; key: string | undefined; fetch(url: string, init: RequestInit): Promise<Response> }
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

/** The producer, and not the console, gave no answer. */
export class ProducerUnreachableError extends UnreachableError {}

/** 128 and SIGINT. */
export const EXIT_INTERRUPTED = 130

/** Options of every command. */
const COMMON = { json: { type: 'boolean', default: false } } as const

/** @throws UsageError */
export const argumentsOf = <const O extends NonNullable<ParseArgsConfig['options']>>(args: string[], options: O) =>
  parsedArguments(args, { ...COMMON, ...options })

/** A time of RFC 3339 as it is, and a duration before now as the time that it means. @throws UsageError */
export function timeOf(option: string, text: string | undefined, nowMs: number): string | undefined {
  if (text === undefined) return undefined
  const ago = durationMs(text)
  if (ago !== undefined) return new Date(Math.max(0, nowMs - ago)).toISOString()
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
