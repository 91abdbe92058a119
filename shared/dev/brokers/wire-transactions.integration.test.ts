import { expect, test } from 'bun:test'
import { testBrokers, uniqueName } from '../../testing/brokers.ts'
import { openTransaction } from '../../testing/open-transaction.ts'
import { settled } from '../../testing/settled.ts'
import { until } from '../../testing/until.ts'
import { createTopicsAndWait } from './wire.ts'
import { listOffsets } from './wire-admin.ts'
import { openTransactions, writeTransactionMarks } from './wire-transactions.ts'

const [address = ''] = testBrokers().split(',')
const timeoutMs = 10_000

test('a transaction that is open is seen in its partition, and a mark that is written there ends it', async () => {
  const topic = uniqueName('wire-transactions')
  await createTopicsAndWait(address, [topic], 2)
  const open = () => openTransactions(address, timeoutMs, topic, [0, 1])
  // The controller names a leader before it leads.
  await until(async () => (await open().catch(() => undefined)) !== undefined)
  expect(await open()).toEqual([])
  const client = await openTransaction(address, topic, 1)
  const [found, ...others] = await open()
  expect(others).toEqual([])
  if (found === undefined) throw new Error('it is not seen')
  expect(found).toMatchObject({ partition: 1, offset: 0 })
  expect(await listOffsets(address, timeoutMs, topic, [1], 'end')).toEqual([0])
  expect(await settled(writeTransactionMarks(address, timeoutMs, found, 'commit', topic, [9]))).toThrow(`${topic}/9`)
  await writeTransactionMarks(address, timeoutMs, found, 'commit', topic, [1])
  expect(await open()).toEqual([])
  expect(await listOffsets(address, timeoutMs, topic, [1], 'end')).toEqual([2])
  await client.abort()
})
