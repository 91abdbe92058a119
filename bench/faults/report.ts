import type { Verdict } from './judge.ts'

/** What a run prints: one line a group of figures, and each violation, at most this many. */
const MAX_VIOLATIONS_PRINTED = 20

/** What happened in a run beside its verdict. */
export interface RunFacts {
  fault: string
  seed: number
  seconds: number
  requests: number
  repeated: number
  /** What the requests' answers said of their events, each time they were sent. */
  answers: { acknowledged: number; unknown: number; refused: number }
  /** What was done to the services, counted: `{'consumer killed': 10}`. */
  done: Readonly<Record<string, number>>
}

export function formatReport(facts: RunFacts, verdict: Verdict, colour: boolean): string {
  const { violations } = verdict
  const paint = (code: number, text: string) => (colour ? `\u001b[${code}m${text}\u001b[0m` : text)
  const zero = (name: keyof Omit<Verdict, 'violations'>, words: string): string => {
    const text = `${words} ${verdict[name]}`
    return verdict[name] === 0 ? text : paint(31, text)
  }
  const done = Object.entries(facts.done).map(([what, times]) => `${what} ${times}×`)
  const lines = [
    `${facts.fault}: ${violations.length === 0 ? paint(32, 'holds') : paint(31, 'BROKEN')}` +
      `   seed ${facts.seed}, ${facts.seconds.toFixed(1)} s, ${facts.requests} requests (${facts.repeated} repeats)`,
    ...(done.length === 0 ? [] : [`  done       ${done.join(', ')}`]),
    `  answers    acknowledged ${facts.answers.acknowledged}, unknown ${facts.answers.unknown}, refused ${facts.answers.refused}`,
    `  sent       ${verdict.sent}: acknowledged ${verdict.acknowledged}, unknown ${verdict.unknown}, refused ${verdict.refused}`,
    `  in log     ${verdict.inLog} in ${verdict.records} records: processed ${verdict.processed}, dead ${verdict.dead}` +
      ` (by way of retry ${verdict.retried}; not ours ${verdict.foreign})`,
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
