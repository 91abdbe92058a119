import { join } from 'node:path'
import { type Area, type Check, outcome, root, run } from './check.ts'
import { auditOutcome } from './dependencies-audit.ts'
import { licenceFaults } from './dependencies-licences.ts'
import { installedPackages, notFromRegistry, parseLock } from './dependencies-packages.ts'
import { scriptFaults } from './dependencies-scripts.ts'

const text = (file: string): Promise<string> => Bun.file(join(root, file)).text()

const lockOf = async () => parseLock(await text('bun.lock'))

const installed: Check = {
  name: 'what is installed is what bun.lock has, by hash',
  counts: 'packages',
  async run() {
    const lock = await lockOf()
    const { packages, faults } = installedPackages(root, lock)
    const others = notFromRegistry(lock).map((spec) => `bun.lock: ${spec} is not from npm's registry, or has no sha512`)
    return outcome(packages.length, [...faults, ...others])
  },
}

const licences: Check = {
  name: 'licences are among those that are allowed',
  counts: 'packages',
  async run() {
    const { packages } = installedPackages(root, await lockOf())
    return outcome(packages.length, licenceFaults(packages))
  },
}

const scripts: Check = {
  name: 'code that runs on install is known, and not run',
  counts: 'packages',
  async run() {
    const { packages } = installedPackages(root, await lockOf())
    const { trustedDependencies } = JSON.parse(await text('package.json')) as { trustedDependencies?: string[] }
    return outcome(packages.length, scriptFaults(packages, trustedDependencies))
  },
}

const audit: Check = {
  name: 'known faults: bun audit',
  counts: 'packages',
  async run() {
    const lock = await lockOf()
    return auditOutcome(await run([process.execPath, 'audit', '--json']), Object.keys(lock.packages).length)
  },
}

export const dependencies: Area = { name: 'dependencies', checks: [installed, licences, scripts, audit] }
