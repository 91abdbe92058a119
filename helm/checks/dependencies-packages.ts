/** The packages that bun.lock names, and those that are installed. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** What the checks read of a package.json. Nobody guarantees its types. */
export interface Manifest {
  readonly name?: string
  readonly version?: string
  readonly license?: unknown
  readonly licenses?: unknown
  readonly scripts?: Readonly<Record<string, string>>
}

type Ranges = Readonly<Record<string, string>>

interface Dependencies {
  readonly dependencies?: Ranges
  readonly optionalDependencies?: Ranges
  readonly peerDependencies?: Ranges
}

/** A package as bun.lock has it; one from npm's registry is `[name@version, registry, dependencies, hash]`. */
type LockedPackage = readonly [spec: string, ...rest: unknown[]]

export interface Lock {
  readonly workspaces: Readonly<Record<string, Dependencies & { readonly devDependencies?: Ranges }>>
  /** By key, the path of names to a package: `a/b` is the `b` in the node_modules of `a`. */
  readonly packages: Readonly<Record<string, LockedPackage>>
}

export interface Package {
  /** `name@version` */
  readonly id: string
  readonly name: string
  /** From the root. */
  readonly folder: string
  readonly manifest: Manifest
  /** What the services need, or what that needs. Others are only for development. */
  readonly isProduction: boolean
  /** On install, npm compiles such a package even if it has no script. */
  readonly hasBindingGyp: boolean
}

/** @param text bun.lock: JSON with trailing commas */
export const parseLock = (text: string): Lock => Bun.JSON5.parse(text) as Lock

/** `@a/b/c` → `@a/b`, `c` */
const namesOf = (key: string): string[] => key.match(/@[^/]+\/[^/]+|[^/]+/g) ?? []

const folderOf = (key: string): string =>
  namesOf(key)
    .flatMap((name) => ['node_modules', name])
    .join('/')

/**
 * The packages that are not, by their hash, what npm's registry had when they were locked: those from Git, from a folder, or from another registry. For them,
 * Bun would run `prepare` too.
 */
export const notFromRegistry = ({ packages }: Lock): string[] =>
  Object.values(packages)
    .filter(([, registry, , hash]) => registry !== '' || typeof hash !== 'string' || !hash.startsWith('sha512-'))
    .map(([spec]) => spec)

/** The keys of these packages, found from the package with the key `from` as the runtime finds them. One that is optional may have none. */
function keysOf({ packages }: Lock, from: string, names: readonly string[]): string[] {
  const path = namesOf(from)
  const keyOf = (name: string): string | undefined =>
    Array.from({ length: path.length + 1 }, (_, up) => [...path.slice(0, path.length - up), name].join('/')).find(
      (key) => key in packages,
    )
  return names.map(keyOf).filter((key) => key !== undefined)
}

const dependenciesOf = ({ packages }: Lock, key: string): Dependencies =>
  (packages[key]?.[2] as Dependencies | undefined) ?? {}

/** Keys of what the root's `dependencies` need, directly or by way of others. */
function productionKeys(lock: Lock): Set<string> {
  const open = keysOf(lock, '', Object.keys(lock.workspaces['']?.dependencies ?? {}))
  const found = new Set(open)
  for (let key = open.pop(); key !== undefined; key = open.pop()) {
    const { dependencies, optionalDependencies, peerDependencies } = dependenciesOf(lock, key)
    const names = Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies })
    for (const next of keysOf(lock, key, names)) {
      if (!found.has(next)) open.push(next)
      found.add(next)
    }
  }
  return found
}

/**
 * Compares bun.lock with what is installed.
 * @returns the installed packages, and what is missing, of another version, or not in bun.lock
 */
export function installedPackages(root: string, lock: Lock): { packages: Package[]; faults: string[] } {
  const has = (key: string): boolean => existsSync(join(root, folderOf(key), 'package.json'))
  const there = Object.keys(lock.packages).filter(has)
  const production = productionKeys(lock)
  const faults = new Set<string>()
  const { dependencies, devDependencies } = lock.workspaces[''] ?? {}
  const needed = (key: string): string[] =>
    keysOf(
      lock,
      key,
      Object.keys(
        key === '' ? { ...dependencies, ...devDependencies } : (dependenciesOf(lock, key).dependencies ?? {}),
      ),
    )
  for (const key of ['', ...there].flatMap(needed))
    if (!has(key)) faults.add(`${lock.packages[key]?.[0]} is not installed: run bun install --frozen-lockfile`)
  const packages = there.map((key): Package => {
    const folder = folderOf(key)
    const id = lock.packages[key]?.[0] ?? ''
    const manifest = JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8')) as Manifest
    const installed = `${manifest.name}@${manifest.version}`
    if (installed !== id)
      faults.add(`${folder} is ${installed}, and bun.lock has ${id}: run bun install --frozen-lockfile`)
    return {
      id,
      name: id.slice(0, id.lastIndexOf('@')),
      folder,
      manifest,
      isProduction: production.has(key),
      hasBindingGyp: existsSync(join(root, folder, 'binding.gyp')),
    }
  })
  const locked = new Set(packages.map(({ folder }) => folder))
  for (const folder of foldersIn(root, 'node_modules'))
    if (!locked.has(folder))
      faults.add(
        `${folder} is installed, and bun.lock does not have it: remove node_modules and run bun install --frozen-lockfile`,
      )
  return { packages, faults: [...faults] }
}

/** The folders of packages, at any depth, as paths from the root. */
export function foldersIn(root: string, modules: string): string[] {
  if (!existsSync(join(root, modules))) return []
  return readdirSync(join(root, modules), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
    .flatMap(({ name }) => {
      const folder = `${modules}/${name}`
      return name.startsWith('@') ? foldersIn(root, folder) : [folder, ...foldersIn(root, `${folder}/node_modules`)]
    })
}
