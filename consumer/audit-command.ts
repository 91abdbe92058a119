/** `bun run audit STREAM`: checks that every event of a stream, or of a range of it, has one outcome. Reads only, and joins no group. */
import { parseArgs } from 'node:util'
import { Type } from '@sinclair/typebox'
import pino from 'pino'
import {
  DEFAULT_TENANT,
  inputTopic,
  NAME_PATTERN,
  parseTopic,
  siblingTopic,
  TOPIC_ROLES,
} from '../shared/events/topics.ts'
import type { CommittedOffset, RangeReader, TopicPartition } from '../shared/kafka/types.ts'
import { commonFaults, commonVariables, loadConfig, loadConfigOrExit } from '../shared/service/config.ts'
import type { Logger } from '../shared/service/logger.ts'
import { progressLine } from '../shared/service/progress-line.ts'
import { within } from '../shared/service/retry.ts'
import {
  type AuditRange,
  type AuditReader,
  audit,
  type Findings,
  noCounts,
  type Snapshot,
  shareCount,
  takeSnapshots,
  VERDICTS,
  type Verdict,
} from './audit.ts'
import { consumerVariables } from './config.ts'
import { decode, originOf } from './decode.ts'

const HELP = `Tells whether every event of a stream has its one outcome, in .processed or in .dlq. Reads only, and joins no group: services may run beside it.

Usage: bun run audit STREAM [--tenant TENANT] [--from OFFSET|TIME] [--to OFFSET|TIME] [--json]

  --tenant   whose stream it is; ${DEFAULT_TENANT} where not given
  --from     where to begin: an offset of every partition, or the time of the first record, such as 2026-01-31T12:00:00Z
             (local time without Z); else at the beginning
  --to       where to end, itself not audited: the same; else at the end
  --json     the findings as JSON
  --help     this text

The brokers and the group are those of the services' variables: KAFKA_BROKERS, KAFKA_…, GROUP_ID.

An event counts once, however often it was sent.
  acknowledged  is in the stream
  processed     has one outcome, in .processed
  dead          has one outcome, in .dlq
  waiting       waits in .retry
  pending       is not committed as done yet
  missing       is committed as done, and has no outcome
  doubled       has more than one outcome
  unknown       has no outcome that is still there; it may have had one that was deleted, or have one behind a transaction that has not ended

Exit code: 0; 1 when events are missing or doubled; 64 for wrong arguments, and for a range without records; 69 when Kafka does not answer or refuses, or a topic of the stream is not there; 78 for wrong variables.
`

/** `sysexits.h`. */
const EXIT = { usage: 64, unavailable: 69 } as const
const EXIT_FOUND = 1

/** Time-outs for reaching Kafka, and for open transactions to end. */
const REACH_TIMEOUT_MS = 15_000
const TRANSACTIONS_TIMEOUT_MS = 15_000

/** The most events held in memory: some 200 MB. */
const MAX_EVENTS = 4_000_000

/** The most missing events, and the most doubled ones, that are named. */
const MAX_NAMED = 20

/** Up to so many partitions have a line each; of more, only those with findings. */
const MAX_LINES = 24

// ---- arguments

export type Bound = { offset: number } | { timestampMs: number }

export type Arguments =
  | { kind: 'help' }
  | { kind: 'usage'; fault: string }
  | { kind: 'audit'; topic: string; from: Bound | undefined; to: Bound | undefined; json: boolean }

export function parseArguments(args: readonly string[]): Arguments {
  const usage = (fault: string): Arguments => ({ kind: 'usage', fault })
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        tenant: { type: 'string', default: DEFAULT_TENANT },
        from: { type: 'string' },
        to: { type: 'string' },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    })
    if (values.help) return { kind: 'help' }
    const [stream, ...more] = positionals
    if (stream === undefined) return usage('STREAM is missing')
    if (more.length > 0) return usage(`one stream at a time, and not ${more.join(', ')} too`)
    for (const name of [stream, values.tenant])
      if (!new RegExp(NAME_PATTERN).test(name)) return usage(`${name} is no name of a tenant or stream`)
    const from = boundOf('--from', values.from)
    const to = boundOf('--to', values.to)
    if (isBefore(to, from)) return usage(`--to ${values.to} is not behind --from ${values.from}`)
    return { kind: 'audit', topic: inputTopic(values.tenant, stream), from, to, json: values.json }
  } catch (error) {
    return usage((error as Error).message)
  }
}

function boundOf(option: string, text: string | undefined): Bound | undefined {
  if (text === undefined) return undefined
  if (/^\d{1,15}$/.test(text)) return { offset: Number(text) }
  const timestampMs = /^\d{4}-/.test(text) ? Date.parse(text) : Number.NaN
  if (Number.isNaN(timestampMs)) throw new Error(`${option} ${text}: neither an offset nor a time`)
  return { timestampMs }
}

/** Whether a range between these bounds is certainly empty. */
function isBefore(end: Bound | undefined, begin: Bound | undefined): boolean {
  if (end === undefined || begin === undefined) return false
  if ('offset' in end) return 'offset' in begin && end.offset <= begin.offset
  return 'timestampMs' in begin && end.timestampMs <= begin.timestampMs
}

// ---- ranges

/** The ranges between the bounds, limited to what read_committed readers can read. */
export async function rangesOf(
  snapshots: readonly Snapshot[],
  bounds: { from: Bound | undefined; to: Bound | undefined },
  reader: Pick<RangeReader, 'offsetsAt'>,
): Promise<AuditRange[]> {
  const offsetsOf = async (bound: Bound | undefined): Promise<readonly (number | undefined)[]> => {
    if (bound === undefined) return []
    if ('offset' in bound) return snapshots.map(() => bound.offset)
    // undefined: all records are older, so that the bound is the end.
    const found = await reader.offsetsAt(
      snapshots.map(({ at }) => at),
      bound.timestampMs,
    )
    return found.map((offset) => offset ?? Number.POSITIVE_INFINITY)
  }
  const [froms, tos] = [await offsetsOf(bounds.from), await offsetsOf(bounds.to)]
  return snapshots.map((snapshot, index) => {
    const { beginning, stable } = snapshot.ends.input
    const within = (offset: number): number => Math.min(Math.max(offset, beginning), stable)
    const from = within(froms[index] ?? beginning)
    return { snapshot, from, to: Math.max(from, within(tos[index] ?? stable)) }
  })
}

/** Groups ranges that fit into memory together. A range that alone does not fit has a group of its own, and is read several times. */
export function groupsOf(ranges: readonly AuditRange[], maxEvents: number): AuditRange[][] {
  const groups: AuditRange[][] = []
  for (const range of ranges) {
    const last = groups.at(-1)
    if (last === undefined || shareCount([...last, range], maxEvents) > 1) groups.push([range])
    else last.push(range)
  }
  return groups
}

// ---- progress

/** The number of offsets that an audit reads. */
const offsetsToRead = (groups: readonly (readonly AuditRange[])[]): number =>
  groups.reduce((sum, group) => {
    const once = group.reduce((of, { snapshot: { ends, retry }, from, to }) => {
      const outcomes = [ends.dlq, ends.processed].reduce((both, { beginning, stable }) => both + stable - beginning, 0)
      return of + (to - from) + outcomes + Math.max(0, ends.retry.stable - retry.offset)
    }, 0)
    return sum + once * shareCount(group, MAX_EVENTS)
  }, 0)

/** A reader that prints progress, rate and remaining time to standard error. */
function progressOf(reader: AuditReader, total: number): { reader: AuditReader; end(): void } {
  const line = progressLine('audit', 'offsets read', total)
  let done = 0
  return {
    reader: {
      ends: (partitions) => reader.ends(partitions),
      async readIdentities(ranges, identityOf, onRecord) {
        const before = done
        await reader.readIdentities(ranges, identityOf, (record) => {
          line.at(++done)
          onRecord(record)
        })
        // Some offsets have no record, such as transaction markers.
        done = before + ranges.reduce((sum, { from, to }) => sum + Math.max(0, to - from), 0)
        line.at(done)
      },
    },
    end: () => line.end(),
  }
}

// ---- findings

/** A missing or doubled event, and the place of its first record. */
export interface Named extends TopicPartition {
  verdict: 'missing' | 'doubled'
  offset: number
  /** undefined for a record that is not an event. */
  source: string | undefined
  id: string | undefined
  /** 0 unless the event was redriven. */
  generation: number
}

/** Reads the records of missing and doubled events, to name them; at most {@link MAX_NAMED} of each. */
export async function named(findings: readonly Findings[], reader: Pick<RangeReader, 'read'>): Promise<Named[]> {
  const found: Named[] = []
  for (const verdict of ['missing', 'doubled'] as const) {
    const places = findings.flatMap(({ snapshot: { at }, [verdict]: offsets }) =>
      offsets.map((offset) => ({ topic: at.topic, partition: at.partition, offset })),
    )
    for (const { topic, partition, offset } of places.slice(0, MAX_NAMED)) {
      const one: Named = { verdict, topic, partition, offset, source: undefined, id: undefined, generation: 0 }
      await reader.read([{ topic, partition, from: offset, to: offset + 1 }], (record) => {
        const decoded = decode(record)
        if (!decoded.ok) return
        one.source = decoded.event.source
        one.id = decoded.event.id
        one.generation = decoded.generation
      })
      found.push(one)
    }
  }
  return found
}

export const totalOf = (findings: readonly Pick<Findings, 'counts'>[]): Record<Verdict, number> => {
  const total = noCounts()
  for (const { counts } of findings) for (const verdict of VERDICTS) total[verdict] += counts[verdict]
  return total
}

export const acknowledgedOf = (counts: Readonly<Record<Verdict, number>>): number =>
  VERDICTS.reduce((sum, verdict) => sum + counts[verdict], 0)

/** The findings as text, on one screen. */
export function tableOf(findings: readonly Findings[], events: readonly Named[]): string {
  const total = totalOf(findings)
  const held = findings.flatMap(({ snapshot }) =>
    heldBackOf(snapshot).map(
      ({ topic, offset }) =>
        `a transaction that has not ended holds back ${topic}/${snapshot.at.partition} from offset ${offset} on`,
    ),
  )
  const names = events.map(
    (one) =>
      `${one.verdict}  ${originOf(one)}  ${one.id === undefined ? 'not a CloudEvent' : `id ${one.id}, source ${one.source}`}` +
      (one.generation === 0 ? '' : `, generation ${one.generation}`),
  )
  const unnamed = total.missing + total.doubled - events.length
  if (unnamed > 0) names.push(`and ${unnamed.toLocaleString('en')} more`)
  return [countLines(findings, total), held, names, [sentenceOf(total)]]
    .filter((part) => part.length > 0)
    .map((part) => part.join('\n'))
    .join('\n\n')
}

/** A table of partitions and verdicts. */
function countLines(findings: readonly Findings[], total: Readonly<Record<Verdict, number>>): string[] {
  const isWrong = ({ counts }: Findings): boolean => counts.missing + counts.doubled + counts.unknown > 0
  const shown = (findings.length > MAX_LINES ? findings.filter(isWrong) : findings).slice(0, MAX_LINES)
  const row = (name: string, offsets: string, counts: Readonly<Record<Verdict, number>>): string[] => {
    const numbers = [acknowledgedOf(counts), ...VERDICTS.map((verdict) => counts[verdict])]
    return [name, offsets, ...numbers.map((count) => count.toLocaleString('en'))]
  }
  const header = ['partition', 'offsets', 'acknowledged', ...VERDICTS]
  const rows = [
    header,
    ...shown.map(({ snapshot: { at }, from, to, counts }) => row(String(at.partition), `${from} up to ${to}`, counts)),
    row('all', '', total),
  ]
  const widths = header.map((_, column) => Math.max(...rows.map((cells) => cells[column]?.length ?? 0)))
  const lines = rows.map((cells) => cells.map((cell, column) => cell.padStart(widths[column] ?? 0)).join('  '))
  const rest = findings.length - shown.length
  if (rest > 0) lines.splice(-1, 0, `and ${rest} partitions more`)
  return lines
}

/** Where open transactions hold a partition back: in its input, and in one of the other topics. */
const heldBackOf = ({ at, ends: { input }, heldBack }: Snapshot): { topic: string; offset: number }[] => [
  ...(input.stable < input.end ? [{ topic: at.topic, offset: input.stable }] : []),
  ...(heldBack === undefined ? [] : [heldBack]),
]

/** The conclusion, and what to do. */
function sentenceOf({ missing, doubled, unknown }: Readonly<Record<Verdict, number>>): string {
  if (missing > 0)
    return 'Events are missing. A consumer processes those among the latest of each partition by itself, at the latest when it is restarted; to have the others processed, send them again with the same ids, or redrive the dead letters of redriven ones again. See KafkaTraceRecordsRepaired in docs/runbooks/consumer.md.'
  if (doubled > 0) return 'Events have more than one outcome. See KafkaTraceEventsDoubled in docs/runbooks/consumer.md.'
  if (unknown > 0) return 'Nothing is missing or doubled, as far as outcomes are still there.'
  return 'Nothing is missing or doubled.'
}

export const jsonOf = (
  topic: string,
  group: string,
  findings: readonly Findings[],
  events: readonly Named[],
): string => {
  const counted = (counts: Record<Verdict, number>) => ({ acknowledged: acknowledgedOf(counts), ...counts })
  return JSON.stringify({
    topic,
    group,
    partitions: findings.map(({ snapshot, from, to, records, counts }) => ({
      partition: snapshot.at.partition,
      from,
      to,
      records,
      ...counted(counts),
      heldBack: heldBackOf(snapshot),
    })),
    total: counted(totalOf(findings)),
    events,
  })
}

// ---- the command

const variables = Type.Object({ ...commonVariables, GROUP_ID: consumerVariables.properties.GROUP_ID })

/** Prints why Kafka cannot be reached, each reason once, and keeps the last one. */
function connectionLog(): { log: Logger; reason(): string | undefined } {
  let told: string | undefined
  const write = (line: string): void => {
    const { reason } = JSON.parse(line) as { reason?: string }
    if (reason === undefined || reason === told) return
    told = reason
    process.stderr.write(`audit: cannot reach Kafka: ${reason}; trying again\n`)
  }
  return { log: pino({ level: 'warn' }, { write }), reason: () => told }
}

/** A fault in the partition counts of a stream's topics; those of the input come first. */
function topicFault(names: readonly string[], counts: readonly number[]): string | undefined {
  const [partitions = 0] = counts
  const short = names.flatMap((name, index) => {
    const count = counts[index] ?? 0
    if (count >= partitions) return []
    return count === 0
      ? [`there is no topic ${name}, or it may not be described with these credentials`]
      : [`${name} has ${count} of ${names[0]}'s ${partitions} partitions`]
  })
  return short.length > 0
    ? `${short.join('; ')}. The producer makes what is missing of a stream's topics when it starts`
    : undefined
}

async function run({ topic, from, to, json }: Extract<Arguments, { kind: 'audit' }>): Promise<number> {
  // Imported here, so that --help needs no addon.
  const { createRangeReader, isRefusal } = await import('../shared/kafka/range-reader.ts')
  const config = loadConfigOrExit((env) => loadConfig(variables, env, commonFaults))
  const { KAFKA_BROKERS: brokers, GROUP_ID: groupId } = config
  const connecting = connectionLog()
  const reader = createRangeReader({ config, clientId: 'kafkatrace-audit', log: connecting.log, groupId })
  const names = [topic, ...TOPIC_ROLES.map((role) => siblingTopic(topic, role))]
  try {
    const counts = await within(
      REACH_TIMEOUT_MS,
      Promise.all(names.map((name) => reader.partitionCount(name))),
      `Kafka at ${brokers} has not answered`,
    ).catch((error: Error) => {
      const reason = connecting.reason()
      throw reason === undefined ? error : new Error(`${error.message}: ${reason}`)
    })
    const [partitions = 0] = counts
    if (partitions === 0) {
      process.stderr.write(`audit: ${absent(topic, [...(await reader.topics()).keys()])}\n`)
      return EXIT.usage
    }
    const fault = topicFault(names, counts)
    if (fault !== undefined) throw new Error(fault)
    const inputs = Array.from({ length: partitions }, (_, partition) => ({ topic, partition }))
    const committed = async (at: readonly TopicPartition[]): Promise<CommittedOffset[]> => {
      const rows = await reader.committed(at).catch((error: Error) => {
        const rights = "; the credentials need DESCRIBE on the group, and READ on the stream's four topics"
        const why = `what the group ${groupId} has committed cannot be asked for (${error.message})`
        throw new Error(isRefusal(error) ? why + rights : why)
      })
      if (rows.every(({ offset }) => offset < 0))
        process.stderr.write(`audit: the group ${groupId} has committed nothing of this stream; is GROUP_ID right?\n`)
      return rows
    }
    const snapshots = await takeSnapshots(inputs, committed, reader, TRANSACTIONS_TIMEOUT_MS)
    const ranges = await rangesOf(snapshots, { from, to }, reader)
    // An audit of nothing always succeeds, which would hide a mistyped bound.
    if ((from ?? to) !== undefined && ranges.every((range) => range.from >= range.to)) {
      process.stderr.write(`audit: ${topic} has no record between --from and --to\n`)
      return EXIT.usage
    }
    const groups = groupsOf(ranges, MAX_EVENTS)
    const progress = progressOf(reader, offsetsToRead(groups))
    const findings: Findings[] = []
    try {
      for (const group of groups)
        findings.push(...(await audit(group, progress.reader, { maxEvents: MAX_EVENTS, maxNamed: MAX_NAMED })))
    } finally {
      progress.end()
    }
    const events = await named(findings, reader)
    process.stdout.write(
      json
        ? `${jsonOf(topic, groupId, findings, events)}\n`
        : `${topic}, group ${groupId}\n\n${tableOf(findings, events)}\n`,
    )
    const { missing, doubled } = totalOf(findings)
    return missing + doubled > 0 ? EXIT_FOUND : 0
  } catch (error) {
    process.stderr.write(`audit: ${(error as Error).message}\n`)
    return EXIT.unavailable
  } finally {
    await reader.close()
  }
}

/** A message that a stream does not exist, and which do. */
export function absent(topic: string, topics: readonly string[]): string {
  const streams = topics.flatMap((name) => {
    const parsed = parseTopic(name)
    return parsed?.role === 'input' ? [parsed] : []
  })
  const tenant = parseTopic(topic)?.tenant
  const own = streams.filter((one) => one.tenant === tenant).map(({ stream }) => stream)
  const tenants = [...new Set(streams.map((one) => one.tenant))].toSorted()
  const instead =
    own.length > 0
      ? `streams of ${tenant}: ${own.toSorted().join(', ')}`
      : tenants.length > 0
        ? `tenants with streams: ${tenants.slice(0, MAX_NAMED).join(', ')}`
        : 'there are no streams, or they may not be described with these credentials'
  return `there is no topic ${topic}, or it may not be described with these credentials; ${instead}`
}

if (import.meta.main) {
  const args = parseArguments(process.argv.slice(2))
  if (args.kind === 'help') process.stdout.write(HELP)
  else if (args.kind === 'usage') {
    process.stderr.write(`audit: ${args.fault}\n\n${HELP}`)
    process.exitCode = EXIT.usage
  } else process.exit(await run(args))
}
