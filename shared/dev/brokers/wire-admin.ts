/**
 * Administration requests for tests: coordinators, offsets, topics, settings, ACLs and SCRAM users, while services are running. Versions are those that
 * Apache Kafka 4 supports (https://kafka.apache.org/protocol), and non-flexible where there is one.
 */
import { pbkdf2Sync, randomBytes } from 'node:crypto'
import { type Api, type Decoder, Encoder, request } from './wire-codec.ts'

const listOffsetsApi = { key: 2, version: 2 }
const offsetCommitApi = { key: 8, version: 2 }
const offsetFetchApi = { key: 9, version: 3 }
const findCoordinatorApi = { key: 10, version: 2 }
const deleteTopicsApi = { key: 20, version: 3 }
const deleteRecordsApi = { key: 21, version: 1 }
const createAclsApi = { key: 30, version: 1 }
const deleteAclsApi = { key: 31, version: 1 }
const createPartitionsApi = { key: 37, version: 1 }
const incrementalAlterConfigsApi = { key: 44, version: 0 }
const alterUserScramCredentialsApi = { key: 51, version: 0 }

const coordinatorTypes = { group: 0, transaction: 1 } as const
const timestamps = { end: -1, beginning: -2 } as const
const isolation = { 'read uncommitted': 0, 'read committed': 1 } as const
/** `replica_id` of a client. */
const noReplica = -1
/** Anybody may commit offsets for a group without members. */
const noMember = { generation: -1, member: '' } as const
const brokersRetention = -1

/** The ID of the broker that coordinates a group or a transactional ID. Rejects while there is none. */
export async function findCoordinator(
  address: string,
  timeoutMs: number,
  type: keyof typeof coordinatorTypes,
  id: string,
): Promise<number> {
  const body = new Encoder().string(id).int8(coordinatorTypes[type])
  const response = await request(address, findCoordinatorApi, body, timeoutMs)
  response.int32()
  const error = response.int16()
  const message = response.string()
  if (error !== 0) throw new Error(`the ${type} ${id} has no coordinator: ${message ?? `error ${error}`}`)
  return response.int32()
}

export interface CommittedOffset {
  /** -1 where nothing is committed. */
  readonly offset: number
  readonly metadata: string
}

/** A group's committed offsets of a topic's partitions, in the order of `partitions`. Ask the group's coordinator. */
export async function fetchCommitted(
  address: string,
  timeoutMs: number,
  group: string,
  topic: string,
  partitions: readonly number[],
): Promise<CommittedOffset[]> {
  const body = new Encoder()
    .string(group)
    .array([topic], (topics, name) =>
      topics.string(name).array(partitions, (encoder, partition) => encoder.int32(partition)),
    )
  const response = await request(address, offsetFetchApi, body, timeoutMs)
  response.int32()
  const committed = partitionsOf(response, () => {
    const offset = response.int64()
    const metadata = response.string() ?? ''
    return { error: response.int16(), value: { offset, metadata } }
  })
  const error = response.int16()
  if (error !== 0) throw new Error(`the offsets of the group ${group} cannot be read: error ${error}`)
  return inOrder(topic, partitions, committed)
}

/** Commits offsets, by partition, for a group without members. Ask the group's coordinator. */
export async function commitOffsets(
  address: string,
  timeoutMs: number,
  group: string,
  topic: string,
  offsets: ReadonlyMap<number, number>,
): Promise<void> {
  const body = new Encoder()
    .string(group)
    .int32(noMember.generation)
    .string(noMember.member)
    .int64(brokersRetention)
    .array([topic], (topics, name) =>
      topics
        .string(name)
        .array([...offsets], (encoder, [partition, offset]) => encoder.int32(partition).int64(offset).string('')),
    )
  const response = await request(address, offsetCommitApi, body, timeoutMs)
  const committed = partitionsOf(response, () => ({ error: response.int16(), value: undefined }))
  inOrder(topic, [...offsets.keys()], committed)
}

/**
 * First or end offsets of partitions. Ask their leader.
 * @param seen with read committed, a partition ends at the first open transaction
 */
export async function listOffsets(
  address: string,
  timeoutMs: number,
  topic: string,
  partitions: readonly number[],
  which: keyof typeof timestamps,
  seen: keyof typeof isolation = 'read committed',
): Promise<number[]> {
  const body = new Encoder()
    .int32(noReplica)
    .int8(isolation[seen])
    .array([topic], (topics, name) =>
      topics.string(name).array(partitions, (encoder, partition) => encoder.int32(partition).int64(timestamps[which])),
    )
  const response = await request(address, listOffsetsApi, body, timeoutMs)
  response.int32()
  const offsets = partitionsOf(response, () => {
    const error = response.int16()
    response.int64()
    return { error, value: response.int64() }
  })
  return inOrder(topic, partitions, offsets)
}

/** Increases the number of partitions of topics. Any broker answers. */
export async function createPartitions(
  address: string,
  timeoutMs: number,
  topics: readonly string[],
  count: number,
): Promise<void> {
  const body = new Encoder()
    .array(topics, (encoder, topic) => encoder.string(topic).int32(count).int32(noReplica))
    .int32(timeoutMs)
    .int8(0)
  const response = await request(address, createPartitionsApi, body, timeoutMs)
  response.int32()
  const faults = response
    .array(() => ({ name: response.string(), error: response.int16(), message: response.string() }))
    .filter(({ error }) => error !== 0)
  if (faults.length > 0)
    throw new Error(`partitions were not added: ${faults.map(({ name, message }) => `${name}: ${message}`).join('; ')}`)
}

/** Deletes topics. Any broker answers. */
export async function deleteTopics(address: string, timeoutMs: number, topics: readonly string[]): Promise<void> {
  const body = new Encoder().array(topics, (encoder, topic) => encoder.string(topic)).int32(timeoutMs)
  const response = await request(address, deleteTopicsApi, body, timeoutMs)
  response.int32()
  const faults = response
    .array(() => ({ name: response.string(), error: response.int16() }))
    .filter(({ error }) => error !== 0)
  if (faults.length > 0)
    throw new Error(`topics were not deleted: ${faults.map(({ name, error }) => `${name}: error ${error}`).join('; ')}`)
}

/** Sets a topic's setting, or resets it to the broker's default. Any broker answers. */
export const alterTopic = (
  address: string,
  timeoutMs: number,
  topic: string,
  name: string,
  value: string | undefined,
): Promise<void> => alterConfig(address, timeoutMs, { type: configResources.topic, of: topic }, name, value)

/**
 * Sets a broker's setting while it runs (https://kafka.apache.org/documentation/#dynamicbrokerconfigs). Certificates are read again also when the path is the
 * same as before. Ask this broker.
 */
export const alterBroker = (
  address: string,
  timeoutMs: number,
  id: number,
  name: string,
  value: string,
): Promise<void> => alterConfig(address, timeoutMs, { type: configResources.broker, of: String(id) }, name, value)

async function alterConfig(
  address: string,
  timeoutMs: number,
  resource: { type: number; of: string },
  name: string,
  value: string | undefined,
): Promise<void> {
  const body = new Encoder()
    .array([resource], (resources, { type, of }) =>
      resources
        .int8(type)
        .string(of)
        .array([name], (encoder, setting) =>
          encoder
            .string(setting)
            .int8(value === undefined ? configOperations.delete : configOperations.set)
            .string(value ?? ''),
        ),
    )
    .int8(0)
  const response = await request(address, incrementalAlterConfigsApi, body, timeoutMs)
  response.int32()
  response.array(() => {
    const error = response.int16()
    const message = response.string()
    if (error !== 0) throw new Error(`${name} of ${resource.of} was not changed: ${message ?? `error ${error}`}`)
    response.int8()
    response.string()
  })
}

/** Deletes a partition's records before an offset, as retention does. Ask the partition's leader. */
export async function deleteRecords(
  address: string,
  timeoutMs: number,
  topic: string,
  partition: number,
  beforeOffset: number,
): Promise<void> {
  const body = new Encoder()
    .array([topic], (topics, name) =>
      topics.string(name).array([partition], (encoder, index) => encoder.int32(index).int64(beforeOffset)),
    )
    .int32(timeoutMs)
  const response = await request(address, deleteRecordsApi, body, timeoutMs)
  response.int32()
  const removed = partitionsOf(response, () => {
    const value = response.int64()
    return { error: response.int16(), value }
  })
  inOrder(topic, [partition], removed)
}

/** What a principal may do with resources of a name or prefix. */
export interface Acl {
  /** `User:name`. */
  readonly principal: string
  readonly resource: keyof typeof resourceTypes
  readonly name: string
  readonly pattern: keyof typeof patternTypes
  readonly operation: keyof typeof operations
}

const resourceTypes = { topic: 2, group: 3, cluster: 4, 'transactional id': 5 } as const
const patternTypes = { literal: 3, prefixed: 4 } as const
const configResources = { topic: 2, broker: 4 } as const
const configOperations = { set: 0, delete: 1 } as const
const operations = {
  read: 3,
  write: 4,
  create: 5,
  describe: 8,
  'describe configs': 10,
  'idempotent write': 12,
} as const
const anyHost = '*'
const allow = 3

const encodeAcl = (encoder: Encoder, { principal, resource, name, pattern, operation }: Acl): Encoder =>
  encoder
    .int8(resourceTypes[resource])
    .string(name)
    .int8(patternTypes[pattern])
    .string(principal)
    .string(anyHost)
    .int8(operations[operation])
    .int8(allow)

/** Adds ACLs. Any broker answers. */
export const createAcls = (address: string, timeoutMs: number, acls: readonly Acl[]): Promise<void> =>
  changeAcls(address, createAclsApi, timeoutMs, acls)

/** Deletes exactly these ACLs. Any broker answers. */
export const deleteAcls = (address: string, timeoutMs: number, acls: readonly Acl[]): Promise<void> =>
  changeAcls(address, deleteAclsApi, timeoutMs, acls)

async function changeAcls(address: string, api: Api, timeoutMs: number, acls: readonly Acl[]): Promise<void> {
  const response = await request(address, api, new Encoder().array(acls, encodeAcl), timeoutMs)
  response.int32()
  response.array(() => {
    const error = response.int16()
    const message = response.string()
    if (error !== 0) throw new Error(`permissions were not changed: ${message ?? `error ${error}`}`)
    if (api === deleteAclsApi) response.array(() => skipAcl(response))
  })
}

/** A deleted ACL in the response: its error, then its fields. */
function skipAcl(response: Decoder): void {
  response.int16()
  response.string()
  response.int8()
  response.string()
  response.int8()
  response.string()
  response.string()
  response.int8()
  response.int8()
}

const scramMechanisms = {
  'SCRAM-SHA-256': { id: 1, hash: 'sha256', bytes: 32 },
  'SCRAM-SHA-512': { id: 2, hash: 'sha512', bytes: 64 },
} as const
/** The fewest that Apache Kafka takes. */
const scramIterations = 4_096
const saltBytes = 16

export type ScramMechanism = keyof typeof scramMechanisms

/**
 * Sets the password of users for a SCRAM mechanism (RFC 5802: what is sent is salted), or removes it. Any broker answers.
 * @param passwords by user name; undefined removes
 */
export async function alterScramUsers(
  address: string,
  timeoutMs: number,
  mechanism: ScramMechanism,
  passwords: Readonly<Record<string, string | undefined>>,
): Promise<void> {
  const { id, hash, bytes } = scramMechanisms[mechanism]
  const changes = Object.entries(passwords)
  const body = new Encoder()
    .noTags()
    .compactArray(
      changes.filter(([, password]) => password === undefined),
      (encoder, [user]) => encoder.compactString(user).int8(id).noTags(),
    )
    .compactArray(
      changes.flatMap(([user, password]) => (password === undefined ? [] : [{ user, password }])),
      (encoder, { user, password }) => {
        const salt = randomBytes(saltBytes)
        encoder
          .compactString(user)
          .int8(id)
          .int32(scramIterations)
          .compactBytes(salt)
          .compactBytes(pbkdf2Sync(password, salt, scramIterations, bytes, hash))
          .noTags()
      },
    )
    .noTags()
  const response = await request(address, alterUserScramCredentialsApi, body, timeoutMs)
  response.skipTags()
  response.int32()
  response.compactArray(() => {
    const user = response.compactString()
    const error = response.int16()
    const message = response.compactString()
    response.skipTags()
    if (error !== 0) throw new Error(`the password of ${user} was not changed: ${message ?? `error ${error}`}`)
  })
}

interface OfPartition<Value> {
  partition: number
  error: number
  value: Value
}

/** Partition entries of a response to a request for one topic. */
const partitionsOf = <Value>(response: Decoder, decode: () => { error: number; value: Value }): OfPartition<Value>[] =>
  response
    .array(() => {
      response.string()
      return response.array(() => ({ partition: response.int32(), ...decode() }))
    })
    .flat()

function inOrder<Value>(topic: string, partitions: readonly number[], found: readonly OfPartition<Value>[]): Value[] {
  return partitions.map((partition) => {
    const one = found.find((other) => other.partition === partition)
    if (one === undefined || one.error !== 0)
      throw new Error(`${topic}/${partition}: ${one === undefined ? 'no answer' : `error ${one.error}`}`)
    return one.value
  })
}
