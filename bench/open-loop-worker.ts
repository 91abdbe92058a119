/** The process that generates open-loop load: `open-loop-worker PLAN`. */
import { readFileSync } from 'node:fs'
import type { Socket } from 'bun'
import { AnswerReader } from './answer-reader.ts'
import {
  ANSWER_TIMEOUT_MS,
  BROKEN,
  createLedger,
  encodeLedger,
  isStored,
  MAX_IN_FLIGHT,
  type OpenLine,
  type OpenLoad,
  schedule,
} from './open-loop.ts'
import { idOf, SUBJECTS, templateOf } from './payloads.ts'
import { epochMs } from './worker.ts'

/** Opened before the first request is due, so that the start is not spent on connecting. */
const CONNECTIONS_AT_START = 64
/** The resolution of the runtime's timers. Requests due within it are sent together, late by as much, and that is measured. */
const TICK_MS = 1

const load = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as OpenLoad
const say = (line: OpenLine): void => void process.stdout.write(`${JSON.stringify(line)}\n`)

const dueMs = schedule(load.eventsPerSecond, load.warmUpSeconds + load.seconds, load.seed)
const ledger = createLedger(dueMs.length)
const templates = Array.from({ length: SUBJECTS }, (_, number) => templateOf(load.eventBytes, number))
const head = `POST ${load.path} HTTP/1.1\r\nHost: ${load.host}:${load.port}\r\nContent-Type: application/json\r\nContent-Length: ${load.eventBytes}\r\n\r\n`

interface Connection {
  socket: Socket<Connection> | undefined
  reader: AnswerReader
  /** The request under way; -1 for none. */
  index: number
  /** The part of it that is not written yet. */
  rest: Buffer | undefined
}

const idle: Connection[] = []
let connections = 0
let inFlight = 0

function settle(connection: Connection, status: number, body: string): void {
  const { index } = connection
  connection.index = -1
  if (index < 0) return
  inFlight--
  ledger.answeredMs[index] = epochMs()
  ledger.status[index] = status
  if (!isStored(status)) return
  const { receipts } = JSON.parse(body) as { receipts: { partition: number; offset: number }[] }
  ledger.partition[index] = receipts[0]?.partition ?? -1
  ledger.offset[index] = receipts[0]?.offset ?? -1
}

function lose(connection: Connection): void {
  if (connection.socket !== undefined) connections--
  connection.socket = undefined
  const at = idle.indexOf(connection)
  if (at >= 0) idle.splice(at, 1)
  settle(connection, BROKEN, '')
}

function write(connection: Connection): void {
  const { socket, rest } = connection
  if (socket === undefined || rest === undefined) return
  const written = socket.write(rest)
  connection.rest = written < rest.length ? rest.subarray(Math.max(0, written)) : undefined
}

async function open(first: number): Promise<void> {
  connections++
  const connection: Connection = { socket: undefined, reader: new AnswerReader(), index: first, rest: undefined }
  if (first >= 0) connection.rest = requestOf(first)
  try {
    await Bun.connect<Connection>({
      hostname: load.host,
      port: load.port,
      data: connection,
      socket: {
        open(socket) {
          socket.setNoDelay(true)
          connection.socket = socket
          if (connection.index < 0) idle.push(connection)
          else write(connection)
        },
        data(socket, chunk) {
          try {
            const answer = connection.reader.push(chunk)
            if (answer === undefined) return
            settle(connection, answer.status, answer.body)
            if (answer.closes) socket.end()
            else idle.push(connection)
          } catch (error) {
            console.error((error as Error).message)
            socket.terminate()
          }
        },
        drain: () => write(connection),
        close: () => lose(connection),
        error: () => lose(connection),
      },
    })
  } catch {
    connections--
    settle(connection, BROKEN, '')
  }
}

const requestOf = (index: number): Buffer => {
  const [before, after] = templates[index % templates.length] ?? ['', '']
  return Buffer.from(head + before + idOf(load.run, index) + after)
}

function send(index: number): void {
  ledger.sentMs[index] = epochMs()
  inFlight++
  const connection = idle.pop()
  if (connection !== undefined) {
    connection.index = index
    connection.rest = requestOf(index)
    write(connection)
  } else void open(index)
}

await Promise.all(Array.from({ length: CONNECTIONS_AT_START }, () => open(-1)))
// Gives the runtime a moment to compile and collect garbage.
const beginMs = epochMs() + 100
for (const [index, due] of dueMs.entries()) ledger.dueMs[index] = beginMs + due
const measuredFromMs = beginMs + load.warmUpSeconds * 1000
const endMs = measuredFromMs + load.seconds * 1000

let next = 0
let begun = false
const tick = (): void => {
  const nowMs = epochMs()
  if (!begun && nowMs >= measuredFromMs) {
    begun = true
    say({ phase: 'begun' })
  }
  while (next < dueMs.length && (ledger.dueMs[next] ?? 0) <= nowMs) {
    if (idle.length > 0 || connections < MAX_IN_FLIGHT) send(next)
    next++
  }
  if (nowMs >= endMs) void finish()
  else setTimeout(tick, TICK_MS)
}

async function finish(): Promise<void> {
  say({ phase: 'ended' })
  const deadlineMs = epochMs() + ANSWER_TIMEOUT_MS
  while (inFlight > 0 && epochMs() < deadlineMs) await Bun.sleep(10)
  await Bun.write(load.ledger, new Blob(encodeLedger(ledger) as Float64Array<ArrayBuffer>[]))
  say({ phase: 'done' })
  process.exit(0)
}

tick()
