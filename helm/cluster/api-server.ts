import { FailedError } from '../../shared/service/command-line.ts'
import { definitionFiles } from '../checks/charts-crds.ts'
import { type Manifest, podsOf, type Rendering, renderAll } from '../checks/charts-render.ts'
import { type Area, type Check, type Outcome, outcome, root } from '../checks/check.ts'
import { gitopsManifests } from '../checks/delivery-gitops.ts'
import { controllerDefinitionFiles } from '../checks/delivery-schemas.ts'
import { type ControlPlane, startControlPlane, waitFor } from './control-plane.ts'

/**
 * What a real API server, with the operators' definitions and PodSecurity's `restricted` enforced, says to everything that is given to
 * it: nothing is refused, and nothing is warned of. No node is needed.
 */

type Say = (progress: string) => void

const podsTimeoutMs = 30_000

let started: Promise<ControlPlane> | undefined

function cluster(say: Say): Promise<ControlPlane> {
  started ??= (async () => {
    const control = await startControlPlane(say)
    say('defining the operators’ kinds')
    await define(control, [...(await definitionFiles()), ...(await controllerDefinitionFiles(say))])
    return control
  })()
  return started
}

/** Of a request for a definition of a megabyte on a busy machine, which the API server itself ends after a minute. */
const defineAttempts = 3

/** Defines kinds, and waits until they are served. @throws FailedError with what the API server says */
export async function define(control: ControlPlane, files: readonly string[]): Promise<void> {
  const of = files.map((file) => `--filename=${file}`)
  const attempt = async (args: readonly string[], left: number): Promise<void> => {
    const { exitCode, errors } = await control.kubectl([...args, ...of])
    if (exitCode === 0) return
    if (left === 0 || !/time(?:d )?out/i.test(errors)) throw new FailedError(errors.trim())
    await attempt(args, left - 1)
  }
  await attempt(['apply', '--server-side'], defineAttempts - 1)
  await attempt(['wait', '--for=condition=Established', '--timeout=60s'], defineAttempts - 1)
}

/** A namespace as docs/deployment.md makes it, which warns, too: of an object that makes pods, enforcement says nothing. */
export const restrictedNamespace = (name: string): Manifest => ({
  apiVersion: 'v1',
  kind: 'Namespace',
  metadata: {
    name,
    labels: { 'pod-security.kubernetes.io/enforce': 'restricted', 'pod-security.kubernetes.io/warn': 'restricted' },
  },
})

/** Creates objects. Each refusal and each warning is a fault. */
async function apply(control: ControlPlane, manifests: readonly Manifest[]): Promise<Outcome> {
  const input = manifests.map((manifest) => JSON.stringify(manifest)).join('\n---\n')
  const { output, errors } = await control.kubectl(['apply', '--server-side', '--validate=strict', '-f', '-'], input)
  const passed = output
    .trim()
    .split('\n')
    .filter((line) => line.endsWith('serverside-applied')).length
  const faults = errors.trim() === '' ? [] : [errors.trim()]
  if (passed !== manifests.length && faults.length === 0)
    faults.push(`${manifests.length} objects were given, and ${passed} applied`)
  return { passed, faults }
}

const enforced: Check = {
  name: 'PodSecurity is enforced: others than ours are refused',
  counts: 'pods',
  async run(say) {
    const control = await cluster(say)
    await apply(control, [restrictedNamespace('enforced')])
    const spec = { containers: [{ name: 'a', image: 'a' }] }
    const metadata = { name: 'a', namespace: 'enforced' }
    const labels = { app: 'a' }
    const pod = await apply(control, [{ apiVersion: 'v1', kind: 'Pod', metadata, spec }])
    const template = { metadata: { labels }, spec }
    const deployment = await apply(control, [
      { apiVersion: 'apps/v1', kind: 'Deployment', metadata, spec: { selector: { matchLabels: labels }, template } },
    ])
    const faults: string[] = []
    if (!pod.faults.join().includes('violates PodSecurity "restricted'))
      faults.push(`a pod that says nothing is not refused: ${pod.faults.join()}`)
    if (!deployment.faults.join().includes('would violate PodSecurity "restricted'))
      faults.push(`a Deployment of such pods is not warned of: ${deployment.faults.join()}`)
    return outcome(2, faults)
  },
}

/** The name of the namespace of a values file: producer-ci-default-values */
const namespaceOf = ({ values }: Rendering): string => values.replace(/\.yaml$/, '').replaceAll(/[^a-z0-9]+/g, '-')

/** Moved to another namespace than the one that it was rendered for. */
const inNamespace = (namespace: string, manifest: Manifest): Manifest => ({
  ...manifest,
  metadata: { ...manifest.metadata, namespace },
})

const valueSets: Check = {
  name: 'every value set is created as it is',
  counts: 'objects',
  async run(say) {
    const control = await cluster(say)
    const { renderings, faults } = await renderAll(say)
    let passed = 0
    for (const rendering of renderings) {
      say(rendering.values)
      const namespace = namespaceOf(rendering)
      const objects = rendering.manifests.map((manifest) => inNamespace(namespace, manifest))
      const created = await apply(control, [restrictedNamespace(namespace), ...objects])
      passed += created.passed
      faults.push(...created.faults.map((fault) => `${rendering.values}: ${fault}`))
    }
    return { passed, faults }
  },
}

/** Why controllers could not create pods, once for each of what makes them, by the namespace's events. */
async function refusedPods({ get }: ControlPlane, namespace: string): Promise<string[]> {
  const { items } = await get(`/api/v1/namespaces/${namespace}/events?fieldSelector=reason%3DFailedCreate`)
  const reasons = items.map(({ involvedObject: { kind, name }, message }: Manifest) => [`${kind}/${name}`, message])
  return [...new Map<string, string>(reasons)].map(([name, message]) => `${name}: ${message}`)
}

const pods: Check = {
  name: 'controllers may create every value set’s pods',
  counts: 'pods',
  async run(say) {
    const control = await cluster(say)
    const { renderings } = await renderAll(say)
    let passed = 0
    const faults: string[] = []
    for (const rendering of renderings) {
      say(rendering.values)
      const namespace = namespaceOf(rendering)
      const objects = rendering.manifests.map((manifest) => inNamespace(namespace, manifest))
      // The other check may not have been asked for.
      await apply(control, [restrictedNamespace(namespace), ...objects])
      const wanted = podsOf(rendering.manifests).reduce((sum, { owner }) => sum + (owner.spec.replicas ?? 1), 0)
      let made = 0
      let refused: string[] = []
      const isMade = async (): Promise<boolean> => {
        made = (await control.get(`/api/v1/namespaces/${namespace}/pods`)).items.length
        refused = await refusedPods(control, namespace)
        return made >= wanted || refused.length > 0
      }
      await waitFor(`pods of ${rendering.values}`, isMade, podsTimeoutMs).catch((error: Error) =>
        refused.push(`${error.message}: ${made} of ${wanted}`),
      )
      passed += made
      faults.push(...refused.map((fault) => `${rendering.values}: ${fault}`))
    }
    return { passed, faults }
  },
}

const kinds: Check = {
  name: 'every kind that a chart can make is in a value set',
  counts: 'kinds',
  async run(say) {
    const { renderings } = await renderAll(say)
    const made = new Set(renderings.flatMap(({ manifests }) => manifests.map(({ kind }) => String(kind))))
    const possible = new Set<string>()
    for await (const file of new Bun.Glob('helm/charts/*/templates/*.{yaml,tpl}').scan(root))
      for (const [, kind = ''] of (await Bun.file(`${root}/${file}`).text()).matchAll(/^kind: (\w+)$/gm))
        possible.add(kind)
    const faults = [...possible].filter((kind) => !made.has(kind)).map((kind) => `${kind} is made by no value set`)
    return outcome(possible.size, faults)
  },
}

const gitops: Check = {
  name: 'GitOps: Argo CD’s and Flux’s objects are created',
  counts: 'objects',
  async run(say) {
    const control = await cluster(say)
    let passed = 0
    const faults: string[] = []
    for (const name of ['argocd', 'flux-system']) await control.kubectl(['create', 'namespace', name])
    for (const { where, manifests } of await gitopsManifests(say)) {
      const applied = await apply(control, manifests)
      passed += applied.passed
      faults.push(...applied.faults.map((fault) => `helm/gitops/${where}: ${fault}`))
    }
    return { passed, faults }
  },
}

export const apiServer: Area = {
  name: 'api server',
  checks: [enforced, valueSets, pods, kinds, gitops],
  end: async (hasFaults) =>
    await started?.then(
      (control) => control.stop({ keepLogs: hasFaults }),
      // It has ended itself, and the checks have said why.
      () => undefined,
    ),
}
