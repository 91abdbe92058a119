import { isTerminal, paint } from '../shared/service/terminal.ts'
import type { PlannedRun } from './plan.ts'
import type { Lookups, Restart, Run } from './result.ts'

/** What a person sees of a bench: a line for each finished run and, on a terminal, a progress bar. */

export interface Reporter {
  begin(planned: PlannedRun, index: number, count: number, secondsLeft: number): void
  end(run: Run): void
}

const BAR_WIDTH = 24
const REFRESH_MS = 500

export function createReporter(): Reporter {
  const terminal = isTerminal()
  let timer: NodeJS.Timeout | undefined
  const clear = (): void => {
    clearInterval(timer)
    if (terminal) process.stderr.write('\r\x1b[2K')
  }
  return {
    begin(planned, index, count, left) {
      if (!terminal) return
      const begunMs = performance.now()
      const draw = (): void => {
        const now = Math.max(0, left - (performance.now() - begunMs) / 1000)
        process.stderr.write(`\r\x1b[2K${bar(index, count)} ${titleOf(planned)}, ${clock(now)} left`)
      }
      draw()
      timer = setInterval(draw, REFRESH_MS)
    },
    end(run) {
      clear()
      console.log(lineOf(run))
    },
  }
}

/** @param done of `count` */
export function bar(done: number, count: number): string {
  const full = Math.floor((done / count) * BAR_WIDTH)
  return `${'█'.repeat(full)}${'░'.repeat(BAR_WIDTH - full)} ${done}/${count}`
}

/** Minutes and seconds. */
export const clock = (seconds: number): string => {
  const whole = Math.round(seconds)
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`
}

const titleOf = ({ workload, system, repetition, share }: PlannedRun): string =>
  `${workload.name}${share === undefined ? '' : ` at ${share}`}, ${system}, ${repetition}`

const count = (number: number): string => Math.round(number).toLocaleString('en')
const ms = (number: number): string => `${number.toFixed(number < 10 ? 1 : 0)} ms`

const megabytes = (bytes: number): string => `${count(bytes / 1e6)} MB`

const restartParts = ({ outcomes, toReadingSeconds, residentBytes, idleResidentBytes }: Restart): string[] => [
  `${count(outcomes)} outcomes restored in ${toReadingSeconds.toFixed(1)} s`,
  `${megabytes(residentBytes - idleResidentBytes)} over idle`,
]

const lookupParts = ({ uuid, key, id, absent }: Lookups): string[] => [
  `UUIDv7 p95 ${ms(uuid.p95Ms)}`,
  `key p95 ${ms(key.p95Ms)}`,
  `whole log at most ${ms(Math.max(id.maxMs, absent.maxMs))}`,
]

/** What a run is about. */
function mainParts({ restart, lookups, eventsPerSecond }: Run): string[] {
  if (restart !== undefined) return restartParts(restart)
  return lookups === undefined ? [`${count(eventsPerSecond)} events/s`] : lookupParts(lookups)
}

/** A run in a line. */
export function lineOf(run: Run): string {
  const name = `${run.workload}${run.step === undefined ? '' : ` ×${run.step}`}`
  const parts = mainParts(run)
  if (run.eventsPerCpuSecond !== undefined) parts.push(`${count(run.eventsPerCpuSecond)} a CPU-second`)
  if (run.toAnswer !== undefined) parts.push(`answer p50 ${ms(run.toAnswer.p50Ms)} p99 ${ms(run.toAnswer.p99Ms)}`)
  const { toCommitted, appendToCommitted } = run
  if (toCommitted !== undefined) parts.push(`committed p50 ${ms(toCommitted.p50Ms)} p99 ${ms(toCommitted.p99Ms)}`)
  else if (appendToCommitted !== undefined) parts.push(`append to committed p99 ${ms(appendToCommitted.p99Ms)}`)
  if (run.toRefusal !== undefined) parts.push(`refused p99 ${ms(run.toRefusal.p99Ms)}`)
  if (run.residentAfterBytes !== undefined) parts.push(`afterwards ${megabytes(run.residentAfterBytes)}`)
  if (run.followed !== undefined) parts.push(`to every follower within ${ms(run.followed.delay.maxMs)}`)
  for (const [kind, number] of Object.entries(run.errors)) parts.push(`${kind}: ${count(number)}`)
  const { scan, followed } = run
  if (scan !== undefined && scan.lost > 0) parts.push(paint('red', `LOST ${scan.lost}`))
  if (scan?.withoutOutcome) parts.push(paint('red', `WITHOUT OUTCOME ${scan.withoutOutcome}`))
  if (scan?.doubled) parts.push(paint('red', `DOUBLED ${scan.doubled}`))
  if (scan?.outOfOrder) parts.push(paint('red', `KEYS OUT OF ORDER ${scan.outOfOrder}`))
  if (followed?.missing) parts.push(paint('red', `MISSING AT FOLLOWERS ${followed.missing}`))
  if (followed?.excess) parts.push(paint('red', `DOUBLED AT FOLLOWERS ${followed.excess}`))
  if (run.void !== undefined) parts.push(paint('yellow', `VOID: ${run.void}`))
  return `${name.padEnd(16)} ${run.system.padEnd(24)} ${run.repetition}  ${parts.join(' · ')}`
}
