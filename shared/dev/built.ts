import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { cacheFolder } from '../kafka/native/cache.ts'
import { lastLines, makeWhole, run } from './run.ts'

/** Programs that are compiled before they are measured: built once, kept in the user's cache, rebuilt when their sources change. */

export interface Recipe {
  /** The folder's name before the hash. */
  name: string
  /** Absolute paths of the sources. */
  files: readonly string[]
  /** Everything else that the result depends on, such as a compiler's version. */
  made: readonly string[]
  /** Builds into this folder, which is empty. */
  build(folder: string): Promise<void>
}

/** Builds what is not in the cache. @returns the folder with the results */
export async function provideBuilt(recipe: Recipe): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify(recipe.made))
  for (const file of recipe.files) hash.update('\0').update(await Bun.file(file).bytes())
  const folder = join(cacheFolder(), 'bench', `${recipe.name}-${hash.digest('hex').slice(0, 16)}`)
  if (!existsSync(folder)) await makeWhole(folder, recipe.build)
  return folder
}

/** A system or a tool is not available on this machine. The message says why and what to do. */
export class UnavailableError extends Error {
  override readonly name = 'UnavailableError'
}

/** Long enough to download and compile on a slow machine. */
const TOOL_TIMEOUT_MS = 1_800_000

/**
 * Runs a tool to its end.
 * @param install how to install the tool
 * @returns what it printed
 * @throws UnavailableError when it is missing, fails or takes too long, with its last lines
 */
export async function runTool(
  command: readonly [string, ...string[]],
  cwd: string,
  install: string,
  timeoutMs = TOOL_TIMEOUT_MS,
): Promise<string> {
  const [tool] = command
  if (!existsSync(tool) && Bun.which(tool, { cwd }) === null)
    throw new UnavailableError(`${tool} is not on the path; ${install}`)
  const { exitCode, output, errors, isLate } = await run(command, { cwd, timeoutMs })
  if (exitCode === 0) return output
  const how = isLate ? `did not end within ${timeoutMs / 1_000} s` : `ended with ${exitCode}`
  throw new UnavailableError(`${command.join(' ')} ${how}: ${lastLines(output + errors)}`)
}
