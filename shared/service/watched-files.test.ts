import { afterEach, expect, test } from 'bun:test'
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { until } from '../testing/until.ts'
import { watchFiles } from './watched-files.ts'

const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-watched-'))
let ending = new AbortController()
afterEach(() => {
  ending.abort()
  ending = new AbortController()
  rmSync(folder, { recursive: true })
  mkdirSync(folder)
})

const at = (name: string) => join(folder, name)
/** What each call saw in the file. */
async function watched(path: string): Promise<string[]> {
  const seen: string[] = []
  await watchFiles([path, at('other')], () => void seen.push(read(path)), ending.signal, 2)
  return seen
}
const read = (path: string): string => {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return 'missing'
  }
}

test('a file that is written, replaced by one of the same size, removed, and there again', async () => {
  const path = at('file')
  writeFileSync(path, 'one')
  const seen = await watched(path)
  expect(seen).toEqual(['one'])
  for (const change of [
    () => writeFileSync(path, 'two'),
    () => {
      writeFileSync(at('new'), 'six')
      renameSync(at('new'), path)
    },
    () => rmSync(path),
    () => writeFileSync(path, 'ten'),
  ]) {
    change()
    const expected = read(path)
    await until(() => seen.at(-1) === expected)
  }
  writeFileSync(at('other'), 'also watched')
  await until(() => seen.length > 5)
  expect(seen).toEqual(['one', 'two', 'six', 'missing', 'ten', 'ten'])
})

test('a volume of Kubernetes: the link to its folder is switched', async () => {
  for (const [version, text] of Object.entries({ v1: 'one', v2: 'two' })) {
    mkdirSync(at(version))
    writeFileSync(join(at(version), 'tenants.json'), text)
  }
  symlinkSync('v1', at('..data'))
  symlinkSync('..data/tenants.json', at('tenants.json'))
  const seen = await watched(at('tenants.json'))
  symlinkSync('v2', at('..data_tmp'))
  renameSync(at('..data_tmp'), at('..data'))
  await until(() => seen.at(-1) === 'two')
})
