import type { TopicPartition } from '../shared/kafka/types.ts'

/** An event that waits in `.retry`. */
export interface Waiting {
  offset: number
  identity: string
  key: string | undefined
}

export interface SourcePast extends TopicPartition {
  /** Where reading resumes. */
  offset: number
  /** Offsets from there on that are done. */
  done: Set<number>
  /** Offsets that are committed as done but have no outcome, ascending. They are not in `done`, so they are processed. */
  missing: number[]
}

/** What a restore learns from Kafka about a partition. */
export interface PartitionPast {
  input: SourcePast
  retry: SourcePast
  /** Events that wait in `.retry`. */
  waiting: Waiting[]
  /** How many records before the committed offset have no outcome, but may have had one that was deleted. */
  unknown: number
  /** How many offsets were deleted before they were read. */
  skipped: number
  /** Why no committed offset says where to resume, so that reading starts at the beginning. */
  fresh: 'nothing committed' | 'committed beyond the end' | undefined
  /** The offset was committed by another client, such as a tool that resets offsets: records after it may be done already. */
  foreign: boolean
  /**
   * Offsets and outcomes contradict each other: records are lost, or a former leader that is cut off from the other brokers has answered.
   * To be used only after {@link proveLeaders} (leaders.ts).
   */
  doubtful: boolean
}
