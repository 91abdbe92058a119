import { rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { argumentsOf, EXIT_FAILED, FailedError, UsageError } from '../../service/command-line.ts'
import { messageOf } from '../../service/thrown.ts'
import { readSchemaFile } from '../folder.ts'
import { roundedValues } from '../rounded.ts'
import { HEADING, typesOf, type Version } from '../types.ts'
import { type Command, EXIT_HELP, folderOf, plural, schemaFrom } from './command.ts'

const HELP = `TypeScript for schemas: for each version its type, and a constant with its document, such as OrderPlacedV2 and OrderPlacedV2Schema.

Usage: bun run schema types DIR [--out FILE] [--check]

  DIR      a folder of files SUBJECT.vVERSION.json, at any depth
  --out    the file to write; standard output where not given
  --check  writes nothing, and fails when the file is not what would be written
  --help   this text

Of the subject acme.orders-order.placed the name is OrderPlaced: the part after the first hyphen that follows the stream's name. Where
two subjects would have the same, each has its whole name, AcmeOrdersOrderPlaced. Needs a checkout: the images of the services do not
have the generator.

${EXIT_HELP}
`

export const types: Command = {
  usage: 'types DIR',
  summary: 'TypeScript for schemas',
  help: HELP,
  async run(args, io) {
    const { values, positionals } = argumentsOf(args, {
      out: { type: 'string' },
      check: { type: 'boolean', default: false },
    })
    const [folder, ...more] = positionals
    if (folder === undefined || more.length > 0) throw new UsageError('one folder is needed')
    const { out } = values
    if (values.check && out === undefined) throw new UsageError('--check goes with --out')
    const versions: Version[] = []
    for (const { path, subject, version } of (await folderOf(folder, io)).files) {
      const file = join(folder, path)
      versions.push({ subject, version, document: (await schemaFrom(file)).document })
      const rounded = roundedValues((await readSchemaFile(file)).toString('utf8'))
      if (rounded.length > 0)
        throw new FailedError(rounded.map((one) => `${file}: ${one}; write it as a string`).join('\n'))
    }
    const text = await typesOf(versions).catch((error: unknown) => {
      throw new FailedError(messageOf(error))
    })
    if (out === undefined) {
      io.out(text.trimEnd())
      return 0
    }
    const before = await written(out)
    const isSame = before === text
    if (values.check) {
      if (!isSame)
        io.say(`${out} is not what the schemas give: write it with bun run schema types ${folder} --out ${out}`)
      return isSame ? 0 : EXIT_FAILED
    }
    if (before !== undefined && !before.startsWith(HEADING))
      throw new FailedError(`${out} is there, and was not written by this command: name another file, or remove it`)
    if (!isSame) await replace(out, text)
    io.say(`${out}: ${plural(versions.length, 'version')}${isSame ? ', as it was' : ''}`)
    return 0
  },
}

/** What is in a file; undefined where there is none. @throws FailedError */
async function written(path: string): Promise<string | undefined> {
  const found = await stat(path).catch(() => undefined)
  if (found === undefined) return undefined
  if (!found.isFile()) throw new FailedError(`${path} is no regular file: name a file to write`)
  return Bun.file(path).text()
}

/** Whole or not at all. */
async function replace(path: string, text: string): Promise<void> {
  const unfinished = `${path}.${process.pid}.unfinished`
  try {
    await Bun.write(unfinished, text)
    await rename(unfinished, path)
  } catch (error) {
    await rm(unfinished, { force: true })
    throw new FailedError(`${path} cannot be written: ${messageOf(error)}`)
  }
}
