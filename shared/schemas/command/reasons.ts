import type { Incompatibility } from '../compatibility.ts'
import { oneLine } from './command.ts'

/** Why versions are not compatible, in lines. */

const MAX_EXAMPLE_CHARS = 400

/** What the two schemas are called. */
export interface Called {
  older: string
  newer: string
}

export function reasonLines(reasons: readonly Incompatibility[], calledBy: (version: number) => Called): string[] {
  return reasons.flatMap(({ direction, version, pointer, detail, example }) => {
    const { older, newer } = calledBy(version)
    const [writer, reader] = direction === 'backward' ? [older, newer] : [newer, older]
    const lines = [oneLine(`${pointer === '' ? 'the whole schema' : pointer}: ${detail}`)]
    if (example !== undefined)
      lines.push(oneLine(`  ${writer} takes this, ${reader} does not: ${shortened(JSON.stringify(example.data))}`))
    return lines
  })
}

/** Two files. */
export const FILES: Called = { older: 'the old file', newer: 'the new file' }

const shortened = (text: string): string =>
  text.length <= MAX_EXAMPLE_CHARS ? text : `${text.slice(0, MAX_EXAMPLE_CHARS).toWellFormed()}…`
