import { Counter, Gauge, Registry } from 'prom-client'
import { LATENCY_BUCKETS_SECONDS } from '../../shared/http/ops.ts'
import { AUTHENTICATION_FAILURES } from '../../shared/http/problem.ts'
import type { Tenant } from '../../shared/http/tenants.ts'
import { LatencyHistogram } from '../../shared/service/tally.ts'
import { ACTIONS } from './acts-log.ts'
import { OPERATORS } from './shares.ts'

/** Why a follower was disconnected by the console. */
export const CUT_REASONS = ['behind', 'draining', 'unreadable', 'refused'] as const

/** What became of a log-in. */
export const LOGIN_RESULTS = ['done', 'refused', 'failed'] as const
export type LoginResult = (typeof LOGIN_RESULTS)[number]

/** Gauges that are read when metrics are. */
const LEVELS = ['scans', 'followers', 'jobs', 'ready', 'tenantsCurrent', 'tokenKeysCurrent'] as const

/** All metrics of the console. Series without a tenant exist, with 0, before the first request. */
export function createMetrics(routes: readonly string[]) {
  const registry = new Registry()
  const registers = [registry]
  const counter = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Counter({ name: `kafkatrace_console_${name}`, help, labelNames, registers })
  const gauge = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Gauge({ name: `kafkatrace_console_${name}`, help, labelNames, registers })
  const table = {
    requests: counter('http_requests_total', 'Requests by route and status.', ['route', 'status']),
    requestSeconds: new LatencyHistogram({
      name: 'kafkatrace_console_request_seconds',
      help: 'Time from a request’s arrival to its answer. Requests that follow or wait for outcomes are not counted.',
      buckets: LATENCY_BUCKETS_SECONDS,
      registers,
    }),
    scans: gauge('scans_running', 'Readers of the log that are in use.'),
    scanned: counter('scanned_offsets_total', 'Offsets that were passed in the log for requests.'),
    crowded: counter(
      'crowded_requests_total',
      'Requests refused with 503 because readers of the log, followers or followed streams were at their limit, by tenant; * stands for operators of all tenants. With several tenants, a tenant may have no more than stay free for the others. A job’s attempts count, too.',
      ['tenant'],
    ),
    followers: gauge('followers', 'Requests that follow outcomes.'),
    outcomesSent: counter('outcomes_sent_total', 'Outcomes that were sent to followers.'),
    followersCut: counter(
      'followers_cut_total',
      'Followers that the console disconnected, by reason: behind (read too slowly), draining, unreadable, or refused (their key may not read the stream any more). The others can resume.',
      ['reason'],
    ),
    lettersActed: counter('letters_acted_total', 'Dead letters that were redriven or discarded.', ['act']),
    jobs: gauge('jobs_running', 'Redrives and discards by filter that are under way in this process.'),
    ready: gauge('ready', '1 while every check of /readyz holds, else 0.'),
    tokenKeysCurrent: gauge(
      'token_keys_current',
      '0 while /readyz says that the keys of JWT_ISSUER cannot be read, else 1.',
    ),
    logins: counter(
      'logins_total',
      'Log-ins by result: done, refused (by the issuer, or because its token grants nothing here), or failed (no answer of the issuer’s that can be used).',
      ['result'],
    ),
    tenantsCurrent: gauge(
      'tenants_current',
      '0 while /readyz says that TENANTS_FILE is not used and what it said before is, else 1.',
    ),
    authenticationFailures: counter(
      'authentication_failures_total',
      'Requests without a key, with several or an unknown one, with one that has expired or is not valid yet, or with one of another tenant than they name.',
      ['reason'],
    ),
    jobFaults: counter('job_faults_total', 'Faults after which a job waited and went on.'),
  }
  for (const reason of CUT_REASONS) table.followersCut.inc({ reason }, 0)
  for (const result of LOGIN_RESULTS) table.logins.inc({ result }, 0)
  for (const act of ACTIONS) table.lettersActed.inc({ act }, 0)
  for (const reason of AUTHENTICATION_FAILURES) table.authenticationFailures.inc({ reason }, 0)
  for (const route of routes) table.requests.inc({ route, status: '200' }, 0)
  const seconds = table.requestSeconds.series()
  return {
    ...table,
    registry,
    /** Gauges are read when metrics are. */
    observe(read: () => Record<(typeof LEVELS)[number], number>): void {
      for (const name of LEVELS)
        Object.assign(table[name], {
          collect() {
            table[name].set(read()[name])
          },
        })
    },
    /** Makes the series of every tenant, and of operators, so that they are there before the first request. */
    declare(tenants: readonly Pick<Tenant, 'name'>[]): void {
      for (const tenant of [...tenants.map(({ name }) => name), OPERATORS]) table.crowded.inc({ tenant }, 0)
    },
    /** @param durationSeconds undefined: it is not counted */
    answered(route: string, status: number, durationSeconds: number | undefined): void {
      table.requests.inc({ route, status: String(status) })
      if (durationSeconds !== undefined) seconds.observe(durationSeconds)
    },
  }
}

export type ConsoleMetrics = ReturnType<typeof createMetrics>
