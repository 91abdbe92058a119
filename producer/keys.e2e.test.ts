import { afterAll, beforeAll, expect, test } from 'bun:test'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MAX_FAILURES } from '../shared/http/failed-authentications.ts'
import { makeKey } from '../shared/http/tenants.ts'
import { keyring } from '../shared/testing/keyring.ts'
import { type MockCluster, startMockCluster } from '../shared/testing/mock-cluster.ts'
import { readinessOf, type ServiceProcess, startService } from '../shared/testing/service-process.ts'
import { until } from '../shared/testing/until.ts'

/** Keys and quotas as real producers have them: three that divide quotas, and a tenants file that tenant-key changes. */

const PRODUCERS = 3
const { made, entry } = keyring()
/** Few enough for clients on a busy machine to send more. */
const RATE = 45
/** What a busy machine leaves of a quota for three seconds is still granted afterwards. */
const BURST = 150
const CLIENTS = 12
const MEASURED_MS = 4_000
const PAUSE_MS = 4

/** The tenants `even` and `lone` are the same, so that neither test finds what the other has left of a quota. */
const measured = (id: string) => ({
  streams: ['events'],
  quota: { eventsPerSecond: RATE, burstEvents: BURST },
  keys: [entry(id)],
})
const file = {
  tenants: {
    shop: {
      streams: ['events', 'orders'],
      streamQuotas: { orders: { eventsPerSecond: 0.003 } },
      keys: [entry('shop-1'), { ...entry('shop-till'), quota: { eventsPerSecond: 0.003 } }],
    },
    even: measured('even'),
    lone: measured('lone'),
  },
}

let cluster: MockCluster
let home: string
let path: string
let producers: ServiceProcess[]

beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), 'kafkatrace-keys-'))
  path = join(home, 'tenants.json')
  writeFileSync(path, `${JSON.stringify(file, null, 2)}\n`)
  cluster = await startMockCluster()
  producers = await Promise.all(
    Array.from({ length: PRODUCERS }, () =>
      startService('producer', {
        KAFKA_BROKERS: cluster.brokers,
        TENANTS_FILE: path,
        HOST: '127.0.0.1',
        OPS_HOST: '127.0.0.1',
        QUOTA_REPLICAS: String(PRODUCERS),
      }),
    ),
  )
  for (const one of producers)
    await until(async () => (await readinessOf(one)).ok && one.started['port'] !== undefined, {
      what: 'a producer to be ready',
    })
}, 60_000)

afterAll(async () => {
  await Promise.all(producers.map((one) => one.stop()))
  await cluster.close()
  rmSync(home, { recursive: true, force: true })
})

const ops = (started: Record<string, unknown>, path: string): string => `http://127.0.0.1:${started['opsPort']}${path}`

const sent = (
  key: string | undefined,
  stream = 'events',
  { started } = producers[0] as ServiceProcess,
): Promise<Response> =>
  fetch(`http://127.0.0.1:${started['port']}/v1/streams/${stream}/events`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(key === undefined ? {} : { 'x-api-key': key }) },
    body: '{"type":"t"}',
  })

/** The status and, where it is refused, what the problem says. */
async function asked(key: string | undefined, stream?: string): Promise<unknown[]> {
  const response = await sent(key, stream)
  const body = (await response.json()) as { detail?: string; quota?: string }
  return response.status === 202 ? [202] : [response.status, body.detail, body.quota]
}

/** Changes the file, and waits until the producer has read it. */
async function changed(...args: string[]): Promise<string> {
  const { log } = producers[0] as ServiceProcess
  const reads = (): number => log.filter(({ msg }) => msg === 'tenants were read again').length
  const before = reads()
  const key = tenantKey(...args)
  await until(() => reads() > before, { timeoutMs: 5_000, what: 'the file to be read again' })
  return key
}

function tenantKey(...args: string[]): string {
  const { stdout, stderr, exitCode } = Bun.spawnSync(
    [process.execPath, join(import.meta.dir, 'tenant-key.ts'), ...args],
    { env: { ...process.env, TENANTS_FILE: path } },
  )
  expect([exitCode, stderr.toString()]).toEqual([0, expect.stringContaining('within seconds')])
  return stdout.toString().trim()
}

const metric = async (name: string, { started } = producers[0] as ServiceProcess): Promise<number | undefined> => {
  const line = (await fetch(ops(started, '/metrics')).then((answer) => answer.text()))
    .split('\n')
    .find((one) => one.startsWith(`${name} `))
  return line === undefined ? undefined : Number(line.split(' ').at(-1))
}

test('a key is made, rolled and revoked while producers run', async () => {
  const first = await changed('make', 'shop', 'web', '--expires', '90d')
  expect(await asked(first)).toEqual([202])
  const second = await changed('roll', 'web', '--overlap', '3s')
  expect([await asked(first), await asked(second)]).toEqual([[202], [202]])
  const written = () =>
    JSON.parse(readFileSync(path, 'utf8')) as { tenants: { shop: { keys: { expiresAt: string }[] } } }
  const expiresMs = Date.parse(written().tenants.shop.keys[2]?.expiresAt ?? '')
  const expiry = 'kafkatrace_producer_key_expiry_timestamp_seconds{tenant="shop",key="web"}'
  expect(await metric(expiry)).toBe(expiresMs / 1_000)
  await until(() => Date.now() >= expiresMs)
  expect(await asked(first)).toEqual([401, expect.stringMatching(/^The key web has expired: /), undefined])
  expect(await asked(second)).toEqual([202])
  await changed('revoke', 'web')
  expect(await metric(expiry)).toBeUndefined()
  await changed('revoke', 'web-2')
  expect(await asked(second)).toEqual([401, 'The key is unknown.', undefined])
  expect(written()).toEqual(file as never)
}, 40_000)

test('failed authentications are limited, and a right key is not', async () => {
  const producer = producers[1] as ServiceProcess
  const wrong = makeKey('shop-1').key
  const failures = (reason: string) =>
    metric(`kafkatrace_producer_authentication_failures_total{reason="${reason}"}`, producer)
  const statusOf = async (key: string | undefined): Promise<number> => (await sent(key, 'events', producer)).status
  for (let time = 0; time < MAX_FAILURES; time++) expect(await statusOf(wrong)).toBe(401)
  const limited = await sent(wrong, 'events', producer)
  expect(limited.status).toBe(429)
  expect(Number(limited.headers.get('retry-after'))).toBeWithin(1, 61)
  expect(await limited.json()).toMatchObject({ type: 'urn:kafkatrace:problem:too-many-failures' })
  expect(await statusOf(undefined)).toBe(429)
  expect(await statusOf(made.get('shop-1'))).toBe(202)
  expect([await failures('unknown'), await failures('missing')]).toEqual([MAX_FAILURES + 1, 1])
  const told = () => producer.log.filter(({ msg }) => String(msg).includes('fail to authenticate'))
  await until(() => told().length > 0, { what: 'the log' })
  expect(told()).toMatchObject([{ address: '127.0.0.1', failures: MAX_FAILURES }])
  expect(JSON.stringify(producer.log)).not.toContain(wrong)
})

test('a console limits them, too', async () => {
  const console = await startService('console', {
    KAFKA_BROKERS: cluster.brokers,
    TENANTS_FILE: path,
    HOST: '127.0.0.1',
    OPS_HOST: '127.0.0.1',
  })
  try {
    const statusOf = async (key: string | undefined): Promise<number> => {
      const answer = await fetch(`http://127.0.0.1:${console.started['port']}/v1/access`, {
        headers: { 'x-api-key': key ?? '' },
      })
      return answer.status
    }
    const wrong = makeKey('shop-1').key
    for (let time = 0; time < MAX_FAILURES; time++) expect(await statusOf(wrong)).toBe(401)
    expect(await statusOf(wrong)).toBe(429)
    expect(await statusOf(made.get('shop-1'))).toBe(200)
    const failures = 'kafkatrace_console_authentication_failures_total{reason="unknown"}'
    expect(await metric(failures, console)).toBe(MAX_FAILURES + 1)
    const told = () => console.log.filter(({ problem }) => problem === 'unauthenticated').length
    await until(() => told() >= MAX_FAILURES, { what: 'the log' })
    // Of the last one there is no line.
    expect(told()).toBe(MAX_FAILURES)
    expect(console.log.filter(({ problem }) => problem === 'too-many-failures')).toEqual([])
  } finally {
    await console.stop()
  }
}, 40_000)

test('quotas of a stream and of a key are held, and named', async () => {
  const [plain, till] = [made.get('shop-1'), made.get('shop-till')]
  expect(await asked(till)).toEqual([202])
  expect(await asked(till)).toEqual([429, expect.stringContaining('The quota of the key shop-till'), 'key'])
  expect(await asked(plain)).toEqual([202])
  expect(await asked(plain, 'orders')).toEqual([202])
  expect(await asked(plain, 'orders')).toEqual([
    429,
    expect.stringContaining('The quota of the stream orders'),
    'stream',
  ])
  expect(await asked(plain)).toEqual([202])
  expect(await metric('kafkatrace_producer_over_quota_requests_total{tenant="shop",quota="key"}')).toBe(1)
  expect(await metric('kafkatrace_producer_over_quota_requests_total{tenant="shop",quota="stream"}')).toBe(1)
  expect(await metric('kafkatrace_producer_quota_replicas')).toBe(PRODUCERS)
})

/** Sends more than the quota for a while, from where its burst is used up to where it is again. @returns what was granted, as a part of the quota */
async function share(key: string | undefined, to: (request: number) => number): Promise<number> {
  let [requests, granted, refusedInTurn] = [0, 0, 0]
  const send = async (): Promise<void> => {
    const response = await sent(key, 'events', producers[to(requests++)])
    await response.arrayBuffer()
    expect([202, 429]).toContain(response.status)
    if (response.status === 202) granted++
    refusedInTurn = response.status === 202 ? 0 : refusedInTurn + 1
  }
  const sendUntilUsedUp = async (leastMs: number): Promise<void> => {
    const begunMs = performance.now()
    const client = async (): Promise<void> => {
      while (performance.now() - begunMs < leastMs || refusedInTurn < 2 * PRODUCERS) {
        await send()
        await Bun.sleep(PAUSE_MS)
      }
    }
    await Promise.all(Array.from({ length: CLIENTS }, client))
  }
  await sendUntilUsedUp(0)
  const begunMs = performance.now()
  granted = 0
  await sendUntilUsedUp(MEASURED_MS)
  return granted / ((RATE * (performance.now() - begunMs)) / 1_000)
}

test('three producers together grant a quota once, and one of them a third of it', async () => {
  const even = await share(made.get('even'), (request) => request % PRODUCERS)
  const lone = await share(made.get('lone'), () => 0)
  // Each producer may have granted nearly one event more.
  expect(even).toBeWithin(0.9, 1.02)
  expect(lone).toBeWithin(0.3, 0.345)
}, 20_000)
