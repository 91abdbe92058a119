import { expect, test } from 'bun:test'
import pino from 'pino'
import { KafkaHealth } from './kafka-health.ts'

const REFUSED = 'b:1: client certificate refused'

function watched() {
  const lines: Record<string, unknown>[] = []
  const log = pino({ base: null }, { write: (line: string) => void lines.push(JSON.parse(line)) })
  const now = { unreachable: undefined as string | undefined }
  const health = new KafkaHealth(() => now.unreachable, 'b:1', log)
  return { now, health, said: () => lines.map(({ msg, reason }) => (reason === undefined ? msg : `${msg}: ${reason}`)) }
}

test('why Kafka does not answer is logged once, and again when it changes', () => {
  const { now, health, said } = watched()
  health.answered()
  health.answered()
  health.failed('timed out')
  for (const unreachable of [REFUSED, undefined, REFUSED]) {
    now.unreachable = unreachable
    health.failed('broker transport failure')
  }
  health.answered()
  health.failed('timed out')
  now.unreachable = undefined
  expect(said()).toEqual([
    'connected to Kafka',
    'Kafka is unreachable: timed out',
    `Kafka is unreachable: ${REFUSED}`,
    'connected to Kafka',
    `Kafka is unreachable: ${REFUSED}`,
  ])
})

test('the reason of a broker stays until Kafka answers again, though librdkafka does not repeat it with each attempt', () => {
  const { now, health } = watched()
  expect(health.fault()).toBe('Kafka has not been reached yet')
  now.unreachable = REFUSED
  expect(health.fault()).toBe(`Kafka cannot be read: ${REFUSED}`)
  now.unreachable = undefined
  health.failed('broker transport failure')
  expect(health.fault()).toBe(`Kafka cannot be read: ${REFUSED}`)
  health.answered()
  expect(health.fault()).toBeUndefined()
  health.failed('broker transport failure')
  expect(health.fault()).toBe('Kafka cannot be read: broker transport failure')
})
