import type { StreamStatus } from '../status.ts'
import { counted } from './words.ts'

/** What is wrong with a stream, from its status. */

interface Fault {
  tone: 'bad' | 'warn'
  text: string
  /** The runbook that is about it. */
  alert: string
}

/** What is not as it should be, the worst first. */
export function faultsOf({ paused, group, consumers, partitions }: StreamStatus): Fault[] {
  const faults: Fault[] = []
  const isDescribed = group.state !== 'Unknown'
  if (isDescribed && consumers.length === 0)
    faults.push({
      tone: 'bad',
      text: `No consumer is in the group ${group.id}: events wait.`,
      alert: 'KafkaTraceConsumerAbsent',
    })
  const unassigned = partitions.filter(({ state }) => state === 'not assigned')
  if (consumers.length > 0 && unassigned.length > 0)
    faults.push({
      tone: 'bad',
      text: `${counted(unassigned.length, 'partition')} without a consumer (${unassigned.map(({ partition }) => partition).join(', ')}); the group is ${group.state}.`,
      alert: 'KafkaTracePartitionsNotRead',
    })
  for (const { clientId, ready, faults: why = [] } of consumers)
    if (ready === false)
      faults.push({
        tone: 'bad',
        text: `${clientId} is not ready${why.length > 0 ? `: ${why.join('; ')}` : ''}.`,
        alert: 'KafkaTraceConsumerStalled',
      })
  const reasons = Map.groupBy(
    partitions.filter(({ reason }) => reason !== undefined),
    ({ state, reason }) => `${state}: ${reason}`,
  )
  for (const [why, of] of reasons)
    faults.push({
      tone: 'bad',
      text: `${counted(of.length, 'partition')} ${why} (${of.map(({ partition }) => partition).join(', ')}).`,
      alert: 'KafkaTracePartitionsPaused',
    })
  if (paused !== undefined)
    faults.push({
      tone: 'warn',
      text: `Paused by ${paused.by}${paused.reason === undefined ? '' : `: ${paused.reason}`}.`,
      alert: 'KafkaTraceStreamPaused',
    })
  return faults
}
