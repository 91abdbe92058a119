import { oneLine } from '../../service/command-line.ts'
import type { Incompatibility } from '../compatibility.ts'

/** Why versions are not compatible, in lines. */

const MAX_EXAMPLE_CHARS = 400
/** A transitive mode may find many in each of many versions. */
const MAX_REASONS = 40
const MAX_WARNINGS = 20

/** What the two schemas are called. */
export interface Called {
  older: string
  newer: string
}

export function reasonLines(reasons: readonly Incompatibility[], calledBy: (version: number) => Called): string[] {
  const lines = reasons.slice(0, MAX_REASONS).flatMap(({ direction, version, pointer, detail, example }) => {
    const { older, newer } = calledBy(version)
    const [writer, reader] = direction === 'backward' ? [older, newer] : [newer, older]
    const lines = [oneLine(`${pointer === '' ? 'the whole schema' : pointer}: ${detail}`)]
    if (example !== undefined)
      lines.push(oneLine(`  ${writer} takes this, ${reader} does not: ${shortened(JSON.stringify(example.data))}`))
    return lines
  })
  return [...lines, ...restOf(reasons.length, MAX_REASONS)]
}

/** Words of a schema that are most likely misspelt, in lines. */
export const warningLines = (warnings: readonly string[]): string[] => [
  ...warnings.slice(0, MAX_WARNINGS).map((warning) => oneLine(`warning: ${warning}`)),
  ...restOf(warnings.length, MAX_WARNINGS),
]

/** What is said of a list of which only so many are printed. */
export const restOf = (count: number, printed: number): string[] =>
  count > printed ? [`and ${(count - printed).toLocaleString('en')} more, which --json has`] : []

/** Two files. */
export const FILES: Called = { older: 'the old file', newer: 'the new file' }

const shortened = (text: string): string =>
  text.length <= MAX_EXAMPLE_CHARS ? text : `${text.slice(0, MAX_EXAMPLE_CHARS).toWellFormed()}…`
