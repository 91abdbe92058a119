import { afterEach, beforeEach, expect, spyOn, test } from 'bun:test'
import { isTerminal, paint } from '../service/terminal.ts'
import { settled } from '../testing/settled.ts'
import { seconds, step, summarise } from './progress.ts'

let said: string[]
let spy: ReturnType<typeof spyOn>

beforeEach(() => {
  said = []
  spy = spyOn(console, 'error').mockImplementation((line: string) => void said.push(line.replace(/[\d.]+ s$/, 'N s')))
})
afterEach(() => spy.mockRestore())

/** A terminal redraws its line: what is said here holds where there is none. */
const offTerminal = !isTerminal()

test('a step says what it is at, its end, and gives its result', async () => {
  const result = await step('Kafka', async (say) => {
    say('starting one node')
    return 5
  })
  expect(result).toBe(5)
  expect(said.at(-1)).toEndWith('Kafka: done, N s')
  if (offTerminal) expect(said).toEqual(['Kafka: starting one node', 'Kafka: done, N s'])
})

test('a step that fails says so and passes the failure on', async () => {
  expect(await settled(step('Kafka', () => Promise.reject(new Error('no Java'))))).toThrow('no Java')
  expect(said.at(-1)).toEndWith('Kafka: failed, N s')
})

test('times are in seconds', () => {
  expect(seconds(1_249)).toBe('1.2 s')
})

test('a summary has a line a result and the totals, and its exit code says whether all passed', () => {
  const lines: string[] = []
  const out = spyOn(console, 'log').mockImplementation((line = '') => void lines.push(line))
  try {
    expect(summarise([{ title: 'types', ok: true, text: '1.0 s' }])).toBe(0)
    expect(
      summarise([
        { title: 'types', ok: true, text: '1.0 s' },
        { title: 'lint', ok: false, text: '2.0 s' },
      ]),
    ).toBe(1)
  } finally {
    out.mockRestore()
  }
  expect(lines.slice(-3)).toEqual([
    'ok      types  1.0 s',
    `${paint('red', 'FAILED')}  lint   2.0 s`,
    '\n1 passed, 1 failed',
  ])
})
