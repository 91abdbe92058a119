import { readdirSync, readFileSync } from 'node:fs'
import { residentMemoryBytes } from '../shared/service/process-metrics.ts'
import type { ProcessUse } from './result.ts'

/** CPU and memory of processes from `/proc` (proc(5)), so that every system is measured in the same way. */

const SAMPLE_INTERVAL_MS = 250

/** Clock ticks a second (`sysconf(_SC_CLK_TCK)`): 100 on every architecture of Linux. */
const TICKS_PER_SECOND = 100

export interface Observed {
  name: string
  role: ProcessUse['role']
  pid: number
}

export interface Observation {
  /** Starts the measurement. */
  begin(): void
  /** Ends the measurement. */
  end(): void
  /** Stops observing. @returns what was used during the measurement */
  stop(): ProcessUse[]
}

/** One process at one moment. */
interface Use {
  cpuSeconds: number
  residentBytes: number
}

/**
 * Observes processes and their descendants until stopped.
 * @param memory measured: of the measurement only. all: from now on until its end
 */
export function observe(
  processes: readonly Observed[],
  memory: 'measured' | 'all' = 'measured',
  look: () => Map<number, Stat> = readProcesses,
): Observation {
  let begun: Use[] | undefined
  let ended: Use[] | undefined
  let samples: Use[][] = []
  const now = (): Use[] => {
    const stats = look()
    return processes.map(({ pid }) => useOf(pid, stats))
  }
  const timer = setInterval(() => {
    if ((begun !== undefined || memory === 'all') && ended === undefined) samples.push(now())
  }, SAMPLE_INTERVAL_MS)
  return {
    begin() {
      begun = now()
      samples = memory === 'all' ? [...samples, begun] : [begun]
    },
    end() {
      ended = now()
      samples.push(ended)
    },
    stop() {
      clearInterval(timer)
      return processes.map(({ name, role }, index) => {
        const of = (uses: readonly Use[] | undefined): Use => uses?.[index] ?? { cpuSeconds: 0, residentBytes: 0 }
        return {
          name,
          role,
          cpuSeconds: round(Math.max(0, of(ended).cpuSeconds - of(begun).cpuSeconds)),
          ...residentOf(samples.map((uses) => of(uses).residentBytes)),
        }
      })
    },
  }
}

/** Sums of ticks are no more precise than one tick. */
const round = (seconds: number): number => Math.round(seconds * TICKS_PER_SECOND) / TICKS_PER_SECOND

type Resident = Pick<ProcessUse, 'residentMeanBytes' | 'residentMaxBytes' | 'residentEarlyBytes' | 'residentLateBytes'>

/** Mean, maximum, and the means of the second and the last fifth of samples at equal intervals. */
export function residentOf(samples: readonly number[]): Resident {
  const fifth = (index: number): number[] =>
    samples.slice(Math.floor((samples.length * index) / 5), Math.ceil((samples.length * (index + 1)) / 5))
  return {
    residentMeanBytes: mean(samples),
    residentMaxBytes: Math.max(0, ...samples),
    residentEarlyBytes: mean(fifth(1)),
    residentLateBytes: mean(fifth(4)),
  }
}

const mean = (numbers: readonly number[]): number =>
  numbers.length === 0 ? 0 : Math.round(numbers.reduce((sum, one) => sum + one, 0) / numbers.length)

/** The content of `/proc/PID/stat`. */
export interface Stat {
  parent: number
  /** User and system time of all its threads, in ticks. */
  ticks: number
  /** The same for its children that have ended and been waited for. */
  endedChildrenTicks: number
}

/** @returns undefined when the line is invalid, as when the process has just ended */
export function parseStat(text: string): Stat | undefined {
  // The second field is the command in parentheses, which may contain spaces and parentheses.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  // proc(5) counts from 1, and the third field is our first.
  const field = (number: number): number => Number(fields[number - 3])
  const stat = {
    parent: field(4),
    ticks: field(14) + field(15),
    endedChildrenTicks: field(16) + field(17),
  }
  return Object.values(stat).every(Number.isFinite) ? stat : undefined
}

/** A process and its descendants. */
export function useOf(
  pid: number,
  stats: ReadonlyMap<number, Stat>,
  residentBytesOf: (pid: number) => number | undefined = residentMemoryBytes,
): Use {
  const children = new Map<number, number[]>()
  for (const [child, { parent }] of stats) children.set(parent, [...(children.get(parent) ?? []), child])
  const family = [pid]
  for (const member of family) family.push(...(children.get(member) ?? []))
  let ticks = 0
  let residentBytes = 0
  for (const member of family) {
    const stat = stats.get(member)
    ticks += (stat?.ticks ?? 0) + (stat?.endedChildrenTicks ?? 0)
    residentBytes += residentBytesOf(member) ?? 0
  }
  return { cpuSeconds: ticks / TICKS_PER_SECOND, residentBytes }
}

function readProcesses(): Map<number, Stat> {
  const stats = new Map<number, Stat>()
  for (const name of readdirSync('/proc')) {
    const pid = Number(name)
    if (!Number.isInteger(pid)) continue
    const stat = parseStat(read(`/proc/${pid}/stat`))
    if (stat !== undefined) stats.set(pid, stat)
  }
  return stats
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}
