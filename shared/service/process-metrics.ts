import { readdirSync, readFileSync } from 'node:fs'
import { Counter, Gauge, type Registry } from 'prom-client'

/** Linux: clock ticks a second (`sysconf(_SC_CLK_TCK)`), 100 on every architecture that we build for. */
const TICKS_PER_SECOND = 100

/**
 * Resident memory in bytes, from `VmRSS` of `/proc/<pid>/status`: the runtime's own figure has been seen far too low, and `statm` counts in
 * pages, whose size is not the same on every arm64. undefined where there is no `/proc`.
 */
export function residentMemoryBytes(pid: number | 'self' = 'self'): number | undefined {
  const kibibytes = /^VmRSS:\s*(\d+) kB$/m.exec(read(`/proc/${pid}/status`) ?? '')?.[1]
  return kibibytes === undefined ? undefined : Number(kibibytes) * 1024
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

/** User and system CPU time of a process in seconds, from `/proc/<pid>/stat` (proc(5)); undefined where there is no `/proc`. */
export function cpuSeconds(pid: number | 'self' = 'self'): { user: number; system: number } | undefined {
  const stat = read(`/proc/${pid}/stat`)
  // The second field is the command in parentheses and may hold spaces; utime and stime are the 14th and 15th.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ')
  if (fields === undefined) return undefined
  return { user: Number(fields[11]) / TICKS_PER_SECOND, system: Number(fields[12]) / TICKS_PER_SECOND }
}

/** Adds the standard `process_*` metrics and the event loop's delay. Returns a function that stops measuring. */
export function addProcessMetrics(registry: Registry): () => void {
  const registers = [registry]
  new Gauge({
    name: 'process_start_time_seconds',
    help: 'When the process started, seconds since the epoch.',
    registers,
  }).set(Date.now() / 1000 - process.uptime())
  new Gauge({
    name: 'process_resident_memory_bytes',
    help: 'Resident memory, from /proc/self/status.',
    registers,
    collect() {
      this.set(residentMemoryBytes() ?? 0)
    },
  })
  let counted = { user: 0, system: 0 }
  new Counter({
    name: 'process_cpu_seconds_total',
    help: 'CPU time by mode (user, system), of all threads, from /proc/self/stat.',
    labelNames: ['mode'],
    registers,
    collect() {
      const now = cpuSeconds() ?? counted
      this.inc({ mode: 'user' }, Math.max(0, now.user - counted.user))
      this.inc({ mode: 'system' }, Math.max(0, now.system - counted.system))
      counted = now
    },
  })
  new Gauge({
    name: 'process_open_fds',
    help: 'Open file descriptors.',
    registers,
    collect() {
      try {
        this.set(readdirSync('/proc/self/fd').length)
      } catch {
        this.set(0)
      }
    },
  })
  let longestMs = 0
  let expected = performance.now() + TICK_MS
  const timer = setInterval(() => {
    const now = performance.now()
    longestMs = Math.max(longestMs, now - expected)
    expected = now + TICK_MS
  }, TICK_MS)
  timer.unref()
  new Gauge({
    name: 'process_event_loop_delay_max_seconds',
    help: 'The longest delay of a 100 ms timer since the last scrape.',
    registers,
    collect() {
      this.set(longestMs / 1000)
      longestMs = 0
    },
  })
  return () => clearInterval(timer)
}

const TICK_MS = 100
