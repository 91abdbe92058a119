import { afterAll, beforeAll, expect, setDefaultTimeout } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Broker } from '../shared/dev/brokers/broker.ts'
import { embeddedPartitions, startEmbedded } from '../shared/dev/brokers/embedded.ts'
import { BROWSERS } from '../shared/dev/requirements.ts'
import { streamTopics } from '../shared/events/topics.ts'
import { makeKey, type TenantsFile } from '../shared/http/tenants.ts'
import { type BrowserPage, openPage } from '../shared/testing/browser.ts'
import { type ServiceProcess, startService } from '../shared/testing/service-process.ts'
import { testWith } from '../shared/testing/test-with.ts'
import { until } from '../shared/testing/until.ts'

/** Pages of other origins, in a real browser, that send events to a producer. */

const TIMEOUT_MS = 60_000
setDefaultTimeout(TIMEOUT_MS)

const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-cors-'))
const tenantsFile = join(folder, 'tenants.json')
const acme = makeKey('acme-1')
const page = () => new Response('<!doctype html><title>page</title>', { headers: { 'content-type': 'text/html' } })
// Two origins: the port is part of it.
const [allowed, other] = [1, 2].map(() => Bun.serve({ hostname: '127.0.0.1', port: 0, fetch: page })) as [Site, Site]
type Site = ReturnType<typeof Bun.serve>
const originOf = ({ port }: Site): string => `http://127.0.0.1:${port}`

let broker: Broker
let producer: ServiceProcess

const declare = (origins: string[]): void => {
  const file: TenantsFile = {
    tenants: { acme: { streams: ['events'], keys: [{ id: 'acme-1', sha256: acme.sha256 }], origins } },
  }
  writeFileSync(tenantsFile, JSON.stringify(file))
}

beforeAll(async () => {
  declare([originOf(allowed)])
  broker = await startEmbedded()
  await broker.createTopics(streamTopics('acme', 'events'), embeddedPartitions)
  producer = await startService('producer', { KAFKA_BROKERS: broker.bootstrapServers, TENANTS_FILE: tenantsFile })
  await until(() => producer.started['port'] !== undefined, { what: 'the producer to open' })
})

afterAll(async () => {
  await producer?.stop()
  await broker?.stop()
  await Promise.all([allowed.stop(true), other.stop(true)])
  rmSync(folder, { recursive: true })
})

const events = (): string => `http://127.0.0.1:${producer.started['port']}/v1/events`

/** What a page gets for a request with this key and body: status, problem type, receipts and request id; or the browser's error. */
async function sentBy(opened: BrowserPage, key: string, body: string): Promise<Record<string, unknown>> {
  await opened.evaluate(`{
    window.result = undefined
    fetch(${JSON.stringify(events())}, {
      method: 'POST',
      headers: { authorization: ${JSON.stringify(`Bearer ${key}`)}, 'content-type': 'application/json' },
      body: ${JSON.stringify(body)},
    }).then(
      async (response) => {
        const { type, receipts } = await response.json()
        const id = response.headers.get('x-request-id') !== null
        window.result = JSON.stringify({ status: response.status, type, receipts: receipts?.length, id })
      },
      (error) => { window.result = JSON.stringify({ error: error.name }) },
    )
  }`)
  await until(async () => typeof (await opened.evaluate('window.result')) === 'string', { what: 'the answer' })
  return JSON.parse(String(await opened.evaluate('window.result')))
}

/** Runs with a page of a site. */
async function pageOf(site: Site, work: (page: BrowserPage) => Promise<void>): Promise<void> {
  const opened = await openPage(originOf(site))
  try {
    await work(opened)
  } finally {
    await opened.close()
  }
}

const UNREADABLE = { error: 'TypeError' }

testWith(
  BROWSERS,
  'a page of an origin that the tenant names sends an event, and reads its receipt, its id and what is wrong; no other page does',
  async () => {
    await pageOf(allowed, async (mine) => {
      expect(await sentBy(mine, acme.key, '{"type":"t"}')).toEqual({ status: 202, receipts: 1, id: true })
      const invalid = { status: 422, type: 'urn:kafkatrace:problem:invalid-event', id: true }
      expect(await sentBy(mine, acme.key, '{}')).toEqual(invalid)
      const unknown = { status: 401, type: 'urn:kafkatrace:problem:unauthenticated', id: true }
      expect(await sentBy(mine, 'kt.acme-1.wrong', '{"type":"t"}')).toEqual(unknown)
    })
    await pageOf(other, async (theirs) => {
      expect(await sentBy(theirs, acme.key, '{"type":"t"}')).toEqual(UNREADABLE)
    })
  },
  TIMEOUT_MS,
)

testWith(
  BROWSERS,
  'without origins nothing is said to browsers, and no page of another origin sends',
  async () => {
    declare([])
    const preflight = () =>
      fetch(events(), {
        method: 'OPTIONS',
        headers: { origin: originOf(allowed), 'access-control-request-method': 'POST' },
      })
    await until(async () => (await preflight()).headers.get('access-control-allow-origin') === null, {
      what: 'the change',
    })
    const names = [...(await preflight()).headers.keys()]
    expect(names.filter((name) => name === 'vary' || name.startsWith('access-control-'))).toEqual([])
    // A browser of its own: one that has asked before remembers the answer.
    await pageOf(allowed, async (mine) => {
      expect(await sentBy(mine, acme.key, '{"type":"t"}')).toEqual(UNREADABLE)
    })
  },
  TIMEOUT_MS,
)
