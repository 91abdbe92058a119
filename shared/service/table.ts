import { paint } from './terminal.ts'

/** A table with a heading. Columns of numbers are aligned at the right. */
export function table(heading: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const isNumber = heading.map((_, column) => rows.every((row) => /^[\d,.–]*$/.test(row[column] ?? '')))
  const widths = heading.map((title, column) =>
    Math.max(...[title, ...rows.map((row) => row[column] ?? '')].map((cell) => Bun.stringWidth(cell))),
  )
  const padded = (cell: string, column: number): string => {
    const space = ' '.repeat(Math.max(0, (widths[column] ?? 0) - Bun.stringWidth(cell)))
    return isNumber[column] === true ? `${space}${cell}` : `${cell}${space}`
  }
  const line = (cells: readonly string[]): string => cells.map(padded).join('  ').trimEnd()
  return [paint('dim', line(heading)), ...rows.map(line)]
}
