/**
 * The Grafana dashboards. `bun run generate` writes dashboards/*.json from this file.
 */
/** A unit, by Grafana's name. */
type Unit = 's' | 'bytes' | 'Bps' | 'percentunit' | 'reqps' | 'ops' | 'short' | 'none'

interface Query {
  readonly expr: string
  /** A series' name: text and `{{label}}`. */
  readonly legend: string
}

interface Panel {
  readonly title: string
  readonly description: string
  readonly unit: Unit
  readonly queries: readonly Query[]
  /** Where an alert starts. */
  readonly threshold?: number
  /** Values below the threshold are bad. */
  readonly badBelow?: boolean
  /** One figure instead of a graph. */
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
const O = (name: string, labels = ''): string => `kafkatrace_console_${name}{${NS}${labels && `,${labels}`}}`
const K = (name: string, labels = ''): string => `kafkatrace_kafka_client_${name}{${NS}${labels && `,${labels}`}}`
const SLO = (name: string, slo: string): string => `${name}{${NS},slo="${slo}"}`
/** A metric that only this service has. */
const OWN = { producer: 'kafka_connected', consumer: 'handlers_running', console: 'ready' } as const
type Service = keyof typeof OWN
const process = (name: string, service: Service): string =>
  `process_${name}{${NS}} and on (namespace, instance) kafkatrace_${service}_${OWN[service]}`
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
  description:
    'Requests for events a second. 503: Kafka is unreachable or a limit is reached. 429: a tenant exceeds its quota.',
  unit: 'reqps',
  queries: one('{{status}}', sum(rate(P('http_requests_total', 'route=~"events|webhooks"')), 'status')),
}
const requestTime: Panel = {
  title: 'Request time',
  description:
    'From a request’s arrival to its answer. NDJSON streams are not counted, nor are requests that are refused: with 4xx, or for lack of room or Kafka.',
  unit: 's',
  queries: quantiles(P('request_seconds_bucket', 'route=~"events|webhooks"')),
  threshold: 0.1,
}
const failedEvents: Panel = {
  title: 'Events not stored',
  description: 'Share of the events of valid requests that were answered "not stored" or "unknown".',
  unit: 'percentunit',
  queries: one(
    'failed',
    `${sum(rate(P('events_total', 'outcome=~"not_stored|unknown"')))} / ${sum(rate(P('events_total', 'outcome!="refused"')))}`,
  ),
  threshold: 0.01,
}
const outcomes: Panel = {
  title: 'Outcomes',
  description: 'Committed outcomes a second: processed, dead, moved to .retry, or dropped as a duplicate.',
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
  description: 'Share of dead letters among final outcomes (processed and dead).',
  unit: 'percentunit',
  queries: one(
    'dead',
    `${sum(rate(C('outcomes_total', 'outcome="dead"')))} / ${sum(rate(C('outcomes_total', 'outcome=~"processed|dead"')))}`,
  ),
  threshold: 0.01,
}
const consoleRequests: Panel = {
  title: 'Requests by status',
  description:
    'Requests a second. 503: Kafka cannot be read or written, all readers of the log are busy (MAX_SCANS), or there are MAX_FOLLOWERS followers.',
  unit: 'reqps',
  queries: one('{{status}}', sum(rate(O('http_requests_total')), 'status')),
}
const scans: Panel = {
  title: 'Readers of the log in use',
  description:
    'Clients that read the log for requests now. Limit: MAX_SCANS. At the limit, requests wait shortly and are answered 503.',
  unit: 'short',
  queries: one('{{instance}}', O('scans_running')),
}
const lettersActed: Panel = {
  title: 'Dead letters acted on',
  description: 'Dead letters a second that were redriven or discarded.',
  unit: 'ops',
  queries: one('{{act}}', sum(rate(O('letters_acted_total')), 'act')),
}
const processPanels = (service: Service): readonly Panel[] => [
  {
    title: 'CPU',
    description: 'Cores in use, over all threads.',
    unit: 'none',
    queries: one(
      '{{instance}}',
      `sum by (instance) (${rate(`process_cpu_seconds_total{${NS}}`)} and on (namespace, instance) kafkatrace_${service}_${OWN[service]})`,
    ),
  },
  {
    title: 'Resident memory',
    description: 'From /proc.',
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
    description: 'Open file descriptors, including sockets.',
    unit: 'short',
    queries: one('{{instance}}', process('open_fds', service)),
  },
]
type Slo = 'availability' | 'latency' | 'probes' | 'outcomes'
/** @param what the service level counts */
const sloPanels = (slo: Slo, budget: number, what: string): readonly Panel[] => [
  {
    title: 'Budget left',
    description:
      'Share of the 30-day error budget that is left, weighted by traffic. Below zero, the objective is missed.',
    unit: 'percentunit',
    queries: one('left', SLO('slo:period_error_budget_remaining:ratio', slo)),
    threshold: 0,
    badBelow: true,
    stat: true,
  },
  {
    title: 'Burn rate',
    description:
      'The rate at which the budget is used up, over 5 minutes and 1 hour; 1 uses it up in 30 days. Above 14.4 in both, an alert pages.',
    unit: 'none',
    queries: [
      { legend: '5 m', expr: `${SLO('slo:sli_error:ratio_rate5m', slo)} / ${budget}` },
      { legend: '1 h', expr: `${SLO('slo:sli_error:ratio_rate1h', slo)} / ${budget}` },
    ],
    threshold: 14.4,
  },
  {
    title: `Bad ${what} by window`,
    description: `Share of bad ${what} in each window that the alerts use.`,
    unit: 'percentunit',
    queries: ['5m', '30m', '1h', '2h', '6h', '1d', '3d'].map((window) => ({
      legend: window,
      expr: SLO(`slo:sli_error:ratio_rate${window}`, slo),
    })),
    threshold: budget,
  },
]

const tenantPanels: readonly Panel[] = [
  {
    title: 'Budget left, by tenant',
    description:
      'Of the 30-day error budget of each tenant: 0.1 % of its own requests. Below zero, its objective is missed.',
    unit: 'percentunit',
    queries: one('{{tenant}}', SLO('slo:period_error_budget_remaining:ratio', 'tenant_availability')),
    threshold: 0,
    badBelow: true,
    stat: true,
  },
  {
    title: 'Burn rate, by tenant',
    description:
      'The rate at which each tenant’s budget is used up, over an hour; 1 uses it up in 30 days. Above 14.4, also over 5 minutes, there is an alert.',
    unit: 'none',
    queries: one('{{tenant}}', `${SLO('slo:sli_error:ratio_rate1h', 'tenant_availability')} / 0.001`),
    threshold: 14.4,
  },
  {
    title: 'Requests by tenant and result',
    description: 'Requests for events a second whose tenant is known. Refused: 4xx. Failed: 5xx.',
    unit: 'reqps',
    queries: one('{{tenant}} {{result}}', sum(rate(P('tenant_requests_total')), 'tenant, result')),
  },
]

const PROBES = `{${NS},job="kafkatrace-probe"}`
const probePanels: readonly Panel[] = [
  {
    title: 'Probes',
    description: '1 while the event that the prober sends is stored, else 0. By target.',
    unit: 'none',
    queries: one('{{instance}}', `min by (instance) (probe_success${PROBES})`),
    threshold: 1,
    badBelow: true,
    stat: true,
  },
  {
    title: 'Status that probes get',
    description:
      '202: stored. 503: producers answer, and cannot store. 0: no answer, as where a Service has no pod that is ready.',
    unit: 'none',
    queries: one('{{instance}}', `max by (instance) (probe_http_status_code${PROBES})`),
  },
  {
    title: 'Time of probes by phase',
    description: 'Looking up the name, connecting, TLS, waiting for the answer, and reading it.',
    unit: 's',
    queries: one('{{phase}}', `max by (phase) (probe_http_duration_seconds${PROBES})`),
  },
]

const overdue: Panel = {
  title: 'Events that are overdue',
  description:
    'Events that wait behind one that was received more than 10 s ago, without streams that an operator has paused. They count as late.',
  unit: 'short',
  queries: one('overdue', `kafkatrace:consumer_overdue:records{${NS}}`),
}

const failedAuthentications = (metric: string): Panel => ({
  title: 'Failed authentications',
  description:
    'Requests a second without a key, with an unknown one, or with one that is not valid now or is of another tenant than they name.',
  unit: 'reqps',
  queries: one('{{reason}}', sum(rate(metric), 'reason')),
})

/** Metrics that no panel shows, and why. A test checks that every metric is in a panel or here. */
export const NOT_SHOWN: Readonly<Record<string, string>> = {
  kafkatrace_producer_webhook_handshakes_total: 'counts one per subscription',
  kafkatrace_producer_schemas: 'changes when somebody adds a version',
  kafkatrace_producer_key_expiry_timestamp_seconds: 'has an alert; tenant-key list shows all keys',
  kafkatrace_producer_schemas_current: 'has an alert; /readyz says what is wrong',
  kafkatrace_producer_tenants_current: 'has an alert; /readyz says what is wrong',
  kafkatrace_console_tenants_current: 'has an alert; /readyz says what is wrong',
  kafkatrace_producer_token_keys_current: 'has an alert; /readyz says what is wrong',
  kafkatrace_console_token_keys_current: 'has an alert; /readyz says what is wrong',
  kafkatrace_console_logins_total: 'people say when they cannot log in; the log says why',
  kafkatrace_consumer_records_fetched_total:
    'follows the outcomes, which have a panel; the difference is work in progress',
  kafkatrace_consumer_audit_records_total: 'progress of the background audit; its findings have panels',
}

/** The mean of a histogram. */
const mean = (histogram: (suffix: string) => string): string =>
  `${sum(rate(histogram('sum')))} / ${sum(rate(histogram('count')))}`
/** A rate that is 0 where there is no series, as for what has not happened yet, or before a time that is known of. */
const orZero = (expr: string): string => `(${expr} or vector(0))`
const requestSeconds = (suffix: string): string => P(`request_seconds_${suffix}`, 'route=~"events|webhooks"')
const p95 = (bucket: string): string => `histogram_quantile(0.95, ${sum(rate(bucket), 'le')})`
const HOUR_AGO = '[$__rate_interval] offset 1h'

const incident: Dashboard = {
  name: 'incident',
  title: 'KafkaTrace / Incident',
  description: 'Is it us? Where? Since when? Read it from the top: the first row that is not green says where to look.',
  rows: [
    {
      title: 'Is it us?',
      panels: [
        {
          title: 'Requests that we failed',
          description:
            'Share of requests for events that are answered 5xx, of those that are not answered 4xx. Above 0, it is us, or Kafka: see the next panels.',
          unit: 'percentunit',
          queries: one(
            'answered 5xx',
            `${orZero(sum(rate(P('http_requests_total', 'route=~"events|webhooks",status=~"5.."'))))} / ${sum(rate(P('http_requests_total', 'route=~"events|webhooks",status!~"4.."')))}`,
          ),
          threshold: 0.001,
          stat: true,
        },
        {
          title: 'Requests that senders have to fix',
          description:
            'Share of requests for events that are answered 4xx: it is a sender, or a quota. The log names the tenant.',
          unit: 'percentunit',
          queries: one(
            'answered 4xx',
            `${orZero(sum(rate(P('http_requests_total', 'route=~"events|webhooks",status=~"4.."'))))} / ${sum(rate(P('http_requests_total', 'route=~"events|webhooks"')))}`,
          ),
          threshold: 0.05,
          stat: true,
        },
        {
          title: 'Probes that fail',
          description:
            'Share of the prober’s events of the last five minutes that were not stored. Above 0 while no request fails here: clients do not reach a producer. Empty without a prober.',
          unit: 'percentunit',
          queries: one('not stored', SLO('slo:sli_error:ratio_rate5m', 'probes')),
          threshold: 0.001,
          stat: true,
        },
        {
          title: 'Share of time that is Kafka’s',
          description:
            'How much of the time of a request is the wait for Kafka’s acknowledgement, on average. Near 1 is normal. If requests are slow and it is high, Kafka is; if it is low, the producer is.',
          unit: 'percentunit',
          queries: one('waiting for Kafka', `${sum(rate(P('ack_seconds_sum')))} / ${sum(rate(requestSeconds('sum')))}`),
          stat: true,
        },
        {
          title: 'Producers without Kafka',
          description: 'Instances without a working connection to Kafka, and streams that cannot be written to.',
          unit: 'short',
          queries: [
            { legend: 'not connected', expr: orZero(`count(${P('kafka_connected')} == 0)`) },
            { legend: 'blocked streams', expr: `max(${P('blocked_streams')})` },
          ],
          threshold: 1,
          stat: true,
        },
        {
          title: 'Partitions that are not read',
          description: 'Assigned partitions that are paused or being restored. Paused by an operator, too.',
          unit: 'short',
          queries: one('not read', orZero(sum(C('partitions', 'state=~"paused|restoring"')))),
          threshold: 1,
          stat: true,
        },
        {
          title: 'Handlers that fail',
          description:
            'Failed attempts that are retried, and dead letters, as a share of these attempts and of all outcomes. Above 0, it is a handler, a service that it asks, or a sender’s data: see the dead letters by reason.',
          unit: 'percentunit',
          queries: one(
            'failed',
            `(${sum(rate(C('retries_total')))} + ${sum(rate(C('outcomes_total', 'outcome="dead"')))}) / (${sum(rate(C('retries_total')))} + ${sum(rate(C('outcomes_total')))})`,
          ),
          threshold: 0.01,
          stat: true,
        },
      ],
    },
    {
      title: 'Where?',
      panels: [
        {
          title: 'Time by stage, p95',
          description:
            'Request: to its answer. Acknowledgement: Kafka, within the request. Receipt to outcome: the whole way. Transaction: outcomes and offsets. The stage whose line rises first is where it is. Points are single traces.',
          unit: 's',
          queries: [
            { legend: 'producer: request', expr: p95(requestSeconds('bucket')) },
            { legend: 'producer: acknowledgement', expr: p95(P('ack_seconds_bucket')) },
            { legend: 'consumer: transaction', expr: p95(C('transaction_seconds_bucket')) },
            { legend: 'receipt to outcome', expr: p95(C('event_latency_seconds_bucket')) },
          ],
        },
        {
          title: 'Failures by stage',
          description:
            'A second: answers 5xx, events that Kafka did not take, failed attempts, dead letters, transactions that did not commit, requests of Kafka’s client that were repeated or not answered.',
          unit: 'ops',
          queries: [
            { legend: 'producer: answered 5xx', expr: orZero(sum(rate(P('http_requests_total', 'status=~"5.."')))) },
            {
              legend: 'producer: not stored',
              expr: orZero(sum(rate(P('events_total', 'outcome=~"not_stored|unknown"')))),
            },
            { legend: 'consumer: attempts', expr: sum(rate(C('retries_total'))) },
            { legend: 'consumer: dead letters', expr: sum(rate(C('outcomes_total', 'outcome="dead"'))) },
            { legend: 'consumer: transactions', expr: sum(rate(C('transactions_total', 'result!="committed"'))) },
            { legend: 'Kafka’s client', expr: sum(rate(K('request_troubles_total'))) },
            { legend: 'console: answered 5xx', expr: orZero(sum(rate(O('http_requests_total', 'status=~"5.."')))) },
          ],
        },
        {
          title: 'Failures by tenant',
          description:
            'A second: requests answered 5xx, and dead letters, of the ten tenants that have most. One alone: its streams, what its handler asks, or its data. All: see the stages.',
          unit: 'ops',
          queries: [
            {
              legend: '{{tenant}}: answered 5xx',
              expr: `topk(10, ${sum(rate(P('tenant_requests_total', 'result="failed"')), 'tenant')})`,
            },
            {
              legend: '{{tenant}}: dead letters',
              expr: `topk(10, ${sum(rate(C('events_total', 'outcome="dead"')), 'tenant')})`,
            },
          ],
        },
        {
          title: 'Waiting by stage',
          description: 'What waits before each stage: the first that grows is the one that does not keep up.',
          unit: 'short',
          queries: [
            { legend: 'requests in flight', expr: sum(P('in_flight_requests')) },
            { legend: 'queue to Kafka', expr: sum(P('queue_records')) },
            { legend: 'lag', expr: sum(C('lag_records', INPUT)) },
            { legend: 'open in consumers', expr: sum(C('records_held', 'state="open"')) },
            { legend: 'decided, not committed', expr: sum(C('records_held', 'state="decided"')) },
            { legend: 'in .retry', expr: sum(C('records_held', 'state="waiting"')) },
          ],
        },
        {
          title: 'Round trip to brokers, worst',
          description: 'The average and the worst broker’s p99, by client. High here alone: the network, or a broker.',
          unit: 's',
          queries: one(
            '{{client}} {{statistic}}',
            `max by (client, statistic) (${K('latency_seconds', 'stage="rtt"')})`,
          ),
        },
        {
          title: 'Event loop delay',
          description:
            'The longest delay of a 100 ms timer since the last scrape. High here alone: a handler, or too little CPU.',
          unit: 's',
          queries: (['producer', 'consumer', 'console'] as const).map((service) => ({
            legend: service,
            expr: `max(${process('event_loop_delay_max_seconds', service)})`,
          })),
        },
        {
          title: 'Time of a request, and of Kafka in it',
          description: 'On average.',
          unit: 's',
          queries: [
            { legend: 'request', expr: mean(requestSeconds) },
            { legend: 'acknowledgement', expr: mean((suffix) => P(`ack_seconds_${suffix}`)) },
          ],
        },
      ],
    },
    {
      title: 'Since when?',
      panels: [
        {
          title: 'Alerts',
          description: 'Alerts that fire, by time. The first one says since when; its runbook says what to do.',
          unit: 'short',
          queries: one(
            '{{alertname}}',
            orZero(`sum by (alertname) (ALERTS{${NS},alertname=~"KafkaTrace.*",alertstate="firing"})`),
          ),
        },
        {
          title: 'Events now and an hour ago',
          description: 'Stored and finished a second, and an hour before: is the load unusual?',
          unit: 'ops',
          queries: [
            { legend: 'stored', expr: sum(rate(P('events_total', 'outcome="stored"'))) },
            { legend: 'finished', expr: sum(rate(C('outcomes_total', 'outcome!="retry"'))) },
            {
              legend: 'stored an hour ago',
              expr: orZero(sum(`rate(${P('events_total', 'outcome="stored"')}${HOUR_AGO})`)),
            },
            {
              legend: 'finished an hour ago',
              expr: orZero(sum(`rate(${C('outcomes_total', 'outcome!="retry"')}${HOUR_AGO})`)),
            },
          ],
        },
        {
          title: 'Instances',
          description:
            'That Prometheus reaches, by service. One that hangs or has crashed is missing from the time on.',
          unit: 'short',
          queries: (['producer', 'consumer', 'console'] as const).map((service) => ({
            legend: service,
            expr: orZero(`count(${process('start_time_seconds', service)})`),
          })),
        },
        {
          title: 'Age of the youngest process',
          description:
            'By service. It falls to zero at a start: a deployment, or a crash, at the time when something began.',
          unit: 's',
          queries: (['producer', 'consumer', 'console'] as const).map((service) => ({
            legend: service,
            expr: `time() - max(${process('start_time_seconds', service)})`,
          })),
        },
        {
          title: 'Rebalances',
          description: 'Rebalances in the last 15 minutes: consumers that came and went.',
          unit: 'short',
          queries: one('{{kind}}', sum(`increase(${C('rebalances_total')}[15m])`, 'kind')),
        },
      ],
    },
  ],
}

export const dashboards: readonly Dashboard[] = [
  {
    name: 'overview',
    title: 'KafkaTrace / Overview',
    description: 'Rate, errors and duration of the services, and whether events that are stored are also processed.',
    rows: [
      {
        title: 'Events',
        panels: [
          {
            title: 'Events in and out',
            description:
              'Stored by the producer; finished by the consumer (processed, dead or duplicate); moved to .retry.',
            unit: 'ops',
            queries: [
              { legend: 'stored', expr: sum(rate(P('events_total', 'outcome="stored"'))) },
              { legend: 'finished', expr: sum(rate(C('outcomes_total', 'outcome!="retry"'))) },
              { legend: 'to .retry', expr: sum(rate(C('outcomes_total', 'outcome="retry"'))) },
            ],
          },
          {
            title: 'Waiting events',
            description: 'Consumer lag (not yet committed or not yet fetched), and events in .retry.',
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
      { title: 'Console', panels: [consoleRequests, scans, lettersActed] },
    ],
  },
  incident,
  {
    name: 'producer',
    title: 'KafkaTrace / Producer',
    description: 'HTTP to Kafka: requests, events, and usage of limits.',
    rows: [
      {
        title: 'Requests and events',
        panels: [
          requests,
          requestTime,
          {
            title: 'Acknowledgement time',
            description: 'From passing a request’s events to the Kafka client to the last acknowledgement.',
            unit: 's',
            queries: quantiles(P('ack_seconds_bucket')),
          },
          {
            title: 'Events by outcome',
            description: 'Events a second, over all tenants and streams.',
            unit: 'ops',
            queries: one('{{outcome}}', sum(rate(P('events_total')), 'outcome')),
          },
          failedEvents,
          {
            title: 'Stored events by stream',
            description: 'Events a second that Kafka acknowledged.',
            unit: 'ops',
            queries: one('{{tenant}}/{{stream}}', sum(rate(P('events_total', 'outcome="stored"')), 'tenant, stream')),
          },
          {
            title: 'Webhooks by result',
            description:
              'Webhooks a second, by source. All but taken are refused: unsigned, wrong, stale and refused with 4xx, unavailable with 503.',
            unit: 'reqps',
            queries: one('{{source}} {{result}}', sum(rate(P('webhooks_total')), 'source, result')),
          },
          {
            title: 'Events by schema',
            description:
              'Events a second that were checked, by type, version and result. Without a type: events whose type has no schema, or of which that is unknown.',
            unit: 'ops',
            queries: one(
              '{{type}} {{version}} {{result}}',
              sum(rate(P('schema_checks_total')), 'type, version, result'),
            ),
          },
        ],
      },
      {
        title: 'Limits',
        panels: [
          {
            title: 'Usage of limits',
            description:
              'Requests and bytes in flight, records and bytes in the queue, as a share of their limits. At the limit: 503.',
            unit: 'percentunit',
            queries: one('{{level}} {{instance}}', `kafkatrace:producer_level:ratio{${NS}}`),
            threshold: 0.8,
          },
          {
            title: 'Requests in flight and admitted',
            description:
              'Admitted: how many requests may be served concurrently. Below the limit while the thread does not keep up.',
            unit: 'short',
            queries: [
              { legend: 'in flight {{instance}}', expr: P('in_flight_requests') },
              { legend: 'admitted {{instance}}', expr: P('admitted_requests') },
            ],
          },
          {
            title: 'Refused for lack of room, by tenant',
            description:
              'Requests a second that were refused with 503: the tenant holds as much as it may while others share the process, or nothing is free.',
            unit: 'reqps',
            queries: one('{{tenant}}', sum(rate(P('crowded_requests_total')), 'tenant')),
          },
          {
            title: 'Over quota, by tenant',
            description:
              'Requests a second that were refused with 429 since their tenant, stream or key had no quota left in this instance.',
            unit: 'reqps',
            queries: one('{{tenant}} {{quota}}', sum(rate(P('over_quota_requests_total')), 'tenant, quota')),
          },
          failedAuthentications(P('authentication_failures_total')),
          {
            title: 'Producers that divide quotas',
            description: 'Among how many producers each instance believes that quotas are divided.',
            unit: 'short',
            queries: one('{{instance}}', P('quota_replicas')),
          },
          {
            title: 'Connected to Kafka',
            description: '1 while an instance has a working connection to Kafka.',
            unit: 'none',
            queries: one('{{instance}}', P('kafka_connected')),
            threshold: 1,
            badBelow: true,
            stat: true,
          },
          {
            title: 'Degraded',
            description:
              '1 while an instance is ready although it can store no event: it answers 503, and no other instance is known to do better.',
            unit: 'none',
            queries: one('{{instance}}', P('degraded')),
          },
          {
            title: 'Blocked streams',
            description:
              'Streams that cannot be written to: Kafka, a producer id, the topic, or permission to write to it is missing.',
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
            description: 'Consumer lag: records fetched and not yet committed, plus records not yet fetched.',
            unit: 'short',
            queries: one('{{topic}}/{{partition}}', C('lag_records')),
          },
          {
            title: 'Age of the oldest event',
            description:
              'Age of the oldest event without a committed outcome, by partition of the streams’ own topics.',
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
            description: 'Dead letters a second, by reason.',
            unit: 'ops',
            queries: one('{{reason}}', sum(rate(C('dead_letters_total')), 'reason')),
          },
          {
            title: 'Dead letters sent again',
            description:
              'Events a second that were sent again under the id of a dead letter, and dropped as duplicates. The sender has to use a new id.',
            unit: 'ops',
            queries: one('dropped', sum(rate(C('dead_letter_duplicates_total')))),
          },
          deadRatio,
          {
            title: 'Look-ups in the reference table',
            description: 'Look-ups a second, by outcome. Unavailable: the file has never been read successfully.',
            unit: 'ops',
            queries: one('{{outcome}}', sum(rate(C('lookups_total')), 'outcome')),
          },
          {
            title: 'Retries',
            description: 'Failed attempts a second that are retried: in place (quick) or from .retry (slow).',
            unit: 'ops',
            queries: one('{{kind}}', sum(rate(C('retries_total')), 'kind')),
          },
          {
            title: 'Waiting in .retry',
            description: 'Events that wait for their next attempt, and later events of the same keys.',
            unit: 'short',
            queries: one('waiting', sum(C('records_held', 'state="waiting"'))),
            threshold: 1000,
          },
          {
            title: 'Waiting for',
            description:
              'Events in .retry that wait for a time of their own, by reason. “newer schema” and “no handler” wait for a handler to be deployed. Later events of their keys are not counted.',
            unit: 'short',
            queries: one('{{reason}}', sum(C('waiting_events'), 'reason')),
          },
          {
            title: 'Outcomes by stream',
            description: 'Committed outcomes a second, by tenant and stream.',
            unit: 'ops',
            queries: one('{{tenant}}/{{stream}}', sum(rate(C('events_total')), 'tenant, stream')),
          },
        ],
      },
      {
        title: 'Work in progress',
        panels: [
          {
            title: 'Records held',
            description: 'Open: fetched, not decided. Decided: not committed. Waiting: in .retry.',
            unit: 'short',
            queries: one('{{state}}', sum(C('records_held'), 'state')),
          },
          {
            title: 'Bytes held',
            description: 'Bytes in memory. Limits: MAX_HELD_BYTES (input) and MAX_PARKED_BYTES (retry).',
            unit: 'bytes',
            queries: one('{{source}}', sum(C('held_bytes'), 'source')),
          },
          {
            title: 'Handlers running',
            description: 'Handlers running now. Limit: MAX_CONCURRENT_HANDLERS.',
            unit: 'short',
            queries: one('{{instance}}', C('handlers_running')),
          },
          {
            title: 'Pauses of fetching',
            description:
              'Pauses a second, by reason. "open" is normal back-pressure. "state": the partition is paused or being revoked. The others are limits that were reached.',
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
            description: 'Assigned partitions: restoring, reading, paused, or draining before revocation.',
            unit: 'short',
            queries: one('{{state}} {{instance}}', C('partitions')),
          },
          {
            title: 'Paused partitions',
            description:
              'By topic and cause: records cannot be read (unreadable), outcomes cannot be written or committed (unwritable), or somebody has paused the stream (operator). /readyz gives the reason.',
            unit: 'short',
            queries: one('{{topic}} {{cause}}', sum(C('paused_partitions'), 'topic, cause')),
            threshold: 1,
          },
          {
            title: 'Restore time, average',
            description: 'Time to restore an assigned partition, on average since the process started.',
            unit: 's',
            queries: one('{{instance}}', `${C('rebuild_seconds_sum')} / ${C('rebuild_seconds_count')}`),
          },
          {
            title: 'Repaired, skipped and doubled',
            description:
              'Since the consumers started. Repaired: records before the committed offset that had no outcome and were processed. Skipped: offsets deleted before they were read. Doubled: events with more than one outcome.',
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
            description: 'Rebalances in the last 15 minutes, by kind.',
            unit: 'short',
            queries: one('{{kind}}', sum(`increase(${C('rebalances_total')}[15m])`, 'kind')),
            threshold: 15,
          },
          {
            title: 'Clients replaced',
            description: 'Replacements of the Kafka clients after a fatal error, in the last 15 minutes.',
            unit: 'short',
            queries: one('{{instance}}', `increase(${C('client_replacements_total')}[15m])`),
            threshold: 3,
          },
          {
            title: 'Uncaught errors',
            description: 'In the last 15 minutes. Usually from handlers that start work without waiting for it.',
            unit: 'short',
            queries: one('{{instance}}', `increase(${C('uncaught_errors_total')}[15m])`),
            threshold: 3,
          },
          {
            title: 'Commits stalled',
            description:
              'How long decided records have waited without any commit. After TRANSACTION_TIMEOUT_MS plus 10 s, the clients are replaced and the count starts again.',
            unit: 's',
            queries: one('{{instance}}', C('commit_stalled_seconds')),
            threshold: 10,
          },
          {
            title: 'Transactions',
            description: 'Transactions a second, by result.',
            unit: 'ops',
            queries: one('{{result}}', sum(rate(C('transactions_total')), 'result')),
          },
          {
            title: 'Transaction time',
            description: 'From a transaction’s first record to its commit.',
            unit: 's',
            queries: quantiles(C('transaction_seconds_bucket')),
          },
          {
            title: 'Outcomes per transaction',
            description: 'Average number of outcomes committed together.',
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
    name: 'console',
    title: 'KafkaTrace / Console',
    description: 'What people and clients ask of the console, and what it reads and writes for them.',
    rows: [
      {
        title: 'Requests',
        panels: [
          consoleRequests,
          {
            title: 'Requests by route',
            description: 'Requests a second.',
            unit: 'reqps',
            queries: one('{{route}}', sum(rate(O('http_requests_total')), 'route')),
          },
          {
            title: 'Request time',
            description:
              'From a request’s arrival to its answer. Requests that follow or wait for outcomes are not counted. Reading the log takes at most SCAN_TIMEOUT_MS.',
            unit: 's',
            queries: quantiles(O('request_seconds_bucket')),
          },
          failedAuthentications(O('authentication_failures_total')),
        ],
      },
      {
        title: 'Reading the log',
        panels: [
          scans,
          {
            title: 'Offsets read',
            description: 'Offsets a second that were passed in the log for requests.',
            unit: 'ops',
            queries: one('{{instance}}', sum(rate(O('scanned_offsets_total')), 'instance')),
          },
          {
            title: 'Ready',
            description: '1 while every check of /readyz holds.',
            unit: 'none',
            queries: one('{{instance}}', O('ready')),
            threshold: 1,
            badBelow: true,
            stat: true,
          },
        ],
      },
      {
        title: 'Followers of outcomes',
        panels: [
          {
            title: 'Refused for lack of room, by tenant',
            description:
              'Requests a second, and attempts of jobs, that got no reader of the log, or could not follow: the tenant has as many as it may while others share the process, or nothing is free. *: operators of all tenants.',
            unit: 'reqps',
            queries: one('{{tenant}}', sum(rate(O('crowded_requests_total')), 'tenant')),
          },
          {
            title: 'Followers',
            description: 'Requests that follow outcomes. Limit: MAX_FOLLOWERS.',
            unit: 'short',
            queries: one('{{instance}}', O('followers')),
          },
          {
            title: 'Outcomes sent',
            description: 'Outcomes a second that were sent to followers.',
            unit: 'ops',
            queries: one('{{instance}}', sum(rate(O('outcomes_sent_total')), 'instance')),
          },
          {
            title: 'Followers disconnected',
            description:
              'By the console, in the last 15 minutes. Behind: read too slowly (FOLLOWER_MAX_BYTES). Draining: the console stopped. Unreadable: Kafka could not be read. They can resume.',
            unit: 'short',
            queries: one('{{reason}}', sum(`increase(${O('followers_cut_total')}[15m])`, 'reason')),
          },
        ],
      },
      {
        title: 'Acts',
        panels: [
          lettersActed,
          {
            title: 'Jobs running',
            description: 'Redrives and discards by filter that are under way.',
            unit: 'short',
            queries: one('{{instance}}', O('jobs_running')),
          },
          {
            title: 'Faults of jobs',
            description: 'In the last 15 minutes. A job waits after a fault, and goes on.',
            unit: 'short',
            queries: one('{{instance}}', `increase(${O('job_faults_total')}[15m])`),
          },
        ],
      },
      { title: 'Process', panels: processPanels('console') },
    ],
  },
  {
    name: 'kafka-client',
    title: 'KafkaTrace / Kafka client',
    description: 'Latency and queues between the services and the brokers, from librdkafka’s statistics.',
    rows: [
      {
        title: 'Latency',
        panels: ['rtt', 'queue', 'socket'].map((stage, index) => ({
          title: ['Round trip', 'In the client’s queue', 'In the output buffer'][index] ?? stage,
          description:
            [
              'From a request to its response, over all brokers: the average, and the worst broker’s p99. Fetches wait for data on purpose.',
              'How long a record waits before it is sent in a request.',
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
            description: 'Brokers to which a client has a working connection; the minimum over all instances.',
            unit: 'short',
            queries: one('{{client}}', `min by (client) (${K('brokers_up')})`),
            threshold: 1,
            badBelow: true,
          },
          {
            title: 'Records queued',
            description: 'Records waiting in the client for acknowledgement.',
            unit: 'short',
            queries: one('{{client}}', sum(K('queue_records'), 'client')),
          },
          {
            title: 'Bytes queued',
            description: 'Bytes of records waiting in the client for acknowledgement.',
            unit: 'bytes',
            queries: one('{{client}}', sum(K('queue_bytes'), 'client')),
          },
          {
            title: 'Request retries and time-outs',
            description: 'Requests a second that were sent again (retry) or never answered (timeout).',
            unit: 'ops',
            queries: one('{{client}} {{trouble}}', sum(rate(K('request_troubles_total')), 'client, trouble')),
          },
        ],
      },
      {
        title: 'Credentials',
        panels: [
          {
            title: 'Certificates expire in',
            description:
              'The time until a certificate that is in use expires; the minimum over all instances of a service.',
            unit: 's',
            queries: one(
              '{{job}} {{certificate}}',
              `min by (job, certificate) (kafkatrace_certificate_not_after_seconds{${NS}}) - time()`,
            ),
            threshold: 7 * 86_400,
            badBelow: true,
          },
          {
            title: 'Credentials are current',
            description:
              '0: an instance cannot use changed credentials for Kafka, gets no new token, or cannot use the changed certificate of its listener.',
            unit: 'short',
            // Both have the same labels, and `or` would drop the second.
            queries: one(
              '{{job}}',
              `min by (job) (kafkatrace_kafka_credentials_current{${NS}} or label_replace(kafkatrace_listener_certificate_current{${NS}}, "of", "listener", "", ""))`,
            ),
            threshold: 1,
            badBelow: true,
          },
        ],
      },
    ],
  },
  {
    name: 'slo',
    title: 'KafkaTrace / SLO',
    description:
      'Service levels: 99.9 % of requests are not answered 5xx; 99.9 % of probes are stored; 95 % of requests are answered within 100 ms; 99 % of events have their end within 10 s.',
    rows: [
      { title: 'Availability, 99.9 %', panels: sloPanels('availability', 0.001, 'requests') },
      { title: 'Availability by tenant, 99.9 %', panels: tenantPanels },
      {
        title: 'From outside, 99.9 % of probes (where there is a prober)',
        panels: [...sloPanels('probes', 0.001, 'probes'), ...probePanels],
      },
      { title: 'Latency, 95 % within 100 ms', panels: sloPanels('latency', 0.05, 'requests') },
      {
        title: 'Outcomes, 99 % within 10 s',
        panels: [...sloPanels('outcomes', 0.01, 'events'), latency, outcomes, overdue],
      },
    ],
  },
]

const COLUMNS = 24
const HEIGHT = 8
const datasource = { type: 'prometheus', uid: '$datasource' }

/** A dashboard in Grafana's import format. */
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
          // Producer and consumer have it, so that either alone is enough.
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
      ...(isHistogram(expr) ? { exemplar: true } : {}),
    })),
  }
}

/** Only histograms have exemplars: traces of single observations. */
const isHistogram = (expr: string): boolean => expr.startsWith('histogram_quantile(')

/** Indented, with short lists on one line, as the formatter requires. */
const formatted = (value: object): string =>
  JSON.stringify(value, undefined, 2).replaceAll(
    /\[\n\s+([^[\]{}]*?)\n\s*\]/g,
    (_, items: string) => `[${items.split(/,\n\s*/).join(', ')}]`,
  )

/** The generated files, by name. */
export const dashboardFiles = (): Map<string, string> =>
  new Map(dashboards.map((one) => [`${one.name}.json`, `${formatted(dashboardJson(one))}\n`]))
