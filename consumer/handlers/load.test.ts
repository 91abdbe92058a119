import { afterAll, expect, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Type } from '@sinclair/typebox'
import { redactor } from '../../shared/service/redact.ts'
import { settled } from '../../shared/testing/settled.ts'
import { type Handler, handlerIndex, RetryableError, TerminalError } from './handler.ts'
import { loadHandlers } from './load.ts'
import { testHandler } from './testing.ts'

const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-modules-'))
afterAll(() => rmSync(folder, { recursive: true }))

let modules = 0
const load = (source: string, timeoutMs?: number) => {
  const file = join(folder, `module-${modules++}.ts`)
  writeFileSync(file, source)
  return loadHandlers(file, redactor(), timeoutMs)
}

test('the list that a file exports is loaded, and of a CommonJS module as well', async () => {
  expect(await load('export const handlers = [1, 2]')).toEqual([1, 2])
  expect(await load('module.exports = { handlers: [3] }')).toEqual([3])
})

test.each([
  ['throws: where', '\n\nexport const handlers = [(undefined as any).type]', /undefined is not an object.*\.ts:3:\d+/s],
  ['throws a text', `throw 'a text'`, /^a text$/],
  ['throws what holds a credential: without it', `throw new Error('no: password=hunter2')`, /password=\(redacted\)/],
  ['has a fault of syntax: where', 'export const handlers = [\n  { type: ', /end of file at .*\.ts:2:\d+/],
  ['has several: each', 'let a = 1\nlet a = 2\nlet b = 1\nlet b = 2\n', /"a".*\.ts:2:\d+\n"b".*\.ts:4:\d+/],
  ['exports something else: what', 'export default []; export const handler = 1', /no list.*exports default, handler/],
  ['exports nothing', 'console.assert(true)', /no list.*exports nothing/],
])('a file that %s', async (_, source, told) => {
  const error: Error = await load(source).then(
    () => new Error('loaded'),
    (reason) => reason,
  )
  expect(error.message).toMatch(told)
})

test('a file outside the checkout, without a node_modules, imports what handlers are made of: the very same', async () => {
  writeFileSync(
    join(folder, 'schema.ts'),
    `import { Type } from '@sinclair/typebox'\nexport const schema = Type.Object({ a: Type.Integer() })\n`,
  )
  const [loaded] = (await load(`
    import { defineHandler, RetryableError, TerminalError, Type } from 'kafkatrace'
    import { testHandler } from 'kafkatrace/testing'
    import { schema } from './schema.ts'
    const handler = defineHandler({
      type: 'a', version: '1', schema, handle() { throw new TerminalError('never') },
    })
    export const handlers = [{ ...handler, TerminalError, RetryableError, testHandler, Type }]
  `)) as (Handler & Record<string, unknown>)[]
  expect(loaded).toMatchObject({ TerminalError, RetryableError, testHandler, Type })
  expect(handlerIndex([loaded as Handler])('a')?.check.passes({ a: 1.5 })).toBe(false)
})

test.each([
  ['handler', { item: 'pen', count: 2 }, undefined, { item: 'pen', count: 2, total: 4 }],
  ['versions', { item: 'pen', euros: 1.99 }, 1, { cents: 199 }],
  ['versions', { item: 'pen', cents: 199 }, 2, { cents: 199 }],
  ['versions', { items: [{ name: 'pen', cents: 199 }] }, 3, { cents: 199 }],
  ['versions', { items: [] }, undefined, { cents: 0 }],
])('the example %s handles %o of version %p', async (name, data, schemaVersion, result) => {
  const [handler] = await loadHandlers(join(import.meta.dir, `../../docs/examples/${name}.ts`), redactor())
  const given = schemaVersion === undefined ? {} : { schemaVersion }
  expect(await testHandler(handler as Handler, { data }, given)).toMatchObject({ kind: 'processed', data: result })
})

test('a relative path starts at the working directory', async () => {
  writeFileSync(join(folder, 'relative.ts'), 'export const handlers = [4]')
  const before = process.cwd()
  process.chdir(folder)
  try {
    expect(await loadHandlers('./relative.ts', redactor())).toEqual([4])
    expect(await loadHandlers('relative.ts', redactor())).toEqual([4])
  } finally {
    process.chdir(before)
  }
})

test('a file that never comes to its end is given up', async () => {
  expect(await settled(load('await new Promise(() => {}); export const handlers = []', 20))).toThrow(
    /^what it awaits at its top has not come within 20 ms$/,
  )
})
