import { afterEach, expect, test } from 'bun:test'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { uniqueName } from '../../testing/brokers.ts'
import { API, type ControlledMock, startControlledMock } from '../../testing/controlled-mock.ts'
import { until } from '../../testing/until.ts'
import { CODE, type LibrdKafkaError, native, type Producer, promised, type Settings } from '../client.ts'
import { sendOffsetsToTransaction } from '../group-metadata.ts'
import type { Membership } from '../types.ts'

/*
 * Every call of a transaction returns within its time-out and SLACK_MS, whatever becomes of brokers, and goes on once the cluster does: the part
 * of addon.patch that is librdkafka's own. Without it each of these waits for ever, or until a longer time-out.
 */

const CONNECT_TIMEOUT_MS = 10_000
const CALL_TIMEOUT_MS = 2_000
/** Brokers' threads look for requests that are overdue once a second, coordinator requests are looked at twice a second. */
const SLACK_MS = 2_000
/** Longer than any call waits. */
const FROZEN_MS = 60_000
/** After the cluster has recovered; a coordinator is asked for about once a second. */
const RECOVERY_MS = 10_000
const TEST_TIMEOUT_MS = 60_000

const NOT_COORDINATOR = 16

const [TRANSACTIONS, GROUPS, OTHER] = [1, 2, 3] as const
const FROZEN = TRANSACTIONS

const ending: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end()
})

/** What is used of librdkafka's. */
interface Statistics {
  eos?: { producer_epoch: number }
  brokers: Record<
    string,
    { nodeid: number; state: string; waitresp_cnt: number; txidle: number; req: Record<string, number> }
  >
}

interface Transactions {
  mock: ControlledMock
  producer: Producer
  group: string
  /** The producer id's. */
  epoch(): number | undefined
  /** How often the coordinator of the group has answered what it was sent of offsets. */
  offsetsAnswered(): number
  /** No other broker has been asked anything for a second. */
  othersIdle(): boolean
  begin(): Promise<void>
  sendOffsets(timeoutMs?: number): Promise<void>
  commit(timeoutMs?: number): Promise<void>
  abort(timeoutMs?: number): Promise<void>
}

/** Three brokers, the first of which coordinates transactions, the second the group, and a producer. */
async function transactions(settings: Settings = {}): Promise<Transactions> {
  const mock = startControlledMock(3)
  ending.push(() => mock.close())
  const id = uniqueName('transactions')
  const group = uniqueName('group')
  mock.setCoordinator('transaction', id, TRANSACTIONS)
  mock.setCoordinator('group', group, GROUPS)
  mock.createTopic('topic', OTHER)
  const producer = new (native().Producer)({
    'metadata.broker.list': mock.brokers,
    'transactional.id': id,
    'transaction.timeout.ms': FROZEN_MS,
    'socket.timeout.ms': FROZEN_MS,
    'message.timeout.ms': FROZEN_MS,
    'retry.backoff.ms': 2,
    'topic.metadata.refresh.interval.ms': 1_000,
    'reconnect.backoff.max.ms': 500,
    'statistics.interval.ms': 100,
    'linger.ms': 0,
    log_level: 0,
    ...settings,
  })
  let statistics: Statistics | undefined
  producer.on('event.stats', ({ message }: { message: string }) => {
    statistics = JSON.parse(message) as Statistics
  })
  producer.on('event.error', () => undefined)
  await promised((done) => producer.connect({ timeout: CONNECT_TIMEOUT_MS }, (error) => done(error)))
  producer.setPollInterval(50)
  ending.push(() => promised((done) => producer.disconnect(0, (error) => done(error))))
  await promised((done) => producer.initTransactions(CONNECT_TIMEOUT_MS, done))
  const metadata = Buffer.from(`CGMDv2:\0\0\0\0${group}\0member\0\x01`) as unknown as Membership
  const offsets = [{ topic: 'topic', partition: 0, offset: 1, metadata: '' }]
  const brokers = () => Object.values(statistics?.brokers ?? {})
  return {
    mock,
    producer,
    group,
    epoch: () => statistics?.eos?.producer_epoch,
    offsetsAnswered() {
      const coordinator = brokers().find(({ nodeid }) => nodeid === GROUPS)
      return coordinator?.waitresp_cnt === 0 ? (coordinator.req['TxnOffsetCommit'] ?? 0) : 0
    },
    othersIdle: () => brokers().every(({ nodeid, txidle }) => nodeid === GROUPS || txidle < 0 || txidle > 1_100_000),
    begin: () => promised((done) => producer.beginTransaction(done)),
    sendOffsets: (timeoutMs = CALL_TIMEOUT_MS) =>
      promised((done) => sendOffsetsToTransaction(producer, offsets, metadata, timeoutMs, done)),
    commit: (timeoutMs = CALL_TIMEOUT_MS) => promised((done) => producer.commitTransaction(timeoutMs, done)),
    abort: (timeoutMs = CALL_TIMEOUT_MS) => promised((done) => producer.abortTransaction(timeoutMs, done)),
  }
}

/** The error of a call that has to fail, and in time. */
async function inTime(call: Promise<void>, timeoutMs = CALL_TIMEOUT_MS): Promise<LibrdKafkaError> {
  const begun = performance.now()
  const error = await call.then(
    () => expect.unreachable('the call went well'),
    (fault: LibrdKafkaError) => fault,
  )
  expect(performance.now() - begun).toBeLessThan(timeoutMs + SLACK_MS)
  return error
}

/** Asks again while the client says that this is all it takes. */
async function persist(call: () => Promise<void>, forMs = RECOVERY_MS): Promise<void> {
  for (const deadline = performance.now() + forMs; ; ) {
    try {
      return await call()
    } catch (error) {
      if ((error as LibrdKafkaError).isRetriable !== true || performance.now() > deadline) throw error
    }
  }
}

async function transaction({ begin, sendOffsets, commit }: Transactions): Promise<void> {
  await begin()
  await persist(sendOffsets)
  await persist(commit)
}

const ABORTABLE = { code: CODE.TIMED_OUT, isTxnRequiresAbort: true, isFatal: false, isRetriable: false }
const RETRIABLE = { isTxnRequiresAbort: false, isFatal: false, isRetriable: true }

test(
  'offsets are not waited for beyond their time-out while the group’s coordinator is down, and go to the next one',
  async () => {
    const given = await transactions()
    given.mock.setDown(GROUPS)
    await given.begin()
    expect(await inTime(given.sendOffsets())).toMatchObject(ABORTABLE)
    await given.abort()
    given.mock.setCoordinator('group', given.group, OTHER)
    await transaction(given)
  },
  TEST_TIMEOUT_MS,
)

test(
  'nor while it is connected and frozen; what it may do once it goes on is fenced by the next epoch',
  async () => {
    const given = await transactions()
    await transaction(given)
    given.mock.setRoundTrip(GROUPS, FROZEN_MS)
    await given.begin()
    expect(await inTime(given.sendOffsets())).toMatchObject(ABORTABLE)
    expect(given.epoch()).toBe(0)
    await persist(given.abort)
    await until(() => given.epoch() === 1)
    given.mock.setCoordinator('group', given.group, OTHER)
    await transaction(given)
    expect(given.epoch()).toBe(1)
  },
  TEST_TIMEOUT_MS,
)

test(
  'nor when it has left the cluster: the next one is looked up',
  async () => {
    const given = await transactions()
    await transaction(given)
    given.mock.decommission(GROUPS)
    given.mock.setCoordinator('group', given.group, OTHER)
    // So that the client has heard of it, and nothing else happens to a broker afterwards.
    await until(
      async () => {
        const { brokers } = await promised<{ brokers: unknown[] }>((done) =>
          given.producer.getMetadata({ timeout: CONNECT_TIMEOUT_MS }, done),
        )
        return brokers.length === 2
      },
      { timeoutMs: RECOVERY_MS },
    )
    await given.begin()
    await given.sendOffsets()
    await given.commit()
  },
  TEST_TIMEOUT_MS,
)

test(
  'a frozen broker that is asked for the coordinator is not waited for: another one is asked',
  async () => {
    const given = await transactions({ 'topic.metadata.refresh.interval.ms': -1 })
    await transaction(given)
    await until(() => given.offsetsAnswered() === 1 && given.othersIdle())
    await given.begin()
    given.mock.pushErrors(API.TxnOffsetCommit, [NOT_COORDINATOR])
    const sent = given.sendOffsets(10_000)
    // The pause before the coordinator is looked up. The client asks the broker that it has used last.
    await until(() => given.offsetsAnswered() === 2)
    given.mock.setRoundTrip(GROUPS, FROZEN_MS)
    given.mock.setCoordinator('group', given.group, OTHER)
    await sent
    await given.commit()
  },
  TEST_TIMEOUT_MS,
)

test(
  'offsets, the end of a transaction and its abort return in time while its coordinator is frozen, and go on with the next one',
  async () => {
    const given = await transactions({ 'socket.timeout.ms': 5_000 })
    await transaction(given)
    await given.begin()
    given.mock.setRoundTrip(TRANSACTIONS, FROZEN_MS)
    expect(await inTime(given.sendOffsets())).toMatchObject(RETRIABLE)
    expect(await inTime(given.abort())).toMatchObject(RETRIABLE)
    given.mock.setCoordinator('transaction', idOf(given.producer), OTHER)
    await persist(given.abort, 20_000)
    await given.begin()
    await persist(given.sendOffsets)
    given.mock.setRoundTrip(OTHER, FROZEN_MS)
    expect(await inTime(given.commit())).toMatchObject(RETRIABLE)
    given.mock.setRoundTrip(TRANSACTIONS, 0)
    given.mock.setCoordinator('transaction', idOf(given.producer), TRANSACTIONS)
    await persist(given.commit, 20_000)
  },
  TEST_TIMEOUT_MS,
)

test(
  'a coordinator of transactions that is still named after it has failed is asked for again',
  async () => {
    const given = await transactions()
    await transaction(given)
    // Takes connections, and nothing comes of them.
    given.mock.setRoundTrip(TRANSACTIONS, FROZEN_MS)
    given.mock.setDown(TRANSACTIONS)
    given.mock.setUp(TRANSACTIONS)
    await given.begin()
    given.producer.produce('topic', 0, Buffer.from('value'))
    // Long enough that it was looked up and found to be the same.
    expect(await inTime(given.commit(3_000), 3_000)).toMatchObject(RETRIABLE)
    given.mock.setCoordinator('transaction', idOf(given.producer), OTHER)
    // A connection that comes to nothing is given up after ten seconds.
    await persist(given.commit, 4_000)
  },
  TEST_TIMEOUT_MS,
)

test(
  'an abort does not wait for a broker whose name is being looked up',
  async () => {
    const mock = startControlledMock(1)
    ending.push(() => mock.close())
    const directory = mkdtempSync(join(tmpdir(), 'kafkatrace-names-'))
    ending.push(() => rmSync(directory, { recursive: true, force: true }))
    const library = join(directory, 'names.so')
    const lookedUp = join(directory, 'looked-up')
    const compiled = Bun.spawnSync(['cc', '-shared', '-fPIC', '-x', 'c', '-o', library, '-', '-ldl'], {
      stdin: Buffer.from(SLOW_NAMES),
    })
    expect(compiled.stderr.toString()).toBe('')
    const source = `
      import { native, promised } from ${JSON.stringify(join(import.meta.dir, '../client.ts'))}
      const producer = new (native().Producer)({
        'metadata.broker.list': '${mock.brokers},slow.invalid:1',
        'enable.sparse.connections': false,
        'transactional.id': 'transactions',
        log_level: 0,
      })
      await promised((done) => producer.connect({ timeout: 10_000 }, (error) => done(error)))
      await promised((done) => producer.initTransactions(10_000, done))
      await promised((done) => producer.beginTransaction(done))
      producer.produce('topic', 0, Buffer.from('value'))
      await promised((done) => producer.flush(10_000, (error) => done(error)))
      const begun = performance.now()
      await promised((done) => producer.abortTransaction(${CALL_TIMEOUT_MS}, done))
      console.log(performance.now() - begun)
      process.exit()`
    // Once the client knows the cluster it asks no more for bootstrap brokers that it has not reached.
    mock.setRoundTrip(1, 1_000)
    const child = Bun.spawn([process.execPath, '-e', source], {
      env: { ...process.env, LD_PRELOAD: library, LOOKED_UP: lookedUp },
      stdout: 'pipe',
      stderr: 'pipe',
      timeout: TEST_TIMEOUT_MS / 2,
    })
    await until(() => existsSync(lookedUp), { timeoutMs: CONNECT_TIMEOUT_MS, what: 'the name to be looked up' })
    mock.setRoundTrip(1, 0)
    expect(await child.stderr.text()).toBe('')
    expect(Number(await child.stdout.text())).toBeWithin(0, CALL_TIMEOUT_MS + SLACK_MS)
  },
  TEST_TIMEOUT_MS,
)

/** A resolver that is slow for one name. */
const SLOW_NAMES = `
  #define _GNU_SOURCE
  #include <dlfcn.h>
  #include <netdb.h>
  #include <stdio.h>
  #include <stdlib.h>
  #include <string.h>
  #include <unistd.h>
  int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
    if (node != NULL && strcmp(node, "slow.invalid") == 0) {
      fclose(fopen(getenv("LOOKED_UP"), "w"));
      sleep(15);
    }
    return real(node, service, hints, result);
  }`

test(
  'a consumer that has asked a frozen broker for its coordinator asks another one',
  async () => {
    const mock = startControlledMock(2)
    ending.push(() => mock.close())
    const group = uniqueName('group')
    mock.setCoordinator('group', group, GROUPS)
    mock.createTopic('topic', GROUPS)
    let frozen: Statistics['brokers'][string] | undefined
    const consumer = new (native().KafkaConsumer)({
      'metadata.broker.list': mock.brokers,
      'group.id': group,
      'socket.timeout.ms': FROZEN_MS,
      'topic.metadata.refresh.interval.ms': -1,
      'enable.sparse.connections': false,
      'reconnect.backoff.max.ms': 500,
      'statistics.interval.ms': 100,
      log_level: 0,
    })
    consumer.on('event.stats', ({ message }: { message: string }) => {
      frozen = Object.values((JSON.parse(message) as Statistics).brokers).find(({ nodeid }) => nodeid === FROZEN)
    })
    consumer.on('event.error', () => undefined)
    await promised((done) => consumer.connect({ timeout: CONNECT_TIMEOUT_MS }, (error) => done(error)))
    ending.push(() => promised((done) => consumer.disconnect((error) => done(error))))
    // Statistics come by polling.
    const polling = setInterval(() => consumer.isConnected() && consumer.consume(1, () => undefined), 50)
    ending.push(() => clearInterval(polling))
    const committed = () =>
      promised<unknown>((done) => consumer.committed([{ topic: 'topic', partition: 0 }], CALL_TIMEOUT_MS, done))
    await committed()
    await until(() => frozen?.state === 'UP' && frozen.waitresp_cnt === 0, { timeoutMs: RECOVERY_MS })
    const asked = () => frozen?.req['FindCoordinator'] ?? 0
    const before = asked()
    mock.setRoundTrip(FROZEN, FROZEN_MS)
    mock.setDown(GROUPS)
    await until(() => asked() > before, { timeoutMs: RECOVERY_MS })
    mock.setUp(GROUPS)
    for (const deadline = performance.now() + RECOVERY_MS; ; ) {
      const error = await committed().catch((fault: LibrdKafkaError) => fault)
      if (!(error instanceof Error)) break
      if (performance.now() > deadline) throw error
    }
  },
  TEST_TIMEOUT_MS,
)

const idOf = (producer: Producer): string =>
  (producer as unknown as { globalConfig: Record<string, string> }).globalConfig['transactional.id'] as string
