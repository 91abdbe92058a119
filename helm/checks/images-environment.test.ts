import { describe, expect, test } from 'bun:test'
import { drainTimeoutMs, portsOf, unknownVariables, valueFaults } from './images-environment.ts'

describe('an environment', () => {
  test('has no variables that the service would ignore', () => {
    expect(unknownVariables('producer', ['KAFKA_BROKERS', 'PORT'])).toEqual([])
    expect(unknownVariables('consumer', ['KAFKA_BROKERS', 'PORT', 'KAFKA_BROKER'])).toEqual([
      'consumer has no variable PORT',
      'consumer has no variable KAFKA_BROKER',
    ])
  })

  test('is judged by the service’s own loader, every fault by itself', () => {
    const right = { KAFKA_BROKERS: 'kafka:9092', AUTH: 'off', NODE_ENV: 'development' }
    expect(valueFaults('producer', right)).toEqual([])
    expect(valueFaults('producer', { ...right, PORT: 'x', NODE_ENV: 'production' })).toEqual([
      expect.stringMatching(/^producer: PORT="x"/),
      expect.stringMatching(/^producer: AUTH=off is for development only/),
    ])
    expect(valueFaults('consumer', {})).toEqual([expect.stringMatching(/^consumer: KAFKA_BROKERS is not set/)])
    const named = { ...right, KAFKA_SECURITY_PROTOCOL: 'ssl', KAFKA_SSL_CA_FILE: '/elsewhere/ca.crt' }
    expect(valueFaults('producer', named)).toEqual([])
    expect(valueFaults('producer', { ...named, KAFKA_SSL_CA_FILE: '/' })).toHaveLength(1)
  })

  test('says how long stopping may take', () => {
    expect(drainTimeoutMs('consumer', { KAFKA_BROKERS: 'kafka:9092', DRAIN_TIMEOUT_MS: '2500' })).toBe(2500)
  })

  test('says which ports are listened on', () => {
    const kafka = { KAFKA_BROKERS: 'kafka:9092' }
    expect(portsOf('producer', { ...kafka, AUTH: 'off', NODE_ENV: 'development', PORT: '81' })).toEqual([81, 9080])
    expect(portsOf('consumer', kafka)).toEqual([9081])
  })
})
