import { dlopen, FFIType, ptr } from 'bun:ffi'
import { afterAll, beforeAll, expect, test } from 'bun:test'
import { join } from 'node:path'
import { uniqueName } from '../../testing/brokers.ts'
import {
  fromTheBeginning,
  MOCK_PARTITIONS,
  type MockCluster,
  newTopic,
  type ProducedRecord,
  read,
  startMockCluster,
} from '../../testing/mock-cluster.ts'
import { rejection, settled } from '../../testing/settled.ts'
import { until } from '../../testing/until.ts'
import { CODE, type Message, native, type Producer, promised } from '../client.ts'
import { ADDON_FILE, INSTALLED } from './check.ts'

const ADDON = join(INSTALLED, ADDON_FILE)

/** A group of the mock cluster waits three seconds for its first members. */
const GROUP_TIMEOUT_MS = 20_000

const ANSWER_TIMEOUT_MS = 10_000

let cluster: MockCluster
let producer: Producer

beforeAll(async () => {
  cluster = await startMockCluster()
  producer = await cluster.producer({ 'message.max.bytes': 4 * 2 ** 20 })
})

afterAll(() => cluster.close())

const NAMES = new Set<string>()

function promise(name: string, body: () => Promise<void> | void): void {
  NAMES.add(name)
  test(name, body, GROUP_TIMEOUT_MS * 2)
}

/** Which test goes through which function of shim/, by the names that `nm -C` gives. */
const REACHED_BY: Record<string, string> = {
  'v8::Object::GetOwnPropertyNames(v8::Local<v8::Context>)': 'headers keep their bytes, their order and their repeats',
  'v8::Object::Has(v8::Local<v8::Context>, v8::Local<v8::Value>)':
    'an incremental assignment begins at its offset, or without one where the topic configuration says',
  'v8::Value::BooleanValue(v8::Isolate*) const': 'booleans are told apart',
  'v8::Value::Int32Value(v8::Local<v8::Context>) const': 'a record goes to the partition that it names',
  'v8::Value::IntegerValue(v8::Local<v8::Context>) const': 'numbers beyond 32 bits keep every bit',
  'v8::Value::ToObject(v8::Local<v8::Context>) const': 'values and keys of every size come back as they were',
  'v8::Value::IsRegExp() const': 'a regular expression subscribes to the topics that it matches, and to no others',
  'v8::RegExp::GetSource() const': 'a regular expression subscribes to the topics that it matches, and to no others',
  'node::Buffer::HasInstance(v8::Local<v8::Value>)': 'null and empty keys and values stay apart',
  'node::Buffer::Data(v8::Local<v8::Object>)': 'a view into a larger buffer is sent without what surrounds it',
  'node::Buffer::Data(v8::Local<v8::Value>)': 'headers keep their bytes, their order and their repeats',
  'node::Buffer::Length(v8::Local<v8::Object>)': 'values and keys of every size come back as they were',
  'node::Buffer::Length(v8::Local<v8::Value>)': 'headers keep their bytes, their order and their repeats',
  'node::Buffer::New(v8::Isolate*, char*, unsigned long)': 'delivery reports bring key and value back as they were',
  'node::TryEncode(v8::Isolate*, char const*, unsigned long, node::encoding)':
    'values and keys of every size come back as they were',
  'v8::api_internal::GlobalizeReference(v8::internal::Isolate*, unsigned long)':
    'opaques come back as the same objects after collections, and their handles are given back',
  'v8::api_internal::DisposeGlobal(unsigned long*)':
    'opaques come back as the same objects after collections, and their handles are given back',
  'v8::api_internal::MakeWeak(unsigned long*, void*, void (*)(v8::WeakCallbackInfo<void> const&), v8::WeakCallbackType)':
    'a weak handle gives its parameter back, once',
  'v8::api_internal::ClearWeak(unsigned long*)': 'a weak handle gives its parameter back, once',
  uv_queue_work: 'values and keys of every size come back as they were',
  uv_thread_create: 'a consumer that flows brings its records, and disconnects',
  uv_thread_join: 'a consumer that flows brings its records, and disconnects',
  uv_rwlock_init: 'a read-write lock lets readers share it and a writer have it alone',
  uv_rwlock_destroy: 'a read-write lock lets readers share it and a writer have it alone',
  uv_rwlock_rdlock: 'a read-write lock lets readers share it and a writer have it alone',
  uv_rwlock_tryrdlock: 'a read-write lock lets readers share it and a writer have it alone',
  uv_rwlock_rdunlock: 'a read-write lock lets readers share it and a writer have it alone',
  uv_rwlock_wrlock: 'a read-write lock lets readers share it and a writer have it alone',
  uv_rwlock_wrunlock: 'a read-write lock lets readers share it and a writer have it alone',
}

test('every function that the shim supplies is in the table, with a test that exists', () => {
  const listed = Bun.spawnSync(['nm', '--demangle', '--dynamic', '--defined-only', ADDON])
  expect(listed.stderr.toString()).toBe('')
  // T: ours. Templates of V8's headers that were instantiated here are weak, W.
  const supplied = listed.stdout
    .toString()
    .split('\n')
    .map((line) => / T ((?:(?:v8|node)::[\w:]+\(|uv_).*)$/.exec(line)?.[1])
    .filter((name) => name !== undefined)
  expect(Object.keys(REACHED_BY).sort()).toEqual([...new Set(supplied)].sort())
  for (const name of Object.values(REACHED_BY)) expect(NAMES).toContain(name)
})

/** Bytes that differ from place to place, all 256 of them. */
function bytes(length: number): Buffer {
  const buffer = Buffer.alloc(length)
  for (let i = 0; i < length; i++) buffer[i] = (i * 31 + (i >> 8)) & 0xff
  return buffer
}

async function roundTrip(...record: ProducedRecord): Promise<Message> {
  const topic = await newTopic(producer)
  await cluster.store(producer, topic, ...record)
  const consumer = await cluster.consumer()
  consumer.assign(fromTheBeginning(topic))
  const [message] = await read(consumer, 1)
  return message as Message
}

promise('values and keys of every size come back as they were', async () => {
  const topic = await newTopic(producer)
  const sizes = [0, 1, 2, 255, 256, 4_095, 65_536, 1_000_000, 2 ** 20]
  for (const size of sizes) {
    await cluster.store(producer, topic, 0, bytes(size), Buffer.from(String(size)))
    await cluster.store(producer, topic, 1, Buffer.from(String(size)), bytes(size))
  }
  const consumer = await cluster.consumer({ 'fetch.message.max.bytes': 4 * 2 ** 20 })
  consumer.assign(fromTheBeginning(topic))
  const messages = await read(consumer, 2 * sizes.length)
  for (const size of sizes) {
    const value = messages.find(({ partition, key }) => partition === 0 && String(key) === String(size))?.value
    const key = messages.find((message) => message.partition === 1 && String(message.value) === String(size))?.key
    expect(value?.equals(bytes(size))).toBe(true)
    expect((key as Buffer).equals(bytes(size))).toBe(true)
  }
})

promise('a view into a larger buffer is sent without what surrounds it', async () => {
  const whole = bytes(1_000)
  const message = await roundTrip(0, whole.subarray(100, 103), whole.subarray(997), null, [
    { view: whole.subarray(500, 502) },
  ])
  expect(message.value).toEqual(bytes(1_000).subarray(100, 103))
  expect(message.key).toEqual(bytes(1_000).subarray(997))
  expect(message.headers).toEqual([{ view: bytes(1_000).subarray(500, 502) }])
})

promise('null and empty keys and values stay apart', async () => {
  const topic = await newTopic(producer)
  await cluster.store(producer, topic, 0, null, null)
  await cluster.store(producer, topic, 0, Buffer.alloc(0), Buffer.alloc(0))
  await cluster.store(producer, topic, 0, Buffer.from('value'), '')
  const consumer = await cluster.consumer()
  consumer.assign(fromTheBeginning(topic))
  const messages = await read(consumer, 3)
  expect(messages.map(({ value }) => value)).toEqual([null, Buffer.alloc(0), Buffer.from('value')])
  expect(messages.map(({ key }) => key as Buffer | null)).toEqual([null, Buffer.alloc(0), Buffer.alloc(0)])
  expect(() => producer.produce(topic, 0, 'no buffer' as never)).toThrow('Message must be a buffer or null')
})

promise('a key may be a string, which is sent as UTF-8', async () => {
  const { key } = await roundTrip(null, Buffer.from('value'), 'clé ключ 🔑')
  expect(String(key)).toBe('clé ключ 🔑')
})

promise('headers keep their bytes, their order and their repeats', async () => {
  const headers = [
    { text: 'žluťoučký 🐎' },
    { binary: bytes(256) },
    { repeated: 'first' },
    { empty: '' },
    { nothing: Buffer.alloc(0) },
    { repeated: Buffer.from('second') },
    { 'ключ-🔑': 'a name in UTF-8' },
  ]
  const message = await roundTrip(0, Buffer.from('value'), null, null, headers)
  const expected = headers.map((header) =>
    Object.fromEntries(Object.entries(header).map(([name, value]) => [name, Buffer.from(value as string)])),
  )
  expect(message.headers).toEqual(expected)
})

promise('a record goes to the partition that it names', async () => {
  const topic = await newTopic(producer)
  for (let partition = 0; partition < MOCK_PARTITIONS; partition++) {
    const stored = await cluster.store(producer, topic, partition, Buffer.from('value'))
    expect(stored.partition).toBe(partition)
  }
})

promise('integers in the configuration are taken as they are', async () => {
  const limited = await cluster.producer({ 'message.max.bytes': 2_000 })
  const topic = await newTopic(limited)
  const produced = (size: number) => () => limited.produce(topic, 0, Buffer.alloc(size))
  expect(produced(1_000)).not.toThrow()
  expect(produced(3_000)).toThrow(expect.objectContaining({ code: CODE.MSG_SIZE_TOO_LARGE }))
})

promise('numbers beyond 32 bits keep every bit', async () => {
  const timestamp = 2 ** 40 + 2 ** 33 + 3
  const message = await roundTrip(0, Buffer.from('value'), null, timestamp)
  expect(message.timestamp).toBe(timestamp)

  const consumer = await cluster.consumer()
  const offset = Number.MAX_SAFE_INTEGER - 2
  const at = { topic: message.topic, partition: 1, offset }
  consumer.assign([at])
  expect(consumer.assignments()).toMatchObject([at])
})

promise('an offset beyond 32 bits and its metadata are committed as they are', async () => {
  const topic = await newTopic(producer)
  const consumer = await cluster.consumer()
  const at = { topic, partition: 2, offset: 2 ** 41 + 2 ** 32 + 1, metadata: 'après-midi 🌇' }
  consumer.commitSync([at])
  const [committed] = await promised<object[]>((done) =>
    consumer.committed([{ topic, partition: 2 }], ANSWER_TIMEOUT_MS, done),
  )
  expect(committed).toMatchObject(at)
})

promise('booleans are told apart', async () => {
  const switched = await cluster.producer()
  const topic = await newTopic(switched)
  const reports: unknown[] = []
  switched.on('delivery-report', (_, report) => reports.push(report.opaque))
  const stored = async (count: number): Promise<boolean> => {
    const { highOffset } = await promised<{ highOffset: number }>((done) =>
      switched.queryWatermarkOffsets(topic, 0, ANSWER_TIMEOUT_MS, done),
    )
    return highOffset === count
  }
  switched.setPollInBackground(false)
  switched.produce(topic, 0, Buffer.from('value'), null, null, 'polled for')
  await until(() => stored(1))
  expect(reports).toEqual([])
  await until(() => {
    switched.poll()
    return reports.length > 0
  })
  switched.setPollInBackground(true)
  switched.produce(topic, 0, Buffer.from('value'), null, null, 'brought')
  await until(() => reports.length > 1)
  expect(reports).toEqual(['polled for', 'brought'])
})

promise(
  'an incremental assignment begins at its offset, or without one where the topic configuration says',
  async () => {
    const topic = await newTopic(producer)
    for (const partition of [0, 1])
      for (const text of ['a', 'b', 'c']) await cluster.store(producer, topic, partition, Buffer.from(text))
    const consumer = await cluster.consumer({}, { 'auto.offset.reset': 'earliest' })
    consumer.incrementalAssign([{ topic, partition: 0, offset: 1 }])
    expect((await read(consumer, 2)).map(({ value }) => String(value))).toEqual(['b', 'c'])
    consumer.incrementalAssign([{ topic, partition: 1 }])
    expect((await read(consumer, 3)).map(({ value }) => String(value))).toEqual(['a', 'b', 'c'])
    consumer.incrementalUnassign([{ topic, partition: 0 }])
    expect(consumer.assignments()).toMatchObject([{ topic, partition: 1 }])
  },
)

promise('a topic configuration that librdkafka does not know is refused', () => {
  const { Producer } = native()
  expect(() => new Producer({}, { 'no.such.property': 1 })).toThrow(
    'No such configuration property: "no.such.property"',
  )
})

promise('a regular expression subscribes to the topics that it matches, and to no others', async () => {
  const prefix = uniqueName('pattern')
  const matching = [await newTopic(producer, `${prefix}.yes`), await newTopic(producer, `${prefix}.yes`)]
  const other = await newTopic(producer, `${prefix}.no`)
  const named = await newTopic(producer, `${prefix}.named`)
  for (const topic of [...matching, other, named]) await cluster.store(producer, topic, 0, Buffer.from(topic))
  const consumer = await cluster.consumer()
  // librdkafka reads it as POSIX does.
  consumer.subscribe([new RegExp(`^${prefix}\\.yes.+$`), named])
  expect(consumer.subscription()).toEqual([`^${prefix}\\.yes.+$`, named])
  const subscribed = [...matching, named].sort()
  expect((await read(consumer, 3)).map(({ value }) => String(value)).sort()).toEqual(subscribed)
  expect([...new Set(consumer.assignments().map(({ topic }) => topic))].sort()).toEqual(subscribed)
})

promise('a rebalance callback is told of what comes and of what goes', async () => {
  const topic = await newTopic(producer)
  const told: { code: number; partitions: number[] }[] = []
  const consumer = await cluster.consumer({
    rebalance_cb: (error: { code: number }, assignment: { topic: string; partition: number }[]) => {
      told.push({ code: error.code, partitions: assignment.map(({ partition }) => partition).sort() })
      if (error.code === CODE.ASSIGN_PARTITIONS) consumer.assign(assignment)
      else consumer.unassign()
    },
  })
  consumer.subscribe([topic])
  const polled = (count: number) => async (): Promise<boolean> => {
    await promised<Message[]>((done) => consumer.consume(1, done))
    return told.length >= count
  }
  await until(polled(1), { timeoutMs: GROUP_TIMEOUT_MS })
  consumer.unsubscribe()
  await until(polled(2), { timeoutMs: GROUP_TIMEOUT_MS })
  const partitions = [0, 1, 2, 3]
  expect(told).toEqual([
    { code: CODE.ASSIGN_PARTITIONS, partitions },
    { code: CODE.REVOKE_PARTITIONS, partitions },
  ])
})

promise('a consumer that flows brings its records, and disconnects', async () => {
  const topic = await newTopic(producer)
  const consumer = new (native().KafkaConsumer)({
    'metadata.broker.list': cluster.brokers,
    'group.id': uniqueName('flows'),
  })
  await promised((done) => consumer.connect({ timeout: ANSWER_TIMEOUT_MS }, (error) => done(error)))
  const values: string[] = []
  consumer.on('data', ({ value }) => values.push(String(value)))
  consumer.assign(fromTheBeginning(topic))
  consumer.consume()
  for (const value of ['first', 'second']) await cluster.store(producer, topic, 0, Buffer.from(value))
  await until(() => values.length === 2)
  expect(values).toEqual(['first', 'second'])
  await promised((done) => consumer.disconnect((error) => done(error)))
})

promise('a transaction takes records and offsets, and refuses offsets outside of it', async () => {
  const topic = await newTopic(producer)
  const transactional = await cluster.producer({ 'transactional.id': uniqueName('transaction') })
  const consumer = await cluster.consumer()
  const sendOffsets = (): Promise<void> =>
    promised((done) =>
      transactional.sendOffsetsToTransaction(
        [{ topic, partition: 0, offset: 2 ** 33 + 7 }],
        consumer,
        ANSWER_TIMEOUT_MS,
        done,
      ),
    )
  await promised((done) => transactional.initTransactions(ANSWER_TIMEOUT_MS, done))
  expect(await rejection(sendOffsets())).toHaveProperty('code', CODE.STATE)
  for (const end of ['commitTransaction', 'abortTransaction'] as const) {
    await promised((done) => transactional.beginTransaction(done))
    await cluster.store(transactional, topic, 0, Buffer.from(end))
    // The mock cluster reads these offsets and forgets them.
    await sendOffsets()
    await promised((done) => transactional[end](ANSWER_TIMEOUT_MS, done))
  }
  consumer.assign(fromTheBeginning(topic))
  expect((await read(consumer, 1)).map(({ value }) => String(value))).toEqual(['commitTransaction'])
})

promise('a topic that cannot be created is explained', async () => {
  const admin = native().AdminClient.create({ 'metadata.broker.list': cluster.brokers })
  const create = (topic: object): Promise<void> =>
    promised((done) => admin.createTopic({ topic: 'topic', replication_factor: 1, ...topic } as never, 500, done))
  expect(await settled(create({ num_partitions: -7 }))).toThrow('num_partitions out of expected range')
  expect(await settled(create({ num_partitions: 1, config: { 'retention.ms': 5 } }))).toThrow(
    'Config values must all be provided as strings.',
  )
  // The mock cluster knows no such request.
  expect(await rejection(create({ num_partitions: 1, config: { 'retention.ms': '5' } }))).toHaveProperty(
    'code',
    CODE.TIMED_OUT,
  )
  admin.disconnect()
})

promise('delivery reports bring key and value back as they were', async () => {
  const reporting = await cluster.producer({ dr_cb: undefined, dr_msg_cb: true })
  const topic = await newTopic(reporting)
  const reports = new Map<unknown, { key?: unknown; value?: unknown }>()
  reporting.on('delivery-report', (_, report) => reports.set(report.opaque, report))
  reporting.produce(topic, 0, bytes(70_000), bytes(300), null, 'large')
  reporting.produce(topic, 0, null, null, null, 'null')
  reporting.produce(topic, 0, Buffer.from('value'), 'key', null, 'text')
  await until(() => reports.size === 3)
  expect(reports.get('large')).toMatchObject({ key: bytes(300), value: bytes(70_000) })
  expect(reports.get('null')).toMatchObject({ key: null, value: null })
  expect(reports.get('text')).toMatchObject({ key: Buffer.from('key'), value: Buffer.from('value') })
})

promise('opaques come back as the same objects after collections, and their handles are given back', async () => {
  const { handles } = require(ADDON) as { handles: { counts(): { made: number; live: number } } }
  const reporting = await cluster.producer()
  const topic = await newTopic(reporting)
  // More than the quarantine of slots in shim/handles.cc, so that slots are used again.
  const count = 10_000
  const batch = 1_000
  const kinds: unknown[] = [null, true, 7, 'text', 1.5]
  const returned: unknown[] = []
  reporting.on('delivery-report', (_, report) => returned.push(report.opaque))
  const before = handles.counts()
  for (let from = 0; from < count; from += batch) {
    const sent = Array.from({ length: batch }, (_, i) => (i < kinds.length ? kinds[i] : { number: from + i }))
    for (const opaque of sent) reporting.produce(topic, 0, Buffer.from('value'), null, null, opaque)
    Bun.gc(true)
    await until(() => returned.length === sent.length)
    // The same, not merely equal.
    expect(sent.every((opaque, i) => opaque === returned[i])).toBe(true)
    returned.length = 0
  }
  await until(() => handles.counts().live <= before.live)
  expect(handles.counts().made - before.made).toBeLessThan(count)
})

promise('a weak handle gives its parameter back, once', () => {
  const { symbols } = dlopen(ADDON, {
    _ZN2v812api_internal8MakeWeakEPmPvPFvRKNS_16WeakCallbackInfoIvEEENS_16WeakCallbackTypeE: {
      args: [FFIType.ptr, FFIType.u64, FFIType.u64, FFIType.i32],
      returns: FFIType.void,
    },
    _ZN2v812api_internal9ClearWeakEPm: { args: [FFIType.ptr], returns: FFIType.u64 },
  })
  const makeWeak = symbols._ZN2v812api_internal8MakeWeakEPmPvPFvRKNS_16WeakCallbackInfoIvEEENS_16WeakCallbackTypeE
  const clearWeak = symbols._ZN2v812api_internal9ClearWeakEPm
  // A slot of shim/handles.cc, by far.
  const slot = ptr(new BigUint64Array(32))
  makeWeak(slot, 0x1234n, 0n, 0)
  expect(clearWeak(slot)).toBe(0x1234n)
  expect(clearWeak(slot)).toBe(0n)
  expect(clearWeak(null)).toBe(0n)
})

promise('a read-write lock lets readers share it and a writer have it alone', () => {
  const takes = { args: [FFIType.ptr], returns: FFIType.i32 } as const
  const { symbols: ours } = dlopen(ADDON, {
    uv_rwlock_init: takes,
    uv_rwlock_destroy: takes,
    uv_rwlock_rdlock: takes,
    uv_rwlock_tryrdlock: takes,
    uv_rwlock_rdunlock: takes,
    uv_rwlock_wrlock: takes,
    uv_rwlock_wrunlock: takes,
  })
  const { symbols: system } = dlopen('libc.so.6', {
    pthread_rwlock_tryrdlock: takes,
    pthread_rwlock_trywrlock: takes,
    pthread_rwlock_unlock: takes,
  })
  const busy = 16
  // A pthread_rwlock_t is 56 bytes; what is there before must not matter.
  const lock = ptr(new Uint8Array(256).fill(0xff))
  expect(ours.uv_rwlock_init(lock)).toBe(0)
  ours.uv_rwlock_rdlock(lock)
  expect(ours.uv_rwlock_tryrdlock(lock)).toBe(0)
  expect(system.pthread_rwlock_trywrlock(lock)).toBe(busy)
  ours.uv_rwlock_rdunlock(lock)
  expect(system.pthread_rwlock_trywrlock(lock)).toBe(busy)
  ours.uv_rwlock_rdunlock(lock)
  ours.uv_rwlock_wrlock(lock)
  expect(system.pthread_rwlock_tryrdlock(lock)).toBe(busy)
  expect(ours.uv_rwlock_tryrdlock(lock)).toBe(-busy)
  ours.uv_rwlock_wrunlock(lock)
  expect(system.pthread_rwlock_trywrlock(lock)).toBe(0)
  expect(system.pthread_rwlock_unlock(lock)).toBe(0)
  ours.uv_rwlock_destroy(lock)
})
