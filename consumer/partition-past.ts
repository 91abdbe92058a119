import type { TopicPartition } from '../shared/kafka/types.ts'

/** What is known of a partition before its first record is read. */

/** An event that waits in `.retry`. */
export interface Waiting {
  /** In `.retry`. */
  offset: number
  identity: string
  key: string | undefined
}

export interface SourcePast extends TopicPartition {
  /** Where reading goes on. */
  offset: number
  /** Offsets from there on that are done. */
  done: Set<number>
  /** Offsets that are committed as done and have no outcome, rising: they are not among those that are done, and are processed when they are read. */
  missing: number[]
}

/** What Kafka says of a partition's past. */
export interface PartitionPast {
  input: SourcePast
  retry: SourcePast
  /** Events that wait in `.retry`. */
  waiting: Waiting[]
  /** How many have none that is still there, and may have had one that was deleted. */
  unknown: number
  /** How many offsets were deleted before they were read. */
  skipped: number
  /** Nothing that is committed says where to go on: reading begins at the beginning. */
  fresh: 'nothing committed' | 'committed beyond the end' | undefined
  /** The offset was committed by another client, such as a tool that resets offsets: what is read from there on may have been done. */
  foreign: boolean
  /**
   * What Kafka says does not fit together: records are lost, or a broker that is cut off from the others has answered as the leader that it was.
   * To be believed only after {@link proveLeaders} (leaders.ts).
   */
  doubtful: boolean
}
