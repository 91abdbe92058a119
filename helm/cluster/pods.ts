import { NAMESPACE, type Rig } from './rig.ts'

/** The services' pods of the release on a {@link Rig}. */

export interface Pod {
  metadata: { name: string; creationTimestamp: string; deletionTimestamp?: string; labels: Record<string, string> }
  spec: { nodeName?: string; containers: { image: string; resources?: { requests?: Record<string, string> } }[] }
  status: {
    podIP?: string
    conditions?: { type: string; status: string; lastTransitionTime: string }[]
    containerStatuses?: { containerID: string; restartCount: number }[]
  }
}

/** Of its container, as the chart has it. */
const PRODUCER_PORT = 8080

export const SERVICES = ['producer', 'consumer', 'console'] as const
export type ServiceName = (typeof SERVICES)[number]

const serviceOf = ({ metadata }: Pod): string => metadata.labels['app.kubernetes.io/name'] ?? ''

const isEnding = ({ metadata }: Pod): boolean => metadata.deletionTimestamp !== undefined

async function allPodsOf(one: Rig, services: readonly string[]): Promise<Pod[]> {
  const { items } = JSON.parse(await one.must(['-n', NAMESPACE, 'get', 'pods', '-o', 'json'])) as { items: Pod[] }
  return items.filter((pod) => services.includes(serviceOf(pod)))
}

/** Without those that end. */
export const podsOf = async (one: Rig, service?: ServiceName): Promise<Pod[]> =>
  (await allPodsOf(one, service === undefined ? SERVICES : [service])).filter((pod) => !isEnding(pod))

/** Whether none is ending. */
export const allEnded = async (one: Rig): Promise<boolean> => !(await allPodsOf(one, SERVICES)).some(isEnding)

export const readyAt = ({ status }: Pod): string | undefined =>
  status.conditions?.find((one) => one.type === 'Ready' && one.status === 'True')?.lastTransitionTime

/** Seconds from creation to readiness, by service: the slowest. */
export async function readiness(one: Rig): Promise<Record<string, number>> {
  const slowest: Record<string, number> = {}
  for (const pod of await podsOf(one)) {
    const at = readyAt(pod)
    if (at === undefined) continue
    const seconds = (Date.parse(at) - Date.parse(pod.metadata.creationTimestamp)) / 1_000
    slowest[serviceOf(pod)] = Math.max(slowest[serviceOf(pod)] ?? 0, seconds)
  }
  return slowest
}

export const allReady = async (one: Rig): Promise<boolean> =>
  (await podsOf(one)).every((pod) => readyAt(pod) !== undefined)

/** How often containers of each pod were started again. */
export const restarts = async (one: Rig): Promise<string> =>
  (await podsOf(one))
    .map(({ metadata, status }) => `${metadata.name} ${status.containerStatuses?.map((of) => of.restartCount)}`)
    .sort()
    .join(', ')

/** Where each pod of the producer takes requests. */
export const producerUrls = async (one: Rig): Promise<string[]> =>
  (await podsOf(one, 'producer')).map(({ status }) => `http://${status.podIP}:${PRODUCER_PORT}`)

/** Runs JavaScript in a pod's container. @returns what it printed */
export const inPod = (one: Rig, pod: Pod, script: string, args: readonly string[] = []): Promise<string> =>
  one.must(['-n', NAMESPACE, 'exec', pod.metadata.name, '--', '/usr/local/bin/bun', '-e', script, ...args])
