import { kcatCommand } from '../shared/testing/kcat.ts'
import type { ScanResult } from './result.ts'

/**
 * Reads whole topics with kcat, which is no system's client here, and judges a run by their content. Records are text lines that are searched
 * for the needed parts only, since there may be a million.
 */

const SCAN_TIMEOUT_MS = 120_000
/** With kcat's own wait of 500 ms, the end of a partition takes a second to notice. */
const SETTINGS = ['isolation.level=read_committed', 'check.crcs=false', 'fetch.wait.max.ms=10']

export interface Scanned {
  /** Records by partition and offset; ids are those of the events. */
  partitions: number[]
  offsets: number[]
  /** The record's timestamp, ms since the epoch: the broker's, where the topic says LogAppendTime. */
  timestampsMs: number[]
  ids: string[]
}

/** All committed records of a topic. */
export async function scanTopic(brokers: string, topic: string): Promise<Scanned> {
  const scanned: Scanned = { partitions: [], offsets: [], timestampsMs: [], ids: [] }
  await readTopic(brokers, topic, ['-f', '%p %o %T %h\\n'], (lines) => addLines(lines, scanned))
  return scanned
}

/** IDs of a topic's committed records by key, in the order of the log. Keys are without spaces. */
export async function scanByKey(brokers: string, topic: string): Promise<Map<string, string[]>> {
  const byKey = new Map<string, string[]>()
  await readTopic(brokers, topic, ['-f', '%k %h\\n'], (lines) => addByKey(lines, byKey))
  return byKey
}

/**
 * Reads the committed records of a topic, which must exist, in offset order within each partition.
 * @param output kcat's options for what it prints of a record, in one line
 * @param onLines gets whole lines, each with its line feed. As Latin-1: every byte is one character, so that bytes which are not UTF-8 are kept
 * @param sinceMs of the first records, by their timestamp; default: all
 * @throws Error with kcat's reason, also when it has not ended after {@link SCAN_TIMEOUT_MS}
 */
export async function readTopic(
  brokers: string,
  topic: string,
  output: readonly string[],
  onLines: (lines: string) => void,
  sinceMs?: number,
): Promise<void> {
  const from = sinceMs === undefined ? 'beginning' : `s@${sinceMs}`
  const options = ['-C', '-b', brokers, '-t', topic, '-o', from, '-e', '-q', ...output]
  const child = Bun.spawn([kcatCommand(), ...options, ...SETTINGS.flatMap((setting) => ['-X', setting])], {
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
    timeout: SCAN_TIMEOUT_MS,
    killSignal: 'SIGKILL',
  })
  const errors = child.stderr.text()
  let rest = ''
  for await (const chunk of child.stdout) {
    const text = rest + Buffer.from(chunk).toString('latin1')
    const end = text.lastIndexOf('\n')
    onLines(text.slice(0, end + 1))
    rest = text.slice(end + 1)
  }
  const exitCode = await child.exited
  if (exitCode !== 0) {
    const why = exitCode === null ? `had not read it after ${SCAN_TIMEOUT_MS} ms` : `ended with ${exitCode}`
    throw new Error(`kcat could not read ${topic}: ${why}. ${(await errors).trim()}`)
  }
}

const ID_HEADER = 'ce_id='

/** Adds whole lines, each with its line feed: `PARTITION OFFSET TIMESTAMP NAME=VALUE,NAME=VALUE…`. */
export function addLines(text: string, scanned: Scanned): void {
  for (let start = 0; start < text.length; ) {
    const end = text.indexOf('\n', start)
    const offsetAt = text.indexOf(' ', start) + 1
    const timestampAt = text.indexOf(' ', offsetAt) + 1
    const headersAt = text.indexOf(' ', timestampAt) + 1
    scanned.partitions.push(Number(text.slice(start, offsetAt - 1)))
    scanned.offsets.push(Number(text.slice(offsetAt, timestampAt - 1)))
    scanned.timestampsMs.push(Number(text.slice(timestampAt, headersAt - 1)))
    scanned.ids.push(idIn(text, headersAt, end))
    start = end + 1
  }
}

/** Adds whole lines, each with its line feed: `KEY NAME=VALUE,NAME=VALUE…`. */
export function addByKey(text: string, byKey: Map<string, string[]>): void {
  for (let start = 0; start < text.length; ) {
    const end = text.indexOf('\n', start)
    const headersAt = text.indexOf(' ', start) + 1
    const key = text.slice(start, headersAt - 1)
    const ids = byKey.get(key)
    const id = idIn(text, headersAt, end)
    if (ids === undefined) byKey.set(key, [id])
    else ids.push(id)
    start = end + 1
  }
}

/** The ID in the headers between the two; empty if there is none. */
function idIn(text: string, from: number, end: number): string {
  const at = headerAt(text, from, end)
  const comma = text.indexOf(',', at)
  return at < 0 ? '' : text.slice(at, comma < 0 || comma > end ? end : comma)
}

/** Where the value of the ID's header begins, if it is between the two. */
function headerAt(text: string, from: number, end: number): number {
  for (let at = text.indexOf(ID_HEADER, from); at >= 0 && at < end; at = text.indexOf(ID_HEADER, at + 1))
    if (at === from || text[at - 1] === ',') return at + ID_HEADER.length
  return -1
}

/** What was acknowledged: events where their IDs were kept, otherwise a number. */
export type Acknowledged = number | readonly { id: string; partition: number; offset: number }[]

/** The topics that a run leaves behind. */
export interface Left {
  input: Scanned
  /** With a consumer: the content of `.processed` and `.dlq`. */
  outcomes?: Scanned
}

/**
 * Whether acknowledged events are in the log at the acknowledged position, and each event in the log has exactly one outcome. Where only the
 * number is known, an event stored without acknowledgement can hide a missing one: at most as many as were under
 * way when the load ended.
 */
export function judge(acknowledged: Acknowledged, { input, outcomes }: Left): ScanResult {
  const inLog = new Set(input.ids)
  const result: ScanResult = {
    acknowledged: typeof acknowledged === 'number' ? acknowledged : acknowledged.length,
    inLog: inLog.size,
    lost: typeof acknowledged === 'number' ? Math.max(0, acknowledged - inLog.size) : missing(acknowledged, input),
  }
  if (outcomes === undefined) return result
  const counts = new Map<string, number>()
  for (const id of outcomes.ids) counts.set(id, (counts.get(id) ?? 0) + 1)
  let withoutOutcome = 0
  for (const id of inLog) if (!counts.has(id)) withoutOutcome++
  let doubled = 0
  for (const count of counts.values()) if (count > 1) doubled++
  return { ...result, withoutOutcome, doubled }
}

/** The number of keys whose outcomes are not in the order of their events. */
export function keysOutOfOrder(
  events: ReadonlyMap<string, readonly string[]>,
  outcomes: ReadonlyMap<string, readonly string[]>,
): number {
  let count = 0
  for (const [key, ids] of outcomes) {
    const places = new Map(events.get(key)?.map((id, place) => [id, place]))
    const order = ids.map((id) => places.get(id) ?? -1)
    if (order.some((place, index) => place < 0 || place < (order[index - 1] ?? 0))) count++
  }
  return count
}

function missing(acknowledged: Exclude<Acknowledged, number>, input: Scanned): number {
  const there = new Set(input.ids.map((id, index) => placeOf(id, input.partitions[index], input.offsets[index])))
  return acknowledged.filter(({ id, partition, offset }) => !there.has(placeOf(id, partition, offset))).length
}

const placeOf = (id: string, partition: number | undefined, offset: number | undefined): string =>
  `${partition}/${offset}/${id}`

/** Several topics as if they were one. */
export function together(scans: readonly Scanned[]): Scanned {
  const [first] = scans
  // There may be millions of records.
  if (first !== undefined && scans.length === 1) return first
  return {
    partitions: scans.flatMap((one) => one.partitions),
    offsets: scans.flatMap((one) => one.offsets),
    timestampsMs: scans.flatMap((one) => one.timestampsMs),
    ids: scans.flatMap((one) => one.ids),
  }
}

export const isBroken = (scan: ScanResult): boolean =>
  scan.lost > 0 || (scan.withoutOutcome ?? 0) > 0 || (scan.doubled ?? 0) > 0 || (scan.outOfOrder ?? 0) > 0
