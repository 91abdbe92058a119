import { afterAll, beforeAll, expect, test } from 'bun:test'
import { join } from 'node:path'
import { type MockCluster, startMockCluster } from '../../testing/mock-cluster.ts'
import type { Consumer } from '../client.ts'

/*
 * Corrections in addon.patch without which a call ends the process, or writes where it should not. They are made in a process of their own:
 * what the body returns there comes back here. A body sees its argument and nothing else of this file.
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
}

interface Outcome {
  exitCode: number | null
  result: unknown
  stderr: string
}

async function inChild(body: (given: Given) => unknown): Promise<Outcome> {
  const source = `
    import { native, promised } from ${JSON.stringify(join(import.meta.dir, '../client.ts'))}
    const consumer = new (native().KafkaConsumer)({ 'metadata.broker.list': ${JSON.stringify(cluster.brokers)}, 'group.id': 'patch' })
    await promised((done) => consumer.connect({ timeout: 10_000 }, (error) => done(error)))
    const result = await (${body})({ native: native(), consumer })
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
