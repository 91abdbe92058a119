import { describe, expect, test } from 'bun:test'
import { parseRecord } from './scan.ts'

/** A line as kcat prints it, read as Latin-1. */
const line = (fields: object): string =>
  Buffer.from(
    JSON.stringify({
      topic: 't',
      partition: 1,
      offset: 2,
      tstype: 'create',
      ts: 3,
      key: null,
      payload: '{}',
      ...fields,
    }),
  ).toString('latin1')

const event = ['ce_specversion', '1.0', 'ce_type', 't', 'ce_source', '/s', 'ce_id', 'ä']

describe('a record that kcat printed', () => {
  test('is known by the source and id in its headers, and by its key, in UTF-8', () => {
    expect(parseRecord(line({ headers: event, key: 'schlüssel' }))).toMatchObject({
      partition: 1,
      offset: 2,
      timestampMs: 3,
      key: 'schlüssel',
      event: { source: '/s', id: 'ä' },
    })
  })

  test('is no event without what every event has', () => {
    expect(parseRecord(line({})).event).toBeUndefined()
    for (const missing of [0, 2, 4, 6])
      expect(
        parseRecord(line({ headers: event.filter((_, at) => at !== missing && at !== missing + 1) })).event,
      ).toBeUndefined()
  })

  test('has the content of its dead letter, which differs by what was added alone', () => {
    const original = parseRecord(line({ headers: event }))
    const added = ['kt-attempt', '3', 'kt-error', '{}', 'kt-origin', 'kt.t.s/1/2']
    expect(parseRecord(line({ headers: [...event, ...added] }))).toMatchObject({
      content: original.content,
      origin: 'kt.t.s/1/2',
    })
    for (const change of [
      { headers: [...event, 'other', 'x'] },
      { headers: event, payload: '{ }' },
      { headers: event, key: '' },
    ])
      expect(parseRecord(line(change)).content).not.toBe(original.content)
  })

  test('was redriven as often as its last header of that name says', () => {
    const generation = (...values: (string | null)[]) =>
      parseRecord(line({ headers: [...event, ...values.flatMap((value) => ['kt-generation', value])] })).generation
    expect([generation(), generation('1'), generation('2147483647'), generation('1', '2')]).toEqual([
      0, 1, 2147483647, 2,
    ])
    for (const odd of ['0', '01', '-1', '1e9', '2147483648', '9'.repeat(400), '', null])
      expect([generation(odd), generation('1', odd)]).toEqual([0, 0])
  })

  test('has the content of its dead letter also when it is redriven', () => {
    const original = parseRecord(line({ headers: event }))
    expect(original).toMatchObject({ redrivenFrom: undefined, edited: false })
    const redrive = [
      'kt-generation',
      '1',
      'kt-redriven-from',
      'kt.t.s.dlq/1/2',
      'kt-edited',
      null,
      'kt-received-at',
      '1',
    ]
    expect(parseRecord(line({ headers: [...event, ...redrive, 'kt-attempts', '[]'] }))).toMatchObject({
      content: original.content,
      redrivenFrom: 'kt.t.s.dlq/1/2',
      edited: true,
      receivedAt: '1',
    })
  })

  test('tells bytes apart that are not UTF-8', () => {
    const raw = (byte: string) => `{"partition":0,"offset":0,"ts":0,"key":null,"payload":"a${byte}"}`
    expect(parseRecord(raw('\xff')).value).not.toBe(parseRecord(raw('\xfe')).value)
  })

  test('tells no value from an empty one', () => {
    expect(parseRecord(line({ payload: null })).value).not.toBe(parseRecord(line({ payload: '' })).value)
  })

  test('passed through unless its context names a handler', () => {
    const context = (json: string) => parseRecord(line({ headers: [...event, 'kt-context', json] })).passedThrough
    expect(context('{"tenant":"t"}')).toBe(true)
    expect(context('{"tenant":"t","handler":"a@1"}')).toBe(false)
  })
})
