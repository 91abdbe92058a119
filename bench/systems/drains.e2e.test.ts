import { afterAll, expect, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createTopicsAndWait } from '../../shared/dev/brokers/wire.ts'
import { UnavailableError } from '../../shared/dev/built.ts'
import { testBrokers, uniqueName } from '../../shared/testing/brokers.ts'
import { until } from '../../shared/testing/until.ts'
import { scanTopic } from '../scan.ts'
import { DRAINS } from './drains.ts'
import { LIMIT_TOOLS } from './limits.ts'
import type { Drain } from './system.ts'

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

/** The compilers of drains that are peers. */
const COMPILERS: Readonly<Record<string, string>> = { 'drain-streams': 'javac', 'drain-franz': 'go' }

/** undefined: it cannot be built here, since its compiler is missing. */
async function versionsOf(drain: Drain): Promise<Record<string, string> | undefined> {
  try {
    return await drain.prepare(say)
  } catch (error) {
    const { name } = drain.facts
    const compiler = COMPILERS[name]
    if (!(error instanceof UnavailableError) || compiler === undefined || Bun.which(compiler) !== null) throw error
    say(`${name} is not tested here: ${error.message}`)
    return undefined
  }
}

// KafkaTrace's consumer would also read the topics of other tests: bench.e2e.test.ts has it.
for (const drain of DRAINS.filter(({ facts }) => facts.kind !== 'subject'))
  for (const handler of drain.facts.kind === 'peer' ? (['none', 'checks'] as const) : (['none'] as const))
    test(
      `${drain.facts.name} copies every record once${handler === 'none' ? '' : ', through its handler'}, and ends on SIGTERM`,
      async () => {
        const versions = await versionsOf(drain)
        if (versions === undefined) return
        expect(Object.values(versions)).not.toBeEmpty()
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
