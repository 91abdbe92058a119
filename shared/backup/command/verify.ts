import { argumentsOf, EXIT_FAILED } from '../../service/command-line.ts'
import { progressLine } from '../../service/progress-line.ts'
import { type Fault, segmentBytes, verify as verifyAll } from '../verify.ts'
import { backupIn, type Command, plural, sizeText } from './command.ts'
import { pointText } from './list.ts'

/** So many faults have lines of their own. */
const MAX_TOLD = 100

const HELP = `Whether a backup can be restored: reads every file, and compares sizes, checksums of files and batches, and records.

Usage: bun run backup verify DIR

  --json  the faults as JSON
  --help  this text

Exit code: 0; 1 when something is damaged or missing; 2 when there is no backup; 64 for wrong arguments.
`

export const verify: Command = {
  usage: 'verify DIR',
  summary: 'reads all of it, and names what is damaged or missing',
  help: HELP,
  async run(args, io) {
    const { values, positionals } = argumentsOf(args, { json: { type: 'boolean', default: false } })
    const { repository, manifest } = await backupIn(positionals)
    const line = progressLine('verify', 'bytes read', segmentBytes(manifest))
    const { faults, unnamed, segments, records, bytes } = await verifyAll(repository, manifest, (read) =>
      line.at(read),
    ).finally(() => line.end())
    if (values.json) {
      io.out(JSON.stringify({ pointMs: manifest.pointMs, segments, records, bytes, faults, unnamed }))
      return faults.length > 0 ? EXIT_FAILED : 0
    }
    for (const fault of faults.slice(0, MAX_TOLD)) io.out(textOf(fault))
    if (faults.length > MAX_TOLD) io.out(`and ${faults.length - MAX_TOLD} more: see --json`)
    if (unnamed.length > 0)
      io.say(
        `${plural(unnamed.length, 'file')} of a run that is under way, or was broken off: the next run removes them`,
      )
    if (faults.length > 0) {
      io.out('')
      io.out(WHAT_TO_DO)
      return EXIT_FAILED
    }
    io.out(
      `${repository.name}: as of ${pointText(manifest)}, ${plural(segments, 'segment')} with ${plural(records, 'record')}, ${sizeText(bytes)}: all can be read`,
    )
    return 0
  },
}

const textOf = ({ file, topic, partition, from, to, reason }: Fault): string =>
  `${file}: ${reason}; offsets ${from} to ${to} of ${topic}/${partition}`

const WHAT_TO_DO =
  'Put each of these files back from another copy of the backup. Without one, back up into another folder while Kafka still has the records; this one still has all records but those named.'
