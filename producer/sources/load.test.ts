import { afterAll, expect, test } from 'bun:test'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ConfigError } from '../../shared/service/config.ts'
import { settled } from '../../shared/testing/settled.ts'
import { gateway } from '../testing/gateway.ts'
import { kinds } from './index.ts'
import { loadKinds } from './load.ts'

const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-kinds-'))
afterAll(() => rmSync(folder, { recursive: true }))

let modules = 0
function written(text: string): string {
  const file = join(folder, `kinds-${modules++}.ts`)
  writeFileSync(file, text)
  return file
}

/** The first block of TypeScript in the documentation. */
const documented = (): string =>
  /```ts\n([\s\S]*?)```/.exec(readFileSync(join(import.meta.dir, '../../docs/sources/own.md'), 'utf8'))?.[1] ?? ''

test('the kind of docs/sources/own.md, in a file outside of the project, takes its sender’s webhooks', async () => {
  const all = await loadKinds(written(documented()))
  expect(all.slice(1)).toEqual([...kinds])
  const { send, events } = gateway({ doors: { kind: 'doors', secrets: ['the-secret-of-the-doors'] } }, { kinds: all })
  const body = '{"event":"opened","door":{"id":12345678901234567890},"at":1767225600}'
  const signature = new Bun.CryptoHasher('sha256', 'the-secret-of-the-doors').update(body).digest('hex')
  const headers = { 'x-doors-signature': signature, 'x-doors-delivery': '7' }
  expect((await send('doors', body, headers)).status).toBe(202)
  expect(events()).toMatchObject([
    { id: '7', type: 'com.example.doors.opened', subject: '12345678901234567890', time: '2026-01-01T00:00:00.000Z' },
  ])
  expect((await send('doors', `${body} `, headers)).status).toBe(401)
})

test('without a file there are the built-in kinds', async () => {
  expect(await loadKinds(undefined)).toBe(kinds)
})

test.each([
  ['is not there', undefined, /Cannot find module/],
  ['exports no kinds', 'export const kind = 1', /exports as `kinds` is no list.*exports kind/],
  [
    'has what is no kind',
    'export const kinds = [1, { name: "x" }]',
    /kinds\[0\] is no object.*kinds\[1\] has no `timeoutMs`/s,
  ],
  ['throws', 'throw new Error("token=abcdefgh")', /token=\(redacted\)/],
])('a file that %s is a fault of the configuration', async (_, text, message) => {
  const loading = loadKinds(text === undefined ? join(folder, 'none.ts') : written(text))
  expect(await settled(loading)).toThrow(ConfigError)
  expect(await settled(loading)).toThrow(message)
})
