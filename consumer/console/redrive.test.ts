import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { headerText } from '../../shared/events/headers.ts'
import type { IncomingRecord, OutgoingRecord } from '../../shared/events/record.ts'
import { type Problem, ProblemError } from '../../shared/http/problem.ts'
import type { RangeReader } from '../../shared/kafka/types.ts'
import { FakeKafka } from '../../shared/testing/fake-kafka.ts'
import { fitOf, registerVersions, type Versions } from '../handlers/versions.ts'
import { budgetOf, consoleOn, type Given, incoming, outgoing } from '../testing/console.ts'
import type { Acts, Decision } from './acts.ts'
import { ActsState, type Edit } from './acts-log.ts'
import { actOnOne } from './jobs.ts'
import { jsonOf } from './json.ts'
import { originalOf } from './original.ts'
import type { Readers } from './readers.ts'
import { redriveRecord } from './redrive.ts'
import { MASK } from './view.ts'

const INPUT = 'kt.acme.events'
const NOW_MS = 1_700_000_000_000

const letterOf = (given: Given = {}) =>
  incoming({
    topic: `${INPUT}.dlq`,
    partition: 1,
    offset: 5,
    timestampMs: NOW_MS,
    key: 'k',
    ...given,
    headers: {
      'kt-error': '{"reason":"handler failed","message":"no"}',
      'kt-origin': `${INPUT}/1/4`,
      'kt-attempt': '3',
      'kt-attempts': '[]',
      'kt-transaction': 't-1',
      'kt-received-at': String(NOW_MS - 1_000),
      'kt-tenant': 'acme',
      traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
      ...given.headers,
    },
  })

function redrive(given: Given = {}, edit?: Edit, redact: readonly string[] = []) {
  const letter = letterOf(given)
  return redriveRecord({ input: INPUT, redact }, letter, letter, edit, NOW_MS)
}

const json = ({ value }: OutgoingRecord): string | undefined => value?.toString()
const all = ({ headers: { names, values } }: OutgoingRecord) => names.map((name, index) => [name, values[index]])

function problemOf(run: () => unknown): Problem {
  try {
    run()
  } catch (error) {
    if (error instanceof ProblemError) return error.problem
    throw error
  }
  throw new Error('it was accepted')
}

describe('a redrive', () => {
  test('is the event as it was, in its partition and with its key, as the next generation', () => {
    const { record, generation } = redrive()
    expect(generation).toBe(1)
    expect(record).toMatchObject({ topic: INPUT, partition: 1, value: Buffer.from('{"n":1}') })
    expect(record.key?.toString()).toBe('k')
    expect(all(record)).toEqual([
      ['ce_specversion', '1.0'],
      ['ce_id', 'e1'],
      ['ce_source', '/s'],
      ['ce_type', 'order.placed'],
      ['content-type', 'application/json'],
      ['kt-tenant', 'acme'],
      ['traceparent', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'],
      ['kt-received-at', String(NOW_MS)],
      ['kt-generation', '1'],
      ['kt-redriven-from', `${INPUT}.dlq/1/5`],
    ])
  })

  test('of a redrive replaces what the first one had added', () => {
    const { record, generation } = redrive({
      headers: { 'kt-generation': '1', 'kt-redriven-from': `${INPUT}.dlq/1/2`, 'kt-edited': '1' },
    })
    expect(generation).toBe(2)
    expect(all(record).filter(([name]) => String(name).startsWith('kt-'))).toEqual([
      ['kt-tenant', 'acme'],
      ['kt-received-at', String(NOW_MS)],
      ['kt-generation', '2'],
      ['kt-redriven-from', `${INPUT}.dlq/1/5`],
    ])
    expect(headerText(redrive({ headers: { 'kt-edited': '1' } }, { type: 'x' }).record.headers, 'kt-edited')).toBe('1')
  })

  test('counts a generation that is not written as ours as 0', () => {
    expect(redrive({ headers: { 'kt-generation': '01' } }).generation).toBe(1)
  })

  test('of what is no event sends it unchanged, and cannot edit it', () => {
    const { record } = redrive({ id: null, value: 'broken', headers: { odd: Buffer.from([0xff]) } })
    expect(json(record)).toBe('broken')
    expect(all(record)).toContainEqual(['odd', Buffer.from([0xff])])
    expect(problemOf(() => redrive({ id: null, value: 'broken' }, { type: 'x' })).kind).toBe('invalid-edit')
  })
})

describe('an edit', () => {
  test('changes the type, the schema and the data, and leaves the identity, the key and the partition', () => {
    const given = { headers: { ce_dataschema: 'https://example.com/a', ce_subject: 'sub' } }
    const { record } = redrive(given, {
      type: 'order.fixed',
      dataschema: 'https://example.com/b',
      data: { fixed: true },
    })
    const header = (name: string) => headerText(record.headers, name)
    expect(['ce_id', 'ce_source', 'ce_type', 'ce_dataschema', 'ce_subject', 'kt-edited'].map(header)).toEqual([
      'e1',
      '/s',
      'order.fixed',
      'https://example.com/b',
      'sub',
      '1',
    ])
    expect(json(record)).toBe('{"fixed":true}')
    expect(record.partition).toBe(1)
    expect(record.key?.toString()).toBe('k')
    expect(redrive(given, { dataschema: null }).record.headers.names).not.toContain('ce_dataschema')
    expect(json(redrive({}, {}).record)).toBe('{"n":1}')
  })

  test('drops the version that the data were checked by, which a redrive without one keeps', () => {
    const urn = 'urn:kafkatrace:schema:acme.events-t:2'
    const given = { headers: { 'kt-schema': 'acme.events-t/2', ce_dataschema: urn } }
    const said = (edit?: Edit) => {
      const { headers } = redrive(given, edit).record
      return [headerText(headers, 'kt-schema'), headerText(headers, 'ce_dataschema')]
    }
    expect(said()).toEqual(['acme.events-t/2', urn])
    expect(said({ data: { n: 2 } })).toEqual([undefined, undefined])
    expect(said({ patch: [{ op: 'replace', path: '/n', value: 2 }] })).toEqual([undefined, undefined])
    expect(said({ type: 'other' })).toEqual([undefined, undefined])
    expect(said({ data: { n: 2 }, dataschema: `${urn}1` })).toEqual([undefined, `${urn}1`])
    const foreign = redrive({ headers: { ce_dataschema: 'https://example.com/a' } }, { data: 1 })
    expect(headerText(foreign.record.headers, 'ce_dataschema')).toBe('https://example.com/a')
  })

  test('is of the version that it says', () => {
    const upcasters = [{ from: 1, to: 3, up: (data: unknown) => data }]
    const takes3 = { type: 't', version: '1', versions: registerVersions(3, upcasters) as Versions }
    const given = { headers: { 'kt-schema': 'acme.events-t/3' } }
    const fit = (edit: Edit) => fitOf(takes3, redrive(given, edit).record, undefined)
    const dataschema = 'urn:kafkatrace:schema:acme.events-t:1'
    expect(fit({ data: { n: 2 }, dataschema })).toMatchObject({ kind: 'taken', raised: { version: 1, takes: 3 } })
    expect(fit({ data: { n: 2 } })).toEqual({ kind: 'taken' })
  })

  test('of a structured event makes one in binary mode', () => {
    const event = { specversion: '1.0', id: 's1', source: '/s', type: 't', ext: 'x', data: { a: 1 } }
    const { record } = redrive(
      {
        id: null,
        headers: { 'content-type': 'application/cloudevents+json', other: 'kept' },
        value: JSON.stringify(event),
      },
      { patch: [{ op: 'replace', path: '/a', value: 2 }] },
    )
    expect(json(record)).toBe('{"a":2}')
    expect(all(record)).toEqual(
      expect.arrayContaining([
        ['ce_id', 's1'],
        ['ce_ext', 'x'],
        ['other', 'kept'],
      ]),
    )
    expect(headerText(record.headers, 'content-type')).not.toContain('cloudevents')
  })

  test('by data keeps the digits of numbers, and makes the data JSON', () => {
    const data = jsonOf('{"n":12345678901234567890,"f":1.0}')?.value
    const { record } = redrive({ value: 'text', headers: { 'content-type': 'text/plain' } }, { data })
    expect(json(record)).toBe('{"n":12345678901234567890,"f":1.0}')
    expect(headerText(record.headers, 'content-type')).toBe('application/json')
    expect(json(redrive({}, { data: null }).record)).toBe('null')
  })

  test.each([
    ['{"a":{"b":[1,2]}}', [{ op: 'replace', path: '/a/b/0', value: 9 }], '{"a":{"b":[9,2]}}'],
    [
      '{"a":1}',
      [
        { op: 'add', path: '/b', value: { c: null } },
        { op: 'remove', path: '/a' },
      ],
      '{"b":{"c":null}}',
    ],
    [
      '{"a":[1]}',
      [
        { op: 'add', path: '/a/-', value: 2 },
        { op: 'move', from: '/a', path: '/b' },
      ],
      '{"b":[1,2]}',
    ],
    [
      '{"a":1}',
      [
        { op: 'test', path: '/a', value: 1 },
        { op: 'copy', from: '/a', path: '/b' },
      ],
      '{"a":1,"b":1}',
    ],
    ['{"a":1}', [{ op: 'replace', path: '', value: [] }], '[]'],
    ['{"a/b":{"~":1}}', [{ op: 'replace', path: '/a~1b/~0', value: 2 }], '{"a/b":{"~":2}}'],
    ['{"value":{"value":1}}', [{ op: 'replace', path: '/value/value', value: 2 }], '{"value":{"value":2}}'],
    [
      '{"a":0.1,"b":-123456789012345,"c":1e300,"d":0.0,"e":9007199254740993000}',
      [],
      '{"a":0.1,"b":-123456789012345,"c":1e300,"d":0.0,"e":9007199254740993000}',
    ],
  ] as [string, NonNullable<Edit['patch']>, string][])('by patch: %s with %j', (value, patch, expected) => {
    expect(json(redrive({ value }, { patch }).record)).toBe(expected)
  })

  test.each(['12345678901234567890', '0.1000000000000000055511151231257827', '1e400', '1e-400', '1.0'])(
    'by patch keeps the digits of the number %s, in the data and in the patch',
    (number) => {
      const patch: Edit['patch'] = [{ op: 'add', path: '/b', value: jsonOf(number)?.value }]
      expect(json(redrive({ value: `{"a":[${number}]}` }, { patch }).record)).toBe(`{"a":[${number}],"b":${number}}`)
    },
  )

  test('by patch takes every number that it can write back with the same value', () => {
    fc.assert(
      fc.property(fc.oneof(fc.double({ noNaN: true, noDefaultInfinity: true }), fc.integer()), (number) => {
        const value = JSON.stringify([number])
        const isNormal = number === 0 || Math.abs(number) >= 2 ** -1022
        if (!isNormal) return
        const { record } = redrive({ value }, { patch: [{ op: 'add', path: '/-', value: number }] })
        expect(JSON.parse(json(record) ?? '')).toEqual(
          JSON.parse(`[${JSON.stringify(number)},${JSON.stringify(number)}]`),
        )
      }),
    )
  })

  test('by patch that does not apply names the operation, and never fails otherwise', () => {
    const refused = (patch: Edit['patch'], value: string | null = '{"a":"text","n":1}') =>
      problemOf(() => redrive({ value }, { patch: patch ?? [] }))
    const wrong: NonNullable<Edit['patch']> = [
      { op: 'replace', path: '/nope', value: 1 },
      { op: 'remove', path: '/x/y' },
      { op: 'test', path: '/a', value: 'other' },
      { op: 'add', path: '/a/b', value: 1 },
      { op: 'remove', path: '/a/0' },
      { op: 'replace', path: '/n/x', value: 1 },
      { op: 'add', path: 'b', value: 1 },
      { op: 'move', path: '/b', from: 'a' },
      { op: 'add', path: '/b' },
      { op: 'move', path: '/b' },
    ]
    for (const operation of wrong)
      expect(refused([{ op: 'add', path: '/c', value: 1 }, operation]).errors?.map(({ pointer }) => pointer)).toEqual([
        '/edit/patch/1',
      ])
    expect(refused([], 'no JSON').kind).toBe('invalid-edit')
    expect(refused([{ op: 'replace', path: '', value: 1 }], null).errors).toHaveLength(1)
  })

  test('by patch does not reach what objects inherit', () => {
    for (const path of ['/__proto__/polluted', '/constructor/prototype/polluted', '/toString/polluted'])
      problemOf(() => redrive({}, { patch: [{ op: 'add', path, value: 1 }] }))
    expect({}).not.toHaveProperty('polluted')
    expect(Object.prototype.toString).not.toHaveProperty('polluted')
  })

  test('keeps the patch as it was given', () => {
    const patch: NonNullable<Edit['patch']> = [
      { op: 'add', path: '/b', value: { c: 1 } },
      { op: 'add', path: '/b/d', value: 2 },
    ]
    redrive({}, { patch })
    expect(patch[0]?.value).toEqual({ c: 1 })
  })

  test('gives data or a patch, and leaves a valid event', () => {
    expect(problemOf(() => redrive({}, { data: 1, patch: [] })).errors).toEqual([
      { pointer: '/edit/patch', detail: 'is given beside data' },
    ])
    expect(problemOf(() => redrive({}, { type: 'a\nb' })).errors?.[0]?.pointer).toBe('/edit/type')
    expect(problemOf(() => redrive({}, { dataschema: 'https://example.com/a#b' })).errors?.[0]?.pointer).toBe(
      '/edit/dataschema',
    )
  })
})

describe('an edit of masked data', () => {
  const DATA = '{"name":"n","ssn":"s3cret","users":[{"pin":"s3cret"},{"pin":"s3cret"}]}'
  const REDACT = ['/ssn', '/users/*/pin']
  const edited = (edit: Edit, redact: readonly string[] = REDACT) => json(redrive({ value: DATA }, edit, redact).record)
  const refused = (edit: Edit, redact: readonly string[] = REDACT): Problem => {
    const problem = problemOf(() => redrive({ value: DATA }, edit, redact))
    expect(problem.kind).toBe('invalid-edit')
    expect(JSON.stringify(problem)).not.toContain('s3cret')
    return problem
  }

  test('is refused where the mask would replace a value, also below *', () => {
    for (const data of [{ ssn: MASK }, { users: [{ pin: 'new' }, { pin: MASK }] }])
      expect(refused({ data }).errors?.[0]?.pointer).toBe('/edit')
    expect(refused({ data: MASK }, ['']).errors?.[0]?.pointer).toBe('/edit')
    refused({ patch: [{ op: 'replace', path: '/users/0', value: { pin: MASK } }] })
    expect(edited({ data: { ssn: 'new', name: MASK } })).toBe(`{"ssn":"new","name":"${MASK}"}`)
  })

  test('by patch changes what shows, and may replace or remove what does not', () => {
    expect(edited({ patch: [{ op: 'replace', path: '/name', value: 'm' }] })).toBe(DATA.replace('"n"', '"m"'))
    expect(edited({ patch: [{ op: 'replace', path: '/ssn', value: 'new' }] })).toContain('"ssn":"new"')
    expect(edited({ patch: [{ op: 'remove', path: '/users/0' }] })).toContain('"users":[{"pin":"s3cret"}]')
    expect(edited({ patch: [{ op: 'remove', path: '/ssn' }] })).not.toContain('ssn')
  })

  test('by patch keeps values that lie in each other', () => {
    const value = '{"list":[{"more":"s3cret","x":1},{"more":"y"}],"n":1}'
    const redact = ['/list/0/more', '/list/*']
    const patch: Edit['patch'] = [{ op: 'replace', path: '/n', value: 2 }]
    expect(json(redrive({ value }, { patch }, redact).record)).toBe(value.replace('"n":1', '"n":2'))
  })

  test('by patch takes a text for what it is, also one that looks like a mark', () => {
    for (const value of ['masked 0', 'masked 1', 'masked'])
      expect(edited({ patch: [{ op: 'replace', path: '/ssn', value }] })).toBe(
        DATA.replace('"ssn":"s3cret"', `"ssn":"${value}"`),
      )
  })

  test.each([
    [[{ op: 'copy', from: '/ssn', path: '/name' }]],
    [[{ op: 'move', from: '/ssn', path: '/seen' }]],
    [[{ op: 'copy', from: '', path: '/all' }]],
    [[{ op: 'copy', from: '/users', path: '/all' }]],
    [[{ op: 'move', from: '/users/0', path: '/user' }]],
    [[{ op: 'test', path: '/ssn', value: 's' }]],
    [[{ op: 'test', path: '/ssn', value: MASK }]],
    [[{ op: 'test', path: '/users/0/pin', value: 'x' }]],
    [[{ op: 'test', path: '', value: {} }]],
    [[{ op: 'add', path: '/ssn/x', value: 1 }]],
  ] as [NonNullable<Edit['patch']>][])('by patch brings nothing to light: %j', (patch) => {
    refused({ patch })
  })

  test('by patch of an array does not move a masked element to where it shows', () => {
    const value = '["s3cret","t"]'
    const problem = problemOf(() => redrive({ value }, { patch: [{ op: 'add', path: '/0', value: 'x' }] }, ['/0']))
    expect(problem.kind).toBe('invalid-edit')
  })

  test('tells nothing of the value, whatever is tried', () => {
    const step = fc.constantFrom(
      '',
      '/ssn',
      '/name',
      '/users',
      '/users/0',
      '/users/0/pin',
      '/users/-',
      '/new',
      '/users/1/new',
    )
    const operation = fc.record({
      op: fc.constantFrom(
        'add' as const,
        'remove' as const,
        'replace' as const,
        'move' as const,
        'copy' as const,
        'test' as const,
      ),
      path: step,
      from: step,
      value: fc.constantFrom('x', MASK, 1, { pin: 'y' }, [{ pin: 'z' }]),
    })
    const attempt = (secret: string, patch: NonNullable<Edit['patch']>): string => {
      const value = DATA.replaceAll('s3cret', secret)
      try {
        const { record } = redrive({ value }, { patch }, REDACT)
        const data = JSON.parse(json(record) ?? 'null') as { ssn?: unknown; users?: { pin?: unknown }[] } | null
        // What a reader is shown of it.
        if (typeof data === 'object' && data !== null) {
          if (Object.hasOwn(data, 'ssn')) data.ssn = MASK
          if (Array.isArray(data.users))
            for (const user of data.users)
              if (typeof user === 'object' && user !== null && Object.hasOwn(user, 'pin')) user.pin = MASK
        }
        return JSON.stringify(data)
      } catch (error) {
        if (!(error instanceof ProblemError)) throw error
        return JSON.stringify(error.problem)
      }
    }
    fc.assert(
      fc.property(fc.array(operation, { minLength: 1, maxLength: 4 }), (patch) => {
        const shown = attempt('s3cret', patch)
        expect(shown).not.toContain('s3cret')
        expect(attempt('0ther', patch)).toBe(shown)
      }),
      { numRuns: 200 },
    )
  })
})

describe('what is sent', () => {
  const setUp = () => {
    const kafka = new FakeKafka()
    const { stream, reader, readers } = consoleOn(kafka, { partitions: 2 })
    const of = (letter: ReturnType<typeof incoming>) => originalOf(stream, letter, reader, budgetOf(), readers)
    return { kafka, stream, of }
  }
  const tooLarge = (origin: string): Given => ({
    value: null,
    headers: { 'kt-error': '{"reason":"result too large","message":"x"}', 'kt-origin': origin },
  })

  test('of a letter that was stored without its value is the original', async () => {
    const { kafka, stream, of } = setUp()
    kafka.append(outgoing({ partition: 1, id: 'before' }))
    kafka.append(outgoing({ partition: 1, key: 'own', value: '{"large":true}', headers: { 'kt-origin': 'x/0/0' } }))
    const letter = letterOf(tooLarge(`${INPUT}/1/1`))
    const original = await of(letter)
    if (original === undefined) throw new Error('there is none')
    const { record, generation } = redriveRecord(stream, letter, original, undefined, NOW_MS)
    expect(json(record)).toBe('{"large":true}')
    expect(record.key?.toString()).toBe('own')
    expect(generation).toBe(1)
    expect(headerText(record.headers, 'kt-redriven-from')).toBe(`${INPUT}.dlq/1/5`)
    expect(record.headers.names).not.toContain('kt-origin')
  })

  test('of any other letter is the letter, also one without a value', async () => {
    const { of } = setUp()
    for (const letter of [letterOf(), letterOf({ value: null })]) expect(await of(letter)).toBe(letter)
  })

  test('is nothing where the original is gone, or is of another topic', async () => {
    const { kafka, of } = setUp()
    kafka.append(outgoing({ partition: 1 }))
    kafka.append(outgoing({ partition: 1 }))
    kafka.deleteRecords({ topic: INPUT, partition: 1 }, 1)
    kafka.append(outgoing({ partition: 0 }))
    kafka.createTopic('kt.other.events').append(outgoing({ topic: 'kt.other.events' }))
    for (const origin of [
      `${INPUT}/1/0`,
      `${INPUT}/1/2`,
      `${INPUT}/2/0`,
      'kt.other.events/0/0',
      'nonsense',
      `${INPUT}/1/1/2`,
    ])
      expect(await of(letterOf(tooLarge(origin)))).toBeUndefined()
    expect(await of(letterOf(tooLarge(`${INPUT}/1/1`)))).toBeDefined()
  })
})

const EVENT = { ce_specversion: '1.0', ce_id: '1', ce_source: '/s', ce_type: 't' }

const recordOf = (topic: string, headers: Record<string, string>, value: Buffer | null): IncomingRecord => ({
  topic,
  partition: 0,
  offset: 0,
  timestampMs: 0,
  key: null,
  value,
  headers: { names: Object.keys(headers), values: Object.values(headers) },
})

/** What a redrive writes, or the kind of the problem. */
async function redriven(letter: IncomingRecord, original = recordOf('kt.t.s', EVENT, Buffer.from('1'))) {
  const decisions: Decision<unknown>[] = []
  const reader = {
    read: async (_ranges: unknown, onRecord: (one: IncomingRecord) => void) => onRecord(original),
  } as unknown as RangeReader
  const readers = {
    use: (_signal: AbortSignal, work: (one: RangeReader) => unknown) => work(reader),
    bounds: async ([at]: { partition: number }[]) => {
      if ((at?.partition ?? 0) > 0) throw new Error('no such partition')
      return [{ from: 0, to: 1 }]
    },
  } as unknown as Readers
  const acts = {
    of: () => ({
      perform: async (decide: (state: ActsState) => Promise<Decision<unknown>>) => {
        const decision = await decide(new ActsState())
        decisions.push(decision)
        return decision.result
      },
    }),
  } as unknown as Acts
  const stream = { tenant: 't', name: 's', input: 'kt.t.s', partitions: 1, redact: [] }
  const deps = { acts, readers, nowMs: () => 0, signal: new AbortController().signal, onActed: () => undefined }
  try {
    await actOnOne('redrive', stream, letter, { by: 'a', reason: undefined, caller: 't' }, undefined, {
      ...deps,
      isDeclared: () => true,
      onFault: () => undefined,
      log: undefined as never,
    })
  } catch (error) {
    if (error instanceof ProblemError) return error.problem.kind
    throw error
  }
  return String(decisions[0]?.records[0]?.value)
}

const dead = (headers: Record<string, string>, value: Buffer | null = Buffer.from('2')) =>
  recordOf('kt.t.s.dlq', { ...EVENT, ...headers }, value)

test('a letter of the last generation is not redriven, since it would count as the event itself', async () => {
  expect(await redriven(dead({ 'kt-generation': '2147483646' }))).toBe('2')
  expect(await redriven(dead({ 'kt-generation': '2147483647' }))).toBe('conflict')
})

describe('a letter without its value', () => {
  const withOrigin = (origin: string) =>
    dead({ 'kt-error': '{"reason":"result too large","message":""}', 'kt-origin': origin }, null)

  test('is redriven from its original', async () => {
    expect(await redriven(withOrigin('kt.t.s/0/0'))).toBe('1')
  })

  test('is not redriven from another event, topic, or a partition that is none', async () => {
    const other = recordOf('kt.t.s', { ...EVENT, ce_id: '2' }, Buffer.from('1'))
    expect(await redriven(withOrigin('kt.t.s/0/0'), other)).toBe('conflict')
    for (const origin of ['kt.other.s/0/0', 'kt.t.s.dlq/0/0', 'kt.t.s/1/0', 'kt.t.s/999999999/0', 'kt.t.s/0/7', ''])
      expect(await redriven(withOrigin(origin))).toBe('conflict')
  })
})
