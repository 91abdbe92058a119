import { partitionsByDefault } from '../../shared/dev/brokers/kafka.ts'
import {
  type OpenTransaction,
  openTransactions,
  writeTransactionMarks,
} from '../../shared/dev/brokers/wire-transactions.ts'
import { until } from '../../shared/testing/until.ts'
import { kind, SOMETIMES } from './kinds.ts'
import { type Kind, PLAIN } from './load.ts'
import { type Fault, GROUP, PARTITIONS, type Stage } from './stage.ts'
import { addPartitions } from './topic-faults.ts'
import { forgetOpenTransaction, restartCoordinator } from './transaction-state.ts'

/**
 * Transactions that their coordinator considers complete although markers are missing: a single broker that restarts sometimes does that.
 * The rounds leave out markers in chosen places and write all others.
 */

/** What a transaction writes to: output topics, and offsets. */
type Role = 'offsets' | 'processed' | 'retry' | 'dlq'

interface Place extends OpenTransaction {
  role: Role
  topic: string
}

interface Round {
  what: string
  /** The state of the transaction at the coordinator. */
  end: 'commit' | 'abort'
  /** Whether the transaction lacks its marker in a place. */
  left(place: Place, all: readonly Place[]): boolean
  /** What the transaction must contain. */
  needs?(all: readonly Place[]): boolean
  /** The kind of its events; plain by default. */
  kinds?: readonly [Kind, ...Kind[]]
  /** The stream gets more partitions before the consumer continues. In the last round only, since the others expect the first ones. */
  grows?: true
  /** Another consumer continues, not the owner of the transaction. */
  successor?: true
}

const isOffsets = ({ role }: Place): boolean => role === 'offsets'
const isOutput = ({ role }: Place): boolean => role !== 'offsets'
const anywhere = (): boolean => true
const has =
  (role: Role) =>
  (all: readonly Place[]): boolean =>
    all.some((place) => place.role === role)
/** Some partitions are restored before those of the transaction. */
const isOfSomePartitions = (all: readonly Place[]): boolean =>
  new Set(all.filter(isOutput).map(({ partition }) => partition)).size < PARTITIONS

const MANY_PLAIN = { ...PLAIN, weight: 20 }
const RETRIED = [MANY_PLAIN, SOMETIMES] as const
const DEAD = [MANY_PLAIN, kind('hopeless', 'dead', 1, () => ({ failures: 0, workMs: 0 }))] as const

const ROUNDS: readonly [Round, Round, Round, ...Round[]] = [
  { what: 'abort, forgotten for offsets', end: 'abort', left: isOffsets, needs: isOfSomePartitions },
  { what: 'commit, forgotten for outcomes', end: 'commit', left: isOutput },
  { what: 'abort, forgotten everywhere', end: 'abort', left: anywhere, needs: isOfSomePartitions },
  { what: 'abort, forgotten for outcomes', end: 'abort', left: isOutput },
  { what: 'commit, forgotten for offsets', end: 'commit', left: isOffsets, needs: isOfSomePartitions },
  { what: 'commit, forgotten everywhere', end: 'commit', left: anywhere, needs: isOfSomePartitions },
  {
    what: 'commit, forgotten in one partition',
    end: 'commit',
    left: (place, all) => place === all.find(isOutput),
    needs: (all) => all.filter(isOutput).length > 1,
  },
  {
    what: 'commit, forgotten in .retry',
    end: 'commit',
    left: ({ role }) => role === 'retry',
    needs: has('retry'),
    kinds: RETRIED,
  },
  {
    what: 'abort, forgotten in .retry and for offsets',
    end: 'abort',
    left: ({ role }) => role === 'retry' || role === 'offsets',
    needs: has('retry'),
    kinds: RETRIED,
  },
  {
    what: 'commit, forgotten in .dlq',
    end: 'commit',
    left: ({ role }) => role === 'dlq',
    needs: has('dlq'),
    kinds: DEAD,
  },
  {
    what: 'abort, forgotten for offsets, for a successor',
    end: 'abort',
    left: isOffsets,
    needs: isOfSomePartitions,
    successor: true,
  },
  { what: 'commit, forgotten for outcomes, for a successor', end: 'commit', left: isOutput, successor: true },
  { what: 'abort, forgotten for outcomes, for a successor', end: 'abort', left: isOutput, successor: true },
  { what: 'commit, forgotten everywhere, with new partitions', end: 'commit', left: anywhere, grows: true },
]

const TIMEOUT_MS = 10_000
/** Three nodes that have just started on a busy machine need time for themselves. */
const NEXT_END_TIMEOUT_MS = 60_000
/** How many transactions to try for one with the required content. */
const MAX_TRIES = 200

export const HALF_DONE_FAULT: Fault = {
  name: 'half-done',
  what: 'the coordinator restarts and counts a transaction of the consumer as complete that it has not ended, or not everywhere',
  proxy: true,
  // The coordinator must not abort it before it is made to forget it, and sessions play no part in this fault.
  env: { consumer: { TRANSACTION_TIMEOUT_MS: '60000', SESSION_TIMEOUT_MS: '4000' } },
  async play(stage) {
    const [first, second, ...others] = ROUNDS
    const rounds = stage.short ? [first, second, stage.random.pick(others)] : ROUNDS
    for (const round of rounds) await playRound(stage, round)
  },
}

async function playRound(stage: Stage, round: Round): Promise<void> {
  const { what, end, kinds = [PLAIN], grows = false, successor = false } = round
  const { consumer } = stage
  const kafka = stage.kafka()
  const load = stage.load({ eventsPerSecond: 100, kinds })
  await stage.pause(500, 1_500)
  const { places, release } = await holdTransaction(stage, round)
  const left = places.filter((place) => round.left(place, places))
  try {
    for (const place of places)
      if (!left.includes(place))
        await writeTransactionMarks(await leaderOf(stage, place), TIMEOUT_MS, place, end, place.topic, [
          place.partition,
        ])
    await consumer.kill()
    await restartCoordinator(kafka, transactionalIdOf(stage))
  } finally {
    release()
  }
  stage.did(what)
  const found = await openPlaces(stage)
  if (namesOf(found) !== namesOf(left) || left.length === 0)
    stage.wrong(`${what}: without a mark are ${namesOf(found)}, not ${namesOf(left)}: the round has tested nothing`)
  if (grows) await addPartitions(stage, PARTITIONS, PARTITIONS + 2)
  const next = successor ? await stage.addConsumer() : consumer
  next.start()
  await stage.recovered(what, 'session')
  await next.ready()
  await load.stop()
  await stage.judgeSoFar()
  await kafka.inSync()
  if (!successor) return
  await next.terminate()
  consumer.start()
  await consumer.ready()
}

/**
 * A transaction that is complete except for EndTxn, which is held back until released. Once its coordinator is killed, the next one considers it
 * complete.
 */
async function holdTransaction(
  stage: Stage,
  { what, end, needs = anywhere }: Round,
): Promise<{ places: Place[]; release(): void }> {
  const client = `kafkatrace-consumer-${stage.consumer.name}-transactions`
  for (let tries = 1; tries <= MAX_TRIES; tries++) {
    const held = stage.proxy().interfere('request', { api: 'EndTxn', client }, 'hold')
    const release = () => held.end()
    try {
      await until(() => held.met > 0, { timeoutMs: NEXT_END_TIMEOUT_MS, what: 'a transaction to end' })
      const places = await openPlaces(stage)
      const isWanted = places.some(isOffsets) && places.some(isOutput) && needs(places)
      if (isWanted && (await forgetOpenTransaction(stage.kafka().bootstrapServers, transactionalIdOf(stage), end)))
        return { places, release }
    } catch (error) {
      release()
      throw error
    }
    release()
  }
  throw new Error(`${what}: of ${MAX_TRIES} transactions none has what is needed`)
}

async function openPlaces(stage: Stage): Promise<Place[]> {
  const { topic } = stage
  const topics: readonly (readonly [Role, string, number])[] = [
    ['offsets', '__consumer_offsets', partitionsByDefault],
    ['processed', `${topic}.processed`, PARTITIONS],
    ['retry', `${topic}.retry`, PARTITIONS],
    ['dlq', `${topic}.dlq`, PARTITIONS],
  ]
  const all = topics.flatMap(([role, name, count]) =>
    Array.from({ length: count }, (_, partition) => ({ role, topic: name, partition })),
  )
  const look = () =>
    Promise.all(
      all.map(async (at) => {
        const open = await openTransactions(await leaderOf(stage, at), TIMEOUT_MS, at.topic, [at.partition])
        return open.map((one): Place => ({ ...one, ...at }))
      }),
    )
  let found: Place[][] = []
  // A broker that has just come back answers before it leads its partitions.
  await until(
    async () => {
      found = await look().catch(() => [])
      return found.length > 0
    },
    { timeoutMs: TIMEOUT_MS, what: 'open transactions to be known' },
  )
  return found.flat()
}

const transactionalIdOf = ({ consumer }: Stage): string => `${GROUP}-${consumer.name}`

async function leaderOf(stage: Stage, { topic, partition }: Pick<Place, 'topic' | 'partition'>): Promise<string> {
  const kafka = stage.kafka()
  return kafka.address(await kafka.leaderOf(topic, partition))
}

const namesOf = (places: readonly Place[]): string =>
  places
    .map(({ topic, partition }) => `${topic}/${partition}`)
    .sort()
    .join(', ') || 'none'
