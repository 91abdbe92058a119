import { afterEach, describe, expect, test } from 'bun:test'
import { closeSync, openSync } from 'node:fs'
import { Registry } from 'prom-client'
import { until } from '../testing/until.ts'
import { addProcessMetrics, cpuSeconds, residentMemoryBytes } from './process-metrics.ts'

let stop = () => {}
afterEach(() => stop())

function createRegistry(): Registry {
  const registry = new Registry()
  stop = addProcessMetrics(registry)
  return registry
}

/** A metric's value by its name with labels. */
async function scraped(registry: Registry, name: string): Promise<number> {
  const line = (await registry.metrics()).split('\n').find((one) => one.startsWith(`${name} `))
  if (line === undefined) throw new Error(`there is no metric ${name}`)
  return Number(line.slice(name.length))
}

/** Uses CPU time. */
function work(ms: number): void {
  const end = performance.now() + ms
  while (performance.now() < end);
}

describe('what is read from /proc', () => {
  test('memory is what ps calls resident', async () => {
    const child = Bun.spawn(['sleep', '60'], { stdio: ['ignore', 'ignore', 'ignore'] })
    try {
      // Before exec, a forked process still has its parent's memory.
      await until(
        () =>
          Bun.spawnSync(['ps', '-o', 'comm=', '-p', `${child.pid}`])
            .stdout.toString()
            .trim() === 'sleep',
      )
      const kibibytes = Number(Bun.spawnSync(['ps', '-o', 'rss=', '-p', `${child.pid}`]).stdout.toString())
      // The kernel counts per CPU and sums up lazily.
      expect(Math.abs((residentMemoryBytes(child.pid) ?? 0) / 1024 - kibibytes)).toBeLessThan(512)
    } finally {
      child.kill('SIGKILL')
      await child.exited
    }
  })

  // In its own process: memory of other tests might be freed at the same time.
  test('touched memory shows', () => {
    const script = `
      import { residentMemoryBytes } from ${JSON.stringify(import.meta.resolve('./process-metrics.ts'))}
      const before = residentMemoryBytes()
      const touched = Buffer.alloc(64 * 1024 * 1024, 1)
      console.log((residentMemoryBytes() - before) * touched[0])`
    const child = Bun.spawnSync([process.execPath, '-e', script], { stdout: 'pipe', stderr: 'pipe' })
    expect(child.stderr.toString()).toBe('')
    expect(Number(child.stdout.toString())).toBeGreaterThan(48 * 1024 * 1024)
  })

  test('processor time grows with work', () => {
    const before = cpuSeconds()
    const began = process.cpuUsage()
    // On a busy machine elapsed time is not CPU time. /proc counts in units of 10 ms.
    while (process.cpuUsage(began).user < 60_000) work(5)
    const after = cpuSeconds()
    const used = (after?.user ?? 0) + (after?.system ?? 0) - (before?.user ?? 0) - (before?.system ?? 0)
    expect(used).toBeGreaterThan(0.02)
    expect(used).toBeLessThan(10)
  })

  test('a process that is gone has no figures', async () => {
    const child = Bun.spawn(['true'])
    await child.exited
    expect(residentMemoryBytes(child.pid)).toBeUndefined()
    expect(cpuSeconds(child.pid)).toBeUndefined()
  })
})

describe('process metrics', () => {
  test('processor time is counted once, however often it is asked for', async () => {
    const registry = createRegistry()
    await registry.metrics()
    work(50)
    for (let scrape = 0; scrape < 3; scrape++) await registry.metrics()
    const user = await scraped(registry, 'process_cpu_seconds_total{mode="user"}')
    expect(Math.abs(user - (cpuSeconds()?.user ?? 0))).toBeLessThan(0.2)
    expect(user).toBeGreaterThan(0)
  })

  test('memory and start time are those of this process', async () => {
    const registry = createRegistry()
    expect(await scraped(registry, 'process_resident_memory_bytes')).toBeGreaterThan(10 * 1024 * 1024)
    const started = await scraped(registry, 'process_start_time_seconds')
    expect(Math.abs(started - (Date.now() / 1000 - process.uptime()))).toBeLessThan(2)
  })

  test('an open file shows', async () => {
    const registry = createRegistry()
    const before = await scraped(registry, 'process_open_fds')
    const files = Array.from({ length: 20 }, () => openSync('/dev/null', 'r'))
    const after = await scraped(registry, 'process_open_fds')
    for (const file of files) closeSync(file)
    expect(after - before).toBeGreaterThan(15)
  })

  test('a blocked event loop shows once, in seconds', async () => {
    const registry = createRegistry()
    work(400)
    let worst = 0
    await until(
      async () => {
        worst = await scraped(registry, 'process_event_loop_delay_max_seconds')
        return worst > 0.2
      },
      { what: 'the delay to be seen' },
    )
    expect(worst).toBeLessThan(5)
    expect(await scraped(registry, 'process_event_loop_delay_max_seconds')).toBeLessThan(worst)
  })
})
