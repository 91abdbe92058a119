import { checkCompatibility, type Incompatibility } from './compatibility.ts'
import type { Listed, SchemaFile } from './folder.ts'
import type { SchemaVersion } from './identity.ts'
import { misspellings } from './misspellings.ts'
import type { Mode } from './modes.ts'
import type { Published } from './published.ts'
import type { Compiled, Schema } from './verdict.ts'

/** Compares the versions in a folder with those that were published. */

/** What became of a version. */
export type Verdict =
  /** It is there, and was. */
  | 'unchanged'
  /** It was changed, and takes the same data as before. */
  | 'same data'
  /** It was changed, and takes other data. */
  | 'changed'
  /** There is none before it. */
  | 'first'
  | 'compatible'
  | 'incompatible'
  /** It is no schema, or has a number that it cannot have. */
  | 'invalid'
  /** It was there, and is not. */
  | 'removed'
  /** It is in the registry, and not in the folder. */
  | 'elsewhere'
  /** It is new, and not to be compared. */
  | 'not compared'

export interface Checked extends SchemaVersion {
  /** From the folder; undefined for a version of a registry. */
  path: string | undefined
  verdict: Verdict
  mode: Mode | undefined
  /** The versions that it was compared with. */
  against: number[]
  reasons: Incompatibility[]
  /** Why it is invalid, or why a version was not compared with. */
  faults: string[]
  /** Of a version that is new or was changed: words that are most likely misspelt. */
  warnings: string[]
}

/** Whether a check fails for it. */
export const isFailure = ({ verdict, mode }: Pick<Checked, 'verdict' | 'mode'>): boolean =>
  verdict === 'invalid' ||
  verdict === 'incompatible' ||
  ((verdict === 'changed' || verdict === 'removed') && mode !== 'NONE')

export interface CheckOptions {
  /** In place of each subject's own. */
  mode: Mode | undefined
  read(file: SchemaFile): Promise<Compiled>
}

/** Every version of the folder, and those that were removed, by subject. */
export async function checkFolder(
  { files }: Pick<Listed, 'files'>,
  published: Published,
  options: CheckOptions,
): Promise<Checked[]> {
  const checked: Checked[] = []
  for (const [subject, versions] of Map.groupBy(files, (file) => file.subject)) {
    const own = new Map<number, Compiled>()
    for (const file of versions) own.set(file.version, await options.read(file))
    const before = await published.versions(subject)
    const mode = options.mode ?? (await published.modeOf(subject))
    for (const file of versions)
      checked.push({ ...(await checkVersion(file, own, before, published, mode)), path: file.path })
  }
  return [...checked, ...(await removed(files, published, options.mode))]
}

async function removed(files: readonly SchemaFile[], published: Published, mode: Mode | undefined): Promise<Checked[]> {
  const there = Map.groupBy(files, (file) => file.subject)
  const all =
    published.all ??
    (
      await Promise.all(
        [...there.keys()].map(async (subject) =>
          (await published.versions(subject)).map((version) => ({ path: undefined, subject, version })),
        ),
      )
    ).flat()
  return all
    .filter(({ subject, version }) => !(there.get(subject) ?? []).some((file) => file.version === version))
    .map((one) => ({
      ...one,
      verdict: published.all === undefined ? 'elsewhere' : 'removed',
      mode,
      against: [],
      reasons: [],
      faults: [],
      warnings: [],
    }))
}

/** @param own the versions of its subject in the folder @param before those that were published */
async function checkVersion(
  { subject, version }: SchemaVersion,
  own: ReadonlyMap<number, Compiled>,
  before: readonly number[],
  published: Published,
  mode: Mode,
): Promise<Omit<Checked, 'path'>> {
  const checked: Omit<Checked, 'path'> = {
    subject,
    version,
    verdict: 'invalid',
    mode,
    against: [],
    reasons: [],
    faults: [],
    warnings: [],
  }
  const compiled = own.get(version)
  if (compiled?.ok !== true) return { ...checked, faults: compiled?.faults ?? [] }
  const { schema } = compiled
  if (before.includes(version)) {
    const change = changeOf(schema, await published.schemaOf(subject, version), version)
    return { ...checked, ...change, warnings: change.verdict === 'unchanged' ? [] : misspellings(schema.document) }
  }
  checked.warnings = misspellings(schema.document)
  const last = before.at(-1) ?? 0
  if (version < last)
    return { ...checked, faults: [`is new, and version ${last} is there already: give it the number ${last + 1}`] }
  const isTransitive = mode.endsWith('_TRANSITIVE')
  const { older, faults } = await olderOf({ subject, version }, own, before, published, isTransitive)
  if (older.length === 0) return { ...checked, verdict: 'first', faults }
  if (mode === 'NONE') return { ...checked, verdict: 'not compared', faults }
  const reasons = checkCompatibility(mode, older, schema)
  return {
    ...checked,
    verdict: reasons.length === 0 ? 'compatible' : 'incompatible',
    against: older.map((one) => one.version),
    reasons,
    faults,
  }
}

/** A version compared with itself as it was. */
function changeOf(
  schema: Schema,
  was: Compiled,
  version: number,
): Pick<Checked, 'verdict' | 'against' | 'reasons' | 'faults'> {
  const found = { against: [version], reasons: [], faults: [] }
  if (!was.ok)
    return { ...found, verdict: 'first', against: [], faults: was.faults.map((fault) => `was no schema: ${fault}`) }
  if (Bun.deepEquals(was.schema.document, schema.document)) return { ...found, verdict: 'unchanged' }
  const reasons = checkCompatibility('FULL', [{ version, schema: was.schema }], schema)
  return { ...found, verdict: reasons.length === 0 ? 'same data' : 'changed', reasons }
}

/** The version before one, or all of them, oldest first, each as it was published, else as it is. */
async function olderOf(
  { subject, version }: SchemaVersion,
  own: ReadonlyMap<number, Compiled>,
  before: readonly number[],
  published: Published,
  isTransitive: boolean,
): Promise<{ older: { version: number; schema: Schema }[]; faults: string[] }> {
  const older: { version: number; schema: Schema }[] = []
  const faults: string[] = []
  const numbers = [...new Set([...own.keys(), ...before])].filter((one) => one < version).sort((a, b) => b - a)
  for (const one of numbers) {
    if (older.length > 0 && !isTransitive) break
    const compiled = before.includes(one) ? await published.schemaOf(subject, one) : own.get(one)
    if (compiled?.ok === true) older.unshift({ version: one, schema: compiled.schema })
    else faults.push(`not compared with version ${one}: ${compiled?.faults.join('; ')}`)
  }
  return { older, faults }
}
