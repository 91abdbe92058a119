import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { parseResult, type Result } from './result.ts'

/** The results folder and its content. */

const RESULTS = join(import.meta.dir, 'results')

/** The result that others are compared with: a normal result with a fixed name. */
export const BASELINE = join(RESULTS, 'baseline.json')

/** The newest result by name, which is its time. The baseline has another name. */
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

/** The named file, or the newest. @throws Error when there is none, or it is not a result */
export async function chosenResult(named: string | undefined): Promise<{ file: string; result: Result }> {
  const file = named ?? (await newestResult())
  if (file === undefined) throw new Error(`there is no result in bench/results/: bun run bench makes one`)
  return { file, result: await readResult(file) }
}
