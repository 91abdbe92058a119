/**
 * Reads open transactions of partitions and writes their markers from outside, so that tests can make every kind of half-done
 * transaction. Both requests are flexible in all versions that Apache Kafka 4 supports (https://kafka.apache.org/protocol).
 */
import { Encoder, request } from './wire-codec.ts'

const writeTxnMarkersApi = { key: 27, version: 1 }
const describeProducersApi = { key: 61, version: 0 }
const none = -1

/** A transaction that is open in a partition: it has begun and has no marker there. */
export interface OpenTransaction {
  readonly partition: number
  readonly producerId: number
  readonly producerEpoch: number
  /** Epoch of the coordinator that wrote this producer's last marker there; -1 for none. */
  readonly coordinatorEpoch: number
  /** The offset of its first record. */
  readonly offset: number
}

/** Open transactions in a topic's partitions. Ask their leader. */
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
 * Ends a producer's transaction in these partitions only, as its coordinator would. Ask their leader. It must grant ClusterAction, as
 * a broker without an authorizer does.
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
