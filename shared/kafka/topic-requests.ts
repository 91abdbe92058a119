import { type AddonAnswer, nativeOf } from './addon.ts'
import { addon, answerOf, CODE, type Producer } from './client.ts'
import { NOT_THERE, type TopicSettings } from './types.ts'

/** Requests about many topics at a time: native/shim/topics.cc. */

/** A broker's answer to the creation of a topic; `code` is 0 when it was created. */
export type Created = Pick<AddonAnswer, 'topic' | 'code' | 'message'>

/** What the cluster says about a topic. */
export interface Described {
  topic: string
  /** 0: it does not exist, or this client may not see it. */
  partitions: number
  /** Why it cannot be written to; undefined when no reason is known. */
  fault: string | undefined
  /** Whether this client may write to it; undefined when the broker does not say. */
  writable: boolean | undefined
}

/**
 * Creates topics in one request.
 * @param of.replication -1 leaves it to the broker
 * @param of.settings those that are not the brokers' defaults
 * @throws LibrdKafkaError when the request as a whole fails
 */
export const createTopics = (
  producer: Producer,
  topics: readonly string[],
  of: { partitions: number; replication: number; settings?: Readonly<Record<string, string>>; timeoutMs: number },
): Promise<Created[]> =>
  answerOf((done) =>
    addon().topics.create(
      nativeOf(producer),
      topics,
      of.partitions,
      of.replication,
      Object.entries(of.settings ?? {}).flat(),
      of.timeoutMs,
      done,
    ),
  )

/**
 * Describes topics in one request, which never creates one.
 * @throws LibrdKafkaError when the request as a whole fails
 */
export async function describeTopics(
  producer: Producer,
  topics: readonly string[],
  timeoutMs: number,
): Promise<Described[]> {
  const answers = await answerOf<AddonAnswer[]>((done) =>
    addon().topics.describe(nativeOf(producer), topics, timeoutMs, done),
  )
  return answers.map((answer) => ({
    topic: answer.topic,
    partitions: answer.partitions,
    fault: faultOf(answer),
    writable: answer.writable === -1 ? undefined : answer.writable === 1,
  }))
}

function faultOf({ topic, code, message, writable }: AddonAnswer): string | undefined {
  if (code === CODE.TOPIC_AUTHORIZATION_FAILED || (code === 0 && writable === 0)) return NOT_AUTHORIZED(topic)
  if (code === CODE.UNKNOWN_TOPIC_OR_PART) return NOT_THERE(topic)
  return code === 0 ? undefined : `${topic}: ${message}`
}

/**
 * Asks the leaders of all partitions whether they have them. A broker knows of a topic before it has created its files, which takes seconds for
 * thousands of partitions.
 * @returns the topics that have no partition on a broker yet
 * @throws LibrdKafkaError when the request as a whole fails
 */
export async function unmadeTopics(
  producer: Producer,
  topics: readonly { topic: string; partitions: number }[],
  timeoutMs: number,
): Promise<string[]> {
  const names = topics.map(({ topic }) => topic)
  const counts = topics.map(({ partitions }) => partitions)
  const answers = await answerOf<AddonAnswer[]>((done) =>
    addon().topics.ends(nativeOf(producer), names, counts, timeoutMs, done),
  )
  return answers.filter(({ code }) => code !== 0).map(({ topic }) => topic)
}

/**
 * Reads the settings of topics that decide which records they accept. Needs DESCRIBE_CONFIGS on each.
 * @returns by topic, without those whose settings cannot be read
 * @throws LibrdKafkaError when the request as a whole fails
 */
export async function topicSettings(
  producer: Producer,
  topics: readonly string[],
  timeoutMs: number,
): Promise<Map<string, TopicSettings>> {
  const answers = await answerOf<AddonAnswer[]>((done) =>
    addon().topics.configs(nativeOf(producer), topics, false, timeoutMs, done),
  )
  const settings = new Map<string, TopicSettings>()
  for (const { topic, code, maxMessageBytes, cleanupPolicy } of answers)
    if (code === 0)
      settings.set(topic, {
        maxMessageBytes: maxMessageBytes === '' ? undefined : Number(maxMessageBytes),
        isCompacted: cleanupPolicy.split(',').some((policy) => policy.trim() === 'compact'),
      })
  return settings
}

/**
 * The settings that were set for topics themselves; the others are the brokers'. Needs DESCRIBE_CONFIGS on each.
 * @returns by topic, without those whose settings cannot be read
 * @throws LibrdKafkaError when the request as a whole fails
 */
export async function ownSettings(
  producer: Producer,
  topics: readonly string[],
  timeoutMs: number,
): Promise<Map<string, Record<string, string>>> {
  const answers = await answerOf<AddonAnswer[]>((done) =>
    addon().topics.configs(nativeOf(producer), topics, true, timeoutMs, done),
  )
  return new Map(
    answers.flatMap(({ topic, code, settings }) =>
      code === 0
        ? [
            [
              topic,
              Object.fromEntries(
                settings.flatMap((text, at) => (at % 2 === 0 ? [[text, settings[at + 1] ?? '']] : [])),
              ),
            ],
          ]
        : [],
    ),
  )
}

export const NOT_AUTHORIZED = (topic: string): string =>
  `not authorized to write to ${topic}: it takes an ACL that allows WRITE`
