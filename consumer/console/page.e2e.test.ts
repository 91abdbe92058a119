import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout } from 'bun:test'
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { AxeBuilder } from '@axe-core/playwright'
import { type Browser, chromium, type Page } from 'playwright-core'
import { type KafkaCluster, startKafka } from '../../shared/dev/brokers/kafka.ts'
import { BROWSERS, findBrowser } from '../../shared/dev/requirements.ts'
import { makeKey, type TenantsFile } from '../../shared/http/tenants.ts'
import { schemaUrn } from '../../shared/schemas/identity.ts'
import { kcatCommand } from '../../shared/testing/kcat.ts'
import { type ServiceProcess, startService } from '../../shared/testing/service-process.ts'
import { testWith } from '../../shared/testing/test-with.ts'
import { until } from '../../shared/testing/until.ts'
import { FAULT_TYPE } from '../testing/faulty-handlers.ts'

/** The console's page in a browser, with services on Apache Kafka: each view does its job, for eyes, for keyboards and for assistive technology. */

const TIMEOUT_MS = 240_000
setDefaultTimeout(TIMEOUT_MS)

const PATIENCE = { timeoutMs: 60_000 }
/** What a hostile sender may write. None of it may be anything but text. */
const HOSTILE = `<script>document.title='taken'</script><img src=x onerror="document.title='taken'">`
const RIGHT_TO_LEFT = '\u202Eשלום\u202C مرحبا'

const SUBJECT = 'acme.orders-order.placed'
const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-page-'))
const [sender, reader, worker, person] = ['sender', 'reader', 'worker', 'person'].map(makeKey) as [Key, Key, Key, Key]
type Key = ReturnType<typeof makeKey>

/** Not among the schemas. */
const TENANTS = join(folder, '.tenants.json')
const ACME: TenantsFile['tenants'][string] = {
  streams: ['events', 'empty', 'orders'],
  keys: [
    { id: 'sender', sha256: sender.sha256 },
    { id: 'reader', sha256: reader.sha256, roles: ['read'] },
    { id: 'worker', sha256: worker.sha256, roles: ['read', 'operate'] },
    { id: 'person', sha256: person.sha256, roles: ['send', 'read', 'operate'] },
  ],
  redact: { events: ['/secret'] },
  schemas: { orders: {} },
}

function declare(acme: typeof ACME): void {
  writeFileSync(`${TENANTS}.new`, JSON.stringify({ tenants: { acme } } satisfies TenantsFile))
  renameSync(`${TENANTS}.new`, TENANTS)
}

let kafka: KafkaCluster
let services: ServiceProcess[] = []
let url: string
let producerUrl: string
let browser: Browser
let page: Page
/** Of the page so far: what the console of the browser calls errors, uncaught exceptions, and failed requests that nobody expects. */
const errors: string[] = []

beforeAll(async () => {
  if (findBrowser() === null && !process.env.CI) return
  kafka = await startKafka()
  declare(ACME)
  for (const [version, required] of [[], ['total'], ['total', 'currency']].entries())
    writeFileSync(
      join(folder, `${SUBJECT}.v${version + 1}.json`),
      JSON.stringify({ title: 'An order', type: 'object', properties: { total: { type: 'number' } }, required }),
    )
  const env = { KAFKA_BROKERS: kafka.bootstrapServers, DRAIN_TIMEOUT_MS: '8000' }
  const auth = { AUTH: 'on', TENANTS_FILE: TENANTS, SCHEMAS_DIR: folder }
  const producer = await startService('producer', { ...env, ...auth, TOPIC_PARTITIONS: '2' })
  services.push(producer)
  const consumer = await startService('consumer', {
    ...env,
    HANDLERS_MODULE: join(import.meta.dir, '../testing/faulty-handlers.ts'),
  })
  services.push(consumer)
  const statusPort = String(consumer.started['opsPort'])
  await until(() => producer.started['port'] !== undefined, PATIENCE)
  producerUrl = `http://127.0.0.1:${producer.started['port']}`
  const shown = await startService('console', {
    ...env,
    ...auth,
    CONSUMER_STATUS_PORT: statusPort,
    PRODUCER_URL: producerUrl,
    TRACE_URL: 'http://jaeger.localhost/trace/{traceId}',
  })
  services.push(shown)
  url = `http://127.0.0.1:${shown.started['port']}/`
  await until(async () => (await fetch(`http://127.0.0.1:${shown.started['opsPort']}/readyz`)).ok, PATIENCE)
  // The first event makes the topics.
  await send('first', { failures: 0, workMs: 0 })
  browser = await chromium.launch({ executablePath: findBrowser() ?? 'chromium', args: ['--no-sandbox'] })
})

afterAll(async () => {
  await browser?.close()
  await Promise.all(services.map((one) => one.stop()))
  services = []
  await kafka?.stop()
  rmSync(folder, { recursive: true })
})

afterEach(async () => {
  await page?.context().close()
  expect(errors.splice(0)).toEqual([])
})

const LONG = '12345678901234567890'

const TYPE = `${FAULT_TYPE}sometimes`
const HOPELESS = `${FAULT_TYPE}hopeless`

const send = (id: string, data: unknown, type = TYPE): Promise<void> =>
  sendTo('events', { id, source: '/page', type, subject: 'k', data })

async function sendTo(stream: string, event: object): Promise<void> {
  const response = await fetch(`${producerUrl}/v1/streams/${stream}/events`, {
    method: 'POST',
    headers: { authorization: `Bearer ${sender.key}`, 'content-type': 'application/cloudevents+json' },
    // A number of more digits than JavaScript keeps.
    body: JSON.stringify({ specversion: '1.0', ...event }).replace(`"${LONG}"`, LONG),
  })
  expect(response.status, await response.text()).toBe(202)
}

/** Sent, and its outcome is there. */
async function settle(id: string, data: unknown, type = TYPE): Promise<void> {
  await send(id, data, type)
  const at = `${url}v1/streams/events/events/${encodeURIComponent(id)}/outcome?wait=30&key=k`
  const response = await fetch(at, { headers: { authorization: `Bearer ${worker.key}` } })
  expect(response.status, await response.text()).toBe(200)
}

/** A new tab. */
async function opened({ at = '', key = worker as Key | null, width = 1280, theme = 'light' as 'light' | 'dark' } = {}) {
  const context = await browser.newContext({
    viewport: { width, height: 900 },
    colorScheme: theme,
    timezoneId: 'Asia/Kolkata',
  })
  await context.grantPermissions(['clipboard-read', 'clipboard-write'])
  page = await context.newPage()
  page.setDefaultTimeout(30_000)
  page.on('console', (message) => {
    // Chromium's own words for an answer of 4xx, which the page shows.
    if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) errors.push(message.text())
  })
  page.on('pageerror', (error) => errors.push(String(error)))
  if (key !== null) await context.addInitScript(`sessionStorage.setItem('kafkatrace-key', ${JSON.stringify(key.key)})`)
  await page.goto(url + at)
  return page
}

/** What the status says while dead letters are all that is wrong, and when they are long past. */
const RUNNING = /^(Healthy|Running, with dead letters)$/

const shows = (text: string | RegExp) => page.getByText(text).filter({ visible: true }).first().waitFor()

/** What stands out of the window to the right, and what axe finds. */
async function judge(): Promise<unknown[]> {
  const wide = await page.evaluate<number>(
    'document.documentElement.scrollWidth - document.documentElement.clientWidth',
  )
  const { violations } = await new AxeBuilder({ page }).analyze()
  return [
    ...(wide > 0 ? [`${wide} px too wide`] : []),
    ...violations.map(({ id, nodes }) => [id, nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`)]),
  ]
}

const test = (name: string, body: () => Promise<void>) => testWith(BROWSERS, name, body, TIMEOUT_MS)

test('a key is asked for once, is refused if it is unknown, and is in no address and no lasting storage', async () => {
  await opened({ key: null })
  await page.getByLabel('Key').fill('kt.worker.wrong')
  await page.getByRole('button', { name: 'Open' }).click()
  await shows('The key is unknown.')
  await page.getByLabel('Key').fill(worker.key)
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: 'events' }).waitFor()
  await page.reload()
  await page.getByRole('heading', { name: 'events' }).waitFor()
  expect(page.url()).not.toContain(worker.key)
  expect(await page.evaluate('JSON.stringify({ ...localStorage }) + document.cookie')).toBe('{}')
  const other = await page.context().newPage()
  await other.goto(url)
  await other.getByLabel('Key').waitFor()
  await page.getByRole('button', { name: 'Sign out' }).click()
  await page.getByLabel('Key').waitFor()
  expect(await page.evaluate('sessionStorage.length')).toBe(0)
})

test('what the key’s roles do not allow is not offered', async () => {
  await settle('for-roles', {}, HOPELESS)
  await opened({ key: reader, at: '#/letters' })
  await page.getByRole('link', { name: 'invalid data' }).first().waitFor()
  expect(await page.getByRole('button', { name: /Redrive|Discard|Pause/ }).count()).toBe(0)
  expect(await page.getByRole('link', { name: 'Send' }).count()).toBe(0)
  await page.context().close()
  await opened({ key: sender })
  await shows('This key may not read')
  expect(await page.getByRole('navigation').getByRole('link').allTextContents()).toEqual(['Send'])
})

test('an event is sent from a template, and its outcome is seen', async () => {
  await opened({ key: person, at: '#/send' })
  await page.getByLabel('Template').selectOption('greeting')
  await page.getByLabel('Data, as JSON').fill('{"hello": ')
  await shows('This is not JSON yet.')
  await page.getByLabel('Data, as JSON').fill('{"hello": 12345678901234567890}')
  await page.getByRole('button', { name: 'Send', exact: true }).click()
  await page.getByRole('heading', { name: 'Stored' }).waitFor()
  await page.getByRole('region', { name: 'Receipt' }).locator('.state', { hasText: 'processed' }).waitFor()
  expect(await judge()).toEqual([])
  await page.getByRole('link', { name: 'Event history' }).click()
  await shows('Received by the producer')
  await page.getByText(LONG).first().waitFor()
  await page.goto(`${url}#/send`)
  for (const times of [1, 2]) {
    await page.getByLabel('Id', { exact: true }).fill('sent-twice')
    await page.getByRole('button', { name: 'Send', exact: true }).click()
    await page.getByRole('region', { name: 'Receipt' }).locator('.state', { hasText: 'processed' }).waitFor()
    if (times === 2) await shows(/dropped as a duplicate/)
    else expect(await page.getByText(/dropped as a duplicate/).count()).toBe(0)
  }
  // What the producer refuses is said as it says it.
  await page.goto(`${url}#/send`)
  await page.getByLabel('Type').fill('x')
  await page.getByLabel('Source').fill('')
  await page.getByRole('button', { name: 'Send', exact: true }).click()
  await page.getByRole('alert').waitFor()
})

test('an event is found by its id, its receipt and its trace, with every attempt and its end', async () => {
  await settle('found', { failures: 1, workMs: 0 })
  await opened({ at: '#/find' })
  await shows('Find an event and its outcome')
  await page.getByLabel('Id, trace or receipt').fill('found')
  await page.keyboard.press('Enter')
  await shows('Attempt 1 failed: handler failed')
  await shows(/Processed by .*sometimes@1/)
  await shows('Received by the producer')
  expect(page.url()).toContain('q=found')
  expect(await page.getByRole('link', { name: 'spans' }).first().getAttribute('href')).toMatch(
    /^http:\/\/jaeger\.localhost\/trace\/[0-9a-f]{32}$/,
  )
  await page.locator('.record a').first().click()
  await page.waitForURL(/trace=[0-9a-f]{32}/)
  await shows('Received by the producer')
  const place =
    (await page
      .locator('.timeline .detail')
      .filter({ hasText: /^kt\.acme\.events\/\d+\/\d+$/ })
      .first()
      .textContent()) ?? ''
  await page.getByLabel('Id, trace or receipt').fill(place.split('/').slice(1).join('/'))
  await page.getByRole('button', { name: 'Find' }).click()
  await shows(/Processed by/)
  // The exact time is at hand, and the shown one is the viewer's.
  const time = page.locator('.timeline time').first()
  const iso = (await time.getAttribute('title')) ?? ''
  const there = new Date(Date.parse(iso) + 5.5 * 3_600_000).toISOString()
  expect(await time.textContent()).toContain(there.slice(11, 23))
  await page.getByLabel('Id, trace or receipt').fill('nowhere')
  await page.getByRole('button', { name: 'Find' }).click()
  await shows('No such event')
})

test('whatever a sender writes is shown as text', async () => {
  await settle(`${HOSTILE} ${RIGHT_TO_LEFT}`, { text: HOSTILE, other: RIGHT_TO_LEFT, failures: 0, workMs: 0, big: 1 })
  await settle(`dead ${HOSTILE}`, { [HOSTILE]: RIGHT_TO_LEFT }, HOPELESS)
  for (const at of [
    `#/find?q=${encodeURIComponent(`${HOSTILE} ${RIGHT_TO_LEFT}`)}&key=k`,
    '#/browse?topic=processed',
    '#/browse?topic=dlq',
    '#/letters',
    `#/letters?reason=${encodeURIComponent(HOSTILE)}`,
    '#/live',
    '#/pipeline',
  ]) {
    await opened({ at })
    if (at.startsWith('#/find')) await shows('Received by the producer')
    if (at.startsWith('#/live')) await shows(/since this was opened/)
    if (at.startsWith('#/live')) await settle(`live ${Bun.randomUUIDv7()} ${HOSTILE}`, { failures: 0, workMs: 0 })
    await shows(
      /find|browse|live/.test(at)
        ? /<script>document/
        : at.includes('reason')
          ? 'No open dead letters'
          : /Partitions|over time/,
    )
    expect(await page.title()).not.toBe('taken')
    expect(await page.locator('main script, main img').count()).toBe(0)
    await page.context().close()
  }
})

test('records are browsed a page at a time, filtered, and shared by the address', async () => {
  await settle('browsed', { failures: 0, workMs: 0, total: LONG })
  await opened({ at: '#/browse' })
  await page.getByRole('row').filter({ hasText: 'browsed' }).first().waitFor()
  await page.getByLabel('Id', { exact: true }).fill('browsed')
  await page.getByRole('button', { name: 'Show' }).click()
  await until(async () => (await page.getByRole('row').count()) === 2, PATIENCE)
  await page.getByRole('grid').focus()
  await page.keyboard.press('Enter')
  await page.getByRole('complementary').getByText(LONG).waitFor()
  const shared = page.url()
  await page.context().close()
  await opened({ at: shared.slice(shared.indexOf('#')) })
  await page.getByRole('complementary').getByText(LONG).waitFor()
  await page.getByLabel('Topic').selectOption('processed')
  await until(async () => (await page.getByRole('row').filter({ hasText: 'browsed' }).count()) === 1, PATIENCE)
  await page.getByLabel('Id', { exact: true }).fill('nothing-has-it')
  await page.keyboard.press('Enter')
  await shows('No such records')
})

/** Of the letter whose row has the text, by way of its group. */
async function openedEditor(text: string): Promise<void> {
  await opened({ at: '#/letters' })
  await page
    .getByRole('row')
    .filter({ hasText: `${TYPE}@1` })
    .getByRole('link', { name: 'invalid data' })
    .click()
  await page.getByRole('row').filter({ hasText: text }).first().click()
  await page.getByRole('button', { name: 'Edit and redrive…' }).click()
}

test('a letter is edited and redriven, and its life goes on', async () => {
  await settle('edited', { failures: 'many', workMs: 0, total: LONG })
  await openedEditor('edited')
  const data = page.getByLabel('Data, as JSON')
  const before = await data.inputValue()
  await data.fill('{"failures": ')
  await shows('This is not JSON yet.')
  await data.fill(before.replace('"many"', '0'))
  await page.locator('.difference ins').first().waitFor()
  await page.getByLabel('Reason', { exact: true }).fill('a number was text')
  await page.getByRole('button', { name: 'Redrive as edited' }).click()
  await shows('a number was text')
  await page.locator('.state', { hasText: 'redriven' }).first().waitFor()
  await page.getByRole('link', { name: 'Event history' }).click()
  await shows('Redrive 1')
  await until(async () => {
    if ((await page.locator('.state', { hasText: 'processed' }).count()) > 0) return true
    await page.getByRole('button', { name: 'Refresh' }).click()
    return false
  }, PATIENCE)
  await page.locator('.data .number', { hasText: LONG }).first().waitFor()
  await page.goto(`${url}#/letters?tab=acts`)
  await page.getByRole('cell', { name: 'a number was text' }).first().waitFor()
})

test('a letter with masked data is edited: what is masked stays as it was', async () => {
  await settle('masked', { failures: 'many', workMs: 0, secret: 'nobody reads this' })
  await openedEditor('masked')
  await shows('Values shown as *** stay as they are.')
  const data = page.getByLabel('Data, as JSON')
  expect(await data.inputValue()).toContain('"secret": "***"')
  await data.fill((await data.inputValue()).replace('"many"', '0'))
  await page.getByRole('button', { name: 'Redrive as edited' }).click()
  await page.locator('.state', { hasText: 'redriven' }).first().waitFor()
  const read = Bun.spawn([kcatCommand(), '-C', '-e', '-q', '-b', kafka.bootstrapServers, '-t', 'kt.acme.events'])
  const values = (await new Response(read.stdout).text())
    .split('\n')
    .filter((line) => line.includes('nobody reads this'))
  expect(values.map((value) => JSON.parse(value))).toEqual(
    ['many', 0].map((failures) => ({ failures, workMs: 0, secret: 'nobody reads this' })),
  )
})

test('letters are redriven and discarded by a filter, with their number in the question', async () => {
  for (const id of ['many-1', 'many-2', 'many-3']) await settle(id, {}, `${FAULT_TYPE}odd`)
  await opened({ at: `#/letters?type=${FAULT_TYPE}odd` })
  await page.getByRole('button', { name: 'Redrive all that match…' }).click()
  await shows('3 open letters')
  expect(await judge()).toEqual([])
  await page.getByLabel('Letters a second').fill('50')
  await page.getByRole('button', { name: 'Redrive 3 letters' }).click()
  await page.getByText('3 letters', { exact: true }).waitFor()
  await page.locator('.state', { hasText: 'done' }).first().waitFor()
  // They failed once more, so there are new letters.
  await page.goto(`${url}#/letters?type=${FAULT_TYPE}odd`)
  await until(async () => {
    if ((await page.getByText('3 letters').count()) > 0) return true
    await page.getByRole('button', { name: 'Refresh' }).click()
    return false
  }, PATIENCE)
  await page.getByRole('button', { name: 'Discard all that match…' }).click()
  await shows('3 open letters')
  expect(await page.getByRole('button', { name: 'Discard 3 letters' }).isDisabled()).toBe(true)
  await page.getByRole('dialog').getByLabel('Reason').fill('a test')
  await page.getByRole('button', { name: 'Discard 3 letters' }).click()
  await page.locator('.state', { hasText: 'done' }).first().waitFor()
})

test('outcomes come as they are committed; none that comes in a pause is lost', async () => {
  await opened({ at: '#/live?type=*' })
  await shows(/since this was opened/)
  await settle('live-1', { failures: 0, workMs: 0 })
  const first = page.getByRole('row').filter({ hasText: 'live-1' })
  await first.waitFor()
  const place = await first.boundingBox()
  const settled = settle('live-under', { failures: 0, workMs: 0 })
  let moves = 0
  await until(async () => {
    // A pointer that moves on the rows.
    await page.mouse.move((place?.x ?? 0) + 20 + (moves++ % 2), (place?.y ?? 0) + 10)
    return (await page.getByText(/1 row to come when the pointer rests/).count()) > 0
  }, PATIENCE)
  expect(await first.boundingBox()).toEqual(place)
  await settled
  await page.mouse.move(0, 0)
  await page.getByRole('row').filter({ hasText: 'live-under' }).waitFor()
  await page.getByRole('button', { name: 'Pause' }).click()
  await settle('live-2', { failures: 0, workMs: 0 })
  await settle('live-3', {}, HOPELESS)
  expect(await page.getByRole('row').filter({ hasText: 'live-2' }).count()).toBe(0)
  await page.getByRole('button', { name: 'Resume' }).click()
  await page.getByRole('row').filter({ hasText: 'live-2' }).waitFor()
  await page.getByLabel('Outcome', { exact: true }).selectOption('dead')
  await shows(/^0 since this was opened/)
  await settle('live-4', {}, HOPELESS)
  await page.getByRole('row').filter({ hasText: 'live-4' }).click()
  await shows(/Dead letter/)
})

test('one sees the schemas of types, who sends which version, and what is different between two', async () => {
  const order = { type: 'order.placed', subject: 'k', data: { total: 1, currency: 'EUR' } }
  await sendTo('orders', { ...order, id: 'new', source: '/shop' })
  await sendTo('orders', { ...order, id: 'old', source: '/old-till', dataschema: schemaUrn(SUBJECT, 2) })
  await sendTo('orders', { ...order, id: 'free', source: '/notes', type: 'note' })
  await opened({ at: '#/schemas?stream=orders' })
  const row = page.getByRole('row').filter({ hasText: 'order.placed' })
  await row.getByText('v3').waitFor()
  await row.getByText('v2').waitFor()
  await page.getByRole('region', { name: 'Types without a schema' }).getByText('note').waitFor()
  await page.getByRole('link', { name: 'order.placed' }).click()
  await page
    .getByRole('row', { name: /^2 An order/ })
    .getByText('/old-till')
    .waitFor()
  await page
    .getByRole('row', { name: /^3, latest/ })
    .getByText('/shop')
    .waitFor()
  await page.getByLabel('Compared with').selectOption('2')
  await page.locator('.difference ins', { hasText: '"currency"' }).waitFor()
  expect(page.url()).toContain('against=2')
  await page.getByLabel('Document of version').selectOption('1')
  await page.locator('.difference del', { hasText: '"total"' }).waitFor()
  await page.getByLabel('Compared with').selectOption('')
  await page.locator('.data .string', { hasText: 'An order' }).waitFor()
  // From an event to its schema.
  await page.goto(`${url}#/find?stream=orders&q=old&key=k`)
  await page
    .getByRole('link', { name: `${SUBJECT}, version 2` })
    .first()
    .click()
  await page.getByRole('link', { name: '2', exact: true }).and(page.locator('[aria-current]')).waitFor()
  await page.getByText('"total"').first().waitFor()
})

test('a stream without schemas and events says so, and so does one that is not checked', async () => {
  await opened({ at: '#/schemas?stream=empty' })
  await shows('No schemas, and no events')
  await shows(/its events are not checked/)
  await page.goto(`${url}#/schemas?stream=orders&type=none`)
  await shows('No such type')
})

test('one sees whether all is well, pauses a stream with a reason, and resumes it', async () => {
  await opened({ at: '#/pipeline' })
  await shows(RUNNING)
  await page.getByRole('button', { name: 'Pause…' }).click()
  await page.getByLabel('Why pause?').fill('a drill')
  await page.getByRole('button', { name: 'Pause the stream' }).click()
  await shows('Paused by worker: a drill.')
  await page.locator('.state', { hasText: 'paused' }).first().waitFor()
  await page.getByRole('button', { name: 'Resume' }).click()
  await shows(RUNNING)
})

test('everything is reached with the keyboard alone', async () => {
  await settle('by-keyboard', { failures: 0, workMs: 0 })
  await opened({ at: '#/pipeline' })
  await shows(RUNNING)
  /** Goes on with the tabulator until it is there. */
  const tabTo = async (name: string): Promise<void> => {
    for (let step = 0; step < 60; step++) {
      await page.keyboard.press('Tab')
      const at = await page.evaluate<string>("document.activeElement?.textContent ?? ''")
      if (at === name) return
    }
    throw new Error(`${name} is not reached`)
  }
  await tabTo('Find')
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: 'Find an event' }).waitFor()
  await page.keyboard.press('/')
  await page.keyboard.type('by-keyboard')
  await page.keyboard.press('Enter')
  await shows(/Processed by/)
  await page.evaluate('document.activeElement.blur()')
  await tabTo('Browse')
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: 'Browse' }).waitFor()
  await page.getByRole('grid').waitFor()
  const isFocused = () => page.evaluate<boolean>("document.activeElement?.getAttribute('role') === 'grid'")
  for (let step = 0; step < 40 && !(await isFocused()); step++) await page.keyboard.press('Tab')
  await page.keyboard.press('ArrowDown')
  await page.keyboard.press('Enter')
  await page.getByRole('complementary').waitFor()
  await page.keyboard.press('Escape')
  await page.getByRole('complementary').waitFor({ state: 'detached' })
})

const PLACES = [
  ['#/pipeline', 'Partitions'],
  ['#/find', 'Find an event and its outcome'],
  ['#/find?q=axe&key=k', /Processed by/],
  ['#/find?q=none', 'No such event'],
  ['#/browse', /newest first/],
  ['#/browse?id=none', 'No such records'],
  ['#/letters', 'over time'],
  ['#/letters?type=none', 'No open dead letters'],
  ['#/letters?tab=jobs', /letters? redriven|letters? discarded|No jobs/],
  ['#/letters?tab=acts', /reason|No entries yet/],
  ['#/live?type=none', 'Waiting for outcomes'],
  ['#/schemas?stream=orders', 'Types with a schema'],
  ['#/schemas?stream=orders&type=order.placed&version=2&against=1', 'from version 1 to version 2'],
  ['#/schemas?stream=empty', 'No schemas, and no events'],
  ['#/pipeline?stream=nowhere', 'There is no stream nowhere'],
  ['#/pipeline?tenant=nobody', 'The key is not for the tenant nobody'],
  ['#/send', 'This key may not send'],
] as const

for (const [theme, width] of [
  ['light', 390],
  ['dark', 1920],
] as const)
  test(`in ${theme} and at ${width} px, axe finds nothing, and nothing is wider than the window`, async () => {
    await settle('axe', { failures: 1, workMs: 0 })
    await settle('axe-dead', {}, HOPELESS)
    await opened({ width, theme })
    const found: Record<string, unknown[]> = {}
    for (const [at, isThere] of PLACES) {
      await page.goto(url + at)
      await shows(isThere)
      const all = await judge()
      if (all.length > 0) found[at] = all
    }
    expect(found).toEqual({})
  })

test('a page that is open follows the tenants file: it offers new streams, and asks for a key once its own is removed', async () => {
  await opened({ key: reader, at: '#/live' })
  await shows('Waiting for outcomes')
  declare({ ...ACME, streams: [...ACME.streams, 'fresh'] })
  await page.getByLabel('stream').locator('option', { hasText: 'fresh' }).waitFor({ state: 'attached' })
  declare({ ...ACME, keys: ACME.keys.filter(({ id }) => id !== 'reader') })
  await shows('The key is not accepted any more. The key is unknown.')
  await page.getByLabel('Key').waitFor()
  expect(await page.evaluate('sessionStorage.length')).toBe(0)
  declare(ACME)
})
