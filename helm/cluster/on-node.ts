import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import type { Area, Check, Outcome } from '../checks/check.ts'
import { Demands } from './demands.ts'
import { commandsOf, jsonOf, sectionOf } from './page.ts'
import { ELSEWHERE, GATEWAY, NAMESPACE, NEXT_TAG, type Rig, type StartedRig, startRig, waitFor } from './rig.ts'
import { type Scenario, type Use, writeSeen } from './seen.ts'
import { BROKERS, CONTROLLER_PORT } from './services.ts'

/** The charts, our images and Kafka on real nodes with enforced NetworkPolicies, as docs/deployment.md says, under load by clients that never retry. */

type Say = (progress: string) => void

const RATE = 200
const HIGH_RATE = 1_000
const HIGH_RATE_MS = 40_000
const OUTAGE_MS = 20_000
const SCALE_TIMEOUT_MS = 240_000
const COLLECT_TIMEOUT_MS = 30_000

let rig: StartedRig | undefined
let installed: Promise<Outcome> | undefined
const scenarios: Scenario[] = []
let uses: Use[] = []
const readySeconds: Record<string, number> = {}

const started = (say: Say): Promise<Rig> => {
  rig ??= startRig(say)
  return rig.ready
}

/** The rig with the release. @throws Error when that could not be installed */
async function release(say: Say): Promise<Rig> {
  const one = await started(say)
  installed ??= install(one, say)
  const { faults } = await installed
  if (faults.length > 0) throw new Error(`the release is not installed as the page says:\n${faults.join('\n')}`)
  return one
}

/**
 * Connects to each HOST:PORT of its arguments again and again for six seconds: rules for a new pod come some time after its start. Prints those that answered
 * the last time as JSON.
 */
const CONNECT = `
const isReached = async (target) => {
  const [hostname, port] = target.split(':')
  const deadline = performance.now() + 6000
  for (;;) {
    const socket = await Promise.race([
      Bun.connect({ hostname, port: Number(port), socket: { data() {} } }).catch(() => undefined),
      Bun.sleep(1500),
    ])
    socket?.end()
    if (performance.now() > deadline) return socket !== undefined
    await Bun.sleep(200)
  }
}
const targets = process.argv.slice(1)
const reached = await Promise.all(targets.map(isReached))
console.log(JSON.stringify(targets.filter((_, index) => reached[index])))
process.exit(0)
`

const BOOTSTRAP = 'kafka-bootstrap.kafka.svc:9092'
const CONTROLLER = `kafka-0.kafka.kafka.svc:${CONTROLLER_PORT}`

/** Of the targets, those that a pod reaches. */
async function reachedFrom(
  { runScript }: Rig,
  name: string,
  namespace: string,
  targets: readonly string[],
): Promise<string[]> {
  return JSON.parse(await runScript(name, namespace, ['-e', CONNECT, ...targets])) as string[]
}

const DENY = JSON.stringify({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name: 'only-dns', namespace: ELSEWHERE },
  spec: { podSelector: {}, policyTypes: ['Egress'], egress: [{ ports: [{ protocol: 'UDP', port: 53 }] }] },
})

const enforced: Check = {
  name: 'node: pods run, names resolve, policies are enforced',
  counts: 'demands',
  async run(say) {
    const one = await started(say)
    const demands = new Demands()
    const nodes = (await one.must(['get', 'nodes', '--no-headers'])).split('\n')
    demands.demand(
      nodes.every((line) => / Ready /.test(line)),
      `not every node is ready: ${nodes.join('; ')}`,
    )
    const open = await reachedFrom(one, 'open', ELSEWHERE, [BOOTSTRAP])
    demands.demand(open.length === 1, `without a policy, a pod does not reach ${BOOTSTRAP}`)
    await one.must(['apply', '-f', '-'], DENY)
    const closed = await reachedFrom(one, 'closed', ELSEWHERE, [BOOTSTRAP])
    demands.demand(closed.length === 0, `a policy allows DNS only, and a pod reaches ${closed.join(', ')}`)
    await one.must(['-n', ELSEWHERE, 'delete', 'networkpolicy', 'only-dns'])
    return demands.outcome()
  },
}

/** Types the commands of a section. A command that fails ends it. */
async function typeSection(
  one: Rig,
  title: string,
  demands: Demands,
  say: Say,
  edit: (command: string) => string = (command) => command,
): Promise<string[]> {
  const outputs: string[] = []
  for (const command of commandsOf(one.page, title)) {
    say(command.slice(0, 60))
    const { exitCode, output } = await one.typePage(edit(command))
    outputs.push(output)
    demands.demand(exitCode === 0, `${command}\nended with ${exitCode ?? 'nothing in time'}:\n${output.slice(-2_000)}`)
    if (exitCode !== 0) break
  }
  return outputs
}

async function install(one: Rig, say: Say): Promise<Outcome> {
  const demands = new Demands()
  const [make = '', ...others] = commandsOf(one.page, 'Install')
  say(make)
  // Where commands are typed, nothing but the cluster can be reached.
  const made = await one.onMachine(make)
  const key = /^kt\.\S+$/m.exec(made)?.[0]
  const sha256 = /"sha256":"(\w+)"/.exec(made)?.[1]
  demands.demand(key !== undefined && sha256 !== undefined, `${make} printed no key, or no hash:\n${made}`)
  if (key === undefined || sha256 === undefined) return demands.outcome()
  one.setKey(key)
  const tenants = jsonOf(one.page, 'Install').replace('…', sha256)
  await Bun.write(join(one.typing, 'tenants.json'), tenants)
  for (const command of others) {
    say(command.slice(0, 60))
    const { exitCode, output } = await one.typePage(command)
    demands.demand(exitCode === 0, `${command}\nended with ${exitCode ?? 'nothing in time'}:\n${output.slice(-2_000)}`)
    if (exitCode !== 0) {
      const { output: state } = await one.kubectl(['-n', NAMESPACE, 'get', 'pods,events', '-o', 'wide'])
      demands.faults.push(state.slice(-3_000))
      if (command.startsWith('helm upgrade')) return demands.outcome()
    }
    if (command.startsWith('curl -i'))
      demands.demand(/ 202 /.test(output), `an event is not answered 202, as the page says:\n${output}`)
    if (command.includes('/outcome?'))
      demands.demand(output.includes('"processed"'), `the console does not say that it was processed:\n${output}`)
  }
  for (const [name, seconds] of Object.entries(await readiness(one))) readySeconds[name] = seconds
  // The quota of the page is an example.
  const more = JSON.stringify({
    data: { 'tenants.json': btoa(tenants.replace(/"eventsPerSecond": \d+/, '"eventsPerSecond": 5000')) },
  })
  await one.must(['-n', NAMESPACE, 'patch', 'secret', 'kafkatrace-tenants', '-p', more])
  return demands.outcome()
}

interface Pod {
  metadata: { name: string; creationTimestamp: string; deletionTimestamp?: string; labels: Record<string, string> }
  spec: { nodeName?: string; containers: { image: string; resources?: { requests?: Record<string, string> } }[] }
  status: {
    conditions?: { type: string; status: string; lastTransitionTime: string }[]
    containerStatuses?: { containerID: string }[]
  }
}

const SERVICES = ['producer', 'consumer', 'console'] as const

const serviceOf = ({ metadata }: Pod): string => metadata.labels['app.kubernetes.io/name'] ?? ''

/** The services' pods, without those that end. */
async function podsOf(one: Rig, service?: (typeof SERVICES)[number]): Promise<Pod[]> {
  const { items } = JSON.parse(await one.must(['-n', NAMESPACE, 'get', 'pods', '-o', 'json'])) as { items: Pod[] }
  return items.filter(
    (pod) =>
      (service === undefined ? (SERVICES as readonly string[]).includes(serviceOf(pod)) : serviceOf(pod) === service) &&
      pod.metadata.deletionTimestamp === undefined,
  )
}

const readyAt = ({ status }: Pod): string | undefined =>
  status.conditions?.find((one) => one.type === 'Ready' && one.status === 'True')?.lastTransitionTime

/** Seconds from creation to readiness, by service: the slowest. */
async function readiness(one: Rig): Promise<Record<string, number>> {
  const slowest: Record<string, number> = {}
  for (const pod of await podsOf(one)) {
    const at = readyAt(pod)
    if (at === undefined) continue
    const seconds = (Date.parse(at) - Date.parse(pod.metadata.creationTimestamp)) / 1_000
    slowest[serviceOf(pod)] = Math.max(slowest[serviceOf(pod)] ?? 0, seconds)
  }
  return slowest
}

const allReady = async (one: Rig): Promise<boolean> => (await podsOf(one)).every((pod) => readyAt(pod) !== undefined)

/**
 * Plays something under load, and judges it.
 * @param mayFail requests may fail in it, by its nature
 */
async function underLoad(
  one: Rig,
  of: { name: string; pod: string; rate?: number; mayFail?: string },
  demands: Demands,
  play: () => Promise<void>,
): Promise<void> {
  const { rate = RATE } = of
  const load = await one.load(of.pod, rate)
  const begunMs = performance.now()
  try {
    await play()
  } finally {
    const seconds = (performance.now() - begunMs) / 1_000
    const { sheet, judged } = await load.stop()
    const failed = sheet.failed.length
    const { lost, doubled, outOfOrder, violations } = judged
    scenarios.push({
      name: of.name,
      eventsPerSecond: rate,
      requests: sheet.requests,
      failed,
      lost,
      doubled,
      outOfOrder,
      longestGapMs: sheet.longestGapMs,
      seconds,
    })
    const [first] = sheet.failed
    const example =
      first === undefined ? '' : `; the first, ${first.connection} connection: ${first.status} ${first.what}`
    if (of.mayFail === undefined)
      demands.demand(failed === 0, `${failed} of ${sheet.requests} requests failed${example}`)
    demands.demand(violations.length === 0, violations.join('\n'))
    const due = rate * sheet.seconds
    demands.demand(sheet.events >= 0.95 * due, `${sheet.events} events were sent, of ${Math.round(due)}`)
  }
}

const upgrade: Check = {
  name: 'docs/deployment.md: an upgrade under 200 events/s',
  counts: 'demands',
  async run(say) {
    const one = await release(say)
    const demands = new Demands()
    await underLoad(one, { name: 'an upgrade to other images', pod: 'upgrade' }, demands, async () => {
      const tags = SERVICES.map((service) => `--set ${service}.image.tag=${NEXT_TAG}`).join(' ')
      await typeSection(one, 'Upgrade', demands, say, (command) =>
        command.startsWith('helm upgrade') ? `${command} ${tags}` : command,
      )
    })
    for (const [name, seconds] of Object.entries(await readiness(one)))
      readySeconds[name] = Math.max(seconds, readySeconds[name] ?? 0)
    const old = (await podsOf(one)).filter(({ spec }) => !spec.containers[0]?.image.endsWith(`:${NEXT_TAG}`))
    demands.demand(
      old.length === 0,
      `after the upgrade, old pods run: ${old.map(({ metadata }) => metadata.name).join(', ')}`,
    )
    return demands.outcome()
  },
}

const rollback: Check = {
  name: 'docs/deployment.md: a rollback under 200 events/s',
  counts: 'demands',
  async run(say) {
    const one = await release(say)
    const demands = new Demands()
    await underLoad(one, { name: 'a rollback', pod: 'rollback' }, demands, async () => {
      await typeSection(one, 'Roll back', demands, say)
    })
    const left = (await podsOf(one)).filter(({ spec }) => spec.containers[0]?.image.endsWith(`:${NEXT_TAG}`))
    demands.demand(left.length === 0, `after the rollback, ${left.length} pods have the newer image`)
    return demands.outcome()
  },
}

/** Waits until a service has all its pods again, others than before. */
const replaced = (one: Rig, service: (typeof SERVICES)[number], before: readonly Pod[], gone: Pod): Promise<void> =>
  waitFor(`${gone.metadata.name} is replaced`, async () => {
    const now = await podsOf(one, service)
    const isOther = now.every(({ status, metadata }) =>
      metadata.name === gone.metadata.name
        ? status.containerStatuses?.[0]?.containerID !== gone.status.containerStatuses?.[0]?.containerID
        : true,
    )
    return isOther && now.length === before.length && now.every((pod) => readyAt(pod) !== undefined)
  })

const killed: Check = {
  name: 'node: pods deleted and killed under 200 events/s',
  counts: 'demands',
  async run(say) {
    const one = await release(say)
    const demands = new Demands()
    for (const service of ['producer', 'consumer'] as const) {
      say(`deleting a ${service}`)
      await underLoad(one, { name: `a ${service}’s pod deleted`, pod: `delete-${service}` }, demands, async () => {
        const before = await podsOf(one, service)
        const [gone] = before
        if (gone === undefined) throw new Error(`there is no ${service}`)
        await one.must(['-n', NAMESPACE, 'delete', 'pod', gone.metadata.name])
        await replaced(one, service, before, gone)
      })
      say(`killing a ${service}`)
      const mayFail = service === 'producer' ? { mayFail: 'requests that it had taken' } : {}
      await underLoad(
        one,
        { name: `a ${service} killed (SIGKILL)`, pod: `kill-${service}`, ...mayFail },
        demands,
        async () => {
          const before = await podsOf(one, service)
          const [gone] = before
          const node = one.cluster.nodes.find(({ name }) => name === gone?.spec.nodeName)
          if (gone === undefined || node === undefined) throw new Error(`there is no ${service}`)
          await node.kill(gone.status.containerStatuses?.[0]?.containerID.replace('containerd://', '') ?? '')
          await replaced(one, service, before, gone)
        },
      )
    }
    return demands.outcome()
  },
}

const drained: Check = {
  name: 'node: a node drained under 200 events/s',
  counts: 'demands',
  async run(say) {
    const one = await release(say)
    const demands = new Demands()
    await underLoad(one, { name: 'a node drained', pod: 'drain' }, demands, async () => {
      const on = (await podsOf(one)).filter(({ spec }) => spec.nodeName === 'node-1')
      demands.demand(on.length > 0, 'no pod is on node-1')
      say(`draining node-1 of ${on.length} pods`)
      try {
        const { exitCode, output, errors } = await one.kubectl([
          'drain',
          'node-1',
          '--ignore-daemonsets',
          '--delete-emptydir-data',
          '--timeout=110s',
        ])
        demands.demand(exitCode === 0, `kubectl drain ended with ${exitCode}: ${(output + errors).slice(-1_500)}`)
        const left = (await podsOf(one)).filter(({ spec }) => spec.nodeName === 'node-1')
        demands.demand(left.length === 0, `${left.length} pods are still on node-1`)
      } finally {
        await one.must(['uncordon', 'node-1'])
      }
      await waitFor('all pods are ready again', () => allReady(one))
    })
    return demands.outcome()
  },
}

interface Summary {
  pods: {
    podRef: { name: string; namespace: string }
    containers?: {
      cpu?: { time: string; usageCoreNanoSeconds?: number }
      memory?: { workingSetBytes?: number }
    }[]
  }[]
}

/** CPU time and memory of the services' pods, as the kubelets count them. */
async function used(one: Rig): Promise<Map<string, { atMs: number; cpuNs: number; bytes: number }>> {
  const all = new Map<string, { atMs: number; cpuNs: number; bytes: number }>()
  for (const { name } of one.cluster.nodes) {
    const summary = JSON.parse(await one.must(['get', '--raw', `/api/v1/nodes/${name}/proxy/stats/summary`])) as Summary
    for (const { podRef, containers = [] } of summary.pods) {
      const [container] = containers
      if (podRef.namespace !== NAMESPACE || container?.cpu?.usageCoreNanoSeconds === undefined) continue
      all.set(podRef.name, {
        atMs: Date.parse(container.cpu.time),
        cpuNs: container.cpu.usageCoreNanoSeconds,
        bytes: container.memory?.workingSetBytes ?? 0,
      })
    }
  }
  return all
}

const MIB = 1024 * 1024
const milliOf = (cpu = '0'): number => (cpu.endsWith('m') ? Number(cpu.slice(0, -1)) : Number(cpu) * 1_000)
const mibOf = (memory = '0'): number =>
  memory.endsWith('Gi') ? Number(memory.slice(0, -2)) * 1_024 : Number(memory.replace('Mi', ''))

const resources: Check = {
  name: 'node: CPU and memory at 1,000 events/s, against requests',
  counts: 'demands',
  async run(say) {
    const one = await release(say)
    const demands = new Demands()
    await underLoad(one, { name: 'nothing', pod: 'steady', rate: HIGH_RATE }, demands, async () => {
      say(`${HIGH_RATE} events a second`)
      const before = await used(one)
      await Bun.sleep(HIGH_RATE_MS)
      const after = await used(one)
      uses = []
      for (const service of SERVICES) {
        let [cpuMilli, memoryMiB] = [0, 0]
        const pods = await podsOf(one, service)
        for (const { metadata } of pods) {
          const [first, last] = [before.get(metadata.name), after.get(metadata.name)]
          if (first === undefined || last === undefined || last.atMs <= first.atMs) continue
          cpuMilli = Math.max(cpuMilli, Math.round((last.cpuNs - first.cpuNs) / (last.atMs - first.atMs) / 1_000))
          memoryMiB = Math.max(memoryMiB, Math.round(last.bytes / MIB))
        }
        const requests = pods[0]?.spec.containers[0]?.resources?.requests ?? {}
        const cpuRequestMilli = milliOf(requests['cpu'])
        const memoryRequestMiB = mibOf(requests['memory'])
        uses.push({ name: service, cpuMilli, cpuRequestMilli, memoryMiB, memoryRequestMiB })
        demands.demand(memoryMiB > 0 && cpuMilli > 0, `${service}: the kubelets say nothing of its use`)
        demands.demand(
          memoryMiB <= memoryRequestMiB,
          `${service}: ${memoryMiB} MiB used, ${memoryRequestMiB} MiB requested`,
        )
      }
    })
    return demands.outcome()
  },
}

const autoscaled: Check = {
  name: 'node: HPA up and down under 1,000 events/s',
  counts: 'demands',
  async run(say) {
    const one = await release(say)
    const demands = new Demands()
    const replicas = async (): Promise<number> =>
      Number(
        await one.must([
          '-n',
          NAMESPACE,
          'get',
          'deployment',
          'kafkatrace-producer',
          '-o',
          'jsonpath={.spec.replicas}',
        ]),
      )
    const set = [
      'producer.hpa.enabled=true',
      'producer.hpa.maxReplicas=3',
      // Far below what the load takes.
      'producer.resources.requests.cpu=100m',
      'producer.hpa.cpuUtilizationPercent=20',
      'producer.hpa.behavior.scaleDown.stabilizationWindowSeconds=15',
      'producer.hpa.behavior.scaleDown.policies[0].type=Pods',
      'producer.hpa.behavior.scaleDown.policies[0].value=1',
      'producer.hpa.behavior.scaleDown.policies[0].periodSeconds=15',
    ].flatMap((value) => ['--set', value])
    const upgradeBy = async (args: readonly string[]): Promise<void> => {
      const all = [
        'upgrade',
        'kafkatrace',
        'helm/charts/kafkatrace',
        '--namespace',
        NAMESPACE,
        '--reset-then-reuse-values',
      ]
      const { exitCode, output, errors } = await one.helm(...all, '--wait', '--timeout', '5m', ...args)
      if (exitCode !== 0) throw new Error(`helm upgrade ended with ${exitCode}: ${(output + errors).slice(-1_500)}`)
    }
    await underLoad(one, { name: 'an autoscaler switched on', pod: 'hpa-on' }, demands, async () => {
      say('switching it on')
      let least = await replicas()
      const watching = setInterval(
        () =>
          void replicas().then(
            (now) => (least = Math.min(least, now)),
            () => {},
          ),
        300,
      )
      await upgradeBy(set)
      clearInterval(watching)
      demands.demand(least >= 2, `switching the autoscaler on left ${least} producer`)
    })
    await underLoad(one, { name: 'an autoscaler adding pods', pod: 'hpa-up', rate: HIGH_RATE }, demands, async () => {
      say('waiting for more producers')
      await waitFor('the autoscaler adds a producer', async () => (await replicas()) > 2, SCALE_TIMEOUT_MS)
      await waitFor('it is ready', () => allReady(one))
    })
    await underLoad(one, { name: 'an autoscaler removing pods', pod: 'hpa-down', rate: 20 }, demands, async () => {
      say('waiting for fewer producers')
      await waitFor('the autoscaler removes the producer', async () => (await replicas()) === 2, SCALE_TIMEOUT_MS)
      await waitFor('it is gone', async () => (await podsOf(one, 'producer')).length === 2)
    })
    await upgradeBy(['--set', 'producer.hpa.enabled=false'])
    return demands.outcome()
  },
}

const outage: Check = {
  name: 'node: Kafka taken away and back under 200 events/s',
  counts: 'demands',
  async run(say) {
    const one = await release(say)
    const demands = new Demands()
    const mayFail = 'nothing can be stored'
    await underLoad(one, { name: 'Kafka away and back', pod: 'outage', mayFail }, demands, async () => {
      say('taking Kafka away')
      const restarts = await restartsOf(one)
      await one.must(['-n', 'kafka', 'scale', 'statefulset/kafka', '--replicas=0'])
      await one.must(['-n', 'kafka', 'wait', '--for=delete', 'pod', '-l', 'app=kafka', '--timeout=110s'])
      await Bun.sleep(OUTAGE_MS)
      say('bringing it back')
      await one.must(['-n', 'kafka', 'scale', 'statefulset/kafka', `--replicas=${BROKERS}`])
      await one.must(['-n', 'kafka', 'rollout', 'status', 'statefulset/kafka', '--timeout=110s'])
      await waitFor('all pods are ready again', () => allReady(one))
      demands.demand((await restartsOf(one)) === restarts, 'an outage of Kafka restarted pods')
    })
    return demands.outcome()
  },
}

const restartsOf = (one: Rig): Promise<string> =>
  one.must(['-n', NAMESPACE, 'get', 'pods', '-o', 'jsonpath={.items[*].status.containerStatuses[*].restartCount}'])

const reached: Check = {
  name: 'node: who reaches whom, by the charts’ policies',
  counts: 'connections',
  async run(say) {
    const one = await release(say)
    const demands = new Demands()
    const producer = 'kafkatrace-producer.kafkatrace.svc:80'
    const operations = 'kafkatrace-producer-ops.kafkatrace.svc:9080'
    const ofConsole = 'kafkatrace-console.kafkatrace.svc:80'
    const compare = (who: string, targets: Record<string, boolean>, found: readonly string[]): void => {
      for (const [target, may] of Object.entries(targets))
        demands.demand(found.includes(target) === may, `${who} ${may ? 'does not reach' : 'reaches'} ${target}`)
    }
    for (const [namespace, targets] of Object.entries({
      [GATEWAY]: { [producer]: true, [operations]: false, [ofConsole]: false },
      [ELSEWHERE]: { [producer]: false, [operations]: false, [ofConsole]: false },
    })) {
      say(`from ${namespace}`)
      compare(`a pod in ${namespace}`, targets, await reachedFrom(one, 'reach', namespace, Object.keys(targets)))
    }
    for (const service of SERVICES) {
      const [pod] = await podsOf(one, service)
      const targets = { [BOOTSTRAP]: true, [CONTROLLER]: false, 'kubernetes.default.svc:443': false }
      say(`from the ${service}`)
      const command = ['/usr/local/bin/bun', '-e', CONNECT, ...Object.keys(targets)]
      const found = await one.must(['-n', NAMESPACE, 'exec', pod?.metadata.name ?? '', '--', ...command])
      compare(`the ${service}`, targets, JSON.parse(found) as string[])
    }
    return demands.outcome()
  },
}

const removed: Check = {
  name: 'docs/deployment.md: uninstall leaves what it says',
  counts: 'demands',
  async run(say) {
    const one = await release(say)
    const demands = new Demands()
    await typeSection(one, 'Remove', demands, say)
    await waitFor('the services’ pods are gone', async () => (await podsOf(one)).length === 0)
    const kinds = (await one.must(['api-resources', '--verbs=list', '--namespaced', '-o', 'name']))
      .split('\n')
      .filter((kind) => !/^events|metrics\.k8s\.io$|^pods\.metrics/.test(kind))
    const said = sectionOf(one.page, 'Remove')
    const unsaid = async (): Promise<string[]> => {
      const names = await one.must(['-n', NAMESPACE, 'get', kinds.join(','), '-o', 'name', '--ignore-not-found'])
      return names
        .split('\n')
        .filter((name) => name !== '' && !/^(serviceaccount\/default|configmap\/kube-root-ca\.crt)$/.test(name))
        .filter((name) => !said.includes(name.split('/')[1] ?? name))
    }
    // What belonged to what was deleted goes a little later.
    await waitFor('all is gone', async () => (await unsaid()).length === 0, COLLECT_TIMEOUT_MS).catch(() => undefined)
    const left = await unsaid()
    demands.demand(left.length === 0, `left, and the page does not say so: ${left.join(', ')}`)
    return demands.outcome()
  },
}

const installs: Check = {
  name: 'docs/deployment.md: installed as it is typed',
  counts: 'demands',
  async run(say) {
    const one = await started(say)
    installed ??= install(one, say)
    return installed
  },
}

/** A check, and whether all programs of the nodes still run after it. */
const noted = (check: Check): Check => ({
  ...check,
  async run(say) {
    const { passed, faults } = await check.run(say)
    const ended = (await started(say)).cluster.ended()
    return { passed, faults: [...faults, ...ended.map((log) => `a program of a node has ended: ${log}`)] }
  },
})

const checks = [enforced, installs, reached, upgrade, rollback, killed, drained, resources, autoscaled, outage, removed]

export const onNode: Area = {
  name: 'node',
  checks: checks.map(noted),
  async end(hasFaults) {
    await rig?.stop({ keepLogs: hasFaults })
    if (scenarios.length < SCENARIOS) return
    const machine = `${cpus().length} cores of ${cpus()[0]?.model.trim() ?? 'unknown'} with ${Math.round(totalmem() / 1024 ** 3)} GiB`
    await writeSeen({ machine, scenarios, readySeconds, uses, eventsPerSecond: HIGH_RATE })
  },
}

/** Those of all checks. */
const SCENARIOS = 12
