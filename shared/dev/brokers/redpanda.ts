import { join } from 'node:path'
import { run } from '../run.ts'
import { type Broker, BrokerUnavailableError } from './broker.ts'
import { createTopicsAndWait } from './wire.ts'

const composeFile = join(import.meta.dir, '..', '..', '..', 'compose.yaml')
/** The listener that compose.yaml publishes for programs outside Docker. */
const address = '127.0.0.1:19092'
const dockerTimeoutMs = 3_000

const findDocker = (): string | null => Bun.which('docker', { PATH: process.env.PATH ?? '' })

/** True when there is a Docker client and its engine answers. */
export async function dockerAnswers(): Promise<boolean> {
  const docker = findDocker()
  if (docker === null) return false
  const command = [docker, 'version', '--format', '{{.Server.Version}}'] as const
  return (await run(command, { timeoutMs: dockerTimeoutMs })).exitCode === 0
}

/** Redpanda from compose.yaml. `stop` leaves its data in place, as `docker compose stop` does. */
export async function startRedpanda(say: (progress: string) => void = () => {}): Promise<Broker> {
  if (!(await dockerAnswers())) {
    throw new BrokerUnavailableError(
      'Redpanda needs Docker, and no Docker engine answers; start Docker, or use --broker kafka or --broker embedded',
    )
  }
  say('starting Redpanda with docker compose')
  await compose('up', '--detach', '--wait', 'redpanda')
  return {
    name: 'redpanda',
    bootstrapServers: address,
    description: 'Redpanda in Docker, one node, data in a volume of compose.yaml',
    createTopics: (names, partitions) => createTopicsAndWait(address, names, partitions),
    stop: () => compose('stop', 'redpanda'),
  }
}

async function compose(...args: string[]): Promise<void> {
  const { exitCode, errors } = await run([findDocker() ?? 'docker', 'compose', '--file', composeFile, ...args])
  if (exitCode !== 0) {
    throw new BrokerUnavailableError(`docker compose ${args.join(' ')} exited with ${exitCode}:\n${errors.trimEnd()}`)
  }
}
