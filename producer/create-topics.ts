/** Creates the topics of all streams: for a job that runs before the services, so that they need no right to create topics. */
import { Type } from '@sinclair/typebox'
import { streamTopics } from '../shared/events/topics.ts'
import type { TopicAdmin } from '../shared/kafka/types.ts'
import { commonFaults, commonVariables, integer, loadConfig, loadConfigOrExit } from '../shared/service/config.ts'
import { within } from '../shared/service/retry.ts'
import { loadTenants, type Tenants } from './tenants.ts'

/** Longer than brokers take to elect a controller; a job runner tries again. */
const TIMEOUT_MS = 120_000

const variables = Type.Object({
  ...commonVariables,
  TENANTS_FILE: Type.String({ description: 'The JSON file of tenants and their streams.' }),
  TOPIC_PARTITIONS: integer(6, 1, 10_000, 'Partitions of a new topic.'),
  TOPIC_REPLICATION: integer(-1, -1, 100, 'Replicas of a new topic; -1 leaves it to the brokers.'),
})

/** @returns the number of streams @throws naming every stream whose topics do not all exist */
export async function createTopics(
  tenants: Tenants,
  admin: Pick<TopicAdmin, 'ensureGroups'>,
  options: { partitions: number; replication: number },
): Promise<number> {
  const streams = tenants.list.flatMap(({ name, streams }) => [...streams].map((stream) => streamTopics(name, stream)))
  const faults = (await admin.ensureGroups(streams, options)).filter((fault) => fault !== undefined)
  if (faults.length > 0) throw new Error(faults.join('\n'))
  return streams.length
}

if (import.meta.main) {
  // Imported here, so that a test needs no addon.
  const { createTopicAdmin } = await import('../shared/kafka/admin.ts')
  const { createLogger } = await import('../shared/service/logger.ts')
  const config = loadConfigOrExit((env) => loadConfig(variables, env, commonFaults))
  const log = createLogger('topics', config)
  const tenants = loadConfigOrExit(() => loadTenants(config.TENANTS_FILE))
  const admin = createTopicAdmin({ config, clientId: 'kafkatrace-topics', log })
  const options = { partitions: config.TOPIC_PARTITIONS, replication: config.TOPIC_REPLICATION }
  let exitCode = 0
  try {
    const created = createTopics(tenants, admin, options)
    const streams = await within(TIMEOUT_MS, created, 'no answer from Kafka')
    log.info({ streams }, 'all topics exist')
  } catch (error) {
    log.error({ err: error }, 'some topics are missing')
    exitCode = 1
  }
  await admin.close()
  log.flush(() => process.exit(exitCode))
}
