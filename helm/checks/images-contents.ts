/** Whether an image has the licences of what is in it, and whether its SBOM names that. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { foldersIn, type Manifest } from './dependencies-packages.ts'

/** A file that has a licence's text. Some packages have it at the end of their README. */
const LICENCE_FILE = /^(un)?licen[cs]e|^copying/i
const README = /^readme/i
const LICENCE_TEXT = /permission is hereby granted/i

function hasLicenceText(folder: string, { license }: Manifest): boolean {
  // The project's own.
  if (license === 'Apache-2.0') return true
  const names = readdirSync(folder)
  const isTold = (name: string): boolean => LICENCE_TEXT.test(readFileSync(join(folder, name), 'utf8'))
  return names.some((name) => LICENCE_FILE.test(name) || (README.test(name) && isTold(name)))
}

/** Besides the packages' own; the last two are from `.docker/prune.ts`. */
const DEMANDED = ['LICENSE', 'node_modules/@confluentinc/kafka-javascript/LICENSE.librdkafka', 'native.cdx.json']

/** What the checks read of a CycloneDX document, version 1.6. */
export interface Sbom {
  readonly bomFormat?: string
  readonly components?: readonly { readonly name?: string; readonly version?: string; readonly purl?: string }[]
}

/** The packages in an image's /app, and of Debian. */
export interface Contents {
  /** `name@version` */
  readonly npm: readonly string[]
  readonly debian: readonly string[]
  /** Every package.json with a name: a package may have some for its parts. */
  readonly manifests: ReadonlySet<string>
  /** Without a text of their licence. */
  readonly withoutText: readonly string[]
  /** Files that have to be there. */
  readonly missing: readonly string[]
}

/** @param at an image's root file system */
export function contentsOf(at: string): Contents {
  const app = join(at, 'app')
  const packages = foldersIn(app, 'node_modules').map((folder) => {
    const manifest = JSON.parse(readFileSync(join(app, folder, 'package.json'), 'utf8')) as Manifest
    return { manifest, hasText: hasLicenceText(join(app, folder), manifest) }
  })
  const idOf = ({ name, version }: Manifest): string => (version === undefined ? `${name}` : `${name}@${version}`)
  const manifests = [...new Bun.Glob('**/package.json').scanSync(app)].map(
    (file) => JSON.parse(readFileSync(join(app, file), 'utf8')) as Manifest,
  )
  return {
    manifests: new Set(manifests.map(idOf)),
    npm: packages.map(({ manifest }) => idOf(manifest)),
    debian: debianPackages(readFileSync(join(at, 'var/lib/dpkg/status'), 'utf8')),
    withoutText: packages.filter(({ hasText }) => !hasText).map(({ manifest }) => idOf(manifest)),
    missing: DEMANDED.filter((file) => !existsSync(join(app, file))),
  }
}

/** @param status dpkg's: paragraphs of fields */
export const debianPackages = (status: string): string[] =>
  status
    .split('\n\n')
    .filter((paragraph) => /^Status: install ok installed$/m.test(paragraph))
    .map((paragraph) => {
      const field = (name: string): string => new RegExp(`^${name}: (.*)$`, 'm').exec(paragraph)?.[1] ?? ''
      return `${field('Package')}@${field('Version')}`
    })

/** The package URLs of an SBOM as `name@version`, by their type: `npm`, `deb`, … */
export function namedIn({ components = [] }: Sbom): Map<string, Set<string>> {
  const named = new Map<string, Set<string>>()
  for (const { purl = '' } of components) {
    const [, type = '', path = ''] = /^pkg:([a-z]+)\/([^?#]+)/.exec(purl) ?? []
    if (type === '') continue
    const whole = decodeURIComponent(path)
    // Debian's have the distribution before the name.
    const id = type === 'deb' ? whole.slice(whole.indexOf('/') + 1) : whole
    named.set(type, (named.get(type) ?? new Set()).add(id))
  }
  return named
}

/**
 * @param native what is no package, as on GitHub: `owner/name@tag`
 * @returns what an image has and its SBOM does not name, and what it names and the image does not have
 */
export function sbomFaults(sbom: Sbom, { npm, debian, manifests }: Contents, native: readonly string[]): string[] {
  if (sbom.bomFormat !== 'CycloneDX') return ['its SBOM is not in CycloneDX']
  const named = namedIn(sbom)
  const compare = (type: string, wanted: readonly string[], isThere: (id: string) => boolean): string[] => {
    const ids = named.get(type) ?? new Set<string>()
    return [
      ...wanted.filter((id) => !ids.has(id)).map((id) => `its SBOM does not name ${id} (${type})`),
      ...[...ids]
        .filter((id) => !wanted.includes(id) && !isThere(id))
        .map((id) => `its SBOM names ${id} (${type}), which is not in the image`),
    ]
  }
  return [
    ...compare('npm', npm, (id) => manifests.has(id)),
    ...compare('deb', debian, () => false),
    ...compare('github', native, () => false),
  ]
}
