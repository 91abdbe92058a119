import { join } from 'node:path'
import type { Ran } from '../../shared/dev/run.ts'
import { definitionFiles } from '../checks/charts-crds.ts'
import type { Manifest } from '../checks/charts-render.ts'
import { type Area, type Check, root } from '../checks/check.ts'
import { commandsIn, wordsOf } from '../checks/delivery-docs.ts'
import { define } from './api-server.ts'
import { type ControlPlane, startControlPlane, waitFor } from './control-plane.ts'
import { type Demands, demanding } from './demands.ts'
import { NEVER_READY, startFakeNodes, ZONES, zoneLabel } from './fake-nodes.ts'
import { type Pod, RELEASE, type Release, type Scale, withRelease } from './release.ts'

/** What Kubernetes' own controllers and Helm make of the charts: roll-outs, drains, autoscalers. Nodes and pods are fake. */

type Say = (progress: string) => void

const settledTimeoutMs = 30_000
const SERVICES = ['producer', 'consumer', 'console'] as const
const neverReadyImages = ['producer', 'consumer'].map((name) => `ghcr.io/kafkatrace/${name}:${NEVER_READY}`)

interface Cluster {
  readonly control: ControlPlane
  readonly nodes: readonly string[]
}

let started: Promise<Cluster> | undefined

/** Each release has a namespace of its own, since removing one takes as long as a check. */
let releases = 0

function cluster(say: Say): Promise<Cluster> {
  started ??= (async () => {
    const control = await startControlPlane(say, {
      // Fake nodes do not fail, and would seem to on a machine that is too busy to renew them.
      controllers: ['--horizontal-pod-autoscaler-sync-period=2s', '--node-monitor-grace-period=1h'],
    })
    await define(control, await definitionFiles())
    return { control, nodes: await startFakeNodes(control, neverReadyImages, say) }
  })()
  return started
}

/** A check of an installed release. */
const check = (
  name: string,
  counts: string,
  judge: (release: Release, demands: Demands, cluster: Cluster, charts: string) => Promise<void>,
): Check =>
  demanding(
    name,
    cluster,
    (all, demands, say) =>
      withRelease(all.control, `${RELEASE}-${++releases}`, say, (release, charts) =>
        judge(release, demands, all, charts),
      ),
    counts,
  )

const ofService = (pods: readonly Pod[], service: string): Pod[] => pods.filter((pod) => pod.service === service)

const said = ({ output, errors }: Ran): string => (errors || output).trim()

const spread = check('helm --wait: pods are ready, in all zones', 'pods', async (release, demands, { control }) => {
  const replicas = SERVICES.map((service) => `--set=${service}.replicas=3`)
  await release.must(release.upgrade(...replicas, '--set=producer.topologySpread.zone=DoNotSchedule'))
  const { items } = await control.get('/api/v1/nodes')
  const zones = new Map(items.map(({ metadata }: Manifest) => [metadata.name, metadata.labels[zoneLabel]]))
  const pods = await release.pods()
  for (const service of SERVICES) {
    const own = ofService(pods, service)
    for (const { name, isReady } of own) demands.demand(isReady, `${name} is not ready`)
    const used = new Set(own.map(({ node = '' }) => zones.get(node)))
    demands.demand(used.size === ZONES.length, `${service}: 3 pods are in ${used.size} zones`)
  }
})

const unzoned = check(
  'values-production: no pod is pending without zones',
  'pods',
  async (release, demands, { control, nodes }, charts) => {
    await control.kubectl(['label', 'nodes', '--all', `${zoneLabel}-`])
    try {
      const values = join(charts, 'kafkatrace/values-production.yaml')
      const chart = join(charts, 'kafkatrace')
      await release.must(release.helm('install', chart, '--values', values, '--timeout=60s'))
      let pods: Pod[] = []
      const areScheduled = async (): Promise<boolean> => {
        pods = await release.pods()
        const producers = ofService(pods, 'producer').length
        return producers >= 3 && pods.every(({ node }) => node !== undefined)
      }
      // What is not scheduled by then is a fault below.
      await waitFor('pods to be scheduled', areScheduled, settledTimeoutMs).catch(() => undefined)
      for (const service of SERVICES)
        demands.demand(ofService(pods, service).length > 0, `there is no pod of ${service}`)
      for (const { name, unscheduled } of pods) demands.demand(unscheduled === '', `${name} is pending: ${unscheduled}`)
    } finally {
      for (const node of nodes) await control.kubectl(['label', 'node', node, `${zoneLabel}=${node.slice(0, -2)}`])
    }
  },
)

/** Faults where there was less than what every service keeps while its pods are replaced one by one. */
function keeps(demands: Demands, lowest: ReadonlyMap<string, Scale>, while_: string): void {
  // A StatefulSet has no pod beyond its replicas.
  const least = { producer: 2, consumer: 1, console: 1 }
  for (const service of SERVICES) {
    const ready = lowest.get(`${RELEASE}-${service}`)?.ready ?? 0
    demands.demand(
      ready >= least[service],
      `${service}: ${ready} ready ${while_}, and at least ${least[service]} must be`,
    )
  }
}

const tags = (tag: string): string[] => SERVICES.map((service) => `--set=${service}.image.tag=${tag}`)

const upgrade = check('an upgrade replaces pods one by one', 'pods and services', async (release, demands) => {
  await release.must(release.upgrade())
  const before = await release.pods()
  const { result, lowest } = await release.lowest(release.upgrade(...tags('next')))
  demands.demand(result.exitCode === 0, `helm upgrade: ${said(result)}`)
  keeps(demands, lowest, 'in the upgrade')
  const after = await release.pods()
  for (const service of SERVICES) {
    const pods = ofService(after, service)
    const wanted = ofService(before, service).length
    demands.demand(pods.length === wanted, `${service}: ${pods.length} pods after the upgrade, and ${wanted} before`)
    for (const { name, image, isReady } of pods)
      demands.demand(isReady && image.endsWith(':next'), `${name} has ${image}, and is ${isReady ? '' : 'not '}ready`)
  }
})

const stuck = check('a roll-out that cannot go on, and its rollback', 'pods and services', async (release, demands) => {
  await release.must(release.upgrade())
  const before = await release.pods()
  // The job has the producer's image, too, and would be all that cannot go on.
  const failed = await release.upgrade(...tags(NEVER_READY), '--set=topics.job=false', '--timeout=10s')
  demands.demand(failed.exitCode !== 0, 'helm upgrade --wait does not fail, and no new pod is ready')
  const during = await release.pods()
  for (const { service, uid, name } of before.filter(({ service }) => service === 'producer' || service === 'console'))
    demands.demand(
      during.some((pod) => pod.uid === uid && pod.isReady),
      `${service}: ${name} went before another was ready`,
    )
  const consumers = ofService(during, 'consumer').filter(({ isReady }) => isReady).length
  demands.demand(
    consumers === 1,
    `consumer: ${consumers} of 2 pods are ready in a roll-out that replaces one at a time`,
  )
  const { result, lowest } = await release.lowest(release.helm('rollback', '--wait', '--timeout=60s'))
  demands.demand(result.exitCode === 0, `helm rollback: ${said(result)}`)
  keeps(demands, lowest, 'in the rollback')
  const after = await release.pods()
  for (const { service, uid, name, image } of before) {
    if (!SERVICES.some((one) => one === service)) continue
    const pod = after.find((one) => (service === 'consumer' ? one.name === name : one.uid === uid))
    demands.demand(pod?.isReady === true && pod.image === image, `${name} is not there, as it was, after the rollback`)
  }
})

const evictions = check(
  'an eviction waits for the pod of the one before',
  'evictions',
  async (release, demands, { control }) => {
    await release.must(release.upgrade())
    for (const service of ['producer', 'consumer']) {
      const [first, second] = ofService(await release.pods(), service)
      const evict = async (pod: Pod | undefined): Promise<number> => {
        const body = {
          ...{ apiVersion: 'policy/v1', kind: 'Eviction' },
          metadata: { name: pod?.name, namespace: release.namespace },
        }
        const path = `/api/v1/namespaces/${release.namespace}/pods/${pod?.name}/eviction`
        return (await control.api(path, { method: 'POST', body: JSON.stringify(body) })).status
      }
      const answers = [await evict(first), await evict(second)]
      demands.demand(answers[0] === 201, `${service}: the first pod’s eviction is answered ${answers[0]}`)
      demands.demand(answers[1] === 429, `${service}: the second pod’s eviction is answered ${answers[1]} at once`)
      const isBack = async (): Promise<boolean> => (await evict(second)) === 201
      const isAllowed = await waitFor('an eviction to be allowed', isBack, settledTimeoutMs).then(
        () => true,
        () => false,
      )
      demands.demand(isAllowed, `${service}: the second pod may not be evicted after the first is back`)
    }
  },
)

const drain = check(
  'kubectl drain goes on as pods come back',
  'pods and services',
  async (release, demands, { control, nodes }) => {
    const [crowded = '', ...others] = nodes
    await control.kubectl(['cordon', ...others])
    try {
      await release.must(release.upgrade())
      await control.kubectl(['uncordon', ...others])
      const before = (await release.pods()).filter(({ service, node }) => service !== 'topics' && node === crowded)
      demands.demand(before.length === 5, `${before.length} of 5 pods are on the only node that takes pods`)
      const { result, lowest } = await release.lowest(
        control.kubectl(['drain', crowded, '--ignore-daemonsets', '--delete-emptydir-data', '--timeout=90s']),
      )
      demands.demand(result.exitCode === 0, `kubectl drain: ${said(result)}`)
      const waited = said(result).includes('disruption budget')
      demands.demand(waited, 'the drain did not have to wait for the budget, with two pods of a service on its node')
      for (const service of ['producer', 'consumer']) {
        const ready = lowest.get(`${RELEASE}-${service}`)?.ready ?? 0
        demands.demand(ready >= 1, `${service}: ${ready} of 2 were ready in the drain`)
      }
      const left = (await release.pods()).filter(({ service, node }) => service !== 'topics' && node === crowded)
      for (const { uid, name } of before)
        demands.demand(!left.some((pod) => pod.uid === uid), `${name} is still on the drained node`)
    } finally {
      await control.kubectl(['uncordon', ...nodes])
    }
  },
)

const autoscalers = check(
  'an autoscaler that is switched on or off keeps pods',
  'changes',
  async (release, demands) => {
    // These take part in no change.
    const without = ['--set=topics.job=false', '--set=console.enabled=false']
    await release.must(release.upgrade(...without))
    const both = ['producer', 'consumer'] as const
    const change = async (what: string, least: number, ...args: string[]): Promise<void> => {
      const { result, lowest } = await release.lowest(release.upgrade(...without, ...args))
      demands.demand(result.exitCode === 0, `${what}: ${said(result)}`)
      for (const service of both) {
        const { replicas = 0 } = lowest.get(`${RELEASE}-${service}`) ?? {}
        demands.demand(
          replicas >= least,
          `${what}: ${service} had ${replicas} replicas for a while, and ${least} before`,
        )
      }
    }
    const hpas = both.flatMap((service) => [`--set=${service}.hpa.enabled=true`, `--set=${service}.hpa.minReplicas=3`])
    await change('HPAs on', 2, ...hpas)
    const areScaled = async (): Promise<boolean> => {
      const scales = await release.scales()
      return both.every((service) => scales.get(`${RELEASE}-${service}`)?.replicas === 3)
    }
    await waitFor('HPAs to scale to their minimum', areScaled, settledTimeoutMs)
    await change('an upgrade with HPAs', 3, ...hpas, '--set=producer.config.LOG_LEVEL=debug')
    await change('KEDA for the consumer’s HPA', 3, ...hpas.slice(0, 2), '--set=consumer.keda.enabled=true')
    await change('all off', 2)
  },
)

const scaled = check('an upgrade and a rollback after kubectl scale', 'changes', async (release, demands) => {
  await release.must(release.upgrade())
  const changes = {
    'helm upgrade': () => release.upgrade('--set=producer.config.LOG_LEVEL=debug'),
    // docs/deployment.md#roll-back
    'helm rollback': () => release.helm('rollback', '--wait', '--timeout=60s', '--force-conflicts'),
  }
  for (const [what, change] of Object.entries(changes)) {
    for (const object of ['deployment/kafkatrace-producer', 'statefulset/kafkatrace-consumer'])
      await release.must(release.kubectl('scale', object, '--replicas=3'))
    const { result, lowest } = await release.lowest(change())
    demands.demand(result.exitCode === 0, `${what}: ${said(result)}`)
    for (const service of ['producer', 'consumer']) {
      const { replicas = 0 } = lowest.get(`${RELEASE}-${service}`) ?? {}
      demands.demand(replicas >= 2, `${what}: ${service} was scaled to ${replicas}`)
    }
  }
})

/** Every object in the namespace, as kind/name, without what Kubernetes itself puts there. */
async function objectsIn({ kubectl }: Release): Promise<string[]> {
  const kinds = (await kubectl('api-resources', '--namespaced', '--verbs=list', '--output=name')).output
    .trim()
    .split('\n')
    .filter((kind) => !kind.startsWith('events'))
  const { exitCode, output, errors } = await kubectl('get', kinds.join(), '--ignore-not-found', '--output=name')
  if (exitCode !== 0) throw new Error(errors)
  const own = ['configmap/kube-root-ca.crt', 'serviceaccount/default']
  return output
    .trim()
    .split('\n')
    .filter((name) => name !== '' && !own.includes(name))
}

const removed = 'nothing is left after docs/deployment.md#remove'
const uninstall = check(removed, 'objects', async (release, demands, { control, nodes }) => {
  const before = new Set(await objectsIn(release))
  await release.must(release.upgrade())
  // Jobs and pods of a test and of an upgrade that fail are there, too.
  await control.kubectl(['cordon', ...nodes])
  try {
    const tested = await release.helm('test', '--timeout=3s')
    demands.demand(tested.exitCode !== 0, 'helm test does not fail where no pod can start')
    const upgraded = await release.upgrade('--timeout=3s')
    demands.demand(upgraded.exitCode !== 0, 'helm upgrade does not fail where the topics job cannot start')
  } finally {
    await control.kubectl(['uncordon', ...nodes])
  }
  const made = (await objectsIn(release)).filter((name) => !before.has(name))
  const page = await Bun.file(join(root, 'docs/deployment.md')).text()
  const section = page.split(/^## /m).find((one) => one.startsWith('Remove\n')) ?? ''
  const commands = commandsIn(section)
  demands.demand(commands.length > 0, 'docs/deployment.md#remove has no command')
  for (const line of commands) {
    const [program, ...words] = wordsOf(line)
    const [command = '', ...args] = words.filter((word, index) => ![word, words[index - 1]].includes('--namespace'))
    const ran = await (program === 'helm'
      ? release.helm(command, ...args.filter((arg) => arg !== RELEASE))
      : release.kubectl(command, ...args.map((arg) => (arg === RELEASE ? release.namespace : arg))))
    demands.demand(ran.exitCode === 0, `${line}: ${said(ran)}`)
  }
  let left: string[] = made
  const isGone = async (): Promise<boolean> => {
    left = (await objectsIn(release)).filter((name) => !before.has(name))
    return left.length === 0
  }
  await waitFor('objects to go', isGone, settledTimeoutMs).catch(() => undefined)
  for (const name of new Set([...made, ...left])) demands.demand(!left.includes(name), `${name} is left`)
})

export const kwok: Area = {
  name: 'kwok',
  checks: [spread, unzoned, upgrade, stuck, evictions, drain, autoscalers, scaled, uninstall],
  end: async (hasFaults) =>
    await started?.then(
      ({ control }) => control.stop({ keepLogs: hasFaults }),
      // It has ended itself, and the checks have said why.
      () => undefined,
    ),
}
