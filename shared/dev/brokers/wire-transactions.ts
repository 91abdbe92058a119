/**
 * What stands open of transactions in partitions, and the marks that end them, looked at and written from outside: every half-done end of a
 * transaction can be made on purpose. Both requests are flexible in all versions that Apache Kafka 4 speaks (https://kafka.apache.org/protocol).
 */
import { Encoder, request } from './wire-codec.ts'

const writeTxnMarkersApi = { key: 27, version: 1 }
const describeProducersApi = { key: 61, version: 0 }
const none = -1

/** A transaction that has begun in a partition and has no mark there. */
export interface OpenTransaction {
  readonly partition: number
  readonly producerId: number
  readonly producerEpoch: number
  /** Of the coordinator that has written the last mark of this producer there; -1 for none. */
  readonly coordinatorEpoch: number
  /** Where its first record stands. */
  readonly offset: number
}

/** Transactions that are open in a topic's partitions. Their leader is to be asked. */
export async function openTransactions(
  address: string,
  timeoutMs: number,
  topic: string,
  partitions: readonly number[],
): Promise<OpenTransaction[]> {
  const body = new Encoder()
    .noTags()
    .compactArray([topic], (topics, name) =>
      topics
        .compactString(name)
        .compactArray(partitions, (encoder, partition) => encoder.int32(partition))
        .noTags(),
    )
    .noTags()
  const response = await request(address, describeProducersApi, body, timeoutMs)
  response.skipTags()
  response.int32()
  const topics = response.compactArray(() => {
    response.compactString()
    const found = response.compactArray(() => {
      const partition = response.int32()
      const error = response.int16()
      const message = response.compactString()
      const producers = response.compactArray(() => {
        const producerId = response.int64()
        const producerEpoch = response.int32()
        response.int32()
        response.int64()
        const coordinatorEpoch = response.int32()
        const offset = response.int64()
        response.skipTags()
        return { partition, producerId, producerEpoch, coordinatorEpoch, offset }
      })
      response.skipTags()
      if (error !== 0) throw new Error(`${topic}/${partition}: ${message ?? `error ${error}`}`)
      return producers
    })
    response.skipTags()
    return found.flat()
  })
  return topics.flat().filter(({ offset }) => offset !== none)
}

/**
 * Ends a producer's transaction in these partitions, and only there, as the broker that coordinates it would. Their leader is to be asked, and
 * must grant cluster actions, as a broker without an authorizer does.
 */
export async function writeTransactionMarks(
  address: string,
  timeoutMs: number,
  { producerId, producerEpoch, coordinatorEpoch }: Omit<OpenTransaction, 'partition' | 'offset'>,
  end: 'commit' | 'abort',
  topic: string,
  partitions: readonly number[],
): Promise<void> {
  const body = new Encoder()
    .noTags()
    .compactArray([end], (markers) =>
      markers
        .int64(producerId)
        .int16(producerEpoch)
        .int8(end === 'commit' ? 1 : 0)
        .compactArray([topic], (topics, name) =>
          topics
            .compactString(name)
            .compactArray(partitions, (encoder, partition) => encoder.int32(partition))
            .noTags(),
        )
        .int32(Math.max(0, coordinatorEpoch))
        .noTags(),
    )
    .noTags()
  const response = await request(address, writeTxnMarkersApi, body, timeoutMs)
  response.skipTags()
  response.compactArray(() => {
    response.int64()
    response.compactArray(() => {
      response.compactString()
      response.compactArray(() => {
        const partition = response.int32()
        const error = response.int16()
        response.skipTags()
        if (error !== 0) throw new Error(`${topic}/${partition}: the mark was refused with error ${error}`)
      })
      response.skipTags()
    })
    response.skipTags()
  })
}
