import pino from 'pino'
import { loadConsumerConfig } from '../../consumer/config.ts'
import { type KafkaCluster, partitionsByDefault } from '../../shared/dev/brokers/kafka.ts'
import { listOffsets } from '../../shared/dev/brokers/wire-admin.ts'
import { native, promised } from '../../shared/kafka/client.ts'
import { createRangeReader, readAll } from '../../shared/kafka/range-reader.ts'

/** Reads, and falsifies, the broker's transaction state from outside. */

const STATE_TOPIC = '__transaction_state'
/** Kafka allows a client with this ID to write to internal topics. */
const ADMIN_CLIENT_ID = '__admin_client'
const CALL_TIMEOUT_MS = 10_000
const RETRY_PAUSE_MS = 100

/** Positions of the producer epoch and the transaction state in a record's value (TransactionLogValue.json of Apache Kafka). */
const EPOCH_OFFSET = 10
const STATUS_OFFSET = 16
const STATUS = { commit: 4, abort: 5 } as const

/** Partitions of a topic with an open transaction: their last stable offset is below their end. */
export async function openPartitions(kafka: KafkaCluster, topic: string, partitions: number): Promise<number[]> {
  const isOpen = async (partition: number): Promise<boolean> => {
    const leader = kafka.address(await kafka.leaderOf(topic, partition))
    const endOf = (seen: 'read committed' | 'read uncommitted') =>
      listOffsets(leader, CALL_TIMEOUT_MS, topic, [partition], 'end', seen)
    // The stable offset first: a record written between the two requests only makes the partition look more open.
    const [stable] = await endOf('read committed')
    const [end] = await endOf('read uncommitted')
    return stable !== end
  }
  // A broker that has just come back answers before it leads its partitions.
  const deadline = performance.now() + CALL_TIMEOUT_MS
  for (;;) {
    try {
      const open = await Promise.all(Array.from({ length: partitions }, (_, partition) => isOpen(partition)))
      return open.flatMap((is, partition) => (is ? [partition] : []))
    } catch (error) {
      if (performance.now() > deadline) throw error
      await Bun.sleep(RETRY_PAUSE_MS)
    }
  }
}

/**
 * Makes the next coordinator of an ID, once the current one is killed, treat the ID's open transaction as complete without ever ending
 * it: all in-sync replicas have that state in their log. Apache Kafka 4.3.1 sometimes does this by itself when it restarts as the only
 * broker.
 * @returns false when no transaction of the ID's current epoch has completed, so there is no state to write
 */
export async function forgetOpenTransaction(
  brokers: string,
  transactionalId: string,
  end: 'commit' | 'abort',
): Promise<boolean> {
  const reader = createRangeReader({
    config: loadConsumerConfig({ KAFKA_BROKERS: brokers }),
    clientId: 'transaction-state',
    log: pino({ level: 'silent' }),
  })
  let last: { partition: number; key: Buffer; value: Buffer } | undefined
  try {
    const partitions = Array.from({ length: partitionsByDefault }, (_, partition) => ({
      topic: STATE_TOPIC,
      partition,
    }))
    await readAll(reader, partitions, ({ partition, key, value }) => {
      if (key === null || value === null || !key.toString().endsWith(transactionalId)) return
      // With an older epoch in the coordinator, nobody could end the transaction.
      if (last?.value.readInt16BE(EPOCH_OFFSET) !== value.readInt16BE(EPOCH_OFFSET)) last = undefined
      if (value[STATUS_OFFSET] === STATUS.commit || value[STATUS_OFFSET] === STATUS.abort)
        last = { partition, key: Buffer.from(key), value: Buffer.from(value) }
    })
  } finally {
    await reader.close()
  }
  if (last === undefined) return false
  const { partition, key, value } = last
  value[STATUS_OFFSET] = STATUS[end]
  const client = new (native().Producer)({
    'metadata.broker.list': brokers,
    'client.id': ADMIN_CLIENT_ID,
    dr_cb: true,
  })
  await promised((done) => client.connect({ timeout: CALL_TIMEOUT_MS }, (error) => done(error)))
  const stored = new Promise<void>((resolve, reject) => {
    client.on('delivery-report', (error) => (error ? reject(error) : resolve()))
  })
  client.setPollInterval(10)
  client.produce(STATE_TOPIC, partition, value, key)
  await stored
  await promised((done) => client.disconnect(0, (error) => done(error)))
  return true
}

/** Kills the coordinator of an ID's transactions and restarts it. It, or another node, loads the state from the log. */
export async function restartCoordinator(kafka: KafkaCluster, transactionalId: string): Promise<void> {
  const coordinator = await kafka.coordinatorOf('transaction', transactionalId)
  await kafka.kill(coordinator)
  await kafka.restart(coordinator)
}
