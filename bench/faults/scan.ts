import { readTopic } from '../scan.ts'
import type { Log, LogRecord } from './judge.ts'

/**
 * Reads whole topics with kcat, because the judge must not depend on our own client. Sees only committed records
 * (`isolation.level=read_committed`).
 */

/** Headers that we add or set; the others of a dead letter are the original's. Repeated here, so that a mistake in the services is noticed. */
const OUR_HEADERS = new Set([
  ...['kt-attempt', 'kt-attempts', 'kt-not-before', 'kt-error', 'kt-origin', 'kt-transaction'],
  // Of a redrive. A dead letter has those of its input record, which the judge compares one by one.
  ...['kt-generation', 'kt-redriven-from', 'kt-edited'],
  // A redrive sets it anew, a dead letter keeps it.
  'kt-received-at',
])

/** All committed records of a stream's four topics, which must exist. @param sinceMs of the first records, by their timestamp; default: all */
export async function scanStream(brokers: string, topic: string, sinceMs?: number): Promise<Log> {
  const read = async (name: string): Promise<LogRecord[]> => {
    const records: LogRecord[] = []
    await scanTopic(brokers, name, (record) => void records.push(record), sinceMs)
    return records
  }
  const [input, retry, dlq, processed] = await Promise.all([
    read(topic),
    read(`${topic}.retry`),
    read(`${topic}.dlq`),
    read(`${topic}.processed`),
  ])
  return { topic, input, retry, dlq, processed }
}

/** Calls back for every committed record of a topic, in offset order within each partition. */
export async function scanTopic(
  brokers: string,
  topic: string,
  found: (record: LogRecord) => void,
  sinceMs?: number,
): Promise<void> {
  const add = (lines: string): void => {
    // The last line ends, too.
    for (const line of lines.split('\n').slice(0, -1)) found(parseRecord(line))
  }
  await readTopic(brokers, topic, ['-J'], add, sinceMs)
}

/** What kcat prints of a record, text as Latin-1. */
interface KcatRecord {
  partition: number
  offset: number
  ts: number
  key: string | null
  payload: string | null
  /** Name, value, name, value … */
  headers?: (string | null)[]
}

export function parseRecord(line: string): LogRecord {
  const { partition, offset, ts, key, payload, headers = [] } = JSON.parse(line) as KcatRecord
  const named = new Map<string, string>()
  const original: (string | null)[] = []
  for (let at = 0; at < headers.length; at += 2) {
    const name = headers[at] ?? ''
    const value = headers[at + 1] ?? null
    // The last header of a name counts.
    named.set(name, utf8(value ?? ''))
    if (!OUR_HEADERS.has(name)) original.push(name, value)
  }
  const [source, id] = [named.get('ce_source'), named.get('ce_id')]
  const isEvent = named.get('ce_specversion') === '1.0' && Boolean(named.get('ce_type'))
  return {
    partition,
    offset,
    timestampMs: ts,
    key: key === null ? null : utf8(key),
    event: isEvent && source && id ? { source, id } : undefined,
    generation: generationOf(named.get('kt-generation')),
    redrivenFrom: named.get('kt-redriven-from'),
    edited: named.has('kt-edited'),
    origin: named.get('kt-origin'),
    receivedAt: named.get('kt-received-at'),
    passedThrough: handlerOf(named.get('kt-context')) === undefined,
    value: digest(payload),
    content: digest(JSON.stringify([key, payload, original])),
  }
}

/** 0 for anything but a number from 1 to 2^31-1 that is written without a leading zero. */
const generationOf = (text = ''): number => (/^[1-9][0-9]*$/.test(text) && Number(text) < 2 ** 31 ? Number(text) : 0)

const utf8 = (latin1: string): string => Buffer.from(latin1, 'latin1').toString('utf8')

const digest = (text: string | null): string => (text === null ? 'null' : Bun.hash(text).toString(36))

const handlerOf = (context: string | undefined): unknown =>
  context === undefined || context === '' ? undefined : (JSON.parse(context) as { handler?: unknown }).handler
