import { describe, expect, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { ConfigError } from '../shared/service/config.ts'
import { loadProducer, loadProducerConfig } from './config.ts'

const DEVELOPMENT = { NODE_ENV: 'development', AUTH: 'off', KAFKA_BROKERS: 'localhost:9092' }

function faults(env: Record<string, string>, load: (env: Record<string, string>) => unknown = loadProducerConfig) {
  try {
    load(env)
    return []
  } catch (error) {
    if (error instanceof ConfigError) return error.faults
    throw error
  }
}

describe('the producer’s configuration', () => {
  test('needs brokers only, in development', () => {
    expect(faults(DEVELOPMENT)).toEqual([])
    expect(faults({ NODE_ENV: 'development', AUTH: 'off' })).toHaveLength(1)
  })

  test('lets nobody in without a key outside of development', () => {
    expect(faults({ KAFKA_BROKERS: 'b:1', AUTH: 'off' }).join()).toContain('AUTH=off is for development only')
    expect(faults({ KAFKA_BROKERS: 'b:1' }).join()).toContain('TENANTS_FILE is not set')
    expect(faults({ KAFKA_BROKERS: 'b:1', TENANTS_FILE: 't.json' })).toEqual([])
  })

  test.each([
    [{ TENANTS_FILE: 'x', STREAMS: 'late' }, 'STREAMS and TENANTS_FILE are both set'],
    [
      { MAX_BODY_BYTES: '1000', MAX_IN_FLIGHT_BYTES: '999', NDJSON_WINDOW_BYTES: '10', NDJSON_MAX_LINE_BYTES: '10' },
      'MAX_BODY_BYTES=1000',
    ],
    [{ NDJSON_MAX_LINE_BYTES: '3000000' }, 'NDJSON_MAX_LINE_BYTES=3000000'],
    [{ NDJSON_WINDOW_BYTES: '268435456' }, 'NDJSON_WINDOW_BYTES=268435456'],
    [{ MAX_EVENT_BYTES: '900000', MAX_QUEUE_BYTES: '2048' }, 'MAX_EVENT_BYTES=900000'],
    [{ MAX_QUEUE_RECORDS: '10' }, 'MAX_BATCH_EVENTS=1000'],
    [{ DELIVERY_TIMEOUT_MS: '29000' }, 'REQUEST_TIMEOUT_MS=30000'],
    [{ LINGER_MS: '500', DELIVERY_TIMEOUT_MS: '500' }, 'LINGER_MS=500'],
    [{ STREAMS: 'Orders' }, 'STREAMS'],
  ])('names what contradicts itself: %o', (env, text) => {
    expect(faults({ ...DEVELOPMENT, ...(env as Record<string, string>) }).join('\n')).toContain(text)
  })

  test('lists every fault at once', () => {
    const env = { AUTH: 'off', PORT: 'http', MAX_BODY_BYTES: '-1', CREATE_TOPICS: 'maybe' }
    expect(faults(env).map((fault) => fault.split(/[ =]/)[0])).toEqual([
      'KAFKA_BROKERS',
      'PORT',
      'CREATE_TOPICS',
      'MAX_BODY_BYTES',
      'AUTH',
    ])
  })

  test('of an empty environment lists all that it needs', () => {
    expect(faults({}).map((fault) => fault.split(' ')[0])).toEqual(['KAFKA_BROKERS', 'TENANTS_FILE'])
  })

  test('lists the faults of the tenants file with the others', () => {
    const env = { PORT: 'http', TENANTS_FILE: '/dev/null' }
    expect(faults(env, loadProducer).map((fault) => fault.split(/[ =]/)[0])).toEqual([
      'KAFKA_BROKERS',
      'PORT',
      'TENANTS_FILE',
    ])
  })

  test('has tenants exactly where keys are needed', () => {
    const file = join(mkdtempSync(join(tmpdir(), 'kafkatrace-tenants-')), 'tenants.json')
    writeFileSync(file, JSON.stringify({ tenants: { acme: { streams: ['events'], keys: [] } } }))
    expect(loadProducer({ KAFKA_BROKERS: 'b:1', TENANTS_FILE: file }).tenants?.list[0]?.name).toBe('acme')
    expect(loadProducer(DEVELOPMENT).tenants).toBeUndefined()
    rmSync(dirname(file), { recursive: true })
  })
})
