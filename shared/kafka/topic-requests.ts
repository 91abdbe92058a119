import { type AddonAnswer, nativeOf } from './addon.ts'
import { CODE, libraryError, type Producer, promised, topicRequests } from './client.ts'
import type { TopicSettings } from './types.ts'

/** Requests about many topics at a time: native/shim/topics.cc. */

/** What the broker says of a topic that was to be created; code 0: it was. */
export type Created = Pick<AddonAnswer, 'topic' | 'code' | 'message'>

/** What the broker says of a topic. */
export interface Described {
  topic: string
  /** How many; 0: it is not there, or it is not ours to know. */
  partitions: number
  /** Why it cannot be written to; undefined when nothing is known against it. */
  fault: string | undefined
  /** Whether this client may write to it; undefined where the broker does not say. */
  writable: boolean | undefined
}

/**
 * Asks for topics to be created, all in one request.
 * @param replication -1 leaves it to the broker
 * @throws LibrdKafkaError when the request as a whole fails
 */
export async function createTopics(
  producer: Producer,
  topics: readonly string[],
  options: { partitions: number; replication: number; timeoutMs: number },
): Promise<Created[]> {
  const { partitions, replication, timeoutMs } = options
  return promised<Created[]>((done) =>
    topicRequests().create(nativeOf(producer), topics, partitions, replication, timeoutMs, (fault, answers) =>
      done(fault === null ? null : libraryError(fault), answers),
    ),
  )
}

/**
 * Asks what the cluster knows of topics, all in one request. Never creates one, whatever the brokers do on demand.
 * @throws LibrdKafkaError when the request as a whole fails
 */
export async function describeTopics(
  producer: Producer,
  topics: readonly string[],
  timeoutMs: number,
): Promise<Described[]> {
  const answers = await promised<AddonAnswer[]>((done) =>
    topicRequests().describe(nativeOf(producer), topics, timeoutMs, (fault, found) =>
      done(fault === null ? null : libraryError(fault), found),
    ),
  )
  return answers.map(({ topic, code, message, partitions, writable }) => ({
    topic,
    partitions,
    fault:
      code === CODE.TOPIC_AUTHORIZATION_FAILED
        ? NOT_AUTHORIZED(topic)
        : code === CODE.UNKNOWN_TOPIC_OR_PART
          ? `the topic ${topic} is not there (yet)`
          : code !== 0
            ? `${topic}: ${message}`
            : writable === 0
              ? NOT_AUTHORIZED(topic)
              : undefined,
    writable: writable === -1 ? undefined : writable === 1,
  }))
}

/**
 * Asks the leaders of all partitions of topics whether they have them: a broker knows of a topic before it has made its files, which takes it seconds
 * for thousands of partitions.
 * @returns the topics of which no partition is there
 * @throws LibrdKafkaError when the request as a whole fails
 */
export async function unmadeTopics(
  producer: Producer,
  topics: readonly { topic: string; partitions: number }[],
  timeoutMs: number,
): Promise<string[]> {
  const names = topics.map(({ topic }) => topic)
  const counts = topics.map(({ partitions }) => partitions)
  const answers = await promised<AddonAnswer[]>((done) =>
    topicRequests().ends(nativeOf(producer), names, counts, timeoutMs, (fault, found) =>
      done(fault === null ? null : libraryError(fault), found),
    ),
  )
  return answers.filter(({ code }) => code !== 0).map(({ topic }) => topic)
}

/**
 * Asks for the settings of topics that decide about a record; it takes the right to DESCRIBE_CONFIGS of each.
 * @returns by topic; a topic whose settings are not to be had is not among them
 * @throws LibrdKafkaError when the request as a whole fails
 */
export async function topicSettings(
  producer: Producer,
  topics: readonly string[],
  timeoutMs: number,
): Promise<Map<string, TopicSettings>> {
  const answers = await promised<AddonAnswer[]>((done) =>
    topicRequests().configs(nativeOf(producer), topics, timeoutMs, (fault, found) =>
      done(fault === null ? null : libraryError(fault), found),
    ),
  )
  return new Map(
    answers.flatMap(({ topic, code, maxMessageBytes, cleanupPolicy }) =>
      code !== 0
        ? []
        : [
            [
              topic,
              {
                maxMessageBytes: maxMessageBytes === '' ? undefined : Number(maxMessageBytes),
                isCompacted: cleanupPolicy.split(',').some((policy) => policy.trim() === 'compact'),
              },
            ] as const,
          ],
    ),
  )
}

/** For who may not write to a topic. */
export const NOT_AUTHORIZED = (topic: string): string =>
  `not authorized to write to ${topic}: it takes an ACL that allows WRITE`
