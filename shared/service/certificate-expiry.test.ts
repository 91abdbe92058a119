import { expect, test } from 'bun:test'
import { Registry } from 'prom-client'
import { addCertificateMetric, type Expiry } from './certificate-expiry.ts'

test('all certificates of a process are in one metric, each as of now', async () => {
  const registry = new Registry()
  let kafka: Expiry[] = []
  addCertificateMetric(registry, () => kafka)
  addCertificateMetric(registry, () => [{ certificate: 'listener', notAfterMs: 2_000 }])
  const lines = async () => (await registry.metrics()).split('\n').filter((line) => line.startsWith('kafkatrace_'))
  const listener = 'kafkatrace_certificate_not_after_seconds{certificate="listener"} 2'
  expect(await lines()).toEqual([listener])
  kafka = [{ certificate: 'kafka-client', notAfterMs: 1_500 }]
  expect(await lines()).toEqual(['kafkatrace_certificate_not_after_seconds{certificate="kafka-client"} 1.5', listener])
  kafka = []
  expect(await lines()).toEqual([listener])
})
