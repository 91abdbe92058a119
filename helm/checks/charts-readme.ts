import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { UnavailableError } from '../../shared/dev/built.ts'
import { root, run } from './check.ts'
import { tool } from './tools.ts'

/**
 * The content of each chart's README.md, by its path in the project, as helm-docs generates it from the values.
 * @throws UnavailableError when helm-docs cannot be installed
 */
export async function chartReadmes(say: (progress: string) => void): Promise<Map<string, string>> {
  const program = await tool('helm-docs', say)
  const folder = await mkdtemp(join(tmpdir(), 'kafkatrace-charts-'))
  try {
    await cp(join(root, 'helm/charts'), folder, { recursive: true, dereference: true })
    const ran = await run([program, '--skip-version-footer', '--sort-values-order', 'file'], { cwd: folder })
    if (ran.exitCode !== 0) throw new UnavailableError(`helm-docs ended with ${ran.exitCode}:\n${ran.errors}`)
    const files = new Map<string, string>()
    for (const chart of ['producer', 'consumer', 'console', 'kafkatrace'])
      files.set(`helm/charts/${chart}/README.md`, await Bun.file(join(folder, chart, 'README.md')).text())
    return files
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
