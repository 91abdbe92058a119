import { expect, test } from 'bun:test'
import type { GenerationView } from '../life.ts'
import type { Place, RecordView } from '../view.ts'
import { momentsOf, waitText } from './moments.ts'

const at = (ms: number): string => new Date(Date.UTC(2026, 0, 31) + ms).toISOString()
const placeAt = (role: Place['role'], ms: number): Place => ({
  role,
  topic: role === 'input' ? 'kt.acme.events' : `kt.acme.events.${role}`,
  partition: 2,
  offset: 7,
  time: at(ms),
})
const record = (role: Place['role'], ms: number, more: Partial<RecordView> = {}): RecordView => ({
  ...placeAt(role, ms),
  generation: 0,
  headers: [],
  bytes: 2,
  ...more,
})

test('a life is told in the order of time: received, stored, attempts, and its end', () => {
  const generation: GenerationView = {
    generation: 0,
    state: 'dead',
    record: record('input', 20, { receivedAt: at(0) }),
    places: [placeAt('input', 20), placeAt('retry', 60), placeAt('dlq', 900)],
    repeats: [placeAt('input', 300)],
    attempts: [
      { attempt: 1, time: at(50), reason: 'handler failed', message: 'away' },
      { attempt: 2, time: at(890), reason: 'timed out', message: 'too slow' },
    ],
    outcome: record('dlq', 900, { error: { reason: 'out of attempts', message: '2 attempts' } }),
    act: { act: 'redrive', id: 'x', time: at(5_000), by: 'night', reason: 'mended', edited: true },
  }
  expect(momentsOf(generation).map(({ tone, what, detail }) => [tone, what, detail])).toEqual([
    ['calm', 'Received by the producer', undefined],
    ['calm', 'Stored', 'kt.acme.events/2/7'],
    ['warn', 'Attempt 1 failed: handler failed', 'away'],
    ['warn', 'Put into .retry', 'kt.acme.events.retry/2/7'],
    ['calm', 'Came in again, with no effect', '2/7'],
    ['warn', 'Attempt 2 failed: timed out', 'too slow'],
    ['bad', 'Dead letter: out of attempts', '2 attempts · kt.acme.events.dlq/2/7'],
    ['calm', 'Redriven by night, edited', 'mended'],
  ])
})

test('an outcome names its handler, and has its record at hand', () => {
  const outcome = record('processed', 40, { handler: 'order@2' })
  const [stored, processed] = momentsOf({
    generation: 0,
    state: 'processed',
    record: record('input', 10),
    places: [placeAt('input', 10), placeAt('processed', 40)],
    repeats: [],
    attempts: [],
    outcome,
  })
  expect(stored).toMatchObject({ what: 'Stored', record: { role: 'input' } })
  expect(processed).toMatchObject({ tone: 'good', what: 'Processed by order@2', record: outcome })
})

test('an event that waits says why, as far as that is known, and whether for an attempt', () => {
  const of = { generation: 0, state: 'waiting' as const, places: [], repeats: [], attempts: [] }
  const attempts = [{ attempt: 1, time: at(50), reason: 'handler failed', message: 'away' }]
  const waiting = { reason: 'newer schema', message: 'deploy a handler that takes 4' }
  expect([of, { ...of, waiting }, { ...of, attempts, waiting: attempts[0] ?? waiting }].map(waitText)).toEqual([
    'It waits in .retry',
    'It waits in .retry: newer schema',
    'It waits in .retry for its next attempt: handler failed',
  ])
})
