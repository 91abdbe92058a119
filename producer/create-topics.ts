/** Creates the topics of all streams, and the console’s, `bun run create-topics`: for a job that runs before the services, so that they need no right to create topics. */
import { Type } from '@sinclair/typebox'
import { ACTS_SETTINGS, actsTopic, CONTROL_SETTINGS, CONTROL_TOPIC, streamTopics } from '../shared/events/topics.ts'
import { loadTenants, type Tenants } from '../shared/http/tenants.ts'
import { type TopicAdmin, UnreachableError } from '../shared/kafka/types.ts'
import { EXIT_UNAVAILABLE, parseCommandLine } from '../shared/service/command-line.ts'
import { commonFaults, commonVariables, integer, loadConfig, loadConfigOrExit } from '../shared/service/config.ts'

/** How long no broker may answer. */
const CONNECT_TIMEOUT_MS = 60_000

const HELP = `Creates the topics of all streams, and those of the console, that are missing: bun run create-topics

  --if-reachable   end with 0 when no broker answers, and say so
  --help           this text

Variables: KAFKA_BROKERS and the other KAFKA_ ones, TENANTS_FILE, TOPIC_PARTITIONS, TOPIC_REPLICATION, LOG_LEVEL, LOG_FORMAT. Topics that exist are not
changed; the log warns of those that have fewer partitions than TOPIC_PARTITIONS.

Exit code: 0; 1 when topics are missing, which the log names; 64 for wrong arguments; 69 when no broker answers within ${CONNECT_TIMEOUT_MS / 1_000} s, and 0 with --if-reachable; 78 for wrong variables.
`

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
  const { replication } = options
  const acts = streams.map(([input = '']) => [actsTopic(input)])
  const faults = [
    ...(await admin.ensureGroups(streams, options)),
    // Of the console, whose topics have one partition each.
    ...(await admin.ensureGroups(acts, { partitions: 1, replication, settings: ACTS_SETTINGS })),
    ...(await admin.ensureGroups([[CONTROL_TOPIC]], { partitions: 1, replication, settings: CONTROL_SETTINGS })),
  ].filter((fault) => fault !== undefined)
  if (faults.length > 0) throw new Error(faults.join('\n'))
  return streams.length
}

export function exitCodeOf(error: unknown, ifReachable: boolean): number {
  if (!(error instanceof UnreachableError)) return 1
  return ifReachable ? 0 : EXIT_UNAVAILABLE
}

if (import.meta.main) {
  const { values } = parseCommandLine(HELP, { options: { 'if-reachable': { type: 'boolean', default: false } } })
  // Imported here, so that a test needs no addon.
  const { createTopicAdmin } = await import('../shared/kafka/admin.ts')
  const { createLogger } = await import('../shared/service/logger.ts')
  const config = loadConfigOrExit((env) => loadConfig(variables, env, commonFaults))
  const log = createLogger('topics', config)
  const tenants = loadConfigOrExit(() => loadTenants(config.TENANTS_FILE))
  const admin = createTopicAdmin({
    config,
    clientId: 'kafkatrace-topics',
    log,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
  })
  const options = { partitions: config.TOPIC_PARTITIONS, replication: config.TOPIC_REPLICATION }
  let exitCode = 0
  try {
    log.info({ count: await createTopics(tenants, admin, options) }, 'all topics exist')
  } catch (error) {
    exitCode = exitCodeOf(error, values['if-reachable'])
    if (exitCode === 0) log.warn({ err: error }, 'topics were not looked at')
    else log.error({ err: error }, 'some topics are missing')
  }
  await admin.close()
  log.flush(() => process.exit(exitCode))
}
