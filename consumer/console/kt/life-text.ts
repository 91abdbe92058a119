import { oneLine } from '../../../shared/service/command-line.ts'
import { paint } from '../../../shared/service/terminal.ts'
import type { Found, GenerationView, Life } from '../life.ts'
import type { Place, RecordView } from '../view.ts'
import { count, duration, failure, fields, indented, plural, state } from './text.ts'

/** An event's life as a timeline. */

interface Moment {
  ms: number
  what: string
  detail: string
}

export function foundLines(found: Found): string[] {
  return [...found.events.flatMap((life) => [...lifeLines(life), '']), ...searchedLines(found)]
}

/** What was searched, in one sentence, and what was not. */
function searchedLines({ searched, complete, seconds, events }: Found): string[] {
  const offsets = searched.reduce((sum, one) => sum + one.searched.to - one.searched.from, 0)
  const topics = [...new Set(searched.map(({ topic }) => topic))].join(', ')
  if (events.length > 0 && !complete)
    return [paint('dim', `found in ${seconds} s; older records of ${topics || 'it'} were not searched for repeats`)]
  const rest = complete ? '' : ', and not all: the search ended at a limit'
  return [paint('dim', `searched ${plural(offsets, 'offset')} of ${topics || 'nothing'} in ${seconds} s${rest}`)]
}

export function lifeLines(life: Life): string[] {
  const { tenant, stream, id, source, type, subject, traceId, generations } = life
  const [first] = generations
  const firstMs = first === undefined ? 0 : Math.min(...momentsOf(first).map(({ ms }) => ms))
  const several = generations.length > 1
  return [
    `${paint('bold', id === undefined ? 'what is no event' : oneLine(id))} in ${tenant}/${stream}: ${state(life.state)}`,
    ...indented(
      fields([
        ['type', type],
        ['source', source],
        ['subject', subject],
        ['key', first?.record?.key],
        ['trace', traceId],
        ['schema', schemaOf(first?.record?.schema)],
      ]),
    ),
    ...generations.flatMap((one) => [
      '',
      ...(several ? [paint('bold', one.generation === 0 ? 'as it came in' : `redrive ${one.generation}`)] : []),
      ...timeline(one, firstMs),
    ]),
  ]
}

const schemaOf = (schema: RecordView['schema']): string | undefined =>
  schema === undefined ? undefined : `${schema.subject}, version ${schema.version}`

/** Why there is no outcome. */
function withoutOutcome({ state, waiting, attempts }: GenerationView): string | undefined {
  switch (state) {
    case 'waiting': {
      const next = attempts.length > 0 ? ', for its next attempt' : ''
      return `it is in .retry${next}${waiting === undefined ? '' : `: ${failure(waiting)}`}`
    }
    case 'pending':
      return 'no consumer has committed it yet'
    case 'unknown':
      return 'it is committed, and no outcome was found: it may have been deleted by retention'
    default:
      return undefined
  }
}

function timeline(generation: GenerationView, firstMs: number): string[] {
  const moments = momentsOf(generation)
  const diffs = moments.map(({ ms }) => (ms === firstMs ? '' : `${ms > firstMs ? '+' : ''}${duration(ms - firstMs)}`))
  const width = Math.max(0, ...diffs.map((diff) => diff.length))
  const names = Math.max(0, ...moments.map(({ what }) => what.length))
  const lines = moments.map(({ ms, what, detail }, index) => {
    const padded = what.padEnd(names)
    const shown = what === 'processed' || what === 'dead' ? padded.replace(what, state(what)) : padded
    return `  ${paint('dim', new Date(ms).toISOString())}  ${(diffs[index] ?? '').padStart(width)}  ${shown}  ${detail}`.trimEnd()
  })
  const more = withoutOutcome(generation)
  return more === undefined ? lines : [...lines, `  ${state(generation.state)}: ${more}`]
}

const whereOf = ({ topic, partition, offset }: Pick<Place, 'topic' | 'partition' | 'offset'>): string =>
  `${topic}/${partition}/${offset}`

/** In the order of time; what has the same time, in the order in which it happens. */
function momentsOf({ record, places, repeats, attempts, outcome, act }: GenerationView): Moment[] {
  const moments: Moment[] = []
  const add = (time: string, what: string, detail: string): void =>
    void moments.push({ ms: Date.parse(time), what, detail: oneLine(detail) })
  if (record?.receivedAt !== undefined) add(record.receivedAt, 'received', '')
  for (const place of places) if (place.role === 'input') add(place.time, 'stored', whereOf(place) + redriveOf(record))
  for (const { time, attempt, ...error } of attempts) add(time, `attempt ${attempt}`, failure(error))
  for (const place of places) if (place.role === 'retry') add(place.time, 'to retry', whereOf(place))
  for (const repeat of repeats) add(repeat.time, 'repeated', `${whereOf(repeat)}, without effect`)
  if (outcome !== undefined) {
    const { error, handler, event } = outcome
    const dead =
      error === undefined ? '' : `: ${failure(error)}${error.handler === undefined ? '' : ` (${error.handler})`}`
    const type = event === undefined || event.type === record?.event?.type ? '' : ` → ${event.type}`
    const result = `${handler === undefined ? ', passed through' : ` by ${handler}`}${type}`
    if (outcome.role === 'dlq') add(outcome.time, 'dead', whereOf(outcome) + dead)
    else add(outcome.time, 'processed', whereOf(outcome) + result)
  }
  if (act !== undefined) {
    const why = act.reason === undefined ? '' : `: ${act.reason}`
    const edited = act.edited === true ? ', edited' : ''
    const job = act.job === undefined ? '' : `, job ${act.job}`
    add(act.time, act.act === 'redrive' ? 'redriven' : 'discarded', `by ${act.by}${edited}${job}${why}`)
  }
  return moments.sort((a, b) => a.ms - b.ms)
}

const redriveOf = (record: GenerationView['record']): string =>
  record?.redrivenFrom === undefined ? '' : `, from ${record.redrivenFrom}${record.edited === true ? ', edited' : ''}`

export const searchProgress = ({ searched, of, seconds }: { searched: number; of: number; seconds: number }): string =>
  `searched ${count(searched)} of ${count(of)} offsets, ${seconds} s`
