import { existsSync } from 'node:fs'
import { chmod, cp, mkdir, rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { makeOwnFolder } from '../../shared/dev/own-folder.ts'
import type { Ran } from '../../shared/dev/run.ts'
import { definitionFiles } from '../checks/charts-crds.ts'
import { withCharts } from '../checks/charts-render.ts'
import { root, run } from '../checks/check.ts'
import { tool } from '../checks/tools.ts'
import { define } from './api-server.ts'
import { type Order, type Sheet, type Target, writeWhole } from './client.ts'
import { AS_CLIENT, startControlPlane, waitFor as waitUntil } from './control-plane.ts'
import { archiveKafka, archiveOwn, archiveStages, DNS_IMAGE, METRICS_IMAGE, STAGES } from './images.ts'
import { requireRoot } from './machine.ts'
import { type Cluster, createCluster, PAUSE_IMAGE } from './node.ts'
import { before, isExample, replacementOf } from './page.ts'
import { dns, kafka, metrics, type Program, program } from './services.ts'
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
/** The pod of the client. */
const CLIENT = 'client'

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
  /** Defines the operators' kinds of an API group. */
  define(group: string): Promise<void>
  /** Starts the client of {@link load}, which looks for the producer first. @param pods where each of its pods takes requests */
  startClient(pods: readonly string[]): Promise<unknown>
  /** Lets a client send, in the namespace that may reach the producer. Returns after its first answer. @param name part of the events' IDs */
  load(name: string, eventsPerSecond: number): Promise<Load>
  /** Runs a script of the checkout in a pod to its end. @returns its log */
  runScript(name: string, namespace: string, args: readonly string[]): Promise<string>
  /** Starts a program of this machine in a pod, until the cluster is stopped. */
  runProgram(of: Omit<Program, 'image'>): Promise<void>
  /** A new folder, for files that pods read. */
  makeFolder(name: string): Promise<string>
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
  const { version } = (await Bun.file(join(root, 'package.json')).json()) as { version: string }
  const page = await Bun.file(join(root, 'docs/deployment.md')).text()
  const folder = makeOwnFolder('kafkatrace-rig-')
  ends.push(() => rm(folder, { recursive: true, force: true }))
  const typing = join(folder, 'typing')
  for (const path of [join(typing, 'helm'), join(folder, 'bin')]) await mkdir(path, { recursive: true })
  const images = archiveImages(say)
  // Whoever awaits it reports it.
  images.catch(() => undefined)
  const cluster = await createCluster(2, join(folder, 'nodes'), say)
  ends.push(() => cluster.stop())
  const controlPlane = await startControlPlane(say, {
    place: { host: cluster.clientsHost, enter: [] },
    controllers: ['--horizontal-pod-autoscaler-sync-period=5s'],
  })
  ends.push((options) => controlPlane.stop(options))
  await cluster.startNodes(controlPlane)
  const { own, kafkaArchive, stages } = await images
  say('importing images')
  await Promise.all(
    cluster.nodes.map(async (node, index) => {
      for (const { image, file } of own) if (index === 0 || image === PAUSE_IMAGE) await node.importImage(file)
      for (const stage of STAGES) {
        const { image, file } = stages[stage]
        await node.importImage(file)
        for (const tag of [version, NEXT_TAG]) await node.tagImage(image, `${REGISTRY}/${stage}:${tag}`)
      }
      // All of Kafka, and the cluster's own services, are on the first.
      if (index === 0) await node.importImage(kafkaArchive.file)
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
  await must(['apply', '-f', '-'], kafka(kafkaArchive.image))
  for (const name of ['coredns', 'metrics-server'])
    await must(['-n', 'kube-system', 'rollout', 'status', `deployment/${name}`, '--timeout=90s'])
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
  let client: Promise<string> | undefined
  let orders = 0

  const makeFolder = async (name: string): Promise<string> => {
    const path = join(folder, `pod-${name}-${runs++}`)
    await mkdir(path)
    await chmod(path, 0o777)
    return path
  }
  const runProgram = async (of: Omit<Program, 'image'>): Promise<void> => {
    await must(['create', '-f', '-'], program({ ...of, image: `${REGISTRY}/consumer:${version}` }))
  }
  /** @returns the folder of the pod */
  const startScript = async (name: string, namespace: string, args: readonly string[]): Promise<string> => {
    const results = await makeFolder(name)
    const command = ['/usr/local/bin/bun', ...args.map((word) => word.replace(FOLDER, results))]
    await runProgram({ name, namespace, command, mounts: { [root]: root, [results]: results } })
    return results
  }
  /** @returns its folder */
  const startClient = (pods: readonly string[]): Promise<string> => {
    const target: Target = {
      url: `http://kafkatrace-producer.${NAMESPACE}.svc`,
      pods,
      key,
      stream: 'events',
      folder: FOLDER,
    }
    return startScript(CLIENT, GATEWAY, [join(root, 'helm/cluster/client.ts'), JSON.stringify(target)])
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
    define: async (group) =>
      define(
        controlPlane,
        (await definitionFiles()).filter((file) => file.includes(group)),
      ),
    helm: (...args) => run([programs.helm, ...args], { cwd: typing, env }),
    startClient(pods) {
      client ??= startClient(pods)
      return client
    },
    async load(name, eventsPerSecond) {
      if (client === undefined) throw new Error('the client is not started')
      const place = join(await client, String(++orders))
      const order: Order = { eventsPerSecond, name: `${name}-${Date.now()}` }
      await writeWhole(`${place}.order`, JSON.stringify(order))
      const has = async (what: string): Promise<void> => {
        try {
          await waitFor(`the client’s ${what} of ${name}`, async () => existsSync(`${place}.${what}`))
        } catch (error) {
          const { output, errors } = await controlPlane.kubectl(['-n', GATEWAY, 'logs', CLIENT])
          throw new Error(`${(error as Error).message}; its log:\n${output}${errors}`)
        }
      }
      await has('begun')
      return {
        async stop() {
          await Bun.write(`${place}.stop`, '')
          await has('sheet')
          const file = Bun.file(`${place}.sheet`)
          const judge = [process.execPath, join(root, 'helm/cluster/verdict.ts'), BOOTSTRAP, TOPIC, file.name ?? '']
          const { exitCode, output, errors } = await run([...(cluster.workstation as [string]), ...judge])
          if (exitCode !== 0) throw new Error(`the log could not be judged: ${errors.slice(-2_000)}`)
          return { sheet: (await file.json()) as Sheet, judged: JSON.parse(output) as Judged }
        },
      }
    },
    runProgram,
    makeFolder,
    async runScript(name, namespace, args) {
      await startScript(name, namespace, args)
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

/** All images of the cluster, as files. */
async function archiveImages(say: Say) {
  const own = await archiveOwn(say)
  const kafkaArchive = await archiveKafka(say)
  return { own, kafkaArchive, stages: await archiveStages(say) }
}

/** @throws Error when it does not hold in time */
export const waitFor = (what: string, holds: () => Promise<boolean>, timeoutMs = READY_TIMEOUT_MS): Promise<void> =>
  waitUntil(what, holds, timeoutMs)
