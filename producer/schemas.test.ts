import { expect, test } from 'bun:test'
import { tenantsFaults } from '../shared/http/tenants.ts'
import { checkingProducer, type Declared, faultsIn, ORDER, order, urn, V1, V2 } from './testing/checked.ts'

test('a valid event is stored, with what it was checked by', async () => {
  const { send, stored, checks } = await checkingProducer()
  expect((await send(order({ total: 1 }))).status).toBe(202)
  expect(stored()).toEqual([[urn(1), `${ORDER}/1`]])
  expect(await checks()).toEqual(['order.placed 1 valid 1'])
})

test('an event keeps a dataschema of its own', async () => {
  const { send, stored } = await checkingProducer()
  await send(order({ total: 1 }, { dataschema: 'https://example.com/order' }))
  expect(stored()).toEqual([['https://example.com/order', `${ORDER}/1`]])
})

test('every fault is answered with its pointer, and nothing is stored', async () => {
  const { send, stored, checks } = await checkingProducer()
  const answer = await send(order({ total: -1, note: 7 }))
  expect(answer.status).toBe(422)
  expect(faultsIn(answer)).toEqual([
    { pointer: '/data/total', detail: `must be >= 0 (schema ${ORDER}/1)` },
    { pointer: '/data/note', detail: `must be string (schema ${ORDER}/1)` },
  ])
  expect(stored()).toEqual([])
  expect(await checks()).toEqual(['order.placed 1 invalid 1'])
})

test('a batch with a fault is refused whole, and faults of its events and of their data are named together', async () => {
  const { send, stored } = await checkingProducer()
  const answer = await send([order({ total: 1 }), order({}), { data: {} }, { type: 'other', data: 1 }])
  expect(answer.status).toBe(422)
  expect(faultsIn(answer)).toEqual([
    { pointer: '/1/data/total', detail: `is required (schema ${ORDER}/1)` },
    { pointer: '/2/type', detail: 'is required' },
  ])
  expect(stored()).toEqual([])
})

test('a line of a stream is refused alone', async () => {
  const { post, stored } = await checkingProducer()
  const lines = [order({ total: 1 }), order({}), order({ total: 2 })].map((one) => JSON.stringify(one)).join('\n')
  const { text } = await post(lines, { 'content-type': 'application/x-ndjson' })
  const answers = text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  expect(answers[1]).toMatchObject({ line: 2, problem: { status: 422, errors: [{ pointer: '/data/total' }] } })
  expect(answers[3]).toMatchObject({ summary: { stored: 2, refused: 1 } })
  expect(stored()).toHaveLength(2)
})

test('a structured event and one in binary mode are checked alike', async () => {
  const { post, stored } = await checkingProducer()
  const attributes = { specversion: '1.0', id: '1', source: '/s', type: 'order.placed' }
  const structured = await post(JSON.stringify({ ...attributes, data: {} }), {
    'content-type': 'application/cloudevents+json',
  })
  const ce = { 'ce-specversion': '1.0', 'ce-id': '1', 'ce-source': '/s', 'ce-type': 'order.placed' }
  const binary = await post('{}', ce)
  expect([structured.status, binary.status]).toEqual([422, 422])
  expect(faultsIn(structured)).toEqual(faultsIn(binary))
  expect((await post('{"total":1}', ce)).status).toBe(202)
  expect(stored()).toHaveLength(1)
})

test.each<[string, string | Uint8Array, Record<string, string>, string, RegExp]>([
  ['is text', 'total', { 'content-type': 'text/plain' }, '/datacontenttype', /must be JSON/],
  ['is no JSON', '{"total":', {}, '/data', /is no JSON/],
  ['is not UTF-8', Buffer.from([0x22, 0xff, 0x22]), {}, '/data', /UTF-8/],
  ['is not there', '', { 'content-type': '' }, '/data', /is required/],
])('data that %s is refused', async (_, body, headers, pointer, detail) => {
  const { app } = await checkingProducer()
  const ce = { 'ce-specversion': '1.0', 'ce-id': '1', 'ce-source': '/s', 'ce-type': 'order.placed' }
  const given = { 'content-type': 'application/json', ...headers }
  const sent = Object.fromEntries(Object.entries({ ...ce, ...given }).filter(([, value]) => value !== ''))
  const response = await app.request('/v1/events', { method: 'POST', headers: sent, body: body === '' ? null : body })
  expect(response.status).toBe(422)
  expect(await response.json()).toMatchObject({ errors: [{ pointer, detail: expect.stringMatching(detail) }] })
})

test('with warn, what is not as its schema wants it is stored, counted and logged without its names', async () => {
  const { send, stored, checks, logged } = await checkingProducer(
    { check: 'warn' },
    { [ORDER]: [{ ...V1, additionalProperties: false }] },
  )
  expect((await send(order({ 'of a patient': 1 }))).status).toBe(202)
  expect(stored()).toEqual([[undefined, undefined]])
  expect(await checks()).toEqual(['order.placed 1 invalid 1'])
  const line = logged.find(({ msg }) => String(msg).includes('not as its schema'))
  expect(line).toMatchObject({
    level: 40,
    type: 'order.placed',
    schema: `${ORDER}/1`,
    count: 2,
    pointers: ['/data/total', '/data/…'],
  })
  expect(JSON.stringify(logged)).not.toContain('patient')
})

test('types without a schema are let in, or refused', async () => {
  const open = await checkingProducer()
  expect((await open.send({ type: 'other', data: 1 })).status).toBe(202)
  expect(open.stored()).toEqual([[undefined, undefined]])
  expect(await open.checks()).toEqual(['  no_schema 1'])
  const closed = await checkingProducer({ otherTypes: 'refuse' })
  const answer = await closed.send({ type: 'other', data: 1 })
  expect(faultsIn(answer)).toEqual([
    { pointer: '/type', detail: 'has no schema, which this stream requires (subject default.events-other)' },
  ])
  expect(closed.stored()).toEqual([])
})

test('while it cannot be told whether a type has a schema: 503 with Retry-After, or it is let in; what is known is checked', async () => {
  const { send, store, stored, checks } = await checkingProducer()
  store.isAway = true
  const answer = await send({ type: 'other', data: 1 })
  expect(answer.status).toBe(503)
  expect(answer.headers.get('retry-after')).toBe('5')
  expect(JSON.parse(answer.text)).toMatchObject({
    type: 'urn:kafkatrace:problem:schema-unavailable',
    outcome: 'not stored',
  })
  expect((await send(order({ total: 1 }))).status).toBe(202)
  expect((await send(order({}))).status).toBe(422)
  expect((await send([order({ total: 1 }), { type: 'other' }])).status).toBe(503)
  expect(stored()).toHaveLength(1)
  expect(await checks()).toContain('  unknown 2')
  const accepting = await checkingProducer({ whileUnknown: 'accept' })
  accepting.store.isAway = true
  expect((await accepting.send({ type: 'other', data: 1 })).status).toBe(202)
})

test('an event is checked by the version that it names, else by the latest', async () => {
  const { send, stored, store } = await checkingProducer({}, { [ORDER]: [V1, V2] })
  expect((await send(order({ total: 1 }))).status).toBe(422)
  expect((await send(order({ total: 1 }, { dataschema: urn(1) }))).status).toBe(202)
  expect((await send(order({ total: 1, currency: 'EUR' }))).status).toBe(202)
  // Of another type: it says nothing about this one.
  expect((await send(order({ total: 1 }, { dataschema: 'urn:kafkatrace:schema:other:1' }))).status).toBe(422)
  expect(
    stored()
      .map(([, header]) => header)
      .sort(),
  ).toEqual([`${ORDER}/1`, `${ORDER}/2`])
  const unknown = await send(order({ total: 1 }, { dataschema: urn(3) }))
  expect(faultsIn(unknown)).toEqual([
    { pointer: '/dataschema', detail: `names version 3 of ${ORDER}, which is not known: the latest are 2, 1` },
  ])
  // A registry may have it already.
  store.mayLag = true
  expect((await send(order({ total: 1 }, { dataschema: urn(3) }))).status).toBe(503)
  expect((await send(order({ total: 1 }, { dataschema: urn(4_000_000_000) }))).status).toBe(422)
})

test('what names no version as we do is a fault, and counted', async () => {
  const { send, checks } = await checkingProducer({}, { [ORDER]: [V1] })
  for (const dataschema of [`${urn(1)}x`, urn(0), 'urn:kafkatrace:schema:', urn(9)])
    expect(faultsIn(await send(order({ total: 1 }, { dataschema })))).toMatchObject([{ pointer: '/dataschema' }])
  expect(await checks()).toEqual(['order.placed 1 invalid 4'])
})

test('with warn, an unknown schema lets events in, and the log says of what type they are', async () => {
  const { send, store, stored, logged } = await checkingProducer({ check: 'warn', otherTypes: 'refuse' })
  expect((await send({ type: 'other', data: 1 })).status).toBe(202)
  expect(logged.find(({ level }) => level === 40)).toMatchObject({
    type: 'other',
    schema: 'default.events-other',
    pointers: ['/type'],
  })
  store.isAway = true
  expect((await send({ type: 'more', data: 1 })).status).toBe(202)
  expect(stored()).toHaveLength(2)
})

test('a 503 for a schema that is not known is in the log', async () => {
  const { send, store, logged } = await checkingProducer()
  store.isAway = true
  await send({ type: 'other', data: 1 })
  expect(logged.find(({ msg }) => String(msg).includes('not known now'))).toMatchObject({ level: 40, type: 'other' })
})

test('while the latest version cannot be used, an event is checked only by a version that it names', async () => {
  const unusable = (version: number) => [{ subject: ORDER, version, detail: 'is no JSON' }]
  const { send, stored, checks, store } = await checkingProducer()
  await store.use({ [ORDER]: [V1, V2] }, unusable(3))
  expect((await send(order({ total: 1, currency: 'EUR' }))).status).toBe(503)
  expect((await send(order({ total: 1 }, { dataschema: 'https://example.com/order' }))).status).toBe(503)
  expect((await send(order({ total: 1 }, { dataschema: urn(2) }))).status).toBe(422)
  expect((await send(order({ total: 1 }, { dataschema: urn(1) }))).status).toBe(202)
  store.mayLag = true
  expect((await send(order({ total: 1 }, { dataschema: urn(3) }))).status).toBe(503)
  expect(stored()).toEqual([[urn(1), `${ORDER}/1`]])
  expect(await checks()).toContain('  unknown 3')
  const accepting = await checkingProducer({ whileUnknown: 'accept' })
  await accepting.store.use({ [ORDER]: [V1] }, unusable(2))
  expect((await accepting.send(order({}))).status).toBe(202)
  expect(accepting.stored()).toEqual([[undefined, undefined]])
  // One before the latest is not missed.
  await store.use({ [ORDER]: [V1, V2] }, unusable(1))
  expect((await send(order({ total: 1, currency: 'EUR' }))).status).toBe(202)
})

test('new schemas apply from the next event on', async () => {
  const { send, store, checks } = await checkingProducer()
  expect((await send(order({ total: 1 }))).status).toBe(202)
  await store.use({ [ORDER]: [V1, V2] })
  expect((await send(order({ total: 1 }))).status).toBe(422)
  expect(await checks()).toEqual(['order.placed 1 valid 1', 'order.placed 2 invalid 1'])
})

test('the subject is made as configured', async () => {
  const { send } = await checkingProducer(
    { otherTypes: 'refuse' },
    { 'order.placed-value': [V1] },
    { SCHEMA_SUBJECT: '{type}-value' },
  )
  expect((await send(order({ total: 1 }))).status).toBe(202)
  expect((await send(order({}))).status).toBe(422)
})

test('an event that is too large is refused for that, and its data is not looked at', async () => {
  const { send } = await checkingProducer({}, { [ORDER]: [V1] }, { MAX_EVENT_BYTES: '2000' })
  expect((await send(order({ note: 'x'.repeat(3_000) }))).status).toBe(413)
})

test('a number beyond what JavaScript has is stored as it came', async () => {
  const { post, stored } = await checkingProducer()
  const { status } = await post('{"type":"order.placed","data":{"total":12345678901234567890}}')
  expect([status, stored()]).toEqual([202, [[urn(1), `${ORDER}/1`]]])
})

test.each<[string, Declared, string[]]>([
  ['a stream that there is not', {}, ['schemas of default names the stream other, which it does not have']],
])('%s is a fault of the tenants file', (_, declared, faults) => {
  expect(
    tenantsFaults({ tenants: { default: { streams: ['events'], keys: [], schemas: { other: declared } } } }),
  ).toEqual(faults)
})

test('what is not a way to check is a fault of the tenants file', () => {
  const file = { tenants: { default: { streams: ['events'], keys: [], schemas: { events: { check: 'strict' } } } } }
  expect(tenantsFaults(file)).toEqual([expect.stringContaining('one of off, warn, enforce')])
})
