import { expect, test } from 'bun:test'
import { createLogger } from '../../shared/service/logger.ts'
import { FakeKafka } from '../../shared/testing/fake-kafka.ts'
import { simulateTime } from '../../shared/testing/simulated-time.ts'
import { Acts } from './acts.ts'
import type { ActRecord } from './acts-log.ts'
import { Readers } from './readers.ts'

const STREAM = { tenant: 't', name: 's', input: 'kt.t.s' }
const time = new Date(0).toISOString()

const JOB: ActRecord = {
  act: 'job',
  id: 'job',
  time,
  by: 'someone',
  action: 'redrive',
  filter: {},
  ratePerSecond: 1,
  from: [0],
  to: [9],
}

const actsOn = (kafka: FakeKafka, open = (id: string) => kafka.transactor(id)): Acts =>
  new Acts({
    readers: new Readers(() => kafka.reader(), 4),
    openTransactor: open,
    transactionalId: () => 'console',
    ensureTopic: async () => undefined,
    log: createLogger('console', { LOG_LEVEL: 'fatal', LOG_FORMAT: 'json' }),
    signal: new AbortController().signal,
  })

test('a transaction of acts that a restarted broker has forgotten to end does not stop the next one', async () => {
  const kafka = new FakeKafka().createTopic('kt.t.s.acts')
  const perform = async (act: ActRecord, acts = actsOn(kafka)) => {
    await acts.of(STREAM).perform(async () => ({ records: [], acts: [act], result: undefined }))
    await acts.close()
  }
  const time = simulateTime(1)
  let isDone = false
  const running = (async () => {
    kafka.onMark = () => 'forgotten'
    await perform(JOB)
    kafka.onMark = () => 'written'
    await perform({ ...JOB, id: 'next' })
    expect([...(await actsOn(kafka).of(STREAM).current()).jobs.keys()]).toEqual(['next'])
  })().finally(() => {
    isDone = true
  })
  try {
    expect(await time.until(() => isDone, 60_000)).toBe(true)
    await running
  } finally {
    time.end()
  }
})

test('acts that are read before their commit is answered count once', async () => {
  const kafka = new FakeKafka().createTopic('kt.t.s.acts')
  const acts: Acts = actsOn(kafka, (id) => {
    const transactor = kafka.transactor(id)
    return {
      ...transactor,
      async write(outputs) {
        const written = await transactor.write(outputs)
        await acts.of(STREAM).current()
        return written
      },
    }
  })
  const stream = acts.of(STREAM)
  const perform = (act: ActRecord) => stream.perform(async () => ({ records: [], acts: [act], result: undefined }))
  await perform(JOB)
  await perform({ act: 'redrive', id: '1', time, by: 'someone', job: 'job', letters: [[0, 3, 1]], positions: [4] })
  expect((await stream.current()).jobs.get('job')).toMatchObject({ acted: 1, positions: [4] })
  await acts.close()
})
