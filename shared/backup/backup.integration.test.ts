import { afterAll, expect, test } from 'bun:test'
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { javaCommand, provideKafka } from '../dev/brokers/kafka-distribution.ts'
import { commitOffsets, deleteRecords, findCoordinator } from '../dev/brokers/wire-admin.ts'
import type { HeaderValue } from '../events/headers.ts'
import type { OutgoingRecord } from '../events/record.ts'
import { actsTopic, inputTopic, siblingTopic, streamTopics } from '../events/topics.ts'
import { createTopicAdmin } from '../kafka/admin.ts'
import { native, promised } from '../kafka/client.ts'
import { createRecordProducer } from '../kafka/producer.ts'
import { ProduceError } from '../kafka/types.ts'
import { testBrokers, uniqueName } from '../testing/brokers.ts'
import { commonConfig } from '../testing/common-config.ts'
import { kcatCommand } from '../testing/kcat.ts'
import { openTransaction } from '../testing/open-transaction.ts'
import { until } from '../testing/until.ts'
import { MANIFEST, type Manifest, segmentsOf } from './manifest.ts'
import { folderRepository } from './repository.ts'
import { readManifest } from './take.ts'
import { held } from './testing/backups.ts'

/** On a real broker: what is read is compared with what other programs read. */

const PARTITIONS = 2
const STREAM = 'events'
const WIRE_TIMEOUT_MS = 10_000
const STEP_TIMEOUT_MS = 10_000
const SLOW = { timeoutMs: 30_000 }
const TEST_TIMEOUT_MS = 120_000
const [address = ''] = testBrokers().split(',')

const config = commonConfig({ KAFKA_BROKERS: testBrokers() })
const log = pino({ level: 'silent' })
const home = mkdtempSync(join(tmpdir(), 'kafkatrace-backup-'))
afterAll(() => rmSync(home, { recursive: true, force: true }))

const COMMAND = [process.execPath, 'shared/backup/command.ts']
const start = (args: readonly string[], group: string) =>
  Bun.spawn([...COMMAND, ...args], {
    env: { ...process.env, NODE_ENV: 'production', KAFKA_BROKERS: testBrokers(), GROUP_ID: group },
    stdout: 'pipe',
    stderr: 'pipe',
  })

async function backup(args: readonly string[], group: string): Promise<{ code: number; out: string; said: string }> {
  const child = start(args, group)
  const [out, said] = await Promise.all([child.stdout.text(), child.stderr.text()])
  return { code: await child.exited, out, said }
}

/** A stream of its own, with what a log can have. */
async function stream(prefix: string) {
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
  const producer = createRecordProducer({
    config,
    clientId: 'tests',
    topics: streamTopics(tenant, STREAM),
    deliveryTimeoutMs: 10_000,
    lingerMs: 1,
    maxQueueRecords: 100_000,
    maxQueueBytes: 2 ** 27,
    maxRecordBytes: 1_000_000,
    unreachedTimeoutMs: 60_000,
    log,
    onStatistics: () => undefined,
  })
  producer.start()
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

/** One record that is committed in a transaction. */
async function committed(topic: string, partition: number, value: string): Promise<void> {
  const client = new (native().Producer)({
    'metadata.broker.list': testBrokers(),
    'transactional.id': `tests-${crypto.randomUUID()}`,
  })
  await promised((done) => client.connect({ timeout: STEP_TIMEOUT_MS }, (error) => done(error)))
  await promised((done) => client.initTransactions(STEP_TIMEOUT_MS, done))
  await promised((done) => client.beginTransaction(done))
  client.produce(topic, partition, Buffer.from(value))
  await promised((done) => client.commitTransaction(STEP_TIMEOUT_MS, done))
  await promised((done) => client.disconnect(0, (error) => done(error)))
}

interface Row {
  offset: number
  ts: number
  headers: (string | null)[]
  key: string | null
  payload: string | null
}

/** Committed records, as kcat reads them. */
async function byKcat(topic: string, partition: number): Promise<Row[]> {
  const args = ['-C', '-e', '-q', '-J', '-b', testBrokers(), '-t', topic, '-p', String(partition), '-o', 'beginning']
  const child = Bun.spawn([kcatCommand(), ...args, '-X', 'isolation.level=read_committed'], { stdout: 'pipe' })
  const text = await child.stdout.text()
  if ((await child.exited) !== 0) throw new Error('kcat could not read')
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Partial<Row>)
    .map(({ offset = -1, ts = -1, headers = [], key = null, payload = null }) => ({
      offset,
      ts,
      headers,
      key,
      payload,
    }))
}

const plain = (headers: { names: readonly string[]; values: readonly HeaderValue[] }): (string | null)[] =>
  headers.names.flatMap((name, at) => [name, headers.values[at]?.toString() ?? null])

test(
  'a backup has what other clients read, and Kafka reads the files',
  async () => {
    const { tenant, input, write, close } = await stream('backup')
    const group = uniqueName('group')
    const repeated = { names: ['a', 'b', 'a', 'empty', 'none'], values: ['1', 'ü', '2', '', null] }
    const none = { names: [], values: [] }
    for (const partition of [0, 1])
      await write(
        { partition, key: 'gone', value: Buffer.from('deleted'), headers: none },
        { partition, key: null, value: null, headers: none },
        { partition, key: '', value: Buffer.alloc(0), headers: repeated },
        { partition, key: 'k', value: Buffer.from('x'.repeat(1_000)), headers: repeated },
      )
    await committed(input, 0, 'in a transaction')
    await (await openTransaction(testBrokers(), input, 0)).abort()
    await committed(siblingTopic(input, 'processed'), 1, 'outcome')
    await write({ partition: 0, key: null, value: Buffer.from('behind them'), headers: none })
    await deleteRecords(address, WIRE_TIMEOUT_MS, input, 0, 1)
    await until(async () => {
      try {
        await findCoordinator(address, WIRE_TIMEOUT_MS, 'group', group)
        await commitOffsets(address, WIRE_TIMEOUT_MS, group, input, new Map([[0, 3]]))
        return true
      } catch {
        return false
      }
    }, SLOW)
    await close()

    const folder = join(home, 'same')
    const { code, out, said } = await backup(['take', folder, '--tenant', tenant], group)
    expect({ code, said }).toEqual({ code: 0, said: '' })
    expect(out).toContain('10 records more')
    const repository = folderRepository(folder)
    const stored = await held(repository)
    const places = [
      [input, 0],
      [input, 1],
      [siblingTopic(input, 'processed'), 1],
    ] as const
    for (const [topic, partition] of places) {
      const rows = (stored[`${topic}/${partition}`] ?? []).map(({ offset, timestampMs, headers, key, value }) => ({
        offset,
        ts: timestampMs,
        headers: plain(headers),
        key: key?.toString() ?? null,
        payload: value?.toString() ?? null,
      }))
      expect(rows).toEqual(await byKcat(topic, partition))
    }
    const manifest = (await readManifest(repository, MANIFEST)) as Manifest
    expect(manifest.topics.find(({ topic }) => topic === input)).toMatchObject({
      id: expect.any(String),
      settings: { 'retention.ms': '-1' },
      partitions: [{ partition: 0 }, { partition: 1, next: 4 }],
    })
    expect(manifest.committed).toEqual([{ topic: input, partition: 0, offset: 3, metadata: expect.any(String) }])
    expect((await backup(['verify', folder], group)).code).toBe(0)

    const files = [...segmentsOf(manifest)].map(({ segment }) => segment)
    const dumped = await dump(files.map(({ file }) => join(folder, file)))
    expect(dumped).not.toContain('isvalid: false')
    for (const { file, firstOffset, lastOffset, records } of files) {
      const part = dumped.slice(dumped.indexOf(join(folder, file)))
      expect(part).toContain(`baseOffset: ${firstOffset} lastOffset: ${lastOffset} count: ${records} `)
    }
    expect(dumped).toContain('compresscodec: zstd')
    expect(dumped).toContain('headerKeys: [a,b,a,empty,none]')

    const [file = ''] = files.map((one) => join(folder, one.file))
    const bytes = readFileSync(file)
    writeFileSync(
      file,
      bytes.map((byte, index) => (index === bytes.length - 1 ? byte ^ 8 : byte)),
    )
    expect((await backup(['verify', folder], group)).out).toContain('its checksum is')
    truncateSync(file, bytes.length - 1)
    expect((await backup(['verify', folder], group)).out).toContain('the file is truncated')
    rmSync(file)
    const missing = await backup(['verify', folder], group)
    expect(missing.code).toBe(1)
    expect(missing.out).toContain('the file is missing; offsets')
  },
  TEST_TIMEOUT_MS,
)

/** The files, as Kafka's own tool reads them. */
async function dump(files: readonly string[]): Promise<string> {
  const args = ['--deep-iteration', '--print-data-log', '--files', files.join(',')]
  const child = Bun.spawn(
    javaCommand(await provideKafka(), 'org.apache.kafka.tools.DumpLogSegments', args, { heapMb: 256, log: 'error' }),
    { stdout: 'pipe', stderr: 'pipe' },
  )
  const [out, errors] = await Promise.all([child.stdout.text(), child.stderr.text()])
  if ((await child.exited) !== 0) throw new Error(errors)
  return out
}

const KILLS = 10
/** A run takes about as long. */
const MAX_KILL_DELAY_MS = 800

test(
  'a command that is killed at any time leaves a backup that the next one completes',
  async () => {
    const { tenant, input, write, close } = await stream('killed')
    const folder = join(home, 'killed')
    const args = ['take', folder, '--tenant', tenant]
    let written = 0
    for (let kill = 0; kill < KILLS; kill++) {
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
  },
  TEST_TIMEOUT_MS,
)
