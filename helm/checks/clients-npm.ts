import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { provideBuilt, runTool } from '../../shared/dev/built.ts'

/** The folder of the programs that use other projects' clients. */
export const SOURCES = join(import.meta.dir, 'clients')

/** Why a package with native parts is installed. */
export const PLATFORM = `${process.platform}-${process.arch}`

/**
 * Installs what a program's lock file names, once, into the user's cache.
 * @returns the path of its node_modules
 * @throws UnavailableError with what npm said
 */
export function provideNpm(folder: string, say: () => void): Promise<string> {
  const from = join(SOURCES, folder)
  const files = ['package.json', 'package-lock.json']
  return provideBuilt({
    name: `client-${folder}`,
    files: files.map((file) => join(from, file)),
    made: [PLATFORM],
    async build(into) {
      say()
      for (const file of files) await copyFile(join(from, file), join(into, file))
      const command = ['npm', 'ci', '--ignore-scripts', '--no-audit', '--no-fund'] as const
      await runTool(command, into, 'install it with: apt-get install npm')
    },
  })
}
