/** librdkafka's mock cluster with its controls, so that tests can stop, slow or break brokers. The addon's client does not expose them. */
import { CString, dlopen, FFIType, ptr } from 'bun:ffi'
import { join } from 'node:path'
import { native } from '../kafka/client.ts'
import { ADDON_FILE, INSTALLED } from '../kafka/native/check.ts'

/** API keys of requests. */
export const API = { Produce: 0, ListOffsets: 2, TxnOffsetCommit: 28 } as const

export interface ControlledMock {
  /** `host:port` of every broker. Broker IDs start at 1. */
  brokers: string
  /** Closes the broker's connections and refuses new ones. */
  setDown(broker: number): void
  setUp(broker: number): void
  /** Delays the broker's responses from now on. Longer than all time-outs, it behaves like a frozen process. */
  setRoundTrip(broker: number, ms: number): void
  /** Removes the broker from the cluster and its metadata, as an operator would. */
  decommission(broker: number): void
  /** Creates a topic with one partition. */
  createTopic(topic: string, leader: number): void
  setCoordinator(of: 'group' | 'transaction', key: string, broker: number): void
  /** The next requests of this kind get these error codes. */
  pushErrors(api: number, codes: readonly number[]): void
  close(): void
}

const { ptr: pointer, i32, i16, u64, cstring } = FFIType
const PRODUCER = 0
const ERROR_BYTES = 256

const text = (value: string): Buffer => Buffer.from(`${value}\0`)

export function startControlledMock(brokerCount: number): ControlledMock {
  // Loads the addon before its symbols are looked up.
  native()
  const { symbols: kafka } = dlopen(join(INSTALLED, ADDON_FILE), {
    rd_kafka_conf_new: { args: [], returns: pointer },
    rd_kafka_conf_set: { args: [pointer, pointer, pointer, pointer, u64], returns: i32 },
    rd_kafka_new: { args: [i32, pointer, pointer, u64], returns: pointer },
    rd_kafka_destroy: { args: [pointer], returns: FFIType.void },
    rd_kafka_mock_cluster_new: { args: [pointer, i32], returns: pointer },
    rd_kafka_mock_cluster_destroy: { args: [pointer], returns: FFIType.void },
    rd_kafka_mock_cluster_bootstraps: { args: [pointer], returns: cstring },
    rd_kafka_mock_broker_set_down: { args: [pointer, i32], returns: i32 },
    rd_kafka_mock_broker_set_up: { args: [pointer, i32], returns: i32 },
    rd_kafka_mock_broker_set_rtt: { args: [pointer, i32, i32], returns: i32 },
    rd_kafka_mock_broker_decommission: { args: [pointer, i32], returns: i32 },
    rd_kafka_mock_topic_create: { args: [pointer, pointer, i32, i32], returns: i32 },
    rd_kafka_mock_partition_set_leader: { args: [pointer, pointer, i32, i32], returns: i32 },
    rd_kafka_mock_coordinator_set: { args: [pointer, pointer, pointer, i32], returns: i32 },
    rd_kafka_mock_push_request_errors_array: { args: [pointer, i16, u64, pointer], returns: FFIType.void },
    rd_kafka_mock_group_initial_rebalance_delay_ms: { args: [pointer, i32], returns: FFIType.void },
  })
  const fault = Buffer.alloc(ERROR_BYTES)
  const settings = kafka.rd_kafka_conf_new()
  kafka.rd_kafka_conf_set(settings, ptr(text('log_level')), ptr(text('3')), ptr(fault), BigInt(fault.length))
  const owner = kafka.rd_kafka_new(PRODUCER, settings, ptr(fault), BigInt(fault.length))
  if (owner === null) throw new Error(`no mock cluster: ${new CString(ptr(fault))}`)
  const cluster = kafka.rd_kafka_mock_cluster_new(owner, brokerCount)
  kafka.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0)
  const must = (code: number): void => {
    if (code !== 0) throw new Error(`the mock cluster refused: ${code}`)
  }
  return {
    brokers: String(kafka.rd_kafka_mock_cluster_bootstraps(cluster)),
    setDown: (broker) => must(kafka.rd_kafka_mock_broker_set_down(cluster, broker)),
    setUp: (broker) => must(kafka.rd_kafka_mock_broker_set_up(cluster, broker)),
    setRoundTrip: (broker, ms) => must(kafka.rd_kafka_mock_broker_set_rtt(cluster, broker, ms)),
    decommission: (broker) => must(kafka.rd_kafka_mock_broker_decommission(cluster, broker)),
    createTopic(topic, leader) {
      must(kafka.rd_kafka_mock_topic_create(cluster, ptr(text(topic)), 1, 1))
      must(kafka.rd_kafka_mock_partition_set_leader(cluster, ptr(text(topic)), 0, leader))
    },
    setCoordinator: (of, key, broker) =>
      must(kafka.rd_kafka_mock_coordinator_set(cluster, ptr(text(of)), ptr(text(key)), broker)),
    pushErrors: (api, codes) =>
      kafka.rd_kafka_mock_push_request_errors_array(cluster, api, BigInt(codes.length), ptr(Int32Array.from(codes))),
    close() {
      kafka.rd_kafka_mock_cluster_destroy(cluster)
      kafka.rd_kafka_destroy(owner)
    },
  }
}
