/** The process with the followers: `followers-worker URL COUNT FILE`. Says how many outcomes it got once all are connected, and writes the file at SIGTERM. */

import { type Arrival, encodeArrivals, OutcomeFrames } from './followers.ts'
import type { ObserverLine } from './observer.ts'
import { epochMs } from './worker.ts'

const CONNECT_TIMEOUT_MS = 10_000
const SAY_INTERVAL_MS = 50

const [url = '', count = '', file = ''] = process.argv.slice(2)
const ending = new AbortController()
const arrivals: Arrival[] = []
const say = (): void =>
  void process.stdout.write(`${JSON.stringify({ seen: arrivals.length } satisfies ObserverLine)}\n`)

/** Returns with the first piece of the answer: what is committed from then on is sent. */
async function follow(follower: number): Promise<void> {
  const signal = AbortSignal.any([ending.signal, connecting.signal])
  const { status, body } = await fetch(url, { signal })
  if (status !== 200 || body === null) throw new Error(`following outcomes: status ${status}`)
  const reader = body.getReader()
  const decoder = new TextDecoder()
  const frames = new OutcomeFrames()
  const take = ({ value, done }: { value?: Uint8Array | undefined; done: boolean }): boolean => {
    const atMs = epochMs()
    for (const outcome of frames.push(decoder.decode(value, { stream: true })))
      arrivals.push({ follower, ...outcome, atMs })
    return !done
  }
  take(await reader.read())
  void (async () => {
    try {
      while (take(await reader.read()));
    } catch (error) {
      // What is missing then shows in the arrivals.
      if (!ending.signal.aborted) console.error((error as Error).message)
    }
  })()
}

const connecting = new AbortController()
const late = setTimeout(() => connecting.abort(), CONNECT_TIMEOUT_MS)
await Promise.all(Array.from({ length: Number(count) }, (_, follower) => follow(follower)))
clearTimeout(late)
say()
let said = 0
setInterval(() => {
  if (arrivals.length === said) return
  said = arrivals.length
  say()
}, SAY_INTERVAL_MS)

process.once('SIGTERM', async () => {
  ending.abort()
  await Bun.write(file, encodeArrivals(arrivals))
  process.exit(0)
})
