/** Images of others, and whether their names say which content is meant: a tag can be moved, a digest cannot. */

/** Where images are named, from the root. */
export const IMAGE_FILES = [
  '{.docker,bench,docs,helm}/**/Dockerfile',
  'compose.yaml',
  '.github/**/*.yml',
  'docs/examples/*.yml',
  'helm/{charts,gitops,monitoring}/**/*.{yaml,yml,tpl}',
]

/** Ours: built from the commit that names them, and signed. */
const OWN = /^ghcr\.io\/kafkatrace\//

/**
 * Images that have no digest yet, without their version. Renovate adds digests (`pinDigests`), and this list then loses them; a new image is added only if no
 * registry can be asked for its digest. A release is refused as long as the base image is here.
 */
const WITHOUT_DIGEST: readonly string[] = [
  'oven/bun',
  'docker.redpanda.com/redpandadata/redpanda',
  'docker.redpanda.com/redpandadata/console',
  'prom/prometheus',
  'prom/alertmanager',
  'prom/blackbox-exporter',
  'grafana/grafana',
  'jaegertracing/jaeger',
  'grafana/loki',
  'grafana/alloy',
  'docker.elastic.co/elasticsearch/elasticsearch',
  'docker.elastic.co/kibana/kibana',
  'docker.elastic.co/beats/filebeat',
]

const IN_DOCKERFILE = /^(?:FROM\s+(?:--\S+\s+)*|COPY\s+.*--from=)(\S+)(?:\s+AS\s+(\S+))?/gim
/** A template's value is not an image's name. */
const IN_YAML = /^\s*(?:-\s+)?(?:image|container):[ \t]+["']?([^\s"'{}#]+)|docker:\/\/([^\s"']+)/gm

/** The images of others that a file names. */
export function imagesIn(file: string, text: string): string[] {
  if (!file.endsWith('Dockerfile'))
    return [...text.matchAll(IN_YAML)].map(([, image, action]) => image ?? action ?? '').filter(isOfOthers)
  const stages = new Set<string>()
  const images: string[] = []
  for (const [, image = '', stage] of text.matchAll(IN_DOCKERFILE)) {
    if (!stages.has(image)) images.push(image)
    if (stage !== undefined) stages.add(stage)
  }
  return images.filter((image) => image !== 'scratch' && isOfOthers(image))
}

const isOfOthers = (image: string): boolean => image !== '' && !OWN.test(image)

const isPinned = (image: string): boolean => /@sha256:[0-9a-f]{64}$/.test(image)

/** `a.b/c:1@sha256:…` → `a.b/c` */
const repositoryOf = (image: string): string => image.replace(/@.*$/, '').replace(/:[^/:]*$/, '')

/** @param images by file */
export function imagePins(images: Readonly<Record<string, readonly string[]>>): {
  passed: number
  faults: string[]
  notChecked: string[]
} {
  const faults: string[] = []
  const without = new Set<string>()
  let passed = 0
  for (const [file, named] of Object.entries(images))
    for (const image of named) {
      const repository = repositoryOf(image)
      if (isPinned(image)) passed++
      else if (WITHOUT_DIGEST.includes(repository)) without.add(repository)
      else faults.push(`${file}: ${image} is not pinned: name@sha256:…`)
    }
  for (const repository of WITHOUT_DIGEST)
    if (!without.has(repository))
      faults.push(`${repository} has its digest, or is gone: remove it from helm/checks/delivery-pins.ts`)
  const notChecked = [...without].map((repository) => `${repository} has no digest yet: Renovate adds it`)
  return { passed, faults, notChecked }
}
