import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'

/** Inputs in Git with which each run begins: those that were found to fail, so that what was corrected stays so, and a few that are known to be hard. */

const FOLDER = join(import.meta.dir, 'corpus')

export type Part = 'requests' | 'records'

/** In JSON, with bytes as characters from U+0000 to U+00FF. */
export interface Saved<Input> {
  /** What was wrong, or is to come of it. */
  readonly why: string
  readonly input: Input
}

export const bytesToText = (bytes: Buffer): string => bytes.toString('latin1')
export const textToBytes = (text: string): Buffer => Buffer.from(text, 'latin1')

/** @param folder another than the one in Git, for tests */
export function savedInputs<Input>(part: Part, folder = FOLDER): { name: string; saved: Saved<Input> }[] {
  const at = join(folder, part)
  if (!existsSync(at)) return []
  return readdirSync(at)
    .filter((name) => name.endsWith('.json'))
    .sort()
    .map((name) => ({ name, saved: JSON.parse(readFileSync(join(at, name), 'utf8')) as Saved<Input> }))
}

/** @returns the file's path, from the folder that the process was started in */
export function saveInput<Input>(part: Part, saved: Saved<Input>, folder = FOLDER): string {
  const text = `${JSON.stringify(saved, undefined, 2)}\n`
  const name = `${new Bun.CryptoHasher('sha256').update(JSON.stringify(saved.input)).digest('hex').slice(0, 12)}.json`
  mkdirSync(join(folder, part), { recursive: true })
  const file = join(folder, part, name)
  writeFileSync(file, text)
  return relative(process.cwd(), file)
}
