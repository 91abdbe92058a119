import { expect, test } from 'bun:test'
import { FakeKafka } from '../shared/testing/fake-kafka.ts'
import { simulateTime } from '../shared/testing/simulated-time.ts'
import { proveLeaders, waitForOffset } from './leaders.ts'

const AT = { topic: 'kt.acme.events.processed', partition: 0 }

/** A reader that is cut off from the leaders, and writes that reach them. */
async function cutOff() {
  const kafka = new FakeKafka().createTopic(AT.topic)
  const process = { killed: false }
  const transactor = kafka.transactor('other')
  await transactor.start()
  kafka.append({ ...AT, key: null, value: null, headers: { names: [], values: [] } })
  kafka.cutOff(process, 3_600_000)
  let looks = 0
  const reader = kafka.reader(process)
  const write = async () => {
    const result = await transactor.release([AT], 'records', Buffer.from('') as never)
    return result.kind === 'released' ? result.transaction : undefined
  }
  const counted = {
    ...reader,
    async lookUp(topics: readonly string[]) {
      looks++
      await reader.lookUp(topics)
    },
  }
  return { reader: counted, write, looks: () => looks }
}

test('a broker that leads no more is found out by what it does not have, and the leader is looked up', async () => {
  const { reader, write, looks } = await cutOff()
  expect((await reader.ends([AT]))[0]?.end).toBe(1)
  await proveLeaders([AT], reader, write)
  expect(looks()).toBe(1)
  expect((await reader.ends([AT]))[0]?.end).toBe(3)
})

test('a leader that has what was written is not looked up', async () => {
  const { reader, write, looks } = await cutOff()
  await reader.lookUp([AT.topic])
  await proveLeaders([AT], reader, write)
  expect(looks()).toBe(1)
})

test('where nobody has what was written, it is said, and an offset that never comes is not waited for without a bound', async () => {
  const time = simulateTime(1)
  try {
    const { reader, write } = await cutOff()
    const deaf = { ...reader, lookUp: async () => undefined }
    let said = ''
    void proveLeaders([AT], deaf, write).catch((error: Error) => {
      said = error.message
    })
    expect(await time.until(() => said !== '', 60_000)).toBe(true)
    expect(said).toStartWith(`${AT.topic}/0: what was written to it cannot be read`)
    let isOver = false
    void waitForOffset(AT, 1_000, reader).then(() => {
      isOver = true
    })
    expect(await time.until(() => isOver, 60_000)).toBe(true)
  } finally {
    time.end()
  }
})
