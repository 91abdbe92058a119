import { expect, test } from 'bun:test'
import type { Service } from '../../shared/testing/services.ts'
import { until } from '../../shared/testing/until.ts'
import { runFault } from './stage.ts'

/** Whether all four partitions are this consumer's and being read. */
async function readsAll({ opsPort }: Service): Promise<boolean> {
  const metrics = await (await fetch(`http://127.0.0.1:${opsPort}/metrics`)).text()
  return metrics.includes('kafkatrace_consumer_partitions{state="reading"} 4')
}

test('a run is judged by what the processes did: two groups at work on one stream are seen to double its events', async () => {
  const said: string[] = []
  const { verdict, ok } = await runFault(
    {
      name: 'two-groups',
      what: 'a second consumer of another group writes to the same topics, as no deployment may',
      async play(stage) {
        const other = await stage.addConsumer({ GROUP_ID: 'another' })
        other.start()
        await other.ready()
        const both = async () => (await readsAll(stage.consumer)) && (await readsAll(other))
        await until(both, { timeoutMs: 30_000, what: 'both groups to have all partitions' })
        const load = stage.load()
        await stage.pause(1500, 1500)
        await load.stop()
      },
    },
    { seed: 1 },
    (text) => void said.push(text),
  )
  expect(ok).toBe(false)
  expect(verdict.doubled).toBeGreaterThan(0)
  expect(new Set(verdict.violations.map(({ invariant }) => invariant))).toContain('I2')
  expect(said.join('\n')).toContain('two-groups: BROKEN')
}, 120_000)
