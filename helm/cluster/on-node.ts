import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import { makeKey } from '../../shared/http/tenants.ts'
import type { Area, Check, Outcome } from '../checks/check.ts'
import type { FailedRequest } from './client.ts'
import { Demands, demanding } from './demands.ts'
import { startMonitoring } from './monitoring.ts'
import { commandsOf, jsonOf, sectionOf } from './page.ts'
import {
  allEnded,
  allReady,
  inPod,
  type Pod,
  podsOf,
  producerUrls,
  readiness,
  readyAt,
  restarts,
  SERVICES,
  type ServiceName,
} from './pods.ts'
import { ELSEWHERE, GATEWAY, NAMESPACE, NEXT_TAG, type Rig, type StartedRig, startRig, waitFor } from './rig.ts'
import { type Scenario, type Use, writeSeen } from './seen.ts'
import { BROKERS, CONTROLLER_PORT } from './services.ts'

/** The charts, our images and Kafka on real nodes with enforced NetworkPolicies, as docs/deployment.md says, under load by clients that never retry. */

type Say = (progress: string) => void

const RATE = 200
const HIGH_RATE = 1_000
const HIGH_RATE_MS = 30_000
/** Of a producer's CPU request: between what two need for 1,000 events a second, and three for 20. */
const SCALE_PERCENT = 40
const SCALE_TIMEOUT_MS = 120_000
/** Shorter than the autoscaler's own pause. */
const WATCH_PAUSE_MS = 1_000
const ALERTS_TIMEOUT_MS = 90_000
const MAX_EXAMPLES = 5
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

const enforced = demanding('node: pods run, names resolve, policies are enforced', started, async (one, demands) => {
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
})

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

const PROBER = makeKey('prober')
/** As docs/operations.md says. */
const PROBED = { streams: ['probe'], keys: [{ id: 'prober', sha256: PROBER.sha256, streams: ['probe'] }] }

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
  // The quota of the page is an example. Probes are for later.
  const more = tenants
    .replace(/"eventsPerSecond": \d+/, '"eventsPerSecond": 5000')
    .replace('{"tenants": {', `{"tenants": {"probe": ${JSON.stringify(PROBED)}, `)
  const patch = JSON.stringify({ data: { 'tenants.json': btoa(more) } })
  await one.must(['-n', NAMESPACE, 'patch', 'secret', 'kafkatrace-tenants', '-p', patch])
  await one.startClient(await producerUrls(one))
  return demands.outcome()
}

interface Played {
  readonly name: string
  /** Part of the events' IDs. */
  readonly load: string
  /** Events a second. */
  readonly rate?: number
  /** Whether a request may fail so, by the nature of what is played. Default: none may. */
  readonly mayFail?: (request: FailedRequest) => boolean
}

/** Plays something under load, and judges it. */
async function underLoad(
  one: Rig,
  { name, load: events, rate = RATE, mayFail = () => false }: Played,
  demands: Demands,
  play: () => Promise<void>,
): Promise<void> {
  const load = await one.load(events, rate)
  const begunMs = performance.now()
  try {
    await play()
  } finally {
    const seconds = (performance.now() - begunMs) / 1_000
    // A pod that ends still has connections, and may still be known to somebody.
    await waitFor('what ends has ended', () => allEnded(one)).catch((error: Error) =>
      demands.faults.push(error.message),
    )
    const { sheet, judged } = await load.stop()
    const failed = sheet.failed.length
    const { lost, doubled, outOfOrder, stored, violations } = judged
    scenarios.push({
      name,
      eventsPerSecond: rate,
      requests: sheet.requests,
      failed,
      lost,
      doubled,
      outOfOrder,
      longestGapMs: sheet.longestGapMs,
      seconds,
    })
    const wrong = sheet.failed.filter((request) => !mayFail(request))
    const examples = wrong
      .slice(0, MAX_EXAMPLES)
      .map((request) => `\n${JSON.stringify({ ...request, isStored: stored.includes(request.id) })}`)
    demands.demand(
      wrong.length === 0,
      `${name}: ${wrong.length} of ${sheet.requests} requests failed:${examples.join('')}`,
    )
    demands.demand(violations.length === 0, violations.join('\n'))
    const due = rate * sheet.seconds
    demands.demand(sheet.events >= 0.95 * due, `${sheet.events} events were sent, of ${Math.round(due)}`)
  }
}

const upgrade = demanding('docs/deployment.md: an upgrade under 200 events/s', release, async (one, demands, say) => {
  await underLoad(one, { name: 'an upgrade to other images', load: 'upgrade' }, demands, async () => {
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
})

const rollback = demanding('docs/deployment.md: a rollback under 200 events/s', release, async (one, demands, say) => {
  await underLoad(one, { name: 'a rollback', load: 'rollback' }, demands, async () => {
    await typeSection(one, 'Roll back', demands, say)
  })
  const left = (await podsOf(one)).filter(({ spec }) => spec.containers[0]?.image.endsWith(`:${NEXT_TAG}`))
  demands.demand(left.length === 0, `after the rollback, ${left.length} pods have the newer image`)
})

const REPEATS = 25

const repeats = demanding(
  `docs/deployment.md: ${REPEATS} upgrades and rollbacks, each under 200 events/s`,
  release,
  async (_, demands, say) => {
    for (let round = 1; round <= REPEATS; round++) {
      for (const check of [upgrade, rollback]) {
        const { passed, faults } = await check.run((progress) => say(`round ${round}: ${progress}`))
        demands.passed += passed
        demands.faults.push(...faults.map((fault) => `round ${round}: ${fault}`))
      }
    }
    const total = (count: (scenario: Scenario) => number): number =>
      scenarios.reduce((sum, scenario) => sum + count(scenario), 0)
    const of = (wrong: (scenario: Scenario) => boolean): number => scenarios.filter(wrong).length
    console.log(
      `${scenarios.length} upgrades and rollbacks, of ${total(({ requests }) => requests)} requests ${total(({ failed }) => failed)} failed, in ${of(({ failed }) => failed > 0)} of them`,
    )
  },
)

/** Waits until a service has all its pods again, others than before. */
const replaced = (one: Rig, service: ServiceName, before: readonly Pod[], gone: Pod): Promise<void> =>
  waitFor(`${gone.metadata.name} is replaced`, async () => {
    const now = await podsOf(one, service)
    const isOther = now.every(({ status, metadata }) =>
      metadata.name === gone.metadata.name
        ? status.containerStatuses?.[0]?.containerID !== gone.status.containerStatuses?.[0]?.containerID
        : true,
    )
    return isOther && now.length === before.length && now.every((pod) => readyAt(pod) !== undefined)
  })

const killed = demanding('node: pods deleted and killed under 200 events/s', release, async (one, demands, say) => {
  for (const service of ['producer', 'consumer'] as const) {
    say(`deleting a ${service}`)
    await underLoad(one, { name: `a ${service}’s pod deleted`, load: `delete-${service}` }, demands, async () => {
      const before = await podsOf(one, service)
      const [gone] = before
      if (gone === undefined) throw new Error(`there is no ${service}`)
      await one.must(['-n', NAMESPACE, 'delete', 'pod', gone.metadata.name])
      await replaced(one, service, before, gone)
    })
    say(`killing a ${service}`)
    // What a producer had taken when it was killed.
    const mayFail = service === 'producer' ? { mayFail: () => true } : {}
    await underLoad(
      one,
      { name: `a ${service} killed (SIGKILL)`, load: `kill-${service}`, ...mayFail },
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
})

const drained = demanding('node: a node drained under 200 events/s', release, async (one, demands, say) => {
  await underLoad(one, { name: 'a node drained', load: 'drain' }, demands, async () => {
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
})

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

const resources = demanding(
  'node: CPU and memory at 1,000 events/s, against requests',
  release,
  async (one, demands, say) => {
    await underLoad(one, { name: 'nothing', load: 'steady', rate: HIGH_RATE }, demands, async () => {
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
  },
)

/** helm upgrade of what there is, with more values. @throws Error when it fails */
async function upgradeBy(one: Rig, values: readonly string[]): Promise<void> {
  const command = ['upgrade', 'kafkatrace', 'helm/charts/kafkatrace', '--namespace', NAMESPACE]
  const settings = values.flatMap((value) => ['--set', value])
  const { exitCode, output, errors } = await one.helm(
    ...command,
    ...['--reset-then-reuse-values', '--wait', '--timeout', '5m', ...settings],
  )
  if (exitCode !== 0) throw new Error(`helm upgrade ended with ${exitCode}: ${(output + errors).slice(-1_500)}`)
}

const PRODUCER = 'kafkatrace-producer'

const replicasOf = async (one: Rig): Promise<number> =>
  Number(await one.must(['-n', NAMESPACE, 'get', 'deployment', PRODUCER, '-o', 'jsonpath={.spec.replicas}']))

/** @throws Error with what the autoscaler says, when the number is not reached in time */
async function scaled(one: Rig, what: string, holds: (replicas: number) => boolean): Promise<void> {
  try {
    await waitFor(what, async () => holds(await replicasOf(one)), SCALE_TIMEOUT_MS)
  } catch (error) {
    const { output: said } = await one.kubectl(['-n', NAMESPACE, 'describe', 'hpa', PRODUCER])
    const { output: used } = await one.kubectl(['-n', NAMESPACE, 'top', 'pods'])
    throw new Error(`${(error as Error).message}:\n${said}\n${used}`)
  }
}

const autoscaled = demanding('node: HPA up and down under 1,000 events/s', release, async (one, demands, say) => {
  await underLoad(one, { name: 'an autoscaler switched on', load: 'hpa-on' }, demands, async () => {
    say('switching it on')
    let least = await replicasOf(one)
    const watching = setInterval(
      () =>
        void replicasOf(one).then(
          (now) => (least = Math.min(least, now)),
          () => {},
        ),
      WATCH_PAUSE_MS,
    )
    await upgradeBy(one, [
      'producer.hpa.enabled=true',
      'producer.hpa.maxReplicas=3',
      `producer.hpa.cpuUtilizationPercent=${SCALE_PERCENT}`,
      'producer.hpa.behavior.scaleDown.stabilizationWindowSeconds=0',
    ])
    clearInterval(watching)
    demands.demand(least >= 2, `switching the autoscaler on left ${least} producer`)
  })
  await underLoad(one, { name: 'an autoscaler adding pods', load: 'hpa-up', rate: HIGH_RATE }, demands, async () => {
    say('waiting for more producers')
    await scaled(one, 'the autoscaler adds a producer', (replicas) => replicas > 2)
    await waitFor('it is ready', () => allReady(one))
  })
  await underLoad(one, { name: 'an autoscaler removing pods', load: 'hpa-down', rate: 20 }, demands, async () => {
    say('waiting for fewer producers')
    await scaled(one, 'the autoscaler removes the producer', (replicas) => replicas === 2)
    await waitFor('it is gone', async () => (await podsOf(one, 'producer')).length === 2)
  })
  await upgradeBy(one, ['producer.hpa.enabled=false'])
})

/** Alerts for which an outage of Kafka is a reason to wake somebody. */
const OUTAGE_ALERTS = [
  'KafkaTraceKafkaUnreachable',
  'KafkaTraceProbesFail',
  'KafkaTraceProbeBudgetBurnsFast',
  'KafkaTraceAvailabilityBudgetBurnsFast',
]

/** Prints the status and the body of a producer's answer to /readyz as JSON. */
const READYZ = `
const answer = await fetch('http://127.0.0.1:9080/readyz')
console.log(JSON.stringify({ status: answer.status, ...(await answer.json()) }))
`

interface Readiness {
  status: number
  ok: boolean
  degraded?: boolean
}

const outage = demanding('node: Kafka taken away and back under 200 events/s', release, async (one, demands, say) => {
  say('starting Prometheus and the prober')
  await one.define('monitoring.coreos.com')
  const monitored = SERVICES.map((service) => `${service}.serviceMonitor.enabled=true`)
  await upgradeBy(one, [...monitored, 'producer.probe.enabled=true', 'rules.enabled=true'])
  const prometheus = await startMonitoring(one, PROBER.key, say)
  const firing = async (): Promise<string[]> => (await prometheus.firing()).map(({ alert }) => alert)
  const isQuiet = async (): Promise<boolean> => {
    const now = await firing()
    return OUTAGE_ALERTS.every((alert) => !now.includes(alert))
  }
  await waitFor('probes are answered 202', async () => {
    const [probe] = await prometheus.query('min_over_time(probe_success[10s])')
    return probe?.value[1] === '1'
  })
  demands.demand(await isQuiet(), 'alerts of an outage fire before it')
  // Whoever is told so knows that nothing is stored, and when to come back.
  const mayFail = ({ status, retryAfter }: FailedRequest): boolean => status === 503 && Number(retryAfter) > 0
  await underLoad(one, { name: 'Kafka away and back', load: 'outage', mayFail }, demands, async () => {
    say('taking Kafka away')
    const before = await restarts(one)
    await one.must(['-n', 'kafka', 'scale', 'statefulset/kafka', '--replicas=0'])
    await one.must(['-n', 'kafka', 'wait', '--for=delete', 'pod', '-l', 'app=kafka', '--timeout=110s'])
    const fired = new Set<string>()
    await waitFor(
      'alerts fire',
      async () => {
        for (const alert of await firing()) fired.add(alert)
        return OUTAGE_ALERTS.every((alert) => fired.has(alert))
      },
      ALERTS_TIMEOUT_MS,
    ).catch(() => undefined)
    for (const alert of OUTAGE_ALERTS) demands.demand(fired.has(alert), `${alert} does not fire when Kafka is away`)
    const producers = await podsOf(one, 'producer')
    for (const pod of producers) {
      const { status, ok, degraded } = JSON.parse(await inPod(one, pod, READYZ)) as Readiness
      demands.demand(
        status === 200 && !ok && degraded === true,
        `/readyz of ${pod.metadata.name} answers ${status}, ok ${ok}, degraded ${degraded} when Kafka is away`,
      )
    }
    demands.demand(
      producers.length === 2 && producers.every((pod) => readyAt(pod) !== undefined),
      'producers are not ready when Kafka is away: clients reach none',
    )
    say('bringing it back')
    await one.must(['-n', 'kafka', 'scale', 'statefulset/kafka', `--replicas=${BROKERS}`])
    await one.must(['-n', 'kafka', 'rollout', 'status', 'statefulset/kafka', '--timeout=110s'])
    await waitFor('all pods are ready again', () => allReady(one))
    demands.demand((await restarts(one)) === before, 'an outage of Kafka restarted pods')
    say('waiting for the alerts’ end')
    await waitFor('alerts end', isQuiet, ALERTS_TIMEOUT_MS).catch(() => undefined)
    const left = (await firing()).filter((alert) => OUTAGE_ALERTS.includes(alert))
    demands.demand(left.length === 0, `alerts still fire when Kafka is back: ${left.join(', ')}`)
  })
})

const reached = demanding(
  'node: who reaches whom, by the charts’ policies',
  release,
  async (one, demands) => {
    const producer = 'kafkatrace-producer.kafkatrace.svc:80'
    const operations = 'kafkatrace-producer-ops.kafkatrace.svc:9080'
    const ofConsole = 'kafkatrace-console.kafkatrace.svc:80'
    const compare = (who: string, targets: Record<string, boolean>, found: readonly string[]): void => {
      for (const [target, may] of Object.entries(targets))
        demands.demand(found.includes(target) === may, `${who} ${may ? 'does not reach' : 'reaches'} ${target}`)
    }
    const namespaces = Object.entries({
      [GATEWAY]: { [producer]: true, [operations]: false, [ofConsole]: false },
      [ELSEWHERE]: { [producer]: false, [operations]: false, [ofConsole]: false },
    }).map(async ([namespace, targets]) =>
      compare(`a pod in ${namespace}`, targets, await reachedFrom(one, 'reach', namespace, Object.keys(targets))),
    )
    const services = SERVICES.map(async (service) => {
      const [pod] = await podsOf(one, service)
      if (pod === undefined) throw new Error(`there is no ${service}`)
      const targets = { [BOOTSTRAP]: true, [CONTROLLER]: false, 'kubernetes.default.svc:443': false }
      compare(`the ${service}`, targets, JSON.parse(await inPod(one, pod, CONNECT, Object.keys(targets))) as string[])
    })
    await Promise.all([...namespaces, ...services])
  },
  'connections',
)

const removed = demanding('docs/deployment.md: uninstall leaves what it says', release, async (one, demands, say) => {
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
})

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

/** The upgrade and the rollback of {@link onNode}, again and again: whether what held once holds. */
export const repeated: Area = {
  name: 'repeat',
  checks: [noted(repeats)],
  async end(hasFaults) {
    await rig?.stop({ keepLogs: hasFaults })
  },
}

/** Those of all checks. */
const SCENARIOS = 12
