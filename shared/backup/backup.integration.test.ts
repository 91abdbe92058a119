import { expect, test } from 'bun:test'
import { readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { javaCommand, provideKafka } from '../dev/brokers/kafka-distribution.ts'
import { commitOffsets, deleteRecords, findCoordinator } from '../dev/brokers/wire-admin.ts'
import type { HeaderValue } from '../events/headers.ts'
import { siblingTopic } from '../events/topics.ts'
import { native, promised } from '../kafka/client.ts'
import { testBrokers, uniqueName } from '../testing/brokers.ts'
import { kcatCommand } from '../testing/kcat.ts'
import { openTransaction } from '../testing/open-transaction.ts'
import { until } from '../testing/until.ts'
import { MANIFEST, type Manifest, segmentsOf } from './manifest.ts'
import { folderRepository } from './repository.ts'
import { readManifest } from './take.ts'
import { held } from './testing/backups.ts'
import { backup, home, killedAtRandom, SLOW, stream } from './testing/on-a-broker.ts'

/** On a real broker: what is read is compared with what other programs read. */

const WIRE_TIMEOUT_MS = 10_000
const STEP_TIMEOUT_MS = 10_000
const TEST_TIMEOUT_MS = 120_000
const [address = ''] = testBrokers().split(',')

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

test(
  'a command that is killed at any time leaves a backup that the next one completes',
  () => killedAtRandom(10),
  TEST_TIMEOUT_MS,
)
