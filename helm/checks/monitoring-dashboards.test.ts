import { expect, test } from 'bun:test'
import { NOT_SHOWN } from '../monitoring/dashboards.ts'
import { dashboardChecks, faultsOfPanel, metricsIn, servicesMetrics, shownMetrics } from './monitoring-dashboards.ts'

const target = {
  expr: 'sum(rate(kafkatrace_a_total{namespace=~"$namespace"}[$__rate_interval]))',
  legendFormat: 'a',
  datasource: { uid: '$datasource' },
}
const panel = {
  type: 'timeseries',
  title: 'A',
  description: 'What a is.',
  datasource: { uid: '$datasource' },
  fieldConfig: { defaults: { unit: 'ops' } },
  targets: [target],
}
const known = new Set(['kafkatrace_a_total'])

test('a panel that keeps the rules has no faults, and one that breaks them all has one for each', () => {
  expect(faultsOfPanel(panel, known)).toEqual([])
  const bad = { type: 'timeseries', title: 'B', targets: [{ expr: 'rate(kafkatrace_b_total[5m])' }] }
  expect(faultsOfPanel(bad, known)).toEqual([
    'B: it has no description',
    'B: it has no unit',
    'B: its data source is not the variable',
    'B: rate(kafkatrace_b_total[5m]) has no legend',
    'B: rate(kafkatrace_b_total[5m]): its data source is not the variable',
    'B: rate(kafkatrace_b_total[5m]): a rate over a fixed window',
    'B: rate(kafkatrace_b_total[5m]): it does not heed the namespace',
    'B: kafkatrace_b_total is no metric of the services and no recording',
  ])
  expect(faultsOfPanel({ ...panel, targets: [] }, known)).toEqual(['A: it asks for nothing'])
})

test('metrics are found wherever they stand in a query, and not in its texts', () => {
  expect(metricsIn('slo:a:b{x="kafkatrace_no"} / on (x) kafkatrace:c:d - process_e + kafkatrace_f')).toEqual([
    'slo:a:b',
    'kafkatrace:c:d',
    'process_e',
    'kafkatrace_f',
  ])
})

test('the services’ metrics are those they register, histograms by their series', async () => {
  const names = await servicesMetrics()
  for (const name of [
    'kafkatrace_producer_request_seconds_bucket',
    'kafkatrace_consumer_lag_seconds',
    'kafkatrace_console_request_seconds_bucket',
    'process_open_fds',
  ])
    expect(names).toContain(name)
  expect(names).not.toContain('kafkatrace_producer_request_seconds')
})

test('every metric has a panel, or a reason in NOT_SHOWN why not, and not both', async () => {
  const metrics = await shownMetrics()
  const unshown = [...metrics].filter(([, isShown]) => !isShown).map(([name]) => name)
  expect(unshown.toSorted()).toEqual(Object.keys(NOT_SHOWN).toSorted())
  expect([...metrics.values()]).toContain(true)
})

test.each(dashboardChecks.map((check) => [check.name, check] as const))('%s', async (_, check) => {
  const { passed, faults } = await check.run(() => {})
  expect(faults).toEqual([])
  expect(passed).toBeGreaterThan(0)
})
