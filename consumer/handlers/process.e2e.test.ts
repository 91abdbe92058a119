import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { embeddedPartitions, startEmbedded } from '../../shared/dev/brokers/embedded.ts'
import { headerText } from '../../shared/events/headers.ts'
import { createRangeReader, readAll } from '../../shared/kafka/range-reader.ts'
import { startService } from '../../shared/testing/service-process.ts'
import { until } from '../../shared/testing/until.ts'
import { loadConsumerConfig } from '../config.ts'

/** What a handler can do to its process. */

setDefaultTimeout(60_000)
const PATIENCE = { timeoutMs: 30_000 }

const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-handlers-'))
let broker: Awaited<ReturnType<typeof startEmbedded>>

beforeAll(async () => {
  broker = await startEmbedded()
})
afterAll(async () => {
  await broker.stop()
  rmSync(folder, { recursive: true })
})

let modules = 0

/** A file of handlers with these function bodies. */
function moduleOf(bodies: Record<string, string>): string {
  const file = join(folder, `handlers-${modules++}.ts`)
  const handlers = Object.entries(bodies).map(
    ([type, body]) =>
      `{ type: '${type}', version: '1', schema: Type.Unknown(), async handle(data, { attempt, signal }) { ${body} } }`,
  )
  writeFileSync(file, `import { Type } from 'kafkatrace'\nexport const handlers = [\n${handlers.join(',\n')}\n]\n`)
  return file
}

test('errors that nobody catches, and a thread that is kept, cost no other event anything; a stop stays clean', async () => {
  const env = { NODE_ENV: 'development', KAFKA_BROKERS: broker.bootstrapServers }
  const producer = await startService('producer', { ...env, AUTH: 'off' })
  const consumer = await startService('consumer', {
    ...env,
    GROUP_ID: 'handlers',
    INSTANCE_ID: 'one',
    HANDLER_TIMEOUT_MS: '500',
    QUICK_ATTEMPTS: '1',
    MAX_ATTEMPTS: '2',
    RETRY_FIRST_MS: '100',
    HANDLERS_MODULE: moduleOf({
      rejection: `void Promise.reject(new Error('stray rejection')); return { data: 'done' }`,
      timer: `setTimeout(() => { throw new Error('stray timer') }, 1); return { data: 'done' }`,
      odd: `setTimeout(() => { throw Object.create(null) }, 1); void Promise.reject(undefined); return { data: 'done' }`,
      late: `await new Promise((resolve) => signal.addEventListener('abort', resolve)); setTimeout(() => { throw new Error('stray late') }, 1); throw new Error('too late')`,
      thread: `for (;;);`,
      exit: `process.exit(7)`,
      print: `console.log('printed %d', 7, 'token=abcdef'); console.error('two\\nlines'); console.table([data]); process.stdout.write('to stdout'); process.stderr.write('to stderr\\n'); for (let i = 0; i < 5000; i++) console.log('again'); return { data: 'done' }`,
    }),
  })
  await until(() => producer.started['port'] !== undefined, PATIENCE)
  const types = ['rejection', 'timer', 'odd', 'late', 'thread', 'exit', 'print', 'plain']
  for (const id of ['1', '2'])
    for (const type of types) {
      const response = await fetch(`http://127.0.0.1:${producer.started['port']}/v1/events`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ type, id: `${type}-${id}`, source: '/test', subject: type, data: {} }),
      })
      expect(response.status).toBe(202)
    }
  const metrics = async () => await (await fetch(`http://127.0.0.1:${consumer.started['opsPort']}/metrics`)).text()
  const counted = async (name: string) =>
    Number(new RegExp(`^kafkatrace_consumer_${name} (\\d+)$`, 'm').exec(await metrics())?.[1])
  await until(
    async () =>
      (await counted('outcomes_total{outcome="processed"}')) === 10 &&
      (await counted('outcomes_total{outcome="dead"}')) === 6,
    { ...PATIENCE, what: 'sixteen outcomes' },
  )
  expect(await counted('uncaught_errors_total')).toBeGreaterThanOrEqual(8)
  // A line is read shortly after it was counted.
  const uncaught = () => consumer.log.filter(({ msg }) => String(msg).startsWith('uncaught error'))
  await until(async () => uncaught().length === (await counted('uncaught_errors_total')), PATIENCE)
  // Every line is JSON; otherwise reading it would have failed.
  const strays = consumer.log.filter(({ msg }) => msg === 'uncaught error; the consumer continues')
  expect(JSON.stringify(strays)).toContain('stray timer')
  expect(strays.length).toBe(await counted('uncaught_errors_total'))
  const printed = () => consumer.log.filter(({ msg }) => msg === 'handler output').map((line) => line['printed'])
  for (const text of ['printed 7 token=(redacted)', 'two\nlines', 'to stdout', 'to stderr'])
    await until(() => printed().includes(text), { ...PATIENCE, what: text })
  // A hundred a second of the ten thousand.
  expect(printed().filter((text) => text === 'again').length).toBeWithin(1, 2_000)
  expect(await Promise.all([consumer.stop(), producer.stop()])).toEqual([0, 0])

  expect(consumer.log.find(({ msg }) => String(msg).startsWith('events of these types have a handler'))).toMatchObject({
    types: expect.arrayContaining(['rejection', 'com.github.push']),
    unhandled: 'pass',
  } as Record<string, unknown>)

  const reader = createRangeReader({
    config: loadConsumerConfig({ KAFKA_BROKERS: broker.bootstrapServers }),
    clientId: 'handlers-test',
    log: pino({ level: 'silent' }),
  })
  const outcomes: string[] = []
  const partitions = ['processed', 'dlq'].flatMap((role) =>
    Array.from({ length: embeddedPartitions }, (_, partition) => ({ topic: `kt.default.events.${role}`, partition })),
  )
  await readAll(reader, partitions, ({ topic, headers }) =>
    outcomes.push(`${headerText(headers, 'ce_id')} ${topic.split('.').at(-1)}`),
  )
  await reader.close()
  expect(outcomes.toSorted()).toEqual(
    types
      .flatMap((type) =>
        ['1', '2'].map((id) => `${type}-${id} ${['late', 'thread', 'exit'].includes(type) ? 'dlq' : 'processed'}`),
      )
      .toSorted(),
  )
})

test.each([
  ['a file that is not there', '/nowhere/handlers.ts', 'annot find module'],
  ['a file that throws', `throw new Error('at its top')`, 'at its top'],
  ['no list', `export const handlers = {}`, 'no list'],
  ['a file that ends the process', `console.log('at its top'); process.exit(0)`, 'not for handlers'],
  [
    'things that are no handlers',
    `export const handlers = [7, { type: 'a' }, { type: 'b', version: '1', handle() {} }]`,
    'handlers[0] is no handler',
  ],
  [
    'a type that one of ours has',
    `export const handlers = [1, 2].map(() => ({ type: 'com.github.push', version: '1', schema: { type: 'null' }, handle() {} }))`,
    'com.github.push',
  ],
])('HANDLERS_MODULE with %s: every fault is told, and the process ends with 78', async (_, source, told) => {
  const file = source.startsWith('/') ? source : join(folder, `bad-${modules++}.ts`)
  if (file !== source) writeFileSync(file, source)
  const child = Bun.spawn([process.execPath, join(import.meta.dir, '../main.ts')], {
    env: { PATH: process.env.PATH ?? '', KAFKA_BROKERS: broker.bootstrapServers, HANDLERS_MODULE: file, OPS_PORT: '0' },
    stdout: 'pipe',
    stderr: 'pipe',
  })
  const [errors, exitCode] = await Promise.all([child.stderr.text(), child.exited])
  expect(errors).toContain(told)
  expect(errors).toContain(`HANDLERS_MODULE=${file}`)
  expect(exitCode).toBe(78)
})
