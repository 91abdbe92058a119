import { afterAll, beforeAll, expect, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { settled } from '../shared/testing/settled.ts'
import { exampleResult } from './example-result.ts'
import { chosenResult, newestResult, readResult } from './results.ts'

let folder = ''
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kafkatrace-results-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const write = async (name: string, text: string): Promise<string> => {
  await Bun.write(join(folder, name), text)
  return join(folder, name)
}

test('the newest result is that with the latest time in its name; the baseline and what is half written are none', async () => {
  expect(await newestResult(join(folder, 'absent'))).toBeUndefined()
  expect(await newestResult(folder)).toBeUndefined()
  for (const name of ['2026-01-02T030405Z.json', '2025-12-31T235959Z.json', 'baseline.json', '2027-01-01Z.json.part'])
    await write(name, '{}')
  expect(await newestResult(folder)).toBe(join(folder, '2026-01-02T030405Z.json'))
})

test('a file that is named is read', async () => {
  const file = await write('good.json', JSON.stringify(exampleResult()))
  expect(await chosenResult(file)).toEqual({ file, result: exampleResult() })
})

test('what is wrong with a file is said', async () => {
  expect(await settled(readResult(join(folder, 'absent.json')))).toThrow('is not there')
  expect(await settled(readResult(await write('text.json', 'hello')))).toThrow('text.json is not JSON')
  const { machine, ...rest } = exampleResult()
  expect(await settled(readResult(await write('less.json', JSON.stringify(rest))))).toThrow(
    'no benchmark result: /machine',
  )
})
