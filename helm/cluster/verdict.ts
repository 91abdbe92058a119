import { judge } from '../../bench/faults/judge.ts'
import { scanStream } from '../../bench/faults/scan.ts'
import type { Sheet } from './client.ts'

/**
 * Judges what a client wrote down by the log: `bun verdict.ts BROKERS TOPIC SHEET`, where the brokers' names are known. Prints the figures of a
 * {@link Judged} as JSON, once every event in the log has an outcome, or after a minute.
 */

export interface Judged {
  lost: number
  doubled: number
  outOfOrder: number
  /** IDs of failed requests whose event is in the log all the same: it was the answer that did not arrive. */
  stored: string[]
  /** Every violation, in words; at most {@link MAX_VIOLATIONS}. */
  violations: string[]
}

const SETTLE_TIMEOUT_MS = 60_000
const SETTLE_PAUSE_MS = 500
const MAX_VIOLATIONS = 20

if (import.meta.main) {
  const [brokers = '', topic = '', file = ''] = process.argv.slice(2)
  const { entries, failed, begunMs } = (await Bun.file(file).json()) as Sheet
  const deadline = performance.now() + SETTLE_TIMEOUT_MS
  for (;;) {
    const log = await scanStream(brokers, topic, begunMs)
    const verdict = judge(entries, log)
    if (verdict.undecided === 0 || performance.now() > deadline) {
      const { lost, doubled, outOfOrder, violations } = verdict
      const said = violations.slice(0, MAX_VIOLATIONS).map(({ invariant, what }) => `${invariant}: ${what}`)
      const inLog = new Set(log.input.map(({ event }) => event?.id))
      const stored = failed.map(({ id }) => id).filter((id) => inLog.has(id))
      const judged: Judged = { lost, doubled, outOfOrder, stored, violations: said }
      console.log(JSON.stringify(judged))
      break
    }
    await Bun.sleep(SETTLE_PAUSE_MS)
  }
}
