import { join } from 'node:path'
import { type Check, root } from './check.ts'

/** Checks that Renovate's custom expressions find the pins they are for: one that finds nothing never says so. */

interface CustomManager {
  readonly description: string
  readonly managerFilePatterns: readonly string[]
  readonly matchStrings: readonly string[]
  readonly depNameTemplate?: string
}

interface RenovateConfig {
  readonly customManagers: readonly CustomManager[]
}

/** Renovate's `/…/` as an expression. */
const expressionOf = (pattern: string): RegExp => new RegExp(pattern.replace(/^\/(.*)\/$/, '$1'))

/** The pins that a manager finds in a file, each `name@version`, by expression. */
export function pinsFound(manager: CustomManager, text: string): string[][] {
  return manager.matchStrings.map((expression) =>
    [...text.matchAll(new RegExp(expression, 'g'))].map(
      ({ groups }) => `${groups?.['depName'] ?? manager.depNameTemplate}@${groups?.['currentValue']}`,
    ),
  )
}

const toolsFile = 'helm/checks/tools.ts'

export const renovate: Check = {
  name: 'Renovate: its expressions find every pin',
  counts: 'pins',
  async run() {
    const config = Bun.JSON5.parse(await Bun.file(join(root, '.github/renovate.json5')).text()) as RenovateConfig
    const files: string[] = []
    for (const pattern of ['package.json', '.github/workflows/*.yml', 'helm/checks/*.ts'])
      files.push(...(await Array.fromAsync(new Bun.Glob(pattern).scan({ cwd: root, dot: true }))))
    let passed = 0
    const faults: string[] = []
    let inTools = 0
    for (const manager of config.customManagers) {
      const patterns = manager.managerFilePatterns.map(expressionOf)
      const own = files.filter((file) => patterns.some((pattern) => pattern.test(file)))
      const found = manager.matchStrings.map((): string[] => [])
      for (const file of own) {
        for (const [index, pins] of pinsFound(manager, await Bun.file(join(root, file)).text()).entries()) {
          found[index]?.push(...pins)
          if (file === toolsFile) inTools += pins.length
        }
      }
      for (const [index, pins] of found.entries()) {
        passed += pins.length
        if (pins.length === 0) faults.push(`${manager.description}: finds nothing: ${manager.matchStrings[index]}`)
      }
    }
    const tools = await Bun.file(join(root, toolsFile)).text()
    const pinned = tools.match(/\bversion: '|\S v\d[^' ]*'/g)?.length ?? 0
    if (inTools !== pinned) faults.push(`${toolsFile}: ${pinned} pins, of which expressions find ${inTools}`)
    return { passed, faults }
  },
}
