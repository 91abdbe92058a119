import { expect, test } from 'bun:test'
import { isTerminal, paint } from './terminal.ts'

test('a stream is a terminal when it is a TTY that can do more than print', () => {
  const term = process.env.TERM
  try {
    process.env.TERM = 'xterm'
    expect([isTerminal({ isTTY: true }), isTerminal({ isTTY: false }), isTerminal({})]).toEqual([true, false, false])
    process.env.TERM = 'dumb'
    expect(isTerminal({ isTTY: true })).toBe(false)
  } finally {
    if (term === undefined) delete process.env.TERM
    else process.env.TERM = term
  }
})

test('NO_COLOR leaves text as it is', () => {
  const before = process.env.NO_COLOR
  process.env.NO_COLOR = '1'
  try {
    expect(paint('red', 'failed')).toBe('failed')
  } finally {
    if (before === undefined) delete process.env.NO_COLOR
    else process.env.NO_COLOR = before
  }
})
