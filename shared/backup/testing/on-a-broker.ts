/** Backups of a real broker, by the command. */
import { afterAll, expect } from 'bun:test'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import type { OutgoingRecord } from '../../events/record.ts'
import { actsTopic, inputTopic, streamTopics } from '../../events/topics.ts'
import { createTopicAdmin } from '../../kafka/admin.ts'
import { ProduceError } from '../../kafka/types.ts'
import { testBrokers, uniqueName } from '../../testing/brokers.ts'
import { commonConfig } from '../../testing/common-config.ts'
import { startTestProducer } from '../../testing/record-producer.ts'
import { until } from '../../testing/until.ts'
import { folderRepository } from '../repository.ts'
import { held } from './backups.ts'

const PARTITIONS = 2
const STREAM = 'events'
export const SLOW = { timeoutMs: 30_000 }

const config = commonConfig({ KAFKA_BROKERS: testBrokers() })
const log = pino({ level: 'silent' })
export const home = mkdtempSync(join(tmpdir(), 'kafkatrace-backup-'))
afterAll(() => rmSync(home, { recursive: true, force: true }))

const COMMAND = [process.execPath, 'shared/backup/command.ts']
const start = (args: readonly string[], group: string) =>
  Bun.spawn([...COMMAND, ...args], {
    env: { ...process.env, NODE_ENV: 'production', KAFKA_BROKERS: testBrokers(), GROUP_ID: group },
    stdout: 'pipe',
    stderr: 'pipe',
  })

export async function backup(
  args: readonly string[],
  group: string,
): Promise<{ code: number; out: string; said: string }> {
  const child = start(args, group)
  const [out, said] = await Promise.all([child.stdout.text(), child.stderr.text()])
  return { code: await child.exited, out, said }
}

/** A stream of its own, with what a log can have. */
export async function stream(prefix: string) {
  const tenant = uniqueName(prefix)
  const input = inputTopic(tenant, STREAM)
  const admin = createTopicAdmin({ config, clientId: 'tests', log })
  const at = { partitions: PARTITIONS, replication: 1 }
  const [fault] = await admin.ensureGroups([streamTopics(tenant, STREAM)], {
    ...at,
    settings: { 'retention.ms': '-1' },
  })
  if (fault !== undefined) throw new Error(fault)
  await admin.ensureGroups([[actsTopic(input)]], { ...at, partitions: 1 })
  await admin.close()
  const producer = startTestProducer(config, streamTopics(tenant, STREAM))
  return {
    tenant,
    input,
    async write(...records: Omit<OutgoingRecord, 'topic'>[]): Promise<void> {
      await until(() => producer.partitionCount(input) !== undefined, SLOW)
      for (const result of await producer.produce(records.map((one) => ({ topic: input, ...one }))))
        if (result instanceof ProduceError) throw result
    },
    close: () => producer.close(1_000),
  }
}

/** A run takes about as long. */
const MAX_KILL_DELAY_MS = 800

/** Kills the command so many times at any time, and then lets it complete. */
export async function killedAtRandom(kills: number): Promise<void> {
  const { tenant, input, write, close } = await stream('killed')
  const folder = join(home, 'killed')
  const args = ['take', folder, '--tenant', tenant]
  let written = 0
  for (let kill = 0; kill < kills; kill++) {
    const records = Array.from({ length: 2_000 }, (_, at) => ({
      partition: at % PARTITIONS,
      key: null,
      value: Buffer.from(crypto.getRandomValues(new Uint8Array(1_000))),
      headers: { names: [], values: [] },
    }))
    await write(...records)
    written += records.length
    const child = start(args, 'none')
    await Bun.sleep(Math.random() * MAX_KILL_DELAY_MS)
    child.kill('SIGKILL')
    await child.exited
  }
  await close()
  expect(await backup(args, 'none')).toMatchObject({ code: 0, said: '' })
  expect(await backup(['verify', folder], 'none')).toMatchObject({ code: 0, said: '' })
  const stored = await held(folderRepository(folder))
  const offsets = [0, 1].map((partition) => (stored[`${input}/${partition}`] ?? []).map(({ offset }) => offset))
  expect(offsets.map((of) => of.length)).toEqual([written / 2, written / 2])
  for (const of of offsets) expect(of).toEqual(of.map((_, at) => at))
}
