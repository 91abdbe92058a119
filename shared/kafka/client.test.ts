import { expect, test } from 'bun:test'
import { EventEmitter } from 'node:events'
import { connectForever, type LibrdKafkaError, type Openings, type Settings } from './client.ts'

/** A client whose attempt to connect ends when the test says so. */
function clientThatConnectsLate() {
  let done: ((error: null) => void) | undefined
  const client = {
    disconnected: 0,
    connect(_options: { timeout: number }, connected: (error: null) => void) {
      done = connected
    },
    disconnect() {
      client.disconnected++
    },
    on: () => undefined,
  }
  return { client, connected: () => done?.(null) }
}

/** Notes what becomes of each opening, whose settings are its number. */
function noting() {
  const notes: string[] = []
  let opened = 0
  const openings: Openings<unknown> = {
    open() {
      const number = ++opened
      return {
        settings: { number },
        connected: () => void notes.push(`${number} connected`),
        ended() {
          notes.push(`${number} ended`)
          return number === 1 ? 'no token' : undefined
        },
      }
    },
  }
  return { openings, notes }
}

const notExpected = (reason: string) => {
  throw new Error(reason)
}

test('a client that has connected is handed over', async () => {
  const { client, connected } = clientThatConnectsLate()
  const { openings, notes } = noting()
  const opened = connectForever(openings, () => client, notExpected, new AbortController().signal)
  connected()
  expect(await opened).toBe(client)
  expect(notes).toEqual(['1 connected'])
  expect(client.disconnected).toBe(0)
})

test('a client that connects after its owner has closed it is disconnected, and nobody’s', async () => {
  const { client, connected } = clientThatConnectsLate()
  const stopping = new AbortController()
  const { openings, notes } = noting()
  const opened = connectForever(openings, () => client, notExpected, stopping.signal)
  stopping.abort()
  connected()
  expect(await opened).toBeUndefined()
  expect(client.disconnected).toBe(1)
  expect(notes).toEqual(['1 ended'])
})

test('each attempt is opened anew, and a reason that is known without a broker is the one that is told', async () => {
  const { openings, notes } = noting()
  const events = new EventEmitter()
  const settings: unknown[] = []
  const client = Object.assign(events, {
    connect(_: { timeout: number }, done: (error: LibrdKafkaError | null) => void) {
      done(settings.length === 3 ? null : (new Error('timed out') as unknown as LibrdKafkaError))
    },
    disconnect: () => undefined,
  })
  const reasons: string[] = []
  const open = (secured: Settings) => {
    settings.push(secured)
    return client
  }
  expect(await connectForever(openings, open, (why) => reasons.push(why), new AbortController().signal)).toBe(client)
  expect(settings).toEqual([{ number: 1 }, { number: 2 }, { number: 3 }])
  expect(reasons).toEqual(['no token', 'timed out'])
  expect(notes).toEqual(['1 ended', '2 ended', '3 connected'])
  events.emit('disconnected')
  expect(notes.at(-1)).toBe('3 ended')
})
