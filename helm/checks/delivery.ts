import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { type Area, type Check, root, run } from './check.ts'
import { docsChecks } from './delivery-docs.ts'
import { gitopsChecks } from './delivery-gitops.ts'
import { IMAGE_FILES, imagePins, imagesIn } from './delivery-pins.ts'
import { renovate } from './delivery-renovate.ts'
import { bunVersions, pinFaults, workflowFaults } from './delivery-workflows.ts'
import { tool } from './tools.ts'

const WORKFLOWS = ['.github/workflows/*.yml', '.github/actions/*/action.yml', 'docs/examples/*-workflow.yml']

/** Workflows, our own actions, and examples of workflows, by path from the root. */
async function workflowTexts(): Promise<Record<string, string>> {
  const texts: Record<string, string> = {}
  for (const pattern of WORKFLOWS)
    for await (const file of new Bun.Glob(pattern).scan({ cwd: root, dot: true }))
      texts[file] = await Bun.file(join(root, file)).text()
  return texts
}

const packageJson = async () =>
  (await Bun.file(join(root, 'package.json')).json()) as {
    packageManager: string
    engines: { bun: string }
    scripts: Record<string, string>
    devDependencies: Record<string, string>
  }

const actionlint: Check = {
  name: 'workflows: actionlint with shellcheck',
  counts: 'workflows',
  async run(say) {
    const [program, shellcheck] = [await tool('actionlint', say), await tool('shellcheck', say)]
    const workflows = Object.keys(await workflowTexts()).filter((file) => !file.endsWith('action.yml'))
    const { exitCode, output, errors } = await run([
      program,
      '-no-color',
      '-shellcheck',
      shellcheck,
      '-format',
      '{{json .}}',
      ...workflows,
    ])
    if (exitCode > 1) throw new Error(errors)
    const found = JSON.parse(output) as { filepath: string; line: number; message: string }[]
    return {
      passed: workflows.length - new Set(found.map(({ filepath }) => filepath)).size,
      faults: found.map(({ filepath, line, message }) => `${filepath}:${line}: ${message}`),
    }
  },
}

const zizmor: Check = {
  name: 'workflows: zizmor, at its strictest but for auditors',
  counts: 'workflows and actions',
  async run(say) {
    const { exitCode, output, errors } = await run([
      await tool('zizmor', say),
      '--offline',
      '--persona=pedantic',
      '--no-progress',
      '--format=plain',
      '.github',
      ...Object.keys(await workflowTexts()).filter((file) => !file.startsWith('.github/')),
    ])
    const audited = [...errors.matchAll(/completed \S+/g)].length
    return exitCode === 0 ? { passed: audited, faults: [] } : { passed: 0, faults: [(output + errors).trimEnd()] }
  },
}

const fit: Check = {
  name: 'workflows: scripts, paths, time-outs, rights, pins',
  counts: 'things they name',
  async run() {
    const { scripts } = await packageJson()
    const repository = {
      scripts: new Set(Object.keys(scripts)),
      has: (path: string) => existsSync(join(root, path)),
    }
    const texts = await workflowTexts()
    const results = Object.entries(texts).map(([file, text]) => workflowFaults(file, text, repository))
    const faults = [...results.flatMap((result) => result.faults), ...pinFaults(texts)]
    return { passed: results.reduce((sum, { looked }) => sum + looked, 0) - faults.length, faults }
  },
}

const pins: Check = {
  name: 'images of others are pinned by digest',
  counts: 'images',
  async run() {
    const images: Record<string, string[]> = {}
    for (const pattern of IMAGE_FILES)
      for await (const file of new Bun.Glob(pattern).scan({ cwd: root, dot: true }))
        if (!file.includes('node_modules/')) images[file] = imagesIn(file, await Bun.file(join(root, file)).text())
    return imagePins(images)
  },
}

const versions: Check = {
  name: 'one version of Bun, of Helm, and of Syft',
  counts: 'places',
  async run() {
    const { packageManager, engines, devDependencies } = await packageJson()
    const bun = packageManager.replace('bun@', '')
    const places: { where: string; version: string; expected: string }[] = [
      { where: 'package.json engines', version: engines.bun, expected: bun },
      { where: 'package.json bun-types', version: devDependencies['bun-types'] ?? 'none', expected: bun },
    ]
    const files = ['README.md', '.docker/Dockerfile', ...Object.keys(await workflowTexts())]
    for (const file of files) {
      if (!existsSync(join(root, file))) continue
      for (const version of bunVersions(await Bun.file(join(root, file)).text()))
        places.push({ where: file, version, expected: bun })
    }
    for (const program of ['helm.sh/helm/v4/cmd/helm', 'github.com/anchore/syft/cmd/syft']) {
      const versionIn = new RegExp(`${program}(?:@|', version: ')(v[\\d.]+\\d)`)
      const versionOf = async (file: string): Promise<string> =>
        versionIn.exec(await Bun.file(join(root, file)).text())?.[1] ?? 'none'
      places.push({
        where: `.github/workflows/release.yml ${program}`,
        version: await versionOf('.github/workflows/release.yml'),
        expected: await versionOf('helm/checks/tools.ts'),
      })
    }
    const faults = places
      .filter(({ version, expected }) => version !== expected)
      .map(({ where, version, expected }) => `${where} says ${version}, where ${expected} is right`)
    return { passed: places.length - faults.length, faults }
  },
}

export const delivery: Area = {
  name: 'delivery',
  checks: [actionlint, zizmor, fit, pins, versions, renovate, ...gitopsChecks, ...docsChecks],
}
