import { existsSync } from 'node:fs'
import { chmod, cp, mkdir, mkdtemp, readdir, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Ran } from '../../shared/dev/run.ts'
import { withCharts } from '../checks/charts-render.ts'
import { root, run } from '../checks/check.ts'
import { tool } from '../checks/tools.ts'
import type { Order, Sheet } from './client.ts'
import { AS_CLIENT, startControlPlane, waitFor as waitUntil } from './control-plane.ts'
import { archiveKafka, archiveOwn, archiveStage, DNS_IMAGE, METRICS_IMAGE } from './images.ts'
import { requireRoot } from './machine.ts'
import { type Cluster, createCluster } from './node.ts'
import { before, isExample, replacementOf } from './page.ts'
import { dns, kafka, metrics, script } from './services.ts'
import { openShell, type Shell, type Typed } from './shell.ts'
import type { Judged } from './verdict.ts'

/** A cluster of two nodes with our images and Kafka, and the means to type, to send and to judge. */

type Say = (progress: string) => void

export const NAMESPACE = 'kafkatrace'
/** As the page names images before the first release. */
export const REGISTRY = 'registry.example.com/kafkatrace'
/** Another tag of the same image: what an upgrade changes. */
export const NEXT_TAG = 'next'
export const GATEWAY = 'gateway'
export const ELSEWHERE = 'elsewhere'
const TOPIC = 'kt.shop.events'
const BOOTSTRAP = 'kafka-bootstrap.kafka.svc:9092'
const READY_TIMEOUT_MS = 180_000
/** Stands in a script's arguments for its folder. */
const FOLDER = '@FOLDER@'

export interface Load {
  /** Stops sending, waits for every answer and outcome, and judges all by the log. */
  stop(): Promise<{ sheet: Sheet; judged: Judged }>
}

export interface Rig {
  readonly cluster: Cluster
  readonly version: string
  readonly key: string
  /** A command of docs/deployment.md, as it is typed before the first release. */
  typePage(command: string): Promise<Typed>
  /** Runs a command of the page in the checkout, with this machine's network. @returns what it printed */
  onMachine(command: string): Promise<string>
  kubectl(args: readonly string[], input?: string): Promise<Ran>
  /** As `kubectl`. @throws Error when it fails */
  must(args: readonly string[], input?: string): Promise<string>
  helm(...args: string[]): Promise<Ran>
  /** Starts a client in the namespace that may reach the producer. Returns after its first answer. */
  load(name: string, eventsPerSecond: number): Promise<Load>
  /** Runs a script of the checkout in a pod to its end. @returns its log */
  runScript(name: string, namespace: string, args: readonly string[], labels?: Record<string, string>): Promise<string>
  setKey(key: string): void
  readonly page: string
  /** Where commands are typed. */
  readonly typing: string
}

export interface StartedRig {
  readonly ready: Promise<Rig>
  /** Ends what there is of it. */
  stop(options: { keepLogs: boolean }): Promise<void>
}

type End = (options: { keepLogs: boolean }) => Promise<unknown>

export function startRig(say: Say): StartedRig {
  const ends: End[] = []
  const stop: StartedRig['stop'] = async (options) => {
    for (const end of ends.splice(0).toReversed()) await end(options)
  }
  const ready = prepare(ends, say)
  // Whoever awaits it reports it.
  ready.catch(() => undefined)
  return { ready, stop }
}

/** @param ends receives what ends each part, as soon as there is one */
async function prepare(ends: End[], say: Say): Promise<Rig> {
  requireRoot()
  await removeOrphans()
  const { version } = (await Bun.file(join(root, 'package.json')).json()) as { version: string }
  const page = await Bun.file(join(root, 'docs/deployment.md')).text()
  const folder = await mkdtemp(join(tmpdir(), `${PREFIX}${process.pid}-`))
  ends.push(() => rm(folder, { recursive: true, force: true }))
  const images = join(folder, 'images')
  const typing = join(folder, 'typing')
  for (const path of [images, typing, join(typing, 'helm'), join(folder, 'bin')]) await mkdir(path, { recursive: true })
  const own = await archiveOwn(images, say)
  const kafkaFile = join(images, 'kafka.tar')
  const kafkaImage = await archiveKafka(kafkaFile, say)
  const services = ['producer', 'consumer'] as const
  for (const stage of services) {
    say(`building the ${stage}'s image`)
    await archiveStage(stage, `${REGISTRY}/${stage}:${version}`, join(images, `${stage}.tar`))
  }
  const cluster = await createCluster(2, join(folder, 'nodes'), say)
  ends.push(() => cluster.stop())
  const controlPlane = await startControlPlane(say, { place: { host: cluster.clientsHost, enter: [] } })
  ends.push((options) => controlPlane.stop(options))
  await cluster.startNodes(controlPlane)
  say('importing images')
  await Promise.all(
    cluster.nodes.map(async (node, index) => {
      for (const file of own) await node.importImage(file)
      for (const stage of services) {
        await node.importImage(join(images, `${stage}.tar`))
        await node.tagImage(`${REGISTRY}/${stage}:${version}`, `${REGISTRY}/${stage}:${NEXT_TAG}`)
      }
      // All of Kafka is on the first.
      if (index === 0) await node.importImage(kafkaFile)
    }),
  )
  const must = async (args: readonly string[], input?: string): Promise<string> => {
    const { exitCode, output, errors } = await controlPlane.kubectl(args, input)
    if (exitCode !== 0) throw new Error(`kubectl ${args.join(' ')} ended with ${exitCode}: ${(output + errors).trim()}`)
    return output.trim()
  }
  say('starting DNS, metrics and Kafka')
  await must([
    'create',
    'clusterrolebinding',
    'kubelets',
    '--clusterrole=system:kubelet-api-admin',
    `--user=${AS_CLIENT}`,
  ])
  await must(['wait', '--for=condition=Ready', 'nodes', '--all', '--timeout=90s'])
  for (const name of [GATEWAY, ELSEWHERE]) await must(['create', 'namespace', name])
  await must(['apply', '-f', '-'], dns(DNS_IMAGE))
  await must(['apply', '-f', '-'], metrics(METRICS_IMAGE))
  await must(['apply', '-f', '-'], kafka(kafkaImage))
  await must(['-n', 'kube-system', 'rollout', 'status', 'deployment/coredns', '--timeout=90s'])
  await must(['-n', 'kafka', 'rollout', 'status', 'statefulset/kafka', '--timeout=120s'])

  const programs = { kubectl: await tool('kubectl', say), helm: await tool('helm', say) }
  for (const [name, path] of Object.entries(programs)) await symlink(path, join(folder, 'bin', name))
  await withCharts(say, (_, charts) => cp(charts, join(typing, 'helm/charts'), { recursive: true }))
  const env = { ...controlPlane.env, PATH: `${join(folder, 'bin')}:${process.env.PATH}` }
  const shell: Shell = openShell(cluster.workstation, { cwd: typing, env })
  ends.push(() => shell.close())
  const replacement = replacementOf(page)
  let key = ''
  let runs = 0

  const pod = async (
    name: string,
    namespace: string,
    args: readonly string[],
    labels: Record<string, string> = {},
  ): Promise<string> => {
    const results = join(folder, `pod-${name}-${runs++}`)
    await mkdir(results)
    await chmod(results, 0o777)
    const image = `${REGISTRY}/consumer:${version}`
    const words = args.map((word) => word.replace(FOLDER, results))
    await must(
      ['create', '-f', '-'],
      script({ name, namespace, image, checkout: root, folder: results, args: words, labels }),
    )
    return results
  }
  const rig: Rig = {
    cluster,
    version,
    page,
    typing,
    get key() {
      return key
    },
    setKey(made) {
      key = made
    },
    typePage(command) {
      const typed = before(command, replacement).replace(/\bkt\.shop-1\.…/, key)
      return shell.type(isExample(typed) ? `${typed} --dry-run=server` : typed)
    },
    async onMachine(command) {
      const { output, errors } = await run(['sh', '-c', command])
      return output + errors
    },
    kubectl: (args, input) => controlPlane.kubectl(args, input),
    must,
    helm: (...args) => run([programs.helm, ...args], { cwd: typing, env }),
    async load(name, eventsPerSecond) {
      const order: Order = {
        url: `http://kafkatrace-producer.${NAMESPACE}.svc`,
        key,
        stream: 'events',
        eventsPerSecond,
        name: `${name}-${Date.now()}`,
        folder: FOLDER,
      }
      const client = join(root, 'helm/cluster/client.ts')
      const results = await pod(name, GATEWAY, [client, JSON.stringify(order)])
      await waitFor(`the client ${name} has its first answer`, () => Bun.file(join(results, 'begun')).exists())
      return {
        async stop() {
          await Bun.write(join(results, 'stop'), '')
          const file = Bun.file(join(results, 'sheet.json'))
          await waitFor(`the client ${name} has ended`, async () => (await phaseOf(name, GATEWAY)) === 'Succeeded')
          await must(['-n', GATEWAY, 'delete', 'pod', name, '--wait=false'])
          const judge = [process.execPath, join(root, 'helm/cluster/verdict.ts'), BOOTSTRAP, TOPIC, file.name ?? '']
          const { exitCode, output, errors } = await run([...(cluster.workstation as [string]), ...judge])
          if (exitCode !== 0) throw new Error(`the log could not be judged: ${errors.slice(-2_000)}`)
          return { sheet: (await file.json()) as Sheet, judged: JSON.parse(output) as Judged }
        },
      }
    },
    async runScript(name, namespace, args, labels) {
      await pod(name, namespace, args, labels)
      await waitFor(`the pod ${name} has ended`, async () =>
        ['Succeeded', 'Failed'].includes(await phaseOf(name, namespace)),
      )
      const log = await must(['-n', namespace, 'logs', name])
      await must(['-n', namespace, 'delete', 'pod', name, '--wait=false'])
      return log
    },
  }
  const phaseOf = (name: string, namespace: string): Promise<string> =>
    must(['-n', namespace, 'get', 'pod', name, '-o', 'jsonpath={.status.phase}'])
  return rig
}

const PREFIX = 'kafkatrace-rig-'
/** Contains the ID of the process that made it. */
const OURS = new RegExp(`^${PREFIX}(\\d+)-`)

/** Folders of killed processes, which hold images. */
async function removeOrphans(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const pid = OURS.exec(name)?.[1]
    if (pid !== undefined && !existsSync(`/proc/${pid}`))
      await rm(join(tmpdir(), name), { recursive: true, force: true })
  }
}

/** @throws Error when it does not hold in time */
export const waitFor = (what: string, holds: () => Promise<boolean>, timeoutMs = READY_TIMEOUT_MS): Promise<void> =>
  waitUntil(what, holds, timeoutMs)
