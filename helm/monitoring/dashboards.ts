/**
 * The dashboards' source. `bun run generate` writes dashboards/*.json from it.
 */
/** A unit, by Grafana's name. */
type Unit = 's' | 'bytes' | 'Bps' | 'percentunit' | 'reqps' | 'ops' | 'short' | 'none'

interface Query {
  readonly expr: string
  /** The legend of a series: text and `{{label}}`. */
  readonly legend: string
}

interface Panel {
  readonly title: string
  readonly description: string
  readonly unit: Unit
  readonly queries: readonly Query[]
  /** The threshold of an alert. */
  readonly threshold?: number
  /** The threshold is a minimum. */
  readonly badBelow?: boolean
  /** Shows one figure, not a curve. */
  readonly stat?: boolean
}

interface Dashboard {
  readonly name: string
  readonly title: string
  readonly description: string
  readonly rows: readonly { readonly title: string; readonly panels: readonly Panel[] }[]
}

const NS = 'namespace=~"$namespace"'
const P = (name: string, labels = ''): string => `kafkatrace_producer_${name}{${NS}${labels && `,${labels}`}}`
const C = (name: string, labels = ''): string => `kafkatrace_consumer_${name}{${NS}${labels && `,${labels}`}}`
const K = (name: string, labels = ''): string => `kafkatrace_kafka_client_${name}{${NS}${labels && `,${labels}`}}`
const SLO = (name: string, slo: string): string => `${name}{${NS},slo="${slo}"}`
const process = (name: string, service: 'producer' | 'consumer'): string =>
  `process_${name}{${NS}} and on (namespace, instance) kafkatrace_${service}_${service === 'producer' ? 'kafka_connected' : 'handlers_running'}`
const rate = (series: string): string => `rate(${series}[$__rate_interval])`
const sum = (expr: string, by?: string): string => (by === undefined ? `sum(${expr})` : `sum by (${by}) (${expr})`)
const INPUT = 'topic!~".*[.]retry"'

const one = (legend: string, expr: string): readonly Query[] => [{ expr, legend }]
const quantiles = (bucket: string): readonly Query[] =>
  [0.5, 0.95, 0.99].map((quantile) => ({
    legend: `p${quantile * 100}`,
    expr: `histogram_quantile(${quantile}, ${sum(rate(bucket), 'le')})`,
  }))

const requests: Panel = {
  title: 'Requests by status',
  description: 'Requests for events a second. 503 is Kafka away or a limit reached; 429 a tenant over its quota.',
  unit: 'reqps',
  queries: one('{{status}}', sum(rate(P('http_requests_total', 'route="events"')), 'status')),
}
const requestTime: Panel = {
  title: 'Request time',
  description:
    'From a request’s arrival to its answer; an NDJSON stream counts to its end. What is refused before its body is read, or for lack of room, quota or Kafka, does not count.',
  unit: 's',
  queries: quantiles(P('request_seconds_bucket', 'route="events"')),
  threshold: 0.1,
}
const failedEvents: Panel = {
  title: 'Events not stored',
  description: 'Of events of valid requests, those answered "not stored" or "unknown".',
  unit: 'percentunit',
  queries: one(
    'failed',
    `${sum(rate(P('events_total', 'outcome=~"not_stored|unknown"')))} / ${sum(rate(P('events_total', 'outcome!="refused"')))}`,
  ),
  threshold: 0.01,
}
const outcomes: Panel = {
  title: 'Outcomes',
  description: 'Committed outcomes a second: processed, dead, moved to .retry, or a duplicate that was dropped.',
  unit: 'ops',
  queries: one('{{outcome}}', sum(rate(C('outcomes_total')), 'outcome')),
}
const latency: Panel = {
  title: 'Receipt to outcome',
  description: 'From receipt by the producer to the committed outcome.',
  unit: 's',
  queries: quantiles(C('event_latency_seconds_bucket')),
}
const deadRatio: Panel = {
  title: 'Dead letters',
  description: 'Of outcomes that end an event, those that are dead letters.',
  unit: 'percentunit',
  queries: one(
    'dead',
    `${sum(rate(C('outcomes_total', 'outcome="dead"')))} / ${sum(rate(C('outcomes_total', 'outcome=~"processed|dead"')))}`,
  ),
  threshold: 0.01,
}
const processPanels = (service: 'producer' | 'consumer'): readonly Panel[] => [
  {
    title: 'CPU',
    description: 'Cores in use, of all threads.',
    unit: 'none',
    queries: one(
      '{{instance}}',
      `sum by (instance) (${rate(`process_cpu_seconds_total{${NS}}`)} and on (namespace, instance) kafkatrace_${service}_${service === 'producer' ? 'kafka_connected' : 'handlers_running'})`,
    ),
  },
  {
    title: 'Resident memory',
    description: 'As /proc tells it.',
    unit: 'bytes',
    queries: one('{{instance}}', process('resident_memory_bytes', service)),
  },
  {
    title: 'Event loop delay',
    description: 'The longest delay of a 100 ms timer since the last scrape.',
    unit: 's',
    queries: one('{{instance}}', process('event_loop_delay_max_seconds', service)),
  },
  {
    title: 'Open files',
    description: 'File descriptors, sockets included.',
    unit: 'short',
    queries: one('{{instance}}', process('open_fds', service)),
  },
]
const sloPanels = (slo: 'availability' | 'latency', budget: number): readonly Panel[] => [
  {
    title: 'Budget left',
    description: 'Of the error budget of 30 days, weighted by traffic. Below zero the objective is missed.',
    unit: 'percentunit',
    queries: one('left', SLO('slo:period_error_budget_remaining:ratio', slo)),
    threshold: 0,
    badBelow: true,
    stat: true,
  },
  {
    title: 'Burn rate',
    description: 'How many times as fast as the budget allows, over 5 minutes and an hour; 14.4 of both pages.',
    unit: 'none',
    queries: [
      { legend: '5 m', expr: `${SLO('slo:sli_error:ratio_rate5m', slo)} / ${budget}` },
      { legend: '1 h', expr: `${SLO('slo:sli_error:ratio_rate1h', slo)} / ${budget}` },
    ],
    threshold: 14.4,
  },
  {
    title: 'Bad requests by window',
    description: 'The share of bad requests in every window that alerts use.',
    unit: 'percentunit',
    queries: ['5m', '30m', '1h', '2h', '6h', '1d', '3d'].map((window) => ({
      legend: window,
      expr: SLO(`slo:sli_error:ratio_rate${window}`, slo),
    })),
    threshold: budget,
  },
]

/** Metrics that no panel shows, and why. A test checks that every metric is in a panel or here. */
export const NOT_SHOWN: Readonly<Record<string, string>> = {
  kafkatrace_producer_webhook_handshakes_total: 'counts once for each subscription',
  kafkatrace_consumer_records_fetched_total: 'differs from the outcomes, which have a panel, by what is waiting only',
  kafkatrace_consumer_audit_records_total: 'progress of the background audit; what it finds has panels',
  process_start_time_seconds: 'for changes() and for rates of what ended with a process',
}

export const dashboards: readonly Dashboard[] = [
  {
    name: 'overview',
    title: 'KafkaTrace / Overview',
    description: 'Rate, errors and duration of both services, and whether what comes in also comes out.',
    rows: [
      {
        title: 'Both services',
        panels: [
          {
            title: 'Events in and out',
            description:
              'Stored by the producer; ended by the consumer (processed, dead or duplicate); moved to .retry.',
            unit: 'ops',
            queries: [
              { legend: 'stored', expr: sum(rate(P('events_total', 'outcome="stored"'))) },
              { legend: 'ended', expr: sum(rate(C('outcomes_total', 'outcome!="retry"'))) },
              { legend: 'to .retry', expr: sum(rate(C('outcomes_total', 'outcome="retry"'))) },
            ],
          },
          {
            title: 'Waiting events',
            description: 'Not committed or not fetched yet, and in .retry.',
            unit: 'short',
            queries: [
              { legend: 'lag', expr: sum(C('lag_records', INPUT)) },
              { legend: 'in .retry', expr: sum(C('records_held', 'state="waiting"')) },
            ],
          },
        ],
      },
      { title: 'Producer', panels: [requests, failedEvents, requestTime] },
      { title: 'Consumer', panels: [outcomes, deadRatio, latency] },
    ],
  },
  {
    name: 'producer',
    title: 'KafkaTrace / Producer',
    description: 'HTTP to Kafka: requests, events, levels against their limits.',
    rows: [
      {
        title: 'Requests and events',
        panels: [
          requests,
          requestTime,
          {
            title: 'Acknowledgement time',
            description: 'From handing a request’s events to Kafka to the last acknowledgement.',
            unit: 's',
            queries: quantiles(P('ack_seconds_bucket')),
          },
          {
            title: 'Events by outcome',
            description: 'Events a second of all tenants and streams.',
            unit: 'ops',
            queries: one('{{outcome}}', sum(rate(P('events_total')), 'outcome')),
          },
          failedEvents,
          {
            title: 'Stored events by stream',
            description: 'Events a second that were acknowledged by Kafka.',
            unit: 'ops',
            queries: one('{{tenant}}/{{stream}}', sum(rate(P('events_total', 'outcome="stored"')), 'tenant, stream')),
          },
        ],
      },
      {
        title: 'Levels',
        panels: [
          {
            title: 'Levels of their limits',
            description: 'Requests and bytes in flight, records and bytes in the queue. At the limit: 503.',
            unit: 'percentunit',
            queries: one('{{level}} {{instance}}', `kafkatrace:producer_level:ratio{${NS}}`),
            threshold: 0.8,
          },
          {
            title: 'Requests in flight, and admitted',
            description: 'While the thread does not keep up, fewer are admitted than the limit allows.',
            unit: 'short',
            queries: [
              { legend: 'in flight {{instance}}', expr: P('in_flight_requests') },
              { legend: 'admitted {{instance}}', expr: P('admitted_requests') },
            ],
          },
          {
            title: 'Without room, by tenant',
            description:
              'Requests a second that were refused with 503 since their tenant has as much as stays free for others, or nothing is free.',
            unit: 'reqps',
            queries: one('{{tenant}}', sum(rate(P('crowded_requests_total')), 'tenant')),
          },
          {
            title: 'Connected to Kafka',
            description: '1 while an instance has a working connection.',
            unit: 'none',
            queries: one('{{instance}}', P('kafka_connected')),
            threshold: 1,
            badBelow: true,
            stat: true,
          },
          {
            title: 'Blocked streams',
            description:
              'Streams that no event can be written to: without Kafka, a producer id, their topic or the right to write to it.',
            unit: 'short',
            queries: one('{{instance}}', P('blocked_streams')),
            threshold: 1,
            stat: true,
          },
        ],
      },
      { title: 'Process', panels: processPanels('producer') },
    ],
  },
  {
    name: 'consumer',
    title: 'KafkaTrace / Consumer',
    description: 'Kafka to outcome: lag, outcomes, retries, dead letters, rebalances, transactions.',
    rows: [
      {
        title: 'Lag',
        panels: [
          {
            title: 'Lag by partition',
            description: 'Records that are fetched and not committed, and those that are still to be fetched.',
            unit: 'short',
            queries: one('{{topic}}/{{partition}}', C('lag_records')),
          },
          {
            title: 'Age of the oldest event',
            description: 'Of those fetched without a committed outcome, by partition of the streams.',
            unit: 's',
            queries: one('{{topic}}/{{partition}}', C('lag_seconds', INPUT)),
            threshold: 60,
          },
          latency,
        ],
      },
      {
        title: 'Outcomes',
        panels: [
          outcomes,
          {
            title: 'Dead letters by reason',
            description: 'A second, by reason.',
            unit: 'ops',
            queries: one('{{reason}}', sum(rate(C('dead_letters_total')), 'reason')),
          },
          {
            title: 'Dead letters sent again',
            description:
              'Events a second that were sent again under the id of a dead letter and dropped as duplicates: the sender has not noticed, and they need a new id.',
            unit: 'ops',
            queries: one('dropped', sum(rate(C('dead_letter_duplicates_total')))),
          },
          deadRatio,
          {
            title: 'Look-ups in the reference table',
            description: 'A second, by outcome. Unavailable: the file has never been read successfully.',
            unit: 'ops',
            queries: one('{{outcome}}', sum(rate(C('lookups_total')), 'outcome')),
          },
          {
            title: 'Retries',
            description: 'Failed attempts that are followed by another: at once (quick), or from .retry (slow).',
            unit: 'ops',
            queries: one('{{kind}}', sum(rate(C('retries_total')), 'kind')),
          },
          {
            title: 'Waiting in .retry',
            description: 'Events that wait for their next attempt, and those of the same key behind them.',
            unit: 'short',
            queries: one('waiting', sum(C('records_held', 'state="waiting"'))),
            threshold: 1000,
          },
          {
            title: 'Outcomes by stream',
            description: 'Committed outcomes a second by tenant and stream.',
            unit: 'ops',
            queries: one('{{tenant}}/{{stream}}', sum(rate(C('events_total')), 'tenant, stream')),
          },
        ],
      },
      {
        title: 'Work in hand',
        panels: [
          {
            title: 'Records held',
            description: 'Open: fetched, not decided. Decided: not committed yet.',
            unit: 'short',
            queries: one('{{state}}', sum(C('records_held'), 'state')),
          },
          {
            title: 'Bytes held',
            description: 'Against MAX_HELD_BYTES (input) and MAX_PARKED_BYTES (retry).',
            unit: 'bytes',
            queries: one('{{source}}', sum(C('held_bytes'), 'source')),
          },
          {
            title: 'Handlers running',
            description: 'At this moment, of MAX_CONCURRENT_HANDLERS.',
            unit: 'short',
            queries: one('{{instance}}', C('handlers_running')),
          },
          {
            title: 'Pauses of fetching',
            description:
              '"open" is ordinary back-pressure, "state" a partition that is paused or about to be revoked; the others are limits that were reached.',
            unit: 'ops',
            queries: one('{{reason}}', sum(rate(C('pauses_total')), 'reason')),
          },
        ],
      },
      {
        title: 'Partitions',
        panels: [
          {
            title: 'Partitions by state',
            description: 'Assigned: restored, read, paused, or about to be revoked.',
            unit: 'short',
            queries: one('{{state}} {{instance}}', C('partitions')),
          },
          {
            title: 'Paused partitions',
            description:
              'By topic and cause: records cannot be read (unreadable), or outcomes cannot be written or committed (unwritable). /readyz has the reason.',
            unit: 'short',
            queries: one('{{topic}} {{cause}}', sum(C('paused_partitions'), 'topic, cause')),
            threshold: 1,
          },
          {
            title: 'Restoring a partition, average',
            description: 'How long an assigned partition took to be read from, on average since the start.',
            unit: 's',
            queries: one('{{instance}}', `${C('rebuild_seconds_sum')} / ${C('rebuild_seconds_count')}`),
          },
          {
            title: 'Repaired and skipped',
            description:
              'Since the consumers’ start: records that were called done without an outcome and were processed then, offsets that were deleted unread, and events with more than one outcome.',
            unit: 'short',
            queries: [
              ...one('repaired', sum(C('repaired_total'))),
              ...one('skipped', sum(C('skipped_offsets_total'))),
              ...one('doubled', sum(C('audit_doubled_total'))),
            ],
            threshold: 1,
          },
        ],
      },
      {
        title: 'Group and transactions',
        panels: [
          {
            title: 'Rebalances',
            description: 'In the last 15 minutes, by what they did.',
            unit: 'short',
            queries: one('{{kind}}', sum(`increase(${C('rebalances_total')}[15m])`, 'kind')),
            threshold: 15,
          },
          {
            title: 'Clients replaced',
            description: 'In the last 15 minutes: Kafka clients that could not go on.',
            unit: 'short',
            queries: one('{{instance}}', `increase(${C('client_replacements_total')}[15m])`),
            threshold: 3,
          },
          {
            title: 'Errors that nobody has caught',
            description: 'In the last 15 minutes: mostly of handlers that do something without waiting for it.',
            unit: 'short',
            queries: one('{{instance}}', `increase(${C('uncaught_errors_total')}[15m])`),
            threshold: 3,
          },
          {
            title: 'Commits stalled',
            description:
              'How long records have been decided and none was committed. After TRANSACTION_TIMEOUT_MS and 10 s the clients are replaced, and it begins anew.',
            unit: 's',
            queries: one('{{instance}}', C('commit_stalled_seconds')),
            threshold: 10,
          },
          {
            title: 'Transactions',
            description: 'A second, by result.',
            unit: 'ops',
            queries: one('{{result}}', sum(rate(C('transactions_total')), 'result')),
          },
          {
            title: 'Transaction time',
            description: 'From its first record to its commit.',
            unit: 's',
            queries: quantiles(C('transaction_seconds_bucket')),
          },
          {
            title: 'Records a transaction',
            description: 'Outcomes that are committed together, on average.',
            unit: 'short',
            queries: one(
              'records',
              `${sum(rate(C('transaction_records_total')))} / ${sum(rate(C('transactions_total', 'result="committed"')))}`,
            ),
          },
        ],
      },
      { title: 'Process', panels: processPanels('consumer') },
    ],
  },
  {
    name: 'kafka-client',
    title: 'KafkaTrace / Kafka client',
    description: 'Where time goes between the services and the brokers, by librdkafka’s statistics.',
    rows: [
      {
        title: 'Latency',
        panels: ['rtt', 'queue', 'socket'].map((stage, index) => ({
          title: ['Round trip', 'In the client’s queue', 'In the socket’s buffer'][index] ?? stage,
          description:
            [
              'From a request to its answer, over all brokers: the average, and the worst broker’s p99. Fetches wait for data on purpose.',
              'How long a record waits before it is part of a request.',
              'How long a request waits before it is written to the socket.',
            ][index] ?? '',
          unit: 's' as const,
          queries: one(
            '{{client}} {{statistic}}',
            `max by (client, statistic) (${K('latency_seconds', `stage="${stage}"`)})`,
          ),
        })),
      },
      {
        title: 'Connections and queues',
        panels: [
          {
            title: 'Brokers up',
            description: 'Brokers that a client has a working connection to; the fewest of all instances.',
            unit: 'short',
            queries: one('{{client}}', `min by (client) (${K('brokers_up')})`),
            threshold: 1,
            badBelow: true,
          },
          {
            title: 'Records queued',
            description: 'Records that wait in the client for their acknowledgement.',
            unit: 'short',
            queries: one('{{client}}', sum(K('queue_records'), 'client')),
          },
          {
            title: 'Bytes queued',
            description: 'Bytes of records that wait in the client for their acknowledgement.',
            unit: 'bytes',
            queries: one('{{client}}', sum(K('queue_bytes'), 'client')),
          },
          {
            title: 'Requests in trouble',
            description: 'A second: sent again (retry), or never answered (timeout).',
            unit: 'ops',
            queries: one('{{client}} {{trouble}}', sum(rate(K('request_troubles_total')), 'client, trouble')),
          },
        ],
      },
    ],
  },
  {
    name: 'slo',
    title: 'KafkaTrace / SLO',
    description: 'Service levels: 99.9 % of requests are not answered with 5xx; 95 % are answered within 100 ms.',
    rows: [
      { title: 'Availability, 99.9 %', panels: sloPanels('availability', 0.001) },
      { title: 'Latency, 95 % within 100 ms', panels: sloPanels('latency', 0.05) },
    ],
  },
]

const COLUMNS = 24
const HEIGHT = 8
const datasource = { type: 'prometheus', uid: '$datasource' }

/** A dashboard as Grafana imports it. */
export function dashboardJson({ name, title, description, rows }: Dashboard) {
  const panels: object[] = []
  let y = 0
  for (const row of rows) {
    panels.push({
      id: panels.length + 1,
      type: 'row',
      title: row.title,
      collapsed: false,
      panels: [],
      gridPos: { x: 0, y, w: COLUMNS, h: 1 },
    })
    y++
    const across = row.panels.length % 3 === 0 ? 3 : 2
    const width = COLUMNS / across
    row.panels.forEach((panel, index) => {
      const gridPos = {
        x: (index % across) * width,
        y: y + Math.floor(index / across) * HEIGHT,
        w: width,
        h: HEIGHT,
      }
      panels.push(panelJson(panel, panels.length + 1, gridPos))
    })
    y += Math.ceil(row.panels.length / across) * HEIGHT
  }
  return {
    uid: `kafkatrace-${name}`,
    title,
    description,
    tags: ['kafkatrace'],
    schemaVersion: 41,
    version: 1,
    editable: false,
    graphTooltip: 1,
    refresh: '30s',
    time: { from: 'now-1h', to: 'now' },
    timezone: 'browser',
    links: [
      {
        title: 'KafkaTrace',
        type: 'dashboards',
        tags: ['kafkatrace'],
        asDropdown: true,
        includeVars: true,
        keepTime: true,
      },
    ],
    templating: {
      list: [
        { name: 'datasource', label: 'Data source', type: 'datasource', query: 'prometheus', current: {}, refresh: 1 },
        {
          name: 'namespace',
          label: 'Namespace',
          type: 'query',
          datasource,
          // Both services have a Kafka client; only one of them may be running.
          query: { query: 'label_values(kafkatrace_kafka_client_brokers_up, namespace)', refId: 'namespace' },
          refresh: 2,
          multi: true,
          includeAll: true,
          allValue: '.*',
          current: { text: ['All'], value: ['$__all'] },
        },
      ],
    },
    annotations: { list: [] },
    panels,
  }
}

function panelJson(panel: Panel, id: number, gridPos: object) {
  const { title, description, unit, queries, threshold, badBelow = false, stat = false } = panel
  const [below, above] = badBelow ? ['red', 'green'] : ['green', 'red']
  const thresholds = {
    mode: 'absolute',
    steps: [
      { color: threshold === undefined ? 'green' : below, value: null },
      ...(threshold === undefined ? [] : [{ color: above, value: threshold }]),
    ],
  }
  return {
    id,
    type: stat ? 'stat' : 'timeseries',
    title,
    description,
    gridPos,
    datasource,
    fieldConfig: {
      defaults: {
        unit,
        ...(badBelow ? {} : { min: 0 }),
        thresholds,
        custom: stat ? {} : { thresholdsStyle: { mode: threshold === undefined ? 'off' : 'line' } },
      },
      overrides: [],
    },
    options: stat
      ? { reduceOptions: { calcs: ['lastNotNull'] }, colorMode: 'value', graphMode: 'area' }
      : {
          legend: { displayMode: 'table', placement: 'bottom', calcs: ['lastNotNull', 'max'] },
          tooltip: { mode: 'multi', sort: 'desc' },
        },
    targets: queries.map(({ expr, legend }, index) => ({
      refId: String.fromCharCode(65 + index),
      datasource,
      expr,
      legendFormat: legend,
    })),
  }
}

/** Indented, with short lists on one line, as the formatter wants it. */
const formatted = (value: object): string =>
  JSON.stringify(value, undefined, 2).replaceAll(
    /\[\n\s+([^[\]{}]*?)\n\s*\]/g,
    (_, items: string) => `[${items.split(/,\n\s*/).join(', ')}]`,
  )

/** By file name in the repository. */
export const dashboardFiles = (): Map<string, string> =>
  new Map(dashboards.map((one) => [`${one.name}.json`, `${formatted(dashboardJson(one))}\n`]))
