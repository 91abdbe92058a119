/** The process that generates closed-loop load: `closed-loop-worker PLAN`. Runs on Node and on Bun. */
import { readFileSync } from 'node:fs'
import autocannon from 'autocannon'
import { type ClosedLine, type ClosedLoad, shareOf, storedOf } from './closed-loop.ts'
import { createRecorder } from './histogram.ts'

/** How often autocannon checks whether its time is over, in ms. */
const TICK_MS = 50

const load = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as ClosedLoad
const say = (line: ClosedLine): void => void process.stdout.write(`${JSON.stringify(line)}\n`)

interface Phase {
  seconds: number
  requests: number
  events: number
  errors: Record<string, number>
  recorder: ReturnType<typeof createRecorder>
}

function run(seconds: number): Promise<Phase> {
  const phase: Phase = { seconds: 0, requests: 0, events: 0, errors: {}, recorder: createRecorder() }
  const fault = (kind: string): void => {
    phase.errors[kind] = (phase.errors[kind] ?? 0) + 1
  }
  let connection = 0
  return new Promise((resolve, reject) => {
    const begunMs = performance.now()
    const cannon = autocannon(
      {
        url: load.origin,
        method: 'POST',
        connections: load.connections,
        duration: seconds,
        sampleInt: TICK_MS,
        setupClient(client) {
          const share = shareOf(load.requests, connection++, load.connections)
          client.setRequests(
            share.map(({ path, headers, body }) => ({
              method: 'POST',
              path,
              headers,
              body,
              // Only where the response must be parsed: that costs as much as the rest of a request.
              ...(load.ndjson && {
                onResponse(status: number, answer: string) {
                  phase.events += storedOf(status, answer)
                },
              }),
            })),
          )
        },
      },
      (error) => {
        phase.seconds = (performance.now() - begunMs) / 1000
        if (error === null || error === undefined) resolve(phase)
        else reject(error)
      },
    )
    cannon.on('response', (_client, status, _bytes, milliseconds) => {
      if (status >= 200 && status <= 299) {
        phase.requests++
        if (!load.ndjson) phase.events += load.eventsPerRequest
        phase.recorder.record(milliseconds)
      } else fault(String(status))
    })
    cannon.on('reqError', (error: Error) => fault(error.message === 'request timed out' ? 'timeout' : 'connection'))
  })
}

const warmUp = await run(load.warmUpSeconds)
say({ phase: 'begun' })
const { seconds, requests, events, errors, recorder } = await run(load.seconds)
say({ phase: 'ended' })
say({
  phase: 'done',
  seconds,
  requests,
  events,
  errors,
  toAnswer: recorder.latency(),
  acknowledgedEvents: warmUp.events + events,
})
