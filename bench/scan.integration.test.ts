import { expect, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createTopicsAndWait } from '../shared/dev/brokers/wire.ts'
import { testBrokers, uniqueName } from '../shared/testing/brokers.ts'
import { kcatCommand } from '../shared/testing/kcat.ts'
import { settled } from '../shared/testing/settled.ts'
import { startObserver } from './observer.ts'
import { scanTopic } from './scan.ts'

const RECORDS = 3
const PATIENCE_MS = 20_000

test('what is in a topic is found by a scan, and was seen by the observer when it came', async () => {
  const brokers = testBrokers()
  const topic = uniqueName('bench-scan')
  const directory = await mkdtemp(join(tmpdir(), 'kafkatrace-scan-test-'))
  await createTopicsAndWait(brokers.split(',')[0] ?? '', [topic], 2)
  const observer = startObserver(brokers, topic, directory)
  try {
    const beforeMs = Date.now()
    for (let number = 0; number < RECORDS; number++) {
      const headers = ['-H', 'ce_specversion=1.0', '-H', `ce_id=id-${number}`, '-H', 'ce_source=/test']
      const { success } = Bun.spawnSync([kcatCommand(), '-P', '-b', brokers, '-t', topic, '-p', '1', ...headers], {
        stdin: Buffer.from(`value ${number}\n`),
      })
      expect(success).toBe(true)
    }
    expect(await observer.until(RECORDS, PATIENCE_MS)).toBe(true)
    const scanned = await scanTopic(brokers, topic)
    expect(scanned.ids).toEqual(['id-0', 'id-1', 'id-2'])
    expect(scanned.partitions).toEqual([1, 1, 1])
    expect(scanned.offsets).toEqual([0, 1, 2])
    for (const timestampMs of scanned.timestampsMs) expect(timestampMs).toBeGreaterThanOrEqual(beforeMs)
    const seen = await observer.end()
    expect(seen.count).toBe(RECORDS)
    for (let offset = 0; offset < RECORDS; offset++) expect(seen.at(1, offset)).toBeGreaterThanOrEqual(beforeMs)
  } finally {
    await observer.end()
    await rm(directory, { recursive: true, force: true })
  }
})

test('a topic that is not there is a fault', async () => {
  expect(await settled(scanTopic('127.0.0.1:1', 'none'))).toThrow('kcat could not read none')
})
