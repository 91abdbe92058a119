import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { root, run } from './check.ts'

/** Those with dependencies, each after what it depends on. */
const withDependencies = ['producer', 'consumer', 'kafkatrace']

/**
 * Copies the charts, with their dependencies put into them as packaging does, which the checkout is to be spared.
 * Without those that come from elsewhere (Redpanda's chart, for development): what is checked here is ours.
 * @param use gets the folder that holds them, while it is there
 */
export async function withCharts<T>(helm: string, use: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'kafkatrace-charts-'))
  try {
    // A chart may link to files beside it, of which Helm packages the content.
    await cp(join(root, 'helm/charts'), folder, { recursive: true, dereference: true })
    for (const chart of withDependencies) {
      const file = join(folder, chart, 'Chart.yaml')
      const declared = Bun.YAML.parse(await Bun.file(file).text()) as { dependencies: { repository: string }[] }
      const dependencies = declared.dependencies.filter(({ repository }) => repository.startsWith('file:'))
      await Bun.write(file, JSON.stringify({ ...declared, dependencies }))
      const { exitCode, errors } = await run([helm, 'dependency', 'update', join(folder, chart)])
      if (exitCode !== 0) throw new Error(`helm dependency update ${chart}: ${errors.trimEnd()}`)
    }
    return await use(folder)
  } finally {
    await rm(folder, { recursive: true })
  }
}
