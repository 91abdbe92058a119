/** The process that notes when records become readable: `observer-worker BROKERS TOPIC FILE`. Writes the file at SIGTERM. */

import { spawnBoundChild } from '../shared/dev/bound-child.ts'
import { kcatCommand } from '../shared/testing/kcat.ts'
import { type ObserverLine, type Piece, placesOf } from './observer.ts'
import { epochMs } from './worker.ts'

/** How long a broker may hold an empty fetch. A record is noticed at most this much later. */
const FETCH_WAIT_MS = 5
const SAY_INTERVAL_MS = 50

const [brokers = '', topic = '', file = ''] = process.argv.slice(2)
const settings = [
  'isolation.level=read_committed',
  `fetch.wait.max.ms=${FETCH_WAIT_MS}`,
  `fetch.error.backoff.ms=${FETCH_WAIT_MS}`,
  'check.crcs=false',
]
const kcat = spawnBoundChild(
  [
    // kcat's own unbuffered mode (-u) writes each field separately.
    ...['stdbuf', '-oL', kcatCommand(), '-C', '-q', '-b', brokers, '-t', topic, '-o', 'beginning', '-f', '%p %o\\n'],
    ...settings.flatMap((setting) => ['-X', setting]),
  ],
  { stdout: 'pipe', stderr: 'inherit' },
)

const pieces: Piece[] = []
let seen = 0
let said = 0
const decoder = new TextDecoder()
const timer = setInterval(() => {
  if (seen === said) return
  said = seen
  process.stdout.write(`${JSON.stringify({ seen } satisfies ObserverLine)}\n`)
}, SAY_INTERVAL_MS)

let ending = false
process.once('SIGTERM', () => {
  ending = true
  kcat.kill('SIGTERM')
})
for await (const chunk of kcat.stdout) {
  const piece = { text: decoder.decode(chunk), atMs: epochMs() }
  for (let at = piece.text.indexOf('\n'); at >= 0; at = piece.text.indexOf('\n', at + 1)) seen++
  pieces.push(piece)
}
clearInterval(timer)
await Bun.write(file, placesOf(pieces))
if (!ending) throw new Error(`kcat ended with ${await kcat.exited}`)
process.exit(0)
