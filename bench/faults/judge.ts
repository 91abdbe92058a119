import { eventIdentity, originIdentity } from '../../shared/events/identity.ts'
import type { Entry } from './ledger.ts'

/**
 * Judges a run: from what was sent and answered, and from all committed records of a stream's four topics, whether the guarantees
 * I1 to I5 hold. A pure function that uses none of the services' code.
 */

/** A record from a scan. */
export interface LogRecord {
  partition: number
  offset: number
  timestampMs: number
  key: string | null
  /** `source` and `id` of the event; undefined when the record is not a CloudEvent. */
  event: { source: string; id: string } | undefined
  /** How often the event was redriven; 0 for an event as it was sent. */
  generation: number
  /** For a redriven event and its copies: `topic/partition/offset` of the dead letter. */
  redrivenFrom: string | undefined
  /** Whether the redrive says that it changed the event. */
  edited: boolean
  /** For a retry or a dead letter: `topic/partition/offset` of the original. */
  origin: string | undefined
  /** When the producer received the request; undefined for a record of another client. */
  receivedAt: string | undefined
  /** For a processed record: whether no handler changed its data. */
  passedThrough: boolean
  /** A digest of the value. */
  value: string
  /** A digest of key, value and headers, without the headers that a dead letter or a redrive adds or sets. */
  content: string
}

/** A stream's topics. */
export interface Log {
  topic: string
  input: readonly LogRecord[]
  retry: readonly LogRecord[]
  dlq: readonly LogRecord[]
  processed: readonly LogRecord[]
}

/** Changes to the topics themselves, and the guarantees that therefore need not hold. */
export interface Changes {
  /** Partitions were added: a key may be in two partitions, and an event repeated in another partition counts as another event. */
  partitionsAdded?: boolean
  /** The first offset of each partition that still exists. Earlier records are gone, with or without outcomes. */
  firstOffsets?: readonly number[]
}

export type Invariant = 'I1' | 'I2' | 'I3' | 'I4' | 'I5'

export interface Violation {
  invariant: Invariant
  /** What is wrong, and with which event. */
  what: string
}

/** Counts of events, in the log of generations of events; except `records` and `retried`, which count records. */
export interface Verdict {
  sent: number
  /** At least one request with the event got a receipt. */
  acknowledged: number
  /** Never acknowledged, and at least one answer left it open. */
  unknown: number
  /** Every answer said that it was not stored. */
  refused: number
  inLog: number
  /** Of `inLog`: not sent through the producer. */
  foreign: number
  /** Of `inLog`: generations above 0. */
  redriven: number
  /** Input records, including repeated events. */
  records: number
  /** Of `records`: duplicates within one request, which the producer's client writes when it gives up a delivery half-way. */
  rewritten: number
  retried: number
  processed: number
  dead: number
  /** In the log without an outcome. */
  undecided: number
  /** Acknowledged and not in the log, or without an outcome. */
  lost: number
  /** With more than one outcome. */
  doubled: number
  /** Processed after a later event with their key; also keys in several partitions. */
  outOfOrder: number
  /** In the log although refused, or more often than it can have been stored; or redriven without a dead letter. */
  unwanted: number
  /** With a wrong outcome: of the other kind, with another key or partition, with changed bytes, or of nothing in the log. Also redriven with such changes. */
  altered: number
  violations: Violation[]
}

/** Whether all guarantees held. */
export const holds = (verdict: Verdict): boolean => verdict.violations.length === 0

/** The input records of one generation of an event, or of one record that is not an event. */
interface Logged {
  name: string
  first: LogRecord
  copies: LogRecord[]
  processed: LogRecord[]
  dead: LogRecord[]
}

export function judge(entries: readonly Entry[], log: Log, changes: Changes = {}): Verdict {
  const violations: Violation[] = []
  const violate = (invariant: Invariant, what: string): void => void violations.push({ invariant, what })
  const inLog = gather(log)
  const verdict: Verdict = {
    sent: entries.length,
    acknowledged: 0,
    unknown: 0,
    refused: 0,
    inLog: inLog.size,
    foreign: 0,
    redriven: 0,
    records: log.input.length,
    rewritten: 0,
    retried: log.retry.length,
    processed: 0,
    dead: 0,
    undecided: 0,
    lost: 0,
    doubled: 0,
    outOfOrder: 0,
    unwanted: 0,
    altered: 0,
    violations,
  }
  judgeAnswers(entries, inLog, verdict, violate, changes)
  judgeRedrives(log, inLog, verdict, violate)
  judgeOutcomes(entries, log, inLog, verdict, violate, changes)
  judgeExpectations(entries, inLog, verdict, violate)
  judgeOrder(log, inLog, verdict, violate, changes)
  return verdict
}

type Violate = (invariant: Invariant, what: string) => void

/** An event is identified by source, ID and generation. Other records are identified by their position, which their outcome names as its origin. */
const identityOf = ({ event, generation }: LogRecord, place: string): string =>
  event === undefined ? originIdentity(place) : eventIdentity(event.source, event.id, generation)

function nameOf({ event, generation }: LogRecord, place: string): string {
  if (event === undefined) return `the record ${place}`
  return `${event.source} ${event.id}${generation === 0 ? '' : `, generation ${generation},`}`
}

const placeOf = (topic: string, { partition, offset }: { partition: number; offset: number }): string =>
  `${topic}/${partition}/${offset}`

const isGone = ({ partition, offset }: { partition: number; offset: number }, { firstOffsets }: Changes): boolean =>
  firstOffsets !== undefined && offset < (firstOffsets[partition] ?? 0)

function gather(log: Log): Map<string, Logged> {
  const inLog = new Map<string, Logged>()
  for (const record of byOffset(log.input)) {
    const place = placeOf(log.topic, record)
    const identity = identityOf(record, place)
    const known = inLog.get(identity)
    if (known !== undefined) known.copies.push(record)
    else {
      const name = nameOf(record, place)
      inLog.set(identity, { name, first: record, copies: [record], processed: [], dead: [] })
    }
  }
  return inLog
}

const byOffset = (records: readonly LogRecord[]): LogRecord[] =>
  [...records].sort((a, b) => a.partition - b.partition || a.offset - b.offset)

/** I1 and I4: compares the answers with the log. What was redriven was not sent by a client. */
function judgeAnswers(
  entries: readonly Entry[],
  inLog: Map<string, Logged>,
  verdict: Verdict,
  violate: Violate,
  changes: Changes,
): void {
  let ours = 0
  for (const { source, id, key, answers } of entries) {
    const name = `${source} ${id}`
    const copies = inLog.get(eventIdentity(source, id))?.copies ?? []
    if (copies.length > 0) ours++
    const receipts = new Set<string>()
    let possible = 0
    const acknowledged = answers.some(({ kind }) => kind === 'acknowledged')
    for (const answer of answers) {
      if (answer.kind === 'unknown') possible++
      if (answer.kind !== 'acknowledged' || isGone(answer, changes)) continue
      if (answer.offset >= 0) receipts.add(`${answer.partition}/${answer.offset}`)
      else {
        // Stored, but nobody knows where.
        possible++
        if (copies.length === 0) verdict.lost++
        else verdict.altered++
        violate('I1', `${name} was acknowledged at the offset ${answer.offset} of partition ${answer.partition}`)
      }
    }
    if (acknowledged) verdict.acknowledged++
    else if (possible > 0) verdict.unknown++
    else verdict.refused++
    const places = new Set(copies.map(({ partition, offset }) => `${partition}/${offset}`))
    const missing = [...receipts].filter((place) => !places.has(place))
    if (missing.length > 0) {
      verdict.lost++
      violate('I1', `${name} was acknowledged at ${missing.join(', ')} and is not there`)
    }
    // Requests that reported the event as stored have stored it, those with an unknown outcome may have, and refused ones must not have.
    const requests = new Set(copies.map(({ receivedAt, partition, offset }) => receivedAt ?? `${partition}/${offset}`))
    verdict.rewritten += copies.length - requests.size
    if (requests.size > receipts.size + possible) {
      verdict.unwanted++
      const said = `${receipts.size} receipts, ${possible} unknown answers of ${answers.length}`
      violate('I4', `${name} was stored by ${requests.size} requests: ${said}`)
    }
    const otherKey = copies.find((copy) => copy.key !== key)
    if (otherKey !== undefined) {
      verdict.altered++
      violate('I5', `${name} was sent with the key ${key} and stored with ${otherKey.key}`)
    }
  }
  for (const { first } of inLog.values()) if (isRedriven(first)) verdict.redriven++
  verdict.foreign = inLog.size - ours - verdict.redriven
}

const isRedriven = ({ event, generation }: LogRecord): boolean => event !== undefined && generation > 0

/**
 * I4 and I5: only a dead letter is redriven, as the next generation of its event, with its key, in its partition, and unchanged unless it is said to be
 * edited. The redriven events of a key keep the order of their dead letters within a generation. Several records of a generation are repeats, since
 * {@link judgeOutcomes} demands one outcome.
 */
function judgeRedrives(log: Log, inLog: Map<string, Logged>, verdict: Verdict, violate: Violate): void {
  const letters = new Map(log.dlq.map((record) => [placeOf(`${log.topic}.dlq`, record), record]))
  const last = new Map<string, { name: string; letter: LogRecord }>()
  for (const record of byOffset(log.input).filter(isRedriven)) {
    const name = nameOf(record, '')
    const from = record.redrivenFrom ?? 'nothing'
    const letter = letters.get(from)
    const before = identityOf({ ...record, generation: record.generation - 1 }, '')
    if (letter === undefined || identityOf(letter, from) !== before) {
      verdict.unwanted++
      violate('I4', `${name} is in the log, redriven from ${from}, which is no dead letter of the generation before`)
      continue
    }
    if (record.key !== letter.key || record.partition !== letter.partition) {
      verdict.altered++
      const places = `the key ${record.key} in partition ${record.partition}, its dead letter ${letter.key} in ${letter.partition}`
      violate('I5', `${name} was redriven with ${places}`)
    }
    if (!record.edited && record.content !== letter.content) {
      verdict.altered++
      violate('I3', `${name} is not its dead letter, byte for byte, and is not said to be edited`)
    }
    if (record.key === null || inLog.get(identityOf(record, ''))?.first !== record) continue
    const lane = `${record.generation} ${record.partition} ${record.key}`
    const earlier = last.get(lane)
    if (earlier !== undefined && earlier.letter.offset > letter.offset) {
      verdict.outOfOrder++
      const offsets = `dead letters at ${letter.offset} and ${earlier.letter.offset}`
      violate('I5', `${name} was redriven after ${earlier.name} of the same key ${record.key}: ${offsets}`)
    } else last.set(lane, { name, letter })
  }
}

/** I2 and I3: every event in the log has exactly one outcome, and it is the event's own. */
function judgeOutcomes(
  entries: readonly Entry[],
  log: Log,
  inLog: Map<string, Logged>,
  verdict: Verdict,
  violate: Violate,
  changes: Changes,
): void {
  /** Events that may have had a record in the deleted part of the log. */
  const gone = new Set(
    entries.flatMap(({ source, id, answers }) =>
      changes.firstOffsets !== undefined &&
      answers.some((answer) => answer.kind === 'unknown' || (answer.kind === 'acknowledged' && isGone(answer, changes)))
        ? [eventIdentity(source, id)]
        : [],
    ),
  )
  for (const role of ['processed', 'dlq'] as const) {
    for (const record of log[role]) {
      const place = placeOf(`${log.topic}.${role}`, record)
      const identity = identityOf(record, place)
      // A dead letter is of an event, or of a record that could not be parsed: then only its origin identifies it.
      const logged = inLog.get(identity) ?? (role === 'dlq' ? inLog.get(`\n${record.origin ?? ''}`) : undefined)
      if (logged === undefined) {
        if (record.event !== undefined && gone.has(eventIdentity(record.event.source, record.event.id))) continue
        verdict.altered++
        violate('I3', `${place} is the outcome of nothing in the log: ${nameOf(record, record.origin ?? '?')}`)
        continue
      }
      if (role === 'processed') logged.processed.push(record)
      else logged.dead.push(record)
      const fault = faultOfOutcome(role, record, logged, changes)
      if (fault !== undefined) {
        verdict.altered++
        violate('I3', `${logged.name}: ${fault}`)
      }
    }
  }
  for (const logged of inLog.values()) {
    if (logged.processed.length > 0) verdict.processed++
    if (logged.dead.length > 0) verdict.dead++
    // Once partitions were added, it counts as a separate event in each partition.
    if (changes.partitionsAdded !== true) judgeOutcomesOf(logged, log, verdict, violate)
    else
      for (const partition of new Set(logged.copies.map((copy) => copy.partition)))
        judgeOutcomesOf(inPartition(logged, partition), log, verdict, violate)
  }
}

function judgeOutcomesOf({ name, first, processed, dead }: Logged, log: Log, verdict: Verdict, violate: Violate): void {
  const outcomes = processed.length + dead.length
  if (outcomes === 0) {
    verdict.undecided++
    verdict.lost++
    violate('I3', `${name} has no outcome; it stands at ${placeOf(log.topic, first)}`)
  }
  if (outcomes > 1) {
    verdict.doubled++
    const where = [
      ...processed.map((record) => placeOf('processed', record)),
      ...dead.map((record) => placeOf('dlq', record)),
    ].join(', ')
    violate(processed.length > 1 ? 'I2' : 'I3', `${name} has ${outcomes} outcomes: ${where}`)
  }
}

/** One partition's records of an event. */
function inPartition({ name, first, copies, processed, dead }: Logged, partition: number): Logged {
  const there = (records: LogRecord[]) => records.filter((record) => record.partition === partition)
  const here = there(copies)
  return { name, first: here[0] ?? first, copies: here, processed: there(processed), dead: there(dead) }
}

/** Whether events that should be processed were, and those that should be dead letters are. */
function judgeExpectations(
  entries: readonly Entry[],
  inLog: Map<string, Logged>,
  verdict: Verdict,
  violate: Violate,
): void {
  for (const { source, id, expected } of entries) {
    const logged = inLog.get(eventIdentity(source, id))
    const unexpected = expected === 'processed' ? logged?.dead : logged?.processed
    if (unexpected === undefined || unexpected.length === 0) continue
    verdict.altered++
    violate('I3', `${source} ${id} should be ${expected}, and is ${expected === 'processed' ? 'dead' : 'processed'}`)
  }
}

/** What is wrong with an outcome, or undefined. */
function faultOfOutcome(
  role: 'processed' | 'dlq',
  record: LogRecord,
  { copies, first }: Logged,
  { partitionsAdded = false }: Changes,
): string | undefined {
  // Duplicates are recognised within the input's partition, so the outcome must be in that partition.
  const places = partitionsAdded ? copies : [first]
  if (!places.some(({ partition }) => partition === record.partition))
    return `its outcome is in partition ${record.partition}, itself in ${first.partition}`
  if (record.key !== first.key) return `its outcome has the key ${record.key}, itself ${first.key}`
  if (role === 'dlq' && !copies.some((copy) => isCopy(record, copy)))
    return 'its dead letter is not what was sent, byte for byte'
  if (role === 'processed' && record.passedThrough && !copies.some((copy) => copy.value === record.value))
    return 'it passed through, and its data is another'
  return undefined
}

const isCopy = (dead: LogRecord, sent: LogRecord): boolean =>
  dead.content === sent.content &&
  dead.receivedAt === sent.receivedAt &&
  dead.redrivenFrom === sent.redrivenFrom &&
  dead.edited === sent.edited

/**
 * I5: the processed events of a key are in the order of the input. An event that was stored several times counts at its first position. Where
 * partitions were added, each partition has its own order.
 */
function judgeOrder(
  log: Log,
  inLog: Map<string, Logged>,
  verdict: Verdict,
  violate: Violate,
  { partitionsAdded = false }: Changes,
): void {
  const partitionsOfKey = new Map<string, Set<number>>()
  for (const { key, partition, event } of log.input) {
    // Other clients may put records that are not events anywhere.
    if (key === null || event === undefined || partitionsAdded) continue
    const partitions = partitionsOfKey.get(key)
    if (partitions === undefined) partitionsOfKey.set(key, new Set([partition]))
    else partitions.add(partition)
  }
  for (const [key, partitions] of partitionsOfKey) {
    if (partitions.size === 1) continue
    verdict.outOfOrder++
    violate('I5', `the key ${key} is in the partitions ${[...partitions].join(', ')}`)
  }
  const last = new Map<string, Logged>()
  for (const record of byOffset(log.processed)) {
    if (record.key === null || record.event === undefined) continue
    const whole = inLog.get(identityOf(record, ''))
    if (whole === undefined) continue
    const logged = partitionsAdded ? inPartition(whole, record.partition) : whole
    // A second outcome was reported above, and says nothing about order.
    if (logged.processed[0] !== record) continue
    const lane = partitionsAdded ? `${record.partition} ${record.key}` : record.key
    const before = last.get(lane)
    if (before !== undefined && before.first.offset > logged.first.offset) {
      verdict.outOfOrder++
      const offsets = `offsets ${logged.first.offset} and ${before.first.offset}`
      violate('I5', `${logged.name} was processed after ${before.name} of the same key ${record.key}: ${offsets}`)
    } else last.set(lane, logged)
  }
}
