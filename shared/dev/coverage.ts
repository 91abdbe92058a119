/** Line coverage of several test runs taken together, from what `bun test` writes in lcov's format. */

/** Executions by line number, by file. */
export type Coverage = ReadonlyMap<string, ReadonlyMap<number, number>>

/** Reads `SF:` (file) and `DA:` (line, executions) of lcov files, and adds them up: a line counts that any of the runs reached. */
export function mergeLcov(lcovFiles: readonly string[]): Coverage {
  const files = new Map<string, Map<number, number>>()
  for (const lcov of lcovFiles) {
    let lines: Map<number, number> | undefined
    for (const row of lcov.split('\n')) {
      if (row.startsWith('SF:')) {
        const name = row.slice(3).trim()
        lines = files.get(name) ?? new Map<number, number>()
        files.set(name, lines)
      } else if (row.startsWith('DA:') && lines !== undefined) {
        const [line, executions] = row.slice(3).split(',').map(Number)
        if (line === undefined || executions === undefined || Number.isNaN(line + executions)) continue
        lines.set(line, (lines.get(line) ?? 0) + executions)
      } else if (row === 'end_of_record') {
        lines = undefined
      }
    }
  }
  return files
}

export interface CoverageSummary {
  readonly lines: number
  readonly covered: number
  /** 0 to 100. Nothing to cover is nothing covered: a run without files must not pass a threshold. */
  readonly percent: number
}

export function summarise(coverage: Coverage): CoverageSummary {
  let lines = 0
  let covered = 0
  for (const executions of coverage.values()) {
    lines += executions.size
    for (const count of executions.values()) if (count > 0) covered++
  }
  return { lines, covered, percent: lines === 0 ? 0 : (100 * covered) / lines }
}

/** Files under `limitPercent`, the least covered first. */
export function leastCovered(coverage: Coverage, limitPercent: number): { file: string; percent: number }[] {
  return [...coverage]
    .map(([file, lines]) => ({ file, lines: lines.size, percent: summarise(new Map([[file, lines]])).percent }))
    .filter(({ lines, percent }) => lines > 0 && percent < limitPercent)
    .map(({ file, percent }) => ({ file, percent }))
    .sort((a, b) => a.percent - b.percent)
}
