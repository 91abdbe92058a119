import { afterAll, expect, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createTopicsAndWait } from '../../shared/dev/brokers/wire.ts'
import { testBrokers, uniqueName } from '../../shared/testing/brokers.ts'
import { until } from '../../shared/testing/until.ts'
import { scanTopic } from '../scan.ts'
import { DRAINS } from './drains.ts'
import { LIMIT_TOOLS } from './limits.ts'

const directory = await mkdtemp(join(tmpdir(), 'kafkatrace-drains-'))
afterAll(() => rm(directory, { recursive: true, force: true }))

const say = (progress: string): void => void process.stderr.write(`${progress}\n`)

const RECORDS = 5_000
const PARTITIONS = 3
const BUILD_AND_RUN_TIMEOUT_MS = 300_000
/** Kafka Streams takes 4 s of CPU time until its first outcomes: 13 s with a third of a core, and more beside other tests. */
const DRAIN_TIMEOUT_MS = 90_000

async function filledTopic(): Promise<{ topic: string; output: string }> {
  const topic = uniqueName('drained')
  const output = `${topic}.out`
  const [address = ''] = testBrokers().split(',')
  await createTopicsAndWait(address, [topic, output], PARTITIONS)
  const produce = LIMIT_TOOLS.find(({ writesEvents }) => writesEvents === true)
  await produce?.prepare(say)
  await produce?.run({ brokers: testBrokers(), topic, records: RECORDS, valueBytes: 300, directory })
  return { topic, output }
}

// KafkaTrace's consumer would also read the topics of other tests: bench.e2e.test.ts has it.
for (const drain of DRAINS.filter(({ facts }) => facts.kind !== 'subject'))
  for (const handler of drain.facts.kind === 'peer' ? (['none', 'checks'] as const) : (['none'] as const))
    test(
      `${drain.facts.name} copies every record once${handler === 'none' ? '' : ', through its handler'}, and ends on SIGTERM`,
      async () => {
        expect(Object.values(await drain.prepare(say))).not.toBeEmpty()
        const { topic, output } = await filledTopic()
        const running = await drain.drain({ brokers: testBrokers(), topic, output, handler, directory })
        const scan = () => scanTopic(testBrokers(), output)
        try {
          await until(async () => (await scan()).ids.length >= RECORDS, {
            timeoutMs: DRAIN_TIMEOUT_MS,
            what: `${RECORDS} records in ${output}`,
          })
        } finally {
          await running.stop()
        }
        const [inputs, outputs] = [await scanTopic(testBrokers(), topic), await scan()]
        expect(outputs.ids.toSorted()).toEqual(inputs.ids.toSorted())
      },
      BUILD_AND_RUN_TIMEOUT_MS,
    )
