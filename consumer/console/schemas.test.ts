import { afterEach, describe, expect, test } from 'bun:test'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Value } from '@sinclair/typebox/value'
import fc from 'fast-check'
import pino from 'pino'
import type { HeaderValue } from '../../shared/events/headers.ts'
import { tenantsOf } from '../../shared/http/tenants.ts'
import { fileNameOf } from '../../shared/schemas/folder.ts'
import { parseSchemaHeader } from '../../shared/schemas/identity.ts'
import { FolderStore, RegistryStore, type SchemaStore } from '../../shared/schemas/store.ts'
import { FakeKafka } from '../../shared/testing/fake-kafka.ts'
import { until } from '../../shared/testing/until.ts'
import { budgetOf, consoleOn, type Given, outgoing } from '../testing/console.ts'
import './formats.ts'
import { KnownSchemas, type SchemaUse, StreamSchemas, schemasOf } from './schemas.ts'

const log = pino({ level: 'silent' })
const NOW_MS = Date.parse('2026-11-30T12:00:00.000Z')
const iso = (ms: number): string => new Date(NOW_MS + ms).toISOString()

const ends: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ends.splice(0)) await end()
})

type Documents = Readonly<Record<string, readonly unknown[]>>

/** @param documents by subject: the first is version 1 */
async function folderOf(documents: Documents): Promise<SchemaStore> {
  const folder = await mkdtemp(join(tmpdir(), 'kafkatrace-schemas-'))
  ends.push(() => rm(folder, { recursive: true }))
  for (const [subject, versions] of Object.entries(documents))
    for (const [index, document] of versions.entries())
      await writeFile(join(folder, fileNameOf({ subject, version: index + 1 })), JSON.stringify(document))
  const store = new FolderStore(folder, () => true, log)
  ends.push(() => store.stop())
  await store.start()
  return store
}

const ORDERS: Documents = {
  'acme.events-order.placed': [
    { $schema: 'http://json-schema.org/draft-07/schema#', title: 'An order', type: 'object' },
    { title: 'An order', description: 'With a total.', required: ['total'] },
  ],
  'acme.events-order.paid': [true],
  'acme.other-x': [{}],
}

const { list } = tenantsOf({
  tenants: {
    acme: { streams: ['events', 'events-old', 'free'], keys: [], schemas: { events: {}, 'events-old': {} } },
  },
})
const [tenant = expect.unreachable()] = list

interface Asked {
  store?: SchemaStore | undefined
  stream?: string
  streams?: string[]
  template?: string
}

const knownIn = ({ store, stream = 'events', streams = ['events'], template = '{tenant}.{stream}-{type}' }: Asked) =>
  new KnownSchemas({ store, template, tenant, stream, streams: new Set(streams) })

/** An event of `source`, whose header is `kt-schema` where that is given. */
const sent = (source: string, schema?: string, more: Given = {}): Given => ({
  source,
  ...more,
  headers: { ...more.headers, ...(schema === undefined ? {} : { 'kt-schema': schema }) },
})

/** What is said of these records, one a second, the last just now. */
async function said(
  records: readonly Given[],
  asked: Asked & { most?: number; partitions?: number } = {},
): Promise<StreamSchemas> {
  const kafka = new FakeKafka()
  const { stream, readers, reader, end } = consoleOn(kafka, { partitions: asked.partitions ?? 1 })
  ends.push(end)
  for (const [index, given] of records.entries()) {
    kafka.nowMs = () => NOW_MS + (index + 1 - records.length) * 1_000
    kafka.append(outgoing(given))
  }
  const name = asked.stream ?? 'events'
  const found = await schemasOf({ ...stream, name }, knownIn(asked), reader, budgetOf(asked.most), readers)
  // As its description says.
  expect([...Value.Errors(StreamSchemas, found)]).toEqual([])
  return found
}

const PLACED = 'acme.events-order.placed'
const typeOf = ({ types }: StreamSchemas, type = 'order.placed') => types.find((one) => one.type === type)
const sendersOf = (use: SchemaUse | undefined): string[] | undefined =>
  use?.senders.map(({ source, events }) => `${source} ${events}`)

describe('the schemas of a stream', () => {
  test('are those of its types, with who sends which version', async () => {
    const store = await folderOf(ORDERS)
    const found = await said(
      [
        sent('/old', `${PLACED}/1`),
        sent('/app', `${PLACED}/2`),
        sent('/shop', `${PLACED}/2`),
        sent('/shop', `${PLACED}/2`),
        sent('/import'),
        sent('/import', undefined, { type: 'note' }),
      ],
      { store },
    )
    expect(found).toEqual({
      tenant: 'acme',
      stream: 'events',
      checks: { check: 'enforce', otherTypes: 'accept', whileUnknown: 'refuse' },
      known: 'all',
      types: [
        {
          type: 'note',
          subject: 'acme.events-note',
          schema: 'none',
          versions: [],
          without: { events: 1, newest: iso(0), senders: [{ source: '/import', events: 1, newest: iso(0) }] },
        },
        {
          type: 'order.paid',
          subject: 'acme.events-order.paid',
          schema: 'known',
          versions: [{ version: 1, draft: '2020-12' }],
          document: true,
        },
        {
          type: 'order.placed',
          subject: PLACED,
          schema: 'known',
          versions: [
            {
              version: 2,
              draft: '2020-12',
              title: 'An order',
              description: 'With a total.',
              use: {
                events: 3,
                newest: iso(-2_000),
                senders: [
                  { source: '/shop', events: 2, newest: iso(-2_000) },
                  { source: '/app', events: 1, newest: iso(-4_000) },
                ],
              },
            },
            {
              version: 1,
              draft: 'draft-07',
              title: 'An order',
              use: {
                events: 1,
                newest: iso(-5_000),
                senders: [{ source: '/old', events: 1, newest: iso(-5_000) }],
              },
            },
          ],
          document: ORDERS['acme.events-order.placed']?.[1],
          without: {
            events: 1,
            newest: iso(-1_000),
            senders: [{ source: '/import', events: 1, newest: iso(-1_000) }],
          },
        },
      ],
      read: { records: 6, from: iso(-5_000), to: iso(0), complete: true, withoutType: 0, ofOtherTypes: 0 },
    })
  })

  test('are there without an event', async () => {
    const { types, read } = await said([], { store: await folderOf(ORDERS) })
    expect(types.map(({ type, versions }) => [type, versions.map(({ version }) => version)])).toEqual([
      ['order.paid', [1]],
      ['order.placed', [2, 1]],
    ])
    expect(read).toEqual({ records: 0, complete: true, withoutType: 0, ofOtherTypes: 0 })
  })

  test('are counted in the newest records of all partitions, as many as are asked for', async () => {
    const records = Array.from({ length: 20 }, (_, index) =>
      sent(`/${index}`, `${PLACED}/1`, { partition: index < 4 ? 1 : 0 }),
    )
    const { types, read } = await said(records, { most: 12, partitions: 2 })
    expect(read).toMatchObject({ records: 12, from: iso(-19_000), to: iso(0), complete: false })
    // The one that is read first has the newest.
    expect(types[0]?.versions[0]?.use?.newest).toBe(iso(0))
    // The one partition has four; the other gives the rest.
    expect(types[0]?.versions[0]?.use?.senders.map(({ source }) => source)).toEqual(
      [19, 18, 17, 16, 15, 14, 13, 12, 3, 2, 1, 0].map((index) => `/${index}`),
    )
  })

  test('versions that are not known here are counted, too', async () => {
    const found = typeOf(await said([sent('/a', `${PLACED}/7`)], { store: await folderOf(ORDERS) }))
    expect(found?.versions.map(({ version, draft, use }) => [version, draft, use?.events])).toEqual([
      [7, undefined, 1],
      [2, '2020-12', undefined],
      [1, 'draft-07', undefined],
    ])
  })

  test.each([['acme.other-order.placed/1'], [`${PLACED}/0`], ['/1'], [''], [`${PLACED}/x`]])(
    'a header of %s is none of its versions',
    async (header) => {
      const found = typeOf(await said([sent('/a', header)], { store: await folderOf(ORDERS) }))
      expect([sendersOf(found?.otherwise), found?.without, found?.versions.length]).toEqual([['/a 1'], undefined, 2])
    },
  )

  test('what is no event in its headers has no type, and its data is not read', async () => {
    const kafka = new FakeKafka()
    const { stream, readers, end } = consoleOn(kafka)
    ends.push(end)
    const structured = { 'content-type': 'application/cloudevents+json' }
    for (const given of [{ id: null }, { headers: structured }, {}]) kafka.append(outgoing(given))
    const reader = kafka.reader()
    const unreadable: typeof reader = {
      ...reader,
      read: (ranges, onRecord, options) =>
        reader.read(
          ranges,
          ({ topic, partition, offset, timestampMs, headers }) =>
            onRecord({
              topic,
              partition,
              offset,
              timestampMs,
              headers,
              get key(): never {
                throw new Error('the key was read')
              },
              get value(): never {
                throw new Error('the data was read')
              },
            }),
          options,
        ),
    }
    const found = await schemasOf(stream, knownIn({}), unreadable, budgetOf(), readers)
    expect([found.read.records, found.read.withoutType, sendersOf(found.types[0]?.without)]).toEqual([3, 2, ['/s 1']])
  })
})

describe('what senders choose is bounded', () => {
  test('the senders that are named', async () => {
    const records = Array.from({ length: 25 }, (_, index) => sent(`/${index}`, `${PLACED}/1`))
    const use = typeOf(await said([...records, sent('/7', `${PLACED}/1`)]))?.versions[0]?.use
    expect([use?.events, use?.senders.length, use?.senders[0]?.source]).toEqual([26, 20, '/7'])
    expect(use?.others).toEqual({ senders: 5, events: 5, newest: iso(-21_000) })
  })

  test('the versions and types that are told apart', async () => {
    const versions = Array.from({ length: 101 }, (_, index) => sent('/a', `${PLACED}/${index + 1}`))
    const types = Array.from({ length: 501 }, (_, index) => sent('/a', undefined, { type: `t${index}` }))
    const found = typeOf(await said(versions))
    expect([found?.versions.length, found?.otherwise?.events]).toEqual([100, 1])
    const { types: listed, read } = await said(types)
    expect([listed.length, read.ofOtherTypes]).toEqual([500, 1])
  })

  test('the memory for their names', async () => {
    const long = 'x'.repeat(16_000)
    const records = Array.from({ length: 600 }, (_, index) => sent(`/${index}/${long}`, `${PLACED}/1`))
    const use = typeOf(await said(records))?.versions[0]?.use
    // Of some 520 names, 20 are shown, and those that found no room count as one.
    expect(use?.events).toBe(600)
    expect(use?.others?.events).toBe(580)
    expect(use?.others?.senders).toBeLessThan(520)
  })

  test('documents of a list, of which each can be asked for', async () => {
    const large = { description: 'x'.repeat(200_000) }
    const subjects = Array.from({ length: 6 }, (_, index) => [`acme.events-t${index}`, [large]] as const)
    const { types } = await said([], { store: await folderOf(Object.fromEntries(subjects)) })
    expect(types.map(({ document }) => document !== undefined)).toEqual([true, true, true, true, true, false])
    expect(types[0]?.versions[0]?.description?.length).toBe(1_000)
  })
})

describe('the console says what it does not know', () => {
  test('without SCHEMAS_DIR and registry', async () => {
    const found = await said([sent('/a', `${PLACED}/2`)])
    expect([found.known, found.detail?.includes('SCHEMAS_DIR')]).toEqual(['none', true])
    expect(typeOf(found)).toMatchObject({ schema: 'unknown', versions: [{ version: 2, use: { events: 1 } }] })
  })

  test('of a stream whose events are not checked', async () => {
    const store = await folderOf({ 'acme.free-order.placed': [true] })
    const found = await said([{}], { store, stream: 'free', streams: ['free'] })
    expect([found.checks, found.known, typeOf(found)?.schema]).toEqual([undefined, 'none', 'none'])
  })

  test('while a registry is away, and after', async () => {
    let fault: string | undefined = 'http://registry.internal does not answer'
    const versions = new Map([[PLACED, '{"type":"object"}']])
    const orFault = <T>(value: T): Promise<T> =>
      fault === undefined ? Promise.resolve(value) : Promise.reject(new Error(fault))
    const store = new RegistryStore(
      {
        subjects: () => orFault([...versions.keys()]),
        versions: () => orFault([1]),
        schemaOf: (subject) => orFault({ ok: true, version: 1, text: versions.get(subject) ?? '' }),
      },
      () => true,
      log,
      5,
    )
    ends.push(() => store.stop())
    await store.start()
    const away = await said([{}, { type: 'note' }], { store })
    expect([away.known, typeOf(away)?.schema, typeOf(away, 'note')?.schema]).toEqual(['none', 'unknown', 'unknown'])
    fault = undefined
    await until(() => store.versions() === 1)
    const there = await said([{}, { type: 'note' }], { store })
    expect([there.known, there.detail, typeOf(there)?.schema, typeOf(there, 'note')?.schema]).toEqual([
      'all',
      undefined,
      'known',
      'none',
    ])
    fault = 'http://registry.internal does not answer'
    await until(() => knownIn({ store }).state.known !== 'all')
    const again = await said([{}, { type: 'note' }], { store })
    expect([again.known, typeOf(again)?.schema, typeOf(again, 'note')?.schema]).toEqual(['some', 'known', 'unknown'])
    // Where it is, and what is wrong with it, may be of other tenants.
    expect(JSON.stringify([away, again])).not.toContain('registry.internal')
  })
})

test('a later version that cannot be used is told', async () => {
  const texts = ['{"type":"object"}', '{"type":"objekt"}']
  const store = new RegistryStore(
    {
      subjects: async () => [PLACED],
      versions: async () => [1, 2],
      schemaOf: async (_, version) => ({ ok: true, version: Number(version), text: texts[Number(version) - 1] ?? '' }),
    },
    () => true,
    log,
    5,
  )
  ends.push(() => store.stop())
  await store.start()
  await until(() => store.versions() === 1)
  const found = typeOf(await said([], { store }))
  expect([found?.schema, found?.unusable, found?.versions.length]).toEqual(['known', 2, 1])
})

describe('of streams whose names begin alike', () => {
  const OLD = { 'acme.events-old-paid': [{ title: 'of events-old' }] }

  test('a subject is of the one that it says more of', async () => {
    const store = await folderOf(OLD)
    expect(knownIn({ store }).types()).toEqual([])
    expect(knownIn({ store, stream: 'events-old' }).types()).toEqual(['paid'])
  })

  test('a key for one of them does not see the schemas of the other', async () => {
    const store = await folderOf(OLD)
    expect(knownIn({ store, streams: ['events'] }).find('old-paid')).toBeUndefined()
    expect(knownIn({ store, streams: ['events', 'events-old'] }).find('old-paid')).toMatchObject({
      latest: { version: 1 },
    })
  })
})

test('however records are made, each is counted once', async () => {
  const store = await folderOf(ORDERS)
  const word = fc.constantFrom('a', 'b', 'order.placed', '', '😀', '__proto__')
  const record = fc.record({
    type: fc.option(word, { nil: undefined }),
    source: word,
    schema: fc.option(
      fc.oneof(
        fc.string(),
        fc.tuple(word, fc.nat(4)).map(([type, version]) => `acme.events-${type}/${version}`),
      ),
      { nil: undefined },
    ),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(record, { maxLength: 30 }), async (records) => {
      const { types, read } = await said(
        records.map(({ type, source, schema }) => {
          const headers: Record<string, HeaderValue> = { ce_source: source }
          if (type !== undefined) headers['ce_type'] = type
          if (schema !== undefined) headers['kt-schema'] = schema
          return { id: null, headers }
        }),
        { store },
      )
      const counted = (of: (one: StreamSchemas['types'][number]) => (SchemaUse | undefined)[]): number =>
        types.flatMap(of).reduce((sum, use) => {
          expect(use?.senders.reduce((total, { events }) => total + events, use.others?.events ?? 0)).toBe(use?.events)
          return sum + (use?.events ?? 0)
        }, 0)
      const typed = records.filter(({ type }) => type !== undefined)
      expect(read.records).toBe(records.length)
      expect(read.withoutType).toBe(records.length - typed.length)
      expect(counted(({ without }) => [without])).toBe(typed.filter(({ schema }) => schema === undefined).length)
      const named = typed.filter(
        ({ type, schema }) => parseSchemaHeader(schema)?.subject === `acme.events-${type}`,
      ).length
      expect(counted(({ versions }) => versions.map(({ use }) => use))).toBe(named)
      expect(counted(({ otherwise }) => [otherwise])).toBe(
        typed.filter(({ schema }) => schema !== undefined).length - named,
      )
    }),
    { numRuns: 60 },
  )
})
