import { expect, test } from 'bun:test'
import { Registry } from 'prom-client'
import { showNotAfter } from './certificate-metrics.ts'

test('all certificates of a process are in one gauge, each as of now', async () => {
  const registry = new Registry()
  let kafkaMs: number | undefined
  showNotAfter(registry, 'producer', 'kafka', () => kafkaMs)
  showNotAfter(registry, 'producer', 'listener', () => 2_000)
  const lines = async () => (await registry.metrics()).split('\n').filter((line) => line.startsWith('kafkatrace_'))
  const listener = 'kafkatrace_producer_certificate_not_after_seconds{certificate="listener"} 2'
  expect(await lines()).toEqual([listener])
  kafkaMs = 1_500
  expect(await lines()).toEqual([
    'kafkatrace_producer_certificate_not_after_seconds{certificate="kafka"} 1.5',
    listener,
  ])
})
