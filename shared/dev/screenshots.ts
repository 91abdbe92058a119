/** `bun run screenshots`: pictures of the console's page for the documentation, of what `bun run dev` fills it with. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type Browser, chromium, type Page } from 'playwright-core'
import { parseCommandLine } from '../service/command-line.ts'
import { endBoundChild, spawnBoundChild } from './bound-child.ts'
import { step } from './progress.ts'
import { findBrowser } from './requirements.ts'

const HELP = `Makes the pictures of the console’s page in docs/screenshots, in light and dark. Takes about two minutes.

Usage: bun run screenshots

  --no-install  install nothing; report what is missing
  --help        this text

Starts Apache Kafka and the services as bun run dev does, and Chromium.
`

parseCommandLine(HELP, {})

const FOLDER = join(import.meta.dir, '../../docs/screenshots')
const SIZE = { width: 1280, height: 800 }
/** As many dead letters, so that there is something to see. */
const LETTERS = 5
const UP_TIMEOUT_MS = 180_000
const END_GRACE_MS = 30_000

interface Picture {
  name: string
  at: string
  /** Text that is there once it is drawn. */
  shows: string | RegExp
}

/** What the console's API says. */
const json = async <T>(url: string): Promise<T> => (await fetch(url)).json() as Promise<T>

async function pictures(console_: string): Promise<Picture[]> {
  const api = `${console_}/v1/streams/events`
  const { records } = await json<{ records: { event: { id: string; source: string }; key: string }[] }>(
    `${api}/records?topic=processed&type=dev.kafkatrace.activity.v1&limit=1`,
  )
  const [{ event, key } = { event: { id: '', source: '' }, key: '' }] = records
  const life = new URLSearchParams({ id: event.id, source: event.source, key })
  return [
    { name: 'pipeline', at: '#/pipeline', shows: 'Running, with dead letters' },
    { name: 'find', at: `#/find?${life}`, shows: /Processed by/ },
    { name: 'browse', at: '#/browse?topic=processed', shows: /newest first/ },
    { name: 'dead-letters', at: '#/letters', shows: 'over time' },
    { name: 'live', at: '#/live', shows: /since this was opened/ },
  ]
}

/** Some seconds of outcomes are drawn in these. */
const WAITS_MS: Readonly<Record<string, number>> = { pipeline: 25_000, live: 15_000 }

const take = (page: Page, name: string, theme: string): Promise<unknown> =>
  step(`${name}, ${theme}`, () => page.screenshot({ path: join(FOLDER, `${name}-${theme}.png`) }))

async function main(): Promise<void> {
  await mkdir(FOLDER, { recursive: true })
  const child = spawnBoundChild([process.execPath, join(import.meta.dir, 'dev.ts'), '--broker', 'kafka'], {
    stdout: 'pipe',
    stderr: 'inherit',
  })
  let said = ''
  const reading = (async () => {
    for await (const part of child.stdout.pipeThrough(new TextDecoderStream())) said += part
  })()
  let browser: Browser | undefined
  try {
    const console_ = await step('starting bun run dev', async () => {
      const deadline = performance.now() + UP_TIMEOUT_MS
      for (;;) {
        const [, found] = /console\s+(http:\S+)/.exec(Bun.stripANSI(said)) ?? []
        if (found !== undefined) return found
        if (child.exitCode !== null || performance.now() > deadline) throw new Error(`dev is not up:\n${said}`)
        await Bun.sleep(200)
      }
    })
    await step('waiting for dead letters', async () => {
      const deadline = performance.now() + UP_TIMEOUT_MS
      while ((await json<{ letters: number }>(`${console_}/v1/streams/events/dead-letters`)).letters < LETTERS)
        if (performance.now() > deadline) throw new Error('there are no dead letters')
        else await Bun.sleep(1_000)
    })
    browser = await chromium.launch({ executablePath: findBrowser() ?? 'chromium', args: ['--no-sandbox'] })
    for (const { name, at, shows } of await pictures(console_)) {
      const context = await browser.newContext({ viewport: SIZE, timezoneId: 'UTC', locale: 'en-GB' })
      const page = await context.newPage()
      await page.goto(`${console_}/${at}`)
      await page.getByText(shows).filter({ visible: true }).first().waitFor()
      await page.waitForTimeout(WAITS_MS[name] ?? 500)
      for (const theme of ['light', 'dark'] as const) {
        await page.emulateMedia({ colorScheme: theme })
        await take(page, name, theme)
      }
      await context.close()
    }
  } finally {
    await browser?.close()
    await endBoundChild(child, END_GRACE_MS)
    await reading
  }
}

await main()
