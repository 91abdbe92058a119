import { argumentsOf, EXIT_FAILED, oneLine, UsageError } from '../../service/command-line.ts'
import { type Checked, checkFolder, isFailure } from '../check.ts'
import { checkCompatibility, type Incompatibility } from '../compatibility.ts'
import { misspellings } from '../misspellings.ts'
import { MODES, type Mode } from '../modes.ts'
import { gitPublished, LAST_COMMIT, registryPublished } from '../published.ts'
import {
  type Command,
  EXIT_HELP,
  folderOf,
  type Io,
  modeOf,
  plural,
  readerOf,
  registryOf,
  schemaFrom,
} from './command.ts'
import { type Called, FILES, reasonLines, warningLines } from './reasons.ts'

const DEFAULT_MODE = MODES[1]

const HELP = `Whether a new version of a schema is compatible with the versions before it.

Usage: bun run schema check OLD NEW [--mode MODE]
       bun run schema check --dir DIR [--against REF | --registry URL] [--mode MODE]

  OLD NEW     two files
  --dir       a folder of files SUBJECT.vVERSION.json, at any depth. Each new version is compared with the version before
              it, in a transitive mode with all before it; a version that was there and has changed, with itself as it was.
              A version that was there must not change what it takes, in any mode but NONE: make a new version
  --against   the commit that has the versions as they were: a branch, a tag or a commit; ${LAST_COMMIT}, the last commit, where
              not given. In a pull request it is its base, such as origin/main
  --registry  compares with a schema registry, http://HOST:PORT, instead. The mode is then that of each subject there
  --mode      ${MODES.join(', ')};
              ${DEFAULT_MODE} where not given. BACKWARD: the new version takes all data that the old one takes.
              FORWARD: the old version takes all data that the new one takes. FULL: both
  --json      the findings as JSON
  --help      this text

Credentials of a registry come from SCHEMA_REGISTRY_USERNAME and SCHEMA_REGISTRY_PASSWORD, or from SCHEMA_REGISTRY_TOKEN.

${EXIT_HELP}
`

export const check: Command = {
  usage: 'check',
  summary: 'whether new versions are compatible',
  help: HELP,
  async run(args, io) {
    const { values, positionals } = argumentsOf(args, {
      dir: { type: 'string' },
      against: { type: 'string' },
      registry: { type: 'string' },
      mode: { type: 'string' },
      json: { type: 'boolean', default: false },
    })
    const { dir, against, registry } = values
    const mode = modeOf(values.mode)
    if (dir === undefined) {
      if (against !== undefined || registry !== undefined)
        throw new UsageError('--against and --registry go with --dir')
      const [older, newer, ...more] = positionals
      if (older === undefined || newer === undefined || more.length > 0)
        throw new UsageError('two files, OLD and NEW, are needed, or --dir')
      return checkFiles({ older, newer, mode: mode ?? DEFAULT_MODE, json: values.json }, io)
    }
    if (positionals.length > 0) throw new UsageError(`--dir takes no files, and not ${positionals.join(', ')}`)
    if (against !== undefined && registry !== undefined)
      throw new UsageError('--against and --registry are two things to compare with: give one of them')
    const listed = await folderOf(dir, io, 'use schema check OLD NEW')
    const published =
      registry === undefined
        ? await gitPublished(dir, against ?? LAST_COMMIT)
        : registryPublished(registryOf(registry, io))
    const checked = await checkFolder(listed, published, { mode, read: readerOf(dir) })
    const failed = checked.some(isFailure)
    const lines = values.json
      ? [JSON.stringify({ comparedWith: published.name, compatible: !failed, versions: checked.map(jsonOf) })]
      : [`compared with ${published.name}`, ...checked.flatMap(linesOf), countsOf(checked)]
    for (const line of lines) io.out(line)
    return failed ? EXIT_FAILED : 0
  },
}

async function checkFiles(
  given: { older: string; newer: string; mode: Mode; json: boolean },
  io: Pick<Io, 'out'>,
): Promise<number> {
  const { mode } = given
  const [older, newer] = [await schemaFrom(given.older), await schemaFrom(given.newer)]
  const reasons = checkCompatibility(mode, [{ version: 1, schema: older }], newer)
  const warnings = misspellings(newer.document)
  if (given.json)
    io.out(JSON.stringify({ mode, compatible: reasons.length === 0, reasons: reasons.map(reasonOf), warnings }))
  else {
    io.out(`${given.newer} is ${reasons.length === 0 ? '' : 'not '}compatible with ${given.older} (${mode})`)
    for (const line of [...reasonLines(reasons, () => FILES), ...warningLines(warnings)]) io.out(`  ${line}`)
  }
  return reasons.length === 0 ? 0 : EXIT_FAILED
}

/** The files have no versions. */
const reasonOf = ({ version: _, ...reason }: Incompatibility): Omit<Incompatibility, 'version'> => reason

const jsonOf = (one: Checked) => ({ ...one, failed: isFailure(one) })

function linesOf(one: Checked): string[] {
  const { path, subject, version, verdict, reasons, faults, warnings } = one
  const calledBy = (older: number): Called =>
    verdict === 'changed'
      ? { older: 'the version as it was', newer: 'the version as it is' }
      : { older: `version ${older}`, newer: `version ${version}` }
  return [
    oneLine(`${path ?? `${subject}, version ${version}`}: ${sentenceOf(one)}`),
    ...[...faults.map(oneLine), ...reasonLines(reasons, calledBy), ...warningLines(warnings)].map(
      (line) => `    ${line}`,
    ),
  ]
}

function sentenceOf({ verdict, mode, against, version, faults }: Checked): string {
  const numbers = `version${against.length === 1 ? '' : 's'} ${against.join(', ')}`
  switch (verdict) {
    case 'unchanged':
      return 'as it was'
    case 'same data':
      return 'changed, takes the same data as before'
    case 'changed':
      return mode === 'NONE'
        ? 'changed, takes other data than before (NONE)'
        : `changed, takes other data than before: put it back as it was, and make the change in a new version`
    case 'first':
      return faults.length === 0 ? 'new, with nothing before it to be compared with' : 'new, and could not be compared'
    case 'compatible':
      return `new, compatible with ${numbers} (${mode})`
    case 'not compared':
      return 'new, not compared: the mode is NONE, and --mode sets another one'
    case 'incompatible':
      return `new, not compatible with ${numbers} (${mode})`
    case 'invalid':
      return `version ${version} cannot be used`
    case 'removed':
      return 'was there, and is not: put it back, since events that were stored with it still name it'
    case 'elsewhere':
      return 'is in the registry, and not here'
  }
}

const COUNTED = {
  unchanged: 'unchanged',
  'same data': 'changed, same data',
  changed: 'changed, other data',
  first: 'new',
  compatible: 'new and compatible',
  incompatible: 'not compatible',
  invalid: 'invalid',
  removed: 'removed',
  elsewhere: 'in the registry only',
  'not compared': 'new, not compared',
} as const satisfies Record<Checked['verdict'], string>

function countsOf(checked: readonly Checked[]): string {
  const counts = (Object.keys(COUNTED) as Checked['verdict'][]).flatMap((verdict) => {
    const count = checked.filter((one) => one.verdict === verdict).length
    return count === 0 ? [] : [`${count.toLocaleString('en')} ${COUNTED[verdict]}`]
  })
  return `${plural(checked.length, 'version')}: ${counts.join(', ')}`
}
