import { expect, test } from 'bun:test'
import { type Contents, debianPackages, namedIn, sbomFaults } from './images-contents.ts'

const contents: Contents = {
  npm: ['a@1.0.0', '@b/c@2.0.0'],
  debian: ['libssl3@3.5.1-1+deb13u1'],
  manifests: new Set(['a@1.0.0', '@b/c@2.0.0', 'a-part']),
  withoutText: [],
  missing: [],
}
const NATIVE = ['confluentinc/librdkafka@v2.15.1']
const purls = [
  'pkg:npm/a@1.0.0',
  'pkg:npm/%40b/c@2.0.0',
  'pkg:deb/debian/libssl3@3.5.1-1%2Bdeb13u1?arch=amd64&distro=debian-13',
  'pkg:github/confluentinc/librdkafka@v2.15.1',
]
const sbom = (of: readonly string[]) => ({ bomFormat: 'CycloneDX', components: of.map((purl) => ({ purl })) })

test('an SBOM names what is in its image, and no more', () => {
  expect(sbomFaults(sbom(purls), contents, NATIVE)).toEqual([])
  for (const purl of purls)
    expect(sbomFaults(sbom(purls.filter((one) => one !== purl)), contents, NATIVE)).toHaveLength(1)
  // A part of a package has a package.json of its own.
  expect(sbomFaults(sbom([...purls, 'pkg:npm/a-part']), contents, NATIVE)).toEqual([])
  expect(sbomFaults(sbom([...purls, 'pkg:npm/d@1.0.0']), contents, NATIVE)).toEqual([
    'its SBOM names d@1.0.0 (npm), which is not in the image',
  ])
  expect(sbomFaults(sbom(purls), contents, ['confluentinc/librdkafka@v2.15.2'])).toHaveLength(2)
  expect(sbomFaults({ components: [] }, contents, NATIVE)).toEqual(['its SBOM is not in CycloneDX'])
})

test('a component without a package URL is no package', () => {
  expect(namedIn({ components: [{ name: 'debian' }, { purl: 'pkg:npm/a@1.0.0' }] })).toEqual(
    new Map([['npm', new Set(['a@1.0.0'])]]),
  )
})

test('packages of Debian are those that are installed', () => {
  const status = `Package: a
Status: install ok installed
Version: 1:2-3

Package: b
Status: deinstall ok config-files
Version: 1
`
  expect(debianPackages(status)).toEqual(['a@1:2-3'])
})
