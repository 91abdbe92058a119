import { EXIT_FAILED, FailedError, only, UsageError } from '../../../shared/service/command-line.ts'
import { type Backoff, delayMs, sleep } from '../../../shared/service/retry.ts'
import type { Action, Edit, Job, LetterFilter } from '../acts-log.ts'
import { ApiError, UnreachableError } from '../client.ts'
import { parseJson } from '../json.ts'
import { argumentsOf, type Command, EXIT_INTERRUPTED, type Io, placeOf, readText, timeOf, wordOf } from './command.ts'
import { actText, groupLines, jobEnd, jobLines, jobProgress, letterLines } from './letters-text.ts'
import { ProgressLine } from './progress.ts'
import { count, plural } from './text.ts'

const HELP = `A stream's dead letters: what there is, why, and redriving or discarding them.

Usage: bun run kt -- dead-letters STREAM [FILTERS] [--state open|redriven|discarded|all]
       bun run kt -- dead-letters STREAM [FILTERS] --redrive [--rate N] [--reason TEXT] [--yes] [--no-wait]
       bun run kt -- dead-letters STREAM [FILTERS] --discard --reason TEXT [--rate N] [--yes] [--no-wait]
       bun run kt -- dead-letters STREAM --letter PARTITION/OFFSET
       bun run kt -- dead-letters STREAM --letter PARTITION/OFFSET --redrive [--edit FILE|-] [--reason TEXT]
       bun run kt -- dead-letters STREAM --letter PARTITION/OFFSET --discard --reason TEXT
       bun run kt -- dead-letters STREAM --jobs
       bun run kt -- dead-letters STREAM --cancel JOB [--reason TEXT]

Filters; every one that is given must hold:
  --type     the event's type; a final * stands for anything
  --source, --subject, --id   the event's
  --failure  the reason of the failure, such as 'out of attempts'
  --handler  TYPE or TYPE@VERSION
  --from     put aside at this time or later: 2026-01-31T12:00:00Z, or 15m, 2h or 1d before now
  --to       put aside before this time

  --state    which letters are counted; open ones, that nothing was done to, where not given
  --letter   one letter in full
  --redrive  sends the events of open letters through the stream once more
  --discard  notes that open letters need nothing more; they stay in .dlq
  --edit     how the event is changed first: JSON, {"type"?, "dataschema"?, "data"?, "patch"?}; patch is a list of RFC 6902 operations on the data
  --rate     the most letters a second; 100 where not given
  --reason   why; kept with the act
  --yes      does it without asking; needed where there is no terminal
  --no-wait  ends once the job is started
  --jobs     redrives and discards so far, with their progress
  --cancel   ends a job; what it has done stays done
  --json     the console's answer as JSON; of a job, its state at the end
  --help     this text

Exit code: 0; 1 when there is no such letter or job, the job did not end well, or the console refused; 64 for wrong arguments; 69 when the console does not
answer; 130 after Ctrl-C, which leaves a job running.
`

/** An edit may be as large as the largest body that the console takes. */
const MAX_EDIT_BYTES = 4 * 2 ** 20

/** How often a job is looked at, and how often while the console does not answer. */
const JOB_LOOK_MS = 500
const JOB_BACKOFF: Backoff = { firstMs: 500, maxMs: 10_000 }
const MAX_JOB_FAILURES = 20

const OPTIONS = {
  type: { type: 'string' },
  source: { type: 'string' },
  subject: { type: 'string' },
  id: { type: 'string' },
  failure: { type: 'string' },
  handler: { type: 'string' },
  from: { type: 'string' },
  to: { type: 'string' },
  state: { type: 'string' },
  letter: { type: 'string' },
  redrive: { type: 'boolean', default: false },
  discard: { type: 'boolean', default: false },
  edit: { type: 'string' },
  rate: { type: 'string' },
  reason: { type: 'string' },
  yes: { type: 'boolean', default: false },
  'no-wait': { type: 'boolean', default: false },
  jobs: { type: 'boolean', default: false },
  cancel: { type: 'string' },
} as const

const parse = (args: string[]) => argumentsOf(args, OPTIONS)
type Values = ReturnType<typeof parse>['values']
type Name = keyof typeof OPTIONS

const FILTERS = ['type', 'source', 'subject', 'id', 'failure', 'handler', 'from', 'to'] as const satisfies Name[]
const ACTING = ['redrive', 'discard', 'rate', 'yes', 'no-wait'] as const satisfies Name[]

export const deadLetters: Command = {
  usage: 'dead-letters STREAM',
  summary: 'dead letters: why, and redriving or discarding them',
  help: HELP,
  async run(args, io) {
    const { values, positionals } = parse(args)
    const stream = only('STREAM', positionals)
    const { letter, cancel, jobs, redrive, discard } = values
    if (redrive && discard) throw new UsageError('one of --redrive and --discard')
    const action = redrive ? 'redrive' : discard ? 'discard' : undefined
    if (action === 'discard' && !values.reason) throw new UsageError('--reason is missing: say why')
    if (jobs) {
      refuseOthers('--jobs', values, [])
      return print(await io.client.jobs(stream), jobLines, values, io)
    }
    if (cancel !== undefined) {
      refuseOthers('--cancel', values, ['cancel', 'reason'])
      return print(await io.client.cancelJob(stream, cancel, values.reason), (job) => [jobEnd(job)], values, io)
    }
    if (letter !== undefined) {
      refuseOthers('--letter', values, ['letter', 'redrive', 'discard', 'edit', 'reason'])
      return oneLetter(stream, placeOf('--letter', letter), action, values, io)
    }
    if (values.edit !== undefined) throw new UsageError('--edit changes one event: it goes with --letter and --redrive')
    const filter = filterOf(values, io)
    if (action !== undefined) return startJob(stream, action, filter, values, io)
    refuseOthers('without --redrive or --discard', values, [...FILTERS, 'state'])
    const state = wordOf('--state', values.state, ['open', 'redriven', 'discarded', 'all'])
    return print(await io.client.letterGroups(stream, { ...filter, state }, io.signal), groupLines, values, io)
  },
}

/** @throws UsageError for an option that does not go with these */
function refuseOthers(what: string, values: Values, allowed: readonly Name[]): void {
  for (const name of Object.keys(OPTIONS) as Name[]) {
    const value = values[name]
    if (value === undefined || value === false || allowed.includes(name) || what === `--${name}`) continue
    throw new UsageError(`--${name} does not go ${what.startsWith('--') ? `with ${what}` : what}`)
  }
}

function print<T>(answer: T, lines: (answer: T) => string[], { json }: Values, io: Io): number {
  for (const line of json === true ? [JSON.stringify(answer)] : lines(answer)) io.out(line)
  return 0
}

function filterOf({ failure: reason, ...values }: Values, io: Io): LetterFilter {
  const { type, source, subject, id, handler } = values
  const period = { from: timeOf('--from', values.from, io.nowMs()), to: timeOf('--to', values.to, io.nowMs()) }
  const given = Object.entries({ type, source, subject, id, reason, handler, ...period })
  return Object.fromEntries(given.filter(([, value]) => value !== undefined))
}

// ---- one letter

async function oneLetter(
  stream: string,
  at: { partition: number; offset: number },
  action: Action | undefined,
  values: Values,
  io: Io,
): Promise<number> {
  const { edit, reason } = values
  if (edit !== undefined && action !== 'redrive') throw new UsageError('--edit goes with --redrive')
  if (action === undefined) {
    if (reason !== undefined) throw new UsageError('--reason goes with --redrive or --discard')
    return print(await io.client.letter(stream, at), letterLines, values, io)
  }
  const acted =
    action === 'discard'
      ? await io.client.discard(stream, at, reason ?? '')
      : await io.client.redrive(stream, at, { reason, edit: edit === undefined ? undefined : await editIn(edit, io) })
  return print(acted, ({ done, act }) => [`${done ? '' : 'It was acted on before: '}${actText(act)}`], values, io)
}

async function editIn(file: string, io: Io): Promise<Edit> {
  const text = await readText(file, MAX_EDIT_BYTES, io)
  try {
    const edit = parseJson(text)
    if (typeof edit === 'object' && edit !== null && !Array.isArray(edit)) return edit as Edit
  } catch (error) {
    throw new FailedError(`--edit ${file} is no JSON: ${(error as Error).message}`)
  }
  throw new FailedError(`--edit ${file} is no object {"type"?, "dataschema"?, "data"?, "patch"?}`)
}

// ---- jobs

async function startJob(stream: string, action: Action, filter: LetterFilter, values: Values, io: Io): Promise<number> {
  refuseOthers(`--${action}`, values, [...FILTERS, ...ACTING, 'reason'])
  const { rate, reason, yes } = values
  const ratePerSecond = rate === undefined ? undefined : Number(rate)
  if (ratePerSecond !== undefined && !(ratePerSecond > 0)) throw new UsageError(`--rate ${rate}: not a number above 0`)
  if (yes !== true && io.ask === undefined)
    throw new UsageError('there is no terminal to ask on: --yes does it without asking')
  const dryRun = await io.client.dryRun(stream, { action, filter }, io.signal)
  const { matches, complete } = dryRun
  const least = complete ? '' : 'at least '
  io.say(`${least}${plural(matches, 'open letter')} of ${stream} ${matches === 1 ? 'matches' : 'match'}`)
  if (matches === 0 && complete) return print(dryRun, () => [], values, io)
  if (yes !== true && io.ask !== undefined) {
    const answer = (await io.ask(`${action} ${least}${count(matches)}? ${matches} or y to confirm: `)).trim()
    if (answer !== 'y' && answer !== String(matches)) throw new FailedError('nothing was done')
  }
  const job = await io.client.startJob(stream, { action, filter, ratePerSecond, reason })
  const howToCancel = `bun run kt -- dead-letters ${stream} --cancel ${job.id}`
  if (values['no-wait'] === true)
    return print(job, ({ id }) => [`job ${id} is started. Cancel it with: ${howToCancel}`], values, io)
  let end: Job | undefined
  try {
    end = await waitedFor(stream, job, io)
  } finally {
    if (end === undefined) io.say(`The job goes on. Cancel it with: ${howToCancel}`)
  }
  if (end === undefined) return EXIT_INTERRUPTED
  print(end, (ended) => [jobEnd(ended)], values, io)
  return end.state === 'done' ? 0 : EXIT_FAILED
}

/** Looks at a job until it has ended. @returns undefined after Ctrl-C */
async function waitedFor(stream: string, started: Job, io: Io): Promise<Job | undefined> {
  const line = new ProgressLine(io)
  let job = started
  let failures = 0
  try {
    while (!io.signal.aborted) {
      if (job.state !== 'running') return job
      await sleep(failures === 0 ? JOB_LOOK_MS : delayMs(JOB_BACKOFF, failures), io.signal)
      if (io.signal.aborted) break
      try {
        job = await io.client.job(stream, job.id, io.signal)
        failures = 0
        line.tell(jobProgress(job))
      } catch (error) {
        const passes = error instanceof UnreachableError || (error instanceof ApiError && error.status >= 500)
        if (io.signal.aborted) break
        if (!passes || ++failures > MAX_JOB_FAILURES) throw error
        line.tell(`${jobProgress(job)}; the console does not answer, the job goes on once it does`)
      }
    }
    return undefined
  } finally {
    line.end()
  }
}
