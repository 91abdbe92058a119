import { stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { argumentsOf, EXIT_FAILED, oneLine, UnreadableError, UsageError } from '../../service/command-line.ts'
import { parseFileName, readSchemaFile, type SchemaFile } from '../folder.ts'
import { type Registry, RegistryError } from '../registry.ts'
import { type Command, EXIT_HELP, folderOf, type Io, plural, refuseLinks, registryOf, schemaFrom } from './command.ts'

const HELP = `Adds versions to a schema registry that it does not have.

Usage: bun run schema register DIR|FILE [--registry URL] [--dry-run]

  DIR         a folder of files SUBJECT.vVERSION.json, at any depth
  FILE        one of them
  --registry  http://HOST:PORT; SCHEMA_REGISTRY_URL where not given
  --dry-run   says what it would do, and does nothing
  --help      this text

Versions of a subject are added in order. A registry counts versions itself: a version that would get another number there, or
that is there with other content, is refused, and so are those after it. Credentials come from SCHEMA_REGISTRY_USERNAME and
SCHEMA_REGISTRY_PASSWORD, or from SCHEMA_REGISTRY_TOKEN.

${EXIT_HELP}
`

export const register: Command = {
  usage: 'register DIR|FILE',
  summary: 'adds versions to a schema registry',
  help: HELP,
  async run(args, io) {
    const { values, positionals } = argumentsOf(args, {
      registry: { type: 'string' },
      'dry-run': { type: 'boolean', default: false },
    })
    const [path, ...more] = positionals
    if (path === undefined || more.length > 0) throw new UsageError('one folder or file is needed')
    const url = values.registry ?? io.env['SCHEMA_REGISTRY_URL']
    if (url === undefined || url === '')
      throw new UsageError('--registry is missing, and SCHEMA_REGISTRY_URL is not set')
    const registry = registryOf(url, io)
    const isDryRun = values['dry-run']
    const { folder, files } = await filesAt(path, io)
    // Before the first is registered, so that a broken file leaves nothing half done.
    for (const file of files) await schemaFrom(join(folder, file.path))
    const counts = { added: 0, there: 0, refused: 0 }
    for (const versions of Map.groupBy(files, (file) => file.subject).values())
      for await (const { file, outcome, detail } of registered(versions, folder, registry, isDryRun)) {
        counts[outcome]++
        io.out(oneLine(`${file.path}: ${detail}`))
      }
    const added = `${counts.added} ${isDryRun ? 'to be added' : 'added'}`
    io.out(`${plural(files.length, 'version')}: ${added}, ${counts.there} there already, ${counts.refused} refused`)
    return counts.refused > 0 ? EXIT_FAILED : 0
  },
}

async function filesAt(path: string, io: Pick<Io, 'say'>): Promise<{ folder: string; files: SchemaFile[] }> {
  if ((await stat(path).catch(() => undefined))?.isFile() !== true)
    return { folder: path, files: (await folderOf(path, io)).files }
  const name = parseFileName(basename(path))
  if (name === undefined)
    throw new UnreadableError(`${path} is not named SUBJECT.vVERSION.json, as in acme.orders-order.placed.v2.json`)
  await refuseLinks(dirname(path), [basename(path)])
  return { folder: dirname(path), files: [{ path: basename(path), ...name }] }
}

interface Registered {
  file: SchemaFile
  outcome: 'added' | 'there' | 'refused'
  detail: string
}

/** @param versions of one subject, in ascending order */
async function* registered(
  versions: readonly SchemaFile[],
  folder: string,
  registry: Registry,
  isDryRun: boolean,
): AsyncGenerator<Registered> {
  let fault: string | undefined
  let last = 0
  const there = await registry.versions(versions[0]?.subject ?? '')
  last = there.at(-1) ?? 0
  for (const file of versions) {
    if (fault !== undefined) {
      yield { file, outcome: 'refused', detail: `not added, since a version before it was refused` }
      continue
    }
    const text = (await readSchemaFile(join(folder, file.path))).toString('utf8')
    const isThere = there.includes(file.version)
    fault = isThere
      ? await differs(file, text, registry)
      : file.version === last + 1
        ? isDryRun
          ? undefined
          : await add(file, text, registry)
        : `refused: the registry would give it the number ${last + 1}`
    if (fault !== undefined) yield { file, outcome: 'refused', detail: fault }
    else if (isThere) yield { file, outcome: 'there', detail: 'is there' }
    else {
      last = file.version
      yield { file, outcome: 'added', detail: isDryRun ? 'would be added' : 'added' }
    }
  }
}

/** @returns why it is not what the registry has; undefined when it is */
async function differs(
  { subject, version }: SchemaFile,
  text: string,
  registry: Registry,
): Promise<string | undefined> {
  const found = await registry.schemaOf(subject, version)
  if (!found.ok) return `refused: ${found.fault}`
  const isSame = Bun.deepEquals(JSON.parse(found.text), JSON.parse(text))
  return isSame ? undefined : `refused: the registry has another schema as version ${version} of ${subject}`
}

/** @returns why it was not added; undefined when it was */
async function add({ subject, version }: SchemaFile, text: string, registry: Registry): Promise<string | undefined> {
  try {
    const given = await registry.register(subject, text)
    return given === version ? undefined : `the registry has the same schema as version ${given} of ${subject}`
  } catch (error) {
    // 409: not compatible by its own check; 422: no schema in its view.
    if (error instanceof RegistryError && (error.status === 409 || error.status === 422)) return error.message
    throw error
  }
}
