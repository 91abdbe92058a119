import { afterEach, beforeEach, expect, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { staleFiles } from './generate.ts'

let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kafkatrace-generate-test-'))
  await Bun.write(join(folder, 'made/a.json'), 'a')
  await Bun.write(join(folder, 'page.md'), 'page')
})
afterEach(() => rm(folder, { recursive: true }))

test('files that are as they have to be are not stale', async () => {
  const files = new Map([
    ['made/a.json', 'a'],
    ['page.md', 'page'],
  ])
  expect(await staleFiles(folder, files, ['made/*.json'])).toEqual([])
})

test('a file is stale when its text is another, when it is not there, and when nothing generates it any more', async () => {
  const files = new Map([
    ['page.md', 'new page'],
    ['made/b.json', 'b'],
  ])
  expect(await staleFiles(folder, files, ['made/*.json'])).toEqual([
    { path: 'page.md', text: 'new page' },
    { path: 'made/b.json', text: 'b' },
    { path: 'made/a.json', text: undefined },
  ])
})
