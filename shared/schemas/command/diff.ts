import { argumentsOf, oneLine, UsageError } from '../../service/command-line.ts'
import { changesOf } from '../changes.ts'
import { checkCompatibility } from '../compatibility.ts'
import { type Command, EXIT_HELP, schemaFrom } from './command.ts'
import { FILES, reasonLines, restOf } from './reasons.ts'

const HELP = `What is different in two versions of a schema, and what that means.

Usage: bun run schema diff OLD NEW

  --json  the differences as JSON
  --help  this text

BACKWARD is what consumers of the new version need, who read data of the old one; FORWARD is what consumers of the old version
need, who read data of the new one.

${EXIT_HELP}
`

const MAX_CHANGES = 100
const DIRECTIONS = ['BACKWARD', 'FORWARD'] as const

export const diff: Command = {
  usage: 'diff OLD NEW',
  summary: 'what is different in two versions',
  help: HELP,
  async run(args, io) {
    const { values, positionals } = argumentsOf(args, { json: { type: 'boolean', default: false } })
    const [oldFile, newFile, ...more] = positionals
    if (oldFile === undefined || newFile === undefined || more.length > 0)
      throw new UsageError('two files, OLD and NEW, are needed')
    const [older, newer] = [await schemaFrom(oldFile), await schemaFrom(newFile)]
    const changes = changesOf(older.document, newer.document)
    const verdicts = DIRECTIONS.map((direction) => ({
      direction,
      reasons: checkCompatibility(direction, [{ version: 1, schema: older }], newer),
    }))
    if (values.json) {
      const [backward, forward] = verdicts.map(({ reasons }) => ({
        compatible: reasons.length === 0,
        reasons: reasons.map(({ version: _, ...reason }) => reason),
      }))
      io.out(JSON.stringify({ changes, backward, forward }))
      return 0
    }
    if (changes.length === 0) io.out('no difference')
    const printed = changes.slice(0, MAX_CHANGES)
    const width = Math.max(0, ...printed.map(({ pointer }) => pointer.length))
    for (const { pointer, detail } of printed) io.out(oneLine(`${pointer.padEnd(width)}  ${detail}`))
    for (const line of restOf(changes.length, MAX_CHANGES)) io.out(line)
    for (const { direction, reasons } of verdicts) {
      io.out('')
      io.out(`${direction}: ${reasons.length === 0 ? 'compatible' : 'not compatible'}`)
      for (const line of reasonLines(reasons, () => FILES)) io.out(`  ${line}`)
    }
    return 0
  },
}
