import type { History } from '../history.ts'
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

export const DEAD_LETTERS_ALERT = 'KafkaTraceDeadLetters'

/** Of so many minutes, this share of dead events is said. */
const DEATHS_MINUTES = 10
const LEAST_SHARE = 0.01

/** Many events that became dead letters of late. */
export function deathsIn(history: Pick<History, 'minutes'> | undefined): Fault[] {
  const recent = history?.minutes.slice(-DEATHS_MINUTES) ?? []
  const sum = (of: 'dead' | 'processed'): number => recent.reduce((total, minute) => total + minute[of], 0)
  const dead = sum('dead')
  const all = dead + sum('processed')
  if (dead === 0 || dead / all < LEAST_SHARE) return []
  const text = `${counted(dead, 'event')} of the last ${DEATHS_MINUTES} minutes became dead letters: ${Math.round((100 * dead) / all)} %.`
  return [{ tone: 'warn', text, alert: DEAD_LETTERS_ALERT }]
}
