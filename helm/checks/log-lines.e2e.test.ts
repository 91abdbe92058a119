import { expect, test } from 'bun:test'
import { Value } from '@sinclair/typebox/value'
import { LogLine } from '../../shared/service/log-schema.ts'
import { runForLog } from './log-run.ts'

const TIMEOUT_MS = 120_000

test(
  'every line that the services log in a run with good and bad events, a change of tenants, an outage of Kafka and a stop is one of the schema',
  async () => {
    const services = await runForLog(TIMEOUT_MS)
    const lines = Object.values(services).flatMap((one) => one.lines)
    const faults = lines.flatMap((line) =>
      [...Value.Errors(LogLine, line)].map(({ path, message }) => `${path}: ${message} in ${JSON.stringify(line)}`),
    )
    expect(faults).toEqual([])
    expect(new Set(lines.map((line) => line['service.name'])).size).toBe(3)
    expect(lines.some((line) => line['log.level'] === 'warn')).toBe(true)
  },
  TIMEOUT_MS,
)
