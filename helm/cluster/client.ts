import { existsSync } from 'node:fs'
import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { createKeepAliveClient } from '../../bench/faults/keep-alive.ts'
import { type Entry, Ledger } from '../../bench/faults/ledger.ts'
import { answersOf, type Post, postOnce, prepare, type Sent } from '../../bench/faults/load.ts'
import { createRandom } from '../../bench/faults/random.ts'

/**
 * A client in a pod, which sends each event once: it never retries. Half of its requests have a connection of their own, the other half reuse one, as pools do.
 * Its argument is a {@link Target} as JSON. Once it reaches that, it carries out one {@link Order} after the other, which it finds in its folder as `1.order`, `2.order` and
 * so on: it writes `1.begun` after the first answer 202, sends until there is a file `1.stop`, waits for the answers, and writes a {@link Sheet} to `1.sheet`.
 */

export interface Target {
  /** The producer's URL, by its Service. */
  url: string
  /** Of each of the producer's pods. */
  pods: readonly string[]
  key: string
  stream: string
  folder: string
}

export interface Order {
  eventsPerSecond: number
  /** Part of every event's ID. */
  name: string
}

/** A request that was not answered with 202. */
export interface FailedRequest {
  /** The ID of its first event. */
  id: string
  /** Since the epoch. */
  sentMs: number
  endedMs: number
  connection: 'new' | 'kept'
  /** 0: no answer. */
  status: number
  retryAfter: string | undefined
  what: string
}

export interface Sheet {
  entries: Entry[]
  /** Since the epoch: nothing was sent before. */
  begunMs: number
  requests: number
  events: number
  failed: FailedRequest[]
  /** Of answers, from the time at which the request was due. */
  latencyMs: { p50: number; p99: number; max: number }
  /** The longest time between two answers 202. */
  longestGapMs: number
  seconds: number
}

const KEYS = 100
/** At more events a second, each request has several. */
const MAX_REQUESTS_PER_SECOND = 200
const TICK_MS = 5
const ORDER_PAUSE_MS = 50
const ANSWER_TIMEOUT_MS = 30_000
const MAX_TEXT = 300
const CONNECT_TIMEOUT_MS = 2_000
const CONNECT_PAUSE_MS = 50
const REACHED_MS = 5_000

/** Writes a file that is whole whenever it exists. */
export async function writeWhole(file: string, text: string): Promise<void> {
  await Bun.write(`${file}.part`, text)
  await rename(`${file}.part`, file)
}

/**
 * Waits until every pod was reached for some time without a break: each node sets up its rules for a new pod when it hears of it. By their own addresses: of a packet
 * to a Service that nobody answers, the node keeps for two minutes to which pod it went, and sends the next connection from the same port there, too.
 */
async function reachable(pods: readonly string[]): Promise<void> {
  const isReached = (pod: string): Promise<boolean> =>
    fetch(pod, { keepalive: false, signal: AbortSignal.timeout(CONNECT_TIMEOUT_MS) }).then(
      () => true,
      () => false,
    )
  let sinceMs = performance.now()
  while (performance.now() - sinceMs < REACHED_MS) {
    const reached = await Promise.all(pods.map(isReached))
    if (reached.includes(false)) sinceMs = performance.now()
    await Bun.sleep(CONNECT_PAUSE_MS)
  }
}

if (import.meta.main) {
  const target = JSON.parse(process.argv[2] ?? '') as Target
  await reachable(target.pods)
  for (let number = 1; ; number++) {
    const place = join(target.folder, String(number))
    while (!existsSync(`${place}.order`)) await Bun.sleep(ORDER_PAUSE_MS)
    const order = (await Bun.file(`${place}.order`).json()) as Order
    await writeWhole(`${place}.sheet`, JSON.stringify(await send(target, order, place)))
  }
}

async function send({ url, key, stream }: Target, order: Order, place: string): Promise<Sheet> {
  const { eventsPerSecond, name } = order
  const ledger = new Ledger()
  const random = createRandom(Bun.hash.crc32(name))
  const pool = createKeepAliveClient()
  const failed: FailedRequest[] = []
  const latencies: number[] = []
  const inFlight = new Set<Promise<void>>()
  const begunMs = performance.now()
  const sheetBegunMs = Date.now()
  let lastAnsweredMs = begunMs
  let longestGapMs = 0
  let requests = 0
  let made = 0
  const perRequest = Math.max(1, Math.round(eventsPerSecond / MAX_REQUESTS_PER_SECOND))

  const makeEvent = (): Sent => {
    const number = made++
    return {
      id: `${name}-${number}`,
      source: `/cluster/${name}`,
      type: 'dev.kafkatrace.cluster',
      subject: `key-${random.integer(0, KEYS - 1)}`,
      time: new Date().toISOString(),
      data: { n: number },
    }
  }
  const request = async (post: Post, connection: FailedRequest['connection'], dueMs: number): Promise<void> => {
    requests++
    const events = Array.from({ length: perRequest }, makeEvent)
    const { headers, body } = prepare(perRequest === 1 ? 'binary' : 'batch', events)
    const notes = events.map(({ source, id, subject = null }) =>
      ledger.send({ source, id, key: subject, expected: 'processed' }),
    )
    const sentMs = Date.now()
    const late = new AbortController()
    const timer = setTimeout(() => late.abort(new Error('no answer in time')), ANSWER_TIMEOUT_MS)
    let status = 0
    let retryAfter: string | undefined
    let text = ''
    try {
      const path = `${url}/v1/streams/${stream}/events`
      const answer = await post(path, { ...headers, authorization: `Bearer ${key}` }, body, late.signal)
      retryAfter = answer.retryAfter
      const decoder = new TextDecoder()
      for await (const chunk of answer.body) text += decoder.decode(chunk, { stream: true })
      status = answer.status
      for (const [index, said] of answersOf(status, text, perRequest).entries()) notes[index]?.(said)
    } catch (error) {
      text = String(error)
      // Nothing was listening, so nothing was sent.
      if ((error as { code?: string }).code === 'ECONNREFUSED')
        for (const note of notes) note({ kind: 'refused', status: 0 })
    } finally {
      clearTimeout(timer)
    }
    const nowMs = performance.now()
    if (status !== 202) {
      const id = events[0]?.id ?? ''
      failed.push({ id, sentMs, endedMs: Date.now(), connection, status, retryAfter, what: text.slice(0, MAX_TEXT) })
      return
    }
    if (latencies.push(nowMs - dueMs) === 1) await Bun.write(`${place}.begun`, '')
    longestGapMs = Math.max(longestGapMs, nowMs - lastAnsweredMs)
    lastAnsweredMs = nowMs
  }

  while (!existsSync(`${place}.stop`)) {
    const due = ((performance.now() - begunMs) / 1_000) * eventsPerSecond
    while (made < due) {
      const dueMs = begunMs + (made / eventsPerSecond) * 1_000
      const running: Promise<void> = (
        requests % 2 === 0 ? request(postOnce, 'new', dueMs) : request(pool.post, 'kept', dueMs)
      ).finally(() => inFlight.delete(running))
      inFlight.add(running)
    }
    await Bun.sleep(TICK_MS)
  }
  const seconds = (performance.now() - begunMs) / 1_000
  await Promise.all(inFlight)
  pool.close()
  const sorted = latencies.toSorted((a, b) => a - b)
  const at = (share: number): number => Math.round((sorted[Math.floor((sorted.length - 1) * share)] ?? 0) * 10) / 10
  return {
    entries: ledger.entries(),
    begunMs: sheetBegunMs,
    requests,
    events: made,
    failed,
    latencyMs: { p50: at(0.5), p99: at(0.99), max: at(1) },
    longestGapMs: Math.round(longestGapMs),
    seconds,
  }
}
