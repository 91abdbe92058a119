import pino from 'pino'
import { loadConsumerConfig } from '../../consumer/config.ts'
import { type KafkaCluster, partitionsByDefault } from '../../shared/dev/brokers/kafka.ts'
import { listOffsets } from '../../shared/dev/brokers/wire-admin.ts'
import { native, promised } from '../../shared/kafka/client.ts'
import { createRangeReader, readAll } from '../../shared/kafka/range-reader.ts'

/** What the broker remembers of transactions, looked at and falsified from outside. */

const STATE_TOPIC = '__transaction_state'
/** Kafka lets this client write to internal topics. */
const ADMIN_CLIENT_ID = '__admin_client'
const CALL_TIMEOUT_MS = 10_000
const RETRY_PAUSE_MS = 100

/** Where the value of a record of the topic has its producer's epoch, and the transaction's state (TransactionLogValue.json of Apache Kafka). */
const EPOCH_OFFSET = 10
const STATUS_OFFSET = 16
const STATUS = { commit: 4, abort: 5 } as const

/** Partitions of a topic in which a transaction is open: to readers of committed records they end before the last record. */
export async function openPartitions(kafka: KafkaCluster, topic: string, partitions: number): Promise<number[]> {
  const isOpen = async (partition: number): Promise<boolean> => {
    const leader = kafka.address(await kafka.leaderOf(topic, partition))
    const endOf = (seen: 'read committed' | 'read uncommitted') =>
      listOffsets(leader, CALL_TIMEOUT_MS, topic, [partition], 'end', seen)
    // The stable end first: what is written between the two questions only makes it look more open.
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
 * Makes the next coordinator of an id, once the present one is killed, count the transaction that the id has open as complete without ever ending
 * it: all in-sync replicas have it so in their log. That is what Apache Kafka 4.3.1 does by itself now and then when it restarts and has no other
 * broker beside it.
 * @returns false when no transaction of the id's present epoch has ended: there is nothing to make it believe
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
      // Nobody could end a transaction whose coordinator had gone back to an epoch before its own.
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

/** Kills the coordinator of an id's transactions and starts it again. What it knew, it or another node reads in the log. */
export async function restartCoordinator(kafka: KafkaCluster, transactionalId: string): Promise<void> {
  const coordinator = await kafka.coordinatorOf('transaction', transactionalId)
  await kafka.kill(coordinator)
  await kafka.restart(coordinator)
}
