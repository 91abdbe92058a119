import { kcatCommand } from '../../shared/testing/kcat.ts'
import type { Log, LogRecord } from './judge.ts'

/**
 * Reads whole topics with kcat, because the judge must not depend on our own client. Sees only committed records
 * (`isolation.level=read_committed`).
 */

/** How long the scan of one topic may take. */
const SCAN_TIMEOUT_MS = 120_000

/** Headers that we add; the others of a dead letter are the original's. Repeated here, so that a mistake in the services is noticed. */
const ADDED_HEADERS = new Set(['kt-attempt', 'kt-not-before', 'kt-error', 'kt-origin', 'kt-transaction'])

/** All committed records of a stream's four topics, which must exist. */
export async function scanStream(brokers: string, topic: string): Promise<Log> {
  const read = async (name: string): Promise<LogRecord[]> => {
    const records: LogRecord[] = []
    await scanTopic(brokers, name, (record) => void records.push(record))
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
export async function scanTopic(brokers: string, topic: string, found: (record: LogRecord) => void): Promise<void> {
  const args = [
    '-C',
    '-b',
    brokers,
    '-t',
    topic,
    '-o',
    'beginning',
    '-e',
    '-q',
    '-J',
    '-X',
    'isolation.level=read_committed',
  ]
  const child = Bun.spawn([kcatCommand(), ...args], {
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
    timeout: SCAN_TIMEOUT_MS,
    killSignal: 'SIGKILL',
  })
  const errors = child.stderr.text()
  let rest = ''
  for await (const chunk of child.stdout) {
    // kcat puts bytes that are not UTF-8 into its JSON unchanged. Read as Latin-1, every byte is one character and none is lost.
    const lines = (rest + Buffer.from(chunk).toString('latin1')).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) found(parseRecord(line))
  }
  const exitCode = await child.exited
  if (exitCode === 0) return
  const why = exitCode === null ? `had not read it after ${SCAN_TIMEOUT_MS} ms` : `ended with ${exitCode}`
  throw new Error(`kcat could not read ${topic}: ${why}. ${(await errors).trim()}`)
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
    if (value !== null) named.set(name, utf8(value))
    if (!ADDED_HEADERS.has(name)) original.push(name, value)
  }
  const [source, id] = [named.get('ce_source'), named.get('ce_id')]
  const isEvent = named.get('ce_specversion') === '1.0' && Boolean(named.get('ce_type'))
  return {
    partition,
    offset,
    timestampMs: ts,
    key: key === null ? null : utf8(key),
    event: isEvent && source && id ? { source, id } : undefined,
    origin: named.get('kt-origin'),
    receivedAt: named.get('kt-received-at'),
    passedThrough: handlerOf(named.get('kt-context')) === undefined,
    value: digest(payload),
    content: digest(JSON.stringify([key, payload, original])),
  }
}

const utf8 = (latin1: string): string => Buffer.from(latin1, 'latin1').toString('utf8')

const digest = (text: string | null): string => (text === null ? 'null' : Bun.hash(text).toString(36))

const handlerOf = (context: string | undefined): unknown =>
  context === undefined ? undefined : (JSON.parse(context) as { handler?: unknown }).handler
