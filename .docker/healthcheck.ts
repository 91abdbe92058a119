/**
 * Checks this container's operations port, since the image has no curl: `bun healthcheck.ts [PATH]`, /livez by default.
 * Exits with 0 if it is well, otherwise with 1 and the reason. /readyz may answer 200 and say in its body that something is wrong.
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
  const text = await answer.text()
  if (!answer.ok || (JSON.parse(text) as { ok: boolean }).ok === false) throw new Error(`${answer.status} ${text}`)
} catch (error) {
  console.error((error as Error).message)
  process.exit(1)
}

export {}
