import { expect, test } from 'bun:test'
import { scrapeConfigs } from './monitoring.ts'

const service = (name: string, labels: Record<string, string>) => ({
  metadata: { name, namespace: 'kafkatrace', labels },
})

const slice = (of: string, port: string, pods: readonly string[]) => ({
  metadata: { labels: { 'kubernetes.io/service-name': of } },
  ports: [{ name: port, port: 9080 }],
  endpoints: pods.map((name, index) => ({ addresses: [`10.0.0.${index + 1}`], targetRef: { name } })),
})

test('a ServiceMonitor is a job for each pod of the Services that it selects, by the name of their port', () => {
  const [config] = scrapeConfigs({
    monitors: [
      {
        metadata: { name: 'producer', namespace: 'kafkatrace' },
        spec: {
          jobLabel: 'app',
          selector: { matchLabels: { app: 'producer', ops: 'yes' } },
          endpoints: [{ port: 'ops' }],
        },
      },
    ],
    probes: [],
    services: [
      service('producer', { app: 'producer' }),
      service('producer-ops', { app: 'producer', ops: 'yes' }),
      service('consumer-ops', { app: 'consumer', ops: 'yes' }),
    ],
    endpointSlices: [
      slice('producer', 'http', ['a']),
      slice('producer-ops', 'ops', ['a', 'b']),
      slice('consumer-ops', 'ops', ['c']),
    ],
  })
  const labels = { job: 'producer', namespace: 'kafkatrace', service: 'producer-ops' }
  expect(config).toMatchObject({
    job_name: 'serviceMonitor/kafkatrace/producer/0',
    scheme: 'http',
    static_configs: [
      { targets: ['10.0.0.1:9080'], labels: { ...labels, pod: 'a' } },
      { targets: ['10.0.0.2:9080'], labels: { ...labels, pod: 'b' } },
    ],
  })
})

test('a Probe asks its prober for its targets, under its job’s name', () => {
  const [config] = scrapeConfigs({
    monitors: [],
    probes: [
      {
        metadata: { name: 'producer', namespace: 'kafkatrace' },
        spec: {
          jobName: 'kafkatrace-probe',
          module: 'kafkatrace',
          prober: { url: 'exporter.monitoring.svc:9115' },
          targets: { staticConfig: { static: ['http://producer.kafkatrace.svc:80/v1/streams/probe/events'] } },
        },
      },
    ],
    services: [],
    endpointSlices: [],
  })
  expect(config).toMatchObject({
    metrics_path: '/probe',
    params: { module: ['kafkatrace'] },
    static_configs: [
      {
        targets: ['http://producer.kafkatrace.svc:80/v1/streams/probe/events'],
        labels: { job: 'kafkatrace-probe', namespace: 'kafkatrace' },
      },
    ],
    relabel_configs: [
      { source_labels: ['__address__'], target_label: '__param_target' },
      { source_labels: ['__param_target'], target_label: 'instance' },
      { target_label: '__address__', replacement: 'exporter.monitoring.svc:9115' },
    ],
  })
})
