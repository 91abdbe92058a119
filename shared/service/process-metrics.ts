import { readdirSync, readFileSync } from 'node:fs'
import { Counter, Gauge, type Registry } from 'prom-client'

/** Linux: clock ticks a second (`sysconf(_SC_CLK_TCK)`), 100 on every architecture that we build for. */
const TICKS_PER_SECOND = 100

/**
 * Resident memory in bytes, from `VmRSS` of `/proc/<pid>/status`; undefined where there is no `/proc`. Bun's own figure was seen far too low, and `statm`
 * counts pages, whose size differs between arm64 systems.
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
  // The second field is the command in parentheses, which may contain spaces; utime and stime are the 14th and 15th.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ')
  if (fields === undefined) return undefined
  return { user: Number(fields[11]) / TICKS_PER_SECOND, system: Number(fields[12]) / TICKS_PER_SECOND }
}

/** Adds the standard `process_*` metrics and the event loop's delay. Returns a function that stops measuring. */
export function addProcessMetrics(registry: Registry): () => void {
  const registers = [registry]
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read())
      },
    })
  const startedAt = Date.now() / 1000 - process.uptime()
  gauge('process_start_time_seconds', 'When the process started, seconds since the epoch.', () => startedAt)
  gauge('process_resident_memory_bytes', 'Resident memory, from /proc/self/status.', () => residentMemoryBytes() ?? 0)
  gauge('process_open_fds', 'Open file descriptors.', openFiles)
  let counted = { user: 0, system: 0 }
  new Counter({
    name: 'process_cpu_seconds_total',
    help: 'CPU time of all threads, by mode (user, system), from /proc/self/stat.',
    labelNames: ['mode'],
    registers,
    collect() {
      const now = cpuSeconds() ?? counted
      this.inc({ mode: 'user' }, Math.max(0, now.user - counted.user))
      this.inc({ mode: 'system' }, Math.max(0, now.system - counted.system))
      counted = now
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
  gauge('process_event_loop_delay_max_seconds', 'The longest delay of a 100 ms timer since the last scrape.', () => {
    const seconds = longestMs / 1000
    longestMs = 0
    return seconds
  })
  return () => clearInterval(timer)
}

const TICK_MS = 100

function openFiles(): number {
  try {
    return readdirSync('/proc/self/fd').length
  } catch {
    return 0
  }
}
