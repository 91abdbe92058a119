import { join } from 'node:path'
import { withDefinitions } from './charts-crds.ts'
import { allows, hookFaults, type Peer, podFaults } from './charts-policy.ts'
import { chartReadmes } from './charts-readme.ts'
import { refusals } from './charts-refusals.ts'
import { isTest, type Manifest, podsOf, type Rendering, renderAll, valuesFiles, withCharts } from './charts-render.ts'
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
      podFaults(template, owner.kind === 'Job').map((fault) => `${name} ${fault}`),
    )
    return { passed: found.filter((faults) => faults.length === 0).length, faults: found.flat() }
  })

const hooks = (say: Say): Promise<Outcome> =>
  each(say, ({ manifests }) => {
    const found = manifests
      .filter(({ metadata }) => metadata.annotations?.['helm.sh/hook'] !== undefined)
      .map((hook) => hookFaults(hook).map((fault) => `${hook.kind}/${hook.metadata.name} ${fault}`))
    return { passed: found.filter((faults) => faults.length === 0).length, faults: found.flat() }
  })

interface Answer {
  readonly status: number
  readonly ok: boolean
}

const HEALTHY: Answer = { status: 200, ok: true }
const UNREADY: Answer = { status: 503, ok: false }
/** Kept by the Service, and not as it should be. */
const AILING: Answer = { status: 200, ok: false }

/**
 * What a test's program says of an operations port that answers like this, one after the other; the last one is repeated. It pauses for 10 ms instead of a
 * second, and where it will not be content, it gives up after a second instead of a minute.
 */
async function answeredTest(program: string, answers: readonly Answer[]): Promise<{ exitCode: number; said: string }> {
  let asked = 0
  const service = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    fetch() {
      const { status, ok } = answers[Math.min(asked++, answers.length - 1)] ?? HEALTHY
      return Response.json({ ok }, { status })
    },
  })
  const url = `http://127.0.0.1:${service.port}/readyz`
  try {
    const { exitCode, output, errors } = await run([
      process.execPath,
      '-e',
      program
        .replace(/'https?:[^']*'/, `'${url}'`)
        .replace('sleep(1_000)', 'sleep(10)')
        .replace('60_000', answers.includes(HEALTHY) ? '60_000' : '1_000'),
    ])
    return { exitCode, said: (output + errors).replaceAll(url, 'URL').trim() }
  } finally {
    await service.stop(true)
  }
}

/** A pod's first connections fail where policies are enforced, and a service may have become unready for a moment. */
const tests = async (say: Say): Promise<Outcome> => {
  const { renderings, faults } = await renderAll(say)
  const manifests = renderings.flatMap((rendering) => rendering.manifests.filter(isTest))
  const programs = new Map(
    podsOf(manifests).map(({ template, name }): [string, string] => [template.spec.containers[0].command[2], name]),
  )
  const judged = await Promise.all(
    [...programs].map(async ([program, name]) => {
      const [good, bad, ailing] = await Promise.all(
        [[UNREADY, AILING, HEALTHY], [UNREADY], [AILING]].map((answers) => answeredTest(program, answers)),
      )
      return [
        [good?.exitCode === 0 && /^URL: 200 /.test(good.said), `${name} fails after two bad answers: ${good?.said}`],
        [bad?.exitCode === 1 && /URL is not .* 503 /.test(bad.said), `${name} does not say what fails: ${bad?.said}`],
        [
          ailing?.exitCode === 1 && /URL is not .* 200 /.test(ailing.said),
          `${name} takes 200 for well: ${ailing?.said}`,
        ],
      ] as const
    }),
  )
  const wrong = judged.flat().flatMap(([right, fault]) => (right ? [] : [fault]))
  return { passed: judged.flat().length - wrong.length, faults: [...faults, ...wrong] }
}

const inNamespace = (name: string, pod: Record<string, string> = {}): Peer => ({
  namespace: { 'kubernetes.io/metadata.name': name },
  pod,
})

const ofOurs = (name: string): Peer =>
  inNamespace('kafkatrace', { 'app.kubernetes.io/name': name, 'app.kubernetes.io/part-of': 'kafkatrace' })

const at = (address: string): Peer => ({ namespace: {}, pod: {}, address })

/** Of the same release. */
const SIBLING = inNamespace('kafkatrace', { ...ofOurs('producer').pod, 'app.kubernetes.io/instance': 'kt' })

const tcp = (port: number) => ({ protocol: 'TCP', port })
const udp = (port: number) => ({ protocol: 'UDP', port })

const OPS_PORTS: Readonly<Record<string, number>> = { consumer: 9081, console: 9082 }

/** Who may talk to a service, on which port. Everything else must be denied. */
const connections = (service: string, ownBroker: boolean, toConsole: boolean) => {
  const ops = OPS_PORTS[service] ?? 9080
  const http = service === 'console' ? 8081 : 8080
  const isPublic = service === 'producer' || (service === 'console' && toConsole)
  const dns = inNamespace('kube-system', { 'k8s-app': 'kube-dns' })
  const openShiftDns = inNamespace('openshift-dns', { 'dns.operator.openshift.io/daemonset-dns': 'default' })
  const cachedDns = inNamespace('kube-system', { 'k8s-app': 'node-local-dns' })
  return [
    ['ingress', 'the gateway to the public port', inNamespace('gateway'), tcp(http), isPublic],
    ['ingress', 'the gateway to operations', inNamespace('gateway'), tcp(ops), false],
    ['ingress', 'monitoring to operations', inNamespace('monitoring'), tcp(ops), service !== 'topics'],
    ['ingress', 'monitoring to the public port', inNamespace('monitoring'), tcp(http), false],
    ['ingress', 'another producer to operations', SIBLING, tcp(ops), service === 'producer'],
    ['ingress', 'another pod to operations', inNamespace('kafkatrace', { app: 'other' }), tcp(ops), false],
    ['ingress', 'another pod to the public port', inNamespace('kafkatrace', { app: 'other' }), tcp(http), false],
    ['ingress', 'the console to consumers', ofOurs('console'), tcp(9081), service === 'consumer'],
    ['ingress', 'the console to producers', ofOurs('console'), tcp(8080), service === 'producer'],
    ['egress', 'producers', ofOurs('producer'), tcp(8080), service === 'console'],
    ['egress', 'producers’ operations', SIBLING, tcp(9080), service === 'producer'],
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
    ['egress', 'NodeLocal DNSCache over UDP, by its address', at('169.254.20.10'), udp(53), true],
    ['egress', 'NodeLocal DNSCache over TCP, by its address', at('169.254.20.10'), tcp(53), true],
    ['egress', 'NodeLocal DNSCache over UDP, by its pods', cachedDns, udp(53), true],
    ['egress', 'NodeLocal DNSCache’s metrics', at('169.254.20.10'), tcp(9253), false],
    ['egress', 'OpenShift’s DNS over UDP', openShiftDns, udp(5353), true],
    ['egress', 'OpenShift’s DNS over TCP', openShiftDns, tcp(5353), true],
    ['egress', 'OpenShift’s DNS, its metrics', openShiftDns, tcp(9154), false],
    ['egress', 'a cloud’s metadata', at('169.254.169.254'), tcp(80), false],
    ['egress', 'another pod of kube-system', inNamespace('kube-system'), tcp(443), false],
    ['egress', 'an OTLP collector', inNamespace('monitoring'), tcp(4317), false],
    ['egress', 'another pod', inNamespace('kafkatrace', { app: 'other' }), tcp(8080), false],
    ['egress', 'the internet', at('203.0.113.7'), tcp(443), false],
    ['egress', 'DNS servers of the internet', at('203.0.113.7'), udp(53), false],
  ] as const
}

const network = (say: Say): Promise<Outcome> =>
  each(say, ({ values, manifests }) => {
    const policies = manifests.filter(({ kind }) => kind === 'NetworkPolicy')
    const faults: string[] = []
    let passed = 0
    for (const { name, template, owner } of podsOf(manifests)) {
      if (isTest(owner)) continue
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
      if (isTest(owner)) continue
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
    { name: 'hooks end in time, say why, and do not stay', counts: 'hooks', run: hooks },
    { name: 'helm test asks again, and says what was answered', counts: 'outcomes', run: tests },
    { name: 'network policies: who reaches whom', counts: 'connections', run: network },
    { name: 'environments load by the services’ own schema', counts: 'variables', run: environment },
    { name: 'helm-unittest', counts: 'tests', run: behaviour },
    { name: 'contradictions are refused', counts: 'refusals', run: refused },
  ],
}
