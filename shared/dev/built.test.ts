import { afterEach, beforeEach, expect, test } from 'bun:test'
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { settled } from '../testing/settled.ts'
import { provideBuilt, runTool, UnavailableError } from './built.ts'

let cache: string
const before = process.env['KAFKATRACE_CACHE_DIR']
beforeEach(async () => {
  cache = await mkdtemp(join(tmpdir(), 'kafkatrace-built-'))
  process.env['KAFKATRACE_CACHE_DIR'] = cache
})
afterEach(async () => {
  if (before === undefined) delete process.env['KAFKATRACE_CACHE_DIR']
  else process.env['KAFKATRACE_CACHE_DIR'] = before
  await rm(cache, { recursive: true, force: true })
})

/** A recipe that counts how often it is followed. */
function counting(source: string) {
  const made = { times: 0 }
  const recipe = {
    name: 'thing',
    files: [source],
    made: ['compiler 1'],
    async build(folder: string) {
      made.times++
      await Bun.write(join(folder, 'result'), String(made.times))
    },
  }
  return { made, recipe }
}

test('what is built is built once', async () => {
  const source = join(cache, 'source')
  await Bun.write(source, 'one')
  const { made, recipe } = counting(source)
  const first = await provideBuilt(recipe)
  expect(await provideBuilt(recipe)).toBe(first)
  expect(made.times).toBe(1)
  expect(await Bun.file(join(first, 'result')).text()).toBe('1')
})

test('a changed source or another compiler is another build', async () => {
  const source = join(cache, 'source')
  await Bun.write(source, 'one')
  const { recipe } = counting(source)
  const first = await provideBuilt(recipe)
  const other = await provideBuilt({ ...recipe, made: ['compiler 2'] })
  await Bun.write(source, 'two')
  const changed = await provideBuilt(recipe)
  expect(new Set([first, other, changed]).size).toBe(3)
})

test('a build that fails leaves nothing behind', async () => {
  const source = join(cache, 'source')
  await Bun.write(source, 'one')
  const failing = { ...counting(source).recipe, build: () => Promise.reject(new Error('no')) }
  expect(await settled(provideBuilt(failing))).toThrow('no')
  expect(await readdir(join(cache, 'bench'))).toBeEmpty()
  expect(existsSync(await provideBuilt(counting(source).recipe))).toBe(true)
})

test('a tool that is missing is said, with how to get it', async () => {
  expect(await settled(runTool(['no-such-compiler'], cache, 'install it with: apt-get install it'))).toThrow(
    new UnavailableError('no-such-compiler is not on the path; install it with: apt-get install it'),
  )
})

test('a tool that fails is said, with its last lines', async () => {
  expect(await runTool(['sh', '-c', 'echo fine'], cache, '')).toBe('fine\n')
  expect(await settled(runTool(['sh', '-c', 'echo half; echo broken >&2; exit 3'], cache, ''))).toThrow(
    /ended with 3: .*\nbroken/s,
  )
})

test('a tool that does not end is ended, and said', async () => {
  expect(await settled(runTool(['sh', '-c', 'echo half; exec sleep 60'], cache, '', 100))).toThrow(
    /did not end within 0.1 s: half/,
  )
})
