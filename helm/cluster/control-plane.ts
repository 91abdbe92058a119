import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type BoundChild, endBoundChild, isRunning, spawnBoundChild } from '../../shared/dev/bound-child.ts'
import type { NodePlace } from '../../shared/dev/brokers/kafka.ts'
import { findFreePorts, releasePorts } from '../../shared/dev/brokers/ports.ts'
import { makeLogFolder } from '../../shared/dev/own-folder.ts'
import { lastLines, type Ran } from '../../shared/dev/run.ts'
import { createAuthority } from '../../shared/testing/certificates.ts'
import { until } from '../../shared/testing/until.ts'
import type { Manifest } from '../checks/charts-render.ts'
import { run } from '../checks/check.ts'
import { type ToolName, tool } from '../checks/tools.ts'

const startTimeoutMs = 120_000
const askTimeoutMs = 15_000
const pollPauseMs = 500
const stopGraceMs = 5_000
const commandTimeoutMs = 120_000
/** Addresses of Services, which only a node's proxy makes reachable. */
const serviceRange = '10.96.0.0/16'

/** etcd, API server, controller manager and scheduler of a cluster without nodes. */
export interface ControlPlane {
  readonly url: string
  /** A file of the authority that signs the API server's certificate and clients' certificates. */
  readonly authorityFile: string
  /** Variables for `kubectl` and `helm`: all rights, and no files in the user's home. */
  readonly env: Readonly<Record<string, string>>
  /** The folder with the logs of its programs, which is kept after a failure. */
  readonly logs: string
  /** Asks the API server, with all rights. */
  api(path: string, init?: { readonly method: string; readonly body: string }): Promise<Response>
  /** What it answers to GET. @throws Error with its answer, unless that is 200 */
  get(path: string): Promise<Manifest>
  /** Runs kubectl to its end. A failure is a result. */
  kubectl(args: readonly string[], input?: string): Promise<Ran>
  /** Starts a program that ends with the cluster, and has its log beside the others. */
  start(name: string, command: readonly string[]): BoundChild
  /** Writes a file for a client of the API server, and returns its path. */
  kubeconfig(user: User): Promise<string>
  /** Ends all programs, and removes their data. @param options.keepLogs says that somebody will want to read them */
  stop(options?: { readonly keepLogs?: boolean }): Promise<void>
}

export interface User {
  readonly name: string
  readonly group: string
}

export interface ControlPlaneOptions {
  /** Where it runs, when not on loopback. */
  readonly place?: NodePlace
  /** Who may use the API server besides its own parts. */
  readonly users?: readonly User[]
  /** More arguments of the controller manager. */
  readonly controllers?: readonly string[]
}

/** The API server's name where it is the client: of aggregated APIs and of kubelets. */
export const AS_CLIENT = 'front-proxy'

const parts = {
  admin: { name: 'admin', group: 'system:masters' },
  controllers: { name: 'system:kube-controller-manager', group: 'system:masters' },
  scheduler: { name: 'system:kube-scheduler', group: 'system:masters' },
} as const satisfies Record<string, User>

/** Waits for a condition that costs a request. @throws Error when it does not hold in time */
export async function waitFor(what: string, holds: () => Promise<boolean>, timeoutMs: number): Promise<void> {
  const condition = async (): Promise<boolean> => {
    if (await holds()) return true
    await Bun.sleep(pollPauseMs)
    return false
  }
  await until(condition, { what, timeoutMs })
}

/** Returns once the API server answers and controllers work. Nothing of it outlives this process. */
export async function startControlPlane(
  say: (progress: string) => void,
  { place = { host: '127.0.0.1', enter: [] }, users = [], controllers = [] }: ControlPlaneOptions = {},
): Promise<ControlPlane> {
  const programs: Partial<Record<ToolName, string>> = {}
  for (const name of ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kubectl'] as const)
    programs[name] = await tool(name, say)
  say('starting a control plane')
  const data = await mkdtemp(join(tmpdir(), 'kafkatrace-cluster-'))
  const at = (name: string): string => join(data, name)
  const logs = makeLogFolder()
  const ports = await findFreePorts(5)
  const [etcd = 0, etcdPeer = 0, server = 0, controllerManager = 0, scheduler = 0] = ports
  const url = `https://${place.host}:${server}`
  const children: { name: string; child: BoundChild }[] = []

  const start = (name: string, command: readonly string[]): BoundChild => {
    const log = Bun.file(join(logs, `${name}.log`))
    const child = spawnBoundChild([...place.enter, ...command], {
      stdout: log,
      stderr: log,
      // The last that dies removes the data of all.
      removeWhenOrphaned: data,
    })
    children.push({ name, child })
    return child
  }
  const stop = async ({ keepLogs = false } = {}): Promise<void> => {
    // In this order, so that none asks another that is gone.
    for (const { child } of children.toReversed()) if (isRunning(child)) await endBoundChild(child, stopGraceMs)
    releasePorts(ports.splice(0))
    await rm(data, { recursive: true, force: true })
    if (keepLogs) console.error(`logs of the control plane: ${logs}`)
    else await rm(logs, { recursive: true, force: true })
  }
  /** @throws Error with the end of the log of a program that has ended, or of the one that is waited for */
  const awaiting = async (name: string, what: string, holds: () => Promise<boolean>): Promise<void> => {
    const fault = async (of: string, text: string): Promise<Error> =>
      new Error(`${text}; logs: ${logs}\n${lastLines(await Bun.file(join(logs, `${of}.log`)).text())}`)
    const condition = async (): Promise<boolean> => {
      const ended = children.find(({ child }) => !isRunning(child))
      if (ended !== undefined) throw await fault(ended.name, `${ended.name} has ended`)
      return await holds()
    }
    try {
      await waitFor(what, condition, startTimeoutMs)
    } catch (error) {
      const { message } = error as Error
      throw message.includes(logs) ? error : await fault(name, message)
    }
  }

  try {
    await mkdir(at('certificates'))
    const authority = await createAuthority(at('certificates'))
    const names = ['kubernetes', 'kubernetes.default', 'kubernetes.default.svc', 'localhost']
    const addresses = [...new Set([place.host, '127.0.0.1', serviceRange.replace('0.0/16', '0.1')])]
    const [serving, accounts, proxy] = [
      await authority.issue([...names.map((name) => `DNS:${name}`), ...addresses.map((ip) => `IP:${ip}`)].join(',')),
      await authority.issue('DNS:service-accounts'),
      await authority.issue(`DNS:${AS_CLIENT}`),
    ]
    const tokens = new Map<string, string>()
    let tokenFile = ''
    for (const { name, group } of [...Object.values(parts), ...users]) {
      const token = randomBytes(24).toString('hex')
      tokens.set(name, token)
      tokenFile += `${token},${name},${name},"${group}"\n`
    }
    await Bun.write(at('tokens.csv'), tokenFile)
    const kubeconfig = async ({ name }: User): Promise<string> => {
      const file = at(`kubeconfig-${name.replaceAll(':', '-')}`)
      const whole = {
        ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'default' },
        clusters: [{ name: 'default', cluster: { server: url, 'certificate-authority': authority.certificateFile } }],
        users: [{ name: 'default', user: { token: tokens.get(name) } }],
        contexts: [{ name: 'default', context: { cluster: 'default', user: 'default' } }],
      }
      await Bun.write(file, JSON.stringify(whole))
      return file
    }
    const ca = await Bun.file(authority.certificateFile).text()
    const api: ControlPlane['api'] = (path, init) =>
      fetch(`${url}${path}`, {
        ...init,
        headers: { authorization: `Bearer ${tokens.get(parts.admin.name)}`, 'content-type': 'application/json' },
        tls: { ca },
        signal: AbortSignal.timeout(askTimeoutMs),
      })
    const get: ControlPlane['get'] = async (path) => {
      const answer = await api(path)
      if (!answer.ok) throw new Error(`GET ${path}: ${answer.status} ${await answer.text()}`)
      return answer.json()
    }
    const answers = (path: string): Promise<boolean> =>
      api(path).then(
        (answer) => answer.ok,
        () => false,
      )
    const etcdUrl = `http://127.0.0.1:${etcd}`
    start('etcd', [
      programs.etcd ?? '',
      `--data-dir=${at('etcd')}`,
      `--listen-client-urls=${etcdUrl}`,
      `--advertise-client-urls=${etcdUrl}`,
      `--listen-peer-urls=http://127.0.0.1:${etcdPeer}`,
      // Its data is not needed after a crash.
      '--unsafe-no-fsync',
    ])
    start('kube-apiserver', [
      programs['kube-apiserver'] ?? '',
      `--etcd-servers=${etcdUrl}`,
      `--bind-address=${place.host}`,
      `--secure-port=${server}`,
      `--service-cluster-ip-range=${serviceRange}`,
      `--advertise-address=${place.host}`,
      // An address of loopback cannot be that of the Service `kubernetes`.
      ...(place.host === '127.0.0.1' ? ['--endpoint-reconciler-type=none'] : []),
      `--tls-cert-file=${serving.certificateFile}`,
      `--tls-private-key-file=${serving.keyFile}`,
      `--client-ca-file=${authority.certificateFile}`,
      `--token-auth-file=${at('tokens.csv')}`,
      '--authorization-mode=Node,RBAC',
      '--enable-admission-plugins=NodeRestriction',
      '--allow-privileged=true',
      '--service-account-issuer=https://kubernetes.default.svc',
      `--service-account-key-file=${accounts.certificateFile}`,
      `--service-account-signing-key-file=${accounts.keyFile}`,
      // For APIs that run in pods, such as that of metrics.
      '--enable-aggregator-routing=true',
      `--requestheader-client-ca-file=${authority.certificateFile}`,
      `--requestheader-allowed-names=${AS_CLIENT}`,
      '--requestheader-username-headers=X-Remote-User',
      '--requestheader-group-headers=X-Remote-Group',
      '--requestheader-extra-headers-prefix=X-Remote-Extra-',
      `--proxy-client-cert-file=${proxy.certificateFile}`,
      `--proxy-client-key-file=${proxy.keyFile}`,
      `--kubelet-client-certificate=${proxy.certificateFile}`,
      `--kubelet-client-key=${proxy.keyFile}`,
      // No server of names outside of the cluster knows nodes.
      '--kubelet-preferred-address-types=InternalIP',
    ])
    await awaiting('kube-apiserver', 'the API server to be ready', () => answers('/readyz'))
    const common = (file: string, port: number): string[] => [
      `--kubeconfig=${file}`,
      `--authentication-kubeconfig=${file}`,
      `--authorization-kubeconfig=${file}`,
      '--bind-address=127.0.0.1',
      `--secure-port=${port}`,
      // There is no other to become the leader.
      '--leader-elect=false',
      `--client-ca-file=${authority.certificateFile}`,
    ]
    start('kube-controller-manager', [
      programs['kube-controller-manager'] ?? '',
      ...common(await kubeconfig(parts.controllers), controllerManager),
      `--root-ca-file=${authority.certificateFile}`,
      `--service-account-private-key-file=${accounts.keyFile}`,
      ...controllers,
    ])
    start('kube-scheduler', [programs['kube-scheduler'] ?? '', ...common(await kubeconfig(parts.scheduler), scheduler)])
    const account = '/api/v1/namespaces/default/serviceaccounts/default'
    await awaiting('kube-controller-manager', 'controllers to work', () => answers(account))
    const env = {
      KUBECONFIG: await kubeconfig(parts.admin),
      KUBECACHEDIR: at('kube-cache'),
      HELM_CACHE_HOME: at('helm-cache'),
      HELM_CONFIG_HOME: at('helm-config'),
      HELM_DATA_HOME: at('helm-data'),
    }
    return {
      url,
      authorityFile: authority.certificateFile,
      env,
      logs,
      api,
      get,
      kubectl: (args, input) =>
        run([programs.kubectl ?? '', ...args], {
          env,
          timeoutMs: commandTimeoutMs,
          ...(input !== undefined && { input }),
        }),
      start,
      kubeconfig,
      stop,
    }
  } catch (error) {
    await stop({ keepLogs: true })
    throw error
  }
}
