import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { endBoundChild, spawnBoundChild } from '../dev/bound-child.ts'
import { findBrowser } from '../dev/requirements.ts'
import { eachLine } from './service-process.ts'
import { until } from './until.ts'

const END_GRACE_MS = 2_000

/** A page in a headless browser. */
export interface BrowserPage {
  /** Errors of the page so far: uncaught exceptions, console errors, failed requests, violations of its Content-Security-Policy. */
  readonly errors: readonly string[]
  /** The value of a JavaScript expression in the page. @throws Error when the expression throws */
  evaluate(expression: string): Promise<unknown>
  /** Ends the browser. */
  close(): Promise<void>
}

interface Message {
  id?: number
  result?: { result?: { value?: unknown }; exceptionDetails?: unknown }
  error?: { message: string }
  method?: string
  params?: { type?: string; entry?: { level: string; text: string } }
}

/** Opens a URL in a new browser, driven by the Chrome DevTools Protocol. */
export async function openPage(url: string): Promise<BrowserPage> {
  const profile = await mkdtemp(join(tmpdir(), 'kafkatrace-browser-'))
  // Chromium does not run as root in its sandbox. It opens nothing but our own page.
  const options = ['--headless', '--no-sandbox', '--remote-debugging-port=0', `--user-data-dir=${profile}`]
  const child = spawnBoundChild([findBrowser() ?? 'chromium', ...options, 'about:blank'], {
    stdout: 'ignore',
    stderr: 'pipe',
    removeWhenOrphaned: profile,
  })
  const log: string[] = []
  const reading = eachLine(child.stderr, (line) => log.push(line))
  const close = async (): Promise<void> => {
    await endBoundChild(child, END_GRACE_MS)
    await reading
    await rm(profile, { recursive: true, force: true })
  }
  try {
    return { ...(await attach(log, url)), close }
  } catch (error) {
    await close()
    throw new Error(`the browser did not open ${url}:\n${log.join('\n')}`, { cause: error })
  }
}

async function attach(log: readonly string[], url: string): Promise<Omit<BrowserPage, 'close'>> {
  const address = (): string | undefined => /^DevTools listening on ws:\/\/([^/]+)\//m.exec(log.join('\n'))?.[1]
  await until(() => address() !== undefined, { what: 'the browser to start' })
  const opened = await fetch(`http://${address()}/json/new?about:blank`, { method: 'PUT' })
  const { webSocketDebuggerUrl } = (await opened.json()) as { webSocketDebuggerUrl: string }
  const socket = new WebSocket(webSocketDebuggerUrl)
  await new Promise((resolve) => socket.addEventListener('open', resolve, { once: true }))

  const errors: string[] = []
  const answers = new Map<number, (message: Message) => void>()
  let isLoaded = false
  socket.addEventListener('message', ({ data }) => {
    const message = JSON.parse(String(data)) as Message
    const { id, method, params } = message
    if (id !== undefined) answers.get(id)?.(message)
    if (method === 'Page.loadEventFired') isLoaded = true
    if (method === 'Log.entryAdded' && params?.entry?.level === 'error') errors.push(params.entry.text)
    if (method === 'Runtime.exceptionThrown' || (method === 'Runtime.consoleAPICalled' && params?.type === 'error'))
      errors.push(JSON.stringify(params))
  })
  let lastId = 0
  const send = async (method: string, params: object = {}): Promise<NonNullable<Message['result']>> => {
    const id = ++lastId
    const { promise, resolve } = Promise.withResolvers<Message>()
    answers.set(id, resolve)
    socket.send(JSON.stringify({ id, method, params }))
    const { result, error } = await promise
    if (result === undefined) throw new Error(`${method}: ${error?.message}`)
    return result
  }
  for (const domain of ['Page', 'Log', 'Runtime']) await send(`${domain}.enable`)
  await send('Page.navigate', { url })
  await until(() => isLoaded, { what: `${url} to load` })
  return {
    errors,
    async evaluate(expression) {
      const { result, exceptionDetails } = await send('Runtime.evaluate', { expression, returnByValue: true })
      if (exceptionDetails !== undefined) throw new Error(JSON.stringify(exceptionDetails))
      return result?.value
    },
  }
}
