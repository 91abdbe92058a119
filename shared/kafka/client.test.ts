import { expect, test } from 'bun:test'
import { connectForever } from './client.ts'

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
  }
  return { client, connected: () => done?.(null) }
}

const notExpected = (reason: string) => {
  throw new Error(reason)
}

test('a client that has connected is handed over', async () => {
  const { client, connected } = clientThatConnectsLate()
  const opened = connectForever(() => client, notExpected, new AbortController().signal)
  connected()
  expect(await opened).toBe(client)
  expect(client.disconnected).toBe(0)
})

test('a client that connects after its owner has closed it is disconnected, and nobody’s', async () => {
  const { client, connected } = clientThatConnectsLate()
  const stopping = new AbortController()
  const opened = connectForever(() => client, notExpected, stopping.signal)
  stopping.abort()
  connected()
  expect(await opened).toBeUndefined()
  expect(client.disconnected).toBe(1)
})
