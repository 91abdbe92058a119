import { relative } from 'node:path'
import { parseCommandLine } from '../shared/service/command-line.ts'
import { paint } from '../shared/service/terminal.ts'
import { type Judged, judgeGoals } from './goals.ts'
import type { Result } from './result.ts'
import { chosenResult } from './results.ts'

/** Whether a result meets the goals, for people and for scripts. */

const USAGE = `Says which goals a benchmark's result reaches: bun run bench check [FILE]

  FILE     a result; else the newest in bench/results/
  --help   this text

Ends with 1 when a goal is missed or was not measured, with 64 for a wrong command.
`

/** @returns the exit code */
export async function checkCommand(args: string[]): Promise<number> {
  const options = parseCommandLine(USAGE, {
    args,
    allowPositionals: true,
  })
  try {
    const { file, result } = await chosenResult(options.positionals[0])
    const goals = judgeGoals(result)
    process.stdout.write(checkText(relative(process.cwd(), file), result, goals))
    return goals.every(({ verdict }) => verdict === 'met') ? 0 : 1
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`)
    return 1
  }
}

const COLOURS = { met: 'green', missed: 'red', 'not measured': 'yellow' } as const
const VERDICT_WIDTH = 'not measured'.length + 2

/** Two lines for each goal, and the totals. */
export function checkText(file: string, { quick }: Result, goals: readonly Judged[]): string {
  const indent = ' '.repeat(VERDICT_WIDTH)
  const rows = goals.flatMap(({ what, target, measured, verdict, why }) => [
    `${paint(COLOURS[verdict], verdict.padEnd(VERDICT_WIDTH))}${what}`,
    `${indent}goal ${target}; measured ${measured}${why === undefined ? '' : ` (${why})`}`,
  ])
  const sums = (['met', 'missed', 'not measured'] as const).map(
    (verdict) => `${goals.filter((one) => one.verdict === verdict).length} ${verdict}`,
  )
  const below = goals.some(({ verdict }) => verdict !== 'met')
  return `${[
    ...rows,
    '',
    ...(quick ? ['A quick run: to see that everything works. Its numbers are not to be quoted.'] : []),
    `${file}: ${sums.join(', ')}${below ? '; below the targets' : ''}`,
  ].join('\n')}\n`
}
