import { expect, test } from 'bun:test'
import { lastLines, run } from './run.ts'

test('a command gets its input, and its output, errors and exit code are returned', async () => {
  const ran = await run(['sh', '-c', 'cat; echo wrong >&2; exit 3'], { input: 'in' })
  expect(ran).toEqual({ exitCode: 3, output: 'in', errors: 'wrong\n', isLate: false })
  expect((await run(['cat'], { input: '' })).output).toBe('')
})

test('a command that does not end in time is killed, and told from one that fails', async () => {
  const ran = await run(['sleep', '60'], { timeoutMs: 50 })
  expect(ran.isLate).toBe(true)
  expect(ran.exitCode).not.toBe(0)
})

test('of a long text only the last lines are shown', () => {
  expect(lastLines('1\n2\n3\n\n', 2)).toBe('2\n3')
})
