import { afterAll, beforeAll, expect, test } from 'bun:test'
import { join } from 'node:path'
import { type MockCluster, startMockCluster } from '../../testing/mock-cluster.ts'
import type { Consumer, Producer } from '../client.ts'
import { ADDON_FILE, INSTALLED } from './check.ts'

/*
 * Corrections in addon.patch without which a call ends the process, or writes where it should not. Each test runs its body in a child process
 * and compares what the body returns. A body sees its argument and nothing else of this file.
 */

const CHILD_TIMEOUT_MS = 20_000

let cluster: MockCluster

beforeAll(async () => {
  cluster = await startMockCluster()
})

afterAll(() => cluster.close())

/** What a body is given. */
interface Given {
  // biome-ignore lint/suspicious/noExplicitAny: these tests pass what the types forbid.
  native: any
  /** Connected. */
  consumer: Consumer
  /** Connected; reports deliveries. */
  producer: Producer
  /** How many native handles to JavaScript values there are. */
  handles(): number
}

interface Outcome {
  exitCode: number | null
  result: unknown
  stderr: string
}

async function inChild(body: (given: Given) => unknown): Promise<Outcome> {
  const source = `
    import { native, promised } from ${JSON.stringify(join(import.meta.dir, '../client.ts'))}
    const brokers = { 'metadata.broker.list': ${JSON.stringify(cluster.brokers)} }
    const consumer = new (native().KafkaConsumer)({ ...brokers, 'group.id': 'patch' })
    const producer = new (native().Producer)({ ...brokers, dr_cb: true })
    for (const client of [consumer, producer])
      await promised((done) => client.connect({ timeout: 10_000 }, (error) => done(error)))
    const { handles } = require(${JSON.stringify(join(INSTALLED, ADDON_FILE))})
    const result = await (${body})({ native: native(), consumer, producer, handles: () => handles.counts().live })
    process.stdout.write(JSON.stringify(result ?? null), () => process.exit(0))
  `
  const child = Bun.spawn([process.execPath, '-e', source], {
    stdout: 'pipe',
    stderr: 'pipe',
    timeout: CHILD_TIMEOUT_MS,
  })
  const [stdout, stderr, exitCode] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited])
  return { exitCode, stderr, result: exitCode === 0 ? JSON.parse(stdout) : stdout }
}

/** The call went well in the child and its body returned this; otherwise what the child said is shown. */
async function expectInChild(body: (given: Given) => unknown, result: unknown): Promise<void> {
  expect(await inChild(body)).toEqual({ exitCode: 0, stderr: '', result })
}

test('a consumer that is not connected has lost no assignment', () =>
  expectInChild(({ native }) => new native.KafkaConsumer({ 'group.id': 'patch' }).assignmentLost(), false))

test('a consumer with a rebalance callback may be disconnected, also when it never was connected', () =>
  expectInChild(async ({ native }) => {
    const never = new native.KafkaConsumer({ 'group.id': 'patch', rebalance_cb: () => {} })
    await new Promise((resolve) => never.disconnect(resolve))
    const address = { 'metadata.broker.list': '127.0.0.1:1', 'group.id': 'patch', rebalance_cb: () => {}, log_level: 0 }
    const unreached = new native.KafkaConsumer(address)
    const failed = await new Promise((resolve) => unreached.connect({ timeout: 50 }, resolve))
    return failed !== null
  }, true))

test('a subscription by regular expression writes nothing on stderr', () =>
  expectInChild(({ consumer }) => consumer.subscribe([/^quiet/]).subscription(), ['^quiet']))

test('a group that cannot be described is answered with its error', () =>
  expectInChild(
    async ({ native, producer }) => {
      // The mock cluster does not know the request.
      const admin = native.AdminClient.createFrom(producer)
      const { groups } = await new Promise<{ groups: { groupId: string; error?: object; protocol: string }[] }>(
        (resolve) =>
          admin.describeGroups(['none'], { timeout: 10_000 }, (_: unknown, answer: never) => resolve(answer)),
      )
      return groups.map(({ groupId, error, protocol }) => [groupId, error !== undefined, protocol])
    },
    [['none', true, '']],
  ))

test('produce() throws for headers of a wrong type, and queues and holds nothing', () =>
  expectInChild(
    async ({ producer, handles }) => {
      const throwing = {
        get name() {
          throw new Error('from the getter')
        },
      }
      const reports: unknown[] = []
      const bothReported = Promise.withResolvers<void>()
      producer.on('delivery-report', (_, { opaque }) => {
        if (reports.push(opaque) === 2) bothReported.resolve()
      })
      producer.setPollInBackground(true)
      const produce = (headers: unknown, opaque: unknown = {}): string => {
        try {
          producer.produce('headers', 0, Buffer.from('value'), 'key', null, opaque, headers as never)
          return 'queued'
        } catch (error) {
          return (error as Error).message
        }
      }
      const before = handles()
      const wrong = [5, { name: 'value' }, [null], [5], [{}], [{ name: 5 }], [{ name: undefined }], [throwing]]
      const thrown = wrong.map((headers) => produce(headers))
      const held = handles() - before
      const queued = [
        produce(null, 'null'),
        produce([{ name: 'value' }, { name: Buffer.from('value') }], 'two headers'),
      ]
      // The last report may come after the answer to flush.
      await Promise.all([new Promise((resolve) => producer.flush(10_000, resolve)), bothReported.promise])
      return { thrown, held, queued, reports }
    },
    {
      thrown: [
        ...Array<string>(2).fill('Headers must be an array'),
        ...Array<string>(2).fill('A header must be an object'),
        'A header must have a name',
        ...Array<string>(2).fill('Header value must be a string or buffer'),
        'from the getter',
      ],
      held: 0,
      queued: ['queued', 'queued'],
      reports: ['null', 'two headers'],
    },
  ))
