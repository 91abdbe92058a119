import { afterAll, expect, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Type } from '@sinclair/typebox'
import { findFreePorts } from '../../shared/dev/brokers/ports.ts'
import { createTopicsAndWait } from '../../shared/dev/brokers/wire.ts'
import { fromRecord, type IncomingRecord } from '../../shared/events/record.ts'
import { createRangeReader, readAll } from '../../shared/kafka/range-reader.ts'
import { commonVariables, loadConfig } from '../../shared/service/config.ts'
import { createLogger } from '../../shared/service/logger.ts'
import { testBrokers, uniqueName } from '../../shared/testing/brokers.ts'
import { settled } from '../../shared/testing/settled.ts'
import { LIMIT_TOOLS, LIMITS } from './limits.ts'
import type { LimitTool } from './system.ts'

const directory = await mkdtemp(join(tmpdir(), 'kafkatrace-limits-'))
afterAll(() => rm(directory, { recursive: true, force: true }))

const say = (progress: string): void => void process.stderr.write(`${progress}\n`)

const RECORDS = 20_000
const PARTITIONS = 3
const VALUE_BYTES = 300

async function newTopic(): Promise<string> {
  const topic = uniqueName('limits')
  const [address = ''] = testBrokers().split(',')
  await createTopicsAndWait(address, [topic], PARTITIONS)
  return topic
}

const run = (tool: LimitTool, topic: string, records = RECORDS) =>
  tool.run({ brokers: testBrokers(), topic, records, valueBytes: VALUE_BYTES, directory })

const toolNamed = (name: string): LimitTool => {
  const found = LIMIT_TOOLS.find(({ facts }) => facts.name === name)
  if (found === undefined) throw new Error(`there is no ${name}`)
  return found
}

async function recordsOf(topic: string): Promise<IncomingRecord[]> {
  const reader = createRangeReader({
    config: loadConfig(Type.Object(commonVariables), { KAFKA_BROKERS: testBrokers() }),
    clientId: uniqueName('limits'),
    log: createLogger('limits', { LOG_LEVEL: 'fatal', LOG_FORMAT: 'json' }),
  })
  const records: IncomingRecord[] = []
  const partitions = Array.from({ length: PARTITIONS }, (_, partition) => ({ topic, partition }))
  await readAll(reader, partitions, (record) => records.push(record))
  await reader.close()
  return records
}

for (const system of LIMITS) {
  test(`${system.facts.name} answers a POST, and ends when it is told to`, async () => {
    await system.prepare(say)
    const [port = 0] = await findFreePorts(1)
    const running = await system.start({ brokers: '', topic: '', port, directory })
    const body = 'x'.repeat(1_000_000)
    const answer = await fetch(running.url, { method: 'POST', body })
    expect(answer.status).toBe(200)
    expect(await answer.text()).toBe(system.facts.name === 'bun-echo' ? body : 'hello')
    await running.stop()
    expect(await settled(fetch(running.url, { method: 'POST', body }))).toThrow()
  })
}

for (const tool of LIMIT_TOOLS) {
  test(`${tool.facts.name} writes as many records as it is told to, and says how long that took`, async () => {
    expect(Object.values(await tool.prepare(say))).not.toBeEmpty()
    const topic = await newTopic()
    const done = await run(tool, topic)
    expect(done.events).toBe(RECORDS)
    expect(done.seconds).toBeGreaterThan(0)
    expect(done.cpuSeconds).toBeGreaterThan(0)
    const records = await recordsOf(topic)
    expect(records).toHaveLength(RECORDS)
    expect(records.every(({ value }) => value?.length === VALUE_BYTES)).toBe(true)
    if (tool.writesEvents !== true) return
    const events = records.map((record) => {
      const read = fromRecord(record)
      if (!read.ok) throw new Error(read.reason)
      expect(record.key?.toString()).toBe(read.event.subject as string)
      return read.event
    })
    expect(new Set(events.map(({ id }) => id)).size).toBe(RECORDS)
    expect(() => JSON.parse(String(records[0]?.value))).not.toThrow()
  })
}

test('a tool that cannot reach its broker fails with what it said', async () => {
  const drain = toolNamed('librdkafka-produce')
  await drain.prepare(say)
  const [port = 0] = await findFreePorts(1)
  const options = { topic: 'none', records: 1, valueBytes: VALUE_BYTES, directory }
  expect(await settled(drain.run({ ...options, brokers: `127.0.0.1:${port}` }))).toThrow(
    'the topic cannot be asked for',
  )
})
