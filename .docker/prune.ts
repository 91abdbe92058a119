/**
 * Leaves in /app only what the services need at run time: the production packages and their dependencies, without those that only build the addon,
 * and of each package its code and licence. Says what else is in the image. Runs in the image's build stage, never in a checkout.
 */
import { copyFileSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

const app = '/app'
const LICENCES = 'LICENSE.*'

/** Packages that are not needed whole: which of their dependencies are loaded at run time, and which of their files. */
const PARTS: Readonly<Record<string, { needs: readonly string[]; keeps: RegExp }>> = {
  // The other dependencies build its addon.
  '@confluentinc/kafka-javascript': {
    needs: ['bindings'],
    keeps: new RegExp(`^(package\\.json|lib|librdkafka\\.js|build|${LICENCES})$`),
  },
  // Only its client is loaded. The others are for serialisation, and for keys in clouds.
  '@confluentinc/schemaregistry': {
    needs: [
      'async-mutex',
      'axios',
      'axios-retry',
      'json-stringify-deterministic',
      'lru-cache',
      'simple-oauth2',
      'uuid',
    ],
    keeps: new RegExp(`^(package\\.json|dist|${LICENCES})$`),
  },
}
const PART_FOLDERS = new Map(Object.entries(PARTS).map(([name, part]) => [join(app, 'node_modules', name), part]))

/** Neither code nor licences. */
const leftovers = /\.(map|md|markdown|d\.[cm]?ts|flow|tsbuildinfo)$/i

const isLicence = (name: string): boolean => /licen[cs]e|copying/i.test(name)
const isReadme = (name: string): boolean => /^readme/i.test(name)

/** A package without a file of its licence has it in its README. */
const isKept = (folder: string, name: string): boolean =>
  isLicence(name) || (isReadme(name) && needed.has(folder) && !readdirSync(folder).some(isLicence))

const remove = (path: string): void => rmSync(path, { recursive: true, force: true })

function dependencies(folder: string): string[] {
  const part = PART_FOLDERS.get(folder)
  if (part !== undefined) return [...part.needs]
  const { dependencies } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
    dependencies?: Record<string, string>
  }
  return Object.keys(dependencies ?? {})
}

/** Resolves a package as the runtime does: next to the importing one, then further up. */
function resolve(name: string, from: string): string {
  const folder = join(from, 'node_modules', name)
  if (existsSync(folder)) return folder
  if (from === app) throw new Error(`${name} is needed and not installed`)
  return resolve(name, dirname(from))
}

function closure(): Set<string> {
  const needed = new Set<string>()
  const open = [app]
  for (let folder = open.pop(); folder !== undefined; folder = open.pop()) {
    const from = folder
    const next = dependencies(from).map((name) => resolve(name, from))
    open.push(...next.filter((one) => !needed.has(one)))
    for (const one of next) needed.add(one)
  }
  return needed
}

function prune(modules: string, needed: ReadonlySet<string>): void {
  if (!existsSync(modules)) return
  for (const name of readdirSync(modules)) {
    const folder = join(modules, name)
    if (name.startsWith('@')) prune(folder, needed)
    else if (needed.has(folder)) prune(join(folder, 'node_modules'), needed)
    else remove(folder)
  }
  if (readdirSync(modules).length === 0) remove(modules)
}

/** Beside packages, an image has librdkafka, in the addon, and Bun. librdkafka's licences have to go with it; Bun's are the base image's. */
function tellOfNative(client: string): void {
  copyFileSync(join(client, 'deps/librdkafka/LICENSES.txt'), join(client, 'LICENSE.librdkafka'))
  const { librdkafka } = JSON.parse(readFileSync(join(client, 'package.json'), 'utf8')) as { librdkafka: string }
  const of = (name: string, version: string, licence: string, purl: string) => ({
    type: 'library',
    name,
    version,
    licenses: [{ license: { id: licence } }],
    purl: `pkg:github/${purl}`,
  })
  // Tools that list what is in an image read it: CycloneDX 1.6.
  const document = {
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    version: 1,
    components: [
      of('librdkafka', librdkafka, 'BSD-2-Clause', `confluentinc/librdkafka@v${librdkafka}`),
      of('bun', Bun.version, 'MIT', `oven-sh/bun@bun-v${Bun.version}`),
    ],
  }
  writeFileSync(join(app, 'native.cdx.json'), `${JSON.stringify(document, undefined, 2)}\n`)
}

const needed = closure()
const modules = join(app, 'node_modules')
tellOfNative(join(modules, '@confluentinc/kafka-javascript'))
prune(modules, needed)
for (const [folder, { keeps }] of PART_FOLDERS)
  for (const name of readdirSync(folder)) if (!keeps.test(name)) remove(join(folder, name))
for (const entry of readdirSync(modules, { recursive: true, withFileTypes: true }))
  if (entry.isFile() && leftovers.test(entry.name) && !isKept(entry.parentPath, entry.name))
    remove(join(entry.parentPath, entry.name))
for (const name of ['shim', 'Makefile', 'addon.patch', 'build.ts']) remove(join(app, 'shared/kafka/native', name))
console.log(`kept ${needed.size} packages`)
