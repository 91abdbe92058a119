import { type Browser, type CDPSession, chromium, type Page } from 'playwright-core'
import { findBrowser } from '../shared/dev/requirements.ts'
import { latencyOfValues } from './histogram.ts'
import type { PageUse } from './result.ts'

/** The console's page in a browser, while outcomes come. */

/** Each in a new context, with nothing cached. */
const PAINTS = 20

const HEAP_EVERY_MS = 15_000

export interface Watching {
  /** Waits until it shows so many outcomes, or nothing new for so long. */
  end(outcomes: number, patienceMs: number): Promise<PageUse>
  close(): Promise<void>
}

/** Opens the page, first again and again, then Live, and returns once that follows. @param consoleUrl its origin */
export async function startWatching(consoleUrl: string): Promise<Watching> {
  const browser = await chromium.launch({ executablePath: findBrowser() ?? 'chromium', args: ['--no-sandbox'] })
  try {
    const paints: number[] = []
    let bytes = 0
    for (let paint = 0; paint < PAINTS; paint++) {
      const opened = await openedPage(browser, consoleUrl)
      paints.push(await opened.evaluate<number>(FIRST_PAINT))
      bytes = await opened.evaluate<number>(COMPRESSED_BYTES)
      await opened.context().close()
    }
    const page = await openedPage(browser, `${consoleUrl}/#/live`)
    await page.getByText(COUNTED).waitFor()
    const session = await page.context().newCDPSession(page)
    const heapBytes: number[] = []
    let isEnding = false
    let wake = (): void => undefined
    const sampling = (async () => {
      while (!isEnding) {
        await Promise.race([
          Bun.sleep(HEAP_EVERY_MS),
          new Promise<void>((resolve) => {
            wake = resolve
          }),
        ])
        if (!isEnding) heapBytes.push(await heapOf(session))
      }
    })()
    return {
      async end(outcomes, patienceMs) {
        isEnding = true
        wake()
        await sampling
        let shown = await shownBy(page)
        for (let movedMs = performance.now(); shown < outcomes && performance.now() - movedMs < patienceMs; ) {
          await Bun.sleep(100)
          const now = await shownBy(page)
          if (now > shown) movedMs = performance.now()
          shown = now
        }
        return { firstPaint: latencyOfValues(paints), compressedBytes: bytes, heapBytes, outcomes, shown }
      },
      close: () => browser.close(),
    }
  } catch (error) {
    await browser.close()
    throw error
  }
}

async function openedPage(browser: Browser, url: string): Promise<Page> {
  const context = await browser.newContext()
  const page = await context.newPage()
  await page.goto(url)
  // The frame with its views is there.
  await page.getByRole('navigation').waitFor()
  return page
}

const FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"

/** Of the document and what it loads, without what the API answers. */
const COMPRESSED_BYTES = `[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
  .filter(({ name }) => !name.includes('/v1/'))
  .reduce((sum, { encodedBodySize }) => sum + encodedBodySize, 0)`

const COUNTED = /^([\d,]+) since this was opened/

async function shownBy(page: Page): Promise<number> {
  const [, counted = '0'] = COUNTED.exec((await page.getByText(COUNTED).first().textContent()) ?? '') ?? []
  return Number(counted.replaceAll(',', ''))
}

/** After a collection: what is left is held. */
async function heapOf(session: CDPSession): Promise<number> {
  await session.send('HeapProfiler.collectGarbage')
  const { usedSize } = (await session.send('Runtime.getHeapUsage')) as { usedSize: number }
  return Math.round(usedSize)
}
