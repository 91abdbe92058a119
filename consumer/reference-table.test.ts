import { afterEach, beforeEach, describe, expect, test } from 'bun:test'
import { mkdtemp, rename, rm, symlink, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import fc from 'fast-check'
import type { Event } from '../shared/events/event.ts'
import {
  REFERENCE_TABLE_MAX_BYTES,
  REFERENCE_TABLE_MAX_ROW_BYTES,
  REFERENCE_TABLE_POLL_MS,
  ReferenceTable,
  referenceTableVariables,
} from './reference-table.ts'

const EVENT: Event = { id: 'i', source: '/s', type: 't', extensions: { region: 'eu' }, data: null }

let directory = ''
const tables: ReferenceTable[] = []

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'kafkatrace-table-'))
})
afterEach(async () => {
  for (const table of tables.splice(0)) table.stop()
  await rm(directory, { recursive: true, force: true })
})

/** A table over a file with this content, and everything that it reports. */
async function open(name: string, content: string | Uint8Array | undefined, keyColumn = 'key', attribute = 'subject') {
  const file = join(directory, name)
  if (content !== undefined) await writeFile(file, content)
  const reports: string[] = []
  const statuses: string[] = []
  const table = new ReferenceTable({
    file,
    keyColumn,
    attribute,
    loaded: (rows) => void reports.push(`loaded ${rows}`),
    rejected: (reason) => void reports.push(reason),
    lookedUp: (status) => void statuses.push(status),
  })
  tables.push(table)
  await table.start()
  const find = (key: string) => table.find({ ...EVENT, subject: key })
  const get = (key: string): unknown => {
    const result = find(key)
    return result?.status === 'found' ? result.value : undefined
  }
  return { table, file, reports, statuses, find, get }
}

/** Waits for the table's next report. */
async function nextReport(reports: readonly string[], count: number): Promise<string | undefined> {
  const deadline = performance.now() + 20 * REFERENCE_TABLE_POLL_MS
  while (reports.length < count && performance.now() < deadline) await Bun.sleep(5)
  return reports[count - 1]
}

describe('reading', () => {
  test('CSV with quotes, line breaks in a field, CRLF and a byte order mark', async () => {
    const content = '\ufeffkey,name,note\r\na,"Ärger, Ltd","two\r\nlines"\r\nb,"say ""hi""",\r\n'
    const { get, reports } = await open('t.csv', content)
    expect(reports).toEqual(['loaded 2'])
    expect(get('a')).toEqual({ key: 'a', name: 'Ärger, Ltd', note: 'two\r\nlines' })
    expect(get('b')).toEqual({ key: 'b', name: 'say "hi"', note: '' })
    expect(get('c')).toBeUndefined()
  })

  test('JSON, whose keys may be numbers and whose values may be anything', async () => {
    const { get } = await open('t.json', '[{"id":7,"tags":["x"],"more":{"deep":true}},{"id":"a"}]', 'id')
    expect(get('7')).toEqual({ id: 7, tags: ['x'], more: { deep: true } })
    expect(get('a')).toEqual({ id: 'a' })
  })

  test('gives rows that nobody can change', async () => {
    const { get } = await open('t.json', '[{"key":"a","more":{"deep":[1]}}]')
    const row = get('a') as { more: { deep: number[] } }
    expect(() => row.more.deep.push(2)).toThrow()
    expect(() => Object.assign(row, { key: 'b' })).toThrow()
  })

  test('names that mean something to JavaScript are names like any other', async () => {
    const { get } = await open('t.csv', 'key,constructor\n__proto__,x\n')
    expect(get('__proto__')).toEqual({ key: '__proto__', constructor: 'x' } as never)
    expect(get('constructor')).toBeUndefined()
    expect(get('toString')).toBeUndefined()
  })

  test('whatever is written as RFC 4180 says comes back, though the file is read in slices', async () => {
    const field = fc.string({ unit: fc.constantFrom('a', 'é', '"', ',', '\n', '\r', ' ', '😀'), maxLength: 6 })
    const quoted = (value: string) => `"${value.replaceAll('"', '""')}"`
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(field, field), { minLength: 1, maxLength: 20 }), async (fields) => {
        // Large enough for several slices of 64 KiB.
        const wide = '😀'.repeat(2000)
        const rows = fields.map(([a, b], index) => ({ key: `k${index}`, a, b: `${b}${wide}` }))
        const lines = rows.map((row) => [row.key, row.a, row.b].map(quoted).join(','))
        const { get, reports } = await open('p.csv', ['key,a,b', ...lines].join('\r\n'))
        expect(reports).toEqual([`loaded ${rows.length}`])
        for (const row of rows) expect(get(row.key)).toEqual(row)
      }),
      { numRuns: 25 },
    )
  })
})

describe('a file that cannot be used is rejected with the reason', () => {
  const cases: [name: string, content: string | Uint8Array | undefined, reason: RegExp][] = [
    ['missing.csv', undefined, /ENOENT/],
    ['columns.csv', 'key,a\nx,1,2\n', /columns\.csv is not CSV: .*line 2/],
    ['open.csv', 'key,a\n"x,1\n', /Quote Not Closed/],
    ['twice.csv', 'key,a\nx,1\nx,2\n', /twice\.csv, row 2: the key "x" is there twice/],
    ['header.csv', 'key,a,a\nx,1,2\n', /the column "a" is there twice/],
    ['unnamed.csv', 'key,\nx,1\n', /a column has no name/],
    ['other.csv', 'id,a\nx,1\n', /row 1: has no key in column "key"/],
    ['empty-key.csv', 'key,a\n,1\n', /row 1: has no key/],
    ['latin1.csv', Buffer.from('key,a\nx,\xe9\n', 'latin1'), /not CSV/],
    ['wide.csv', `key,a\nx,${'y'.repeat(REFERENCE_TABLE_MAX_ROW_BYTES)}\n`, /row 1: is over 16384 bytes/],
    ['large.csv', new Uint8Array(REFERENCE_TABLE_MAX_BYTES + 1), /the limit is 16777216/],
    ['broken.json', '[{"key":', /broken\.json is not JSON/],
    ['object.json', '{"key":"a"}', /is not a JSON array/],
    ['scalar.json', '[1]', /row 1: is not an object/],
    ['list.json', '[["key"]]', /row 1: is not an object/],
    ['keyless.json', '[{"key":"a"},{"key":null}]', /row 2: has no key/],
  ]
  for (const [name, content, reason] of cases)
    test(name, async () => {
      const { reports, statuses, find } = await open(name, content)
      expect(reports).toEqual([expect.stringMatching(reason)])
      expect(find('x')).toEqual({ status: 'unavailable', reason: expect.stringMatching(reason) })
      expect(statuses).toEqual(['unavailable'])
    })
})

describe('when the file changes', () => {
  test('the new one is used, whether it was written over or renamed into place', async () => {
    const { file, get, reports } = await open('t.csv', 'key,a\nx,1\n')
    await writeFile(file, 'key,a\nx,2\n')
    expect(await nextReport(reports, 2)).toBe('loaded 1')
    expect(get('x')).toEqual({ key: 'x', a: '2' })

    await writeFile(`${file}.new`, 'key,a\nx,3\n')
    await rename(`${file}.new`, file)
    expect(await nextReport(reports, 3)).toBe('loaded 1')
    expect(get('x')).toEqual({ key: 'x', a: '3' })
  })

  test('a link that leads elsewhere is followed, as in a mounted ConfigMap', async () => {
    await writeFile(join(directory, 'one'), 'key\nx\n')
    await writeFile(join(directory, 'two'), 'key\nx\ny\n')
    await symlink(join(directory, 'one'), join(directory, 't.csv'))
    const { file, reports } = await open('t.csv', undefined)
    await symlink(join(directory, 'two'), join(directory, 'link'))
    await rename(join(directory, 'link'), file)
    expect(await nextReport(reports, 2)).toBe('loaded 2')
  })

  test('a bad one, or none, leaves the last good table in use and is told once', async () => {
    const { file, get, reports } = await open('t.csv', 'key,a\nx,1\n')
    await writeFile(file, 'key,a\nx\n')
    expect(await nextReport(reports, 2)).toMatch(/not CSV/)
    await unlink(file)
    expect(await nextReport(reports, 3)).toMatch(/ENOENT/)
    expect(get('x')).toEqual({ key: 'x', a: '1' })
    await writeFile(file, 'key,a\nx,4\n')
    expect(await nextReport(reports, 4)).toBe('loaded 1')
    expect(get('x')).toEqual({ key: 'x', a: '4' })
    expect(reports.length).toBe(4)
  })

  test('one that was not there at the start is used once it is', async () => {
    const { file, get, reports } = await open('t.csv', undefined)
    await writeFile(file, 'key\nx\n')
    expect(await nextReport(reports, 2)).toBe('loaded 1')
    expect(get('x')).toEqual({ key: 'x' })
  })
})

test('the key is the named attribute of the event, of the specification or an extension', async () => {
  const find = async (attribute: string) => {
    const { table, statuses } = await open('t.csv', 'key\n/s\neu\n', 'key', attribute)
    const found = table.find(EVENT)
    expect(statuses).toEqual(found === undefined ? [] : [found.status])
    return found
  }
  expect(await find('source')).toEqual({ status: 'found', value: { key: '/s' } })
  expect(await find('region')).toEqual({ status: 'found', value: { key: 'eu' } })
  expect(await find('type')).toEqual({ status: 'missing' })
  expect(await find('subject')).toBeUndefined()
  expect(await find('constructor')).toBeUndefined()
})

test('a large table does not stop everything else while it is read', async () => {
  const lines = Array.from({ length: 60_000 }, (_, index) => `key-${index},"some text, quoted",more text ${index}`)
  const content = ['key,a,b', ...lines].join('\n')
  let turns = 0
  const beat = setInterval(() => turns++, 0)
  const { reports } = await open('t.csv', content)
  clearInterval(beat)
  expect(reports).toEqual(['loaded 60000'])
  expect(turns).toBeGreaterThan(10)
})

test('the variables take what a table can be opened with, and nothing else', () => {
  const file = TypeCompiler.Compile(referenceTableVariables.REFERENCE_TABLE_FILE)
  expect(file.Check('/etc/t.csv')).toBe(true)
  expect(file.Check('/etc/t.xlsx')).toBe(false)
  expect(TypeCompiler.Compile(referenceTableVariables.REFERENCE_TABLE_ATTRIBUTE).Check('Sub-ject')).toBe(false)
})
