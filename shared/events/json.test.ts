import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { outlineJson, stringAt } from './json.ts'

const LIMITS = { maxDepth: 64, maxElements: 1_000, maxMembers: 1_000, maxObjectMembers: 500 }
const outline = (text: string | Buffer, limits = LIMITS) =>
  outlineJson(typeof text === 'string' ? Buffer.from(text, 'utf8') : text, limits)

/** Whether `JSON.parse` accepts the text. */
const isJson = (text: string): boolean => {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

describe('the JSON scanner', () => {
  test('lists the members of an object with the bytes of their values', () => {
    const text = Buffer.from(' {"a" : 1.50e+2 , "b":{"x":[1,2]},"c":"\\u00e9\\n","d":null} ')
    const result = outlineJson(text, LIMITS)
    if (!result.ok || result.outline.root !== 'object') throw new Error('not an object')
    expect(result.outline.members.map((m) => [m.name, m.kind, text.toString('utf8', m.start, m.end)])).toEqual([
      ['a', 'number', '1.50e+2'],
      ['b', 'object', '{"x":[1,2]}'],
      ['c', 'string', '"\\u00e9\\n"'],
      ['d', 'null', 'null'],
    ])
    const c = result.outline.members[2]
    if (c === undefined) throw new Error('no c')
    expect(stringAt(text, c)).toBe('é\n')
  })

  test('takes what JSON.parse takes, whatever value was written', () => {
    fc.assert(
      fc.property(fc.json({ stringUnit: 'binary' }), fc.integer({ min: 0, max: 4 }), (text, indent) => {
        const spaced = JSON.stringify(JSON.parse(text), null, indent)
        expect(outline(spaced).ok).toBe(true)
      }),
      { numRuns: 200 },
    )
  })

  test('finds every member’s value as JSON.parse does', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue()), (object) => {
        const bytes = Buffer.from(JSON.stringify(object))
        const result = outlineJson(bytes, LIMITS)
        if (!result.ok || result.outline.root !== 'object') throw new Error('not an object')
        const found = result.outline.members.map((m) => [m.name, JSON.parse(bytes.toString('utf8', m.start, m.end))])
        expect(found).toEqual(Object.entries(JSON.parse(bytes.toString()) as object))
      }),
      { numRuns: 100 },
    )
  })

  test('agrees with JSON.parse on texts that were damaged at one place', () => {
    const damaged = fc
      .tuple(
        fc.json({ maxDepth: 3 }),
        fc.nat(),
        fc.constantFrom(
          '',
          '"',
          '\\',
          '{',
          '}',
          '[',
          ']',
          ',',
          ':',
          '0',
          '-',
          '.',
          'e',
          '+',
          'u',
          't',
          ' ',
          '\n',
          '\u0001',
        ),
        fc.nat({ max: 2 }),
      )
      .map(([text, seed, put, cut]) => {
        const at = seed % (text.length + 1)
        return text.slice(0, at) + put + text.slice(at + cut)
      })
    let refused = 0
    fc.assert(
      fc.property(damaged, (text) => {
        const ours = outline(text)
        // JSON.parse accepts duplicate names; this is the only difference.
        if (!ours.ok && ours.fault.detail.includes('given twice')) return
        if (!ours.ok) refused++
        expect(ours.ok).toBe(isJson(text))
      }),
      { numRuns: 200 },
    )
    expect(refused).toBeGreaterThan(100)
  })

  test.each([
    ['a single quote', "{'a':1}"],
    ['NaN', '{"a":NaN}'],
    ['Infinity', '[Infinity]'],
    ['-Infinity', '[-Infinity]'],
    ['a leading zero', '[01]'],
    ['a bare minus', '[-]'],
    ['a leading plus', '[+1]'],
    ['a trailing point', '[1.]'],
    ['hexadecimal', '[0x10]'],
    ['a trailing comma in an object', '{"a":1,}'],
    ['a trailing comma in an array', '[1,]'],
    ['a trailing comma deep down', '{"a":{"b":1,}}'],
    ['a trailing comma in a deep array', '{"a":[1,]}'],
    ['two values', '{} {}'],
    ['nothing', ''],
    ['only space', ' \n'],
    ['a comment', '{}//x'],
    ['a raw line feed in a string', '{"a":"\n"}'],
    ['a bad escape', '{"a":"\\x"}'],
    ['a short unicode escape', '{"a":"\\u12g4"}'],
    ['an open string', '{"a":"b'],
    ['an open object', '{"a":1'],
    ['a byte order mark', '\ufeff{}'],
    ['a form feed as space', '\f{}'],
    ['undefined', '{"a":undefined}'],
    ['a cut word', '[tru]'],
  ])('refuses %s', (_, text) => {
    expect(outline(text)).toMatchObject({ ok: false, fault: { reason: 'syntax' } })
    expect(isJson(text)).toBe(false)
  })

  test('agrees with JSON.parse on long strings, wherever in them something has to be looked at', () => {
    const pieces = ['\\"', '\\\\', '\\n', '\\u00e9', '\\x', '\\u12', '\n', '\0', '\x1f', '"', 'é', '\\', '']
    for (const piece of pieces)
      for (let before = 0; before < 80; before++)
        for (const after of [0, 1, 100]) {
          const text = `{"data":"${'x'.repeat(before)}${piece}${'y'.repeat(after)}"}`
          expect(outline(text).ok, JSON.stringify(text)).toBe(isJson(text))
        }
  })

  test('refuses bytes that are not UTF-8', () => {
    for (const bytes of [[0xff], [0xc0, 0xa0], [0xed, 0xa0, 0x80], [0xf5, 0x80, 0x80, 0x80]])
      expect(outline(Buffer.concat([Buffer.from('{"a":"'), Buffer.from(bytes), Buffer.from('"}')])).ok).toBe(false)
  })

  test('refuses a member that is given twice, also when the names are written differently', () => {
    expect(outline('{"id":"1","id":"2"}').ok).toBe(false)
    expect(outline('{"id":"1","\\u0069d":"2"}').ok).toBe(false)
    expect(outline('[{"id":"1","id":"2"}]').ok).toBe(false)
    const many = Array.from({ length: 40 }, (_, i) => `"m${i}":0`).join(',')
    expect(outline(`{${many}}`).ok).toBe(true)
    expect(outline(`{${many},"m39":1}`).ok).toBe(false)
    expect(outline(`{${many},"m3":1}`).ok).toBe(false)
  })

  test('says where something is wrong, never what stands there: faults are logged, payloads are not', () => {
    for (const text of [
      '{"s3cret":1,"s3cret":2}',
      '[{"s3cret":1,"s3cret":2}]',
      '{"s3cret":1,s3cret}',
      '{"a":s3cret}',
      '{"a":"s3cret',
    ])
      expect(outline(text)).toMatchObject({
        ok: false,
        fault: { detail: expect.not.stringContaining('s3cret') },
      })
  })

  test('leaves twice-given members inside of data alone: data is the sender’s', () => {
    expect(outline('{"data":{"a":1,"a":2}}').ok).toBe(true)
  })

  test('counts levels, and stops at the limit without using up the stack', () => {
    const nested = (levels: number) => '['.repeat(levels) + ']'.repeat(levels)
    expect(outline(nested(64)).ok).toBe(true)
    expect(outline(nested(65))).toMatchObject({ ok: false, fault: { reason: 'too deep' } })
    expect(outline(`{"a":${nested(63)}}`).ok).toBe(true)
    expect(outline(`{"a":${nested(64)}}`)).toMatchObject({ ok: false, fault: { reason: 'too deep' } })
    expect(outline('['.repeat(1_000_000))).toMatchObject({ ok: false, fault: { reason: 'too deep' } })
    expect(outline('{"a":'.repeat(1_000_000))).toMatchObject({ ok: false, fault: { reason: 'too deep' } })
    // Closed levels do not count.
    expect(outline(`[${Array(200).fill(nested(2)).join(',')}]`, { ...LIMITS, maxDepth: 3, maxElements: 200 }).ok).toBe(
      true,
    )
  })

  test('counts the elements of the outermost array only', () => {
    expect(outline('[1,2,3]', { ...LIMITS, maxElements: 3 }).ok).toBe(true)
    expect(outline('[1,2,3,4]', { ...LIMITS, maxElements: 3 })).toMatchObject({ fault: { reason: 'too many' } })
    expect(outline('[[1,2,3,4]]', { ...LIMITS, maxElements: 3 }).ok).toBe(true)
  })

  test('counts the members that are listed, of all objects together', () => {
    const limits = { ...LIMITS, maxMembers: 3 }
    const members = (count: number) => `{${Array.from({ length: count }, (_, i) => `"m${i}":{"deeper":1,"is":2}`)}}`
    expect(outline(members(3), limits).ok).toBe(true)
    expect(outline(members(4), limits)).toMatchObject({ fault: { reason: 'too many members' } })
    expect(outline(`[${members(1)},${members(2)}]`, limits).ok).toBe(true)
    expect(outline(`[${members(2)},${members(2)}]`, limits)).toMatchObject({ fault: { reason: 'too many members' } })
    const each = { ...LIMITS, maxObjectMembers: 3 }
    expect(outline(`[${members(3)},${members(3)}]`, each).ok).toBe(true)
    expect(outline(`[${members(3)},${members(4)}]`, each)).toMatchObject({ fault: { reason: 'too many members' } })
  })

  test('says what a byte order mark is', () => {
    expect(outline('\ufeff{}')).toMatchObject({
      fault: { reason: 'syntax', detail: 'a byte order mark (EF BB BF) stands before the text: leave it out (byte 0)' },
    })
    for (const utf16 of [Buffer.from('\ufeff{}', 'utf16le'), Buffer.from('\ufeff{}', 'utf16le').swap16()])
      expect(outline(utf16)).toMatchObject({
        fault: { detail: 'the text is not valid UTF-8: it begins with the byte order mark of UTF-16' },
      })
  })

  test('never says what stands in the text', () => {
    const result = outline('{"password":"hunter2"x}')
    expect(JSON.stringify(result)).not.toContain('hunter2')
  })
})
