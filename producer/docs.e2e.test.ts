import { afterAll, beforeAll, expect } from 'bun:test'
import type { Broker } from '../shared/dev/brokers/broker.ts'
import { embeddedPartitions, startEmbedded } from '../shared/dev/brokers/embedded.ts'
import { BROWSERS } from '../shared/dev/requirements.ts'
import { streamTopics } from '../shared/events/topics.ts'
import { openPage } from '../shared/testing/browser.ts'
import { type ServiceProcess, startService } from '../shared/testing/service-process.ts'
import { testWith } from '../shared/testing/test-with.ts'
import { until } from '../shared/testing/until.ts'

const TIMEOUT_MS = 60_000

let broker: Broker
let producer: ServiceProcess

beforeAll(async () => {
  broker = await startEmbedded()
  await broker.createTopics(streamTopics('default', 'events'), embeddedPartitions)
  producer = await startService('producer', {
    NODE_ENV: 'development',
    AUTH: 'off',
    KAFKA_BROKERS: broker.bootstrapServers,
  })
  await until(() => producer.started['port'] !== undefined)
}, TIMEOUT_MS)

afterAll(async () => {
  await producer?.stop()
  await broker?.stop()
}, TIMEOUT_MS)

testWith(
  BROWSERS,
  'the API page, in a browser that keeps to its Content-Security-Policy, sends an event and shows its receipt',
  async () => {
    const page = await openPage(`http://127.0.0.1:${producer.started['port']}/docs`)
    try {
      const isDrawn = () => page.evaluate(`document.querySelector('.send button') !== null`)
      await until(async () => page.errors.length > 0 || (await isDrawn()) === true)
      expect(page.errors).toEqual([])

      const body = JSON.stringify({ id: 'sent-by-page', type: 'page.sent', data: { sent: true } })
      await page.evaluate(`{
        const form = document.querySelector('section')
        const [plain] = [...form.querySelectorAll('.tabs button')].filter((one) => one.textContent === 'application/json')
        plain.click()
        form.querySelector('textarea[id^=body]').value = ${JSON.stringify(body)}
        form.querySelector('.send button').click()
      }`)
      const text = (selector: string) => page.evaluate(`document.querySelector('${selector}').textContent`)
      // The status comes before the body; the button says that all has come.
      await until(async () => (await text('.send button')) === 'Send')
      expect(await text('.status')).toBe('202 Accepted')
      const [, answer = ''] = String(await text('.answer')).split('\n\n')
      expect(JSON.parse(answer)).toMatchObject({ receipts: [{ id: 'sent-by-page', stream: 'events' }] })
      expect(page.errors).toEqual([])
    } finally {
      await page.close()
    }
  },
  TIMEOUT_MS,
)
