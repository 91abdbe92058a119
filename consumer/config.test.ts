import { describe, expect, test } from 'bun:test'
import { ConfigError } from '../shared/service/config.ts'
import { loadConsumerConfig } from './config.ts'

const load = (env: Record<string, string>) => loadConsumerConfig({ KAFKA_BROKERS: 'a:1', ...env })

const faultsOf = (env: Record<string, string>): readonly string[] => {
  try {
    load(env)
  } catch (error) {
    if (error instanceof ConfigError) return error.faults
    throw error
  }
  return []
}

describe('the consumer’s configuration', () => {
  test('needs the brokers and nothing else', () => {
    expect(load({})).toMatchObject({ KAFKA_BROKERS: 'a:1', GROUP_ID: 'kafkatrace', OPS_PORT: 9081 })
    expect(() => loadConsumerConfig({})).toThrow('KAFKA_BROKERS is not set')
  })

  test.each([
    ['QUICK_ATTEMPTS', '9', 'MAX_ATTEMPTS', '8'],
    ['QUICK_RETRY_FIRST_MS', '501', 'QUICK_RETRY_MAX_MS', '500'],
    ['RETRY_FIRST_MS', '2', 'RETRY_MAX_MS', '1'],
  ])('%s=%s with %s=%s contradicts itself', (low, lowValue, high, highValue) => {
    const [fault, ...more] = faultsOf({ [low]: lowValue, [high]: highValue })
    expect(fault).toStartWith(`${low}=${lowValue} is over ${high}=${highValue}: `)
    expect(more).toEqual([])
    expect(faultsOf({ [low]: highValue, [high]: highValue })).toEqual([])
  })

  test('faults of the common variables are told as well', () => {
    expect(faultsOf({ KAFKA_SECURITY_PROTOCOL: 'sasl_ssl', MAX_ATTEMPTS: '1' })).toHaveLength(3)
  })

  test.each(['a b', 'ä', 'x'.repeat(201)])('GROUP_ID may not be %j', (GROUP_ID) => {
    expect(faultsOf({ GROUP_ID })).toHaveLength(1)
  })
})
