/**
 * Checks this container's operations port, since the image has no curl: `bun healthcheck.ts [PATH]`, /livez by default.
 * Exits with 0 on a 2xx response, otherwise with 1 and the reason.
 */
const timeoutMs = 2_500
const path = process.argv[2] ?? '/livez'

try {
  const scheme = process.env.OPS_TLS === 'on' ? 'https' : 'http'
  const answer = await fetch(`${scheme}://127.0.0.1:${process.env.OPS_PORT}${path}`, {
    signal: AbortSignal.timeout(timeoutMs),
    // The certificate is for the name by which others reach this container.
    tls: { rejectUnauthorized: false },
  })
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`)
} catch (error) {
  console.error((error as Error).message)
  process.exit(1)
}

export {}
