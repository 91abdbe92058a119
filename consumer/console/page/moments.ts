import type { GenerationView } from '../life.ts'
import type { RecordView } from '../view.ts'

/** An event's life as a list of moments. */

interface Moment {
  iso: string
  tone: 'good' | 'bad' | 'warn' | 'calm'
  what: string
  detail?: string | undefined
  record?: RecordView | undefined
}

/** In the order of time. */
export function momentsOf({ generation, record, attempts, places, outcome, act, repeats }: GenerationView): Moment[] {
  const moments: Moment[] = []
  if (record?.receivedAt !== undefined)
    moments.push({
      iso: record.receivedAt,
      tone: 'calm',
      what: generation > 0 ? 'Sent again by the console' : 'Received by the producer',
    })
  for (const { role, topic, partition, offset, time } of places) {
    const at = `${topic}/${partition}/${offset}`
    if (role === 'input') moments.push({ iso: time, tone: 'calm', what: 'Stored', detail: at, record })
    if (role === 'retry') moments.push({ iso: time, tone: 'warn', what: 'Put into .retry', detail: at })
  }
  for (const { attempt, time, reason, message } of attempts)
    moments.push({ iso: time, tone: 'warn', what: `Attempt ${attempt} failed: ${reason}`, detail: message })
  for (const { partition, offset, time } of repeats)
    moments.push({ iso: time, tone: 'calm', what: 'Came in again, with no effect', detail: `${partition}/${offset}` })
  if (outcome !== undefined) {
    const at = `${outcome.topic}/${outcome.partition}/${outcome.offset}`
    moments.push(
      outcome.role === 'dlq'
        ? {
            iso: outcome.time,
            tone: 'bad',
            what: `Dead letter: ${outcome.error?.reason ?? 'for a reason that is not recorded'}`,
            detail: [outcome.error?.message, at].filter(Boolean).join(' · '),
            record: outcome,
          }
        : {
            iso: outcome.time,
            tone: 'good',
            what: outcome.handler === undefined ? 'Processed' : `Processed by ${outcome.handler}`,
            detail: at,
            record: outcome,
          },
    )
  }
  if (act !== undefined)
    moments.push({
      iso: act.time,
      tone: 'calm',
      what: `${act.act === 'redrive' ? 'Redriven' : 'Discarded'} by ${act.by}${act.edited === true ? ', edited' : ''}`,
      detail: act.reason,
    })
  return moments.sort((a, b) => a.iso.localeCompare(b.iso))
}

/** Of an event in `.retry`. */
export const waitText = ({ waiting, attempts }: GenerationView): string =>
  `It waits in .retry${attempts.length > 0 ? ' for its next attempt' : ''}${waiting === undefined ? '' : `: ${waiting.reason}`}`
