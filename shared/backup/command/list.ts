import { argumentsOf } from '../../service/command-line.ts'
import type { Manifest, Topic } from '../manifest.ts'
import { backupIn, type Command, plural, sizeText, timeText } from './command.ts'

const HELP = `What a backup holds.

Usage: bun run backup list DIR

  --json  as JSON
  --help  this text

Only the manifest is read: bun run backup verify reads the files, too.
`

export const list: Command = {
  usage: 'list DIR',
  summary: 'what it holds, and from when it is',
  help: HELP,
  async run(args, io) {
    const { values, positionals } = argumentsOf(args, { json: { type: 'boolean', default: false } })
    const { repository, manifest } = await backupIn(positionals)
    const rows = manifest.topics.map(rowOf)
    if (values.json) {
      const { pointMs, group, tenant } = manifest
      io.out(JSON.stringify({ pointMs, group, tenant, committed: manifest.committed.length, topics: rows }))
      return 0
    }
    io.out(
      `${repository.name}: as of ${pointText(manifest)}, ${plural(manifest.committed.length, 'position')} of the group ${manifest.group}`,
    )
    io.out('')
    for (const line of table(rows)) io.out(line)
    return 0
  },
}

/** When the consistent point was. */
export const pointText = ({ pointMs }: Manifest): string =>
  pointMs === undefined ? 'an unfinished run' : timeText(pointMs)

interface Row {
  topic: string
  partitions: number
  segments: number
  records: number
  bytes: number
}

function rowOf({ topic, partitions }: Topic): Row {
  const segments = partitions.flatMap((one) => one.segments)
  return {
    topic,
    partitions: partitions.length,
    segments: segments.length,
    records: segments.reduce((sum, { records }) => sum + records, 0),
    bytes: segments.reduce((sum, { bytes }) => sum + bytes, 0),
  }
}

function table(rows: readonly Row[]): string[] {
  const cells = rows.map(({ topic, partitions, segments, records, bytes }) => [
    topic,
    String(partitions),
    segments.toLocaleString('en'),
    records.toLocaleString('en'),
    sizeText(bytes),
  ])
  const all = [['topic', 'partitions', 'segments', 'records', 'stored'], ...cells]
  const widths = [0, 1, 2, 3, 4].map((column) => Math.max(...all.map((row) => row[column]?.length ?? 0)))
  return all.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  '),
  )
}
