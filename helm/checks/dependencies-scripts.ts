/** Packages that have code to run when they are installed. */
import type { Package } from './dependencies-packages.ts'

/** What npm and Bun run of a package from a registry. `prepare` is only run of packages from Git or a folder, of which there are none. */
const ON_INSTALL = ['preinstall', 'install', 'postinstall'] as const

/**
 * Why a package has such code, and why it is left out. Bun runs it only of the packages in `trustedDependencies` of package.json, of which there are none: a
 * script sees all that the user who installs may see.
 */
const KNOWN: Readonly<Record<string, string>> = {
  '@confluentinc/kafka-javascript':
    'downloads or compiles its addon for Node; shared/kafka/native/build.ts compiles the one for Bun from the same sources',
  protobufjs: 'warns of an old form of version range in the package that depends on it; it builds nothing',
}

/** @param trusted `trustedDependencies` of package.json. Without that list, Bun runs the scripts of packages that it knows */
export function scriptFaults(packages: readonly Package[], trusted: readonly string[] | undefined): string[] {
  const faults: string[] = []
  const found = new Set<string>()
  for (const { id, name, manifest, hasBindingGyp } of packages) {
    const scripts = ON_INSTALL.filter((script) => manifest.scripts?.[script] !== undefined)
    const what = [...scripts, ...(hasBindingGyp ? ['binding.gyp'] : [])]
    if (what.length === 0) continue
    found.add(name)
    if (KNOWN[name] === undefined)
      faults.push(
        `${id} has ${what.join(', ')}: read it, and say in helm/checks/dependencies-scripts.ts why it is there`,
      )
  }
  for (const name of Object.keys(KNOWN))
    if (!found.has(name))
      faults.push(
        `${name} has no script any more, or is not installed: remove it from helm/checks/dependencies-scripts.ts`,
      )
  if (trusted === undefined)
    faults.push('package.json has no trustedDependencies: Bun would run the scripts of packages that it knows')
  for (const name of trusted ?? []) faults.push(`package.json trusts ${name} to run its scripts`)
  return faults
}
