import { join } from 'node:path'
import { type BoundChild, endBoundChild, spawnBoundChild } from '../bound-child.ts'
import { type Broker, BrokerUnavailableError } from './broker.ts'
import { fetchMetadata } from './wire.ts'

const startTimeoutMs = 15_000
const answerTimeoutMs = 5_000
const stopGraceMs = 1_000
/** librdkafka's mock cluster creates every topic with this number of partitions. */
export const embeddedPartitions = 4

/**
 * librdkafka's mock cluster in its own process. It keeps a bounded amount of each partition in memory, so nothing sent to it is
 * safe. Topics have four partitions, whatever number is requested.
 */
export async function startEmbedded(say: (progress: string) => void = () => {}): Promise<Broker> {
  say('starting the embedded broker')
  const child = spawnBoundChild([process.execPath, join(import.meta.dir, 'embedded-cluster.ts')], {
    stdout: 'pipe',
    stderr: 'pipe',
  })
  const address = await firstLine(child)
  return {
    name: 'embedded',
    bootstrapServers: address,
    description: 'embedded broker: librdkafka’s mock cluster, in memory and forgetful, for trying things out only',
    async createTopics(names) {
      await fetchMetadata(address, answerTimeoutMs, names, 'create missing topics')
    },
    async stop() {
      await endBoundChild(child, stopGraceMs)
    },
  }
}

async function firstLine(child: BoundChild<'pipe', 'pipe'>): Promise<string> {
  let output = ''
  const timer = setTimeout(() => child.kill('SIGKILL'), startTimeoutMs)
  const decoder = new TextDecoder()
  for await (const chunk of child.stdout) {
    output += decoder.decode(chunk, { stream: true })
    if (!output.includes('\n')) continue
    clearTimeout(timer)
    return output.slice(0, output.indexOf('\n'))
  }
  clearTimeout(timer)
  const errors = (await child.stderr.text()).trimEnd()
  throw new BrokerUnavailableError(`the embedded broker did not start:\n${errors || 'it gave no reason'}`)
}
