import { inputTopic, siblingTopic } from '../../shared/events/topics.ts'
import { ProblemError } from '../../shared/http/problem.ts'
import type { TopicPartition } from '../../shared/kafka/types.ts'
import type { RoleOfTopic } from './names.ts'
import type { Readers } from './readers.ts'

/** A stream that a request is about. */
export interface Stream {
  tenant: string
  name: string
  /** The stream's own topic. */
  input: string
  partitions: number
  redact: readonly string[]
}

/** @throws ProblemError when its topics do not exist */
export async function streamOf(
  tenant: { name: string; redact: ReadonlyMap<string, readonly string[]> },
  name: string,
  readers: Readers,
): Promise<Stream> {
  const input = inputTopic(tenant.name, name)
  const partitions = await readers.partitions(input)
  if (partitions === 0)
    throw new ProblemError({
      kind: 'unknown-stream',
      detail: `The topic ${input} does not exist yet: its first event, or \`bun run create-topics\`, creates it.`,
    })
  return { tenant: tenant.name, name, input, partitions, redact: tenant.redact.get(name) ?? [] }
}

export const topicOf = ({ input }: Pick<Stream, 'input'>, role: RoleOfTopic): string =>
  role === 'input' ? input : siblingTopic(input, role)

export const partitionsOf = (stream: Stream, role: RoleOfTopic): TopicPartition[] =>
  Array.from({ length: stream.partitions }, (_, partition) => ({ topic: topicOf(stream, role), partition }))
