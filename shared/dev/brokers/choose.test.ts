import { describe, expect, test } from 'bun:test'
import { defaultBrokerChoice, parseBrokerChoice } from './choose.ts'

describe('--broker', () => {
  test.each(['embedded', 'redpanda', 'kafka'] as const)('%s is one of ours', (kind) => {
    expect(parseBrokerChoice(kind)).toEqual({ kind })
  })

  test.each(['localhost:9092', '10.0.0.1:1', 'a.example:9092,b.example:9092', '[::1]:9092'])(
    '%s is a running broker',
    (text) => {
      expect(parseBrokerChoice(text)).toEqual({ kind: 'external', bootstrapServers: text })
    },
  )

  test.each(['', 'kafak', 'localhost', 'localhost:0', 'localhost:65536', 'a:1,', 'http://a:1', 'a b:1'])(
    '%j is refused',
    (text) => {
      expect(parseBrokerChoice(text)).toBeUndefined()
    },
  )
})

describe('without --broker', () => {
  const docker = async () => true
  const noDocker = async () => false

  test('KAFKA_BROKERS wins', async () => {
    const { choice } = await defaultBrokerChoice({ KAFKA_BROKERS: 'a:1' }, docker)
    expect(choice).toEqual({ kind: 'external', bootstrapServers: 'a:1' })
  })

  test('Redpanda is used where Docker answers', async () => {
    expect((await defaultBrokerChoice({}, docker)).choice).toEqual({ kind: 'redpanda' })
    expect((await defaultBrokerChoice({ KAFKA_BROKERS: '' }, docker)).choice).toEqual({ kind: 'redpanda' })
  })

  test('the embedded broker needs nothing', async () => {
    expect((await defaultBrokerChoice({}, noDocker)).choice).toEqual({ kind: 'embedded' })
  })
})
