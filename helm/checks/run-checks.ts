/** Runs checks by name and reports what each has found; both `check:deploy` and `check:cluster` are this with other areas. */
import { BrokerUnavailableError } from '../../shared/dev/brokers/broker.ts'
import { UnavailableError } from '../../shared/dev/built.ts'
import { seconds, step } from '../../shared/dev/progress.ts'
import { FailedError, parseCommandLine, refuse } from '../../shared/service/command-line.ts'
import { paint } from '../../shared/service/terminal.ts'
import type { Area, Check, Outcome } from './check.ts'

interface Result extends Required<Outcome> {
  readonly check: Check
  readonly elapsedMs: number
}

async function outcomeOf(check: Check): Promise<Result> {
  const beganMs = performance.now()
  const ended = ({ passed, faults, notChecked = [] }: Outcome): Result => {
    // A check that checked nothing, and does not say why, has failed.
    const all = passed + faults.length + notChecked.length === 0 ? [`there are no ${check.counts}`] : faults
    return { check, passed, faults: all, notChecked, elapsedMs: performance.now() - beganMs }
  }
  try {
    return ended(await step(check.name, (say) => check.run(say)))
  } catch (error) {
    const isKnown = [UnavailableError, BrokerUnavailableError, FailedError].some((known) => error instanceof known)
    const { message, stack = message } = error as Error
    return ended({ passed: 0, faults: [isKnown ? message : stack] })
  }
}

/** Areas that are checked at the same time: the longest one mostly waits. */
const LANES = 2

/** As a shell reports a process that SIGINT has ended. */
const EXIT_INTERRUPTED = 130

/**
 * Runs the checks that the process's arguments name (`[TEXT…] [--list]`), those of an area one after the other, two areas side by side. Prints a table
 * of them, and ends the process: with 0 when there are no faults.
 * @param areas the longest first
 * @param help what `--help` prints
 */
export async function runChecks(areas: readonly Area[], help: string): Promise<never> {
  const { values, positionals } = parseCommandLine(help, {
    allowPositionals: true,
    options: { list: { type: 'boolean', default: false } },
  })
  const isNamed = (name: string): boolean => positionals.length === 0 || positionals.some((text) => name.includes(text))
  const chosen = areas
    .map(({ checks, ...area }) => ({
      ...area,
      checks: checks.filter((check) => isNamed(`${area.name} ${check.name}`)),
    }))
    .filter(({ checks }) => checks.length > 0)
  if (values.list) {
    for (const { name, checks } of chosen) for (const check of checks) console.log(`${name}: ${check.name}`)
    process.exit(0)
  }
  if (chosen.length === 0) refuse('no check is named by these arguments; --list names them', help)

  const results = chosen.map(({ name }) => ({ area: name, results: [] as Result[] }))
  const begun: Area[] = []
  // What dies with this process needs no care; what an area's end removes would stay.
  const interrupted = (): void =>
    void Promise.allSettled(begun.map(({ end }) => end?.(false))).finally(() => process.exit(EXIT_INTERRUPTED))
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, interrupted)
  const areasLeft = chosen.entries()
  const lane = async (): Promise<void> => {
    for (const [index, area] of areasLeft) {
      begun.push(area)
      const of = results[index]?.results ?? []
      for (const check of area.checks) of.push(await outcomeOf(check))
      const { name, end } = area
      const hasFaults = of.some(({ faults }) => faults.length > 0)
      if (end !== undefined) await step(`${name}: ending what was started`, () => end(hasFaults))
      begun.splice(begun.indexOf(area), 1)
    }
  }
  await Promise.all(Array.from({ length: LANES }, lane))

  for (const { area, results: of } of results) {
    console.log(paint('bold', `\n${area}`))
    for (const result of of) print(result)
  }
  const all = results.flatMap(({ results: of }) => of)
  const passed = all.reduce((sum, result) => sum + result.passed, 0)
  const failed = all.reduce((sum, result) => sum + result.faults.length, 0)
  console.log(`\n${passed} passed, ${failed} failed`)
  process.exit(failed === 0 ? 0 : 1)
}

function print({ check, passed, faults, notChecked, elapsedMs }: Result): void {
  const isRight = passed > 0 ? 'ok    ' : paint('yellow', 'none  ')
  const state = faults.length === 0 ? isRight : paint('red', 'FAILED')
  console.log(
    `${state}  ${check.name.padEnd(52)} ${String(passed).padStart(5)} ${check.counts.padEnd(30)} ${seconds(elapsedMs)}`,
  )
  for (const fault of faults) console.log(`          ${fault.replaceAll('\n', '\n          ')}`)
  for (const what of notChecked) console.log(`          ${paint('yellow', 'not checked:')} ${what}`)
}
