import { PLAIN } from './load.ts'
import { FLAT_GROWTH_LIMIT_BYTES, judgeFlatness, sampleMemory } from './memory.ts'
import { type Fault, runFault, seedOf } from './stage.ts'

/** A run without faults: a steady rate for some minutes, to see whether the services' memory is stable. */

export const STEADY_LIMITS = { maxMinutes: 60, maxRate: 5_000 } as const

const SAMPLE_INTERVAL_MS = 1_000
const PROGRESS_INTERVAL_MS = 30_000

const MB = 1024 * 1024
const megabytes = (bytes: number): string => `${(bytes / MB).toFixed(1)} MB`

/** Returns whether all guarantees held, the rate was kept and memory was stable. */
export async function runSteadily(
  { minutes, eventsPerSecond }: { minutes: number; eventsPerSecond: number },
  say: (text: string) => void,
): Promise<boolean> {
  const lines: string[] = []
  const steady: Fault = {
    name: 'steady',
    what: `${eventsPerSecond} events a second for ${minutes} minute${minutes === 1 ? '' : 's'}, nothing broken`,
    async play(stage) {
      const services = [stage.producer, stage.consumer]
      const sampling = sampleMemory(
        services.map((service) => service.pid()),
        SAMPLE_INTERVAL_MS,
      )
      // Requests with up to twenty events: the run looks for memory that grows with events, not for the highest rate of requests.
      const load = stage.load({ eventsPerSecond, kinds: [PLAIN], keys: 10_000 })
      const begunMs = performance.now()
      const seconds = () => (performance.now() - begunMs) / 1000
      const progress = setInterval(() => {
        const now = services.map(({ name }, index) => `${name} ${megabytes(sampling.samples[index]?.at(-1) ?? 0)}`)
        say(`  ${Math.round(seconds())} s: ${stage.ledger.size} events, ${now.join(', ')}`)
      }, PROGRESS_INTERVAL_MS)
      await Bun.sleep(minutes * 60_000)
      clearInterval(progress)
      const rate = stage.ledger.size / seconds()
      sampling.stop()
      await load.stop()
      lines.push(`  rate       ${rate.toFixed(0)} events a second`)
      if (rate < eventsPerSecond * 0.95)
        stage.wrong(`the rate was ${rate.toFixed(0)} events a second, not ${eventsPerSecond}`)
      for (const [index, { name }] of services.entries()) {
        const { secondFifthBytes, lastFifthBytes, peakBytes, growthBytes, flat } = judgeFlatness(
          sampling.samples[index] ?? [],
        )
        const verdict = `${megabytes(secondFifthBytes)} → ${megabytes(lastFifthBytes)}, peak ${megabytes(peakBytes)}`
        lines.push(`  memory     ${name}: ${flat ? 'flat' : 'GROWS'}, second to last fifth ${verdict}`)
        if (!flat)
          stage.wrong(
            `the memory of the ${name} grew by ${megabytes(growthBytes)}; the limit is ${megabytes(FLAT_GROWTH_LIMIT_BYTES)}`,
          )
      }
    },
  }
  const { ok } = await runFault(steady, { seed: seedOf() }, say)
  for (const line of lines) say(line)
  return ok
}
