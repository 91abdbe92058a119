import { expect, test } from 'bun:test'
import { checkFolder, isFailure } from './check.ts'
import { fileNameOf, schemaFiles } from './folder.ts'
import type { Mode } from './modes.ts'
import type { Published } from './published.ts'
import { compileSchema } from './schema.ts'
import type { Compiled } from './verdict.ts'

const SUBJECT = 'acme.orders-order.placed'

/** Versions of one subject: each the members that it requires; undefined for what is no schema. */
type Versions = Readonly<Record<number, readonly string[] | undefined>>

const compiled = (required: readonly string[] | undefined): Compiled =>
  compileSchema(required === undefined ? { type: 'no type' } : { type: 'object', required })

function publishedOf(versions: Versions, mode: Mode = 'BACKWARD'): Published {
  const numbers = Object.keys(versions).map(Number)
  return {
    name: 'before',
    all: numbers.map((version) => ({ path: fileNameOf({ subject: SUBJECT, version }), subject: SUBJECT, version })),
    modeOf: async () => mode,
    versions: async () => numbers,
    schemaOf: async (_, version) => compiled(versions[version]),
  }
}

/** Each version's verdict and what it was compared with, such as `compatible 1,2`, with a `!` where the check fails. */
async function check(before: Versions, now: Versions, given: { mode?: Mode; own?: Mode } = {}): Promise<string[]> {
  const files = schemaFiles(
    Object.keys(now).map((version) => fileNameOf({ subject: SUBJECT, version: Number(version) })),
  )
  const checked = await checkFolder(files, publishedOf(before, given.own), {
    mode: given.mode,
    read: async ({ version }) => compiled(now[version]),
  })
  return checked.map((one) => {
    const words = [one.version, one.verdict, ...(one.against.length === 0 ? [] : [one.against.join()])]
    return `${words.join(' ')}${isFailure(one) ? '!' : ''}`
  })
}

test('a new version is compared with the one before it', async () => {
  expect(await check({ 1: ['a'], 2: ['a'] }, { 1: ['a'], 2: ['a'], 3: [] })).toEqual([
    '1 unchanged 1',
    '2 unchanged 2',
    '3 compatible 2',
  ])
  expect(await check({ 1: [] }, { 1: [], 2: ['a'] })).toEqual(['1 unchanged 1', '2 incompatible 1!'])
})

test('in a transitive mode it is compared with all before it', async () => {
  const [before, now] = [
    { 1: [], 2: ['a'] },
    { 1: [], 2: ['a'], 3: ['a'] },
  ]
  expect((await check(before, now))[2]).toBe('3 compatible 2')
  expect((await check(before, now, { mode: 'BACKWARD_TRANSITIVE' }))[2]).toBe('3 incompatible 1,2!')
})

test('the mode is the subject’s own where none is given', async () => {
  const [before, now] = [{ 1: ['a'] }, { 1: ['a'], 2: [] }]
  expect((await check(before, now))[1]).toBe('2 compatible 1')
  expect((await check(before, now, { own: 'FORWARD' }))[1]).toBe('2 incompatible 1!')
  expect((await check(before, now, { own: 'FORWARD', mode: 'BACKWARD' }))[1]).toBe('2 compatible 1')
})

test('new versions that come together are compared with each other', async () => {
  expect(await check({}, { 1: [], 2: ['a'], 4: ['a'] })).toEqual(['1 first', '2 incompatible 1!', '4 compatible 2'])
})

test('a version that was there must not change what it takes, in any mode but NONE', async () => {
  for (const mode of ['BACKWARD', 'FORWARD', 'FULL_TRANSITIVE'] as const)
    expect(await check({ 1: ['a'] }, { 1: [] }, { mode })).toEqual(['1 changed 1!'])
  expect(await check({ 1: ['a'] }, { 1: [] }, { mode: 'NONE' })).toEqual(['1 changed 1'])
})

test('a new version is compared with the one before it as it was, not as it was changed to', async () => {
  expect(await check({ 1: [] }, { 1: ['a'], 2: ['a'] })).toEqual(['1 changed 1!', '2 incompatible 1!'])
})

test('the order of required members is no change of what it takes', async () => {
  expect(await check({ 1: ['a', 'b'] }, { 1: ['b', 'a'] })).toEqual(['1 same data 1'])
})

test('a version that was removed is named, and still compared with', async () => {
  expect(await check({ 1: [], 2: [] }, { 1: [], 3: ['a'] })).toEqual([
    '1 unchanged 1',
    '3 incompatible 2!',
    '2 removed!',
  ])
})

test('a new version below one that is there is refused', async () => {
  expect(await check({ 3: [] }, { 2: [], 3: [] })).toEqual(['2 invalid!', '3 unchanged 3'])
})

test('misspelt keywords of what is new or was changed are named', async () => {
  const files = schemaFiles([1, 2, 3].map((version) => fileNameOf({ subject: SUBJECT, version })))
  const texts = [{ typ: 'x' }, { typ: 'y' }, { requierd: [] }]
  const before = [texts[0], { typ: 'x' }]
  const published = {
    ...publishedOf({ 1: [], 2: [] }),
    schemaOf: async (_: string, version: number) => compileSchema(before[version - 1]),
  }
  const read = async ({ version }: { version: number }) => compileSchema(texts[version - 1])
  const checked = await checkFolder(files, published, { mode: undefined, read })
  expect(checked.map(({ warnings }) => warnings)).toEqual([
    [],
    ['/typ: is no keyword: did you mean "type"?'],
    ['/requierd: is no keyword: did you mean "required"?'],
  ])
  expect(checked.some(isFailure)).toBe(false)
})

test('what is no schema is refused; what was none is not compared with', async () => {
  expect(await check({ 1: [] }, { 1: undefined })).toEqual(['1 invalid!'])
  expect(await check({ 1: undefined }, { 1: ['a'], 2: ['a'] })).toEqual(['1 first', '2 first'])
  expect(await check({ 1: [], 2: undefined }, { 1: [], 2: [], 3: ['a'] })).toEqual([
    '1 unchanged 1',
    '2 first',
    '3 incompatible 1!',
  ])
})
