import { expect, test } from 'bun:test'
import { onUncaught } from './thrown.ts'

test.each([
  ['an error', new Error('no'), 'no'],
  ['an error with a long message', new Error('x'.repeat(1_000_000)), 'x'.repeat(500)],
  ['nothing', undefined, 'undefined'],
])('what nobody has caught is told within bounds: %s', (_, thrown, message) => {
  const events = ['uncaughtException', 'unhandledRejection'] as const
  const before = new Set(events.flatMap((event) => process.listeners(event) as (() => void)[]))
  const told: { message: string; stack: string | undefined }[] = []
  onUncaught((error) => told.push(error))
  try {
    process.emit('uncaughtException', thrown as Error)
  } finally {
    for (const event of events)
      for (const listener of process.listeners(event) as (() => void)[])
        if (!before.has(listener)) process.off(event, listener)
  }
  expect(told.map((error) => error.message)).toEqual([message])
  expect(told[0]?.stack?.length ?? 0).toBeLessThanOrEqual(4_000)
  // The stack is given however long the message is.
  if (thrown !== undefined) expect(told[0]?.stack).toMatch(/^at .*thrown\.test\.ts/)
})
