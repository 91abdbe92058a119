import { join } from 'node:path'
import { withDefinitions } from './charts-crds.ts'
import { allows, type Peer, podFaults } from './charts-policy.ts'
import { chartReadmes } from './charts-readme.ts'
import { refusals } from './charts-refusals.ts'
import { type Manifest, podsOf, type Rendering, renderAll, valuesFiles, withCharts } from './charts-render.ts'
import type { Area, Outcome } from './check.ts'
import { root, run } from './check.ts'
import { type Service, unknownVariables, valueFaults } from './images-environment.ts'
import { tool } from './tools.ts'

type Say = (progress: string) => void

/** Checks each rendering. A values file that does not render is a fault. */
async function each(say: Say, judge: (rendering: Rendering) => Promise<Outcome> | Outcome): Promise<Outcome> {
  const { renderings, faults } = await renderAll(say)
  let passed = 0
  const all = [...faults]
  for (const rendering of renderings) {
    const outcome = await judge(rendering)
    passed += outcome.passed
    all.push(...outcome.faults.map((fault) => `${rendering.values}: ${fault}`))
  }
  return { passed, faults: all }
}

const lint = (say: Say): Promise<Outcome> =>
  withCharts(say, async (helm, folder) => {
    const faults: string[] = []
    const files = await valuesFiles(folder)
    for (const { chart, values } of files) {
      const ran = await helm('lint', '--strict', chart, '--values', values)
      if (ran.exitCode !== 0) faults.push(`${values}: ${ran.output}${ran.errors}`)
    }
    return { passed: files.length - faults.length, faults }
  })

/** Kinds of Kubernetes itself. Its schemas do not include those of operators. */
const builtIn = ({ apiVersion }: Manifest): boolean =>
  !/^[^/]*(coreos|keda|external-secrets|gateway\.networking)/.test(apiVersion)

const schemas = async (say: Say): Promise<Outcome> => {
  const program = await tool('kubernetes-validate', say)
  return each(say, async ({ manifests }) => {
    const own = manifests.filter(builtIn)
    const input = own.map((one) => JSON.stringify(one)).join('\n---\n')
    const ran = await run([program, '--strict', '-'], { input })
    return ran.exitCode === 0 ? { passed: own.length, faults: [] } : { passed: 0, faults: [ran.output + ran.errors] }
  })
}

const operators = async (say: Say): Promise<Outcome> => {
  const program = await tool('kubeconform', say)
  return withDefinitions((location) =>
    each(say, async ({ manifests }) => {
      const theirs = manifests.filter((one) => !builtIn(one))
      if (theirs.length === 0) return { passed: 0, faults: [] }
      const input = theirs.map((one) => JSON.stringify(one)).join('\n---\n')
      const ran = await run([program, '-strict', '-schema-location', location, '-'], { input })
      return ran.exitCode === 0
        ? { passed: theirs.length, faults: [] }
        : { passed: 0, faults: [ran.output + ran.errors] }
    }),
  )
}

const pods = (say: Say): Promise<Outcome> =>
  each(say, ({ manifests }) => {
    const found = podsOf(manifests).map(({ name, template, owner }) =>
      podFaults(template, ['Job', 'Pod'].includes(owner.kind)).map((fault) => `${name} ${fault}`),
    )
    return { passed: found.filter((faults) => faults.length === 0).length, faults: found.flat() }
  })

const inNamespace = (name: string, pod: Record<string, string> = {}): Peer => ({
  namespace: { 'kubernetes.io/metadata.name': name },
  pod,
})

const ofOurs = (name: string): Peer =>
  inNamespace('kafkatrace', { 'app.kubernetes.io/name': name, 'app.kubernetes.io/part-of': 'kafkatrace' })

const tcp = (port: number) => ({ protocol: 'TCP', port })
const udp = (port: number) => ({ protocol: 'UDP', port })

const OPS_PORTS: Readonly<Record<string, number>> = { consumer: 9081, console: 9082 }

/** Who may talk to a service, on which port. Everything else must be denied. */
const connections = (service: string, ownBroker: boolean, toConsole: boolean) => {
  const ops = OPS_PORTS[service] ?? 9080
  const http = service === 'console' ? 8081 : 8080
  const isPublic = service === 'producer' || (service === 'console' && toConsole)
  const dns = inNamespace('kube-system', { 'k8s-app': 'kube-dns' })
  return [
    ['ingress', 'the gateway to the public port', inNamespace('gateway'), tcp(http), isPublic],
    ['ingress', 'the gateway to operations', inNamespace('gateway'), tcp(ops), false],
    ['ingress', 'monitoring to operations', inNamespace('monitoring'), tcp(ops), service !== 'topics'],
    ['ingress', 'monitoring to the public port', inNamespace('monitoring'), tcp(http), false],
    ['ingress', 'another pod to operations', inNamespace('kafkatrace', { app: 'other' }), tcp(ops), false],
    ['ingress', 'another pod to the public port', inNamespace('kafkatrace', { app: 'other' }), tcp(http), false],
    ['ingress', 'the console to consumers', ofOurs('console'), tcp(9081), service === 'consumer'],
    ['ingress', 'the console to producers', ofOurs('console'), tcp(8080), service === 'producer'],
    ['egress', 'producers', ofOurs('producer'), tcp(8080), service === 'console'],
    ['egress', 'consumers’ operations', ofOurs('consumer'), tcp(9081), service === 'console'],
    ['egress', 'Kafka', inNamespace('kafka'), tcp(9092), !ownBroker],
    [
      'egress',
      'the release’s Redpanda',
      inNamespace('kafkatrace', { 'app.kubernetes.io/name': 'redpanda' }),
      tcp(9093),
      ownBroker,
    ],
    ['egress', 'Kafka’s namespace on another port', inNamespace('kafka'), tcp(9644), false],
    ['egress', 'DNS over UDP', dns, udp(53), true],
    ['egress', 'DNS over TCP', dns, tcp(53), true],
    ['egress', 'another pod of kube-system', inNamespace('kube-system'), tcp(443), false],
    ['egress', 'an OTLP collector', inNamespace('monitoring'), tcp(4317), false],
    ['egress', 'another pod', inNamespace('kafkatrace', { app: 'other' }), tcp(8080), false],
    ['egress', 'the internet', { namespace: {}, pod: {} }, tcp(443), false],
  ] as const
}

const network = (say: Say): Promise<Outcome> =>
  each(say, ({ values, manifests }) => {
    const policies = manifests.filter(({ kind }) => kind === 'NetworkPolicy')
    const faults: string[] = []
    let passed = 0
    for (const { name, template, owner } of podsOf(manifests)) {
      if (owner.kind === 'Pod') continue
      const { labels } = template.metadata
      const table = connections(
        labels['app.kubernetes.io/name'],
        values.endsWith('values-dev.yaml'),
        // The only values file that lets anybody use the console.
        values === 'console/ci/full-values.yaml',
      )
      for (const [direction, what, peer, port, wanted] of table)
        if (allows(policies, labels, direction, peer, port) === wanted) passed++
        else faults.push(`${name}, ${direction}, ${what}: must be ${wanted ? 'allowed' : 'denied'}`)
    }
    return { passed, faults }
  })

/** The environment of a container. Values from Secrets and the pod have stand-ins. */
function environmentOf(template: Manifest): Record<string, string> {
  const entries: Manifest[] = template.spec.containers[0].env
  return Object.fromEntries(entries.map(({ name, value }) => [name, value ?? 'stand-in']))
}

const environment = (say: Say): Promise<Outcome> =>
  each(say, ({ manifests }) => {
    const faults: string[] = []
    let passed = 0
    for (const { name: pod, template, owner } of podsOf(manifests)) {
      if (owner.kind === 'Pod') continue
      const name = template.metadata.labels['app.kubernetes.io/name']
      // The job has only some of the producer's variables.
      const service: Service = name === 'consumer' || name === 'console' ? name : 'producer'
      const env = environmentOf(template)
      const names = Object.keys(env)
      const wrong = [...unknownVariables(service, names), ...valueFaults(service, env)]
      passed += Math.max(0, names.length - wrong.length)
      faults.push(...wrong.map((fault) => `${pod}: ${fault}`))
    }
    return { passed, faults }
  })

const refused = (say: Say): Promise<Outcome> =>
  withCharts(say, async (helm) => {
    const faults: string[] = []
    for (const { chart, set, says } of refusals) {
      const ran = await helm(
        'template',
        'kt',
        chart,
        '--values',
        chart === 'kafkatrace' ? 'kafkatrace/values-dev.yaml' : `${chart}/ci/default-values.yaml`,
        '--set',
        set,
      )
      if (ran.exitCode === 0) faults.push(`${chart} --set ${set}: renders, and should be refused`)
      else if (!ran.errors.includes(says))
        faults.push(`${chart} --set ${set}: does not say “${says}”, but ${ran.errors}`)
    }
    return { passed: refusals.length - faults.length, faults }
  })

const documented = async (say: Say): Promise<Outcome> => {
  const faults: string[] = []
  let passed = 0
  for (const [path, readme] of await chartReadmes(say)) {
    const committed = Bun.file(join(root, path))
    if (!(await committed.exists()) || (await committed.text()) !== readme)
      faults.push(`${path} is stale: bun run generate`)
    const rows = readme.split('\n').filter((line) => /^[|] [a-zA-Z].*[|]$/.test(line) && !line.startsWith('| Key'))
    const bare = rows.filter((row) => /[|]\s*[|]$/.test(row))
    faults.push(...bare.map((row) => `${path}: a value without explanation: ${row}`))
    passed += rows.length - bare.length
  }
  return { passed, faults }
}

const behaviour = async (say: Say): Promise<Outcome> => {
  const program = await tool('helm-unittest', say)
  return withCharts(say, async (_, folder) => {
    const charts = ['producer', 'consumer', 'console', 'kafkatrace']
    const ran = await run([program, '--strict', '--with-subchart=false', ...charts], { cwd: folder })
    const passed = Number(/^Tests: .*?(\d+) passed/m.exec(ran.output)?.[1] ?? 0)
    return { passed, faults: ran.exitCode === 0 ? [] : [ran.output + ran.errors] }
  })
}

export const charts: Area = {
  name: 'charts',
  checks: [
    { name: 'helm lint --strict', counts: 'values files', run: lint },
    { name: 'README agrees with values, each explained', counts: 'values', run: documented },
    { name: 'strict schemas of Kubernetes', counts: 'objects', run: schemas },
    { name: 'operators’ definitions of their kinds', counts: 'objects', run: operators },
    { name: 'restricted pods, and the checklist', counts: 'pods', run: pods },
    { name: 'network policies: who reaches whom', counts: 'connections', run: network },
    { name: 'environments load by the services’ own schema', counts: 'variables', run: environment },
    { name: 'helm-unittest', counts: 'tests', run: behaviour },
    { name: 'contradictions are refused', counts: 'refusals', run: refused },
  ],
}
