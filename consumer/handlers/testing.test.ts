import { expect, test } from 'bun:test'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { defineHandler, RetryableError, TerminalError, Type } from 'kafkatrace'
import { testHandler } from 'kafkatrace/testing'
import { settled } from '../../shared/testing/settled.ts'
import { TerminalError as OwnError, defineHandler as own } from './handler.ts'

const doubled = defineHandler({
  type: 'order',
  version: '1',
  schema: Type.Object({ amount: Type.Integer() }),
  handle({ amount }, { attempt, context }) {
    if (amount === 0) throw new TerminalError('nothing is ordered')
    if (attempt === 1 && amount < 0) throw new RetryableError('the store is closed')
    return { type: 'doubled', data: { amount: 2 * amount, known: context.lookups?.reference.status } }
  },
})

test('the package’s own name means the same module as a path to it', () => {
  expect(defineHandler).toBe(own)
  expect(TerminalError).toBe(OwnError)
})

test('a result is told as it is stored', async () => {
  expect(await testHandler(doubled, { data: { amount: 2 } })).toEqual({
    kind: 'processed',
    type: 'doubled',
    data: { amount: 4 },
  })
  const lookups = { reference: { status: 'missing' } } as const
  expect(await testHandler(doubled, { data: { amount: 2 } }, { lookups })).toMatchObject({ data: { known: 'missing' } })
})

test.each([
  ['data that its schema refuses', { amount: 'two' }, 'dead', 'invalid data', /\/amount/],
  ['no data', undefined, 'dead', 'invalid data', /order/],
  ['bytes that are no JSON', Buffer.from('{'), 'dead', 'invalid data', /not JSON/],
  ['a terminal error', { amount: 0 }, 'dead', 'handler failed', /nothing is ordered/],
  ['an error that may pass', { amount: -1 }, 'retry', 'handler failed', /closed/],
])('%s: the outcome says so', async (_, data, kind, reason, message) => {
  expect(await testHandler(doubled, { data })).toEqual({
    kind,
    reason,
    message: expect.stringMatching(message),
  } as never)
})

test('a second attempt can be made', async () => {
  expect(await testHandler(doubled, { data: { amount: -1 } }, { attempt: 2 })).toMatchObject({ kind: 'processed' })
})

test('what the consumer would refuse is refused: a result that is none, and a change of what was given', async () => {
  const returning = (handle: (event: object) => unknown) =>
    testHandler(
      {
        type: 'any.*',
        version: '1',
        schema: Type.Unknown(),
        handle: (_, { event }) => handle(event) as { data: unknown },
      },
      { type: 'any.thing', data: 1 },
    )
  expect(await returning(() => 7)).toMatchObject({ kind: 'dead', reason: 'invalid result' })
  expect(await returning(() => ({ data: 1n }))).toMatchObject({ kind: 'dead', reason: 'invalid result' })
  expect(await returning((event) => Object.assign(event, { id: '2' }))).toMatchObject({ kind: 'retry' })
})

test('an event of a type that the handler does not take is the test’s fault', async () => {
  expect(await settled(testHandler(doubled, { type: 'other' }))).toThrow('takes no event of type other')
  expect(await settled(testHandler({ ...doubled, type: 'order.*' }, { data: { amount: 1 } }))).toThrow('order.*')
})

test('a project with the checkout linked as a package tests its handlers by that name, and needs nothing else', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-linked-'))
  try {
    mkdirSync(join(folder, 'node_modules'))
    symlinkSync(join(import.meta.dir, '../..'), join(folder, 'node_modules/kafkatrace'))
    writeFileSync(
      join(folder, 'greeting.test.ts'),
      `import { expect, test } from 'bun:test'
       import { defineHandler, Type } from 'kafkatrace'
       import { testHandler } from 'kafkatrace/testing'
       const handler = defineHandler({ type: 'a', version: '1', schema: Type.String(), handle: (data) => ({ data }) })
       test('a greeting', async () => {
         expect(await testHandler(handler, { data: 'hello' })).toEqual({ kind: 'processed', type: 'a', data: 'hello' })
         expect(await testHandler(handler, { data: 1 })).toMatchObject({ kind: 'dead' })
       })`,
    )
    const child = Bun.spawn([process.execPath, 'test'], { cwd: folder, stdout: 'pipe', stderr: 'pipe' })
    expect(await child.stderr.text()).toContain('1 pass')
    expect(await child.exited).toBe(0)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
