import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { provideBuilt, runTool } from '../../shared/dev/built.ts'

/** Where the programs that use clients of others are. */
export const SOURCES = join(import.meta.dir, 'clients')

/** What a package with native parts is installed for. */
export const PLATFORM = `${process.platform}-${process.arch}`

/**
 * What the lock file of a program's folder names, installed once into the user's cache.
 * @returns where its node_modules are
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
