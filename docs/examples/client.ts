/**
 * Sends one event and prints its receipt. A retry sends the same id, so the event takes effect once.
 * KAFKATRACE_URL: the producer's address; KAFKATRACE_KEY: the API key, with AUTH=on.
 */
const ATTEMPTS = 5
const TIMEOUT_MS = 30_000

const url = `${process.env['KAFKATRACE_URL'] ?? 'http://127.0.0.1:8080'}/v1/events`
const body = JSON.stringify({
  id: crypto.randomUUID(),
  source: '/shop',
  type: 'order.placed',
  subject: 'alice',
  data: { item: 'pen', count: 3 },
})
const headers = {
  'content-type': 'application/json',
  authorization: `Bearer ${process.env['KAFKATRACE_KEY'] ?? 'none'}`,
}

/** The answer; undefined if there is none: the event may or may not be stored. */
const send = (): Promise<Response | undefined> =>
  fetch(url, { method: 'POST', headers, body, signal: AbortSignal.timeout(TIMEOUT_MS) }).catch(() => undefined)

for (let attempt = 1; ; attempt++) {
  const response = await send()
  if (response?.status === 202) {
    console.log(await response.text())
    break
  }
  const isRetryable = response === undefined || response.status === 429 || response.status >= 500
  if (!isRetryable || attempt === ATTEMPTS) {
    console.error(response === undefined ? 'no answer' : await response.text())
    process.exit(1)
  }
  const waitSeconds = Number(response?.headers.get('retry-after') ?? 1)
  await new Promise((resolve) => setTimeout(resolve, waitSeconds * 1_000))
}
