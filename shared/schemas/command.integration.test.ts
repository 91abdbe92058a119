import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { CONTENT_TYPE, headersOf } from '../events/headers.ts'
import { inputTopic } from '../events/topics.ts'
import { createTopicAdmin } from '../kafka/admin.ts'
import { ProduceError } from '../kafka/types.ts'
import { testBrokers, uniqueName } from '../testing/brokers.ts'
import { commonConfig } from '../testing/common-config.ts'
import { startTestProducer } from '../testing/record-producer.ts'
import { startRegistry, type TestRegistry } from '../testing/registry.ts'
import { until } from '../testing/until.ts'
import { schema } from './command.ts'

/** What the command does with a real registry and a real broker. */

let home: string
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), 'kafkatrace-schema-'))
})
afterAll(() => rmSync(home, { recursive: true, force: true }))

async function typed(...args: string[]): Promise<{ code: number; out: string[]; said: string }> {
  const [out, said]: [string[], string[]] = [[], []]
  const env = { ...process.env, NODE_ENV: 'production', KAFKA_BROKERS: process.env['KAFKATRACE_TEST_BROKERS'] }
  const code = await schema(args, { out: (text) => out.push(text), say: (text) => said.push(text), env })
  return { code, out, said: said.join('\n') }
}

const write = (path: string, document: unknown): Promise<number> =>
  Bun.write(join(home, path), JSON.stringify(document))

const order = (...required: string[]) => ({
  type: 'object',
  properties: { total: { type: 'number' }, state: { type: 'string' } },
  required,
})

describe('with a registry', () => {
  let registry: TestRegistry
  beforeAll(async () => {
    registry = await startRegistry()
  }, 900_000)
  afterAll(() => registry.stop())

  test('versions are registered in order, once', async () => {
    const at = ['--registry', registry.url]
    await write('r/acme.orders-order.placed.v1.json', order())
    await write('r/deep/acme.orders-order.placed.v2.json', order('total'))
    await write('r/acme.orders-a b.v1.json', order())
    const folder = join(home, 'r')
    const dry = await typed('register', folder, ...at, '--dry-run')
    expect(dry.out.at(-1)).toBe('3 versions: 3 to be added, 0 there already, 0 refused')
    expect(await (await fetch(`${registry.url}/subjects`)).json()).toEqual([])
    expect(await typed('register', folder, ...at)).toMatchObject({
      code: 0,
      out: [
        'acme.orders-a b.v1.json: added',
        'acme.orders-order.placed.v1.json: added',
        'deep/acme.orders-order.placed.v2.json: added',
        '3 versions: 3 added, 0 there already, 0 refused',
      ],
    })
    const again = await typed('register', folder, ...at)
    expect(again).toMatchObject({ code: 0 })
    expect(again.out.at(-1)).toBe('3 versions: 0 added, 3 there already, 0 refused')
    const one = await typed('register', join(folder, 'acme.orders-order.placed.v1.json'), ...at)
    expect(one.out).toEqual([
      'acme.orders-order.placed.v1.json: is there',
      '1 version: 0 added, 1 there already, 0 refused',
    ])
  })

  test('a version that the registry has otherwise, or would number otherwise, is refused, and what follows it', async () => {
    const at = ['--registry', registry.url]
    await registry.register('other', order())
    await write('o/other.v1.json', order('total'))
    await write('o/other.v2.json', order('state'))
    expect(await typed('register', join(home, 'o'), ...at)).toMatchObject({
      code: 1,
      out: [
        'other.v1.json: refused: the registry has another schema as version 1 of other',
        'other.v2.json: not added, since a version before it was refused',
        '2 versions: 0 added, 0 there already, 2 refused',
      ],
    })
    await write('n/numbered.v1.json', order())
    await write('n/numbered.v3.json', order('total'))
    await write('n/same.v1.json', order())
    await write('n/same.v2.json', { ...order(), type: 'object' })
    const { code, out } = await typed('register', join(home, 'n'), ...at)
    expect(code).toBe(1)
    expect(out.slice(0, 4)).toEqual([
      'numbered.v1.json: added',
      'numbered.v3.json: refused: the registry would give it the number 2',
      'same.v1.json: added',
      'same.v2.json: the registry has the same schema as version 1 of same',
    ])
  })

  test('what the registry itself refuses is said, and other subjects go on', async () => {
    await registry.register('strict', order())
    await registry.setCompatibility('BACKWARD', 'strict')
    await write('s/strict.v1.json', order())
    await write('s/strict.v2.json', order('total'))
    await write('s/unrelated.v1.json', order())
    const { code, out } = await typed('register', join(home, 's'), '--registry', registry.url)
    expect(code).toBe(1)
    expect(out[1]).toContain('strict.v2.json: ')
    expect(out[1]).toContain('(409)')
    expect(out[2]).toBe('unrelated.v1.json: added')
  })

  test('a folder is compared with a registry, in each subject’s own mode', async () => {
    const at = ['--registry', registry.url]
    await registry.register('checked', order())
    await registry.register('checked', order('total'))
    await registry.setCompatibility('BACKWARD_TRANSITIVE', 'checked')
    await write('c/checked.v2.json', order('total'))
    await write('c/checked.v3.json', { ...order('total'), title: 'Order' })
    const { code, out } = await typed('check', '--dir', join(home, 'c'), ...at)
    expect(code).toBe(1)
    expect(out[0]).toBe(`compared with ${registry.url}`)
    expect(out[1]).toBe('checked.v2.json: as it was')
    expect(out[2]).toBe('checked.v3.json: new, not compatible with versions 1, 2 (BACKWARD_TRANSITIVE)')
    expect(out).toContain('checked, version 1: is in the registry, and not here')
    const backward = await typed('check', '--dir', join(home, 'c'), ...at, '--mode', 'BACKWARD')
    expect(backward.out[2]).toBe('checked.v3.json: new, compatible with version 2 (BACKWARD)')
    expect(backward.code).toBe(0)
  })

  test('a registry that is away is named', async () => {
    await registry.kill()
    const { code, said } = await typed('register', join(home, 'r'), '--registry', registry.url)
    expect({ code, said }).toEqual({ code: 69, said: `${registry.url} cannot be reached: nothing listens there` })
  })
})

describe('with a broker', () => {
  const tenant = uniqueName('infer')
  const topic = inputTopic(tenant, 'orders')
  const config = commonConfig({ KAFKA_BROKERS: testBrokers() })
  const log = pino({ level: 'silent' })

  beforeAll(async () => {
    const admin = createTopicAdmin({ config, clientId: 'tests', log })
    await admin.ensureGroups([[topic]], { partitions: 3, replication: 1 })
    await admin.close()
    const producer = startTestProducer(config, [topic])
    await until(() => producer.partitionCount(topic) !== undefined)
    const record = (type: string, value: string, contentType = 'application/json') => ({
      topic,
      // In one partition, since only within it there is an order.
      key: 'a',
      value: Buffer.from(value),
      headers: headersOf({
        ce_specversion: '1.0',
        ce_id: crypto.randomUUID(),
        ce_source: '/tests',
        ce_type: type,
        [CONTENT_TYPE]: contentType,
      }),
    })
    const structured = (data: object) => ({
      topic,
      key: 'a',
      value: Buffer.from(JSON.stringify({ specversion: '1.0', id: 's', source: '/tests', type: 'order.placed', data })),
      headers: headersOf({ [CONTENT_TYPE]: 'application/cloudevents+json' }),
    })
    const records = [
      record('order.placed', '{"old":true}'),
      ...Array.from({ length: 5_000 }, (_, total) => record('other', JSON.stringify({ total }))),
      record('order.placed', '{"total":1.5,"at":"2026-01-31T12:00:00Z"}'),
      record('order.placed', '{"total":2,"at":"2026-01-31T12:00:00Z","note":"x"}'),
      record('order.placed', 'no JSON'),
      record('order.placed', '<order/>', 'application/xml'),
      structured({ total: 3, at: '2026-01-31T12:00:00Z' }),
    ]
    for (const result of await producer.produce(records)) if (result instanceof ProduceError) throw result
    await producer.close(5_000)
  }, 60_000)

  test('a draft is of the newest events of the type', async () => {
    const { code, out, said } = await typed(
      'infer',
      '--stream',
      `${tenant}/orders`,
      '--type',
      'order.placed',
      '--most',
      '3',
    )
    expect(said).toContain('2 events of the type without data in JSON')
    expect(code).toBe(0)
    expect(JSON.parse(out.join('\n'))).toMatchObject({
      $comment: expect.stringContaining('from 3 events'),
      required: ['at', 'total'],
      properties: { at: { type: 'string', format: 'date-time' }, total: { type: 'number' }, note: { type: 'string' } },
    })
    const newest = await typed('infer', '--stream', `${tenant}/orders`, '--type', 'order.placed', '--most', '1')
    expect(JSON.parse(newest.out.join('\n'))).toMatchObject({ properties: { total: { type: 'integer' } } })
    const all = await typed('infer', '--stream', `${tenant}/orders`, '--type', 'order.placed')
    expect(JSON.parse(all.out.join('\n'))).toMatchObject({ properties: { old: { type: 'boolean' } } })
  })

  test('a type or a stream that is not there is named', async () => {
    expect(await typed('infer', '--stream', `${tenant}/orders`, '--type', 'none')).toMatchObject({ code: 1 })
    const { code, said } = await typed('infer', '--stream', `${tenant}/none`, '--type', 'a')
    expect(said).toContain(`there is no topic kt.${tenant}.none`)
    expect(code).toBe(1)
  })
})
