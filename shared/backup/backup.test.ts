import { expect, test } from 'bun:test'
import { appendFileSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { headersOf } from '../events/headers.ts'
import { actsTopic, CONTROL_TOPIC, inputTopic, siblingTopic, streamTopics } from '../events/topics.ts'
import { type CommittedOffset, partitionName } from '../kafka/types.ts'
import type { FakeKafka } from '../testing/fake-kafka.ts'
import { settled } from '../testing/settled.ts'
import { backup } from './command.ts'
import { MANIFEST, type Manifest, segmentsOf, UNFINISHED } from './manifest.ts'
import { takePoint } from './point.ts'
import { folderRepository, type Repository } from './repository.ts'
import { readManifest } from './take.ts'
import { cluster, GROUP, held, INPUT, newFolder, run, valuesIn, verified, write } from './testing/backups.ts'

/** A small stream with a transaction that was committed and one that was aborted, and gaps. */
async function filled(): Promise<FakeKafka> {
  const kafka = cluster()
  for (let n = 0; n < 5; n++) write(kafka, INPUT, n % 2, `event ${n}`)
  write(kafka, INPUT, 0, null)
  const transactor = kafka.transactor()
  await transactor.start()
  const output = (value: string) => ({
    topic: siblingTopic(INPUT, 'processed'),
    partition: 0,
    key: null,
    value: Buffer.from(value),
    headers: headersOf({}),
  })
  kafka.refuses = ({ value }) => (String(value) === 'refused' ? { reason: 'refused', tooLarge: false } : undefined)
  await transactor.write([output('aborted'), output('refused')])
  await transactor.write([output('committed 1'), output('committed 2')])
  await transactor.write([output('committed 3')])
  return kafka
}

test('a backup has every committed record as it was, and nothing else', async () => {
  const kafka = await filled()
  const repository = folderRepository(newFolder())
  const { records } = await run(kafka, repository)
  const stored = await held(repository)
  for (const [topic, partition] of [
    [INPUT, 0],
    [INPUT, 1],
    [siblingTopic(INPUT, 'processed'), 0],
  ] as const)
    expect(stored[partitionName({ topic, partition })]).toEqual(
      kafka.records(topic, partition).map(({ offset, timestampMs, key, value, headers }) => ({
        offset,
        timestampMs,
        key,
        value,
        headers: { names: [...headers.names], values: [...headers.values] },
      })),
    )
  expect(records).toBe(9)
  expect(await verified(repository)).toMatchObject({ faults: [], unnamed: [], records: 9 })
})

test('a run adds what is new, and no run stores a record twice', async () => {
  const kafka = await filled()
  const repository = folderRepository(newFolder())
  await run(kafka, repository)
  expect(await run(kafka, repository)).toMatchObject({ records: 0, storedBytes: 0 })
  write(kafka, INPUT, 0, 'new')
  expect((await run(kafka, repository)).records).toBe(1)
  expect(await valuesIn(repository, INPUT)).toEqual(['event 0', 'event 2', 'event 4', 'null', 'new'])
  expect((await verified(repository)).faults).toEqual([])
})

test('positions of the group are in the manifest, with their metadata', async () => {
  const kafka = await filled()
  const positions: CommittedOffset[] = [
    { topic: INPUT, partition: 0, offset: 2, metadata: 'kt1:Ag==' },
    { topic: siblingTopic(INPUT, 'retry'), partition: 1, offset: 0, metadata: 'kt1:' },
  ]
  for (const one of positions) kafka.setOffset(one)
  const { manifest } = await run(kafka, folderRepository(newFolder()))
  expect(manifest).toMatchObject({ group: GROUP, committed: positions })
})

/** The order in which ends and positions are taken, by when something is written in between. */
test('outcomes are taken after positions, and positions after events', async () => {
  const kafka = cluster()
  const repository = folderRepository(newFolder())
  const processed = siblingTopic(INPUT, 'processed')
  write(kafka, INPUT, 0, 'first')
  const real = kafka.reader()
  let asked = 0
  const reader = {
    ...real,
    // Before each answer, an event comes in and is processed at once.
    async ends(...given: Parameters<typeof real.ends>) {
      const ends = await real.ends(...given)
      asked++
      write(kafka, INPUT, 0, `event ${asked}`)
      write(kafka, processed, 0, `event ${asked}`)
      kafka.setOffset({ topic: INPUT, partition: 0, offset: asked + 1, metadata: 'kt1:' })
      return ends
    },
  }
  const { manifest } = await run(kafka, repository, { reader })
  const inputs = await valuesIn(repository, INPUT)
  const outcomes = await valuesIn(repository, processed)
  const [position] = manifest.committed
  expect({ inputs, outcomes, position: position?.offset }).toEqual({
    inputs: ['first', 'event 1'],
    outcomes: ['event 1', 'event 2'],
    position: 3,
  })
})

test('a transaction in an output that does not end fails the run; one in a stream only holds back its acts', async () => {
  const topics = new Map([...streamTopics('acme', 'orders'), actsTopic(INPUT)].map((topic) => [topic, 1]))
  const point = (open: string) => {
    const ends = async (partitions: readonly { topic: string }[]) =>
      partitions.map(({ topic }) => ({ beginning: 0, stable: topic === open ? 3 : 9, end: 9 }))
    return settled(takePoint(topics, { ends, committed: async () => [] }, 0))
  }
  expect(await point(siblingTopic(INPUT, 'dlq'))).toThrow(`holds back ${siblingTopic(INPUT, 'dlq')}/0 from offset 3 on`)
  const { ends, withoutActs } = (await takePoint(
    topics,
    {
      ends: async (partitions) =>
        partitions.map(({ topic }) => ({ beginning: 0, stable: topic === INPUT ? 3 : 9, end: 9 })),
      committed: async () => [],
    },
    0,
  )) as Awaited<ReturnType<typeof takePoint>>
  expect(withoutActs).toEqual([INPUT])
  expect(ends.find(({ at }) => at.topic === INPUT)?.end).toBe(3)
  expect(ends.some(({ at }) => at.topic === actsTopic(INPUT))).toBe(false)
})

test('the topics of one tenant only, with its own records of the control topic', async () => {
  const kafka = cluster('acme', 'acme-2')
  for (const tenant of ['acme', 'acme-2']) {
    write(kafka, inputTopic(tenant, 'orders'), 0, tenant)
    write(kafka, CONTROL_TOPIC, 0, tenant, `${tenant}/orders`)
  }
  const repository = folderRepository(newFolder())
  await run(kafka, repository, { tenant: 'acme' })
  expect(Object.keys(await held(repository))).toEqual([`${CONTROL_TOPIC}/0`, `${INPUT}/0`])
  expect(await valuesIn(repository, CONTROL_TOPIC)).toEqual(['acme'])
  expect(await settled(run(kafka, repository))).toThrow('has the tenant acme: use another folder for all tenants')
  expect(await settled(run(kafka, folderRepository(newFolder()), { tenant: 'none' }))).toThrow('none has no streams')
})

test('what does not go on where the backup ends is refused, and the backup stays as it is', async () => {
  const kafka = await filled()
  const folder = newFolder()
  const repository = folderRepository(folder)
  await run(kafka, repository)
  const before = readFileSync(join(folder, MANIFEST), 'utf8')
  const reader = kafka.reader()
  const other = {
    ...reader,
    topicIds: async (topics: readonly string[]) => new Map(topics.map((topic) => [topic, 'x'])),
  }
  expect(await settled(run(kafka, repository, { reader: other }))).toThrow('was made anew since the last backup')
  const shorter = {
    ...reader,
    ends: async (...given: Parameters<typeof reader.ends>) =>
      (await reader.ends(...given)).map((ends) => ({ ...ends, stable: 0, end: 0 })),
  }
  expect(await settled(run(kafka, repository, { reader: shorter }))).toThrow('ends at 0, and its backup at')
  expect(await settled(run(kafka, repository, { group: 'another' }))).toThrow('of the group kafkatrace')
  expect(readFileSync(join(folder, MANIFEST), 'utf8')).toBe(before)
})

test('records that were deleted before they were backed up are told of, from the second run on', async () => {
  const kafka = cluster()
  const repository = folderRepository(newFolder())
  for (let n = 0; n < 4; n++) write(kafka, INPUT, 0, `event ${n}`)
  kafka.deleteRecords({ topic: INPUT, partition: 0 }, 2)
  const notes: string[] = []
  await run(kafka, repository, { notes })
  expect(notes).toEqual([])
  for (let n = 4; n < 8; n++) write(kafka, INPUT, 0, `event ${n}`)
  kafka.deleteRecords({ topic: INPUT, partition: 0 }, 6)
  await run(kafka, repository, { notes })
  expect(notes).toEqual([`${INPUT}/0: offsets 4 up to 6 were deleted from Kafka before they were backed up`])
  expect(await valuesIn(repository, INPUT)).toEqual(['event 2', 'event 3', 'event 6', 'event 7'])
})

test('a limit of bytes in a second is kept', async () => {
  const kafka = cluster()
  write(kafka, INPUT, 0, 'x'.repeat(5_000))
  const begunMs = performance.now()
  const { bytes } = await run(kafka, folderRepository(newFolder()), { bytesPerSecond: 100_000 })
  expect(bytes).toBeGreaterThan(5_000)
  expect(performance.now() - begunMs).toBeGreaterThanOrEqual(bytes / 100)
})

// ---- runs that fail

test('a run that fails goes on where it has stopped', async () => {
  const kafka = cluster()
  write(kafka, INPUT, 0, 'a')
  write(kafka, INPUT, 1, 'b')
  const repository = folderRepository(newFolder())
  const reader = kafka.reader()
  const failing = {
    ...reader,
    read: (...given: Parameters<typeof reader.read>) => {
      if (given[0][0]?.partition === 1) throw new Error('Kafka is away')
      return reader.read(...given)
    },
  }
  expect(await settled(run(kafka, repository, { reader: failing }))).toThrow('Kafka is away')
  expect((await readManifest(repository, UNFINISHED))?.topics.length).toBeGreaterThan(0)
  expect((await run(kafka, repository)).records).toBe(1)
  expect(await held(repository)).toMatchObject({ [`${INPUT}/0`]: [{ offset: 0 }], [`${INPUT}/1`]: [{ offset: 0 }] })
})

test('files that are not of a backup are left alone', async () => {
  const folder = newFolder()
  const others = ['topics/mine.txt', 'topics/kt.acme.orders/0/notes.log', 'mine.json', 'manifest.json.bak']
  const left = [`topics/${INPUT}/0/00000000000000000000.01234567.log`, 'manifest.json.89abcdef.part']
  for (const name of [...others, ...left]) await Bun.write(join(folder, name), 'x')
  const repository = folderRepository(folder)
  await run(await filled(), repository)
  const found = await repository.list('.')
  expect(found).toEqual(expect.arrayContaining(others))
  for (const name of left) expect(found).not.toContain(name)
})

test('a disk that is full ends the run, and is named', async () => {
  const kafka = await filled()
  const repository = folderRepository(newFolder())
  const full: Repository = {
    ...repository,
    create: async (name) => ({
      ...(await repository.create(name)),
      write: async () => {
        throw Object.assign(new Error('ENOSPC: no space left on device, write'), { syscall: 'write' })
      },
    }),
  }
  expect(await settled(run(kafka, full))).toThrow('ENOSPC')
  expect(await repository.list('topics')).toEqual([])
})

// ---- damage

async function damaged(change: (file: string, manifest: Manifest) => void) {
  const folder = newFolder()
  const repository = folderRepository(folder)
  const { manifest } = await run(await filled(), repository)
  const [segment] = manifest.topics.find(({ topic }) => topic === INPUT)?.partitions[0]?.segments ?? []
  if (segment === undefined) throw new Error('no segment')
  change(join(folder, segment.file), manifest)
  const { faults } = await verified(repository)
  return { folder, segment, faults }
}

const flip = (file: string, at: number): void => {
  const bytes = readFileSync(file)
  bytes[at] = (bytes[at] as number) ^ 1
  writeFileSync(file, bytes)
}

test('a changed bit is named, wherever it is', async () => {
  const { folder, segment } = await damaged(() => undefined)
  const repository = folderRepository(folder)
  const file = join(folder, segment.file)
  for (let at = 0; at < segment.bytes; at++) {
    flip(file, at)
    const { faults } = await verified(repository)
    expect(faults).toHaveLength(1)
    expect(faults[0]).toMatchObject({ file: segment.file, topic: INPUT, partition: 0 })
    flip(file, at)
  }
  expect((await verified(repository)).faults).toEqual([])
})

test.each([
  ['is missing', (file: string) => rmSync(file), 'the file is missing'],
  ['is empty', (file: string) => truncateSync(file, 0), 'the file is truncated: it has 0 of'],
  ['is cut in its head', (file: string) => truncateSync(file, 20), 'the file is truncated: it has 20 of'],
  ['is cut in its records', (file: string) => truncateSync(file, 70), 'the file is truncated: it has 70 of'],
  ['is too long', (file: string) => appendFileSync(file, 'x'), 'is damaged: the file ends in it, after 1 bytes'],
])('a segment that %s is named', async (_, change, reason) => {
  const { segment, faults } = await damaged(change)
  expect(faults[0]).toMatchObject({ file: segment.file, from: expect.any(Number), to: segment.lastOffset })
  expect(faults[0]?.reason).toContain(reason)
})

test('a manifest that was changed is not believed', async () => {
  const { folder } = await damaged((file) => rmSync(file))
  const path = join(folder, MANIFEST)
  writeFileSync(path, readFileSync(path, 'utf8').replace('"records": 4', '"records": 3'))
  expect(await settled(readManifest(folderRepository(folder), MANIFEST))).toThrow('its checksum is wrong')
})

// ---- the command

async function typed(line: string): Promise<{ code: number; out: string; said: string }> {
  const [out, said]: [string[], string[]] = [[], []]
  const args = line === '' ? [] : line.split(' ')
  const code = await backup(args, { out: (text) => out.push(text), say: (text) => said.push(text), env: {} })
  return { code, out: out.join('\n'), said: said.join('\n') }
}

test.each(['', 'take', 'verify', 'list'])('%s --help explains it', async (name) => {
  const { code, out, said } = await typed(`${name} --help`.trim())
  expect(out).toContain(`bun run backup ${name}`.trim())
  expect({ code, said }).toEqual({ code: 0, said: '' })
})

test.each([
  ['', 64, 'COMMAND is missing'],
  ['take', 64, 'DIR is missing'],
  ['take a b', 64, 'one DIR at a time'],
  ['take a --tenant A', 64, "not a tenant's name"],
  ['take a --bytes-per-second 1k', 64, 'not a whole number of at least 10,000'],
  ['take a', 78, 'KAFKA_BROKERS is not set'],
  ['verify /nowhere', 2, '/nowhere: there is no such folder'],
  ['list /', 2, 'there is no manifest.json'],
])('%s: exit code %d', async (line, expected, fault) => {
  const { code, said } = await typed(line)
  expect(code).toBe(expected)
  expect(said).toContain(fault)
})

test('list and verify tell what a backup holds', async () => {
  const folder = newFolder()
  const { manifest } = await run(await filled(), folderRepository(folder))
  const { out } = await typed(`list ${folder}`)
  expect(out.split('\n').map((line) => line.split(/ {2,}/))).toContainEqual([INPUT, '2', '2', '6', expect.any(String)])
  expect((await typed(`verify ${folder}`)).out).toContain(`${[...segmentsOf(manifest)].length} segments with 9 records`)
  expect(JSON.parse((await typed(`list ${folder} --json`)).out)).toMatchObject({
    group: GROUP,
    pointMs: manifest.pointMs,
  })
  const [first] = segmentsOf(manifest)
  if (first === undefined) throw new Error('no segment')
  const { segment } = first
  flip(join(folder, segment.file), 65)
  const bad = await typed(`verify ${folder}`)
  expect(bad.code).toBe(1)
  expect(bad.out).toContain(`${segment.file}: the batch at byte 0 is damaged: its checksum is`)
  expect(bad.out).toContain('another copy of the backup')
})
