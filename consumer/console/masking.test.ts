import { describe, expect, test } from 'bun:test'
import { NO_HEADERS, type RecordHeaders } from '../../shared/events/headers.ts'
import type { IncomingRecord } from '../../shared/events/record.ts'
import { ProblemError } from '../../shared/http/problem.ts'
import type { Edit } from './acts-log.ts'
import { FORMATS } from './names.ts'
import { redriveRecord } from './redrive.ts'
import { viewOf } from './view.ts'

const BINARY: RecordHeaders = {
  names: ['ce_specversion', 'ce_id', 'ce_source', 'ce_type', 'content-type'],
  values: ['1.0', '1', '/s', 't', 'application/json'],
}
const STRUCTURED: RecordHeaders = { names: ['content-type'], values: ['application/cloudevents+json'] }

const letter = (value: string, headers = BINARY): IncomingRecord => ({
  topic: 'kt.t.s.dlq',
  partition: 0,
  offset: 0,
  timestampMs: 0,
  key: null,
  value: Buffer.from(value),
  headers,
})

const REDACT = ['/card/number', '/items/*/secret', '/list/*', '/list/0/more']

const shown = (record: IncomingRecord, format: (typeof FORMATS)[number] = 'json') =>
  JSON.stringify(viewOf(record, { format, maxDataBytes: 1_000, redact: REDACT }).data)

describe('what is masked', () => {
  test('is shown in no format', () => {
    for (const format of FORMATS) {
      const text = shown(letter('{"card":{"number":"SECRET"},"items":[{"secret":"SECRET"}],"a":1}'), format)
      expect(text).not.toContain('SECRET')
      expect(text).not.toContain(Buffer.from('SECRET').toString('hex'))
    }
  })

  test('is not shown of a member beside one that is named *', () => {
    expect(shown(letter('{"items":{"*":{"secret":"SECRET"},"a":{"secret":"SECRET"}}}'))).not.toContain('SECRET')
  })

  test('is not shown of an event in structured mode, or of what is no event', () => {
    const event = '{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"card":{"number":"SECRET"},"a":1}}'
    expect(shown(letter(event, STRUCTURED))).toBe('{"format":"json","json":{"card":{"number":"***"},"a":1}}')
    expect(shown(letter(event, NO_HEADERS))).toContain('"format":"masked"')
    expect(shown(letter(event.replace('"type"', '"typ"'), STRUCTURED))).toContain('"format":"masked"')
  })

  test('may be a number that keeps its digits', () => {
    expect(shown(letter('{"list":1.0,"card":{"number":1.0}}'))).toContain('{"list":1.0,"card":{"number":"***"}}')
  })
})

const CARD =
  '{"card":{"number":"SECRET","holder":"h"},"items":[{"secret":"S1"},{"secret":"S2"}],"list":[{"more":1}],"a":1}'

function edited(edit: Edit, value = CARD): string {
  const stream = { input: 'kt.t.s', redact: REDACT }
  try {
    return String(redriveRecord(stream, letter(value), letter(value), edit, 0).record.value)
  } catch (error) {
    if (!(error instanceof ProblemError)) throw error
    return JSON.stringify(error.problem)
  }
}

describe('an edit', () => {
  test('changes what is not masked, and keeps what is', () => {
    const patch = [{ op: 'replace' as const, path: '/a', value: 2 }]
    expect(edited({ patch })).toBe(CARD.replace('"a":1', '"a":2'))
  })

  test('may replace or remove what is masked', () => {
    expect(edited({ patch: [{ op: 'replace', path: '/card/number', value: '1' }] })).toBe(CARD.replace('SECRET', '1'))
    expect(edited({ patch: [{ op: 'remove', path: '/items/0' }] })).toBe(CARD.replace('{"secret":"S1"},', ''))
  })

  test('does not bring what is masked to where it is shown', () => {
    const patches: NonNullable<Edit['patch']>[] = [
      [{ op: 'copy', from: '/card/number', path: '/a' }],
      [{ op: 'move', from: '/card/number', path: '/a' }],
      [{ op: 'copy', from: '/card', path: '/b' }],
      [{ op: 'copy', from: '', path: '/b' }],
      [{ op: 'move', from: '/items', path: '/b' }],
    ]
    for (const patch of patches) expect(edited({ patch })).toContain('where it would be shown')
  })

  test('does not find out what is masked', () => {
    const right = edited({ patch: [{ op: 'test', path: '/card/number', value: 'SECRET' }] })
    const wrong = edited({ patch: [{ op: 'test', path: '/card/number', value: 'other' }] })
    expect(right).toContain('is another')
    expect(wrong).toBe(right)
    expect(edited({ patch: [{ op: 'test', path: '/card', value: { number: 'SECRET', holder: 'h' } }] })).toContain(
      'is another',
    )
  })

  test('does not write the mask in place of what it hides', () => {
    expect(edited({ data: { items: [{ secret: '***' }] } })).toContain('/items/*/secret')
    expect(edited({ patch: [{ op: 'replace', path: '/card', value: { number: '***' } }] })).toContain('/card/number')
  })
})

test('times that are none are shown as the latest', () => {
  const attempts = '[{"attempt":1,"atMs":9007199254740991,"reason":"r","message":"m"}]'
  const headers = { names: [...BINARY.names, 'kt-attempts'], values: [...BINARY.values, attempts] }
  const view = viewOf(letter('{}', headers), { format: 'json', maxDataBytes: 1_000, redact: [] })
  expect(view.attempts?.[0]?.time).toBe('+275760-09-13T00:00:00.000Z')
})
