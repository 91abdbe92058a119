import type { Verdict } from './judge.ts'

/** What a run prints: one line for each group of figures, and at most this many violations. */
const MAX_VIOLATIONS_PRINTED = 20

/** Times after something came back. */
export interface Round {
  what: string
  /** Until the next commit; undefined when there was none within the limit. */
  seconds: number | undefined
  limitSeconds: number
}

/** What happened in a run, besides the verdict. */
export interface RunFacts {
  fault: string
  nodes: number
  seed: number
  seconds: number
  requests: number
  repeated: number
  /** What the responses said about their events, each time they were sent. */
  answers: { acknowledged: number; unknown: number; refused: number }
  /** Counts of what was done to the services: `{'consumer killed': 10}`. */
  done: Readonly<Record<string, number>>
  rounds: readonly Round[]
  /** How long services took from SIGTERM to their end, in seconds. */
  stops: readonly number[]
}

/** The longest time to the next commit, in seconds; infinite when there was none within the limit, undefined without rounds. */
export function longestSeconds(rounds: readonly Round[]): number | undefined {
  return rounds.length === 0 ? undefined : Math.max(...rounds.map(({ seconds }) => seconds ?? Number.POSITIVE_INFINITY))
}

/** @param wrong the number of other faults, besides the violations */
export function formatReport(facts: RunFacts, verdict: Verdict, wrong: number, colour: boolean): string {
  const { violations } = verdict
  const { rounds, stops } = facts
  const paint = (code: number, text: string) => (colour ? `\u001b[${code}m${text}\u001b[0m` : text)
  const zero = (name: keyof Omit<Verdict, 'violations'>, words: string): string => {
    const text = `${words} ${verdict[name]}`
    return verdict[name] === 0 ? text : paint(31, text)
  }
  const done = Object.entries(facts.done).map(([what, times]) => `${what} ${times}×`)
  const seconds = (value: number) => (value === Number.POSITIVE_INFINITY ? 'never' : `${value.toFixed(1)} s`)
  const each = rounds.map((round) => seconds(round.seconds ?? Number.POSITIVE_INFINITY))
  const longest = longestSeconds(rounds)
  const lines = [
    `${facts.fault}: ${violations.length + wrong === 0 ? paint(32, 'holds') : paint(31, 'BROKEN')}` +
      `   nodes ${facts.nodes}, seed ${facts.seed}, ${facts.seconds.toFixed(1)} s,` +
      ` ${facts.requests} requests (${facts.repeated} repeats)`,
    ...(done.length === 0 ? [] : [`  done       ${done.join(', ')}`]),
    ...(longest === undefined
      ? []
      : [`  to commit  ${seconds(longest)} at the longest after recovery; by round: ${each.join(', ')}`]),
    ...(stops.length === 0 ? [] : [`  SIGTERM    ${seconds(Math.max(...stops))} at the longest of ${stops.length}`]),
    `  answers    acknowledged ${facts.answers.acknowledged}, unknown ${facts.answers.unknown}, refused ${facts.answers.refused}`,
    `  sent       ${verdict.sent}: acknowledged ${verdict.acknowledged}, unknown ${verdict.unknown}, refused ${verdict.refused}`,
    `  in log     ${verdict.inLog} in ${verdict.records} records: processed ${verdict.processed}, dead ${verdict.dead}` +
      ` (by way of retry ${verdict.retried}; redriven ${verdict.redriven}; not ours ${verdict.foreign}; written again by the client ${verdict.rewritten})`,
    `  must be 0  ${[
      zero('lost', 'lost'),
      zero('doubled', 'doubled'),
      zero('outOfOrder', 'out of order'),
      zero('unwanted', 'stored though refused'),
      zero('altered', 'altered'),
    ].join(', ')}`,
    ...violations.slice(0, MAX_VIOLATIONS_PRINTED).map(({ invariant, what }) => `    ${invariant}  ${what}`),
  ]
  if (violations.length > MAX_VIOLATIONS_PRINTED)
    lines.push(`    … and ${violations.length - MAX_VIOLATIONS_PRINTED} more`)
  return `${lines.join('\n')}\n`
}
