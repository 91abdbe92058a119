/** Line coverage of several test runs combined, from the lcov files of `bun test`. */

/** Executions by line number, by file. */
export type Coverage = ReadonlyMap<string, ReadonlyMap<number, number>>

export interface FileCoverage {
  readonly file: string
  readonly lines: number
  readonly covered: number
}

/** Adds up `SF:` (file) and `DA:` (line, executions) of lcov files: a line counts when any run reached it. */
export function mergeLcov(lcovFiles: readonly string[]): Coverage {
  const files = new Map<string, Map<number, number>>()
  for (const lcov of lcovFiles) {
    let lines = new Map<number, number>()
    for (const row of lcov.split('\n')) {
      if (row.startsWith('SF:')) {
        const name = row.slice('SF:'.length).trim()
        lines = files.get(name) ?? new Map<number, number>()
        files.set(name, lines)
      } else if (row.startsWith('DA:')) {
        const [line = Number.NaN, executions = Number.NaN] = row.slice('DA:'.length).split(',').map(Number)
        if (Number.isNaN(line + executions)) throw new SyntaxError(`not a row of an lcov file: ${row}`)
        lines.set(line, (lines.get(line) ?? 0) + executions)
      }
    }
  }
  return files
}

/**
 * One row per file, those with the most uncovered lines first. Only the given files are included.
 * @param linesOf the number of lines of a file that no run loaded; all of them count as not covered
 */
export function coverageOf(
  coverage: Coverage,
  files: readonly string[],
  linesOf: (file: string) => number,
): FileCoverage[] {
  const rows = files.map((file): FileCoverage => {
    const executions = coverage.get(file)
    if (executions === undefined) return { file, lines: linesOf(file), covered: 0 }
    return { file, lines: executions.size, covered: [...executions.values()].filter((count) => count > 0).length }
  })
  return rows.sort((a, b) => b.lines - b.covered - (a.lines - a.covered) || a.file.localeCompare(b.file))
}

/** 0 to 100. 0 when there are no lines: a run without files must not pass a threshold. */
export function percentCovered(rows: readonly FileCoverage[]): number {
  const lines = rows.reduce((sum, row) => sum + row.lines, 0)
  const covered = rows.reduce((sum, row) => sum + row.covered, 0)
  return lines === 0 ? 0 : (100 * covered) / lines
}

const transpiler = new Bun.Transpiler({ loader: 'ts' })

/** The lines of a source without types and comments; 0 for a file that only declares types. */
export function linesThatRun(source: string): number {
  return transpiler
    .transformSync(source)
    .split('\n')
    .filter((line) => line.trim() !== '' && line.trim() !== 'export {};').length
}
