import { afterAll, describe, test } from 'bun:test'
import { toRecord } from '../../shared/events/record.ts'
import { FakeKafka } from '../../shared/testing/fake-kafka.ts'
import { until } from '../../shared/testing/until.ts'
import type { Pipeline } from '../pipeline.ts'
import { behaviours, events, HANDLER_TIMEOUT_MS, handlers } from '../testing/behaviours.ts'
import { expectOutcome, outcomesById } from '../testing/outcomes.ts'
import { startPipeline } from '../testing/pipeline.ts'

const INPUT = 'kt.acme.events'

const records = events.map(({ ext, data, ...attributes }) =>
  toRecord(
    {
      ...attributes,
      datacontenttype: 'application/json',
      extensions: { ext },
      data: Buffer.from(JSON.stringify(data)),
    },
    { topic: INPUT, partition: 0, tenant: 'acme', receivedAtMs: Date.now() },
  ),
)

const running: Pipeline[] = []
afterAll(async () => {
  for (const pipeline of running) await pipeline.stop()
})

function start(kafka: FakeKafka): Pipeline {
  const { pipeline } = startPipeline(kafka, handlers, {
    config: {
      HANDLER_TIMEOUT_MS,
      MAX_CONCURRENT_HANDLERS: 64,
      MAX_OPEN_RECORDS: 1_000,
      MAX_RETRY_BACKLOG_RECORDS: 1_000,
    },
  })
  running.push(pipeline)
  return pipeline
}

const outcomeCount = (kafka: FakeKafka): number =>
  kafka.all(`${INPUT}.processed`).length + kafka.all(`${INPUT}.dlq`).length

const kafka = new FakeKafka()
const found = () => outcomesById([...kafka.all(`${INPUT}.processed`), ...kafka.all(`${INPUT}.dlq`)])
/** All events, sent again after each of two restarts. */
const played = (async () => {
  for (let life = 1; life <= 3; life++) {
    const pipeline = start(kafka)
    for (const record of records) kafka.append(record)
    await until(() => kafka.committedOffset(INPUT) === life * events.length && outcomeCount(kafka) >= events.length, {
      timeoutMs: 9_000,
      what: `every event of life ${life}: ${kafka.committedOffset(INPUT)}, ${outcomeCount(kafka)}`,
    })
    await pipeline.stop()
  }
})()

describe(`whatever a handler does, its event has one outcome, and what is behind it goes on: ${behaviours.length} behaviours`, () => {
  for (const [index, { name }] of behaviours.entries())
    test(`${name}`, async () => {
      await played
      expectOutcome(index, 'acme', found())
    })
})
