import { expect, test } from 'bun:test'
import { redactor } from '../shared/redact.ts'
import { createUncaughtLog, MAX_UNCAUGHT_LINES_PER_SECOND } from './uncaught.ts'

test('errors that nobody has caught are logged within bounds, and how many were left out is said', () => {
  const lines: Record<string, unknown>[] = []
  let nowMs = 5_000
  const uncaught = createUncaughtLog({ error: (line: unknown) => lines.push(line as never) }, redactor(), () => nowMs)
  const error = { message: 'no: token=abcdef', stack: 'at handle (my-handlers.ts:1:1)' }
  for (let count = 0; count < 3 * MAX_UNCAUGHT_LINES_PER_SECOND; count++) uncaught(error)
  expect(lines).toHaveLength(MAX_UNCAUGHT_LINES_PER_SECOND)
  expect(lines[0]).toEqual({ reason: 'no: token=(redacted)', stack: error.stack })
  nowMs += 1_000
  uncaught(error)
  uncaught(error)
  expect(lines.slice(MAX_UNCAUGHT_LINES_PER_SECOND)).toEqual([
    { reason: 'no: token=(redacted)', stack: error.stack, leftOut: 2 * MAX_UNCAUGHT_LINES_PER_SECOND },
    { reason: 'no: token=(redacted)', stack: error.stack },
  ])
})
