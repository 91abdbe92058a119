import { expect, test } from 'bun:test'
import { CODE } from './client.ts'
import { Connections, outputFault } from './transactor.ts'

const SECOND_US = 1_000_000

test('a connection that a broker closed for its silence is not a lost one', () => {
  const connections = new Connections()
  const take = (name: string, disconnects: number, silentSeconds: number, askedSeconds = silentSeconds + 1) => {
    const idle = { rxidle: silentSeconds * SECOND_US, txidle: askedSeconds * SECOND_US }
    const broker = { name, nodeid: 1, state: 'UP', txretries: 0, req_timeouts: 0, disconnects, ...idle }
    connections.take({ brokers: { [name]: broker } })
  }
  take('one', 0, 1)
  take('one', 1, 0)
  expect(connections.lost).toBe(1)
  take('coordinator', 0, 599)
  take('coordinator', 1, 0)
  expect(connections.lost).toBe(1)
  // Lost again as soon as it was made anew.
  take('coordinator', 2, 0)
  expect(connections.lost).toBe(2)
  // More than its closing has happened to it since the last look.
  take('coordinator', 2, 600)
  take('coordinator', 4, 0)
  expect(connections.lost).toBe(4)
  // Asked, and it has not answered: it was not for silence.
  take('coordinator', 4, 600, 40)
  take('coordinator', 5, 0)
  expect(connections.lost).toBe(5)
  connections.take({})
  expect(connections.lost).toBe(5)
})

test('what was lost before the client could be used is not lost', () => {
  const first = (disconnects: number, upForSeconds: number) => {
    const connections = new Connections()
    connections.initialised(2 * SECOND_US)
    const broker = { name: 'coordinator', nodeid: -1, state: 'UP', txretries: 0, req_timeouts: 0 }
    const brokers = { coordinator: { ...broker, disconnects, stateage: upForSeconds * SECOND_US } }
    connections.take({ age: 3 * SECOND_US, brokers })
    return connections
  }
  expect(first(1, 1.1).lost).toBe(0)
  // It was not up for as long as the client could be used.
  expect(first(1, 0.9).lost).toBe(1)
  // What is lost later is lost.
  const later = first(1, 1.1)
  later.take({
    age: 4 * SECOND_US,
    brokers: {
      coordinator: {
        name: 'coordinator',
        nodeid: -1,
        state: 'UP',
        txretries: 0,
        req_timeouts: 0,
        disconnects: 2,
        stateage: 0.1 * SECOND_US,
      },
    },
  })
  expect(later.lost).toBe(1)
})

test('an output is too large by the limits of its batch, and refused as invalid with a hint at why', () => {
  const tooLarge = (code: number) => outputFault(code)?.tooLarge
  expect([CODE.MSG_SIZE_TOO_LARGE, CODE.RECORD_LIST_TOO_LARGE, CODE.BAD_MSG].map(tooLarge)).toEqual([true, true, true])
  expect([CODE.INVALID_RECORD, CODE.TOPIC_AUTHORIZATION_FAILED, CODE.QUEUE_FULL].map(tooLarge)).toEqual([
    false,
    false,
    false,
  ])
  expect(outputFault(CODE.INVALID_RECORD)?.reason).toContain('cleanup.policy')
  expect([CODE.PURGE_QUEUE, CODE.PURGE_INFLIGHT, CODE.STATE].map(outputFault)).toEqual([
    undefined,
    undefined,
    undefined,
  ])
})
