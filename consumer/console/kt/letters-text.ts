import { oneLine } from '../../../shared/service/command-line.ts'
import { table } from '../../../shared/service/table.ts'
import { paint } from '../../../shared/service/terminal.ts'
import type { Job, LetterAct, LetterFilter } from '../acts-log.ts'
import type { Letter } from '../client.ts'
import type { LetterGroups } from '../letters.ts'
import { count, dataLines, failure, fields, indented, plural, sparkline, state } from './text.ts'

/** Dead letters and jobs, as text. */

const MAX_BARS = 20

export function groupLines({ groups, letters, bucketSeconds, buckets, complete }: LetterGroups): string[] {
  if (groups.length === 0)
    return [complete ? 'There are no such dead letters.' : 'None were found before the search ended at a limit.']
  const [begin] = buckets
  const rows = table(
    ['COUNT', 'STATE', 'REASON', 'TYPE', 'HANDLER', 'LAST', 'NEWEST', 'OVER TIME'],
    groups.map(({ count: number, state: word, reason, type, handler, lastTime, newest, counts }) => [
      count(number),
      state(word),
      oneLine(reason),
      oneLine(type ?? 'no event'),
      oneLine(handler ?? ''),
      lastTime,
      `${newest.partition}/${newest.offset}`,
      sparkline(counts, MAX_BARS),
    ]),
  )
  const each = Math.max(1, Math.ceil(buckets.length / MAX_BARS)) * bucketSeconds
  const [heading = '', ...lines] = rows
  return [
    heading,
    ...lines.flatMap((line, index) => [
      line,
      `       ${paint('dim', oneLine(groups[index]?.message ?? ''))}`.trimEnd(),
    ]),
    '',
    `${plural(letters, 'letter')}${complete ? '' : ', and older ones that were not counted: the search ended at a limit'}. Each bar is ${span(each)}${begin === undefined ? '' : `, the first from ${begin} on`}.`,
  ]
}

const span = (seconds: number): string =>
  seconds % 86_400 === 0
    ? `${seconds / 86_400} d`
    : seconds % 3_600 === 0
      ? `${seconds / 3_600} h`
      : `${seconds / 60} min`

export const actText = ({ act, by, time, reason, job, edited }: LetterAct): string =>
  oneLine(
    `${act === 'redrive' ? 'redriven' : 'discarded'} by ${by} at ${time}${edited === true ? ', edited' : ''}${job === undefined ? '' : `, job ${job}`}${reason === undefined ? '' : `: ${reason}`}`,
  )

export function letterLines({ state: word, act, letter }: Letter): string[] {
  const {
    topic,
    partition,
    offset,
    time,
    key,
    event,
    undecodable,
    generation,
    error,
    attempts = [],
    origin,
    traceId,
    data,
    bytes,
  } = letter
  return [
    `${topic}/${partition}/${offset}: ${state(word)}${act === undefined ? '' : `, ${actText(act)}`}`,
    ...indented(
      fields([
        ['id', event?.id],
        ['type', event?.type],
        ['source', event?.source],
        ['subject', event?.subject],
        ['key', key],
        ['no event', undecodable],
        ['time', event?.time],
        ['put aside', time],
        ['redrive', generation === 0 ? undefined : String(generation)],
        ['error', error && failure(error)],
        ['handler', error?.handler],
        ['original', origin],
        ['trace', traceId],
      ]),
    ),
    ...(attempts.length === 0 ? [] : ['', 'failed attempts']),
    ...indented(attempts.map((one) => `${one.time}  ${one.attempt}  ${failure(one)}`)),
    '',
    `data, ${plural(bytes, 'byte')}${letter.truncated === true ? ', of which this is the beginning' : ''}`,
    ...indented(dataLines(data)),
  ]
}

const filterText = (filter: LetterFilter): string =>
  Object.entries(filter)
    .map(([name, value]) => `${name}=${oneLine(value)}`)
    .join(' ') || 'all'

export const jobLines = (jobs: readonly Job[]): string[] =>
  jobs.length === 0
    ? ['There are no jobs.']
    : table(
        ['JOB', 'ACTION', 'STATE', 'LETTERS', 'LOOKED AT', 'STARTED', 'BY', 'FILTER', 'REASON'],
        jobs.map((job) => [
          oneLine(job.id),
          job.action,
          state(job.state),
          count(job.acted),
          shareOf(job),
          job.time,
          oneLine(job.by),
          filterText(job.filter),
          oneLine(job.reason ?? ''),
        ]),
      )

const shareOf = ({ looked, of }: Job): string => (of === 0 ? '100 %' : `${Math.floor((100 * looked) / of)} %`)

export const jobProgress = (job: Job): string =>
  `${job.action === 'redrive' ? 'redriven' : 'discarded'} ${count(job.acted)}, ${shareOf(job)} of .dlq looked at`

export const jobEnd = (job: Job): string =>
  oneLine(
    `job ${job.id} is ${job.state}: ${plural(job.acted, 'letter')} ${job.action === 'redrive' ? 'redriven' : 'discarded'}${job.detail === undefined ? '' : ` (${job.detail})`}`,
  )
