import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { parseResult, type Result } from './result.ts'

/** Where results are, and what is in them. */

const RESULTS = join(import.meta.dir, 'results')

/** The one that others are compared with; it is a result like any other, under a name that stays. */
export const BASELINE = join(RESULTS, 'baseline.json')

/** The newest result by its name, which is its time; a baseline has another name. */
export async function newestResult(folder = RESULTS): Promise<string | undefined> {
  const names = existsSync(folder) ? (await readdir(folder)).filter((name) => /^\d.*\.json$/.test(name)) : []
  const newest = names.sort().at(-1)
  return newest === undefined ? undefined : join(folder, newest)
}

/** @throws Error that says what is wrong with the file */
export async function readResult(file: string): Promise<Result> {
  if (!existsSync(file)) throw new Error(`${file} is not there: bun run bench makes one`)
  let json: unknown
  try {
    json = await Bun.file(file).json()
  } catch (error) {
    throw new Error(`${file} is not JSON: ${(error as Error).message}`)
  }
  return parseResult(json, file)
}

/** The file that was named, else the newest. @throws Error when there is none, or it is no result */
export async function chosenResult(named: string | undefined): Promise<{ file: string; result: Result }> {
  const file = named ?? (await newestResult())
  if (file === undefined) throw new Error(`there is no result in bench/results/: bun run bench makes one`)
  return { file, result: await readResult(file) }
}
