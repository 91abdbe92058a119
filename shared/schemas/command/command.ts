import { lstat, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Type } from '@sinclair/typebox'
import {
  type Command as CommandOf,
  type Output,
  oneLine,
  UnreadableError,
  UsageError,
} from '../../service/command-line.ts'
import { loadConfig } from '../../service/config.ts'
import { type Listed, pathsIn, readSchemaFile, type SchemaFile, schemaFiles } from '../folder.ts'
import { MODES, type Mode } from '../modes.ts'
import { trackedLinkOn } from '../published.ts'
import { createRegistry, type Registry, registryFaults, registryVariables } from '../registry.ts'
import { readSchema } from '../schema.ts'
import type { Compiled, Schema } from '../verdict.ts'

/** What every command of `schema` has, and what it gets. */

/** @throws UsageError, UnreadableError, FailedError, RegistryError, ConfigError */
export type Command = CommandOf<Io>

/** The world around a command, so that tests can give it another. */
export interface Io extends Output {
  env: Readonly<Record<string, string | undefined>>
}

export const EXIT_HELP =
  'Exit code: 0; 1 when the answer is no; 2 when something cannot be read; 64 for wrong arguments; 69 when the registry or Kafka does not answer or refuses; 78 for wrong variables.'

/** @throws UsageError */
export function modeOf(text: string | undefined): Mode | undefined {
  if (text === undefined || (MODES as readonly string[]).includes(text)) return text as Mode | undefined
  throw new UsageError(`--mode ${text}: not one of ${MODES.join(', ')}`)
}

/** @throws UsageError */
export function registryOf(url: string, { env }: Pick<Io, 'env'>): Registry {
  const faults = registryFaults({ SCHEMA_REGISTRY_URL: url })
  if (!new RegExp(registryVariables.SCHEMA_REGISTRY_URL.pattern ?? '').test(url) || faults.length > 0)
    throw new UsageError(
      '--registry: not an address such as http://127.0.0.1:8081, or several separated by commas, without user and password',
    )
  const variables = { ...env, SCHEMA_REGISTRY_URL: url }
  return createRegistry(loadConfig(Type.Object(registryVariables), variables, registryFaults))
}

/**
 * The versions in a folder.
 * @param insteadOfFile what to do where it is a file
 * @throws UnreadableError
 */
export async function folderOf(
  folder: string,
  io: Pick<Io, 'say'>,
  insteadOfFile = 'name the folder that it is in',
): Promise<Listed> {
  const found = await stat(folder).catch(() => undefined)
  if (found === undefined) throw new UnreadableError(`${folder}: there is no such folder`)
  if (!found.isDirectory()) throw new UnreadableError(`${folder}: is a file: ${insteadOfFile}`)
  const paths = await pathsIn(folder)
  await refuseLinks(folder, paths)
  const listed = schemaFiles(paths)
  for (const fault of listed.faults) io.say(oneLine(fault))
  if (listed.faults.length > 0)
    throw new UnreadableError(
      'rename or remove these files; names that begin with a dot, and those that do not end with .json, are skipped',
    )
  if (listed.files.length === 0)
    throw new UnreadableError(`${folder} has no schema: they are named SUBJECT.vVERSION.json`)
  return listed
}

/**
 * Where a link leads to may be anywhere, and Git does not compare it.
 * @param paths in the folder
 * @throws UnreadableError naming the links
 */
export async function refuseLinks(folder: string, paths: readonly string[]): Promise<void> {
  const outer = await trackedLinkOn(folder)
  const links = outer === undefined ? [] : [outer]
  for (const path of paths) {
    const whole = join(folder, path)
    if ((await lstat(whole)).isSymbolicLink() && (path.endsWith('.json') || (await isFolder(whole)))) links.push(whole)
  }
  if (links.length === 0) return
  throw new UnreadableError(links.map((link) => `${link}: is a link: put what it leads to in its place`).join('\n'))
}

const isFolder = async (path: string): Promise<boolean> =>
  (await stat(path).catch(() => undefined))?.isDirectory() === true

/** @throws UnreadableError where there is no such file */
export async function compiledFrom(path: string): Promise<Compiled> {
  try {
    return readSchema(await readSchemaFile(path))
  } catch (error) {
    throw new UnreadableError((error as Error).message)
  }
}

export const readerOf =
  (folder: string) =>
  (file: SchemaFile): Promise<Compiled> =>
    compiledFrom(join(folder, file.path))

/** @throws UnreadableError where it is no schema */
export async function schemaFrom(path: string): Promise<Schema> {
  const compiled = await compiledFrom(path)
  if (compiled.ok) return compiled.schema
  throw new UnreadableError(compiled.faults.map((fault) => `${path}: ${fault}`).join('\n'))
}

export const plural = (count: number, one: string): string =>
  `${count.toLocaleString('en')} ${one}${count === 1 ? '' : 's'}`
