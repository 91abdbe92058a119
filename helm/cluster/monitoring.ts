import { join } from 'node:path'
import type { Manifest } from '../checks/charts-render.ts'
import { MONITORING, type RuleFile } from '../checks/monitoring-rules.ts'
import { scaledRules } from '../checks/monitoring-scale.ts'
import { type Prometheus, prometheusAt } from '../checks/prometheus.ts'
import { tool } from '../checks/tools.ts'
import { NAMESPACE, type Rig, waitFor } from './rig.ts'

/**
 * Prometheus and the blackbox exporter in the cluster, as docs/operations.md says, set up by the charts' own objects: ServiceMonitors, the Probe and
 * PrometheusRules. This module stands in for the operator, which reads them in real clusters, and for Prometheus' own discovery, which Debian's is
 * built without: targets are those at the start.
 */

/** As the charts' NetworkPolicies let it in. */
const MONITORING_NAMESPACE = 'monitoring'
const PROMETHEUS_PORT = 9090
/** As the charts name it by default. */
const EXPORTER = { name: 'blackbox-exporter', port: 9115 }
/** Intervals are shorter, since windows are. */
const INTERVAL = '2s'

/** The API server's answers to `kubectl get`, of a release. */
export interface Monitored {
  readonly monitors: readonly Manifest[]
  readonly probes: readonly Manifest[]
  readonly services: readonly Manifest[]
  readonly endpointSlices: readonly Manifest[]
}

/** What the operator makes of ServiceMonitors and Probes: Prometheus' `scrape_configs`. */
export function scrapeConfigs({ monitors, probes, services, endpointSlices }: Monitored): Manifest[] {
  const monitored = monitors.flatMap(({ metadata: { name, namespace }, spec }) => {
    const selected = services.filter(({ metadata }) =>
      Object.entries(spec.selector.matchLabels).every(([label, value]) => metadata.labels?.[label] === value),
    )
    return spec.endpoints.map(({ port, scheme = 'http' }: Manifest, index: number) => ({
      job_name: `serviceMonitor/${namespace}/${name}/${index}`,
      scheme,
      static_configs: selected.flatMap((service) => targetsOf(service, endpointSlices, port, spec.jobLabel)),
    }))
  })
  const probed = probes.map(({ metadata: { name, namespace }, spec }) => ({
    job_name: `probe/${namespace}/${name}`,
    metrics_path: '/probe',
    params: { module: [spec.module] },
    static_configs: [{ targets: spec.targets.staticConfig.static, labels: { job: spec.jobName, namespace } }],
    relabel_configs: [
      { source_labels: ['__address__'], target_label: '__param_target' },
      { source_labels: ['__param_target'], target_label: 'instance' },
      { target_label: '__address__', replacement: spec.prober.url },
    ],
  }))
  return [...monitored, ...probed]
}

/** The pods of a Service, by the name of their port; also those that are not ready. */
const targetsOf = (
  { metadata: service }: Manifest,
  endpointSlices: readonly Manifest[],
  port: string,
  jobLabel: string,
): Manifest[] =>
  endpointSlices
    .filter(({ metadata }) => metadata.labels['kubernetes.io/service-name'] === service.name)
    .flatMap(({ endpoints, ports }) => {
      const number = ports.find(({ name }: Manifest) => name === port)?.port
      return number === undefined
        ? []
        : (endpoints ?? []).map(({ addresses, targetRef }: Manifest) => ({
            targets: [`${addresses[0]}:${number}`],
            labels: {
              job: service.labels[jobLabel],
              namespace: service.namespace,
              service: service.name,
              pod: targetRef.name,
            },
          }))
    })

async function monitoredOf({ must }: Rig): Promise<Monitored> {
  const items = async (kind: string): Promise<Manifest[]> =>
    (JSON.parse(await must(['-n', NAMESPACE, 'get', kind, '-o', 'json'])) as Manifest).items
  const [monitors, probes, services, endpointSlices] = await Promise.all(
    ['servicemonitors', 'probes', 'services', 'endpointslices'].map(items),
  )
  return { monitors, probes, services, endpointSlices } as Monitored
}

/**
 * Starts both for a release whose monitors, probe and rules are in the cluster. Its rules are the same with shorter windows
 * ({@link scaledRules}). Returns once all targets are scraped.
 * @param key of the stream `probe`
 */
export async function startMonitoring(one: Rig, key: string, say: (progress: string) => void): Promise<Prometheus> {
  const [prometheus, exporter] = [await tool('prometheus', say), await tool('blackbox-exporter', say)]
  const folder = await one.makeFolder('monitoring')
  const at = (file: string): string => join(folder, file)
  const rules = JSON.parse(await one.must(['-n', NAMESPACE, 'get', 'prometheusrules', '-o', 'json'])) as {
    items: { metadata: { name: string }; spec: RuleFile }[]
  }
  // JSON is YAML.
  for (const { metadata, spec } of rules.items)
    await Bun.write(at(`${metadata.name}.rules.json`), JSON.stringify(scaledRules(spec)))
  const scrape_configs = scrapeConfigs(await monitoredOf(one))
  const settings = {
    global: { scrape_interval: INTERVAL, scrape_timeout: INTERVAL, evaluation_interval: '1s' },
    rule_files: [at('*.rules.json')],
    scrape_configs,
  }
  await Bun.write(at('prometheus.json'), JSON.stringify(settings))
  await Bun.write(at('key'), key)
  const mounts = (program: string) => ({ [program]: program, [folder]: folder })
  await one.must(['create', 'namespace', MONITORING_NAMESPACE])
  await one.runProgram({
    ...EXPORTER,
    namespace: MONITORING_NAMESPACE,
    command: [exporter, '--config.file=/etc/blackbox.yaml', '--timeout-offset=0.1'],
    mounts: {
      [exporter]: exporter,
      '/etc/blackbox.yaml': join(MONITORING, 'blackbox.yaml'),
      '/etc/blackbox/key': at('key'),
    },
  })
  await one.runProgram({
    name: 'prometheus',
    namespace: MONITORING_NAMESPACE,
    port: PROMETHEUS_PORT,
    command: [prometheus, `--config.file=${at('prometheus.json')}`, '--storage.tsdb.path=/tmp/data'],
    mounts: mounts(prometheus),
  })
  const asking = prometheusAt(`http://${one.cluster.nodes[0]?.address}:${PROMETHEUS_PORT}`)
  await waitFor('Prometheus is ready', asking.isReady)
  const targets = scrape_configs.flatMap(({ static_configs }) => static_configs).length
  await waitFor(`Prometheus scrapes ${targets} targets`, async () => {
    const [up] = await asking.query('count(up == 1)')
    return Number(up?.value[1]) === targets
  })
  return asking
}
